/*
 * The order of things is that of link_send.c, link_take.c and link_offer.c.
 */
#include "config.h"

#include "tests/lib/endpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"
#include "replication/take.h"

struct endpoint {
	struct state *s;
	struct feed *feed;
	uint64_t peer;
	struct endpoint_io io;
	size_t rows_max;
	struct tally tally;

	/* Sending. */
	bool subscribed;
	struct vv know, forgot;		/* theirs, as far as we know */
	bool full;			/* all we have is being sent, whatever they know */
	struct vv given;		/* what they said, and were told to the end */
	struct vv claimed;		/* what our last watermark said */
	uint64_t sent_seq, window;	/* window 0: none under way */
	uint64_t marked_seq;		/* of the last watermark */
	size_t next;			/* in the feed */
	bool removals;			/* the second pass of the window */
	bool news;			/* something was sent since the last watermark */
	struct told *told;

	/* Receiving: what came of a round in full. */
	struct came *came;

	/* Offers. */
	struct offer *offered;
	size_t offered_len;
	bool offer_out;			/* ours waits for an answer */
	Sibfs__Wire__Frame *offer_in;	/* theirs waits for ours to be answered */
};

struct came {
	UT_hash_handle hh;
	char *key;		/* identity in hex, and the name of a register */
};

#define FRAME(f, kind, m)								\
	Sibfs__Wire__Frame f = SIBFS__WIRE__FRAME__INIT;				\
	f.what_case = SIBFS__WIRE__FRAME__WHAT_##kind;					\
	(void)(m)

struct endpoint *
endpoint_new(struct state *s, struct feed *feed, uint64_t peer, const struct endpoint_io *io)
{
	struct endpoint *e = mem_alloc(sizeof(*e));

	e->s = s;
	e->feed = feed;
	e->peer = peer;
	e->io = *io;
	e->rows_max = 200;
	return e;
}

static void
forget_offers(struct endpoint *e)
{
	while (e->offered_len)
		free(e->offered[--e->offered_len].path);
	free(e->offered);
	e->offered = NULL;
}

static void
forget_came(struct endpoint *e)
{
	struct came *c, *tmp;

	HASH_ITER(hh, e->came, c, tmp) {
		HASH_DEL(e->came, c);
		free(c->key);
		free(c);
	}
}

void
endpoint_free(struct endpoint *e)
{
	if (!e)
		return;
	forget_offers(e);
	exchange_forget_told(&e->told);
	if (e->offer_in)
		sibfs__wire__frame__free_unpacked(e->offer_in, NULL);
	forget_came(e);
	vv_fini(&e->know);
	vv_fini(&e->forgot);
	vv_fini(&e->given);
	vv_fini(&e->claimed);
	free(e);
}

void
endpoint_set_rows(struct endpoint *e, size_t rows)
{
	e->rows_max = rows;
}

uint64_t
endpoint_far(const struct endpoint *e)
{
	return 5 * e->rows_max;
}

uint64_t
endpoint_upto(const struct endpoint *e)
{
	return e->window ? e->window : e->sent_seq;
}

const struct tally *
endpoint_tally(const struct endpoint *e)
{
	return &e->tally;
}

static void
send_frame(struct endpoint *e, const Sibfs__Wire__Frame *f)
{
	size_t len = sibfs__wire__frame__get_packed_size(f);
	uint8_t *p = mem_alloc(len);

	sibfs__wire__frame__pack(f, p);
	e->tally.messages++;
	e->tally.bytes += len;
	if (len > e->tally.longest)
		e->tally.longest = len;
	e->io.send(e->io.ctx, p, len);
}

static void
free_dots(Sibfs__Wire__Dot **d, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(d[i]);
	free(d);
}

void
endpoint_ask(struct endpoint *e, uint64_t since)
{
	Sibfs__Wire__Subscribe m = SIBFS__WIRE__SUBSCRIBE__INIT;
	FRAME(f, SUBSCRIBE, &m);

	f.subscribe = &m;
	m.since = since;
	wire_dots(&e->s->know, &m.know, &m.n_know);
	wire_dots(&e->s->forgot, &m.forgot, &m.n_forgot);
	send_frame(e, &f);
	free_dots(m.know, m.n_know);
	free_dots(m.forgot, m.n_forgot);
}

/* ---- offers ---- */

