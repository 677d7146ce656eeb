/*
 * When tombstones are forgotten: some seconds after all members came to have
 * the events on them, in small steps while nothing else is under way.  The delay
 * is for programs that remove a file and write it anew, which is an edit, and is
 * seen as one as long as the tombstone stands.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "replication/forget.h"
#include "replication/replica_impl.h"

#define FORGET_AFTER_MS 2000
#define FORGET_ROWS 200		/* in one step */
#define FORGET_DIRS_MAX 500

bool
forget_running(const struct replica *r)
{
	return r->forgetting.stage > FORGET_WAIT;
}

/* Nothing that others hold pointers to, and nothing that is not written or shown. */
static bool
is_quiet(struct replica *r)
{
	const struct state *s = r->s;

	if (s->dirty_regs.len || s->dirty_dirs.len || s->touched_regs.len || s->touched_dirs.len || r->deferred.len ||
	    r->in_transaction || r->view_held || r->index_failed || r->index_broken)
		return false;
	for (struct link *l = r->links; l; l = link_next(l))
		if (link_is_taking(l))
			return false;
	return true;
}

static void
rest(struct forgetting *f)
{
	vv_fini(&f->done);
	f->done = f->stable;
	f->stable = (struct vv){ 0 };
	f->stage = FORGET_REST;
}

/* Has what all members have grown since we looked last? */
static void
begin(struct replica *r, int64_t now_ms)
{
	struct forgetting *f = &r->forgetting;
	struct vv stable;

	if (!members_stable(r, &stable))
		return;
	if (vv_dominates(&f->done, &stable)) {
		vv_fini(&stable);
		return;
	}
	f->stable = stable;
	f->at_ms = now_ms + FORGET_AFTER_MS;
	f->stage = FORGET_WAIT;
}

struct step {
	struct replica *r;
	bool progress;
};

static int
forget_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct step *q = arg;
	struct replica *r = q->r;
	struct reg *reg = state_reg_in(r->s, dir_num, name);
	struct dot missing = { 0, 0 };
	int rc;

	(void)seq;
	if (!reg)
		return 0;
	if (forget_may_reg(reg, &r->forgetting.stable, &missing)) {
		rc = index_delete_reg(r->x, reg);
		if (rc == 0)
			forget_reg(r->s, reg);
	} else if (missing.n) {
		rc = index_set_wait(r->x, reg, missing);
	} else {
		return 0;
	}
	q->progress = true;
	return rc;
}

static bool
holds(void *ctx, uint64_t dir_num)
{
	return index_has_regs(((struct replica *)ctx)->x, dir_num);
}

static void
gone(void *ctx, uint64_t dir_num)
{
	index_delete_dir(((struct replica *)ctx)->x, dir_num);
}

static bool
commit(void *ctx)
{
	struct replica *r = ctx;

	r->forgot_changed = true;
	return replica_commit(r) == 0;
}

/* One step, in a transaction of its own.  False: there is no more to do. */
static bool
step(struct replica *r)
{
	struct forget_io io = { r, holds, gone, commit };
	struct step q = { .r = r };
	int rc = 0;

	if (replica_begin(r) < 0)
		return false;
	if (r->forgetting.stage == FORGET_REGS)
		rc = index_tombstones(r->x, &r->forgetting.stable, FORGET_ROWS, forget_row, &q);
	else
		q.progress = forget_dirs(r->s, &r->forgetting.stable, FORGET_DIRS_MAX, &io) > 0;
	r->forgot_changed |= q.progress;
	/* A row that failed to go is read again later, and forgotten again. */
	return replica_commit(r) == 0 && rc == 0 && q.progress;
}

void
forget_tick(struct replica *r, int64_t now_ms)
{
	struct forgetting *f = &r->forgetting;

	if (f->stage == FORGET_REST)
		begin(r, now_ms);
	if (f->stage == FORGET_WAIT && now_ms >= f->at_ms)
		f->stage = FORGET_REGS;
	if (f->stage < FORGET_REGS || !is_quiet(r) || step(r))
		return;
	if (f->stage == FORGET_REGS)
		f->stage = FORGET_DIRS;
	else
		rest(f);
}
