/*
 * The tables of a replica, and what follows from each change of a register or a
 * directory: sequence numbers, lists of what changed, counts of what stands.
 */
#include "config.h"

#include "replication/state_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "replication/mem.h"

struct state *
state_new(uint64_t self, const struct state_io *io)
{
	static const struct identity root;
	struct state *s = mem_alloc(sizeof(*s));

	s->io = *io;
	s->self = self;
	s->next_num = 1;
	s->root = state_dir_load(s, &root, 1);
	s->root->told = DIR_TOLD;
	return s;
}

static void
dir_free(struct dir *d)
{
	free(d->birth.name);
	free(d->at.name);
	free(d->names);
	dirval_fini(&d->val);
	free(d);
}

void
state_free(struct state *s)
{
	struct reg *r, *rtmp;
	struct dir *d, *dtmp;

	if (!s)
		return;
	HASH_ITER(hh, s->regs, r, rtmp) {
		HASH_DEL(s->regs, r);
		reg_free(r);
	}
	state_free_places(s);
	HASH_ITER(hh, s->dirs, d, dtmp) {
		HASH_DEL(s->dirs, d);
		dir_free(d);
	}
	free(s->by_num);
	free(s->removed.d);
	free(s->dirty_regs.r);
	free(s->touched_regs.r);
	free(s->dirty_dirs.d);
	free(s->touched_dirs.d);
	vv_fini(&s->know);
	vv_fini(&s->seen);
	lineage_fini(&s->lineage);
	vv_fini(&s->forgot);
	free(s);
}

/* ---- events ---- */

struct dot
state_event(struct state *s, struct vv *ctx)
{
	struct dot d = { s->self, ++s->counter };

	if (s->io.token && !s->block_left)
		state_take_block(s);
	if (s->block_left)
		s->block_left--;
	vv_raise(ctx, d);
	vv_raise(&s->know, d);
	return d;
}

struct stamp
state_stamp(struct state *s)
{
	s->hlc = s->now > s->hlc + 1 ? s->now : s->hlc + 1;
	return (struct stamp){ s->hlc, s->self };
}

void
state_saw(struct state *s, uint64_t hlc)
{
	if (hlc > s->hlc)
		s->hlc = hlc;
}

/* ---- registers ---- */

/* The one that is loaded, if any. */
static struct reg *
loaded_reg(const struct state *s, const struct dir *d, const char *name, size_t len)
{
	uint8_t key[8 + STATE_NAME_MAX];
	struct reg *r;

	memcpy(key, &d->num, 8);
	memcpy(key + 8, name, len);
	HASH_FIND(hh, s->regs, key, 8 + len, r);
	return r;
}

struct reg *
state_reg(struct state *s, struct dir *d, const char *name, bool make)
{
	size_t len = strlen(name);
	struct reg *r, *fresh;

	assert(len <= STATE_NAME_MAX || !make);
	if (len > STATE_NAME_MAX)
		return NULL;
	if ((r = loaded_reg(s, d, name, len)) || (!make && !s->io.load))
		return r;
	fresh = reg_new(d, d->num, name);
	if (!(s->io.load && s->io.load(s->io.ctx, fresh)) && !make) {
		reg_free(fresh);
		return NULL;
	}
	fresh->counted = fresh->shown.len > 0;
	HASH_ADD_KEYPTR(hh, s->regs, fresh->key, fresh->key_len, fresh);
	return fresh;
}

struct reg *
state_reg_in(struct state *s, uint64_t dir_num, const char *name)
{
	struct dir *d = state_dir_num(s, dir_num);

	return d ? state_reg(s, d, name, false) : NULL;
}

void
state_touch_reg(struct state *s, struct reg *r)
{
	if (r->touched)
		return;
	r->touched = true;
	LIST_ADD(&s->touched_regs, r, r);
}

void
state_touch_dir(struct state *s, struct dir *d)
{
	if (d->touched)
		return;
	d->touched = true;
	LIST_ADD(&s->touched_dirs, d, d);
}

