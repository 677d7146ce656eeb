/*
 * User operations on the state.
 *
 * Each follows one pattern: open a scope (what shows now under the names that
 * the operation could affect), change registers and directories, close the
 * scope (pin what shows elsewhere than before without having been touched).
 */
#include "config.h"

#include "replication/local.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"
#include "replication/scope.h"

/* ---- changes to registers ---- */

/* The registers of an entry follow each other in refs. */
static bool
first_of_reg(const struct shown *e, size_t i)
{
	for (size_t j = 0; j < i; j++)
		if (e->refs[j].reg == e->refs[i].reg)
			return false;
	return true;
}

/* Removes exactly what a name stands for; each register has an event of its own,
 * but for the one that already has. */
static void
drop(struct state *s, const struct shown *e, const struct reg *but)
{
	for (size_t i = 0; i < e->refs_len; i++)
		if (e->refs[i].reg != but && first_of_reg(e, i))
			state_event(s, &e->refs[i].reg->shown.ctx);
	for (size_t i = 0; i < e->refs_len; i++) {
		struct reg *r = e->refs[i].reg;

		if (!regval_remove(&r->shown, e->refs[i].dot))
			continue;
		r->has_last = true;
		r->last = e->hash;
	}
	for (size_t i = 0; i < e->refs_len; i++)
		if (e->refs[i].reg != but && first_of_reg(e, i))
			state_reg_changed(s, e->refs[i].reg);
}

/* What stands on disk, as cells: those that say what was said before keep their stamp. */
static struct attrs
carry_attrs(const struct attrs *now, const struct attrs *old, struct stamp at)
{
	struct attrs out = { 0 };

	for (uint32_t i = 0; i < now->len; i++) {
		const struct cell *c = &now->c[i], *before = old ? attrs_find(old, c->key) : NULL;

		attrs_set(&out, c->key, c->value, c->len, before && cell_same_value(before, c) ? before->at : at);
	}
	for (uint32_t i = 0; old && i < old->len; i++)
		if (!attrs_find(now, old->c[i].key))
			attrs_set(&out, old->c[i].key, NULL, 0, old->c[i].value ? at : old->c[i].at);
	return out;
}

/* Since when it has no extended attributes but those that it says. */
static struct stamp
bare_since(const struct shown *e)
{
	const struct version *v = regval_find(&e->leader_reg->shown, e->leader);
	const struct cell *c = attrs_find(&e->attrs, ATTRS_BARE);
	struct stamp made = v && v->made ? (struct stamp){ v->hlc, v->dot.id } : (struct stamp){ 0, 0 };

	return c && stamp_compare(c->at, made) > 0 ? c->at : made;
}

struct put {
	struct reg *reg;
	const char *slot;
	const struct shown *old;	/* what it replaces, or NULL */
	const struct local_file *file;
	const struct hash *base;	/* what it was edited from, or NULL */
	bool made;
	bool restamp;			/* attributes are set anew, as a rename does */
};

static void
put(struct state *s, const struct put *p)
{
	struct reg *r = p->reg;
	struct version v = { 0 };
	struct stamp bare;

	v.dot = state_event(s, &r->shown.ctx);
	v.slot_at = state_stamp(s);
	bare = p->old && !p->restamp ? bare_since(p->old) : v.slot_at;
	if (p->old)
		drop(s, p->old, r);
	v.slot = mem_str(p->slot);
	v.kind = p->file->kind;
	v.hash = p->file->hash;
	v.size = p->file->size;
	v.made = p->made;
	v.hlc = v.slot_at.hlc;
	v.has_base = p->base;
	if (v.has_base)
		v.base = *p->base;
	v.attrs = carry_attrs(&p->file->attrs, p->old && !p->restamp ? &p->old->attrs : NULL, v.slot_at);
	/* What is set on a slot outlives versions: it may be another file's, and its
	 * removal be forgotten here and not elsewhere. */
	if (!v.made && bare.hlc)
		attrs_set(&v.attrs, ATTRS_BARE, NULL, 0, bare);
	regval_add(&r->shown, &v);
	state_reg_changed(s, r);
}

/* What was removed here last counts as edited, unless it is back beside it. */
static const struct hash *
base_of_new(const struct reg *r, const struct name_group *g)
{
	for (size_t i = 0; i < g->len; i++)
		if (r->has_last && hash_compare(&g->files[i].hash, &r->last) == 0)
			return NULL;
	return r->has_last ? &r->last : NULL;
}

