/*
 * The control socket's commands, as control.h lists them, and the reports that
 * `status` and `conflicts` give.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/control.h"
#include "replication/display.h"
#include "replication/replica_impl.h"
#include "replication/take.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

#define LINE_MAX_BYTES 65536
#define EXIT_FAILED 3
#define EXIT_PEER 6
#define EXIT_TIMEOUT 7
#define IDLE_MS 3000
#define ROUND_TRIES 3

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

/* ---- reports ---- */

/* What a peer lacks, as far as it told. */
struct lack {
	struct replica *r;
	const struct vv *know;
	uint64_t versions, bytes, oldest;
};

static int
count_lack(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct lack *q = arg;
	struct dir *d = state_dir_num(q->r->s, dir_num);
	struct reg *reg = d ? state_reg(q->r->s, d, name, false) : NULL;
	const struct regval *val;

	(void)seq;
	if (!reg)
		return 0;
	val = reg_known(reg);
	if (vv_dominates(q->know, &val->ctx))
		return 0;
	q->versions++;
	for (uint32_t i = 0; i < val->len; i++) {
		if (vv_covers(q->know, val->v[i].dot))
			continue;
		q->bytes += val->v[i].size;
		if (!q->oldest || val->v[i].hlc < q->oldest)
			q->oldest = val->v[i].hlc;
	}
	return 0;
}

static json_t *
to_send(struct replica *r, struct peer *p)
{
	struct lack q = { .r = r, .know = &p->know };
	struct timespec now;
	double seconds = 0;
	struct dir *d, *tmp;

	if (!vv_dominates(&p->know, &r->s->know)) {
		index_regs_since(r->x, p->acked_seq, SIZE_MAX, count_lack, &q);
		HASH_ITER(hh, r->s->dirs, d, tmp)
			q.versions += d->seq > p->acked_seq && !vv_dominates(&p->know, &d->val.ctx);
	}
	clock_gettime(CLOCK_REALTIME, &now);
	if (q.oldest && (uint64_t)now.tv_sec * 1000000000u > q.oldest)
		seconds = (double)((uint64_t)now.tv_sec * 1000000000u - q.oldest) / 1e9;
	return json_pack("{s:I,s:I,s:f}", "versions", (json_int_t)(q.versions + p->wanted), "bytes",
	    (json_int_t)(q.bytes + p->wanted_bytes), "seconds", seconds);
}

static json_t *
to_receive(struct replica *r, struct peer *p)
{
	uint64_t versions = 0, bytes = 0;

	for (struct want *w = r->wants; w; w = w->hh.next)
		if (p->id && w->from == p->id) {
			versions++;
			bytes += w->size > w->have ? w->size - w->have : 0;
		}
	return json_pack("{s:I,s:I,s:f}", "versions", (json_int_t)versions, "bytes", (json_int_t)bytes, "seconds", 0.0);
}

static json_t *
peer_report(struct replica *r, struct peer *p)
{
	const struct settings_peer *sp = peers_settings(r, p);
	const char *error = p->error, *state = p->state;

	if (peers_paused(r, p) && strcmp(state, "refused") != 0)
		state = "paused";
	if (r->receiver_full && !*error)
		error = "no room on this end for what it sends: it goes on when there is";
	return json_pack("{s:s,s:s?,s:s,s:I,s:s?,s:o,s:o}", "name", p->name, "url", sp ? sp->url : NULL, "state", state,
	    "since", (json_int_t)p->since_s, "error", *error ? error : NULL, "to_send", to_send(r, p), "to_receive",
	    to_receive(r, p));
}

json_t *
control_status(struct replica *r)
{
	json_t *peers = json_array(), *conflicts = control_conflicts(r);
	uint64_t bytes;
	json_t *out;

	for (struct peer *p = r->peers; p; p = p->next)
		if (peers_settings(r, p) || p->link)
			json_array_append_new(peers, peer_report(r, p));
	out = json_pack("{s:s,s:s,s:s,s:s?,s:b,s:I,s:I,s:o}", "node", r->node, "set", r->set, "store", r->path, "mount",
	    r->mountpoint, "paused", r->settings.paused, "conflicts", (json_int_t)json_array_size(conflicts), "wanted",
	    (json_int_t)content_wanted(r, &bytes), "peers", peers);
	if (r->index_broken)
		json_object_set_new(out, "error", json_string("the index is damaged: nothing is replicated"));
	else if (r->index_failed)
		json_object_set_new(out, "error", json_string("the index cannot be written: is the disk full?"));
	json_decref(conflicts);
	return out;
}

/* JSON text is UTF-8; other bytes of a name become U+FFFD. */
static json_t *
json_name(const char *s)
{
	json_t *j = json_string(s);
	char *copy;

	if (j)
		return j;
	copy = mem_alloc(3 * strlen(s) + 1);
	for (char *p = copy; *s; s++)
		p = (unsigned char)*s < 0x80 ? (*p = *s, p + 1) : stpcpy(p, "\xEF\xBF\xBD");
	j = json_string(copy);
	free(copy);
	return j;
}

struct named_dot {
	char node[SETTINGS_NODE_MAX + 1];
	uint64_t n;
};

