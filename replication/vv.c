/*
 * Version vectors as sorted arrays: a set has few members, so a binary search
 * over sixteen-byte entries beats any tree or hash.
 */
#include "config.h"

#include "replication/vv.h"

#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"

int
dot_compare(struct dot a, struct dot b)
{
	if (a.id != b.id)
		return a.id < b.id ? -1 : 1;
	return (a.n > b.n) - (a.n < b.n);
}

/* The position of id, or of the first entry after it. */
static uint32_t
position(const struct vv *v, uint64_t id)
{
	uint32_t low = 0, high = v->len;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (v->e[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

uint64_t
vv_get(const struct vv *v, uint64_t id)
{
	uint32_t i = position(v, id);

	return i < v->len && v->e[i].id == id ? v->e[i].n : 0;
}

bool
vv_covers(const struct vv *v, struct dot d)
{
	return vv_get(v, d.id) >= d.n;
}

bool
vv_dominates(const struct vv *a, const struct vv *b)
{
	for (uint32_t i = 0; i < b->len; i++)
		if (!vv_covers(a, b->e[i]))
			return false;
	return true;
}

enum vv_order
vv_compare(const struct vv *a, const struct vv *b)
{
	bool more = vv_dominates(a, b), less = vv_dominates(b, a);

	if (more && less)
		return VV_EQUAL;
	return more ? VV_AFTER : less ? VV_BEFORE : VV_CONCURRENT;
}

void
vv_raise(struct vv *v, struct dot d)
{
	uint32_t i = position(v, d.id);

	if (d.n == 0)
		return;
	if (i < v->len && v->e[i].id == d.id) {
		if (v->e[i].n < d.n)
			v->e[i].n = d.n;
		return;
	}
	if (v->len == v->cap) {
		v->cap = v->cap ? 2 * v->cap : 2;
		v->e = mem_resize(v->e, v->cap, sizeof(*v->e));
	}
	memmove(v->e + i + 1, v->e + i, (v->len - i) * sizeof(*v->e));
	v->e[i] = d;
	v->len++;
}

void
vv_join(struct vv *v, const struct vv *other)
{
	for (uint32_t i = 0; i < other->len; i++)
		vv_raise(v, other->e[i]);
}

struct vv
vv_copy(const struct vv *v)
{
	return (struct vv){ mem_dup(v->e, v->len * sizeof(*v->e)), v->len, v->len };
}

struct vv
vv_joined(const struct vv *a, const struct vv *b)
{
	struct vv out = vv_copy(a);

	vv_join(&out, b);
	return out;
}

void
vv_meet(struct vv *v, const struct vv *other)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < v->len; i++) {
		uint64_t most = vv_get(other, v->e[i].id);

		if (most)
			v->e[n++] = (struct dot){ v->e[i].id, v->e[i].n < most ? v->e[i].n : most };
	}
	v->len = n;
}

void
vv_clear(struct vv *v)
{
	v->len = 0;
}

void
vv_fini(struct vv *v)
{
	free(v->e);
	*v = (struct vv){ 0 };
}
