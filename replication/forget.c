/*
 * What may go, and the directories that go together.
 */
#include "config.h"

#include "replication/forget.h"

#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"

bool
forget_stable(const struct state *s, const struct vv *const *know, size_t n, struct vv *out)
{
	struct vv all = vv_copy(&s->know);

	for (size_t i = 0; i < n; i++) {
		if (!vv_dominates(&s->know, know[i])) {
			vv_fini(&all);
			return false;
		}
		vv_meet(&all, know[i]);
	}
	*out = all;
	return true;
}

static bool
is_listed(const struct reg *r)
{
	return r->dirty || r->touched || r->deferred;
}

bool
forget_may_reg(const struct reg *r, const struct vv *stable, struct dot *missing)
{
	for (uint32_t i = 0; i < r->shown.ctx.len; i++)
		if (!vv_covers(stable, r->shown.ctx.e[i])) {
			*missing = r->shown.ctx.e[i];
			return false;
		}
	return !r->shown.len && !r->pending && !r->files_len && !is_listed(r);
}

void
forget_reg(struct state *s, struct reg *r)
{
	vv_join(&s->forgot, &r->shown.ctx);
	state_drop_reg(s, r);
}

/* ---- directories ---- */

struct candidate {
	struct dir *d;
	uint32_t inner;		/* how often other candidates name it */
	bool stays;
};

struct candidates {
	struct candidate *c;
	uint32_t len;
};

#define HELD UINT32_MAX		/* dir.mark: something stands in it.  Else the place in the list, or anything */

static struct candidate *
candidate_of(const struct candidates *l, const struct dir *d)
{
	return d->mark < l->len && l->c[d->mark].d == d ? &l->c[d->mark] : NULL;
}

static void
mark_held(struct state *s, uint32_t mark)
{
	struct reg *r, *tmp;

	HASH_ITER(hh, s->regs, r, tmp)
		if (r->shown.ctx.len || r->pending || is_listed(r))
			r->dir->mark = mark;
}

static bool
may_go(const struct dir *d, const struct vv *stable)
{
	return d->mark != HELD && !d->disk && !d->dirty && !d->touched && vv_dominates(stable, &d->val.ctx);
}

/* Looks at the list of those removed: what came to live again leaves it, what is
 * looked at closely goes to its end. */
static struct candidates
find_candidates(struct state *s, const struct vv *stable, size_t limit, const struct forget_io *io)
{
	struct candidates l = { mem_resize(NULL, limit + 1, sizeof(*l.c)), 0 };
	struct dir **looked_at = mem_resize(NULL, limit + 1, sizeof(struct dir *));
	size_t kept = 0, looked = 0;

	for (size_t i = 0; i < s->removed.len; i++) {
		struct dir *d = s->removed.d[i];

		if (dir_is_live(d)) {
			d->removed = false;
		} else if (looked < limit && may_go(d, stable)) {
			looked_at[looked++] = d;
			if (io->holds && io->holds(io->ctx, d->num))
				continue;
			d->mark = l.len;
			l.c[l.len++] = (struct candidate){ .d = d };
		} else {
			s->removed.d[kept++] = d;
		}
	}
	for (size_t i = 0; i < looked; i++)
		s->removed.d[kept++] = looked_at[i];
	s->removed.len = kept;
	free(looked_at);
	return l;
}

/* Calls fn for each candidate that d names. */
static void
each_named(struct candidates *l, struct dir *d, void (*fn)(struct candidates *l, struct candidate *c))
{
	struct candidate *c = candidate_of(l, d->birth.up);

	if (c)
		fn(l, c);
	for (struct dir **x = d->names; x && *x; x++)
		if ((c = candidate_of(l, *x)))
			fn(l, c);
}

static void
count_inner(struct candidates *l, struct candidate *c)
{
	(void)l;
	c->inner++;
}

static void
keep(struct candidates *l, struct candidate *c)
{
	if (c->stays)
		return;
	c->stays = true;
	each_named(l, c->d, keep);
}

/* Cached registers without a value hold nothing. */
static void
drop_empty_regs(struct state *s, const struct candidates *l)
{
	struct reg *r, *tmp;

	HASH_ITER(hh, s->regs, r, tmp) {
		struct candidate *c = candidate_of(l, r->dir);

		if (c && !c->stays)
			state_drop_reg(s, r);
	}
}

size_t
forget_dirs(struct state *s, const struct vv *stable, size_t limit, const struct forget_io *io)
{
	struct candidates l;
	struct dir **go;
	size_t n = 0;

	if (!s->removed.len)
		return 0;
	mark_held(s, HELD);
	l = find_candidates(s, stable, limit, io);
	mark_held(s, 0);
	/* What others than candidates name stays, and all that it names: so those that
	 * were moved into each other go together. */
	for (uint32_t i = 0; i < l.len; i++)
		each_named(&l, l.c[i].d, count_inner);
	for (uint32_t i = 0; i < l.len; i++)
		if (l.c[i].d->named != l.c[i].inner)
			keep(&l, &l.c[i]);
	go = mem_resize(NULL, l.len + 1, sizeof(struct dir *));
	for (uint32_t i = 0; i < l.len; i++) {
		if (l.c[i].stays)
			continue;
		go[n++] = l.c[i].d;
		vv_join(&s->forgot, &l.c[i].d->val.ctx);
		if (io->gone)
			io->gone(io->ctx, l.c[i].d->num);
	}
	if (n && io->commit && !io->commit(io->ctx))
		n = 0;
	else if (n)
		drop_empty_regs(s, &l);
	state_drop_dirs(s, go, n);
	free(go);
	free(l.c);
	return n;
}

size_t
forget_count_dirs(const struct state *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->removed.len; i++)
		n += !state_stands(s->removed.d[i]);
	return n;
}
