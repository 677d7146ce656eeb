/*
 * The control socket's commands, as control.h lists them.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/control.h"
#include "replication/replica_impl.h"

#define LINE_MAX_BYTES 65536
#define EXIT_FAILED 3
#define EXIT_PEER 6
#define EXIT_TIMEOUT 7
#define IDLE_MS 3000
#define ROUND_TRIES 3
#define PROBE_MS 20000		/* a far end may be busy with what came before */

/* One peer of a `sync`. */
struct part {
	struct part *next;
	struct peer *peer;
	uint64_t round;		/* 0: not begun */
	unsigned tries;
	bool done;
};

struct control_conn {
	struct control_conn *prev, *next;
	int fd;
	char line[LINE_MAX_BYTES];
	size_t len;
	bool closed;		/* handed over, or at its end */
	/* A `sync` or `wait` under way. */
	struct part *parts;
	bool waits;		/* `wait`: for peers to have what is here */
	struct peer *wait_peer;
	int64_t until_ms;
};

int
control_fd(const struct control_conn *c)
{
	return c->fd;
}

struct control_conn *
control_next(struct control_conn *c)
{
	return c->next;
}

static void
reply(struct control_conn *c, json_t *answer)
{
	char *text = json_dumps(answer, JSON_COMPACT);

	if (text) {
		size_t len = strlen(text), done = 0;

		text[len++] = '\n';	/* over the NUL: only bytes from here on */
		while (done < len) {
			ssize_t n = send(c->fd, text + done, len - done, MSG_NOSIGNAL);

			if (n <= 0)
				break;
			done += (size_t)n;
		}
	}
	free(text);
	json_decref(answer);
}

static void
reply_ok(struct control_conn *c)
{
	reply(c, json_pack("{s:b}", "ok", 1));
}

static void
reply_error(struct control_conn *c, int status, const char *text)
{
	reply(c, json_pack("{s:b,s:s,s:i}", "ok", 0, "error", text, "exit", status));
}

static void
drop_parts(struct control_conn *c)
{
	while (c->parts) {
		struct part *p = c->parts;

		c->parts = p->next;
		if (p->peer->rounds)
			p->peer->rounds--;
		p->peer->idle_at_ms = replica_now_ms() + IDLE_MS;
		free(p);
	}
}

static void
conn_free(struct replica *r, struct control_conn *c)
{
	drop_parts(c);
	DL_DELETE(r->conns, c);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}

/* ---- sync ---- */

static void
begin_part(struct replica *r, struct part *p)
{
	struct peer *x = p->peer;

	if (p->round || p->done || !x->link || !link_is_up(x->link) || link_in_round(x->link))
		return;
	p->round = ++r->next_round;
	link_start_round(x->link, p->round);
	link_probe(x->link, PROBE_MS);
	link_pump(x->link);
}

static void
begin_sync(struct replica *r, void *arg)
{
	struct control_conn *c;

	view_update(r);
	replica_commit(r);
	DL_FOREACH(r->conns, c)
		if (c == arg)
			for (struct part *p = c->parts; p; p = p->next) {
				p->peer->retry_at_ms = 0;
				begin_part(r, p);
			}
	peers_tick(r, replica_now_ms());
}

/* A round covers all that programs closed before: the mount tells of it first. */
static void
start_sync(struct replica *r, void *arg)
{
	replica_settle_closed(r);
	if (!hasher_wait(r, begin_sync, arg))
		begin_sync(r, arg);
}

struct crossing {
	struct replica *r;
	struct control_conn *c;
};

static void
barrier_passed(void *arg)
{
	struct crossing *q = arg;

	replica_call(q->r, start_sync, q->c);
	free(q);
}

static void
add_part(struct control_conn *c, struct peer *p)
{
	struct part *part = mem_alloc(sizeof(*part));

	part->peer = p;
	p->rounds++;
	LL_APPEND(c->parts, part);
}

static double
number_of(json_t *q, const char *key, double fallback)
{
	json_t *j = json_object_get(q, key);

	return json_is_number(j) ? json_number_value(j) : fallback;
}