void
state_reg_noted(struct state *s, struct reg *r)
{
	if (r->dirty)
		return;
	r->dirty = true;
	LIST_ADD(&s->dirty_regs, r, r);
}

void
state_dir_noted(struct state *s, struct dir *d)
{
	if (d->dirty)
		return;
	d->dirty = true;
	LIST_ADD(&s->dirty_dirs, d, d);
}

static void
drop_pending(struct reg *r)
{
	regval_fini(r->pending);
	free(r->pending);
	r->pending = NULL;
}

void
state_reg_changed(struct state *s, struct reg *r)
{
	bool live = r->shown.len > 0;

	if (r->pending) {
		/* Contexts alone decide here: our knowledge covers both values. */
		regval_join(r->pending, &r->shown, NULL, NULL);
		if (regval_equal(r->pending, &r->shown))
			drop_pending(r);
	}
	r->seq = ++s->seq;
	r->from = 0;
	state_reg_noted(s, r);
	state_touch_reg(s, r);
	if (live != r->counted) {
		r->counted = live;
		r->dir->files += live ? 1 : UINT32_MAX;
		state_recount(s, r->dir);
	}
}

void
state_reg_show(struct state *s, struct reg *r)
{
	uint64_t seq = r->seq, from = r->from;

	if (!r->pending)
		return;
	regval_fini(&r->shown);
	r->shown = *r->pending;
	free(r->pending);
	r->pending = NULL;
	state_reg_changed(s, r);
	r->seq = seq;		/* peers were told of it when it was pending */
	r->from = from;
}

/* ---- directories ---- */

struct dir *
state_dir(struct state *s, const struct identity *id)
{
	struct dir *d;

	HASH_FIND(hh, s->dirs, id, sizeof(*id), d);
	return d;
}

struct dir *
state_dir_load(struct state *s, const struct identity *id, uint64_t num)
{
	struct dir *d = mem_alloc(sizeof(*d));

	d->id = *id;
	d->num = num;
	if (num >= s->next_num)
		s->next_num = num + 1;
	HASH_ADD(hh, s->dirs, id, sizeof(d->id), d);
	if (num >= s->by_num_len) {
		size_t len = num + num / 2 + 16;

		s->by_num = mem_resize(s->by_num, len, sizeof(*s->by_num));
		memset(s->by_num + s->by_num_len, 0, (len - s->by_num_len) * sizeof(*s->by_num));
		s->by_num_len = len;
	}
	s->by_num[num] = d;
	return d;
}

struct dir *
state_dir_num(const struct state *s, uint64_t num)
{
	return num < s->by_num_len ? s->by_num[num] : NULL;
}

struct dir *
state_dir_add(struct state *s, struct place birth, uint32_t k)
{
	struct identity id = identity_make(&birth.up->id, birth.name, k);
	struct dir *d = state_dir_load(s, &id, s->next_num);

	d->birth = (struct place){ birth.up, mem_str(birth.name) };
	d->birth_k = k;
	birth.up->named++;
	return d;
}

/* Who names whom: what is named cannot be dropped. */
static void
count_names(struct dir *d)
{
	uint32_t n = 0;

	for (struct dir **x = d->names; x && *x; x++)
		(*x)->named--;
	free(d->names);
	d->names = NULL;
	if (!d->val.moves_len)
		return;
	d->names = mem_resize(NULL, 2 * d->val.moves_len + 1, sizeof(*d->names));
	for (uint32_t i = 0; i < d->val.moves_len; i++) {
		d->names[n++] = d->val.moves[i].to.up;
		d->names[n++] = d->val.moves[i].from.up;
	}
	d->names[n] = NULL;
	for (struct dir **x = d->names; *x; x++)
		(*x)->named++;
}

static void
list_removed(struct state *s, struct dir *d)
{
	if (d->removed || dir_is_live(d) || d == s->root)
		return;
	d->removed = true;
	LIST_ADD(&s->removed, d, d);
}

