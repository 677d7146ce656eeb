/*
 * Where directories show: each at the place that its newest move names, several at
 * one place as one folder, a removed one for as long as something stands in it.
 * Concurrent moves may make a ring, of which no part would hang from the root: then
 * the newest of them does not count.
 */
#include "config.h"

#include "replication/state_impl.h"

#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "replication/mem.h"

/* Directories that show at one place. */
struct place_node {
	UT_hash_handle hh;
	struct dir *first;
	uint32_t standing;	/* how many of them are counted */
	uint32_t key_len;
	uint8_t key[];		/* number of the parent (8 bytes), name */
};

/* ---- what stands ---- */

bool
state_stands(const struct dir *d)
{
	return !d->at.up || dir_is_live(d) || d->files || d->standing;
}

void
state_recount(struct state *s, struct dir *d)
{
	while (d->at.up && state_stands(d) != d->counted) {
		d->counted = !d->counted;
		d->at.up->standing += d->counted ? 1 : UINT32_MAX;
		d->shows->standing += d->counted ? 1 : UINT32_MAX;
		state_touch_dir(s, d);
		d = d->at.up;
	}
}

/* ---- placing one ---- */

static struct place_node *
place_node(const struct state *s, const struct dir *up, const char *name)
{
	size_t len = 8 + strlen(name);
	uint8_t key[8 + STATE_NAME_MAX];
	struct place_node *p;

	if (len > sizeof(key))
		return NULL;
	memcpy(key, &up->num, 8);
	memcpy(key + 8, name, len - 8);
	HASH_FIND(hh, s->places, key, len, p);
	return p;
}

struct dir *
state_at(const struct state *s, const struct dir *up, const char *name)
{
	struct place_node *p = place_node(s, up, name);

	return p ? p->first : NULL;
}

void
state_unlink_dir(struct state *s, struct dir *d)
{
	struct place_node *p;

	if (!d->at.up)
		return;
	if (d->counted) {
		d->counted = false;
		d->at.up->standing--;
		d->shows->standing--;
		state_recount(s, d->at.up);
	}
	DL_DELETE(d->at.up->children, d);
	p = d->shows;
	d->shows = NULL;
	LL_DELETE2(p->first, d, same_place);
	if (!p->first) {
		HASH_DEL(s->places, p);
		free(p);
	}
	free(d->at.name);
	d->at = (struct place){ NULL, NULL };
}

static void
link_dir(struct state *s, struct dir *d, struct place at)
{
	size_t len = strlen(at.name);
	struct place_node *p = place_node(s, at.up, at.name);

	d->at = (struct place){ at.up, mem_str(at.name) };
	DL_APPEND(at.up->children, d);
	if (!p) {
		p = mem_alloc(sizeof(*p) + 8 + len);
		p->key_len = (uint32_t)(8 + len);
		memcpy(p->key, &at.up->num, 8);
		memcpy(p->key + 8, at.name, len);
		HASH_ADD(hh, s->places, key, p->key_len, p);
	}
	LL_APPEND2(p->first, d, same_place);
	d->shows = p;
	state_recount(s, d);
}

struct dir *
state_shared(const struct dir *d)
{
	const struct dir *top = NULL;

	for (; d->at.up; d = d->at.up)
		if (d->shows->standing > d->counted)
			top = d;
	return (struct dir *)(uintptr_t)top;
}

static bool
same_place(struct place a, struct place b)
{
	return a.up == b.up && a.up && strcmp(a.name, b.name) == 0;
}

/* Would d, shown in up, hang from itself? */
static bool
closes_ring(const struct dir *d, const struct dir *up)
{
	for (; up; up = up->at.up)
		if (up == d)
			return true;
	return false;
}

void
state_relocate(struct state *s, struct dir *d)
{
	struct place to = dir_place(d);

	if (d == s->root)
		return;
	if (s->displaced || closes_ring(d, to.up)) {
		state_rebuild(s);
	} else if (!same_place(d->at, to)) {
		state_unlink_dir(s, d);
		link_dir(s, d, to);
	}
	state_recount(s, d);
}

