/*
 * Blocks of numbers, and what a fork changes in the state: see lineage.h.
 */
#include "config.h"

#include <stdlib.h>

#include "replication/mem.h"
#include "replication/state.h"

/* The counter stands at the first number of the new block. */
void
state_take_block(struct state *s)
{
	struct lineage *x = &s->lineage;
	uint64_t token = s->io.token(s->io.ctx);
	size_t n;

	if (!s->block && lineage_learn(x, s->self, 0, 0) == 0)
		s->block = s->self;
	/* What was given before there were blocks counts as the root's. */
	lineage_reach(x, s->block, s->counter - 1);
	if (lineage_learn(x, token, s->block, s->counter) == 0)
		s->block = token;
	s->block_left = LINEAGE_BLOCK;
	free(lineage_settle(x, &n));
}

void
state_fork(struct state *s)
{
	s->self = s->io.token(s->io.ctx);
	s->counter = 0;
	s->block = s->block_left = 0;
	s->lineage.dirty = true;
}

bool
state_fork_check(struct state *s)
{
	struct block *own = lineage_find(&s->lineage, s->block), *tip;

	if (!s->io.token)
		return false;
	if (own && own->id != s->self) {
		s->self = own->id;
		s->lineage.dirty = true;
		return true;
	}
	tip = lineage_tip(&s->lineage, s->self);
	if (tip && (tip != own || tip->last > s->counter)) {
		state_fork(s);
		return true;
	}
	return false;
}

/* ---- other names for dots ---- */

static int
by_dot(const void *a, const void *b)
{
	return dot_compare(((const struct version *)a)->dot, ((const struct version *)b)->dot);
}

static bool
relabel_regval(struct regval *v, const struct relabel *l, size_t n)
{
	/* Every dot of a version is covered by the context. */
	if (!lineage_vector(&v->ctx, l, n))
		return false;
	for (uint32_t i = 0; i < v->len; i++)
		v->v[i].dot = lineage_dot(v->v[i].dot, l, n);
	if (v->len)
		qsort(v->v, v->len, sizeof(*v->v), by_dot);
	return true;
}

bool
state_relabel_reg(struct state *s, struct reg *r, const struct relabel *l, size_t n)
{
	bool changed = relabel_regval(&r->shown, l, n);

	if (r->pending)
		changed |= relabel_regval(r->pending, l, n);
	if (!changed)
		return false;
	state_reg_noted(s, r);
	state_touch_reg(s, r);
	return true;
}

static void
relabel_dir(struct state *s, struct dir *d, const struct relabel *l, size_t n)
{
	if (!lineage_vector(&d->val.ctx, l, n))
		return;
	for (uint32_t i = 0; i < d->val.live_len; i++)
		d->val.live[i] = lineage_dot(d->val.live[i], l, n);
	for (uint32_t i = 0; i < d->val.modes_len; i++)
		d->val.modes[i].dot = lineage_dot(d->val.modes[i].dot, l, n);
	for (uint32_t i = 0; i < d->val.moves_len; i++)
		d->val.moves[i].dot = lineage_dot(d->val.moves[i].dot, l, n);
	state_dir_noted(s, d);
	state_touch_dir(s, d);
}

void
state_relabel(struct state *s, const struct relabel *l, size_t n)
{
	for (struct reg *r = s->regs; r; r = r->hh.next)
		state_relabel_reg(s, r, l, n);
	for (struct dir *d = s->dirs; d; d = d->hh.next)
		relabel_dir(s, d, l, n);
	lineage_vector(&s->know, l, n);
	lineage_vector(&s->seen, l, n);
	lineage_vector(&s->forgot, l, n);
	/* Of moves with one stamp the dot decides. */
	state_rebuild(s);
}
