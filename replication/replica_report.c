/*
 * What `status` and `conflicts` say.
 */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "replication/display.h"
#include "replication/content_impl.h"
#include "replication/replica_fork.h"
#include "replication/take.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

#define NOWHERE_MAX 20	/* names that are told */

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
	struct reg *reg = state_reg_in(q->r->s, dir_num, name);
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
	struct dir *d;

	if (!vv_dominates(&p->know, &r->s->know)) {
		index_regs_since(r->x, p->acked_seq, SIZE_MAX, count_lack, &q);
		for (d = state_dirs_since(r->s, p->acked_seq); d; d = d->seq_next)
			q.versions += !vv_dominates(&p->know, &d->val.ctx);
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
	return json_pack("{s:s,s:s?,s:s,s:I,s:s?,s:o,s:o,s:I,s:I}", "name", p->name, "url", sp ? sp->url : NULL, "state", state,
	    "since", (json_int_t)p->since_s, "error", *error ? error : NULL, "to_send", to_send(r, p), "to_receive",
	    to_receive(r, p), "sent_bytes", (json_int_t)p->sent_bytes, "received_bytes",
	    (json_int_t)p->received_bytes);
}

/* Other replicas that are linked now and have our name, or one name between them. */
static json_t *
same_names(struct replica *r)
{
	json_t *out = json_array();

	for (struct peer *p = r->peers; p; p = p->next) {
		size_t n = strcspn(p->name, "~");

		if (p->link && p->name[n])
			json_array_append_new(out, json_pack("{s:s#,s:s}", "node", p->name, (int)n, "peer", p->name));
	}
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

static void
add_nowhere(void *arg, const struct reg *reg)
{
	char *up, *path;

	if (json_array_size(arg) == NOWHERE_MAX)
		return;
	up = dir_path(reg->dir);
	path = mem_printf("%s%s%s", up, *up ? "/" : "", reg_name(reg));
	json_array_append_new(arg, json_name(path));
	free(up);
	free(path);
}

/* What waits and cannot come now: a user is to know of it. */
static json_t *
nowhere(struct replica *r)
{
	json_t *out = json_array();

	content_nowhere(r, add_nowhere, out);
	return out;
}

json_t *
report_status(struct replica *r)
{
	json_t *peers = json_array(), *conflicts = report_conflicts(r);
	uint64_t bytes;
	json_t *out, *members;

	for (struct peer *p = r->peers; p; p = p->next)
		if (peers_settings(r, p) || p->link)
			json_array_append_new(peers, peer_report(r, p));
	out = json_pack("{s:s,s:s,s:s,s:s?,s:b,s:I,s:I,s:o}", "node", r->node, "set", r->set, "store", r->path, "mount",
	    r->mountpoint, "paused", r->settings.paused, "conflicts", (json_int_t)json_array_size(conflicts), "wanted",
	    (json_int_t)content_wanted(r, &bytes), "peers", peers);
	members = members_report(r);
	json_object_update(out, members);
	json_decref(members);
	if (r->view)
		json_object_set_new(out, "data", json_string(r->view->data_path(r->view->ctx)));
	json_object_set_new(out, "forks", fork_notes(r));
	json_object_set_new(out, "same_names", same_names(r));
	json_object_set_new(out, "nowhere", nowhere(r));
	if (r->index_broken)
		json_object_set_new(out, "error", json_string("the index is damaged: nothing is replicated"));
	else if (r->index_failed)
		json_object_set_new(out, "error", json_string("the index cannot be written: is the disk full?"));
	json_decref(conflicts);
	return out;
}

struct named_dot {
	char node[SETTINGS_NODE_MAX + 16];
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
		replica_name_in(r, &v, i, d[i].node, sizeof(d[i].node));
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
report_conflicts(struct replica *r)
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
			up = dir_path(f.ids[0]);
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
