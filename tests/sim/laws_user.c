/*
 * Laws of a user's operation: what it did is noted in the ledger, by what its
 * names had on show; everything else must show as before.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"
#include "tests/lib/listing.h"
#include "tests/sim/laws.h"
#include "tests/sim/ledger.h"

void
laws_before(struct world *w, const struct step *t)
{
	struct ledger *g = w->ledger;
	struct state *s = w->node[t->who].s;

	listing_make(&g->before, s);
	g->counter = s->counter;
	g->seq = s->seq;
	g->nums = s->next_num;
	g->lived = mem_resize(g->lived, g->nums, sizeof(*g->lived));
	for (uint64_t i = 0; i < g->nums; i++)
		g->lived[i] = state_dir_num(s, i) && dir_is_live(state_dir_num(s, i));
}

/* ---- the ledger ---- */

static bool
has_live(const struct dir *d, struct dot dot)
{
	for (uint32_t i = 0; i < d->val.live_len; i++)
		if (dot_equal(d->val.live[i], dot))
			return true;
	return false;
}

/* The events of this operation: on each register and directory the last. */
static void
note_events(struct world *w, unsigned who)
{
	struct ledger *g = w->ledger;
	struct state *s = w->node[who].s;

	for (struct reg *r = s->regs; r; r = r->hh.next) {
		struct dot at = { s->self, vv_get(&r->shown.ctx, s->self) };

		if (at.n <= g->counter)
			continue;
		ledger_add(w, RECORD_EVENT, who, at, r->dir, reg_name(r));
		for (uint32_t i = 0; i < r->shown.len; i++) {
			struct version *v = &r->shown.v[i];

			if (v->dot.id == s->self && v->dot.n > g->counter)
				ledger_add(w, RECORD_VERSION, who, v->dot, r->dir, reg_name(r))->hash = v->hash;
		}
	}
	for (struct dir *d = s->dirs; d; d = d->hh.next) {
		struct dot at = { s->self, vv_get(&d->val.ctx, s->self) };

		if (d == s->root || at.n <= g->counter)
			continue;
		ledger_add(w, RECORD_EVENT, who, at, d, NULL);
		for (uint32_t i = 0; i < d->val.live_len; i++)
			if (d->val.live[i].id == s->self && d->val.live[i].n > g->counter)
				ledger_add(w, RECORD_LIVE, who, d->val.live[i], d, NULL);
	}
}

/* Is the path one that the operation may take something from? */
static bool
is_named(const struct step *t, const char *path)
{
	switch (t->kind) {
	case STEP_WRITE:
	case STEP_UNLINK:
	case STEP_RMDIR:
		return strcmp(path, t->a) == 0;
	case STEP_RENAME:
	case STEP_SWAP:
		return strcmp(path, t->a) == 0 || strcmp(path, t->b) == 0;
	default:
		return false;
	}
}

static void
note_removed_versions(struct world *w, const struct step *t)
{
	struct ledger *g = w->ledger;
	struct state *s = w->node[t->who].s;

	for (size_t i = 0; i < g->before.len; i++) {
		const struct entry *e = &g->before.e[i];

		for (size_t j = 0; j < e->refs_len; j++) {
			struct reg *r = e->refs[j].reg;
			struct record *v = ledger_find(g, RECORD_VERSION, e->refs[j].dot);

			if (regval_find(&r->shown, e->refs[j].dot) || !v)
				continue;
			if (!is_named(t, e->path))
				world_fail(w, "removed: %s, which stood for %.32s", e->path, (const char *)v->hash.b);
			ledger_kill(v, (struct dot){ s->self, vv_get(&r->shown.ctx, s->self) });
		}
	}
}

static void
note_removed_dirs(struct world *w, const struct step *t)
{
	struct records *all = &w->ledger->of[RECORD_LIVE];
	struct state *s = w->node[t->who].s;

	for (size_t i = 0; i < all->len; i++) {
		struct record *r = &all->r[i];
		struct dir *d = state_dir(s, ledger_where(w, r));
		struct dot by = { s->self, d ? vv_get(&d->val.ctx, s->self) : 0 };

		if (d && by.n > w->ledger->counter && vv_covers(&d->val.ctx, r->dot) && !has_live(d, r->dot))
			ledger_kill(r, by);
	}
	for (size_t i = 0; i < w->ledger->before.len; i++) {
		const struct entry *e = &w->ledger->before.e[i];

		for (size_t j = 0; j < e->dirs.len; j++) {
			struct dir *d = e->dirs.ids[j];

			if (w->ledger->lived[d->num] && !dir_is_live(d) && !is_named(t, e->path))
				world_fail(w, "removed: the directory %s", e->path);
		}
	}
}

/* ---- what shows ---- */

static const char *
below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '/' || !path[n]) ? path + n : NULL;
}

static bool
was_dir(const struct ledger *g, const char *path)
{
	const struct entry *e = listing_find(&g->before, path);

	return e && e->dirs.len;
}