static bool
send_offer(struct endpoint *e)
{
	Sibfs__Wire__Offer m = SIBFS__WIRE__OFFER__INIT;
	FRAME(f, OFFER, &m);

	if (e->offer_out)
		return true;
	if (!e->s->untold)
		return false;
	forget_offers(e);
	e->offered = exchange_offers(e->s, &e->offered_len);
	if (!e->offered_len) {
		forget_offers(e);
		take_told(e->s);
		return false;
	}
	f.offer = &m;
	m.paths = mem_resize(NULL, e->offered_len, sizeof(*m.paths));
	for (; m.n_paths < e->offered_len; m.n_paths++) {
		char *path = e->offered[m.n_paths].path;

		m.paths[m.n_paths] = (ProtobufCBinaryData){ strlen(path), (uint8_t *)path };
	}
	m.first = e->offer_in != NULL;
	e->offer_out = true;
	e->tally.offers++;
	send_frame(e, &f);
	free(m.paths);
	return true;
}

static struct has
peer_has(const struct endpoint *e)
{
	static const struct vv nothing;

	return (struct has){ e->full ? &nothing : &e->know, &e->forgot };
}

static void
answer(struct endpoint *e, const Sibfs__Wire__Offer *in)
{
	Sibfs__Wire__Answer m = SIBFS__WIRE__ANSWER__INIT;
	struct dirs above = { 0 };
	FRAME(f, ANSWER, &m);

	f.answer = &m;
	m.index = mem_resize(NULL, in->n_paths + 1, sizeof(*m.index));
	m.dirs = mem_resize(NULL, in->n_paths + 1, sizeof(*m.dirs));
	for (size_t i = 0; i < in->n_paths; i++) {
		struct dir *d = exchange_answer(e->s, &in->paths[i]);

		if (!d)
			continue;
		exchange_add_above(e->s, &e->told, peer_has(e), &above, d);
		m.index[m.n_index++] = (uint32_t)i;
		m.dirs[m.n_dirs++] = wire_directory(d);
	}
	m.above = above.d;
	m.n_above = above.len;
	e->io.durable(e->io.ctx);
	send_frame(e, &f);
	for (size_t i = 0; i < m.n_dirs; i++)
		sibfs__wire__directory__free_unpacked(m.dirs[i], NULL);
	free(m.dirs);
	free(m.index);
	exchange_free_dirs(&above);
}

/* Who hears of an offer keeps *f if he sets it to NULL. */
static int
hear_offer(struct endpoint *e, Sibfs__Wire__Frame **f)
{
	/* Ours goes first: what we adopt may be what they offer. */
	if (!e->offer_out && !e->offer_in && e->s->untold) {
		e->offer_in = *f;
		*f = NULL;
		if (send_offer(e))
			return 0;
		*f = e->offer_in;
		e->offer_in = NULL;
	} else if (e->offer_out && !(*f)->offer->first && e->s->self > e->peer && !e->offer_in) {
		e->offer_in = *f;	/* both at once: theirs waits */
		*f = NULL;
		return 0;
	}
	answer(e, (*f)->offer);
	return 0;
}

static int
hear_answer(struct endpoint *e, const Sibfs__Wire__Answer *m)
{
	struct dir *d;
	bool news = false;
	int rc;

	if (!e->offer_out || m->n_index != m->n_dirs)
		return -EBADMSG;
	rc = exchange_take_dirs(e->s, m->above, m->n_above, e->peer, NULL, &news);
	for (size_t i = 0; i < m->n_index && rc == 0; i++)
		rc = m->index[i] >= e->offered_len ? -EBADMSG :
		    exchange_adopt(e->s, e->offered[m->index[i]].path, m->dirs[i], &d);
	if (rc < 0)
		return rc;
	exchange_told_offers(e->s, e->offered, e->offered_len);
	forget_offers(e);
	e->offer_out = false;
	e->io.durable(e->io.ctx);
	if (e->offer_in) {
		answer(e, e->offer_in->offer);
		sibfs__wire__frame__free_unpacked(e->offer_in, NULL);
		e->offer_in = NULL;
	}
	return 0;
}

/* ---- sending changes ---- */

struct batch {
	struct dirs dirs;
	Sibfs__Wire__Register **regs;
	size_t regs_len;
};

static void
send_batch(struct endpoint *e, struct batch *b)
{
	Sibfs__Wire__Batch m = SIBFS__WIRE__BATCH__INIT;
	FRAME(f, BATCH, &m);

	f.batch = &m;
	wire_dots(&e->s->know, &m.know, &m.n_know);
	m.dirs = b->dirs.d;
	m.n_dirs = b->dirs.len;
	m.regs = b->regs;
	m.n_regs = b->regs_len;
	m.full = e->full;
	e->io.durable(e->io.ctx);
	e->tally.batches++;
	e->tally.dirs += m.n_dirs;
	e->tally.regs += m.n_regs;
	e->news = true;
	send_frame(e, &f);
	free_dots(m.know, m.n_know);
	exchange_free_dirs(&b->dirs);
	for (size_t i = 0; i < b->regs_len; i++)
		sibfs__wire__register__free_unpacked(b->regs[i], NULL);
	free(b->regs);
}