static int
by_node(const void *a, const void *b)
{
	return strcmp(((const struct named_dot *)a)->node, ((const struct named_dot *)b)->node);
}

/* By node name, as user.sibfs.vv has it. */
static json_t *
vector_json(struct replica *r, const struct shown *e)
{
	json_t *out = json_object();
	struct named_dot *d;
	struct vv v = { 0 };

	for (size_t i = 0; i < e->refs_len; i++)
		vv_join(&v, &e->refs[i].reg->shown.ctx);
	d = mem_resize(NULL, v.len + 1, sizeof(*d));
	for (uint32_t i = 0; i < v.len; i++) {
		snprintf(d[i].node, sizeof(d[i].node), "%s", replica_member(r, v.e[i].id));
		d[i].n = v.e[i].n;
	}
	qsort(d, v.len, sizeof(*d), by_node);
	for (uint32_t i = 0; i < v.len; i++)
		json_object_set_new(out, d[i].node, json_integer((json_int_t)d[i].n));
	free(d);
	vv_fini(&v);
	return out;
}

static json_t *
version_json(struct replica *r, const struct shown *e)
{
	const struct cell *mtime = attrs_find(&e->attrs, "mtime");
	char dot[80];
	double at = mtime && mtime->value ? (double)strtoll(mtime->value, NULL, 10) / 1e9 : (double)e->hlc / 1e9;

	snprintf(dot, sizeof(dot), "%s:%" PRIu64, replica_member(r, e->leader.id), e->leader.n);
	return json_pack("{s:o,s:s,s:f,s:I,s:o,s:s}", "name", json_name(e->name), "node",
	    replica_member(r, e->leader.id), "time", at, "size", (json_int_t)e->size, "vector", vector_json(r, e), "dot",
	    dot);
}

struct conflict_rows {
	struct { uint64_t dir; char *name; } *row;
	size_t len;
};

static int
collect_conflict(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct conflict_rows *q = arg;

	(void)seq;
	q->row = mem_resize(q->row, q->len + 1, sizeof(*q->row));
	q->row[q->len].dir = dir_num;
	q->row[q->len++].name = mem_str(name);
	return 0;
}

json_t *
control_conflicts(struct replica *r)
{
	struct conflict_rows rows = { 0 };
	json_t *out = json_array();
	struct obstack o;

	replica_commit(r);
	index_regs_in_conflict(r->x, collect_conflict, &rows);
	obstack_init(&o);
	for (size_t i = 0; i < rows.len; i++) {
		struct dir *d = state_dir_num(r->s, rows.row[i].dir);
		json_t *versions = json_array();
		struct folder f;
		struct name_group g;
		char *up, *path;
		bool seen = false;

		if (d) {
			display_folder(r->s, d, &o, &f);
			display_group(r->s, &f, rows.row[i].name, &o, &g);
			for (size_t j = 0; j < g.len; j++)
				json_array_append_new(versions, version_json(r, &g.files[j]));
			up = take_path(f.ids[0]);
			path = mem_printf("%s%s%s", up, *up ? "/" : "", rows.row[i].name);
			for (size_t j = 0; j < json_array_size(out) && !seen; j++)
				seen = strcmp(json_string_value(json_object_get(json_array_get(out, j), "path")),
				    path) == 0;
			if (group_in_conflict(&g) && !seen)
				json_array_append_new(out, json_pack("{s:o,s:O}", "path", json_name(path), "versions",
				    versions));
			free(up);
			free(path);
			group_fini(&g);
		}
		json_decref(versions);
		free(rows.row[i].name);
	}
	obstack_free(&o, NULL);
	free(rows.row);
	return out;
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
	link_pump(x->link);
}

/* A round covers all that programs closed before: the mount tells of it first. */
static void
start_sync(struct replica *r, void *arg)
{
	struct control_conn *c;

	replica_settle_events(r);
	if (hasher_wait(r, start_sync, arg))
		return;
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
start_wait(struct replica *r, void *arg)
{
	struct control_conn *c;

	replica_settle_events(r);
	if (hasher_wait(r, start_wait, arg))
		return;
	replica_commit(r);
	link_changed(r);
	DL_FOREACH(r->conns, c)
		if (c == arg)
			c->waits = true;
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
run_command(struct replica *r, struct control_conn *c, const char *line)
{
	json_error_t err;
	json_t *q = json_loads(line, 0, &err), *answer;
	const char *cmd = q ? json_string_value(json_object_get(q, "cmd")) : NULL;

	if (!cmd) {
		reply_error(c, EXIT_FAILED, "malformed request");
	} else if (strcmp(cmd, "status") == 0) {
		answer = json_pack("{s:b,s:o}", "ok", 1, "status", control_status(r));
		reply(c, answer);
	} else if (strcmp(cmd, "conflicts") == 0) {
		answer = json_pack("{s:b,s:o}", "ok", 1, "conflicts", control_conflicts(r));
		reply(c, answer);
	} else if (strcmp(cmd, "sync") == 0) {
		cmd_sync(r, c, q);
	} else if (strcmp(cmd, "wait") == 0) {
		cmd_wait(r, c, q);
	} else if (strcmp(cmd, "reload") == 0) {
		peers_reload(r);
		reply_ok(c);
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
