/*
 * From registers to names.  Groups are small (a handful of versions), so plain
 * loops over arrays serve.
 */
#include "config.h"

#include "replication/display.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

/* ---- folders ---- */

static size_t
index_of(const struct folder *f, const struct dir *d)
{
	size_t i = 0;

	while (i < f->len && f->ids[i] != d)
		i++;
	return i;
}

/* One never moved before those that were, these by the time of their move, then
 * in the order of their parents. */
static int
compare_dirs(const struct folder *up, const struct dir *a, const struct dir *b)
{
	int order = stamp_compare(dir_since(a), dir_since(b));
	size_t i, j;

	if (order)
		return order;
	i = index_of(up, a->at.up);
	j = index_of(up, b->at.up);
	if (i != j)
		return i < j ? -1 : 1;
	return (a->birth_k > b->birth_k) - (a->birth_k < b->birth_k);
}

static void
insert_dir(const struct folder *up, struct folder *out, struct dir *d)
{
	size_t i = out->len++;

	for (; i > 0 && compare_dirs(up, d, out->ids[i - 1]) < 0; i--)
		out->ids[i] = out->ids[i - 1];
	out->ids[i] = d;
}

static void
collect_dirs(struct state *s, const struct folder *up, const char *name, const struct dir *also, struct obstack *o,
    struct folder *out)
{
	struct folder found = { 0 };	/* out may be up */
	size_t n = 0;

	for (size_t i = 0; i < up->len; i++)
		for (struct dir *d = state_at(s, up->ids[i], name); d; d = d->same_place)
			n += state_stands(d) || d == also;
	found.ids = n ? obstack_alloc(o, n * sizeof(*found.ids)) : NULL;
	for (size_t i = 0; i < up->len; i++)
		for (struct dir *d = state_at(s, up->ids[i], name); d; d = d->same_place)
			if (state_stands(d) || d == also)
				insert_dir(up, &found, d);
	*out = found;
}

/* d's, where those above `top` are each the only one at their place. */
static void
folder_below(struct state *s, struct dir *d, const struct dir *top, struct obstack *o, struct folder *out)
{
	struct folder up = { &d->at.up, 1 };

	if (d != top)
		folder_below(s, d->at.up, top, o, &up);
	collect_dirs(s, &up, d->at.name, d, o, out);
}

void
display_folder(struct state *s, struct dir *d, struct obstack *o, struct folder *out)
{
	const struct dir *top = state_shared(d);

	if (top) {
		folder_below(s, d, top, o, out);
		return;
	}
	out->ids = obstack_alloc(o, sizeof(*out->ids));
	out->ids[0] = d;
	out->len = 1;
}

void
display_subfolder(struct state *s, const struct folder *up, const char *name, struct obstack *o, struct folder *out)
{
	collect_dirs(s, up, name, NULL, o, out);
}

uint32_t
display_folder_mode(const struct folder *f)
{
	uint32_t mode = 07777, live = 0;

	for (size_t i = 0; i < f->len; i++)
		live += dir_is_live(f->ids[i]);
	for (size_t i = 0; i < f->len; i++)
		if (!live || dir_is_live(f->ids[i]))
			mode &= dir_mode(f->ids[i]);
	return mode;
}

/* ---- versions that show as one ---- */

/* A live version with what grouping needs to know of it. */
struct member {
	struct reg *reg;
	struct version *v;
	struct attrs attrs;	/* what it shows */
	bool hidden;
};

struct members {
	struct member *m;
	size_t len;
};

static int
by_rank(const void *a, const void *b)
{
	const struct version *x = ((const struct member *)a)->v, *y = ((const struct member *)b)->v;

	if (x->hlc != y->hlc)
		return x->hlc < y->hlc ? -1 : 1;
	return dot_compare(x->dot, y->dot);
}

static void
collect_members(struct state *s, const struct folder *f, const char *name, struct members *out)
{
	*out = (struct members){ NULL, 0 };
	for (size_t i = 0; i < f->len; i++) {
		struct reg *r = state_reg(s, f->ids[i], name, false);

		if (!r || !r->shown.len)
			continue;
		out->m = mem_resize(out->m, out->len + r->shown.len, sizeof(*out->m));
		for (uint32_t j = 0; j < r->shown.len; j++)
			out->m[out->len++] = (struct member){ r, &r->shown.v[j],
				regval_attrs_of(&r->shown, &r->shown.v[j]), false };
	}
	if (out->len > 1)
		qsort(out->m, out->len, sizeof(*out->m), by_rank);
}

static void
members_fini(struct members *ms)
{
	for (size_t i = 0; i < ms->len; i++)
		attrs_fini(&ms->m[i].attrs);
	free(ms->m);
}

static bool
same_hash(const struct hash *a, const struct hash *b)
{
	return hash_compare(a, b) == 0;
}

/* The content that h became by its newest edit, or NULL. */
static const struct hash *
edit_of(const struct members *ms, const struct hash *h)
{
	for (size_t i = ms->len; i-- > 0;) {
		const struct version *v = ms->m[i].v;

		if (v->has_base && same_hash(&v->base, h) && !same_hash(&v->hash, h))
			return &v->hash;
	}
	return NULL;
}

