/*
 * Laws of what a replica holds and shows.
 */
#include "config.h"

#include "tests/sim/laws.h"

#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"
#include "tests/lib/listing.h"
#include "tests/sim/ledger.h"

static const char *
called(const struct dir *d)
{
	return d->birth.name ? d->birth.name : "the root";
}

/* ---- places ---- */

static bool
is_listed_once(const struct state *s, const struct dir *d)
{
	unsigned n = 0, m = 0;

	for (const struct dir *c = d->at.up->children; c; c = c->next)
		n += c == d;
	for (const struct dir *c = state_at(s, d->at.up, d->at.name); c; c = c->same_place)
		m += c == d;
	return n == 1 && m == 1;
}

static void
check_places(struct world *w, struct state *s)
{
	unsigned all = HASH_COUNT(s->dirs), children = 0;

	for (struct dir *d = s->dirs; d; d = d->hh.next) {
		const struct dir *up = d;
		unsigned n = 0;

		for (const struct dir *c = d->children; c; c = c->next)
			children++;
		if (d == s->root)
			continue;
		if (!d->at.up || !is_listed_once(s, d)) {
			world_fail(w, "place: %s does not stand in one place", called(d));
			return;
		}
		while (up && up != s->root && n++ < all)
			up = up->at.up;
		if (up != s->root)
			world_fail(w, "place: %s hangs from nowhere", called(d));
	}
	if (children != all - 1)
		world_fail(w, "place: %u directories in %u places", all, children + 1);
}

static void
check_counts(struct world *w, struct state *s)
{
	uint32_t *files = mem_resize(NULL, s->next_num + 1, sizeof(*files));

	memset(files, 0, (s->next_num + 1) * sizeof(*files));
	for (struct reg *r = s->regs; r; r = r->hh.next)
		files[r->dir->num] += r->shown.len > 0;
	for (struct dir *d = s->dirs; d; d = d->hh.next) {
		uint32_t standing = 0;

		for (struct dir *c = d->children; c; c = c->next)
			standing += state_stands(c);
		if (d->files != files[d->num] || d->standing != standing)
			world_fail(w, "counts: %s: %u of %u files, %u of %u directories", called(d), d->files,
			    files[d->num], d->standing, standing);
	}
	free(files);
}

/* What is kept in lists is what a walk over all finds. */
static void
check_lists(struct world *w, struct state *s)
{
	size_t n = 0, untold = 0, all = 0, all_untold = 0;

	for (struct dir *d = s->by_seq; d; d = d->seq_next, n++)
		if (d->seq_next && d->seq > d->seq_next->seq)
			world_fail(w, "counts: %s is listed as changed before %s", called(d), called(d->seq_next));
	for (struct dir *d = s->untold; d; d = d->new_next)
		untold += d->told != DIR_TOLD;
	for (struct dir *d = s->dirs; d; d = d->hh.next) {
		all += d != s->root;
		all_untold += d->told != DIR_TOLD;
	}
	if (n != all || untold != all_untold)
		world_fail(w, "counts: %zu of %zu directories by change, %zu of %zu that nobody heard of", n, all, untold,
		    all_untold);
}

/* Places are computed step by step; from scratch they must be the same. */
static void
check_from_scratch(struct world *w, struct state *s)
{
	struct place *was = mem_resize(NULL, s->next_num, sizeof(*was));
	size_t displaced = s->displaced;

	for (struct dir *d = s->dirs; d; d = d->hh.next)
		was[d->num] = (struct place){ d->at.up, mem_str(d->at.name) };
	state_rebuild(s);
	for (struct dir *d = s->dirs; d; d = d->hh.next) {
		if (d->at.up != was[d->num].up || (d->at.up && strcmp(d->at.name, was[d->num].name) != 0))
			world_fail(w, "scratch: %s was elsewhere than it belongs", called(d));
		free(was[d->num].name);
	}
	if (displaced != s->displaced)
		world_fail(w, "scratch: %zu out of rings, not %zu", s->displaced, displaced);
	free(was);
}