/* Writes file at a name that shows `e` (or nothing) in group g. */
static struct reg *
put_at(struct state *s, const struct folder *f, const char *name, const struct name_group *g, const struct shown *e,
    const struct local_file *file, bool restamp)
{
	struct put p = { .file = file, .old = e, .restamp = restamp };

	if (e) {
		p.reg = e->leader_reg;
		p.slot = e->slot;
		p.base = &e->hash;
	} else {
		p.reg = state_reg(s, f->ids[0], name, true);
		p.slot = "";
		p.base = base_of_new(p.reg, g);
		p.made = g->len == 0;
	}
	put(s, &p);
	return p.reg;
}

/* ---- files ---- */

int
local_write(struct state *s, struct dir *at, const char *name, const struct local_file *f, struct reg **out)
{
	struct scope sc;
	struct reg *r;
	struct spot spot;

	scope_open(&sc, s);
	scope_find(&sc, at, name, &spot);
	/* Where a directory came to stand meanwhile, it is a sibling beside it. */
	r = put_at(s, &spot.folder, name, &spot.group, spot.file, f, false);
	scope_pin(&sc);
	if (out)
		*out = r;
	scope_close(&sc);
	return 0;
}

struct reg *
local_write_beside(struct state *s, struct dir *at, const char *name, const char *slot, const struct local_file *f)
{
	struct put p = { .slot = slot, .file = f };
	struct scope sc;
	struct spot spot;

	scope_open(&sc, s);
	scope_find(&sc, at, name, &spot);
	p.reg = spot.file ? spot.file->leader_reg : state_reg(s, spot.folder.ids[0], name, true);
	for (uint32_t i = p.reg->shown.len; i-- > 0;)
		if (strcmp(p.reg->shown.v[i].slot, slot) == 0)
			regval_remove(&p.reg->shown, p.reg->shown.v[i].dot);
	put(s, &p);
	scope_pin(&sc);
	scope_close(&sc);
	return p.reg;
}

struct reg *
local_found(struct state *s, struct dir *d, const char *name, const struct local_file *f)
{
	struct put p = { .reg = state_reg(s, d, name, true), .slot = "", .file = f };

	p.made = !p.reg->shown.len;
	p.base = p.reg->has_last ? &p.reg->last : NULL;
	put(s, &p);
	return p.reg;
}

int
local_unlink(struct state *s, struct dir *at, const char *name)
{
	struct scope sc;
	struct spot spot;
	int rc = 0;

	scope_open(&sc, s);
	scope_find(&sc, at, name, &spot);
	if (!spot.file) {
		rc = spot.dirs.len ? -EISDIR : -ENOENT;
		goto out;
	}
	drop(s, spot.file, NULL);
	scope_pin(&sc);
out:
	scope_close(&sc);
	return rc;
}

static struct local_file
file_of(const struct shown *e)
{
	return (struct local_file){ e->kind, e->hash, e->size, e->attrs };
}

int
local_rename(struct state *s, struct dir *at, const char *name, struct dir *to, const char *to_name,
    const struct local_file *f, struct reg **out)
{
	struct scope sc;
	struct spot from, dest;
	struct local_file same;
	struct reg *r;
	int rc = 0;

	scope_open(&sc, s);
	scope_find(&sc, at, name, &from);
	scope_find(&sc, to, to_name, &dest);
	if (!from.file)
		rc = -ENOENT;
	else if (dest.dirs.len)
		rc = -EISDIR;
	else if (dest.file && dest.file->leader_reg == from.file->leader_reg &&
	    dot_equal(dest.file->leader, from.file->leader))
		rc = -EEXIST;
	if (rc < 0)
		goto out;
	same = file_of(from.file);
	r = put_at(s, &dest.folder, to_name, &dest.group, dest.file, f ? f : &same, true);
	drop(s, from.file, NULL);
	scope_pin(&sc);
	if (out)
		*out = r;
out:
	scope_close(&sc);
	return rc;
}

/* ---- directories ---- */

/* Its move that counts, also where that is none: then where it was made. */
static struct dir_move
counting_move(const struct dir *d)
{
	const struct dir_move *m = dir_move(d);

	return m ? *m : (struct dir_move){ .to = d->birth, .from = d->birth };
}

