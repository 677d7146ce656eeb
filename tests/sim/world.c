/*
 * Replicas, links between them, and what each step does to them.
 */
#include "config.h"

#include "tests/sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "replication/mem.h"
#include "tests/lib/listing.h"
#include "tests/lib/random.h"
#include "tests/sim/laws.h"
#include "tests/sim/ledger.h"

#define DEEP_EVERY 8		/* steps between two looks into the ledger */
#define SIGHT_EVERY 2		/* messages between two that must take nothing from sight */
#define GRAIN 8000		/* of clocks: stamps of two replicas may be equal */
#define SYNC_MAX 100000		/* messages that two replicas may need */

static const char *
node_name(void *ctx, uint64_t id)
{
	const struct world *w = ctx;

	return id && id <= w->len ? step_node_name((unsigned)id - 1) : "nobody";
}

struct world *
world_new(const struct history *h, bool laws)
{
	struct world *w = mem_alloc(sizeof(*w));
	struct state_io io = { .ctx = w, .node_name = node_name };

	w->len = h->nodes;
	w->shape = h->shape;
	w->rows_max = 2;
	w->wires = mem_resize(NULL, (size_t)w->len * w->len, sizeof(*w->wires));
	memset(w->wires, 0, (size_t)w->len * w->len * sizeof(*w->wires));
	for (unsigned i = 0; i < w->len; i++) {
		w->node[i].s = state_new(i + 1, &io);
		w->node[i].rows = rows_new();
		w->node[i].up = true;
		for (unsigned j = 0; j < w->len; j++) {
			struct wire *x = world_wire(w, i, j);

			x->world = w;
			x->from = i;
			x->to = j;
		}
	}
	w->ledger = laws ? ledger_new() : NULL;
	return w;
}

void
world_free(struct world *w)
{
	for (unsigned i = 0; i < w->len; i++) {
		for (unsigned j = 0; j < i; j++)
			world_cut(w, i, j);
		state_free(w->node[i].s);
		rows_free(w->node[i].rows);
		feed_fini(&w->node[i].feed);
	}
	ledger_free(w->ledger);
	free(w->wires);
	free(w);
}

void
world_fail(struct world *w, const char *fmt, ...)
{
	va_list ap;

	if (*w->failed)
		return;
	va_start(ap, fmt);
	vsnprintf(w->failed, sizeof(w->failed), fmt, ap);
	va_end(ap);
}

void
world_commit(struct world *w, unsigned i)
{
	struct node *n = &w->node[i];

	rows_commit(w->fleeting ? NULL : n->rows, n->s, &n->feed);
}

/* ---- links ---- */

static void
on_durable(void *ctx)
{
	struct wire *x = ctx;

	world_commit(x->world, x->from);
}

static void
on_send(void *ctx, uint8_t *bytes, size_t len)
{
	struct wire *x = ctx;
	struct message *m = mem_alloc(sizeof(*m));

	m->p = bytes;
	m->len = len;
	DL_APPEND(x->queue, m);
	if (!x->world->ledger)
		return;
	laws_sent(x->world, x, bytes, len);
	if (x->world->careful || (x->world->delivered + len) % SIGHT_EVERY == 0)
		m->sights = laws_sights(x->world->node[x->from].s, endpoint_upto(x->end));
}

static void
on_took(void *ctx, struct reg *r)
{
	struct wire *x = ctx;
	struct node *n = &x->world->node[x->from];

	if (!n->slow)
		state_reg_show(n->s, r);
}

static void
on_caught_up(void *ctx, uint64_t seq)
{
	struct wire *x = ctx;

	rows_set_cursor(x->world->node[x->from].rows, x->to + 1, seq);
	world_commit(x->world, x->from);
}

static void
wire_open(struct world *w, unsigned from, unsigned to)
{
	struct wire *x = world_wire(w, from, to);
	struct endpoint_io io = { x, on_durable, on_send, on_took, on_caught_up };
	struct node *n = &w->node[from];

	x->end = endpoint_new(n->s, &n->feed, to + 1, &io);
	endpoint_set_rows(x->end, w->rows_max);
	endpoint_ask(x->end, rows_cursor(n->rows, to + 1));
}

static void
message_free(struct message *m)
{
	if (!m)
		return;
	free(m->p);
	free(m->sights);
	free(m);
}