static void
cmd_sync(struct replica *r, struct control_conn *c, json_t *q)
{
	const char *name = json_string_value(json_object_get(q, "peer"));
	struct crossing *x;

	c->until_ms = replica_now_ms() + (int64_t)(1000 * number_of(q, "timeout", 60));
	if (name) {
		struct peer *p = peers_find(r, name, false);

		if (!p) {
			reply_error(c, EXIT_FAILED, "no peer of that name: see `sibfs peer list`");
			return;
		}
		add_part(c, p);
	} else {
		for (struct peer *p = r->peers; p; p = p->next)
			if (peers_settings(r, p) || p->link)
				add_part(c, p);
	}
	if (!c->parts) {
		reply_error(c, EXIT_FAILED, "there are no peers: add one with `sibfs peer add`");
		return;
	}
	if (!r->view) {
		start_sync(r, c);
		return;
	}
	x = mem_alloc(sizeof(*x));
	*x = (struct crossing){ r, c };
	r->view->barrier(r->view->ctx, barrier_passed, x);
}

static void
check_sync(struct control_conn *c)
{
	for (struct part *p = c->parts; p; p = p->next)
		if (!p->done)
			return;
	reply_ok(c);
	drop_parts(c);
}

static void
fail_sync(struct control_conn *c, const char *peer, const char *why)
{
	char text[400];

	snprintf(text, sizeof(text), "%s: %s", peer, why ? why : "the link broke");
	reply_error(c, EXIT_PEER, text);
	drop_parts(c);
}

void
control_round_done(struct replica *r, uint64_t round, const char *error)
{
	struct control_conn *c, *tmp;

	DL_FOREACH_SAFE(r->conns, c, tmp)
		for (struct part *p = c->parts; p; p = p->next) {
			if (p->round != round)
				continue;
			if (!error) {
				p->done = true;
				check_sync(c);
			} else if (++p->tries < ROUND_TRIES) {
				p->round = 0;	/* once more, over a new link */
				p->peer->retry_at_ms = 0;
			} else {
				fail_sync(c, p->peer->name, error);
			}
			return;
		}
}

void
control_link_failed(struct replica *r, struct peer *p, const char *why)
{
	struct control_conn *c, *tmp;

	DL_FOREACH_SAFE(r->conns, c, tmp)
		for (struct part *x = c->parts; x; x = x->next) {
			if (x->peer != p || x->done || x->round)
				continue;
			if (++x->tries >= ROUND_TRIES) {
				fail_sync(c, p->name, why);
				break;
			}
			p->retry_at_ms = replica_now_ms() + 100;
		}
}

/* ---- wait ---- */

static bool
peer_has_all(struct replica *r, const struct peer *p)
{
	return vv_dominates(&p->know, &r->s->know) && p->wanted == 0;
}

static void
check_wait(struct replica *r, struct control_conn *c)
{
	for (struct peer *p = r->peers; p; p = p->next)
		if ((c->wait_peer ? p == c->wait_peer : peers_settings(r, p) || p->link) && !peer_has_all(r, p))
			return;
	c->waits = false;
	reply_ok(c);
}

static void
begin_wait(struct replica *r, void *arg)
{
	struct control_conn *c;

	replica_commit(r);
	link_changed(r);
	DL_FOREACH(r->conns, c)
		if (c == arg)
			c->waits = true;
}

static void
start_wait(struct replica *r, void *arg)
{
	replica_settle_closed(r);
	if (!hasher_wait(r, begin_wait, arg))
		begin_wait(r, arg);
}

static void
wait_barrier_passed(void *arg)
{
	struct crossing *q = arg;

	replica_call(q->r, start_wait, q->c);
	free(q);
}

static void
cmd_wait(struct replica *r, struct control_conn *c, json_t *q)
{
	const char *name = json_string_value(json_object_get(q, "peer"));
	struct crossing *x;

	c->until_ms = replica_now_ms() + (int64_t)(1000 * number_of(q, "timeout", 60));
	c->wait_peer = name ? peers_find(r, name, false) : NULL;
	if (name && !c->wait_peer) {
		reply_error(c, EXIT_FAILED, "no peer of that name: see `sibfs peer list`");
		return;
	}
	if (!r->view) {
		start_wait(r, c);
		return;
	}
	x = mem_alloc(sizeof(*x));
	*x = (struct crossing){ r, c };
	r->view->barrier(r->view->ctx, wait_barrier_passed, x);
}

/* ---- the rest ---- */

static void
cmd_serve(struct replica *r, struct control_conn *c, json_t *q)
{
	bool read_only = json_is_true(json_object_get(q, "read_only"));
	int fd = c->fd;

	reply_ok(c);
	c->fd = -1;
	c->closed = true;
	link_new(r, fd, NULL, json_string_value(json_object_get(q, "peer")), read_only);
}

