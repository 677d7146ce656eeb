/*
 * Laws of messages: how long they are, that nothing is said twice over a link,
 * and that one which comes alone takes nothing from sight.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"
#include "replication/wire.h"
#include "tests/lib/listing.h"
#include "tests/sim/laws.h"
#include "tests/sim/ledger.h"

/* ---- how long they are: man/sibfs-wire.5, "Sizes" ---- */

#define DOT_MAX 24		/* and of each incarnation in a vector */
#define CELL_MAX 32		/* and its key and value */
#define VERSION_MAX 144		/* and its label and attributes */
#define SLOT_MAX 12		/* and its label and attributes */
#define REGISTER_MAX 40		/* and its name, vector, versions and slots */
#define MOVE_MAX 112		/* and its two names */
#define DIRECTORY_MAX 64	/* and its name, vector, makings, modes, moves and attributes */
#define BATCH_MAX 16		/* and a vector, and its rows */
#define WATERMARK_MAX 64	/* and two vectors */
#define ROW_MAX 64		/* of the index: and one value or two */

static size_t
cells_max(size_t n, Sibfs__Wire__Cell *const *c)
{
	size_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += CELL_MAX + strlen(c[i]->key) + c[i]->value.len;
	return sum;
}

static size_t
value_max(const Sibfs__Wire__RegisterValue *v)
{
	size_t sum = DOT_MAX * v->n_ctx;

	for (size_t i = 0; i < v->n_versions; i++)
		sum += VERSION_MAX + v->versions[i]->slot.len + cells_max(v->versions[i]->n_attrs, v->versions[i]->attrs);
	for (size_t i = 0; i < v->n_slots; i++)
		sum += SLOT_MAX + v->slots[i]->slot.len + cells_max(v->slots[i]->n_attrs, v->slots[i]->attrs);
	return sum;
}

static size_t
directory_max(const Sibfs__Wire__Directory *d)
{
	size_t sum = DIRECTORY_MAX + d->birth->name.len + DOT_MAX * (d->n_ctx + d->n_live) +
	    (DOT_MAX + 8) * d->n_modes + cells_max(d->n_attrs, d->attrs);

	for (size_t i = 0; i < d->n_moves; i++)
		sum += MOVE_MAX + d->moves[i]->to->name.len + d->moves[i]->from->name.len;
	return sum;
}

/* No vector has more entries than there are replicas, and none has more than one
 * making, mode or move of a directory that counts. */
static bool
is_bounded(const struct world *w, const Sibfs__Wire__Batch *b)
{
	bool ok = b->n_know <= w->len;

	for (size_t i = 0; i < b->n_regs; i++)
		ok &= b->regs[i]->value->n_ctx <= w->len;
	for (size_t i = 0; i < b->n_dirs; i++)
		ok &= b->dirs[i]->n_ctx <= w->len && b->dirs[i]->n_live <= w->len && b->dirs[i]->n_modes <= w->len &&
		    b->dirs[i]->n_moves <= w->len;
	return ok;
}

static void
check_batch(struct world *w, unsigned from, const Sibfs__Wire__Batch *b, size_t len)
{
	size_t most = BATCH_MAX + DOT_MAX * b->n_know;

	for (size_t i = 0; i < b->n_regs; i++)
		most += REGISTER_MAX + b->regs[i]->name.len + value_max(b->regs[i]->value);
	for (size_t i = 0; i < b->n_dirs; i++)
		most += directory_max(b->dirs[i]);
	if (len > most || !is_bounded(w, b))
		world_fail(w, "size: a batch of %s has %zu bytes, %zu at most", step_node_name(from), len, most);
	if (b->n_regs > w->rows_max)
		world_fail(w, "size: a batch of %s has %zu rows", step_node_name(from), b->n_regs);
}

void
laws_check_row(struct world *w, const struct reg *r)
{
	Sibfs__Wire__RegisterValue *shown = wire_regval(&r->shown), *pending = r->pending ? wire_regval(r->pending) : NULL;
	size_t most = ROW_MAX + value_max(shown) + (pending ? value_max(pending) : 0), len;
	uint8_t *p;

	wire_pack_index_reg(r, &p, &len);
	if (len > most)
		world_fail(w, "size: the row of %s has %zu bytes, %zu at most", reg_name(r), len, most);
	free(p);
	sibfs__wire__register_value__free_unpacked(shown, NULL);
	if (pending)
		sibfs__wire__register_value__free_unpacked(pending, NULL);
}

/* ---- nothing twice ---- */

struct said {
	UT_hash_handle hh;
	size_t len;
	uint8_t p[];
};

static void
say(struct world *w, struct wire *x, const ProtobufCMessage *m, const char *name)
{
	size_t len = protobuf_c_message_get_packed_size(m);
	struct said *s = mem_alloc(sizeof(*s) + len), *old;

	s->len = protobuf_c_message_pack(m, s->p);
	HASH_FIND(hh, x->said, s->p, s->len, old);
	if (old) {
		world_fail(w, "twice: %s tells %s of %s again, and nothing is new", step_node_name(x->from),
		    step_node_name(x->to), name);
		free(s);
		return;
	}
	HASH_ADD(hh, x->said, p, s->len, s);
}