/* Where the operation brings what showed at path; to free. */
static char *
hence(const struct ledger *g, const struct step *t, const char *path)
{
	const char *rest;

	if (t->kind == STEP_RENAME || t->kind == STEP_SWAP)
		if ((rest = below(path, t->a)) && was_dir(g, t->a))
			return mem_printf("%s%s", t->b, rest);
	if (t->kind == STEP_SWAP)
		if ((rest = below(path, t->b)) && was_dir(g, t->b))
			return mem_printf("%s%s", t->a, rest);
	return mem_str(path);
}

static bool
holds(const struct folder *f, const struct dir *d)
{
	for (size_t i = 0; i < f->len; i++)
		if (f->ids[i] == d)
			return true;
	return false;
}

static bool
shows_anywhere(const struct listing *now, const struct dir *d)
{
	for (size_t i = 0; i < now->len; i++)
		if (holds(&now->e[i].dirs, d))
			return true;
	return false;
}

static void
check_dir(struct world *w, const struct step *t, const struct entry *e, const char *then, const struct listing *now)
{
	const struct entry *x = listing_find(now, then);

	if (t->kind == STEP_RMDIR && strcmp(e->path, t->a) == 0)
		return;
	if (!x || !x->dirs.len) {
		world_fail(w, "touched: the directory %s is not at %s", e->path, then);
		return;
	}
	for (size_t i = 0; i < e->dirs.len; i++)
		if (!holds(&x->dirs, e->dirs.ids[i]) && shows_anywhere(now, e->dirs.ids[i]) &&
		    !(t->kind == STEP_RENAME && strcmp(e->path, t->b) == 0))
			world_fail(w, "touched: a directory of %s moved unasked", e->path);
	if ((t->kind == STEP_CHMOD && strcmp(e->path, t->a) == 0) ||
	    (t->kind == STEP_RENAME && strcmp(e->path, t->b) == 0))
		return;
	if (x->mode != e->mode)
		world_fail(w, "touched: the mode of %s was %o and is %o", e->path, e->mode, x->mode);
}

/* Does x stand for all that e stood for, and for more of the same content? */
static bool
took_in(const struct entry *x, const struct entry *e)
{
	size_t n = 0;

	if (x->dirs.len || hash_compare(&x->hash, &e->hash) != 0)
		return false;
	for (size_t i = 0; i < e->refs_len; i++)
		for (size_t j = 0; j < x->refs_len; j++)
			n += dot_equal(x->refs[j].dot, e->refs[i].dot);
	return n == e->refs_len;
}

static void
check_file(struct world *w, const struct step *t, const struct entry *e, const char *then, const struct listing *now)
{
	const struct entry *x = listing_find(now, then);

	for (size_t i = 0; i < e->refs_len; i++)
		if (!regval_find(&e->refs[i].reg->shown, e->refs[i].dot))
			return;
	for (size_t i = 0; !x && i < now->len; i++)
		if (took_in(&now->e[i], e))
			return;
	if (!x || x->dirs.len || hash_compare(&x->hash, &e->hash) != 0)
		world_fail(w, "touched: %s (%.32s) is not at %s", e->path, (const char *)e->hash.b, then);
	else if (t->kind == STEP_CHMOD && strcmp(e->path, t->a) != 0 && x->mode != e->mode)
		world_fail(w, "touched: the mode of %s was %o and is %o", e->path, e->mode, x->mode);
}

static void
check_done(struct world *w, const struct step *t, const struct listing *now)
{
	const struct entry *x = listing_find(now, t->kind == STEP_RENAME ? t->b : t->a), *was;

	switch (t->kind) {
	case STEP_CHMOD:
	case STEP_MKDIR:
	case STEP_INIT:
		if (!x || x->mode != (uint32_t)t->n)
			world_fail(w, "done: %s has another mode", t->a);
		return;
	case STEP_UNLINK:
	case STEP_RMDIR:
		if (x)
			world_fail(w, "done: %s is still there", t->a);
		return;
	case STEP_WRITE:
		if (x && !x->dirs.len && strcmp((const char *)x->hash.b, t->b) != 0)
			world_fail(w, "done: %s holds %.32s", t->a, (const char *)x->hash.b);
		return;
	case STEP_RENAME:
		was = listing_find(&w->ledger->before, t->a);
		if (x && !x->dirs.len && hash_compare(&x->hash, &was->hash) != 0)
			world_fail(w, "done: %s holds %.32s", t->b, (const char *)x->hash.b);
		return;
	default:
		return;
	}
}

void
laws_after(struct world *w, const struct step *t, int rc)
{
	struct ledger *g = w->ledger;
	struct state *s = w->node[t->who].s;
	struct listing now;

	if (rc < 0) {
		if (s->counter != g->counter || s->seq != g->seq)
			world_fail(w, "refused: and yet something changed");
		listing_fini(&g->before);
		return;
	}
	note_events(w, t->who);
	note_removed_versions(w, t);
	note_removed_dirs(w, t);
	listing_make(&now, s);
	for (size_t i = 0; i < g->before.len; i++) {
		const struct entry *e = &g->before.e[i];
		char *then = hence(g, t, e->path);

		if (t->kind == STEP_SWAP && is_named(t, e->path))
			;
		else if (e->dirs.len)
			check_dir(w, t, e, then, &now);
		else
			check_file(w, t, e, then, &now);
		free(then);
	}
	check_done(w, t, &now);
	listing_fini(&now);
	listing_fini(&g->before);
}