/* Each has a dot first. */
static bool
one_each(const void *list, size_t n, size_t size)
{
	const uint8_t *p = list;

	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < i; j++)
			if (((const struct dot *)(const void *)(p + i * size))->id ==
			    ((const struct dot *)(const void *)(p + j * size))->id)
				return false;
	return true;
}

static void
check_bounds(struct world *w, struct state *s)
{
	for (struct dir *d = s->dirs; d; d = d->hh.next)
		if (!one_each(d->val.live, d->val.live_len, sizeof(*d->val.live)) ||
		    !one_each(d->val.moves, d->val.moves_len, sizeof(*d->val.moves)) ||
		    !one_each(d->val.modes, d->val.modes_len, sizeof(*d->val.modes)))
			world_fail(w, "bounds: %s has two makings, moves or modes of one replica", called(d));
	for (struct reg *r = s->regs; r; r = r->hh.next) {
		laws_check_row(w, r);
		if (r->pending && !vv_dominates(&r->pending->ctx, &r->shown.ctx))
			world_fail(w, "bounds: what waits for %s is not above what shows", reg_name(r));
	}
}

/* ---- names ---- */

static int
by_dot(const void *a, const void *b)
{
	return dot_compare(*(const struct dot *)a, *(const struct dot *)b);
}

static size_t
shown_versions(const struct state *s)
{
	size_t n = 0;

	for (const struct reg *r = s->regs; r; r = r->hh.next)
		n += r->shown.len;
	return n;
}

/* Content that does not show itself shows as what it was edited to. */
static bool
was_edited(const struct state *s, const struct hash *h)
{
	for (const struct reg *r = s->regs; r; r = r->hh.next)
		for (uint32_t i = 0; i < r->shown.len; i++)
			if (r->shown.v[i].has_base && hash_compare(&r->shown.v[i].base, h) == 0)
				return true;
	return false;
}

static void
check_entry(struct world *w, const struct state *s, const struct entry *e)
{
	for (size_t j = 0; j < e->refs_len; j++) {
		const struct version *v = regval_find(&e->refs[j].reg->shown, e->refs[j].dot);

		if (!v)
			world_fail(w, "name: %s stands for a version that is not there", e->path);
		else if (hash_compare(&v->hash, &e->hash) != 0 && !(v->made && was_edited(s, &v->hash)))
			world_fail(w, "name: %.32s is hidden by %s", (const char *)v->hash.b, e->path);
	}
}

static void
check_names(struct world *w, struct state *s)
{
	size_t all = shown_versions(s), n = 0, dirs = 0, standing = 0;
	struct dot *dots = mem_resize(NULL, all + 1, sizeof(*dots));
	struct listing l;

	listing_make(&l, s);
	for (size_t i = 0; i < l.len; i++) {
		const struct entry *e = &l.e[i];

		if (i && strcmp(e->path, l.e[i - 1].path) == 0)
			world_fail(w, "name: two files show as %s", e->path);
		check_entry(w, s, e);
		for (size_t j = 0; j < e->refs_len && n < all; j++)
			dots[n++] = e->refs[j].dot;
		dirs += e->dirs.len;
	}
	qsort(dots, n, sizeof(*dots), by_dot);
	for (size_t i = 1; i < n; i++)
		if (by_dot(&dots[i - 1], &dots[i]) == 0)
			world_fail(w, "name: a version shows under two names");
	if (n != all)
		world_fail(w, "name: %zu of %zu versions show", n, all);
	for (struct dir *d = s->dirs; d; d = d->hh.next)
		standing += d != s->root && state_stands(d);
	if (dirs != standing)
		world_fail(w, "name: %zu of %zu directories show", dirs, standing);
	free(dots);
	listing_fini(&l);
}

/* ---- the ledger ---- */

