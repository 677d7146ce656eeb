/*
 * Messages that a link sends by itself: greeting, asking, acknowledging.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/link_impl.h"

/* May it name dots? */
static bool
names_dots(const Frame *f)
{
	switch (f->what_case) {
	case SIBFS__WIRE__FRAME__WHAT_HELLO:
	case SIBFS__WIRE__FRAME__WHAT_LINEAGE:
	case SIBFS__WIRE__FRAME__WHAT_BYE:
	case SIBFS__WIRE__FRAME__WHAT_PING:
	case SIBFS__WIRE__FRAME__WHAT_DATA:
		return false;
	default:
		return true;
	}
}

void
link_send_frame(struct link *l, const Frame *f, bool compress)
{
	if (names_dots(f))
		link_lineage_news(l);
	if (!l->closing && frame_put(&l->out, f, compress ? l->ways : 0) < 0)
		link_close(l, "refused", "a message would be too large");
}

void
link_send_hello(struct link *l)
{
	Sibfs__Wire__Hello m = SIBFS__WIRE__HELLO__INIT;
	const char *can[FRAME_WORDS_MAX + 1];
	const struct settings_peer *sp = l->peer ? peers_settings(l->r, l->peer) : NULL;
	FRAME(f, HELLO, &m);

	f.hello = &m;
	m.protocol = WIRE_PROTOCOL;
	m.oldest = WIRE_PROTOCOL_OLDEST;
	m.n_can = frame_words(can);
	can[m.n_can++] = LINK_CAN_BLOCKS;
	m.can = (char **)(uintptr_t)can;
	m.set = l->r->set;
	m.node = l->r->node;
	m.id = l->r->s->self;
	m.empty = l->r->s->counter == 0 && l->r->s->know.len == 0;
	m.join = sp && sp->join;
	l->said_empty = m.empty;
	l->said_join = m.join;
	snprintf(l->said_set, sizeof(l->said_set), "%s", m.set);
	m.epoch = l->r->epoch;
	m.run = l->r->run;
	m.landmarks = lineage_landmarks(&l->r->s->lineage, &m.n_landmarks);
	m.full = true;
	link_name_members(l->r, &m.members, &m.n_members);
	link_send_frame(l, &f, false);
	free(m.landmarks);
	link_free_members(m.members, m.n_members);
}

void
link_send_bye(struct link *l, const char *why)
{
	Sibfs__Wire__Bye m = SIBFS__WIRE__BYE__INIT;
	FRAME(f, BYE, &m);

	f.bye = &m;
	m.why = (char *)(uintptr_t)why;
	frame_put(&l->out, &f, 0);
}

struct progress *
link_progress_of(struct replica *r, uint64_t id)
{
	struct progress *p;

	HASH_FIND(hh, r->progress, &id, sizeof(id), p);
	return p;
}

void
link_send_subscribe(struct link *l, bool once, uint64_t round)
{
	Sibfs__Wire__Subscribe m = SIBFS__WIRE__SUBSCRIBE__INIT;
	struct progress *p = link_progress_of(l->r, l->id);
	FRAME(f, SUBSCRIBE, &m);

	f.subscribe = &m;
	m.epoch = p ? p->epoch : 0;
	m.since = p ? p->seq : 0;
	wire_dots(&l->r->durable, &m.know, &m.n_know);
	wire_dots(&l->r->s->forgot, &m.forgot, &m.n_forgot);
	m.once = once;
	m.round = round;
	link_send_frame(l, &f, false);
	wire_free_dots(m.know, m.n_know);
	wire_free_dots(m.forgot, m.n_forgot);
}

void
link_send_ack(struct link *l)
{
	Sibfs__Wire__Ack m = SIBFS__WIRE__ACK__INIT;
	struct progress *p = link_progress_of(l->r, l->id);
	FRAME(f, ACK, &m);

	f.ack = &m;
	wire_dots(&l->r->durable, &m.know, &m.n_know);
	m.seq = p ? p->seq : 0;
	m.wanted = content_wanted(l->r, &m.wanted_bytes);
	l->acked_wanted = m.wanted;
	l->acked_ms = replica_now_ms();
	link_send_frame(l, &f, false);
	wire_free_dots(m.know, m.n_know);
}

/* Content that came in is worth telling: at once when all is here. */
void
link_ack_news(struct link *l)
{
	uint64_t bytes, wanted = content_wanted(l->r, &bytes);

	if (wanted != l->acked_wanted && (wanted == 0 || replica_now_ms() - l->acked_ms > ACK_MS))
		link_send_ack(l);
}

void
link_send_watermark(struct link *l)
{
	Sibfs__Wire__Watermark m = SIBFS__WIRE__WATERMARK__INIT;
	FRAME(f, WATERMARK, &m);

	f.watermark = &m;
	m.seq = l->sent_seq;
	wire_dots(&l->r->durable, &m.know, &m.n_know);
	wire_dots(&l->r->s->forgot, &m.forgot, &m.n_forgot);
	m.round = l->due_len ? l->due[--l->due_len] : 0;
	m.epoch = l->r->epoch;
	m.full = l->full_round;
	link_send_frame(l, &f, false);
	wire_free_dots(m.know, m.n_know);
	wire_free_dots(m.forgot, m.n_forgot);
	l->news = false;
	l->marked_seq = l->sent_seq;
	vv_join(&l->marked, &l->r->durable);
	if (l->full_round)
		vv_join(&l->given, &l->r->s->forgot);
	l->full_round = false;
	if (!l->continuous && !l->due_len)
		l->subscribed = false;
}
