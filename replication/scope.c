/*
 * Before and after of a user operation.
 */
#include "config.h"

#include "replication/scope.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

struct scope_group {
	struct dir *first;	/* of the folder */
	struct name_group g;
};

struct scope_folder {
	char *path;
	struct dir *first;
	uint32_t mode;
};

void
scope_open(struct scope *sc, struct state *s)
{
	*sc = (struct scope){ .s = s, .number = ++s->scopes };
	obstack_init(&sc->o);
}

void
scope_close(struct scope *sc)
{
	for (size_t i = 0; i < sc->groups_len; i++)
		group_fini(&sc->groups[i].g);
	for (size_t i = 0; i < sc->folders_len; i++)
		free(sc->folders[i].path);
	free(sc->groups);
	free(sc->folders);
	free(sc->gone);
	free(sc->from);
	free(sc->to);
	obstack_free(&sc->o, NULL);
}

static char *
path_in(const struct dir *d, const char *name)
{
	char *up = dir_path(d), *out = mem_printf("%s%s%s", up, *up ? "/" : "", name);

	free(up);
	return out;
}

static void
add_group(struct scope *sc, const struct folder *f, const char *name)
{
	for (size_t i = 0; i < sc->groups_len; i++)
		if (sc->groups[i].first == f->ids[0] && strcmp(sc->groups[i].g.name, name) == 0)
			return;
	sc->groups = mem_resize(sc->groups, sc->groups_len + 1, sizeof(*sc->groups));
	sc->groups[sc->groups_len].first = f->ids[0];
	display_group(sc->s, f, name, &sc->o, &sc->groups[sc->groups_len].g);
	sc->groups_len++;
}

static bool
is_implied(const struct folder *f)
{
	for (size_t i = 0; i < f->len; i++)
		if (dir_is_live(f->ids[i]) || !f->ids[i]->at.up)
			return false;
	return f->len > 0;
}

/* Above first, so that they are made real in that order. */
static void
add_folder(struct scope *sc, struct dir *d)
{
	struct folder f;

	if (!d->at.up || d->looked == sc->number)
		return;
	d->looked = sc->number;
	add_folder(sc, d->at.up);
	if (dir_is_live(d))
		return;
	display_folder(sc->s, d, &sc->o, &f);
	if (!is_implied(&f) || !state_stands(d) || f.ids[0] != d)
		return;
	sc->folders = mem_resize(sc->folders, sc->folders_len + 1, sizeof(*sc->folders));
	sc->folders[sc->folders_len++] = (struct scope_folder){ dir_path(d), d, display_folder_mode(&f) };
}

/* The first of each folder from that one up, and what is above it. */
static void
add_above(struct scope *sc, const struct folder *at)
{
	struct folder up = *at;

	while (up.len && up.ids[0]->at.up) {
		add_folder(sc, up.ids[0]);
		if (!state_shared(up.ids[0]))
			return;		/* all above are looked at */
		display_folder(sc->s, up.ids[0]->at.up, &sc->o, &up);
	}
}

struct base_arg {
	struct scope *sc;
	struct spot *spot;
	const char *name;
};

static void
add_base(void *arg, const char *base)
{
	struct base_arg *a = arg;

	add_group(a->sc, &a->spot->folder, base);
}

void
scope_find(struct scope *sc, struct dir *at, const char *name, struct spot *out)
{
	struct base_arg arg = { sc, out, name };
	struct dir *d, *tmp;

	display_folder(sc->s, at, &sc->o, &out->folder);
	add_group(sc, &out->folder, name);
	display_bases(sc->s, &out->folder, name, add_base, &arg);
	add_above(sc, &out->folder);
	if (sc->s->displaced)
		HASH_ITER(hh, sc->s->dirs, d, tmp)
			add_folder(sc, d);

	/* The group that the name belongs to is in the scope already. */
	out->file = NULL;
	for (size_t i = 0; i < sc->groups_len; i++) {
		struct name_group *g = &sc->groups[i].g;

		if (sc->groups[i].first != out->folder.ids[0])
			continue;
		if (strcmp(g->name, name) == 0)
			out->group = *g;
	}
	out->dirs = out->group.dirs;
	if (out->dirs.len) {
		for (size_t i = 0; i < out->dirs.len; i++)
			add_folder(sc, out->dirs.ids[i]);
		free(sc->gone);
		sc->gone = path_in(at, name);
		return;
	}
	for (size_t i = 0; i < sc->groups_len && !out->file; i++) {
		struct name_group *g = &sc->groups[i].g;

		if (sc->groups[i].first != out->folder.ids[0])
			continue;
		for (size_t j = 0; j < g->len && !out->file; j++) {
			if (strcmp(g->files[j].name, name) != 0)
				continue;
			out->file = &g->files[j];
			out->group = *g;
		}
	}
}

