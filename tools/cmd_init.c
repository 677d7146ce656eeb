/*
 * init: makes a directory a store.  The work is the replica's; here are the
 * arguments and the progress that a terminal shows.
 */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "replication/replica.h"
#include "replication/settings.h"
#include "tools/cli.h"

enum { SET_MAX = 64 };

static bool
set_is_valid(const char *set)
{
	size_t len = strlen(set);

	if (len == 0 || len > SET_MAX || !isalnum((unsigned char)set[0]))
		return false;
	for (size_t i = 0; i < len; i++)
		if ((set[i] & 0x80) || !(isalnum((unsigned char)set[i]) || set[i] == '-' || set[i] == '_'))
			return false;
	return true;
}

/* One line on the terminal, written over itself. */
static void
show_progress(void *arg, uint64_t files, uint64_t bytes)
{
	bool *shown = arg;
	char size[16];

	fprintf(stderr, "\rtaking in what is there: %llu files, %s  ",
	    (unsigned long long)files, cli_size(bytes, size));
	*shown = true;
}

static int
init(const char *store, const char *node, const char *set)
{
	char why[CLI_LINE_MAX] = "";
	bool shown = false;
	int rc;

	rc = replica_init(store, node, set, isatty(STDERR_FILENO) ? show_progress : NULL, &shown,
	    why, sizeof(why));
	if (shown)
		fputc('\n', stderr);
	if (rc < 0)
		return cli_fail(CLI_FAILED, "%s", why[0] != '\0' ? why : strerror(-rc));
	return CLI_DONE;
}

int
cmd_init(int argc, char **argv)
{
	static const struct option options[] = {
		{ "node", required_argument, NULL, 'n' },
		{ "set", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	const char *node = NULL, *set = NULL;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "n:s:", options, NULL)) != -1) {
		if (c == 'n')
			node = optarg;
		else if (c == 's')
			set = optarg;
		else
			return cli_usage("init", "%s is not an option of init, or lacks its value", argv[optind - 1]);
	}
	if (argc - optind != 1 || argv[optind][0] == '\0')
		return cli_usage("init", "init takes one STORE");
	if (node == NULL)
		return cli_usage("init", "init needs --node NAME, this replica's name for users");
	if (!settings_node_valid(node))
		return cli_fail(CLI_USAGE, "%s is not a node name: letters, digits, - and _, at most %d, "
		    "first a letter or digit", node, SETTINGS_NODE_MAX);
	if (set != NULL && !set_is_valid(set))
		return cli_fail(CLI_USAGE, "%s is not a set id: letters, digits, - and _, at most %d, "
		    "first a letter or digit", set, SET_MAX);
	return init(argv[optind], node, set);
}