void
state_dir_loaded(struct state *s, struct dir *d)
{
	d->birth.up->named++;
	count_names(d);
	list_removed(s, d);
	state_order(s, d);
	state_set_told(s, d, d->told);
	s->untold_moved |= d->told != DIR_TOLD && d->val.moves_len > 0;
}

void
state_drop_reg(struct state *s, struct reg *r)
{
	HASH_DEL(s->regs, r);
	reg_free(r);
}

void
state_drop_dirs(struct state *s, struct dir *const *list, size_t n)
{
	size_t left = 0;

	/* They may name each other: none goes before all are let go. */
	for (size_t i = 0; i < n; i++) {
		struct dir *d = list[i];

		state_unlink_dir(s, d);
		d->birth.up->named--;
		for (struct dir **x = d->names; x && *x; x++)
			(*x)->named--;
		d->removed = false;
		state_order_drop(s, d);
	}
	for (size_t i = 0; i < s->removed.len; i++)
		if (s->removed.d[i]->removed)
			s->removed.d[left++] = s->removed.d[i];
	s->removed.len = left;
	for (size_t i = 0; i < n; i++) {
		HASH_DEL(s->dirs, list[i]);
		s->by_num[list[i]->num] = NULL;
		dir_free(list[i]);
	}
	if (n && s->displaced)
		state_rebuild(s);
}

void
state_dir_changed(struct state *s, struct dir *d)
{
	count_names(d);
	list_removed(s, d);
	d->seq = ++s->seq;
	state_order(s, d);
	d->from = 0;
	state_dir_noted(s, d);
	state_touch_dir(s, d);
	state_relocate(s, d);
}

uint32_t
state_free_number(struct state *s, struct place at, bool reuse_removed)
{
	for (uint32_t k = 0;; k++) {
		struct identity id = identity_make(&at.up->id, at.name, k);
		struct dir *d = state_dir(s, &id);

		if (!d || (reuse_removed && !dir_is_live(d) && !d->val.moves_len))
			return k;
	}
}

static int
by_birth(const void *a, const void *b)
{
	const struct dir *x = *(struct dir *const *)a, *y = *(struct dir *const *)b;
	int order = strcmp(x->birth.name, y->birth.name);

	return order ? order : (x->birth_k > y->birth_k) - (x->birth_k < y->birth_k);
}

void
state_take_identity(struct state *s, struct dir *d, struct place birth, uint32_t k)
{
	struct dir_list made = { 0 };
	char *name = mem_str(birth.name);
	struct dir *c;

	HASH_DEL(s->dirs, d);
	d->id = identity_make(&birth.up->id, name, k);
	free(d->birth.name);
	d->birth.up->named--;
	birth.up->named++;
	d->birth = (struct place){ birth.up, name };
	d->birth_k = k;
	HASH_ADD(hh, s->dirs, id, sizeof(d->id), d);
	state_event(s, &d->val.ctx);
	state_dir_changed(s, d);
	/* Those made in it stand in it, unless they were moved before being told. */
	if (s->untold_moved) {
		DL_FOREACH2(s->untold, c, new_next)
			if (c->birth.up == d)
				LIST_ADD(&made, d, c);
	} else {
		DL_FOREACH(d->children, c)
			if (c->told != DIR_TOLD && c->birth.up == d)
				LIST_ADD(&made, d, c);
	}
	if (made.len)
		qsort(made.d, made.len, sizeof(*made.d), by_birth);
	for (size_t i = 0; i < made.len; i++) {
		struct place at = { d, made.d[i]->birth.name };

		state_take_identity(s, made.d[i], at, state_free_number(s, at, false));
	}
	free(made.d);
}

void
state_trim(struct state *s, size_t keep)
{
	struct reg *r, *tmp;

	if (HASH_COUNT(s->regs) <= keep)
		return;
	HASH_ITER(hh, s->regs, r, tmp) {
		if (HASH_COUNT(s->regs) <= keep)
			return;
		if (r->dirty || r->touched || r->deferred || r->again || r->held)
			continue;
		HASH_DEL(s->regs, r);
		reg_free(r);
	}
}