void
scope_moved(struct scope *sc, struct dir *at, const char *name, struct dir *to, const char *to_name)
{
	sc->from = path_in(at, name);
	sc->to = path_in(to, to_name);
}

void
scope_touch_dir(struct state *s, struct dir *d, bool has_mode, uint32_t mode, const struct place *to)
{
	struct place start = { d->at.up, mem_str(d->at.name) };
	const struct dir_move *m = dir_move(d);
	struct dir_move was = m ? *m : (struct dir_move){ .to = d->birth, .from = d->birth };
	struct dot dot = state_event(s, &d->val.ctx);

	if (has_mode && !dir_is_live(d))
		dirval_set_mode(&d->val, dot, mode);
	if (to)
		dirval_set_move(&d->val, dot, *to, start, state_stamp(s));
	else if (d->val.moves_len)
		dirval_set_move(&d->val, dot, was.to, was.from, was.at);
	if (has_mode || dir_is_live(d))
		dirval_set_live(&d->val, dot);
	if (d->told != DIR_TOLD)
		s->untold_moved = true;
	free(start.name);
	state_dir_changed(s, d);
}

static bool
later(const struct cell *a, const struct cell *b)
{
	return stamp_compare(a->at, b->at) > 0;
}

/* What a register's versions say under one key. */
static const struct cell *
newest_said(const struct attrs *all, size_t n, const char *key)
{
	const struct cell *best = NULL;

	for (size_t i = 0; i < n; i++) {
		const struct cell *c = attrs_find(&all[i], key);

		if (c && (!best || later(c, best)))
			best = c;
	}
	return best;
}

/*
 * The slot repeats what is shown and is no newer than that, so that it undoes
 * no change made elsewhere.
 */
static void
pin_attrs(struct reg *r, const struct shown *e, struct stamp at)
{
	struct attrs *said = mem_resize(NULL, e->refs_len, sizeof(*said));
	struct attrs *slot = regval_slot(&r->shown, e->slot);
	size_t n = 0;

	for (size_t i = 0; i < e->refs_len; i++) {
		const struct version *v = e->refs[i].reg == r ? regval_find(&r->shown, e->refs[i].dot) : NULL;

		if (v)
			said[n++] = regval_attrs_of(&r->shown, v);
	}
	for (uint32_t k = 0; k < e->attrs.len; k++) {
		const struct cell *want = &e->attrs.c[k];
		const struct cell *c = newest_said(said, n, want->key), *old = attrs_find(slot, want->key);
		struct cell set = *want;

		set.at = c && cell_same_value(c, want) ? c->at : at;
		if (old && !cell_same_value(old, want) && stamp_compare(old->at, set.at) > 0)
			set.at = at;
		attrs_merge_cell(slot, &set);
	}
	while (n)
		attrs_fini(&said[--n]);
	free(said);
}

void
scope_pin_to(struct state *s, const struct shown *e)
{
	struct stamp at = state_stamp(s);

	for (size_t i = 0; i < e->refs_len; i++) {
		struct reg *r = e->refs[i].reg;
		bool first = true, live = false;

		for (size_t j = 0; j < e->refs_len; j++) {
			first &= !(j < i && e->refs[j].reg == r);
			live |= e->refs[j].reg == r && regval_find(&r->shown, e->refs[j].dot);
		}
		if (!first || !live)
			continue;
		state_event(s, &r->shown.ctx);
		pin_attrs(r, e, at);
	}
	for (size_t i = 0; i < e->refs_len; i++) {
		struct reg *r = e->refs[i].reg;
		struct version *v = regval_find(&r->shown, e->refs[i].dot);

		if (!v)
			continue;
		free(v->slot);
		v->slot = mem_str(e->slot);
		v->slot_at = at;
		state_reg_changed(s, r);
	}
}