static void
wire_close(struct world *w, unsigned from, unsigned to)
{
	struct wire *x = world_wire(w, from, to);
	struct message *m, *tmp;

	endpoint_free(x->end);
	x->end = NULL;
	DL_FOREACH_SAFE(x->queue, m, tmp)
		message_free(m);
	x->queue = NULL;
	message_free(x->last);
	x->last = NULL;
	x->stalled = false;
	laws_forget_said(x);
}

void
world_link(struct world *w, unsigned a, unsigned b)
{
	if (a == b || world_wire(w, a, b)->end || !w->node[a].up || !w->node[b].up)
		return;
	w->node[a].met = w->node[b].met = true;
	wire_open(w, a, b);
	wire_open(w, b, a);
}

void
world_cut(struct world *w, unsigned a, unsigned b)
{
	if (a == b)
		return;
	wire_close(w, a, b);
	wire_close(w, b, a);
}

/* False: the link was given up over it, and made anew.  Who just forgot a directory
 * refuses what stands in it, and says with the next link what it forgot. */
static bool
hear(struct world *w, struct wire *x, const struct message *m)
{
	struct endpoint *to = world_wire(w, x->to, x->from)->end;
	struct sights *before = NULL;

	w->delivered++;
	/* Where contents wait, what shows goes by their coming. */
	if (m->sights && !w->node[x->to].slow)
		before = laws_sights(w->node[x->to].s, UINT64_MAX);
	if (endpoint_hear(to, m->p, m->len) < 0) {
		if (!w->node[x->to].s->forgot.len)
			world_fail(w, "wire: %s refuses a message of %s", step_node_name(x->to), step_node_name(x->from));
		world_cut(w, x->from, x->to);
		world_link(w, x->from, x->to);
		free(before);
		return false;
	}
	if (before)
		laws_heard(w, x, m, before);
	free(before);
	return true;
}

/* Over a stream nothing comes twice; what is taken in may, and must not matter,
 * but for rounds in full, which end once. */
static bool
may_come_again(const struct message *m)
{
	Sibfs__Wire__Frame *f = sibfs__wire__frame__unpack(NULL, m->len, m->p);
	bool may = f && ((f->what_case == SIBFS__WIRE__FRAME__WHAT_BATCH && !f->batch->full) ||
	    (f->what_case == SIBFS__WIRE__FRAME__WHAT_WATERMARK && !f->watermark->full));

	if (f)
		sibfs__wire__frame__free_unpacked(f, NULL);
	return may;
}

static bool
deliver(struct world *w, unsigned from, unsigned to)
{
	struct wire *x = world_wire(w, from, to);
	struct message *m = x->queue;

	if (!m || x->stalled)
		return false;
	DL_DELETE(x->queue, m);
	if (!hear(w, x, m)) {
		message_free(m);
		return true;
	}
	message_free(x->last);
	x->last = NULL;
	if (w->ledger && may_come_again(m))
		x->last = m;
	else
		message_free(m);
	return true;
}

static bool
push(struct world *w, unsigned i)
{
	bool any = false;

	for (unsigned j = 0; j < w->len; j++)
		if (world_wire(w, i, j)->end)
			any |= endpoint_pump(world_wire(w, i, j)->end);
	return any;
}

static void
run(struct world *w, int64_t n, uint64_t seed)
{
	uint64_t saved = random_state();
	size_t all = (size_t)w->len * w->len;

	random_reset(seed);
	while (n-- > 0) {
		size_t at = random_below(all), k = 0;

		push(w, (unsigned)random_below(w->len));
		while (k < all && !deliver(w, w->wires[(at + k) % all].from, w->wires[(at + k) % all].to))
			k++;
	}
	random_reset(saved);
}

static void
sync_two(struct world *w, unsigned a, unsigned b)
{
	struct wire *x = world_wire(w, a, b), *y = world_wire(w, b, a);
	size_t n = 0;

	world_link(w, a, b);
	if (!x->end)
		return;
	x->stalled = y->stalled = false;
	while (n++ < SYNC_MAX && (deliver(w, a, b) || deliver(w, b, a) || endpoint_pump(x->end) || endpoint_pump(y->end)))
		;
	if (n >= SYNC_MAX)
		world_fail(w, "quiet: %s and %s never end", step_node_name(a), step_node_name(b));
}

