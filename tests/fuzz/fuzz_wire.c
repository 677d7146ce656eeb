/*
 * A peer's messages, past the checksum: every decoder on what they hold.  What
 * is accepted must come out of the encoder and in again as the same.
 */
#include "config.h"

#include <stdlib.h>

#include "replication/exchange.h"
#include "replication/outline.h"
#include "replication/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *
node_name(void *ctx, uint64_t id)
{
	(void)ctx;
	(void)id;
	return "node";
}

static void
must(bool ok)
{
	if (!ok)
		abort();
}

static void
dots(Sibfs__Wire__Dot *const *d, size_t n)
{
	struct vv v;

	if (wire_get_dots(d, n, &v) < 0)
		return;
	for (uint32_t i = 0; i < v.len; i++)
		must(v.e[i].n && (i == 0 || v.e[i - 1].id < v.e[i].id));
	vv_fini(&v);
}

static void
value(const Sibfs__Wire__RegisterValue *m)
{
	Sibfs__Wire__RegisterValue *again;
	struct regval r, same;

	if (!m || wire_get_regval(m, &r) < 0)
		return;
	again = wire_regval(&r);
	must(wire_get_regval(again, &same) == 0 && regval_equal(&r, &same));
	sibfs__wire__register_value__free_unpacked(again, NULL);
	regval_fini(&r);
	regval_fini(&same);
}

static void
registers(struct state *s, Sibfs__Wire__Register *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct identity id;
		char *name;

		if (wire_get_identity(&list[i]->dir, &id) == 0)
			state_dir(s, &id);
		if (wire_get_name(&list[i]->name, true, &name) == 0) {
			must(wire_name_ok(name, true));
			free(name);
		}
		value(list[i]->value);
	}
}

/* Taken in, so that those made in one another are met too. */
static void
directories(struct state *s, Sibfs__Wire__Directory *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		Sibfs__Wire__Directory *again;
		struct place birth, birth2;
		struct dirval v, same;
		struct identity id;
		struct dir *d;
		uint32_t k;

		if (wire_get_directory(s, list[i], &birth, &k, &v) < 0)
			continue;
		id = identity_make(&birth.up->id, birth.name, k);
		if (!(d = state_dir(s, &id)))
			d = state_dir_add(s, birth, k);
		dirval_fini(&d->val);
		d->val = v;
		again = wire_directory(d);
		must(wire_get_directory(s, again, &birth2, &k, &same) == 0 && dirval_equal(&same, &v));
		sibfs__wire__directory__free_unpacked(again, NULL);
		free(birth2.name);
		dirval_fini(&same);
		free(birth.name);
	}
}

/* Twice, as it may come again; each block stands under one incarnation then. */
static void
lineage(struct state *s, const Sibfs__Wire__Lineage *m)
{
	struct meeting x;

	for (int i = 0; i < 2; i++) {
		exchange_take_lineage(s, m, &x);
		must(i == 0 || x.changed_len == 0);
		state_relabel(s, x.changed, x.changed_len);
		exchange_end_meeting(&x);
	}
	for (const struct block *b = s->lineage.blocks; b; b = b->hh.next)
		must(b->id != 0);
	sibfs__wire__lineage__free_unpacked(exchange_lineage(s, &s->self, 1, 0), NULL);
}

/* Whatever is taken covers the chunks without a gap. */
static void
outline(const Sibfs__Wire__Outline *m)
{
	struct outline o;
	uint32_t at = 0;

	if (m->hashes.len != m->n_chunks * sizeof(struct hash) ||
	    outline_take(m->hashes.data, m->chunks, m->n_chunks, m->id, &o) < 0)
		return;
	for (size_t i = 0; i < o.len; i++) {
		must(o.g[i].first == at && o.g[i].len > 0 && o.g[i].len <= GROUP_MAX);
		at += o.g[i].len;
	}
	must(at <= OUTLINE_CHUNKS_MAX);
	outline_fini(&o);
}

static void
chunks(const Sibfs__Wire__Chunks *m)
{
	struct group g = { .len = m->group };
	struct chunk c[GROUP_MAX];

	if (m->n_sizes <= GROUP_MAX && m->hashes.len == m->n_sizes * sizeof(struct hash) &&
	    outline_take_group(&g, m->hashes.data, m->sizes, m->n_sizes, c) == 0)
		must(m->n_sizes == g.len);
}

static void
frame(struct state *s, const Sibfs__Wire__Frame *f)
{
	switch (f->what_case) {
	case SIBFS__WIRE__FRAME__WHAT_SUBSCRIBE:
		dots(f->subscribe->know, f->subscribe->n_know);
		break;
	case SIBFS__WIRE__FRAME__WHAT_WATERMARK:
		dots(f->watermark->know, f->watermark->n_know);
		break;
	case SIBFS__WIRE__FRAME__WHAT_ACK:
		dots(f->ack->know, f->ack->n_know);
		break;
	case SIBFS__WIRE__FRAME__WHAT_LINEAGE:
		lineage(s, f->lineage);
		break;
	case SIBFS__WIRE__FRAME__WHAT_ANSWER:
		directories(s, f->answer->above, f->answer->n_above);
		directories(s, f->answer->dirs, f->answer->n_dirs);
		break;
	case SIBFS__WIRE__FRAME__WHAT_BATCH:
		dots(f->batch->know, f->batch->n_know);
		directories(s, f->batch->dirs, f->batch->n_dirs);
		registers(s, f->batch->regs, f->batch->n_regs);
		break;
	case SIBFS__WIRE__FRAME__WHAT_OUTLINE:
		outline(f->outline);
		break;
	case SIBFS__WIRE__FRAME__WHAT_CHUNKS:
		chunks(f->chunks);
		break;
	default:
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Sibfs__Wire__Frame *f = sibfs__wire__frame__unpack(NULL, size, data);
	struct state_io io = { .node_name = node_name };
	struct state *s = state_new(1, &io);
	struct reg *r = reg_new(s->root, 1, "name");

	if (f) {
		frame(s, f);
		sibfs__wire__frame__free_unpacked(f, NULL);
	}
	wire_unpack_index_reg(data, size, r);
	reg_free(r);
	state_free(s);
	return 0;
}
