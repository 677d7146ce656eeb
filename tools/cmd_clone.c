/*
 * clone: a new replica of the one at a URL, and all that it has fetched.  It
 * asks who is there, makes the store (files that lie in it already are taken
 * in, so equal content is not fetched again), notes the peer, and then waits
 * for one full round.
 *
 * What has arrived stands in the store at once; while the rest comes, a mount
 * may take the store over, and then that daemon is asked how far it is.  Cut
 * off, killed or called again, it goes on from what is there.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "replication/greeting.h"
#include "replication/log.h"
#include "replication/mem.h"
#include "replication/replica.h"
#include "replication/settings.h"
#include "replication/ssh_key.h"
#include "tools/cli.h"
#include "tools/client.h"

enum {
	GREETING_TIMEOUT_MS = 30000,
	ASK_TIMEOUT_S = 30,
	ROUND_TIMEOUT_S = 7 * 24 * 3600,
	UNREACHABLE_S = 60,	/* then it is told to try later */
	RETRY_MS = 1000,
	TAKE_OVER_MS = 10000,
	TICK_MS = 50,
	PROGRESS_MS = 500,
};

struct clone {
	const char *url;
	char *store;
	const char *node;
	char *identity;		/* NULL: the agent's and ssh_config's */
	bool wait;
	struct greeting far;
	int quit;		/* an eventfd: a mount wants the store */
	int signals;		/* a signalfd */
	bool stopped;		/* by a signal */
	bool shown;		/* a line of progress stands on the terminal */
	bool refused;		/* trying again is no use */
	time_t reached;		/* when the peer was last connected */
	char said[CLI_LINE_MAX];	/* why it tries again, told once */
};

/* ---- making the store -------------------------------------------------- */

/* As git does: the last part of the path. */
static char *
default_store(const char *url)
{
	struct transport_url u;
	char *path, *end, *name = NULL;

	if (transport_url_parse(url, &u) < 0)
		return NULL;
	path = mem_str(u.path);
	transport_url_fini(&u);
	for (end = path + strlen(path); end > path && end[-1] == '/'; end--)
		end[-1] = '\0';
	end = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	if (*end != '\0' && strcmp(end, ".") != 0 && strcmp(end, "..") != 0)
		name = mem_str(end);
	free(path);
	return name;
}

static void
show_taking_in(void *arg, uint64_t files, uint64_t bytes)
{
	struct clone *q = arg;
	char size[16];

	fprintf(stderr, "\rtaking in what is there: %llu files, %s  ", (unsigned long long)files,
	    cli_size(bytes, size));
	q->shown = true;
}

static void
end_line(struct clone *q)
{
	if (q->shown)
		fputc('\n', stderr);
	q->shown = false;
}

static int
set(int own, const char *section, const char *key, const char *value)
{
	int rc = settings_set(own, section, key, value);

	return rc == 0 ? CLI_DONE : cli_fail(CLI_FAILED, "cannot write %s to the config file: %s", key, strerror(-rc));
}

static int
write_peer(struct clone *q, int own)
{
	char section[SETTINGS_NODE_MAX + 8];
	int rc;

	snprintf(section, sizeof(section), "peer %s", q->far.node);
	if ((rc = set(own, section, "url", q->url)) == CLI_DONE && q->identity != NULL)
		rc = set(own, section, "identity", q->identity);
	return rc;
}

/* A store is there.  Is it what an earlier clone began?  Then it goes on. */
static int
check_begun(const struct clone *q, int own)
{
	char why[CLI_LINE_MAX];
	struct settings s;
	int rc = CLI_DONE;

	if (settings_load(own, &s, why, sizeof(why)) < 0)
		return cli_fail(CLI_FAILED, "%s/.sibfs/%s", q->store, why);
	if (s.node != NULL && strcmp(s.node, q->node) != 0)
		rc = cli_fail(CLI_FAILED, "%s is a store already, and its node name is %s", q->store, s.node);
	else if (s.set != NULL && strcmp(s.set, q->far.set) != 0)
		rc = cli_fail(CLI_FAILED, "%s is a store already, of another set (%s, not %s)", q->store, s.set,
		    q->far.set);
	settings_fini(&s);
	return rc;
}

