/*
 * One link to a peer: the protocol of man/sibfs-wire.5 over a byte stream.
 *
 * Both ends greet, then each asks (Subscribe) for what changed at the other
 * since it last heard.  The sender goes through its changes in windows, what
 * lives first and what was removed last, and ends with a watermark once it has
 * caught up; only a watermark lets the receiver claim the sender's knowledge.
 * Content follows on demand.
 *
 * Here it begins and ends, and its bytes go in and out; link_dispatch.c has what
 * comes, link_send.c what is told.
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/link_impl.h"
#include "replication/relay.h"

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

/* ---- bytes out and in ---- */

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
			rc = link_dispatch(l, &f);
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

/* ---- from time to time ---- */

void
link_ping(struct link *l, int64_t now_ms)
{
	Sibfs__Wire__Ping m = SIBFS__WIRE__PING__INIT;
	FRAME(f, PING, &m);

	l->pinged_ms = now_ms;
	f.ping = &m;
	link_send_frame(l, &f, false);
	link_pump(l);
}

void
link_probe(struct link *l, int64_t within_ms)
{
	int64_t now = replica_now_ms();

	if (!l->greeted || l->closing)
		return;
	if (!l->answer_by_ms || l->answer_by_ms > now + within_ms)
		l->answer_by_ms = now + within_ms;
	link_ping(l, now);
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
		link_ping(l, now_ms);
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
link_subscribe(struct link *l)
{
	if (l->asked || l->read_only || peers_paused(l->r, l->peer))
		return;
	l->asked = true;
	link_send_subscribe(l, false, 0);
}

void
link_pause_changed(struct link *l)
{
	Sibfs__Wire__Unsubscribe m = SIBFS__WIRE__UNSUBSCRIBE__INIT;
	FRAME(f, UNSUBSCRIBE, &m);

	if (!l->greeted || l->closing)
		return;
	if (!peers_paused(l->r, l->peer)) {
		link_subscribe(l);
	} else if (l->asked) {
		l->asked = false;
		f.unsubscribe = &m;
		link_send_frame(l, &f, false);
	}
	link_pump(l);
}