void
world_run_until_quiet(struct world *w, uint64_t limit)
{
	uint64_t end = w->delivered + limit;
	bool any = true;

	while (any && w->delivered < end && !*w->failed) {
		any = false;
		for (unsigned i = 0; i < w->len; i++)
			any |= push(w, i);
		for (unsigned i = 0; i < w->len; i++)
			for (unsigned j = 0; j < w->len; j++)
				while (deliver(w, i, j))
					any = true;
	}
	if (any)
		world_fail(w, "quiet: more than %llu messages, and no end", (unsigned long long)limit);
}

bool
world_round(struct world *w)
{
	size_t all = (size_t)w->len * w->len, *due = mem_resize(NULL, all, sizeof(*due)), n = 0;

	for (unsigned i = 0; i < w->len; i++)
		while (push(w, i))
			;
	for (size_t i = 0; i < all; i++) {
		struct message *m;

		DL_COUNT(w->wires[i].queue, m, due[i]);
		n += due[i];
	}
	for (size_t i = 0; i < all; i++)
		while (due[i]-- > 0)
			deliver(w, w->wires[i].from, w->wires[i].to);
	free(due);
	return n > 0;
}

bool
world_in_shape(enum shape shape, unsigned len, unsigned a, unsigned b)
{
	unsigned low = a < b ? a : b, high = a < b ? b : a;

	switch (shape) {
	case SHAPE_CHAIN:
		return high == low + 1;
	case SHAPE_RING:
		return high == low + 1 || (low == 0 && high == len - 1);
	case SHAPE_STAR:
		return low == 0;
	case SHAPE_TREE:
		return low == (high - 1) / 2;
	default:
		return true;
	}
}

/* ---- replicas ---- */

static void
restart(struct world *w, unsigned i)
{
	struct node *n = &w->node[i];
	struct state_io io = n->s->io;

	for (unsigned j = 0; j < w->len; j++)
		world_cut(w, i, j);
	state_free(n->s);
	n->s = rows_restore(n->rows, i + 1, &io, &n->feed);
	n->up = true;
}

static void
show(struct world *w, unsigned i, int64_t limit)
{
	struct state *s = w->node[i].s;

	for (struct reg *r = s->regs; r && limit > 0; r = r->hh.next)
		if (r->pending) {
			state_reg_show(s, r);
			limit--;
		}
}

/* What all members have durably, as if it had been heard; a member that was
 * retired does not count. */
static void
forget(struct world *w, unsigned i, int64_t retired)
{
	const struct vv *heard[NODES_MAX];
	size_t n = 0;

	world_commit(w, i);
	for (unsigned j = 0; j < w->len; j++)
		if (w->node[j].met && (j == i || j != (unsigned)retired))
			heard[n++] = rows_know(w->node[j].rows);
	if (n == 0 || !sim_collect(w->node[i].s, heard, n))
		return;
	w->forgot = true;
	/* If it is heard of again, it is passed on again. */
	for (unsigned j = 0; j < w->len; j++)
		laws_forget_said(world_wire(w, i, j));
	rows_forget(w->node[i].rows, w->node[i].s);
	world_commit(w, i);
}

/* ---- what users do ---- */

static int
do_user(struct state *s, const struct step *t)
{
	switch (t->kind) {
	case STEP_WRITE:
		return sim_write(s, t->a, t->b);
	case STEP_UNLINK:
		return sim_unlink(s, t->a);
	case STEP_MKDIR:
		return sim_mkdir(s, t->a, (uint32_t)t->n, DIR_MADE_HERE);
	case STEP_INIT:
		return sim_mkdir(s, t->a, (uint32_t)t->n, DIR_TAKEN_IN);
	case STEP_RMDIR:
		return sim_rmdir(s, t->a);
	case STEP_RENAME:
		return sim_rename(s, t->a, t->b);
	case STEP_SWAP:
		return sim_swap(s, t->a, t->b);
	default:
		return sim_chmod(s, t->a, (uint32_t)t->n);
	}
}

static void
user_step(struct world *w, const struct step *t)
{
	struct node *n = &w->node[t->who];
	int64_t now = w->time / GRAIN * GRAIN + n->clock;
	int rc;

	n->s->now = now > 1 ? (uint64_t)now : 1;
	if (w->ledger)
		laws_before(w, t);
	rc = do_user(n->s, t);
	if (w->ledger)
		laws_after(w, t, rc);
}

