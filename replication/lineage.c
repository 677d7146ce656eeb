/*
 * Blocks of numbers, and which of them lost.
 */
#include "config.h"

#include "replication/lineage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"

void
lineage_fini(struct lineage *x)
{
	struct block *b, *tmp;

	HASH_ITER(hh, x->blocks, b, tmp) {
		HASH_DEL(x->blocks, b);
		free(b);
	}
	*x = (struct lineage){ 0 };
}

struct block *
lineage_find(const struct lineage *x, uint64_t token)
{
	struct block *b;

	HASH_FIND(hh, x->blocks, &token, sizeof(token), b);
	return b;
}

int
lineage_learn(struct lineage *x, uint64_t token, uint64_t parent, uint64_t start)
{
	struct block *b = lineage_find(x, token), *up = parent ? lineage_find(x, parent) : NULL;

	if (b)
		return b->parent == parent && b->start == start ? 0 : -EBADMSG;
	if (!token || start > INT64_MAX || (parent ? !up || start <= up->start : start != 0))
		return -EBADMSG;
	if (HASH_COUNT(x->blocks) >= LINEAGE_MAX)
		return -ENOSPC;
	b = mem_alloc(sizeof(*b));
	b->token = token;
	b->parent = parent;
	b->start = b->last = start;
	b->dirty = x->dirty = x->unsettled = true;
	HASH_ADD(hh, x->blocks, token, sizeof(b->token), b);
	b->order = ++x->learnt;
	return 0;
}

int
lineage_load(struct lineage *x, uint64_t token, uint64_t parent, uint64_t start, uint64_t last, uint64_t id)
{
	int rc = lineage_find(x, token) ? -EBADMSG : lineage_learn(x, token, parent, start);
	struct block *b = lineage_find(x, token);

	if (rc < 0)
		return rc;
	b->last = last;
	b->id = id;
	b->dirty = x->dirty = false;
	return 0;
}

static void
reach(struct lineage *x, struct block *b, uint64_t last)
{
	if (b->last >= last)
		return;
	b->last = last;
	b->dirty = x->dirty = x->unsettled = true;
}

void
lineage_reach(struct lineage *x, uint64_t token, uint64_t last)
{
	struct block *b = lineage_find(x, token);

	if (b)
		reach(x, b, last);
}

struct block *
lineage_at(const struct lineage *x, uint64_t id, uint64_t n)
{
	struct block *found = NULL;

	for (struct block *b = x->blocks; b; b = b->hh.next)
		if (b->id == id && b->start <= n && (!found || b->start > found->start))
			found = b;
	return found;
}

struct block *
lineage_tip(const struct lineage *x, uint64_t id)
{
	return lineage_at(x, id, UINT64_MAX);
}

void
lineage_saw(struct lineage *x, const struct vv *seen)
{
	/* One pass: the last block of each incarnation that the number lies in. */
	struct block **at = mem_alloc((seen->len + 1) * sizeof(*at));

	for (struct block *b = x->blocks; b; b = b->hh.next)
		for (uint32_t i = 0; i < seen->len; i++)
			if (b->id == seen->e[i].id && b->start <= seen->e[i].n && (!at[i] || b->start > at[i]->start))
				at[i] = b;
	for (uint32_t i = 0; i < seen->len; i++)
		if (at[i])
			reach(x, at[i], seen->e[i].n);
	free(at);
}

/* ---- which blocks lose ---- */

static void
find_heirs(struct lineage *x)
{
	struct block *b, *up;

	for (b = x->blocks; b; b = b->hh.next) {
		b->reach = b->last;
		b->heir = 0;
		b->forked = false;
	}
	/* That one follows at a number says that all before it were given. */
	for (b = x->blocks; b; b = b->hh.next)
		if (b->parent && (up = lineage_find(x, b->parent)) && b->start - 1 > up->reach)
			up->reach = b->start - 1;
	for (b = x->blocks; b; b = b->hh.next) {
		up = b->parent ? lineage_find(x, b->parent) : NULL;
		if (up && b->start == up->reach + 1 && (!up->heir || b->token < up->heir))
			up->heir = b->token;
	}
}

static int
later_first(const void *a, const void *b)
{
	const struct relabel *x = a, *y = b;

	return (x->start < y->start) - (x->start > y->start);
}

