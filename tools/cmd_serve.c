/*
 * serve: the far end of a link.  It joins the store's daemon if one runs, and
 * is the replica itself if none does.  stdout carries the protocol and nothing
 * else.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "replication/replica.h"
#include "replication/settings.h"
#include "tools/cli.h"
#include "tools/client.h"

enum {
	ASK_TIMEOUT_S = 30,
	RETRY_MS = 5000,	/* two that start at once: one finds the other's lock, or its end */
	TICK_MS = 50,
	LINGER_MS = 2000,	/* for other links that joined us */
	BUFFER_BYTES = 128 << 10,
};

struct service {
	const char *path;
	const char *peer;	/* NULL: as it names itself */
	bool read_only;
};

/* ---- the pump ---------------------------------------------------------- */

struct flow {
	int from, to;
	bool ended;		/* nothing more comes, and all was passed on */
	bool is_socket;		/* `to` is: its end is told by shutdown */
	size_t off, len;
	char bytes[BUFFER_BYTES];
};

static bool
would_wait(void)
{
	return errno == EAGAIN || errno == EINTR;
}

/* Moves what it can; ends the flow with its source. */
static void
flow_move(struct flow *f, short from_events, short to_events)
{
	ssize_t n;

	if (f->off == f->len && from_events != 0) {
		n = read(f->from, f->bytes, sizeof(f->bytes));
		if (n == 0 || (n < 0 && !would_wait())) {
			f->ended = true;
			if (f->is_socket)
				shutdown(f->to, SHUT_WR);
			return;
		}
		f->off = 0;
		f->len = n > 0 ? (size_t)n : 0;
		to_events = POLLOUT;
	}
	if (f->off < f->len && to_events != 0) {
		n = write(f->to, f->bytes + f->off, f->len - f->off);
		if (n < 0 && !would_wait())
			f->ended = true;
		f->off += n > 0 ? (size_t)n : 0;
	}
}

static struct pollfd
wait_from(const struct flow *f)
{
	bool wanted = !f->ended && f->off == f->len;

	return (struct pollfd){ .fd = wanted ? f->from : -1, .events = POLLIN };
}

static struct pollfd
wait_to(const struct flow *f)
{
	bool wanted = !f->ended && f->off < f->len;

	return (struct pollfd){ .fd = wanted ? f->to : -1, .events = POLLOUT };
}

static void
set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags >= 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/*
 * Between our stdin and stdout and the socket sock, until the socket's side
 * has ended, or ours has and the rest was taken; or quit becomes readable.
 */
static void
pump(int sock, int quit)
{
	struct flow *in = calloc(1, sizeof(*in)), *out = calloc(1, sizeof(*out));
	int n;

	if (in == NULL || out == NULL)
		goto done;
	*in = (struct flow){ .from = STDIN_FILENO, .to = sock, .is_socket = true };
	*out = (struct flow){ .from = sock, .to = STDOUT_FILENO };
	set_nonblocking(STDIN_FILENO);
	set_nonblocking(STDOUT_FILENO);
	set_nonblocking(sock);
	while (!out->ended) {
		struct pollfd p[] = {
			wait_from(in), wait_to(in), wait_from(out), wait_to(out),
			{ .fd = quit, .events = POLLIN },
		};

		n = poll(p, 5, in->ended ? LINGER_MS : -1);
		if ((n < 0 && errno != EINTR) || (n == 0 && in->ended) || (n > 0 && p[4].revents))
			break;
		if (n <= 0)
			continue;
		flow_move(in, p[0].revents, p[1].revents);
		flow_move(out, p[2].revents, p[3].revents);
	}
done:
	free(in);
	free(out);
}

/* ---- with a daemon ----------------------------------------------------- */

/* Did it end instead of answering?  Waits until that is known, or as long as one
 * may wait for an answer. */