/* Stamps are taken for what there is only: others would put the versions that come
 * after it in another order than the reference model has. */
static void
without_extended(struct state *s, struct attrs *a)
{
	for (uint32_t i = 0; i < a->len; i++)
		if (a->c[i].value && cell_is_extended(&a->c[i]))
			attrs_set(a, a->c[i].key, NULL, 0, state_stamp(s));
}

static void
remove_dirs(struct state *s, const struct folder *f)
{
	for (size_t i = 0; i < f->len; i++) {
		struct dir *d = f->ids[i];
		struct dir_move m = counting_move(d);
		struct dot dot = state_event(s, &d->val.ctx);

		if (d->val.moves_len)
			dirval_set_move(&d->val, dot, m.to, m.from, m.at);	/* where it was removed */
		/* Who makes it anew may have forgotten them. */
		without_extended(s, &d->val.attrs);
		dirval_clear_live(&d->val);
		state_dir_changed(s, d);
	}
}

int
local_mkdir(struct state *s, struct dir *at, const char *name, uint32_t mode, enum dir_told told, struct dir **out)
{
	struct scope sc;
	struct spot spot;
	struct place birth;
	struct identity id;
	struct dir *d;
	struct dot dot;
	uint32_t k;
	int rc = 0;

	scope_open(&sc, s);
	scope_find(&sc, at, name, &spot);
	if (spot.file || spot.dirs.len) {
		rc = -EEXIST;
		goto out;
	}
	/* One that was removed there stands up again; one that was ever moved
	 * keeps its identity elsewhere. */
	birth = (struct place){ spot.folder.ids[0], (char *)(uintptr_t)name };
	k = state_free_number(s, birth, true);
	id = identity_make(&birth.up->id, name, k);
	d = state_dir(s, &id);
	if (!d) {
		d = state_dir_add(s, birth, k);
		state_set_told(s, d, told);
	}
	dot = state_event(s, &d->val.ctx);
	dirval_set_live(&d->val, dot);
	dirval_set_mode(&d->val, dot, mode);
	state_dir_changed(s, d);
	scope_pin(&sc);
	*out = d;
out:
	scope_close(&sc);
	return rc;
}

int
local_rmdir(struct state *s, struct dir *at, const char *name)
{
	struct scope sc;
	struct spot spot;
	int rc = 0;

	scope_open(&sc, s);
	scope_find(&sc, at, name, &spot);
	if (!spot.dirs.len) {
		rc = spot.file ? -ENOTDIR : -ENOENT;
		goto out;
	}
	remove_dirs(s, &spot.dirs);
	scope_pin(&sc);
out:
	scope_close(&sc);
	return rc;
}

/* Was x made in d, or in one that was, and so on? */
static bool
was_made_in(const struct dir *x, const struct dir *d)
{
	while (x && x != d)
		x = x->birth.up;
	return x;
}

static void
move_dirs(struct state *s, const struct folder *f, uint32_t mode, struct place to)
{
	for (size_t i = 0; i < f->len; i++) {
		struct dir *d = f->ids[i];

		/* One that changed places with something was moved, though nobody heard of it;
		 * one that goes into such cannot have been made there, if that was made in it. */
		if (d->told == DIR_MADE_HERE && !d->val.moves_len && !was_made_in(to.up, d))
			state_take_identity(s, d, to, state_free_number(s, to, false));
		else
			scope_touch_dir(s, d, true, mode, &to);
	}
}

/*
 * The directories that decide where d shows, d among them.
 */
static void
depends_on(struct dir *d, struct dir_list *out)
{
	for (size_t i = 0; i < out->len; i++)
		if (out->d[i] == d)
			return;
	if (!d->birth.up)
		return;
	out->d = mem_resize(out->d, out->len + 1, sizeof(*out->d));
	out->d[out->len++] = d;
	depends_on(counting_move(d).to.up, out);
	depends_on(counting_move(d).from.up, out);
}

static bool
decided_by(struct dir *d, const struct dir_list *moving)
{
	struct dir_list on = { 0 };
	bool found = false;

	depends_on(d, &on);
	for (size_t i = 0; i < on.len && !found; i++)
		for (size_t j = 0; j < moving->len && !found; j++)
			found = on.d[i] == moving->d[j];
	free(on.d);
	return found;
}