/* A replica that has nothing yet takes in files that were copied there before. */
static void
copy_tree(struct world *w, unsigned to, unsigned from)
{
	struct listing l;

	if (w->node[to].s->seq || from == to)
		return;
	listing_make(&l, w->node[from].s);
	for (size_t i = 0; i < l.len; i++) {
		char content[sizeof(l.e[i].hash.b) + 1] = "";
		struct step t = { .kind = l.e[i].dirs.len ? STEP_INIT : STEP_WRITE, .who = to };

		memcpy(content, l.e[i].hash.b, sizeof(l.e[i].hash.b));
		t.a = l.e[i].path;
		t.b = content;
		t.n = l.e[i].mode;
		user_step(w, &t);
	}
	listing_fini(&l);
}

static bool
do_step(struct world *w, const struct step *t)
{
	struct node *n = &w->node[t->who];

	switch (t->kind) {
	case STEP_COPY:
		copy_tree(w, t->who, t->other);
		break;
	case STEP_LINK:
		world_link(w, t->who, t->other);
		return false;
	case STEP_CUT:
		world_cut(w, t->who, t->other);
		return false;
	case STEP_STALL:
	case STEP_FLOW:
		world_wire(w, t->who, t->other)->stalled = t->kind == STEP_STALL;
		return false;
	case STEP_PUSH:
		push(w, t->who);
		break;
	case STEP_DELIVER:
		deliver(w, t->who, t->other);
		break;
	case STEP_AGAIN:
		if (world_wire(w, t->who, t->other)->last)
			hear(w, world_wire(w, t->who, t->other), world_wire(w, t->who, t->other)->last);
		break;
	case STEP_RUN:
		run(w, t->n, (uint64_t)t->m);
		break;
	case STEP_SYNC:
		sync_two(w, t->who, t->other);
		break;
	case STEP_COMMIT:
		world_commit(w, t->who);
		return false;
	case STEP_CRASH:
		restart(w, t->who);
		if (w->ledger)
			ledger_lose(w->ledger, t->who, rows_counter(n->rows));
		break;
	case STEP_STOP:
		world_commit(w, t->who);
		restart(w, t->who);
		n->up = false;
		break;
	case STEP_START:
		n->up = true;
		return false;
	case STEP_FORGET:
		if (n->up)
			forget(w, t->who, t->n);
		break;
	case STEP_CLOCK:
		n->clock += t->n;
		return false;
	case STEP_SLOW:
		n->slow = true;
		return false;
	case STEP_SHOW:
		show(w, t->who, t->n);
		n->slow = false;
		break;
	default:
		if (n->up)
			user_step(w, t);
	}
	return true;
}

static void
check(struct world *w, unsigned i)
{
	if (w->ledger && !*w->failed)
		laws_check(w, i, w->careful || w->time / 1000 % DEEP_EVERY == 0);
}

void
world_step(struct world *w, const struct step *t)
{
	w->time += 1000;
	if (!do_step(w, t))
		return;
	if (t->kind == STEP_RUN) {
		for (unsigned i = 0; i < w->len; i++)
			check(w, i);
		return;
	}
	check(w, t->who);
	if (t->kind == STEP_DELIVER || t->kind == STEP_SYNC || t->kind == STEP_AGAIN)
		check(w, t->other);
}

void
world_settle(struct world *w)
{
	uint64_t rows = 0;

	for (unsigned i = 0; i < w->len; i++) {
		w->node[i].up = true;
		w->node[i].slow = false;
		show(w, i, INT64_MAX);
		rows += HASH_COUNT(w->node[i].s->regs) + HASH_COUNT(w->node[i].s->dirs);
	}
	for (unsigned i = 0; i < w->len; i++)
		for (unsigned j = 0; j < i; j++) {
			world_wire(w, i, j)->stalled = world_wire(w, j, i)->stalled = false;
			if (world_in_shape(w->shape, w->len, i, j))
				world_link(w, i, j);
			else
				world_cut(w, i, j);
		}
	world_run_until_quiet(w, 1000 + 200ull * w->len * w->len + 20ull * rows * w->len);
}