/* Does the replica know of any event that removed it? */
static bool
knows_kill(const struct record *r, const struct vv *ctx, const struct vv *know)
{
	for (size_t i = 0; i < r->kills_len; i++)
		if ((ctx && vv_covers(ctx, r->kills[i])) || (know && vv_covers(know, r->kills[i])))
			return true;
	return false;
}

/* What all members knew to be removed: a context may have lost how. */
static bool
is_forgotten(const struct world *w, const struct record *r)
{
	for (unsigned i = 0; i < w->len && w->forgot; i++)
		if (knows_kill(r, &w->node[i].s->forgot, NULL))
			return true;
	return false;
}

static void
check_value(struct world *w, struct record *v, const char *who, const char *what, const struct regval *val,
    const struct vv *know)
{
	const struct vv *ctx = val ? &val->ctx : NULL;
	bool covered = (ctx && vv_covers(ctx, v->dot)) || (know && vv_covers(know, v->dot));
	bool live = val && regval_find(val, v->dot), killed = knows_kill(v, ctx, know);

	if (live && killed)
		world_fail(w, "back: %s of %s is %s at %s though known to be removed", (const char *)v->hash.b, v->name,
		    what, who);
	if (live && !(ctx && vv_covers(ctx, v->dot)))
		world_fail(w, "knowledge: %s: the context of %s does not cover it", who, v->name);
	if (covered && !live && !killed && !is_forgotten(w, v))
		world_fail(w, "lost: %s of %s is not %s at %s", (const char *)v->hash.b, v->name, what, who);
}

static void
check_versions(struct world *w, unsigned i)
{
	struct records *all = &w->ledger->of[RECORD_VERSION];
	struct state *s = w->node[i].s;

	for (size_t k = 0; k < all->len; k++) {
		struct record *v = &all->r[k];
		struct dir *d = state_dir(s, ledger_where(w, v));
		struct reg *r = d ? state_reg(s, d, v->name, false) : NULL;

		check_value(w, v, step_node_name(i), "known", r ? reg_known(r) : NULL, &s->know);
		if (r && r->pending)
			check_value(w, v, step_node_name(i), "shown", &r->shown, NULL);
	}
}

static void
check_live_dirs(struct world *w, unsigned i)
{
	struct records *all = &w->ledger->of[RECORD_LIVE];
	struct state *s = w->node[i].s;

	for (size_t k = 0; k < all->len; k++) {
		struct record *r = &all->r[k];
		struct dir *d = state_dir(s, ledger_where(w, r));
		const struct vv *ctx = d ? &d->val.ctx : NULL;
		bool live = false, killed = knows_kill(r, ctx, &s->know);

		for (uint32_t j = 0; d && j < d->val.live_len; j++)
			live |= dot_equal(d->val.live[j], r->dot);
		if (live && killed)
			world_fail(w, "back: %s: the directory %s lives though it is known to be removed",
			    step_node_name(i), called(d));
		if (!live && !killed && !is_forgotten(w, r) && (vv_covers(&s->know, r->dot) || (ctx && vv_covers(ctx, r->dot))))
			world_fail(w, "lost: a directory of %s at %s", step_node_name(r->node), step_node_name(i));
	}
}

static void
check_knowledge(struct world *w, unsigned i)
{
	struct records *all = &w->ledger->of[RECORD_EVENT];
	struct state *s = w->node[i].s;

	for (size_t k = 0; k < all->len; k++) {
		struct record *e = &all->r[k];
		struct dir *d;
		struct reg *r;

		if (!vv_covers(&s->know, e->dot) || vv_covers(&s->forgot, e->dot))
			continue;
		d = state_dir(s, ledger_where(w, e));
		r = d && e->name ? state_reg(s, d, e->name, false) : NULL;
		if (e->name ? !r || !vv_covers(&reg_known(r)->ctx, e->dot) : !d || !vv_covers(&d->val.ctx, e->dot))
			world_fail(w, "knowledge: %s knows of event %llu of %s, but has not taken it in (%s)",
			    step_node_name(i), (unsigned long long)e->dot.n, step_node_name(e->node),
			    e->name ? e->name : "a directory");
	}
}

