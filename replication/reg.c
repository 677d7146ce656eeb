/*
 * Registers and their join (a dotted version vector set).
 */
#include "config.h"

#include "replication/reg.h"

#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"

int
hash_compare(const struct hash *a, const struct hash *b)
{
	return memcmp(a->b, b->b, sizeof(a->b));
}

static void
version_copy(struct version *out, const struct version *v)
{
	*out = *v;
	out->slot = mem_str(v->slot);
	out->attrs = attrs_copy(&v->attrs);
}

void
version_fini(struct version *v)
{
	free(v->slot);
	attrs_fini(&v->attrs);
}

struct version *
regval_find(const struct regval *r, struct dot d)
{
	for (uint32_t i = 0; i < r->len; i++)
		if (dot_equal(r->v[i].dot, d))
			return &r->v[i];
	return NULL;
}

bool
regval_has(const struct regval *r, const struct hash *h)
{
	for (uint32_t i = 0; i < r->len; i++)
		if (hash_compare(&r->v[i].hash, h) == 0)
			return true;
	return false;
}

struct version *
regval_add(struct regval *r, struct version *v)
{
	uint32_t i = 0;

	r->v = mem_resize(r->v, r->len + 1, sizeof(*r->v));
	while (i < r->len && dot_compare(r->v[i].dot, v->dot) < 0)
		i++;
	memmove(r->v + i + 1, r->v + i, (r->len - i) * sizeof(*r->v));
	r->v[i] = *v;
	r->len++;
	return &r->v[i];
}

bool
regval_remove(struct regval *r, struct dot d)
{
	struct version *v = regval_find(r, d);

	if (!v)
		return false;
	version_fini(v);
	memmove(v, v + 1, (size_t)(r->v + r->len - (v + 1)) * sizeof(*v));
	r->len--;
	return true;
}

const struct attrs *
regval_slot_find(const struct regval *r, const char *slot)
{
	for (uint32_t i = 0; i < r->slots_len; i++)
		if (strcmp(r->slots[i].slot, slot) == 0)
			return &r->slots[i].attrs;
	return NULL;
}

struct attrs *
regval_slot(struct regval *r, const char *slot)
{
	uint32_t i = 0;
	int order = 1;

	while (i < r->slots_len && (order = strcmp(r->slots[i].slot, slot)) < 0)
		i++;
	if (i == r->slots_len || order != 0) {
		r->slots = mem_resize(r->slots, r->slots_len + 1, sizeof(*r->slots));
		memmove(r->slots + i + 1, r->slots + i, (r->slots_len - i) * sizeof(*r->slots));
		r->slots_len++;
		r->slots[i] = (struct slot_attrs){ mem_str(slot), { 0 } };
	}
	return &r->slots[i].attrs;
}

struct attrs
regval_attrs_of(const struct regval *r, const struct version *v)
{
	struct attrs out = attrs_copy(&v->attrs);
	const struct attrs *later = regval_slot_find(r, v->slot);
	const struct cell *bare = attrs_find(&v->attrs, ATTRS_BARE);
	uint64_t since = v->made ? v->hlc : bare ? bare->at.hlc : 0;

	for (uint32_t i = 0; later && i < later->len; i++) {
		const struct cell *c = &later->c[i];

		if (!cell_is_extended(c) || c->at.hlc > since || attrs_find(&v->attrs, c->key))
			attrs_merge_cell(&out, c);
	}
	return out;
}

/* Two replicas may hold one version with a label or attributes set since. */
static void
join_version(struct version *mine, const struct version *theirs)
{
	/* One of them may know it only by the mark on its file. */
	if (!mine->slot_at.hlc && theirs->hlc != mine->hlc && (theirs->slot_at.hlc || theirs->hlc > mine->hlc)) {
		mine->hlc = theirs->hlc;
		mine->made = theirs->made;
		mine->has_base = theirs->has_base;
		mine->base = theirs->base;
	}
	if (stamp_compare(theirs->slot_at, mine->slot_at) > 0) {
		free(mine->slot);
		mine->slot = mem_str(theirs->slot);
		mine->slot_at = theirs->slot_at;
	}
	attrs_merge(&mine->attrs, &theirs->attrs);
}

void
regval_join(struct regval *mine, const struct regval *theirs, const struct vv *my_know, const struct vv *their_know)
{
	struct version copy;

	for (uint32_t i = mine->len; i-- > 0;) {
		struct version *v = &mine->v[i];
		const struct version *other = regval_find(theirs, v->dot);

		if (other)
			join_version(v, other);
		else if (vv_covers(&theirs->ctx, v->dot) || (their_know && vv_covers(their_know, v->dot)))
			regval_remove(mine, v->dot);
	}
	for (uint32_t i = 0; i < theirs->len; i++) {
		const struct version *v = &theirs->v[i];

		if (regval_find(mine, v->dot) || vv_covers(&mine->ctx, v->dot) ||
		    (my_know && vv_covers(my_know, v->dot)))
			continue;
		version_copy(&copy, v);
		regval_add(mine, &copy);
	}
	for (uint32_t i = 0; i < theirs->slots_len; i++)
		attrs_merge(regval_slot(mine, theirs->slots[i].slot), &theirs->slots[i].attrs);
	vv_join(&mine->ctx, &theirs->ctx);
}