void
state_free_places(struct state *s)
{
	struct place_node *p, *tmp;

	HASH_ITER(hh, s->places, p, tmp) {
		HASH_DEL(s->places, p);
		free(p);
	}
}

/* ---- rings ---- */

/* By their newest move; of one stamp by identity, so that all agree. */
static int
compare_since(const struct dir *a, const struct dir *b)
{
	int order = stamp_compare(dir_since(a), dir_since(b));

	return order ? order : memcmp(a->id.b, b->id.b, sizeof(a->id.b));
}

static int
by_since(const void *a, const void *b)
{
	return compare_since(*(struct dir *const *)a, *(struct dir *const *)b);
}

/* The newest move of the ring that d's way up runs into, if it is a new one. */
static struct dir *
find_ring(struct state *s, struct dir *d, uint32_t mark)
{
	struct dir *x = d, *newest;

	for (; x != s->root && !x->mark; x = x->want.up)
		x->mark = mark;
	if (x == s->root || x->mark != mark)
		return NULL;
	newest = x;
	for (struct dir *y = x->want.up; y != x; y = y->want.up)
		if (compare_since(y, newest) > 0)
			newest = y;
	return newest;
}

static bool
in_ring(const struct state *s, const struct dir *d)
{
	const struct dir *x = d->want.up;

	/* A ring elsewhere above is not ours: bound the walk. */
	for (unsigned n = HASH_COUNT(s->dirs); n && x != s->root; n--, x = x->want.up)
		if (x == d)
			return true;
	return false;
}

/*
 * Opens the rings: the newest move of each does not count; what hangs in a
 * ring even so shows in the root.
 */
static void
open_rings(struct state *s, struct dir_list *broken)
{
	if (broken->len)
		qsort(broken->d, broken->len, sizeof(*broken->d), by_since);
	for (size_t i = 0; i < broken->len; i++)
		broken->d[i]->mark = 0;
	for (size_t i = 0; i < broken->len; i++) {
		struct dir *d = broken->d[i];
		struct place back = dir_move(d)->from;
		char name[STATE_NAME_MAX + 1];

		free(d->want.name);
		d->want = (struct place){ back.up, mem_str(back.name) };
		if (!in_ring(s, d))
			continue;
		free(d->want.name);
		d->want.up = s->root;
		state_sibling(dir_place(d).name, s->io.node_name(s->io.ctx, dir_since(d).id), name);
		d->want.name = mem_str(name);
	}
}

void
state_rebuild(struct state *s)
{
	struct dir_list broken = { 0 };
	struct dir *d, *tmp, *newest;
	uint32_t mark = 0;

	HASH_ITER(hh, s->dirs, d, tmp) {
		struct place p = dir_place(d);

		d->mark = 0;
		if (d != s->root)
			d->want = (struct place){ p.up, mem_str(p.name) };
	}
	HASH_ITER(hh, s->dirs, d, tmp)
		if (d != s->root && (newest = find_ring(s, d, ++mark)))
			LIST_ADD(&broken, d, newest);
	open_rings(s, &broken);
	s->displaced = 0;
	HASH_ITER(hh, s->dirs, d, tmp) {
		if (d == s->root)
			continue;
		if (!same_place(d->want, dir_place(d)))
			s->displaced++;
		if (!same_place(d->want, d->at))
			state_unlink_dir(s, d);
	}
	/* All that change have left: no ring can show in between. */
	HASH_ITER(hh, s->dirs, d, tmp) {
		if (d == s->root)
			continue;
		if (!d->at.up) {
			link_dir(s, d, d->want);
			state_touch_dir(s, d);
		}
		free(d->want.name);
		d->want = (struct place){ NULL, NULL };
	}
	free(broken.d);
}