static bool
stands_for(const struct shown *e, const struct ref *x)
{
	for (size_t i = 0; i < e->refs_len; i++)
		if (e->refs[i].reg == x->reg && dot_equal(e->refs[i].dot, x->dot))
			return true;
	return false;
}

static bool
has_content(const struct ref *x, const struct hash *h)
{
	return hash_compare(&regval_find(&x->reg->shown, x->dot)->hash, h) == 0;
}

/* Does x, of e, show under another name now, and not because it became one with
 * others of equal content?  What it only hides is no reason. */
static bool
ref_strayed(struct scope *sc, const struct shown *e, const struct ref *x, bool *itself)
{
	bool strayed = false;
	struct folder f;
	struct name_group g;

	*itself = false;
	display_folder(sc->s, x->reg->dir, &sc->o, &f);
	display_group(sc->s, &f, reg_name(x->reg), &sc->o, &g);
	for (size_t i = 0; i < g.len; i++) {
		const struct shown *now = &g.files[i];

		if (!stands_for(now, x))
			continue;
		*itself = has_content(x, &now->hash);
		strayed = strcmp(now->name, e->name) != 0;
		for (size_t j = 0; j < now->refs_len && strayed; j++)
			strayed = stands_for(e, &now->refs[j]) || !has_content(&now->refs[j], &now->hash);
	}
	group_fini(&g);
	return strayed;
}

/* By the first of its versions that is still live and shows itself, else by the
 * first that is live. */
static bool
has_strayed(struct scope *sc, const struct shown *e)
{
	bool strayed = false, found = false;

	for (size_t i = 0; i < e->refs_len; i++) {
		const struct ref *x = &e->refs[i];
		bool itself, this_one;

		if (!regval_find(&x->reg->shown, x->dot))
			continue;
		this_one = ref_strayed(sc, e, x, &itself);
		if (itself)
			return this_one;
		strayed |= this_one && !found;
		found = true;
	}
	return strayed;
}

/* Does a folder show at path, with that mode?  An implied one loses its mode when
 * the directory that had it vanishes, though another may stand there still. */
static bool
folder_shows(struct scope *sc, const char *path, uint32_t mode)
{
	struct folder f = { &sc->s->root, 1 };
	char *copy = mem_str(path), *rest = copy, *name;

	while (f.len && (name = strsep(&rest, "/")))
		if (*name)
			display_subfolder(sc->s, &f, name, &sc->o, &f);
	free(copy);
	return f.len > 0 && display_folder_mode(&f) == mode;
}

static void
keep_folders(struct scope *sc)
{
	bool *lost = mem_resize(NULL, sc->folders_len + 1, sizeof(*lost));

	for (size_t i = 0; i < sc->folders_len; i++) {
		const char *path = sc->folders[i].path;
		size_t n = sc->from ? strlen(sc->from) : 0;
		char *now;

		if (n && strncmp(path, sc->from, n) == 0 && (path[n] == '/' || !path[n]))
			now = mem_printf("%s%s", sc->to, path + n);
		else
			now = mem_str(path);
		lost[i] = !(sc->gone && !sc->from && strcmp(path, sc->gone) == 0) &&
		    !folder_shows(sc, now, sc->folders[i].mode);
		free(now);
	}
	for (size_t i = 0; i < sc->folders_len; i++)
		if (lost[i])
			scope_touch_dir(sc->s, sc->folders[i].first, true, sc->folders[i].mode, NULL);
	free(lost);
}

void
scope_pin(struct scope *sc)
{
	const struct shown **strayed;
	size_t n, all = 0;

	keep_folders(sc);
	for (size_t i = 0; i < sc->groups_len; i++)
		all += sc->groups[i].g.len;
	strayed = mem_resize(NULL, all + 1, sizeof(*strayed));
	/* Each round pins what a pin displaced; more rounds than entries are a bug. */
	for (size_t round = 0; round <= all; round++) {
		n = 0;
		for (size_t i = 0; i < sc->groups_len; i++)
			for (size_t j = 0; j < sc->groups[i].g.len; j++)
				if (has_strayed(sc, &sc->groups[i].g.files[j]))
					strayed[n++] = &sc->groups[i].g.files[j];
		for (size_t i = 0; i < n; i++)
			scope_pin_to(sc->s, strayed[i]);
		if (!n)
			break;
		assert(round < all);
	}
	free(strayed);
}
