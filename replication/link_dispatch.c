/*
 * Each message that comes, to who handles it; those that mean little more than a
 * note of what they say are handled here.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include <utlist.h>

#include "replication/content_impl.h"
#include "replication/link_impl.h"
#include "replication/replica_place.h"

static void
end_barrier(struct replica *r, void *arg)
{
	struct link *l;

	DL_FOREACH(r->links, l)
		if (l == arg) {
			l->barrier_wait = false;
			link_pump(l);
			return;
		}
}

static void
after_barrier(struct replica *r, void *arg)
{
	replica_settle_closed(r);
	if (!hasher_wait(r, end_barrier, arg))
		end_barrier(r, arg);
}

static int
get_subscribe(struct link *l, const Sibfs__Wire__Subscribe *m)
{
	struct vv know = { 0 }, forgot = { 0 };
	int rc = wire_get_dots(m->know, m->n_know, &know);

	if (rc == 0)
		rc = wire_get_dots(m->forgot, m->n_forgot, &forgot);
	if (rc == 0) {
		link_heard(l, &know);
		vv_join(&l->forgot, &forgot);
	}
	vv_fini(&forgot);
	if (rc < 0) {
		vv_fini(&know);
		return rc;
	}
	/* All that it has, which may be less than it had: it may be a store restored. */
	vv_fini(&l->peer->know);
	l->peer->know = know;
	if (!l->subscribed && !l->full_round) {
		l->sent_seq = l->marked_seq = place_cursor(l->r, m->epoch, m->since);
		l->window = 0;
		exchange_forget_told(&l->told);
	}
	l->subscribed = true;
	l->continuous |= !m->once;
	if (m->once) {
		if (l->due_len == ROUNDS_MAX)
			return -EBADMSG;
		l->due[l->due_len++] = m->round;
		if (l->r->view) {
			l->barrier_wait = true;
			l->r->view->barrier(l->r->view->ctx, link_later_run, link_later(l, after_barrier));
		}
	}
	return 0;
}

static void
get_ping(struct link *l, Frame *f)
{
	int64_t ms = replica_now_ms() - l->pinged_ms + 1;

	if (!f->ping->answer) {
		f->ping->answer = true;
		link_send_frame(l, f, false);
	} else if (!l->rtt_ms || ms < l->rtt_ms) {
		l->rtt_ms = ms;
	}
}

static int
get_ack(struct link *l, const Sibfs__Wire__Ack *m)
{
	struct vv know = { 0 };
	int rc = wire_get_dots(m->know, m->n_know, &know);

	if (rc < 0)
		return rc;
	link_heard(l, &know);
	vv_fini(&know);
	l->peer->acked_seq = m->seq;
	l->peer->wanted = m->wanted;
	l->peer->wanted_bytes = m->wanted_bytes;
	return 0;
}

static void
get_data(struct link *l, const Sibfs__Wire__Data *m)
{
	struct want *w = content_want_by_id(l->r, m->id, l);

	if (!w)
		return;
	content_received(l->r, w, m->offset, m->bytes.data, m->bytes.len, m->last);
}

static void
get_gone(struct link *l, const Sibfs__Wire__Gone *m)
{
	struct want *w = content_want_by_id(l->r, m->id, l);

	if (w)
		content_refused(l->r, w);
	content_retry(l->r, false);
	link_check_round(l);
}

static int
get_round(struct link *l, const Sibfs__Wire__Round *m)
{
	l->their_round = m->round;
	l->their_round_in = l->read_only;
	l->their_round_wants = 0;
	if (l->read_only) {
		link_check_round(l);	/* nothing comes in */
		return 0;
	}
	view_retry(l->r, true);
	view_update(l->r);
	content_retry(l->r, true);
	content_request(l->r);
	link_send_offer(l);
	link_send_subscribe(l, true, m->round);
	return 0;
}

int
link_dispatch(struct link *l, Frame **fp)
{
	Frame *f = *fp;

	if (!l->greeted && f->what_case != SIBFS__WIRE__FRAME__WHAT_HELLO &&
	    f->what_case != SIBFS__WIRE__FRAME__WHAT_BYE)
		return -EBADMSG;
	switch (f->what_case) {
	case SIBFS__WIRE__FRAME__WHAT_HELLO:
		return link_get_hello(l, f->hello);
	case SIBFS__WIRE__FRAME__WHAT_LINEAGE:
		return link_get_lineage(l, f->lineage);
	case SIBFS__WIRE__FRAME__WHAT_SUBSCRIBE:
		return get_subscribe(l, f->subscribe);
	case SIBFS__WIRE__FRAME__WHAT_UNSUBSCRIBE:
		l->continuous = false;
		l->subscribed = l->due_len > 0;
		return 0;
	case SIBFS__WIRE__FRAME__WHAT_OFFER:
		return link_get_offer(l, fp);
	case SIBFS__WIRE__FRAME__WHAT_ANSWER:
		return link_get_answer(l, f->answer);
	case SIBFS__WIRE__FRAME__WHAT_BATCH:
		return link_get_batch(l, f->batch);
	case SIBFS__WIRE__FRAME__WHAT_WATERMARK:
		return link_get_watermark(l, f->watermark);
	case SIBFS__WIRE__FRAME__WHAT_ACK:
		return get_ack(l, f->ack);
	case SIBFS__WIRE__FRAME__WHAT_WANT:
		return link_get_want(l, f->want);
	case SIBFS__WIRE__FRAME__WHAT_DATA:
		get_data(l, f->data);
		return 0;
	case SIBFS__WIRE__FRAME__WHAT_STOP:
		link_get_stop(l, f->stop);
		return 0;
	case SIBFS__WIRE__FRAME__WHAT_GONE:
		get_gone(l, f->gone);
		return 0;
	case SIBFS__WIRE__FRAME__WHAT_OUTLINE:
		return link_get_outline(l, f->outline);
	case SIBFS__WIRE__FRAME__WHAT_DETAILS:
		return link_get_details(l, f->details);
	case SIBFS__WIRE__FRAME__WHAT_CHUNKS:
		return link_get_chunks(l, f->chunks);
	case SIBFS__WIRE__FRAME__WHAT_FETCH:
		return link_get_fetch(l, f->fetch);
	case SIBFS__WIRE__FRAME__WHAT_ASK_BLOCKS:
		return link_get_ask_blocks(l, f->ask_blocks);
	case SIBFS__WIRE__FRAME__WHAT_BLOCKS:
		return link_get_blocks(l, f->blocks);
	case SIBFS__WIRE__FRAME__WHAT_ROUND:
		return get_round(l, f->round);
	case SIBFS__WIRE__FRAME__WHAT_ROUND_DONE:
		link_get_round_done(l, f->round_done);
		return 0;
	case SIBFS__WIRE__FRAME__WHAT_BYE:
		link_close(l, strcmp(f->bye->why, ALREADY) == 0 ? "connecting" : "refused", f->bye->why);
		return 0;
	case SIBFS__WIRE__FRAME__WHAT_PING:
		get_ping(l, f);
		return 0;
	case SIBFS__WIRE__FRAME__WHAT_MEMBERS:
		return link_get_members(l, f->members);
	default:
		return 0;		/* of a later version: not for us */
	}
}