static void
cmd_quit(struct replica *r, struct control_conn *c)
{
	reply_ok(c);
	if (r->quit_conn_fd >= 0)
		close(r->quit_conn_fd);
	r->quit_conn_fd = c->fd;
	c->fd = -1;
	c->closed = true;
	if (r->quit_fn)
		r->quit_fn(r->quit_arg);
}

static void
cmd_retire(struct replica *r, struct control_conn *c, const json_t *q)
{
	const char *node = json_string_value(json_object_get(q, "node"));
	char why[256];

	if (!node)
		reply_error(c, EXIT_FAILED, "malformed request");
	else if (replica_retire(r, node, why, sizeof(why)) < 0)
		reply_error(c, EXIT_FAILED, why);
	else
		reply_ok(c);
}

static void
run_command(struct replica *r, struct control_conn *c, const char *line)
{
	json_error_t err;
	json_t *q = json_loads(line, 0, &err), *answer;
	const char *cmd = q ? json_string_value(json_object_get(q, "cmd")) : NULL;

	if (!cmd) {
		reply_error(c, EXIT_FAILED, "malformed request");
	} else if (strcmp(cmd, "status") == 0) {
		answer = json_pack("{s:b,s:o}", "ok", 1, "status", report_status(r));
		reply(c, answer);
	} else if (strcmp(cmd, "conflicts") == 0) {
		answer = json_pack("{s:b,s:o}", "ok", 1, "conflicts", report_conflicts(r));
		reply(c, answer);
	} else if (strcmp(cmd, "sync") == 0) {
		cmd_sync(r, c, q);
	} else if (strcmp(cmd, "wait") == 0) {
		cmd_wait(r, c, q);
	} else if (strcmp(cmd, "reload") == 0) {
		peers_reload(r);
		/* Who paused wants nothing more, not even what is on its way. */
		peers_tick(r, replica_now_ms());
		reply_ok(c);
	} else if (strcmp(cmd, "retire") == 0) {
		cmd_retire(r, c, q);
	} else if (strcmp(cmd, "serve") == 0) {
		cmd_serve(r, c, q);
	} else if (strcmp(cmd, "quit") == 0) {
		cmd_quit(r, c);
	} else {
		reply_error(c, EXIT_FAILED, "unknown command: the daemon is of another version");
	}
	json_decref(q);
}

void
control_accept(struct replica *r)
{
	int fd = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	struct control_conn *c;

	if (fd < 0)
		return;
	c = mem_alloc(sizeof(*c));
	c->fd = fd;
	DL_APPEND(r->conns, c);
}

void
control_ready(struct replica *r, struct control_conn *c)
{
	ssize_t n = recv(c->fd, c->line + c->len, sizeof(c->line) - 1 - c->len, MSG_DONTWAIT);
	char *end;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_free(r, c);
		return;
	}
	c->len += (size_t)n;
	c->line[c->len] = '\0';
	while (!c->closed && (end = strchr(c->line, '\n'))) {
		size_t used = (size_t)(end + 1 - c->line);

		*end = '\0';
		run_command(r, c, c->line);
		c->len -= used;
		memmove(c->line, c->line + used, c->len + 1);
	}
	if (c->closed || c->len == sizeof(c->line) - 1)
		conn_free(r, c);
}

bool
control_waiting(const struct replica *r)
{
	for (struct control_conn *c = r->conns; c; c = c->next)
		if (c->waits || c->parts)
			return true;
	return false;
}

void
control_tick(struct replica *r, int64_t now_ms)
{
	struct control_conn *c, *tmp;
	struct link *l, *next;

	DL_FOREACH_SAFE(r->conns, c, tmp) {
		if ((c->parts || c->waits) && now_ms >= c->until_ms) {
			reply_error(c, EXIT_TIMEOUT, "not done in time");
			c->waits = false;
			drop_parts(c);
			continue;
		}
		for (struct part *p = c->parts; p; p = p->next)
			begin_part(r, p);
		if (c->waits)
			check_wait(r, c);
	}
	for (l = r->links; l; l = next) {
		next = link_next(l);
		link_check_round(l);
	}
}

void
control_close_all(struct replica *r)
{
	while (r->conns)
		conn_free(r, r->conns);
}