void
laws_forget_said(struct wire *x)
{
	struct said *s, *tmp;

	HASH_ITER(hh, x->said, s, tmp) {
		HASH_DEL(x->said, s);
		free(s);
	}
}

static void
check_said(struct world *w, struct wire *x, const Sibfs__Wire__Batch *b)
{
	/* All there is has to be said anew. */
	if (b->full)
		laws_forget_said(x);
	for (size_t i = 0; i < b->n_dirs && !b->full; i++)
		say(w, x, &b->dirs[i]->base, "a directory");
	for (size_t i = 0; i < b->n_regs && !b->full; i++)
		say(w, x, &b->regs[i]->base, "a register");
}

void
laws_sent(struct world *w, struct wire *x, const uint8_t *p, size_t len)
{
	Sibfs__Wire__Frame *f = sibfs__wire__frame__unpack(NULL, len, p);

	if (f && f->what_case == SIBFS__WIRE__FRAME__WHAT_BATCH) {
		check_batch(w, x->from, f->batch, len);
		check_said(w, x, f->batch);
	} else if (f && f->what_case == SIBFS__WIRE__FRAME__WHAT_WATERMARK) {
		const Sibfs__Wire__Watermark *m = f->watermark;

		if (len > WATERMARK_MAX + DOT_MAX * (m->n_know + m->n_forgot) || m->n_know > w->len || m->n_forgot > w->len)
			world_fail(w, "size: a watermark of %s has %zu bytes", step_node_name(x->from), len);
	}
	if (f)
		sibfs__wire__frame__free_unpacked(f, NULL);
}

/* ---- nothing goes from sight ---- */

struct sight {
	struct hash hash;
	struct dot dot;
	struct reg *reg;	/* while the state is as it was */
};

struct sights {
	size_t len;
	struct sight s[];
};

/* What shows at s in registers that changed no later than `upto`. */
struct sights *
laws_sights(struct state *s, uint64_t upto)
{
	struct sights *out;
	struct listing l;
	size_t n = 0;

	listing_make(&l, s);
	for (size_t i = 0; i < l.len; i++)
		n += l.e[i].refs_len;
	out = mem_alloc(sizeof(*out) + n * sizeof(*out->s));
	for (size_t i = 0; i < l.len; i++)
		for (size_t j = 0; j < l.e[i].refs_len; j++) {
			const struct ref *r = &l.e[i].refs[j];

			if (r->reg->seq <= upto)
				out->s[out->len++] = (struct sight){ l.e[i].hash, r->dot, r->reg };
		}
	listing_fini(&l);
	return out;
}

static bool
shows(const struct sights *all, const struct hash *h)
{
	for (size_t i = 0; i < all->len; i++)
		if (hash_compare(&all->s[i].hash, h) == 0)
			return true;
	return false;
}

/* Does the message say that nothing is left of that register? */
static bool
removes(const Sibfs__Wire__Batch *b, const struct reg *r)
{
	for (size_t i = 0; i < b->n_regs; i++) {
		const Sibfs__Wire__Register *m = b->regs[i];

		if (m->value->n_versions == 0 && m->dir.len == sizeof(r->dir->id) &&
		    memcmp(m->dir.data, r->dir->id.b, m->dir.len) == 0 && m->name.len == strlen(reg_name(r)) &&
		    memcmp(m->name.data, reg_name(r), m->name.len) == 0)
			return true;
	}
	return false;
}

/*
 * What showed before, and was removed by this message, has not been renamed to
 * something that the sender showed and we never heard of.
 */
static void
check_sight(struct world *w, struct wire *x, const Sibfs__Wire__Batch *b, const struct sights *before,
    const struct sights *theirs)
{
	struct state *s = w->node[x->to].s;
	struct sights *now = laws_sights(s, UINT64_MAX);

	for (size_t i = 0; i < before->len; i++) {
		const struct hash *h = &before->s[i].hash;

		if (shows(now, h) || before->s[i].reg->shown.len || !removes(b, before->s[i].reg))
			continue;
		for (size_t k = 0; k < theirs->len; k++)
			if (hash_compare(&theirs->s[k].hash, h) == 0 && !vv_covers(&s->seen, theirs->s[k].dot) &&
			    !vv_covers(&s->know, theirs->s[k].dot))
				world_fail(w, "sight: %.32s goes at %s before it comes under the name that it has at %s",
				    (const char *)h->b, step_node_name(x->to), step_node_name(x->from));
	}
	free(now);
}

void
laws_heard(struct world *w, struct wire *x, const struct message *m, const struct sights *before)
{
	Sibfs__Wire__Frame *f = sibfs__wire__frame__unpack(NULL, m->len, m->p);

	if (f && f->what_case == SIBFS__WIRE__FRAME__WHAT_BATCH)
		check_sight(w, x, f->batch, before, m->sights);
	if (f)
		sibfs__wire__frame__free_unpacked(f, NULL);
}