/* Of the store itself, not of one above it. */
static bool
is_store(const char *path)
{
	char *own = mem_printf("%s/.sibfs/index.db", path);
	struct located l;
	struct stat st;
	char why[CLI_LINE_MAX];
	bool is = stat(own, &st) == 0;

	free(own);
	if (!is && locate(path, &l, why, sizeof(why)) == 0) {
		is = l.mount != NULL;
		located_fini(&l);
	}
	return is;
}

static int
make(struct clone *q)
{
	char why[CLI_LINE_MAX] = "";
	struct located l;
	bool begun = is_store(q->store);
	int fd, own, rc;

	if (!begun) {
		rc = replica_init(q->store, q->node, q->far.set, isatty(STDERR_FILENO) ? show_taking_in : NULL, q, why,
		    sizeof(why));
		end_line(q);
		if (rc < 0)
			return cli_fail(CLI_FAILED, "%s", why[0] != '\0' ? why : strerror(-rc));
	}
	if ((rc = client_open(q->store, &l, &fd, why, sizeof(why))) != CLI_DONE)
		return cli_fail(rc, "%s", why);
	own = client_open_own_dir(&l, fd);
	if (own < 0)
		rc = cli_fail(CLI_FAILED, "cannot open the settings of %s: %s", q->store, strerror(-own));
	if (rc == CLI_DONE && begun)
		rc = check_begun(q, own);
	if (rc == CLI_DONE)
		rc = write_peer(q, own);
	if (rc == CLI_DONE && fd >= 0) {
		json_t *reply = NULL;

		rc = client_ask(fd, client_request("reload"), ASK_TIMEOUT_S, &reply, why, sizeof(why));
		json_decref(reply);
		if (rc != CLI_DONE)
			cli_fail(rc, "%s", why);
	}
	if (own >= 0)
		close(own);
	client_close(&l, fd);
	return rc;
}

/* ---- fetching ---------------------------------------------------------- */

static const json_t *
peer_of(const json_t *reply, const char *name)
{
	json_t *peers = json_object_get(json_object_get(reply, "status"), "peers"), *peer;
	const char *its;
	size_t i;

	json_array_foreach(peers, i, peer) {
		its = json_string_value(json_object_get(peer, "name"));
		if (its != NULL && strcmp(its, name) == 0)
			return peer;
	}
	return NULL;
}

/* How far it is, for the terminal; and whether the peer can be reached. */
static void
look(struct clone *q, const struct located *l)
{
	char why[CLI_LINE_MAX], size[16];
	json_t *reply = NULL;
	const json_t *peer, *lacks;
	const char *state;
	int fd = client_connect(l);

	if (fd < 0)
		return;
	if (client_ask(fd, client_request("status"), ASK_TIMEOUT_S, &reply, why, sizeof(why)) == CLI_DONE &&
	    (peer = peer_of(reply, q->far.node)) != NULL) {
		state = json_string_value(json_object_get(peer, "state"));
		lacks = json_object_get(peer, "to_receive");
		if (state != NULL && strcmp(state, "connected") == 0)
			q->reached = time(NULL);
		q->refused = state != NULL && strcmp(state, "refused") == 0;
		if (isatty(STDERR_FILENO)) {
			fprintf(stderr, "\r%s: %s, %lld files to come, %s        ", q->far.node, state ? state : "?",
			    (long long)json_integer_value(json_object_get(lacks, "versions")),
			    cli_size((unsigned long long)json_integer_value(json_object_get(lacks, "bytes")), size));
			q->shown = true;
		}
	}
	json_decref(reply);
	close(fd);
}

enum turn { TURN_DONE, TURN_AGAIN, TURN_FAILED };