static bool
ended_instead(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n;
	char c;

	while (poll(&p, 1, ASK_TIMEOUT_S * 1000) < 0 && errno == EINTR)
		;
	n = recv(fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
	return n == 0 || (n < 0 && !would_wait());
}

/* CLI_DONE, having served; else why not.  *ended: because the daemon ended just
 * then, so that there is another one, or none. */
static int
join_daemon(int fd, const struct service *s, bool *ended, char *why, size_t why_size)
{
	json_t *request = json_pack("{s:s, s:b}", "cmd", "serve", "read_only", (int)s->read_only);
	json_t *reply = NULL;
	int rc;

	if (s->peer != NULL)
		json_object_set_new(request, "peer", json_string(s->peer));
	rc = client_send(fd, request, why, why_size);
	*ended = rc != CLI_DONE || ended_instead(fd);
	if (rc == CLI_DONE)
		rc = client_receive(fd, ASK_TIMEOUT_S, &reply, why, why_size);
	json_decref(reply);
	if (rc == CLI_DONE)
		pump(fd, -1);
	return rc;
}

/* ---- without ----------------------------------------------------------- */

struct here {
	int quit;		/* an eventfd: a mount wants the store */
};

static void
ask_to_end(void *arg)
{
	struct here *h = arg;

	eventfd_write(h->quit, 1);
}

/* Others may have joined us by the control socket meanwhile: for a moment
 * more, unless we are asked to go. */
static void
linger(struct here *h)
{
	struct pollfd p = { .fd = h->quit, .events = POLLIN };

	poll(&p, 1, LINGER_MS);
}

static int
serve_stream(struct replica *r, struct here *h, const struct service *s, char *why, size_t why_size)
{
	int pair[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		snprintf(why, why_size, "no sockets: %s", strerror(errno));
		return CLI_FAILED;
	}
	rc = replica_serve(r, pair[1], s->peer, s->read_only, NULL, NULL);
	if (rc < 0) {
		snprintf(why, why_size, "cannot serve: %s", strerror(-rc));
		close(pair[1]);
	} else {
		pump(pair[0], h->quit);
	}
	close(pair[0]);
	if (rc == 0)
		linger(h);
	return rc == 0 ? CLI_DONE : CLI_FAILED;
}

static int
serve_here(struct replica *r, const struct service *s, char *why, size_t why_size)
{
	struct here h = { .quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	int rc = h.quit < 0 ? -errno : replica_start(r, NULL, NULL);

	if (rc < 0) {
		snprintf(why, why_size, "cannot start replicating: %s", strerror(-rc));
		rc = CLI_FAILED;
	} else {
		replica_on_quit(r, ask_to_end, &h);
		rc = serve_stream(r, &h, s, why, why_size);
		replica_stop(r);
	}
	if (h.quit >= 0)
		close(h.quit);
	return rc;
}

/* ---- the command ------------------------------------------------------- */

static int
serve(const struct service *s, char *why, size_t why_size)
{
	struct located l;
	struct replica *r;
	bool ended;
	int rc, fd;

	for (int waited = 0;; waited += TICK_MS) {
		if ((rc = client_open(s->path, &l, &fd, why, why_size)) != CLI_DONE)
			return rc;
		if (fd >= 0) {
			rc = join_daemon(fd, s, &ended, why, why_size);
			client_close(&l, fd);
			if (!ended || waited >= RETRY_MS)
				return rc;
		} else {
			rc = replica_open(l.store, &r, why, why_size);
			located_fini(&l);
			if (rc != -EBUSY || waited >= RETRY_MS)
				break;
		}
		nanosleep(&(struct timespec){ .tv_nsec = TICK_MS * 1000000L }, NULL);
	}
	if (rc < 0)
		return cli_exit_of(rc);
	rc = serve_here(r, s, why, why_size);
	replica_close(r);
	return rc;
}

int
cmd_serve(int argc, char **argv)
{
	static const struct option options[] = {
		{ "peer", required_argument, NULL, 'p' },
		{ "read-only", no_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	char why[CLI_LINE_MAX] = "";
	struct service s = { 0 };
	int c, rc;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "p:r", options, NULL)) != -1) {
		if (c == 'p')
			s.peer = optarg;
		else if (c == 'r')
			s.read_only = true;
		else
			return cli_usage("serve", "%s is not an option of serve, or lacks its value", argv[optind - 1]);
	}
	if (argc - optind != 1)
		return cli_usage("serve", "serve takes one STORE");
	if (s.peer != NULL && !settings_node_valid(s.peer))
		return cli_usage("serve", "%s is not a valid peer name", s.peer);
	s.path = argv[optind];
	rc = serve(&s, why, sizeof(why));
	return rc == CLI_DONE ? CLI_DONE : cli_fail(rc, "%s", why);
}
