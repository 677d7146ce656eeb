/*
 * One link to a peer: the protocol of man/sibfs-wire.5 over a byte stream.
 *
 * Both ends greet, then each asks (Subscribe) for what changed at the other
 * since it last heard.  The sender goes through its changes in windows, what
 * lives first and what was removed last, and ends with a watermark once it has
 * caught up; only a watermark lets the receiver claim the sender's knowledge.
 * Content follows on demand.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/content_impl.h"
#include "replication/link_impl.h"
#include "replication/relay.h"
#include "replication/replica_place.h"

int
link_fd(const struct link *l)
{
	return l->fd;
}

bool
link_has_more(const struct link *l)
{
	return l->more && l->out.len <= l->out_high && !l->closing;
}

bool
link_is_up(const struct link *l)
{
	return l->greeted && !l->closing;
}

uint64_t
link_peer_id(const struct link *l)
{
	return l->id;
}

bool
link_in_round(const struct link *l)
{
	return l->round != 0;
}

bool
link_is_taking(const struct link *l)
{
	return l->taken.len > 0 || l->offered_len > 0;
}

struct link *
link_next(const struct link *l)
{
	return l->next;
}

void
link_on_close(struct link *l, void (*fn)(void *arg), void *arg)
{
	l->closed_fn = fn;
	l->closed_arg = arg;
}

short
link_events(struct link *l)
{
	int64_t now = replica_now_ms();
	bool in = throttle_wait_ms(&l->in_limit, now) == 0;
	bool out = l->out.len && throttle_wait_ms(&l->out_limit, now) == 0;

	return (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0));
}

int64_t
link_wait_ms(struct link *l)
{
	int64_t now = replica_now_ms(), in = throttle_wait_ms(&l->in_limit, now);
	int64_t out = l->out.len ? throttle_wait_ms(&l->out_limit, now) : 0;

	return !in || (out && out < in) ? out : in;
}

/* What is queued goes out within a fraction of a second, so that news passes
 * content on a slow link too. */
static void
keep_to_limit(struct link *l, int64_t now_ms)
{
	uint64_t rate = peers_limit(l->r, l->peer);

	throttle_set(&l->in_limit, rate, now_ms);
	throttle_set(&l->out_limit, rate, now_ms);
	l->out_high = !rate || rate / 4 > OUT_HIGH ? OUT_HIGH : rate / 4 > OUT_HIGH_MIN ? rate / 4 : OUT_HIGH_MIN;
	l->block = l->out_high / 4 > DATA_BLOCK ? DATA_BLOCK :
	    l->out_high / 4 > DATA_BLOCK_MIN ? l->out_high / 4 : DATA_BLOCK_MIN;
}

/* ---- receiving messages ---- */

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
subscribe_unless_paused(struct link *l)
{
	if (l->asked || l->read_only || peers_paused(l->r, l->peer))
		return;
	l->asked = true;
	link_send_subscribe(l, false, 0);
}

static int
refuse(struct link *l, const char *why)
{
	link_send_bye(l, why);
	link_close(l, "refused", why);
	return 0;
}

/* How easily a replica leaves its set for the other's. */
static int
yields(bool empty, bool join)
{
	return empty ? 2 : join ? 1 : 0;
}

static int
take_set(struct replica *r, const Sibfs__Wire__Hello *m)
{
	if (!*m->set || strlen(m->set) > REPLICA_SET_MAX)
		return -EBADMSG;
	snprintf(r->set, sizeof(r->set), "%s", m->set);
	replica_begin(r);
	index_set_value(r->x, "set", r->set, strlen(r->set));
	replica_commit(r);
	settings_set(r->meta_fd, "replica", "set", r->set);
	log_info("joined the set %s of %s", r->set, m->node);
	return 0;
}

/*
 * Both decide alike by what the two Hellos said: else two empty replicas would
 * take each other's set.
 */