static bool
shows_above(struct state *s, struct dir *d, const struct folder *dest, struct obstack *o)
{
	struct folder up = *dest;

	for (;;) {
		for (size_t i = 0; i < up.len; i++)
			if (up.ids[i] == d)
				return true;
		if (!up.len || !up.ids[0]->at.up)
			return false;
		display_folder(s, up.ids[0]->at.up, o, &up);
	}
}

/*
 * Before a directory moves: one that shows out of a ring, if its place depends
 * on it or it shows above the target, stays where it shows.  No newer than the
 * move that it makes lasting, so that it overrides nobody's repair.
 */
static void
settle(struct state *s, const struct folder *src, const struct folder *dest, struct obstack *o)
{
	struct dir_list moving = { 0 }, odd = { 0 };
	struct dir *d, *tmp;
	bool again = true;

	if (!s->displaced)
		return;
	HASH_ITER(hh, s->dirs, d, tmp) {
		struct place p = dir_place(d);

		if (d == s->root || !state_stands(d) || (p.up == d->at.up && strcmp(p.name, d->at.name) == 0))
			continue;
		odd.d = mem_resize(odd.d, odd.len + 1, sizeof(*odd.d));
		odd.d[odd.len++] = d;
	}
	moving.d = mem_resize(NULL, src->len + odd.len, sizeof(*moving.d));
	memcpy(moving.d, src->ids, src->len * sizeof(*moving.d));
	moving.len = src->len;
	/* Where each shows now is remembered before the first one moves. */
	struct place *at = mem_resize(NULL, odd.len + 1, sizeof(*at));
	bool *above = mem_resize(NULL, odd.len + 1, sizeof(*above));

	for (size_t i = 0; i < odd.len; i++) {
		at[i] = (struct place){ odd.d[i]->at.up, mem_str(odd.d[i]->at.name) };
		above[i] = shows_above(s, odd.d[i], dest, o);
	}
	while (again) {
		again = false;
		for (size_t i = 0; i < odd.len && !again; i++) {
			struct dir_move m;
			struct dot dot;

			d = odd.d[i];
			if (!d || !(above[i] || decided_by(d, &moving)))
				continue;
			m = counting_move(d);
			dot = state_event(s, &d->val.ctx);
			dirval_set_move(&d->val, dot, at[i], at[i], m.at);
			if (dir_is_live(d))
				dirval_set_live(&d->val, dot);
			state_dir_changed(s, d);
			moving.d[moving.len++] = d;
			odd.d[i] = NULL;
			again = true;
		}
	}
	for (size_t i = 0; i < odd.len; i++)
		free(at[i].name);
	free(at);
	free(above);
	free(moving.d);
	free(odd.d);
}

int
local_move(struct state *s, struct dir *at, const char *name, struct dir *to, const char *to_name)
{
	struct scope sc;
	struct spot from, dest;
	struct place place;
	int rc = 0;

	scope_open(&sc, s);
	scope_find(&sc, at, name, &from);
	scope_find(&sc, to, to_name, &dest);
	if (!from.dirs.len)
		rc = -ENOENT;
	else if (dest.file)
		rc = -ENOTDIR;
	if (rc < 0)
		goto out;
	scope_moved(&sc, at, name, to, to_name);
	place = (struct place){ dest.folder.ids[0], (char *)(uintptr_t)to_name };
	uint32_t mode = display_folder_mode(&from.dirs);

	if (dest.dirs.len)
		remove_dirs(s, &dest.dirs);
	settle(s, &from.dirs, &dest.folder, &sc.o);
	move_dirs(s, &from.dirs, mode, place);
	scope_pin(&sc);
out:
	scope_close(&sc);
	return rc;
}

