/*
 * Members: all incarnations that ever exchanged in the set, and what is heard of
 * each: what it has, whether it was retired, when anyone last heard of it.  All
 * of it only grows, so it is joined by maximum, in any order and from anyone.
 *
 * What a member has counts for forgetting as far as we have it too.  What it has
 * beyond is kept apart until we caught up.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "replication/forget.h"
#include "replication/replica_impl.h"
#include "replication/wire.h"

#define HEARD_STEP_S 3600	/* no news of a time sooner than this */

static struct member *
find(struct replica *r, uint64_t id)
{
	struct member *m;

	HASH_FIND(hh, r->members, &id, sizeof(id), m);
	return m;
}

const char *
replica_member(struct replica *r, uint64_t id)
{
	static char unknown[24];
	struct member *m = find(r, id);

	if (m)
		return m->node;
	snprintf(unknown, sizeof(unknown), "%016llx", (unsigned long long)id);
	return unknown;
}

void
replica_name_in(struct replica *r, const struct vv *v, uint32_t i, char *out, size_t size)
{
	char node[SETTINGS_NODE_MAX + 1];
	unsigned nth = 1;

	snprintf(node, sizeof(node), "%s", replica_member(r, v->e[i].id));
	for (uint32_t j = 0; j < i; j++)
		nth += strcmp(replica_member(r, v->e[j].id), node) == 0;
	if (nth > 1)
		snprintf(out, size, "%s#%u", node, nth);
	else
		snprintf(out, size, "%s", node);
}

static void
changed(struct replica *r, struct member *m, uint64_t from)
{
	m->dirty = true;
	m->seq = ++r->members_seq;
	m->from = from;
}

static struct member *
add(struct replica *r, uint64_t id, const char *node)
{
	struct member *m = mem_alloc(sizeof(*m));

	m->id = id;
	snprintf(m->node, sizeof(m->node), "%s", node);
	HASH_ADD(hh, r->members, id, sizeof(m->id), m);
	return m;
}

void
replica_add_member(struct replica *r, uint64_t id, const char *node)
{
	if (find(r, id))
		return;
	changed(r, add(r, id, node), 0);
	replica_begin(r);
}

static bool
is_retired(const struct member *m)
{
	return m->retired > m->back;
}

static void
heard_at(struct replica *r, struct member *m, uint64_t at_s, uint64_t from)
{
	uint64_t now_s = (uint64_t)time(NULL);

	if (at_s > now_s)
		at_s = now_s;		/* someone's clock is ahead */
	if (at_s < m->heard_s + (m->heard_s ? HEARD_STEP_S : 1))
		return;
	m->heard_s = at_s;
	changed(r, m, from);
}

/* What it has beyond ours counts once we have it. */
static void
settle(struct replica *r, struct member *m)
{
	if (!m->ahead.len || !vv_dominates(&r->s->know, &m->ahead))
		return;
	vv_join(&m->know, &m->ahead);
	vv_clear(&m->ahead);
	m->dirty = true;
}

void
members_heard(struct replica *r, uint64_t id, const struct vv *know, uint64_t from)
{
	struct member *m = find(r, id);
	struct vv all;

	if (!m || id == r->s->self)
		return;
	all = vv_joined(&m->know, &m->ahead);
	if (!vv_dominates(&all, know)) {
		vv_join(&m->ahead, know);
		changed(r, m, from);
		settle(r, m);
	}
	vv_fini(&all);
	if (id == from)
		heard_at(r, m, (uint64_t)time(NULL), from);
}

void
members_here(struct replica *r, uint64_t id)
{
	struct member *m = find(r, id);

	if (!m)
		return;
	heard_at(r, m, (uint64_t)time(NULL), id);
	if (!is_retired(m))
		return;
	log_info("%s was retired and is back: deletions wait for it again", m->node);
	state_saw(r->s, m->retired);
	m->back = state_stamp(r->s).hlc;
	changed(r, m, 0);
	replica_begin(r);
}

void
members_doubt(struct replica *r, const struct relabel *l, size_t n)
{
	struct member *m, *tmp;

	HASH_ITER(hh, r->members, m, tmp) {
		bool less = lineage_doubt(&m->know, l, n);

		less |= lineage_doubt(&m->ahead, l, n);
		m->dirty |= less;
	}
	vv_clear(&r->forgetting.done);
	vv_fini(&r->forgetting.stable);
	r->forgetting.stage = FORGET_REST;
}

int
members_learn(struct replica *r, const Sibfs__Wire__Member *w, uint64_t from)
{
	struct vv know = { 0 };
	struct member *m;
	int rc;

	if (!w->id || !settings_node_valid(w->node))
		return 0;
	if ((rc = wire_get_dots(w->know, w->n_know, &know)) < 0)
		return rc;
	if (!find(r, w->id) && HASH_COUNT(r->members) >= REPLICA_MEMBERS_MAX) {
		vv_fini(&know);
		return -EBADMSG;
	}
	replica_add_member(r, w->id, w->node);
	m = find(r, w->id);
	members_heard(r, w->id, &know, from);
	vv_fini(&know);
	if (w->heard)
		heard_at(r, m, w->heard, from);
	if (w->retired <= m->retired && w->back <= m->back)
		return 0;
	state_saw(r->s, w->retired);
	state_saw(r->s, w->back);
	m->retired = w->retired > m->retired ? w->retired : m->retired;
	m->back = w->back > m->back ? w->back : m->back;
	changed(r, m, from);
	replica_begin(r);
	for (struct link *l = r->links; l; l = link_next(l))
		if (link_is_up(l) && link_peer_id(l) == m->id)
			members_here(r, m->id);
	return 0;
}