/* Adds one change to the batch, if it is of this pass and news to them. */
static void
add_change(struct endpoint *e, struct batch *b, const struct change *c)
{
	struct dir *d = state_dir_num(e->s, c->num);
	struct reg *r = d && c->name ? state_reg(e->s, d, c->name, false) : NULL;

	if (d && !c->name && d->seq == c->seq && dir_is_live(d) != e->removals &&
	    (e->full || (d->from != e->peer && !vv_dominates(&e->know, &d->val.ctx))))
		exchange_add_dir(e->s, &e->told, peer_has(e), &b->dirs, d);
	if (!r || r->seq != c->seq || (reg_known(r)->len == 0) != e->removals ||
	    (!e->full && (r->from == e->peer || vv_dominates(&e->know, &reg_known(r)->ctx))))
		return;
	exchange_add_dir(e->s, &e->told, peer_has(e), &b->dirs, d);
	b->regs = mem_resize(b->regs, b->regs_len + 1, sizeof(*b->regs));
	b->regs[b->regs_len++] = wire_register(r, reg_known(r));
}

/* The next batch of the window under way; false: the window is over, and had
 * nothing more to send. */
static bool
send_stretch(struct endpoint *e)
{
	struct batch b = { 0 };

	for (;;) {
		const struct change *c = e->next < e->feed->len ? &e->feed->c[e->next] : NULL;

		if (c && c->seq <= e->window) {
			e->next++;
			add_change(e, &b, c);
			if (b.dirs.len + b.regs_len < e->rows_max)
				continue;
			break;
		}
		/* What is removed comes last: it may have been renamed. */
		if (e->removals) {
			e->sent_seq = e->window;
			e->window = 0;
			break;
		}
		e->removals = true;
		e->next = feed_after(e->feed, e->sent_seq);
	}
	if (!b.dirs.len && !b.regs_len)
		return false;
	send_batch(e, &b);
	return true;
}

static void
send_watermark(struct endpoint *e)
{
	Sibfs__Wire__Watermark m = SIBFS__WIRE__WATERMARK__INIT;
	FRAME(f, WATERMARK, &m);

	f.watermark = &m;
	m.seq = e->sent_seq;
	m.full = e->full;
	wire_dots(&e->s->know, &m.know, &m.n_know);
	wire_dots(&e->s->forgot, &m.forgot, &m.n_forgot);
	e->tally.watermarks++;
	send_frame(e, &f);
	free_dots(m.know, m.n_know);
	free_dots(m.forgot, m.n_forgot);
	e->full = false;
	/* They will know all of that, or be gone. */
	vv_join(&e->given, &e->s->know);
	vv_join(&e->claimed, &e->s->know);
	e->news = false;
	e->marked_seq = e->sent_seq;
}

/* Who lacks events on what we forgot is sent all there is. */
static void
check_full(struct endpoint *e)
{
	vv_join(&e->given, &e->know);
	if (e->full || vv_dominates(&e->given, &e->s->forgot))
		return;
	e->full = e->news = true;
	e->sent_seq = e->marked_seq = 0;
	e->window = 0;
	exchange_forget_told(&e->told);
}

bool
endpoint_pump(struct endpoint *e)
{
	if (!e->subscribed || e->offer_out)
		return false;
	e->io.durable(e->io.ctx);
	/* Adopting comes before telling. */
	if (e->sent_seq < e->s->seq && send_offer(e))
		return true;
	e->io.durable(e->io.ctx);
	check_full(e);
	while (e->window || e->sent_seq < e->s->seq) {
		if (!e->window) {
			e->window = e->s->seq;
			e->removals = false;
			e->next = feed_after(e->feed, e->sent_seq);
		}
		if (send_stretch(e))
			return true;
	}
	if (!e->news && e->sent_seq - e->marked_seq < endpoint_far(e) &&
	    (vv_dominates(&e->know, &e->s->know) || vv_dominates(&e->claimed, &e->s->know)))
		return false;
	send_watermark(e);
	return true;
}

/* ---- hearing ---- */

static int
hear_subscribe(struct endpoint *e, const Sibfs__Wire__Subscribe *m)
{
	struct vv know = { 0 };
	int rc = wire_get_dots(m->know, m->n_know, &know);

	if (rc < 0)
		return rc;
	vv_join(&e->know, &know);
	vv_fini(&know);
	if ((rc = wire_get_dots(m->forgot, m->n_forgot, &know)) < 0)
		return rc;
	vv_join(&e->forgot, &know);
	vv_fini(&know);
	e->sent_seq = e->marked_seq = m->since;
	e->window = 0;
	exchange_forget_told(&e->told);
	e->subscribed = true;
	return 0;
}