/* One round through the daemon behind fd, whoever runs it. */
static enum turn
round_through(struct clone *q, const struct located *l, int fd, int *status, char *why, size_t why_size)
{
	json_t *reply = NULL;

	*status = client_send(fd, json_pack("{s:s, s:s, s:i}", "cmd", "sync", "peer", q->far.node, "timeout",
	    ROUND_TIMEOUT_S), why, why_size);
	while (*status == CLI_DONE) {
		struct pollfd p[] = {
			{ .fd = fd, .events = POLLIN },
			{ .fd = q->quit, .events = POLLIN },
			{ .fd = q->signals, .events = POLLIN },
		};
		int n = poll(p, 3, PROGRESS_MS);

		if (n == 0) {
			look(q, l);
			continue;
		}
		if (n < 0)
			continue;
		if (p[2].revents != 0) {
			q->stopped = true;
			return TURN_FAILED;
		}
		if (p[1].revents != 0)
			return TURN_AGAIN;
		*status = client_receive(fd, ASK_TIMEOUT_S, &reply, why, why_size);
		json_decref(reply);
		break;
	}
	if (*status == CLI_DONE)
		return TURN_DONE;
	/* Lost the daemon, or the daemon the peer: both may come again. */
	look(q, l);
	return !q->refused && time(NULL) - q->reached < UNREACHABLE_S ? TURN_AGAIN : TURN_FAILED;
}

static void
ask_to_end(void *arg)
{
	const struct clone *q = arg;

	eventfd_write(q->quit, 1);
}

/* No daemon runs: this process is the replica, until a mount takes it over. */
static enum turn
round_here(struct clone *q, const struct located *l, int *status, char *why, size_t why_size)
{
	enum turn t = TURN_FAILED;
	struct replica *r;
	int fd, rc = replica_open(l->store, &r, why, why_size);

	if (rc == -EBUSY)
		return TURN_AGAIN;	/* someone has begun just now */
	if (rc < 0) {
		*status = cli_exit_of(rc);
		return TURN_FAILED;
	}
	replica_on_quit(r, ask_to_end, q);
	if ((rc = replica_start(r, NULL, NULL)) < 0 || (fd = client_connect(l)) < 0) {
		snprintf(why, why_size, "cannot start replicating %s", l->store);
		*status = CLI_FAILED;
	} else {
		t = round_through(q, l, fd, status, why, why_size);
		close(fd);
	}
	replica_stop(r);
	replica_close(r);
	return t;
}

/* A mount has asked for the store: it is there in a moment. */
static void
let_it_begin(struct clone *q)
{
	struct located l;
	char why[CLI_LINE_MAX];
	eventfd_t n;
	int fd = -1;

	if (eventfd_read(q->quit, &n) < 0)
		return;
	for (int waited = 0; waited < TAKE_OVER_MS && fd < 0; waited += TICK_MS) {
		nanosleep(&(struct timespec){ .tv_nsec = TICK_MS * 1000000L }, NULL);
		if (client_open(q->store, &l, &fd, why, sizeof(why)) != CLI_DONE)
			continue;
		client_close(&l, fd);
	}
}

static void
try_again(struct clone *q, const char *why)
{
	if (strcmp(q->said, why) != 0) {
		end_line(q);
		fprintf(stderr, "sibfs: %s: trying again\n", why);
		snprintf(q->said, sizeof(q->said), "%s", why);
	}
	nanosleep(&(struct timespec){ .tv_sec = RETRY_MS / 1000 }, NULL);
}

static int
fetch(struct clone *q)
{
	char why[CLI_LINE_MAX] = "";
	enum turn t = TURN_AGAIN;
	struct located l;
	int fd, status = CLI_DONE;

	q->reached = time(NULL);
	while (t == TURN_AGAIN) {
		if ((status = client_open(q->store, &l, &fd, why, sizeof(why))) != CLI_DONE)
			break;
		t = fd >= 0 ? round_through(q, &l, fd, &status, why, sizeof(why)) :
		    round_here(q, &l, &status, why, sizeof(why));
		client_close(&l, fd);
		let_it_begin(q);
		if (t == TURN_AGAIN && status != CLI_DONE)
			try_again(q, why);
	}
	end_line(q);
	if (q->stopped)
		return cli_fail(CLI_FAILED, "stopped: the same command goes on, and so does a mount of %s", q->store);
	if (status != CLI_DONE)
		return cli_fail(status, "%s (the same command goes on, and so does a mount of %s)", why, q->store);
	return CLI_DONE;
}

