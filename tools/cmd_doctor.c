/*
 * doctor: looks a store over, takes in what was changed behind the mount's
 * back, or makes a lost index anew.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jansson.h>

#include "replication/mem.h"
#include "replication/replica.h"
#include "replication/replica_doctor.h"
#include "replication/replica_rebuild.h"
#include "replication/settings.h"
#include "tools/cli.h"

enum { PATHS_SHOWN = 20 };

struct request {
	const char *store, *node;
	bool json, adopt, rebuild;
};

static long long
count(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return json_is_array(v) ? (long long)json_array_size(v) : (long long)json_integer_value(v);
}

static void
print_paths(const json_t *o, const char *key, const char *what)
{
	json_t *list = json_object_get(o, key), *path;
	size_t i;

	json_array_foreach(list, i, path) {
		if (i == PATHS_SHOWN) {
			printf("  ... %lld more\n", count(o, key) - PATHS_SHOWN);
			break;
		}
		printf("  %s: ", what);
		for (const char *p = json_string_value(path); *p; p++)
			putchar((unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p);
		putchar('\n');
	}
}

static void
print_heap(const json_t *o, const char *key, const char *what)
{
	const json_t *h = json_object_get(o, key);
	char size[16];

	if (count(h, "files"))
		printf("%s: %lld files, %s\n", what, count(h, "files"),
		    cli_size((unsigned long long)count(h, "bytes"), size));
}

static void
print_report(const json_t *o)
{
	bool adopted = count(o, "adopted") > 0;

	printf("%lld files and %lld directories, %lld names in the index\n", count(o, "files"),
	    count(o, "directories"), count(o, "registers"));
	printf("index: %s\n", json_string_value(json_object_get(o, "index")));
	if (count(o, "unreadable"))
		printf("%lld rows of it cannot be read: `sibfs doctor --rebuild` makes it anew\n", count(o, "unreadable"));
	if (count(o, "changed") + count(o, "missing") + count(o, "unknown"))
		printf("not as the index has them%s:\n", adopted ? "; now taken in" :
		    " (--adopt takes them in, as if done in the mount)");
	print_paths(o, "changed", "changed");
	print_paths(o, "missing", "missing");
	print_paths(o, "unknown", "unknown");
	if (count(o, "marks"))
		printf("%lld files whose own mark is not up to date\n", count(o, "marks"));
	if (count(o, "pending") || count(o, "wanted"))
		printf("%lld names wait for content, of which %lld are to be fetched\n", count(o, "pending"),
		    count(o, "wanted"));
	if (count(o, "conflicts"))
		printf("%lld files in conflict\n", count(o, "conflicts"));
	print_heap(o, "staging", "on its way in");
	print_heap(o, "moving", "lifted, not put down yet");
	print_heap(o, "trash", "in the trash");
	printf("%s\n", json_is_true(json_object_get(o, "healthy")) ? "all is well" : "not all is well");
}

static int
check(const struct request *q)
{
	char why[CLI_LINE_MAX] = "", *text;
	struct replica *r;
	json_t *o;
	int rc = replica_open(q->store, &r, why, sizeof(why));

	if (rc == -EBUSY)
		return cli_fail(CLI_BUSY, "%s is mounted or served: unmount it first", q->store);
	if (rc < 0)
		return cli_fail(cli_exit_of(rc), "%s", why);
	text = replica_doctor(r, q->adopt);
	replica_close(r);
	o = text ? json_loads(text, 0, NULL) : NULL;
	free(text);
	if (!o)
		return cli_fail(CLI_FAILED, "%s could not be looked over", q->store);
	if (q->json) {
		json_dumpf(o, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		print_report(o);
	}
	rc = json_is_true(json_object_get(o, "healthy")) ? CLI_DONE : CLI_DIFFERENT;
	json_decref(o);
	return rc;
}

static bool
has_index(const char *store)
{
	char *path = mem_printf("%s/.sibfs/index.db", store);
	struct stat st;
	bool has = stat(path, &st) == 0 || errno != ENOENT;

	free(path);
	return has;
}

static int
rebuild(const struct request *q)
{
	char why[CLI_LINE_MAX] = "";
	struct rebuilt n;
	int rc = replica_rebuild(q->store, q->node, q->rebuild, &n, why, sizeof(why));

	if (rc == -EBUSY)
		return cli_fail(CLI_BUSY, "%s is mounted or served: unmount it first", q->store);
	if (rc < 0)
		return cli_fail(cli_exit_of(rc), "%s", why);
	if (!q->json)
		printf("the index was made anew: %llu files, %llu of them with their history; the rest was taken in as new, "
		    "and is compared with what peers have when they are next met\n", (unsigned long long)n.files,
		    (unsigned long long)n.marked);
	return CLI_DONE;
}

int
cmd_doctor(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "adopt", no_argument, NULL, 'a' },
		{ "rebuild", no_argument, NULL, 'r' },
		{ "node", required_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 },
	};
	struct request q = { 0 };
	int c, rc;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "jarn:", options, NULL)) != -1) {
		if (c == 'j')
			q.json = true;
		else if (c == 'a')
			q.adopt = true;
		else if (c == 'r')
			q.rebuild = true;
		else if (c == 'n')
			q.node = optarg;
		else
			return cli_usage("doctor", "%s is not an option of doctor, or lacks its value", argv[optind - 1]);
	}
	if (argc - optind != 1)
		return cli_usage("doctor", "doctor takes one STORE");
	if (q.node && !settings_node_valid(q.node))
		return cli_usage("doctor", "%s is not a node name", q.node);
	q.store = argv[optind];
	if ((q.rebuild || !has_index(q.store)) && (rc = rebuild(&q)) != CLI_DONE)
		return rc;
	return check(&q);
}