static void
check_dots_of(struct world *w, unsigned i, const struct reg *r, const struct regval *val)
{
	for (uint32_t k = 0; k < val->len; k++) {
		const struct version *v = &val->v[k];
		struct record *is = ledger_find(w->ledger, RECORD_VERSION, v->dot);

		if (!is || hash_compare(&is->hash, &v->hash) != 0 || strcmp(is->name, reg_name(r)) != 0 ||
		    !identity_equal(ledger_where(w, is), &r->dir->id))
			world_fail(w, "dot: %s has %.32s of %s under a dot that was not given to it", step_node_name(i),
			    (const char *)v->hash.b, reg_name(r));
	}
}

static void
check_dots(struct world *w, unsigned i)
{
	for (struct reg *r = w->node[i].s->regs; r; r = r->hh.next) {
		check_dots_of(w, i, r, &r->shown);
		if (r->pending)
			check_dots_of(w, i, r, r->pending);
	}
}

void
laws_check(struct world *w, unsigned i, bool deep)
{
	struct state *s = w->node[i].s;

	check_places(w, s);
	check_counts(w, s);
	check_lists(w, s);
	if (!deep || *w->failed)
		return;
	check_from_scratch(w, s);
	check_bounds(w, s);
	check_names(w, s);
	check_versions(w, i);
	check_live_dirs(w, i);
	check_knowledge(w, i);
	check_dots(w, i);
}

/* ---- after everything was exchanged ---- */

/* What was forgotten here and not there, or was and is back, differs in that. */
static bool
same_value(const struct world *w, const struct regval *a, const struct regval *b)
{
	if (!w->forgot)
		return b && regval_equal(a, b);
	if (a->len != (b ? b->len : 0))
		return false;
	for (uint32_t i = 0; i < a->len; i++)
		if (!dot_equal(a->v[i].dot, b->v[i].dot))
			return false;
	return true;
}

static void
check_same_registers(struct world *w, unsigned i, struct state *a, struct state *b)
{
	for (struct reg *r = a->regs; r; r = r->hh.next) {
		struct dir *d = state_dir(b, &r->dir->id);
		struct reg *x = d ? state_reg(b, d, reg_name(r), false) : NULL;

		if (!same_value(w, reg_known(r), x ? reg_known(x) : NULL))
			world_fail(w, "equal: %s and %s hold other versions of %s", step_node_name(0), step_node_name(i),
			    reg_name(r));
	}
}

static bool
same_dir(const struct world *w, const struct dirval *a, const struct dirval *b)
{
	struct dirval x, y;
	bool same;

	if (!w->forgot)
		return dirval_equal(a, b);
	dirval_copy(&x, a);
	dirval_copy(&y, b);
	vv_join(&x.ctx, &b->ctx);
	vv_join(&y.ctx, &a->ctx);
	same = dirval_equal(&x, &y);
	dirval_fini(&x);
	dirval_fini(&y);
	return same;
}

static void
check_same_dirs(struct world *w, unsigned i, struct state *a, struct state *b)
{
	for (struct dir *d = a->dirs; d; d = d->hh.next) {
		struct dir *x = state_dir(b, &d->id);

		if (w->forgot && !dir_is_live(d) && (!x || !dir_is_live(x)))
			continue;
		if (d != a->root && (!x || !same_dir(w, &d->val, &x->val)))
			world_fail(w, "equal: %s and %s hold another directory %s", step_node_name(0), step_node_name(i),
			    called(d));
	}
}

