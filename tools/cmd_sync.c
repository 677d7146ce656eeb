/*
 * sync and wait.  The daemon does the work and knows when it is done; without
 * one, sync opens the store for the time of one round.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "replication/log.h"
#include "replication/replica.h"
#include "replication/settings.h"
#include "tools/cli.h"
#include "tools/client.h"

enum {
	DEFAULT_TIMEOUT_S = 60,
	REPLY_SLACK_S = 10,	/* the daemon keeps the time; this is for its answer */
};

struct round {
	const char *cmd;	/* sync or wait */
	const char *path;
	const char *peer;	/* NULL: all */
	int timeout_s;
};

static int
parse(int argc, char **argv, struct round *r)
{
	static const struct option options[] = {
		{ "timeout", required_argument, NULL, 't' },
		{ "peer", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	*r = (struct round){ .cmd = argv[0], .timeout_s = DEFAULT_TIMEOUT_S };
	while ((c = getopt_long(argc, argv, "t:p:", options, NULL)) != -1) {
		if (c == 't')
			r->timeout_s = cli_seconds(optarg);
		else if (c == 'p')
			r->peer = optarg;
		else
			return cli_usage(r->cmd, "%s is not an option of %s, or lacks its value",
			    argv[optind - 1], r->cmd);
	}
	if (r->timeout_s < 0)
		return cli_usage(r->cmd, "--timeout takes seconds");
	if (argc - optind < 1 || argc - optind > 2 || (argc - optind == 2 && r->peer != NULL))
		return cli_usage(r->cmd, "%s takes a PATH and perhaps a PEER", r->cmd);
	r->path = argv[optind];
	if (argc - optind == 2)
		r->peer = argv[optind + 1];
	if (r->peer != NULL && !settings_node_valid(r->peer))
		return cli_usage(r->cmd, "%s is not a valid peer name", r->peer);
	return CLI_DONE;
}

static int
ask(int fd, const struct round *r, char *why, size_t why_size)
{
	json_t *request = json_pack("{s:s, s:i}", "cmd", r->cmd, "timeout", r->timeout_s);
	json_t *reply = NULL;
	int rc;

	if (r->peer != NULL)
		json_object_set_new(request, "peer", json_string(r->peer));
	rc = client_ask(fd, request, r->timeout_s + REPLY_SLACK_S, &reply, why, why_size);
	json_decref(reply);
	return rc;
}

/* Runs the replica in this process, and asks it as any client would. */
static int
run_here(const struct located *l, const struct round *r, char *why, size_t why_size)
{
	struct replica *replica;
	int fd, rc = replica_open(l->store, &replica, why, why_size);

	if (rc < 0)
		return cli_exit_of(rc);
	log_quiet();
	rc = replica_start(replica, NULL, NULL);
	if (rc < 0) {
		snprintf(why, why_size, "cannot start replicating %s: %s", l->store, strerror(-rc));
		replica_close(replica);
		return CLI_FAILED;
	}
	fd = client_connect(l);
	if (fd >= 0) {
		rc = ask(fd, r, why, why_size);
		close(fd);
	} else {
		snprintf(why, why_size, "cannot reach our own control socket: %s", strerror(-fd));
		rc = CLI_FAILED;
	}
	replica_stop(replica);
	replica_close(replica);
	return rc;
}

int
cmd_sync(int argc, char **argv)
{
	char why[CLI_LINE_MAX] = "";
	struct located l;
	struct round r;
	int fd, rc;

	if ((rc = parse(argc, argv, &r)) != CLI_DONE)
		return rc;
	if ((rc = client_open(r.path, &l, &fd, why, sizeof(why))) != CLI_DONE)
		return cli_fail(rc, "%s", why);
	if (fd >= 0)
		rc = ask(fd, &r, why, sizeof(why));
	else
		rc = run_here(&l, &r, why, sizeof(why));
	client_close(&l, fd);
	return rc == CLI_DONE ? CLI_DONE : cli_fail(rc, "%s", why);
}