static int
join_set(struct link *l, const Sibfs__Wire__Hello *m)
{
	struct replica *r = l->r;
	const struct settings_peer *sp = peers_settings(r, l->peer);
	int mine = yields(l->said_empty, l->said_join || (sp && sp->join)), theirs = yields(m->empty, m->join);
	char why[256];

	if (strcmp(m->set, r->set) == 0)
		return 0;
	if (strcmp(l->said_set, r->set) != 0) {
		link_close(l, "connecting", "the set changed meanwhile");
		return 1;
	}
	if (mine > theirs || (mine && mine == theirs && strcmp(m->set, r->set) < 0))
		return take_set(r, m);
	if (theirs)
		return 0;		/* they take ours */
	snprintf(why, sizeof(why), "%s belongs to another set (%s, not %s): `peer add --join` on one side unites them",
	    m->node, m->set, r->set);
	refuse(l, why);
	return 1;
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

static void
ping(struct link *l, int64_t now_ms)
{
	Sibfs__Wire__Ping m = SIBFS__WIRE__PING__INIT;
	FRAME(f, PING, &m);

	l->pinged_ms = now_ms;
	f.ping = &m;
	link_send_frame(l, &f, false);
	link_pump(l);
}

/* The newest protocol that both speak; false: there is none. */
static bool
agree(struct link *l, const Sibfs__Wire__Hello *m)
{
	uint32_t oldest = m->oldest && m->oldest < m->protocol ? m->oldest : m->protocol;

	l->protocol = m->protocol < WIRE_PROTOCOL ? m->protocol : WIRE_PROTOCOL;
	for (size_t i = 0; i < m->n_can; i++) {
		l->ways |= frame_way(m->can[i]);
		l->has_blocks |= strcmp(m->can[i], LINK_CAN_BLOCKS) == 0;
	}
	return l->protocol >= oldest && l->protocol >= WIRE_PROTOCOL_OLDEST;
}

static int
get_hello(struct link *l, const Sibfs__Wire__Hello *m)
{
	struct replica *r = l->r;
	char why[256];
	int rc;

	if (l->greeted)
		return -EBADMSG;
	if (!settings_node_valid(m->node) || !m->id || m->n_can > WIRE_CAN_MAX)
		return -EBADMSG;
	if (!agree(l, m)) {
		snprintf(why, sizeof(why), "%s speaks protocol %u, this is %u: use the same version of sibfs on both",
		    m->node, m->protocol, WIRE_PROTOCOL);
		return refuse(l, why);
	}
	if (l->only && strcmp(m->node, l->only) != 0) {
		snprintf(why, sizeof(why), "%s called where only %s may", m->node, l->only);
		return refuse(l, why);
	}
	if (!l->dialer) {
		struct peer *p = peers_find_caller(r, m->node, m->id);

		/* Both called at once: the call of the lower incarnation stays. */
		if (p->link && p->link->dialer && r->s->self < m->id) {
			link_send_bye(l, ALREADY);
			link_close(l, "connecting", ALREADY);
			return 0;
		}
		if (p->link && p->link != l)
			link_close(p->link, "connecting", "replaced by a newer connection");
		l->peer = p;
		p->link = l;
	} else if (strcmp(m->node, l->peer->name) != 0) {
		snprintf(why, sizeof(why), "the far end calls itself %s, not %s", m->node, l->peer->name);
		return refuse(l, why);
	}
	if (m->id == r->s->self)
		return link_meet_copy(l, m);
	if ((rc = join_set(l, m)) != 0)
		return rc < 0 ? rc : 0;
	l->greeted = true;
	l->id = m->id;
	l->peer->id = m->id;
	l->takes_full = m->full;
	if (!m->run)
		l->peer->tries = 0;
	replica_add_member(r, m->id, m->node);
	if ((rc = link_learn_members(l, m->members, m->n_members)) < 0)
		return rc;
	members_here(r, m->id);
	l->peer->state = "connected";
	l->peer->since_s = (int64_t)time(NULL);
	l->peer->error[0] = '\0';
	log_info("%s: connected", l->peer->name);
	link_answer_landmarks(l, m);
	ping(l, replica_now_ms());
	subscribe_unless_paused(l);
	for (struct want *w = r->wants; w; w = w->hh.next)
		w->failed = false;
	content_request(r);
	control_tick(r, replica_now_ms());
	return 0;
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

static int
dispatch(struct link *l, Frame **fp)
{
	Frame *f = *fp;

	if (!l->greeted && f->what_case != SIBFS__WIRE__FRAME__WHAT_HELLO &&
	    f->what_case != SIBFS__WIRE__FRAME__WHAT_BYE)
		return -EBADMSG;
	switch (f->what_case) {
	case SIBFS__WIRE__FRAME__WHAT_HELLO:
		return get_hello(l, f->hello);
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

/* ---- life ---- */

struct link *
link_new(struct replica *r, int fd, struct peer *p, const char *only, bool read_only)
{
	struct link *l = mem_alloc(sizeof(*l));

	l->r = r;
	l->fd = fd;
	l->peer = p;
	l->number = ++r->links_made;
	l->dialer = p != NULL;
	l->only = mem_str(only);
	l->read_only = read_only;
	l->since_ms = l->heard_ms = l->pinged_ms = replica_now_ms();
	keep_to_limit(l, l->since_ms);
	DL_APPEND(r->links, l);
	if (p)
		p->link = l;
	link_send_hello(l);
	link_pump(l);
	return l;
}

/* Marks it for its end: link_ready or link_tick frees it. */
void
link_close(struct link *l, const char *state, const char *why)
{
	struct peer *p = l->peer;

	if (l->closing)
		return;
	l->closing = true;
	if (l->out.len)
		(void)!write(l->fd, l->out.p + l->out.start, l->out.len);
	relay_drop_link(l);
	content_drop_link(l->r, l);
	if (p && p->link == l) {
		p->link = NULL;
		peers_link_ended(l->r, p, state, why);
	} else if (!p && why) {
		log_warn("a peer that called: %s", why);
	}
	if (l->round)
		control_round_done(l->r, l->round, why ? why : "the link broke");
	l->round = l->their_round = 0;
}

static void
link_free(struct link *l)
{
	link_settle_taken(l);
	DL_DELETE(l->r->links, l);
	while (l->serving)
		link_stop_serving(l, l->serving);
	exchange_forget_told(&l->told);
	link_forget_offer(l);
	if (l->offer_in)
		sibfs__wire__frame__free_unpacked(l->offer_in, NULL);
	free(l->taken.r);
	free(l->only);
	vv_fini(&l->know);
	vv_fini(&l->marked);
	vv_fini(&l->given);
	vv_fini(&l->forgot);
	vv_fini(&l->forgot_told);
	link_forget_full(l);
	bytes_fini(&l->in);
	bytes_fini(&l->out);
	close(l->fd);
	if (l->closed_fn)
		l->closed_fn(l->closed_arg);
	free(l);
}

static void
flush_out(struct link *l)
{
	while (l->out.len && !l->closing) {
		size_t may = throttle_allow(&l->out_limit, replica_now_ms());
		ssize_t n;

		if (may == 0)
			return;
		n = send(l->fd, l->out.p + l->out.start, l->out.len < may ? l->out.len : may,
		    MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0) {
			link_close(l, "unreachable", "connection lost");
			return;
		}
		throttle_used(&l->out_limit, (size_t)n);
		if (l->peer)
			l->peer->sent_bytes += (uint64_t)n;
		bytes_drop(&l->out, (size_t)n);
	}
}

void
link_pump(struct link *l)
{
	bool full;

	if (l->closing)
		return;
	if (l->greeted) {
		link_pump_changes(l);
		link_pump_content(l);
	}
	full = l->out.len > l->out_high;
	flush_out(l);
	/* Nothing will say that there is room: it is there already. */
	if (full && l->out.len == 0)
		l->more = true;
}

static const char *
reason(int rc)
{
	return rc == -EPERM ? "the far end may only read here" :
	    rc == -EMSGSIZE ? "it sent a message that is too large" : "it broke the protocol";
}

static void
read_frames(struct link *l)
{
	Frame *f;
	int rc;

	while (!l->closing && (rc = frame_get(&l->in, &f)) != 0) {
		if (rc == 1) {
			rc = dispatch(l, &f);
			if (f)
				sibfs__wire__frame__free_unpacked(f, NULL);
		}
		if (rc < 0) {
			link_send_bye(l, reason(rc));
			link_close(l, "refused", reason(rc));
		}
	}
}

void
link_ready(struct link *l, short revents)
{
	if (!l->closing && revents & (POLLIN | POLLHUP | POLLERR)) {
		uint8_t *room = bytes_room(&l->in, IN_CHUNK);
		size_t may = throttle_allow(&l->in_limit, replica_now_ms());
		ssize_t n;

		/* At its end nothing more comes that could be too much. */
		if (may == 0 || revents & (POLLHUP | POLLERR))
			may = IN_CHUNK;
		n = recv(l->fd, room, may < IN_CHUNK ? may : IN_CHUNK, MSG_DONTWAIT);
		if (n > 0) {
			throttle_used(&l->in_limit, (size_t)n);
			l->heard_ms = replica_now_ms();
			l->answer_by_ms = 0;
			if (l->peer)
				l->peer->received_bytes += (uint64_t)n;
			l->in.len += (size_t)n;
			read_frames(l);
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			link_close(l, "unreachable", NULL);
		}
	}
	if (l->greeted && !l->closing)
		link_ack_news(l);
	link_pump(l);
	if (l->closing)
		link_free(l);
}

void
link_probe(struct link *l, int64_t within_ms)
{
	int64_t now = replica_now_ms();

	if (!l->greeted || l->closing)
		return;
	if (!l->answer_by_ms || l->answer_by_ms > now + within_ms)
		l->answer_by_ms = now + within_ms;
	ping(l, now);
}

void
link_tick(struct link *l, int64_t now_ms)
{
	if (!l->closing && !l->greeted && now_ms - l->since_ms > GREETING_MS)
		link_close(l, "unreachable", "the far end does not answer as sibfs does");
	if (!l->closing && now_ms - l->heard_ms > SILENCE_MS)
		link_close(l, "unreachable", "silent for a minute");
	if (!l->closing && l->answer_by_ms && now_ms > l->answer_by_ms)
		link_close(l, "unreachable", "it does not answer any more");
	if (l->closing) {
		link_free(l);
		return;
	}
	bytes_trim(&l->in);
	bytes_trim(&l->out);
	keep_to_limit(l, now_ms);
	link_tell_members(l, now_ms);
	if (l->lacks_at_ms)
		link_pump(l);
	if (l->greeted && now_ms - l->pinged_ms > PING_MS)
		ping(l, now_ms);
}

void
link_changed(struct replica *r)
{
	struct link *l;

	DL_FOREACH(r->links, l)
		if (l->greeted)
			link_pump(l);
}

void
link_pause_changed(struct link *l)
{
	Sibfs__Wire__Unsubscribe m = SIBFS__WIRE__UNSUBSCRIBE__INIT;
	FRAME(f, UNSUBSCRIBE, &m);

	if (!l->greeted || l->closing)
		return;
	if (!peers_paused(l->r, l->peer)) {
		subscribe_unless_paused(l);
	} else if (l->asked) {
		l->asked = false;
		f.unsubscribe = &m;
		link_send_frame(l, &f, false);
	}
	link_pump(l);
}