/*
 * Follows the edits from v's own content: fills way with the contents that it
 * became, and returns their number; 0 if they run in a circle, or lead back to
 * what v's own writer had replaced (then both sides changed it).
 */
static size_t
way_of(const struct members *ms, const struct version *v, const struct hash **way)
{
	const struct hash *h = &v->hash, *next;
	size_t n = 0;

	while ((next = edit_of(ms, h))) {
		for (size_t i = 0; i < n; i++)
			if (same_hash(way[i], next))
				return 0;
		way[n++] = h = next;
	}
	for (size_t i = 0; i < n; i++)
		if (v->has_base && same_hash(way[i], &v->base))
			return 0;
	return n;
}

static void
hide_ancestors(struct members *ms, const struct hash **way)
{
	for (size_t i = 0; i < ms->len; i++)
		ms->m[i].hidden = ms->m[i].v->made && way_of(ms, ms->m[i].v, way) > 0;
}

static bool
is_shown(const struct members *ms, const struct hash *h)
{
	for (size_t i = 0; i < ms->len; i++)
		if (!ms->m[i].hidden && same_hash(&ms->m[i].v->hash, h))
			return true;
	return false;
}

/* The content under which a member shows. */
static const struct hash *
shows_as(const struct members *ms, const struct member *m, const struct hash **way)
{
	size_t n;

	if (!m->hidden)
		return &m->v->hash;
	n = way_of(ms, m->v, way);
	for (size_t i = 0; i < n; i++)
		if (is_shown(ms, way[i]))
			return way[i];
	return &m->v->hash;
}

/* Fills out from the members of equal content, and those hidden behind them. */
static void
make_shown(struct state *s, const struct members *ms, const struct hash *key, const struct hash **as,
    struct obstack *o, struct shown *out)
{
	const struct member *leader = NULL, *free_one = NULL, *pin = NULL;
	const char *at, *label;
	size_t n = 0;

	*out = (struct shown){ 0 };
	for (size_t i = 0; i < ms->len; i++) {
		const struct member *m = &ms->m[i];

		n += same_hash(as[i], key);
		if (m->hidden || !same_hash(&m->v->hash, key))
			continue;
		leader = m;
		if (m->v->slot[0])
			pin = m;
		else
			free_one = m;
	}
	label = pin ? pin->v->slot : s->io.node_name(s->io.ctx, leader->v->dot.id);
	at = free_one ? "" : label;
	out->refs = obstack_alloc(o, n * sizeof(*out->refs));
	for (size_t i = 0; i < ms->len; i++) {
		const struct member *m = &ms->m[i];

		if (same_hash(as[i], key))
			out->refs[out->refs_len++] = (struct ref){ m->reg, m->v->dot };
		/* Only the slot that it shows itself in sets its attributes. */
		if (!m->hidden && same_hash(&m->v->hash, key) && strcmp(m->v->slot, at) == 0)
			attrs_merge(&out->attrs, &m->attrs);
	}
	out->leader_reg = leader->reg;
	out->leader = leader->v->dot;
	out->kind = leader->v->kind;
	out->hash = leader->v->hash;
	out->size = leader->v->size;
	out->hlc = (free_one ? free_one : leader)->v->hlc;
	out->rank = (free_one ? free_one : leader)->v->dot;
	out->main = free_one != NULL;
	out->pinned = pin != NULL;
	out->label = obstack_copy0(o, label, (int)strlen(label));
}

static size_t
make_all(struct state *s, const struct members *ms, struct obstack *o, struct shown **files)
{
	const struct hash **as = mem_resize(NULL, 2 * ms->len, sizeof(*as)), **way = as + ms->len;
	size_t n = 0;

	for (size_t i = 0; i < ms->len; i++)
		as[i] = &ms->m[i].v->hash;
	if (ms->len > 1) {
		struct members *mutable = (struct members *)(uintptr_t)ms;

		hide_ancestors(mutable, way);
		for (size_t i = 0; i < ms->len; i++)
			as[i] = shows_as(ms, &ms->m[i], way);
	}
	*files = obstack_alloc(o, ms->len * sizeof(**files));
	for (size_t i = 0; i < ms->len; i++) {
		bool first = !ms->m[i].hidden;

		for (size_t j = 0; j < i && first; j++)
			first = ms->m[j].hidden || !same_hash(&ms->m[j].v->hash, &ms->m[i].v->hash);
		if (first)
			make_shown(s, ms, &ms->m[i].v->hash, as, o, &(*files)[n++]);
	}
	free(as);
	return n;
}

/* ---- names ---- */

static int
compare_shown(const struct shown *a, const struct shown *b)
{
	if (a->hlc != b->hlc)
		return a->hlc < b->hlc ? -1 : 1;
	return dot_compare(a->rank, b->rank);
}