void
regval_copy(struct regval *out, const struct regval *r)
{
	*out = (struct regval){ 0 };
	out->ctx = vv_copy(&r->ctx);
	if (r->len)
		out->v = mem_resize(NULL, r->len, sizeof(*out->v));
	out->len = r->len;
	for (uint32_t i = 0; i < r->len; i++)
		version_copy(&out->v[i], &r->v[i]);
	for (uint32_t i = 0; i < r->slots_len; i++)
		attrs_merge(regval_slot(out, r->slots[i].slot), &r->slots[i].attrs);
}

void
regval_fini(struct regval *r)
{
	vv_fini(&r->ctx);
	for (uint32_t i = 0; i < r->len; i++)
		version_fini(&r->v[i]);
	free(r->v);
	for (uint32_t i = 0; i < r->slots_len; i++) {
		free(r->slots[i].slot);
		attrs_fini(&r->slots[i].attrs);
	}
	free(r->slots);
	*r = (struct regval){ 0 };
}

static bool
attrs_equal(const struct attrs *a, const struct attrs *b)
{
	if (a->len != b->len)
		return false;
	for (uint32_t i = 0; i < a->len; i++)
		if (strcmp(a->c[i].key, b->c[i].key) != 0 || !cell_same_value(&a->c[i], &b->c[i]) ||
		    stamp_compare(a->c[i].at, b->c[i].at) != 0)
			return false;
	return true;
}

bool
regval_equal(const struct regval *a, const struct regval *b)
{
	if (vv_compare(&a->ctx, &b->ctx) != VV_EQUAL || a->len != b->len || a->slots_len != b->slots_len)
		return false;
	for (uint32_t i = 0; i < a->len; i++)
		if (!dot_equal(a->v[i].dot, b->v[i].dot) || strcmp(a->v[i].slot, b->v[i].slot) != 0 ||
		    stamp_compare(a->v[i].slot_at, b->v[i].slot_at) != 0 ||
		    !attrs_equal(&a->v[i].attrs, &b->v[i].attrs))
			return false;
	for (uint32_t i = 0; i < a->slots_len; i++)
		if (strcmp(a->slots[i].slot, b->slots[i].slot) != 0 ||
		    !attrs_equal(&a->slots[i].attrs, &b->slots[i].attrs))
			return false;
	return true;
}

uint64_t
regval_hlc(const struct regval *r)
{
	uint64_t hlc = 0, x;

	for (uint32_t i = 0; i < r->len; i++) {
		const struct version *v = &r->v[i];

		hlc = v->hlc > hlc ? v->hlc : hlc;
		hlc = v->slot_at.hlc > hlc ? v->slot_at.hlc : hlc;
		hlc = (x = attrs_hlc(&v->attrs)) > hlc ? x : hlc;
	}
	for (uint32_t i = 0; i < r->slots_len; i++)
		hlc = (x = attrs_hlc(&r->slots[i].attrs)) > hlc ? x : hlc;
	return hlc;
}

struct reg_file *
reg_file_find(struct reg *r, const char *name)
{
	for (uint32_t i = 0; i < r->files_len; i++)
		if (strcmp(r->files[i].name, name) == 0)
			return &r->files[i];
	return NULL;
}

void
reg_file_set(struct reg *r, const char *name, const struct hash *hash, const struct file_stamp *stamp)
{
	struct reg_file *f = reg_file_find(r, name);

	if (!f) {
		r->files = mem_resize(r->files, r->files_len + 1, sizeof(*r->files));
		f = &r->files[r->files_len++];
		f->name = mem_str(name);
	}
	f->hash = *hash;
	f->stamp = *stamp;
}

void
reg_file_forget(struct reg *r, const char *name)
{
	struct reg_file *f = reg_file_find(r, name);

	if (!f)
		return;
	free(f->name);
	*f = r->files[--r->files_len];
}

struct reg *
reg_new(struct dir *dir, uint64_t dir_num, const char *name)
{
	struct reg *r = mem_alloc(sizeof(*r));
	size_t len = strlen(name);

	r->dir = dir;
	r->key_len = (uint32_t)(8 + len);
	r->key = mem_alloc(8 + len + 1);
	memcpy(r->key, &dir_num, 8);
	memcpy(r->key + 8, name, len + 1);
	return r;
}

void
reg_free(struct reg *r)
{
	if (!r)
		return;
	regval_fini(&r->shown);
	if (r->pending) {
		regval_fini(r->pending);
		free(r->pending);
	}
	while (r->files_len)
		free(r->files[--r->files_len].name);
	free(r->files);
	free(r->key);
	free(r);
}