/* ---- the command ------------------------------------------------------- */

static int
greet(struct clone *q)
{
	const struct transport_options o = { TRANSPORT_AUTO, q->identity, q->node };
	char why[CLI_LINE_MAX] = "";
	int rc = greeting_ask(q->url, &o, GREETING_TIMEOUT_MS, &q->far, why, sizeof(why));

	if (rc < 0)
		return cli_fail(CLI_PEER, "%s: %s", q->url, why);
	if (strcmp(q->far.node, q->node) == 0)
		return cli_fail(CLI_USAGE, "%s is the name of the replica at %s: choose another", q->node, q->url);
	return CLI_DONE;
}

/* From here on these are read in the loop: the replica is closed in good order. */
static int
catch_signals(struct clone *q)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	q->signals = signalfd(-1, &set, SFD_CLOEXEC);
	q->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return q->signals < 0 || q->quit < 0 ? cli_fail(CLI_FAILED, "no descriptors: %s", strerror(errno)) : CLI_DONE;
}

static int
run(struct clone *q)
{
	int rc;

	if ((rc = greet(q)) != CLI_DONE || (rc = make(q)) != CLI_DONE || !q->wait)
		return rc;
	if ((rc = catch_signals(q)) != CLI_DONE)
		return rc;
	log_quiet();
	return fetch(q);
}

static int
check(struct clone *q, const char *store, const char *identity)
{
	struct transport_url u;

	if (transport_url_parse(q->url, &u) < 0)
		return cli_fail(CLI_USAGE, "%s is not a URL: ssh://[user@]host[:port]/path or [user@]host:path", q->url);
	transport_url_fini(&u);
	if (q->node == NULL)
		return cli_usage("clone", "clone needs --node NAME, this replica's name for users");
	if (!settings_node_valid(q->node))
		return cli_fail(CLI_USAGE, "%s is not a node name: letters, digits, - and _, at most %d, "
		    "first a letter or digit", q->node, SETTINGS_NODE_MAX);
	q->store = store != NULL ? mem_str(store) : default_store(q->url);
	if (q->store == NULL || q->store[0] == '\0')
		return cli_usage("clone", "say where: clone URL STORE");
	if (identity == NULL)
		return CLI_DONE;
	q->identity = realpath(identity, NULL);
	if (q->identity == NULL || ssh_key_of_file(q->identity) == SSH_KEY_NONE)
		return cli_fail(CLI_FAILED, "%s is not a private key that we can read", identity);
	return CLI_DONE;
}

int
cmd_clone(int argc, char **argv)
{
	static const struct option options[] = {
		{ "node", required_argument, NULL, 'n' },
		{ "identity", required_argument, NULL, 'i' },
		{ "no-wait", no_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	struct clone q = { .wait = true, .quit = -1, .signals = -1 };
	const char *identity = NULL;
	int c, rc;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "n:i:", options, NULL)) != -1) {
		if (c == 'n')
			q.node = optarg;
		else if (c == 'i')
			identity = optarg;
		else if (c == 'w')
			q.wait = false;
		else
			return cli_usage("clone", "%s is not an option of clone, or lacks its value", argv[optind - 1]);
	}
	if (argc - optind < 1 || argc - optind > 2)
		return cli_usage("clone", "clone takes a URL and perhaps a STORE");
	q.url = argv[optind];
	rc = check(&q, argc - optind == 2 ? argv[optind + 1] : NULL, identity);
	if (rc == CLI_DONE)
		rc = run(&q);
	if (q.quit >= 0)
		close(q.quit);
	if (q.signals >= 0)
		close(q.signals);
	free(q.store);
	free(q.identity);
	return rc;
}