static char *
came_key(const uint8_t *id, const void *name, size_t len)
{
	char hex[33], *text = mem_alloc(len + 1), *key;

	for (int i = 0; i < 16; i++)
		snprintf(hex + 2 * i, 3, "%02x", id[i]);
	if (len)
		memcpy(text, name, len);
	key = mem_printf("%s/%s", hex, text);
	free(text);
	return key;
}

/* Of a round in full. */
static void
note_came(struct endpoint *e, const ProtobufCBinaryData *id, const void *name, size_t len)
{
	struct came *c, *old;

	if (id->len != 16)
		return;
	c = mem_alloc(sizeof(*c));
	c->key = came_key(id->data, name, len);
	HASH_FIND_STR(e->came, c->key, old);
	if (old) {
		free(c->key);
		free(c);
		return;
	}
	HASH_ADD_KEYPTR(hh, e->came, c->key, strlen(c->key), c);
}

static bool
has_come(struct endpoint *e, const struct dir *d, const char *name)
{
	char *key = came_key(d->id.b, name, strlen(name));
	struct came *c;

	HASH_FIND_STR(e->came, key, c);
	free(key);
	return c;
}

/* What did not come in a round in full, and they know of, was removed. */
static void
take_absence(struct endpoint *e, const struct vv *know)
{
	struct reg *r, *rtmp;
	struct dir *d, *dtmp;
	bool news;

	HASH_ITER(hh, e->s->regs, r, rtmp)
		if (r->dir->told == DIR_TOLD && !has_come(e, r->dir, reg_name(r))) {
			take_absent_reg(e->s, r->dir, reg_name(r), know, &news);
			e->io.took(e->io.ctx, r);
		}
	HASH_ITER(hh, e->s->dirs, d, dtmp)
		if (d != e->s->root && !has_come(e, d, ""))
			take_absent_dir(e->s, d, know);
	forget_came(e);
}

static int
hear_batch(struct endpoint *e, const Sibfs__Wire__Batch *m)
{
	struct vv know = { 0 };
	bool news = false;
	int rc = wire_get_dots(m->know, m->n_know, &know);

	if (rc < 0)
		return rc;
	/* They have what they know, though we may not have all of it yet. */
	vv_join(&e->know, &know);
	rc = exchange_take_dirs(e->s, m->dirs, m->n_dirs, e->peer, &know, &news);
	for (size_t i = 0; i < m->n_dirs && m->full; i++)
		note_came(e, &m->dirs[i]->id, NULL, 0);
	for (size_t i = 0; i < m->n_regs && m->full; i++)
		note_came(e, &m->regs[i]->dir, m->regs[i]->name.data, m->regs[i]->name.len);
	for (size_t i = 0; i < m->n_regs && rc == 0; i++) {
		struct reg *r;

		rc = exchange_take_reg(e->s, m->regs[i], e->peer, &know, &r, &news);
		if (rc == 0)
			e->io.took(e->io.ctx, r);
	}
	vv_fini(&know);
	return rc;
}

static int
hear_watermark(struct endpoint *e, const Sibfs__Wire__Watermark *m)
{
	struct vv know = { 0 }, forgot = { 0 };
	int rc = wire_get_dots(m->know, m->n_know, &know);

	if (rc == 0)
		rc = wire_get_dots(m->forgot, m->n_forgot, &forgot);
	if (rc < 0) {
		vv_fini(&know);
		return rc;
	}
	if (m->full)
		take_absence(e, &know);
	vv_join(&e->s->know, &know);
	vv_join(&e->know, &know);
	vv_join(&e->s->forgot, &forgot);
	vv_join(&e->forgot, &forgot);
	vv_fini(&know);
	vv_fini(&forgot);
	e->io.caught_up(e->io.ctx, m->seq);
	return 0;
}

int
endpoint_hear(struct endpoint *e, const uint8_t *bytes, size_t len)
{
	Sibfs__Wire__Frame *f = sibfs__wire__frame__unpack(NULL, len, bytes);
	int rc = -EBADMSG;

	if (!f)
		return rc;
	switch (f->what_case) {
	case SIBFS__WIRE__FRAME__WHAT_SUBSCRIBE:
		rc = hear_subscribe(e, f->subscribe);
		break;
	case SIBFS__WIRE__FRAME__WHAT_OFFER:
		rc = hear_offer(e, &f);
		break;
	case SIBFS__WIRE__FRAME__WHAT_ANSWER:
		rc = hear_answer(e, f->answer);
		break;
	case SIBFS__WIRE__FRAME__WHAT_BATCH:
		rc = hear_batch(e, f->batch);
		break;
	case SIBFS__WIRE__FRAME__WHAT_WATERMARK:
		rc = hear_watermark(e, f->watermark);
		break;
	default:
		break;
	}
	if (f)
		sibfs__wire__frame__free_unpacked(f, NULL);
	return rc;
}