struct relabel *
lineage_settle(struct lineage *x, size_t *n)
{
	struct relabel *out = NULL;

	*n = 0;
	if (!x->unsettled)
		return NULL;
	x->unsettled = false;
	find_heirs(x);
	/* Those followed come first, so their incarnation is settled. */
	for (struct block *b = x->blocks; b; b = b->hh.next) {
		struct block *up = b->parent ? lineage_find(x, b->parent) : NULL;
		uint64_t id = up && up->heir == b->token ? up->id : b->token;

		if (up && up->heir != b->token)
			up->forked = true;
		if (id == b->id)
			continue;
		if (b->id) {
			out = mem_resize(out, *n + 1, sizeof(*out));
			out[(*n)++] = (struct relabel){ b->id, b->start, id };
		}
		b->id = id;
		b->dirty = x->dirty = true;
	}
	if (*n)
		qsort(out, *n, sizeof(*out), later_first);
	return out;
}

/* ---- telling others ---- */

static int
by_place(const void *a, const void *b)
{
	const struct block *x = *(struct block *const *)a, *y = *(struct block *const *)b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return (x->start > y->start) - (x->start < y->start);
}

/* All, incarnation by incarnation, the last block of each last. */
static struct block **
sorted(const struct lineage *x, size_t *n)
{
	struct block **all = mem_alloc((HASH_COUNT(x->blocks) + 1) * sizeof(*all));

	*n = 0;
	for (struct block *b = x->blocks; b; b = b->hh.next)
		all[(*n)++] = b;
	qsort(all, *n, sizeof(*all), by_place);
	return all;
}

/* The end of the incarnation that stands at i. */
static size_t
end_of(struct block *const *all, size_t n, size_t i)
{
	uint64_t id = all[i]->id;

	while (i < n && all[i]->id == id)
		i++;
	return i;
}

uint64_t *
lineage_landmarks(const struct lineage *x, size_t *n)
{
	size_t len, end;
	struct block **all = sorted(x, &len);
	uint64_t *out = mem_alloc((len + 1) * sizeof(*out));

	*n = 0;
	for (size_t from = 0; from < len; from = end) {
		end = end_of(all, len, from);
		for (size_t back = 1; back <= end - from; back += back < 4 ? 1 : back)
			out[(*n)++] = all[end - back]->token;
	}
	free(all);
	return out;
}

static int
by_token(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

struct block **
lineage_lacking(const struct lineage *x, const uint64_t *marks, size_t marks_len, size_t *n)
{
	size_t len, end, out_len = 0;
	struct block **all = sorted(x, &len), **out = mem_alloc((len + 1) * sizeof(*out));
	uint64_t *known = mem_dup(marks, marks_len * sizeof(*marks));
	struct lineage picked = { 0 };

	if (marks_len)
		qsort(known, marks_len, sizeof(*known), by_token);
	for (size_t from = 0; from < len; from = end) {
		end = end_of(all, len, from);
		for (size_t i = end; i-- > from;) {
			if (marks_len && bsearch(&all[i]->token, known, marks_len, sizeof(*known), by_token))
				break;
			lineage_learn(&picked, all[i]->token, 0, 0);
		}
	}
	/* In the order in which we learnt of them. */
	for (struct block *b = x->blocks; b; b = b->hh.next)
		if (lineage_find(&picked, b->token))
			out[out_len++] = b;
	lineage_fini(&picked);
	free(known);
	free(all);
	*n = out_len;
	return out;
}

/* ---- applying what changed ---- */

struct dot
lineage_dot(struct dot d, const struct relabel *l, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (d.id == l[i].from && d.n >= l[i].start)
			return (struct dot){ l[i].to, d.n };
	return d;
}

static void
lower(struct vv *v, uint64_t id, uint64_t n)
{
	for (uint32_t i = 0; i < v->len; i++) {
		if (v->e[i].id != id || v->e[i].n <= n)
			continue;
		v->e[i].n = n;
		if (n == 0) {
			memmove(v->e + i, v->e + i + 1, (v->len - i - 1) * sizeof(*v->e));
			v->len--;
		}
		return;
	}
}

bool
lineage_vector(struct vv *v, const struct relabel *l, size_t n)
{
	bool changed = false;

	for (size_t i = 0; i < n; i++) {
		uint64_t had = vv_get(v, l[i].from);

		if (had < l[i].start)
			continue;
		lower(v, l[i].from, l[i].start - 1);
		vv_raise(v, (struct dot){ l[i].to, had });
		changed = true;
	}
	return changed;
}

bool
lineage_doubt(struct vv *v, const struct relabel *l, size_t n)
{
	bool changed = false;

	for (size_t i = 0; i < n; i++) {
		changed |= vv_get(v, l[i].from) >= l[i].start;
		lower(v, l[i].from, l[i].start - 1);
	}
	return changed;
}