/* Pinned ones take their names first, then oldest first. */
static int
by_claim(const void *pa, const void *pb)
{
	const struct shown *a = pa, *b = pb;

	if (a->pinned != b->pinned)
		return a->pinned ? -1 : 1;
	return compare_shown(a, b);
}

/* Does a directory or a main file stand under that name? */
static bool
name_taken(struct state *s, const struct folder *f, const char *name, struct obstack *o)
{
	struct members ms;
	struct shown *files;
	bool taken = false;
	size_t n;

	for (size_t i = 0; i < f->len && !taken; i++)
		for (struct dir *d = state_at(s, f->ids[i], name); d && !taken; d = d->same_place)
			taken = state_stands(d);
	if (taken)
		return true;
	collect_members(s, f, name, &ms);
	n = ms.len ? make_all(s, &ms, o, &files) : 0;
	for (size_t i = 0; i < n; i++) {
		taken |= files[i].main;
		attrs_fini(&files[i].attrs);
	}
	members_fini(&ms);
	return taken;
}

static void
name_sibling(struct state *s, const struct folder *f, struct name_group *g, struct shown *e, struct obstack *o)
{
	char name[STATE_NAME_MAX + 1], slot[STATE_NAME_MAX + 1];
	bool taken;

	for (unsigned n = 1;; n++) {
		if (n == 1)
			snprintf(slot, sizeof(slot), "%s", e->label);
		else
			snprintf(slot, sizeof(slot), "%.200s-%u", e->label, n);
		state_sibling(g->name, slot, name);
		taken = false;
		for (struct shown *x = g->files; x < e && !taken; x++)
			taken = strcmp(x->name, name) == 0;
		if (!taken && !name_taken(s, f, name, o))
			break;
	}
	e->name = obstack_copy0(o, name, (int)strlen(name));
	e->slot = obstack_copy0(o, slot, (int)strlen(slot));
}

void
display_group(struct state *s, const struct folder *f, const char *name, struct obstack *o, struct name_group *out)
{
	struct members ms;
	struct shown *best = NULL;
	size_t siblings;

	*out = (struct name_group){ .name = obstack_copy0(o, name, (int)strlen(name)) };
	collect_dirs(s, f, name, NULL, o, &out->dirs);
	collect_members(s, f, name, &ms);
	if (ms.len)
		out->len = make_all(s, &ms, o, &out->files);
	members_fini(&ms);
	for (size_t i = 0; i < out->len && !out->dirs.len; i++)
		if (out->files[i].main && (!best || compare_shown(&out->files[i], best) > 0))
			best = &out->files[i];
	if (best) {
		struct shown top = *best;

		top.name = (char *)(uintptr_t)out->name;
		top.slot = obstack_copy0(o, "", 0);
		*best = out->files[0];
		out->files[0] = top;
	}
	siblings = best ? 1 : 0;
	if (out->len > siblings + 1)
		qsort(out->files + siblings, out->len - siblings, sizeof(*out->files), by_claim);
	for (size_t i = siblings; i < out->len; i++)
		name_sibling(s, f, out, &out->files[i], o);
}

void
group_fini(struct name_group *g)
{
	for (size_t i = 0; i < g->len; i++)
		attrs_fini(&g->files[i].attrs);
	g->len = 0;
}

/* ---- finding by shown name ---- */

void
display_bases(struct state *s, const struct folder *f, const char *name, void (*fn)(void *arg, const char *base),
    void *arg)
{
	char base[STATE_NAME_MAX + 1];
	const char *end = NULL;
	size_t len;

	for (const char *p = name; (p = strstr(p, STATE_SEP)); p++)
		end = p;
	if (!end || end == name)
		return;
	len = (size_t)(end - name);
	memcpy(base, name, len);
	base[len] = '\0';
	fn(arg, base);
	/* One cut short ends in ~ and a hash: among the names in conflict here. */
	if (len > 9 && base[len - 9] == '~' && s->io.conflicts)
		for (size_t i = 0; i < f->len; i++)
			s->io.conflicts(s->io.ctx, f->ids[i], fn, arg);
}

struct search {
	struct state *s;
	const struct folder *f;
	const char *name;
	struct obstack *o;
	struct name_group *out;
	struct shown *found;
};

static void
search_base(void *arg, const char *base)
{
	struct search *q = arg;
	struct name_group g;

	if (q->found)
		return;
	display_group(q->s, q->f, base, q->o, &g);
	for (size_t i = 0; i < g.len && !q->found; i++)
		if (strcmp(g.files[i].name, q->name) == 0)
			q->found = &g.files[i];
	if (q->found) {
		group_fini(q->out);
		*q->out = g;
	} else {
		group_fini(&g);
	}
}

void
display_find(struct state *s, const struct folder *f, const char *name, struct obstack *o, struct name_group *out,
    struct shown **file)
{
	struct search q = { s, f, name, o, out, NULL };

	display_group(s, f, name, o, out);
	*file = NULL;
	if (out->dirs.len)
		return;
	if (out->len && !out->files[0].slot[0]) {
		*file = &out->files[0];
		return;
	}
	display_bases(s, f, name, search_base, &q);
	*file = q.found;
}