int
local_exchange(struct state *s, struct dir *at, const char *name, struct dir *to, const char *to_name)
{
	struct scope sc;
	struct spot a, b;
	struct local_file fa = { 0 }, fb = { 0 };
	int rc = 0;

	scope_open(&sc, s);
	scope_find(&sc, at, name, &a);
	scope_find(&sc, to, to_name, &b);
	if ((!a.file && !a.dirs.len) || (!b.file && !b.dirs.len)) {
		rc = -ENOENT;
		goto out;
	}
	settle(s, &a.dirs, &b.folder, &sc.o);
	settle(s, &b.dirs, &a.folder, &sc.o);
	if (a.file)
		fa = file_of(a.file);
	if (b.file)
		fb = file_of(b.file);
	if (a.file && b.file) {
		put_at(s, &b.folder, to_name, &b.group, b.file, &fa, true);
		put_at(s, &a.folder, name, &a.group, a.file, &fb, true);
	} else if (a.file) {
		put_at(s, &b.folder, to_name, &b.group, NULL, &fa, true);
		drop(s, a.file, NULL);
	} else if (b.file) {
		put_at(s, &a.folder, name, &a.group, NULL, &fb, true);
		drop(s, b.file, NULL);
	}
	if (a.dirs.len) {
		uint32_t mode = display_folder_mode(&a.dirs);

		for (size_t i = 0; i < a.dirs.len; i++)
			scope_touch_dir(s, a.dirs.ids[i], true, mode,
			    &(struct place){ b.folder.ids[0], (char *)(uintptr_t)to_name });
	}
	if (b.dirs.len) {
		uint32_t mode = display_folder_mode(&b.dirs);

		for (size_t i = 0; i < b.dirs.len; i++)
			scope_touch_dir(s, b.dirs.ids[i], true, mode,
			    &(struct place){ a.folder.ids[0], (char *)(uintptr_t)name });
	}
	scope_pin(&sc);
out:
	scope_close(&sc);
	return rc;
}

/* ---- attributes ---- */

static void
set_file_attrs(struct state *s, const struct name_group *g, const struct shown *e, const struct attrs *set)
{
	struct stamp at;

	/* Siblings still without a slot of their own would share in it. */
	for (size_t i = 0; i < g->len; i++) {
		const struct shown *x = &g->files[i];
		bool own = true;

		for (size_t j = 0; j < x->refs_len && own; j++) {
			const struct version *v = regval_find(&x->refs[j].reg->shown, x->refs[j].dot);

			own = v && strcmp(v->slot, x->slot) == 0;
		}
		if (x->slot[0] && !own)
			scope_pin_to(s, x);
	}
	at = state_stamp(s);
	for (size_t i = 0; i < e->refs_len; i++) {
		struct reg *r = e->refs[i].reg;
		struct version *v = regval_find(&r->shown, e->refs[i].dot);

		if (first_of_reg(e, i))
			state_event(s, &r->shown.ctx);
		for (uint32_t k = 0; k < set->len; k++) {
			const struct cell *c = &set->c[k];

			attrs_set(regval_slot(&r->shown, e->slot), c->key, c->value, c->len, at);
			if (v)
				attrs_set(&v->attrs, c->key, c->value, c->len, at);
		}
	}
	for (size_t i = 0; i < e->refs_len; i++)
		if (first_of_reg(e, i))
			state_reg_changed(s, e->refs[i].reg);
}

void
local_set_dir_attrs(struct state *s, const struct folder *f, const struct attrs *set)
{
	const struct cell *mode = attrs_find(set, "mode");
	uint32_t bits = attrs_mode(set, 0755);
	bool live = false;
	struct stamp at = { 0, 0 };

	for (size_t i = 0; i < f->len; i++)
		live |= dir_is_live(f->ids[i]);
	if (mode && !live && f->ids[0] != s->root)
		scope_touch_dir(s, f->ids[0], true, bits, NULL);
	/* Modes go by dots, as in the model. */
	if (set->len > (mode && f->ids[0] != s->root))
		at = state_stamp(s);
	for (size_t i = 0; i < f->len; i++) {
		struct dir *d = f->ids[i];
		struct dot dot = state_event(s, &d->val.ctx);

		if (mode && d != s->root)
			dirval_set_mode(&d->val, dot, bits);
		for (uint32_t k = 0; k < set->len; k++)
			if (d == s->root || &set->c[k] != mode)
				attrs_set(&d->val.attrs, set->c[k].key, set->c[k].value, set->c[k].len, at);
		state_dir_changed(s, d);
	}
}

int
local_set_attrs(struct state *s, struct dir *at, const char *name, const struct attrs *set)
{
	struct scope sc;
	struct spot spot;
	int rc = 0;

	scope_open(&sc, s);
	scope_find(&sc, at, name, &spot);
	if (spot.dirs.len)
		local_set_dir_attrs(s, &spot.dirs, set);
	else if (spot.file)
		set_file_attrs(s, &spot.group, spot.file, set);
	else
		rc = -ENOENT;
	if (rc == 0)
		scope_pin(&sc);
	scope_close(&sc);
	return rc;
}