Sibfs__Wire__Member *
members_wire(const struct member *m, bool names_only)
{
	Sibfs__Wire__Member *w = mem_alloc(sizeof(*w));
	struct vv know = vv_joined(&m->know, &m->ahead);

	sibfs__wire__member__init(w);
	w->id = m->id;
	w->node = mem_str(m->node);
	if (!names_only) {
		wire_dots(&know, &w->know, &w->n_know);
		w->retired = m->retired;
		w->back = m->back;
		w->heard = m->heard_s;
	}
	vv_fini(&know);
	return w;
}

bool
members_stable(struct replica *r, struct vv *out)
{
	const struct vv **know = mem_resize(NULL, HASH_COUNT(r->members) + 1, sizeof(*know));
	struct member *m, *tmp;
	size_t n = 0;
	bool is;

	HASH_ITER(hh, r->members, m, tmp) {
		if (m->id == r->s->self || is_retired(m))
			continue;
		settle(r, m);
		know[n++] = &m->know;
	}
	is = forget_stable(r->s, know, n, out);
	free(know);
	return is;
}

int
replica_retire(struct replica *r, const char *node, char *why, size_t size)
{
	struct member *m, *tmp;
	unsigned found = 0, done = 0;

	HASH_ITER(hh, r->members, m, tmp) {
		bool up = false;

		if (strcmp(m->node, node) != 0 || m->id == r->s->self)
			continue;
		found++;
		for (struct link *l = r->links; l; l = link_next(l))
			up |= link_is_up(l) && link_peer_id(l) == m->id;
		if (up)
			continue;
		done++;
		if (is_retired(m))
			continue;
		state_saw(r->s, m->back);
		m->retired = state_stamp(r->s).hlc;
		changed(r, m, 0);
		log_info("%s is retired: deletions wait for it no more", m->node);
	}
	if (strcmp(r->node, node) == 0)
		snprintf(why, size, "%s is this replica: retire it from another one", node);
	else if (!found)
		snprintf(why, size, "%s is not a member of the set (sibfs status shows them)", node);
	else if (!done)
		snprintf(why, size, "%s is connected: one that is in use cannot be retired", node);
	else if (replica_begin(r) < 0 || replica_commit(r) < 0)
		snprintf(why, size, "the index cannot be written");
	else
		return 0;
	return -EINVAL;
}

/* ---- in the index ---- */

static int
put(struct replica *r, const struct member *m)
{
	Sibfs__Wire__IndexMember w = SIBFS__WIRE__INDEX_MEMBER__INIT;
	uint8_t *data;
	size_t len;
	int rc;

	wire_dots(&m->know, &w.know, &w.n_know);
	wire_dots(&m->ahead, &w.ahead, &w.n_ahead);
	w.retired = m->retired;
	w.back = m->back;
	w.heard = m->heard_s;
	len = sibfs__wire__index_member__get_packed_size(&w);
	data = mem_alloc(len + 1);
	sibfs__wire__index_member__pack(&w, data);
	rc = index_put_member(r->x, m->id, m->node, data, len);
	free(data);
	wire_free_dots(w.know, w.n_know);
	wire_free_dots(w.ahead, w.n_ahead);
	return rc;
}

int
members_save(struct replica *r)
{
	struct member *m, *tmp;
	int rc = 0;

	HASH_ITER(hh, r->members, m, tmp)
		if (m->dirty && rc == 0)
			rc = put(r, m);
	return rc;
}

void
members_saved(struct replica *r)
{
	struct member *m, *tmp;

	HASH_ITER(hh, r->members, m, tmp)
		m->dirty = false;
}

void
members_load(void *arg, uint64_t id, const char *node, const void *data, size_t len)
{
	struct replica *r = arg;
	struct member *m = add(r, id, node);
	Sibfs__Wire__IndexMember *w = len ? sibfs__wire__index_member__unpack(NULL, len, data) : NULL;

	m->seq = ++r->members_seq;
	if (!w)
		return;
	/* What cannot be read is not known: it is heard again. */
	if (wire_get_dots(w->know, w->n_know, &m->know) == 0)
		(void)wire_get_dots(w->ahead, w->n_ahead, &m->ahead);
	m->retired = w->retired;
	m->back = w->back;
	m->heard_s = w->heard;
	sibfs__wire__index_member__free_unpacked(w, NULL);
}

void
members_free(struct replica *r)
{
	struct member *m, *tmp;

	HASH_ITER(hh, r->members, m, tmp) {
		HASH_DEL(r->members, m);
		vv_fini(&m->know);
		vv_fini(&m->ahead);
		free(m);
	}
}

/* ---- for `status` ---- */

static bool
is_connected(const struct replica *r, const struct member *m)
{
	for (struct link *l = r->links; l; l = link_next(l))
		if (link_is_up(l) && link_peer_id(l) == m->id)
			return true;
	return false;
}

json_t *
members_report(struct replica *r)
{
	uint64_t now_s = (uint64_t)time(NULL), limit_s = (uint64_t)r->settings.absent_days * 86400, rows = 0;
	json_t *out = json_array();
	struct member *m, *tmp;

	index_count_tombstones(r->x, &rows);
	rows += forget_count_dirs(r->s);
	HASH_ITER(hh, r->members, m, tmp) {
		bool waits = !is_retired(m) && !is_connected(r, m) && now_s - m->heard_s >= limit_s;

		if (m->id == r->s->self)
			continue;
		/* One that has all we have holds up nothing. */
		waits &= rows && !vv_dominates(&m->know, &r->s->know);
		json_array_append_new(out, json_pack("{s:s,s:I,s:b,s:b}", "node", m->node, "heard",
		    (json_int_t)m->heard_s, "retired", is_retired(m), "holds_up", waits));
	}
	return json_pack("{s:I,s:o}", "tombstones", (json_int_t)rows, "members", out);
}