static void
check_equal(struct world *w, unsigned i)
{
	struct state *a = w->node[0].s, *b = w->node[i].s;
	char *x = sim_tree(a), *y = sim_tree(b);

	if (strcmp(x, y) != 0)
		world_fail(w, "equal: %s shows\n%s%s shows\n%s", step_node_name(0), x, step_node_name(i), y);
	free(x);
	free(y);
	if (vv_compare(&a->know, &b->know) != VV_EQUAL)
		world_fail(w, "equal: %s and %s know other events", step_node_name(0), step_node_name(i));
	check_same_registers(w, i, a, b);
	check_same_registers(w, i, b, a);
	check_same_dirs(w, i, a, b);
	check_same_dirs(w, i, b, a);
}

/* How far behind is the cursor that j would ask i from? */
static void
check_cursors(struct world *w, unsigned i)
{
	for (unsigned j = 0; j < w->len; j++) {
		const struct endpoint *e = world_wire(w, i, j)->end;
		uint64_t at = rows_cursor(w->node[j].rows, i + 1), seq = w->node[i].s->seq;

		if (e && seq - at >= endpoint_far(e))
			world_fail(w, "cursor: %s heard %llu changes of %s to the end, and %llu count", step_node_name(j),
			    (unsigned long long)seq, step_node_name(i), (unsigned long long)at);
	}
}

/* What all know to be removed can be forgotten by all, and that shows nowhere. */
static void
check_forgotten(struct world *w, unsigned i)
{
	struct state *s = w->node[i].s;
	const struct vv *know[NODES_MAX];
	char *before = sim_tree(s), *after;

	for (unsigned j = 0; j < w->len; j++)
		know[j] = &w->node[j].s->know;
	sim_collect(s, know, w->len);
	after = sim_tree(s);
	if (strcmp(before, after) != 0)
		world_fail(w, "forgotten: %s showed\n%sshows\n%s", step_node_name(i), before, after);
	free(before);
	free(after);
	for (struct reg *r = s->regs; r; r = r->hh.next)
		if (!r->shown.len && r->shown.ctx.len)
			world_fail(w, "forgotten: %s remembers that %s was removed", step_node_name(i), reg_name(r));
	for (struct dir *d = s->dirs; d; d = d->hh.next)
		if (d != s->root && !state_stands(d) && !d->named)
			world_fail(w, "forgotten: %s remembers that %s was removed", step_node_name(i), called(d));
}

static int
deepest_first(const void *a, const void *b)
{
	const struct entry *x = *(const struct entry *const *)a, *y = *(const struct entry *const *)b;

	if ((x->dirs.len > 0) != (y->dirs.len > 0))
		return x->dirs.len ? 1 : -1;
	return -strcmp(x->path, y->path);
}

/* rm -rf by the names that one listing gave. */
static void
check_empties(struct world *w, struct state *s)
{
	const struct entry **order;
	struct listing l, now;

	listing_make(&l, s);
	order = mem_resize(NULL, l.len + 1, sizeof(*order));
	for (size_t i = 0; i < l.len; i++)
		order[i] = &l.e[i];
	if (l.len)
		qsort(order, l.len, sizeof(*order), deepest_first);
	for (size_t i = 0; i < l.len; i++)
		(void)(order[i]->dirs.len ? sim_rmdir : sim_unlink)(s, order[i]->path);
	listing_make(&now, s);
	if (now.len)
		world_fail(w, "empty: %s is left", now.e[0].path);
	free(order);
	listing_fini(&now);
	listing_fini(&l);
}

void
laws_check_end(struct world *w)
{
	for (unsigned i = 0; i < w->len && !*w->failed; i++)
		laws_check(w, i, true);
	for (unsigned i = 1; i < w->len && !*w->failed; i++)
		check_equal(w, i);
	for (unsigned i = 0; i < w->len && !*w->failed; i++)
		check_cursors(w, i);
	for (unsigned i = 0; i < w->len && !*w->failed; i++)
		check_forgotten(w, i);
	if (!*w->failed)
		check_empties(w, w->node[w->len - 1].s);
}
