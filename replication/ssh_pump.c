/*
 * The pump.  Each direction has one buffer that is filled only when it is
 * empty, so memory is bounded and a call that libssh2 wants repeated is
 * repeated with the same bytes.
 *
 * The one trap: when a call could send only part of its packet (EAGAIN, and
 * libssh2 wants to write), libssh2 keeps that part and refuses any other
 * packet until the same call is repeated.  Reading sends packets too (window
 * adjustments).  So that call then owns the session until it is through.
 */
#include "config.h"

#include "replication/ssh_pump.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "replication/clock.h"
#include "replication/lastline.h"
#include "replication/mem.h"

enum {
	BUFFER_BYTES = 128 << 10,
	EXIT_WAIT_MS = 2000,	/* for the far command's exit status */
};

enum call { CALL_NONE, CALL_READ, CALL_READ_ERR, CALL_WRITE, CALL_EOF };

struct buffer {
	char *bytes;
	size_t off, len;	/* what is left: from off to len */
};

struct pump {
	struct transport *t;
	LIBSSH2_SESSION *session;
	LIBSSH2_CHANNEL *channel;
	int sock;
	enum call owner;	/* has sent part of a packet */
	struct buffer up;	/* from our side to the far one */
	bool up_ended;		/* our side will send no more */
	bool eof_sent;
	struct buffer down;
	bool down_ended;
	bool spoke;		/* the far side sent a byte */
	bool over;
	struct lastline said;
	int64_t heard_ms;	/* last sign of life */
	int64_t keepalive_ms;	/* when the next one is due */
};

static bool
is_empty(const struct buffer *b)
{
	return b->off == b->len;
}

static bool
may(const struct pump *p, enum call call)
{
	return p->owner == CALL_NONE || p->owner == call;
}

/* Notes what a call left behind; passes on its result. */
static ssize_t
after(struct pump *p, enum call call, ssize_t rc)
{
	bool partial = rc == LIBSSH2_ERROR_EAGAIN &&
	    (libssh2_session_block_directions(p->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND);

	p->owner = partial ? call : CALL_NONE;
	return rc;
}

static void
lose(struct pump *p)
{
	char *text = NULL;

	libssh2_session_last_error(p->session, &text, NULL, 0);
	transport_set_end(p->t, TRANSPORT_UNREACHABLE, "the connection to %s was lost (%s)",
	    p->t->url.host, text != NULL ? text : "no reason given");
	p->over = true;
}

/* ---- steps: each moves what it can, and says whether that was anything -- */

static bool
pull_far(struct pump *p)
{
	ssize_t n;

	if (!is_empty(&p->down) || p->down_ended || !may(p, CALL_READ))
		return false;
	n = after(p, CALL_READ, libssh2_channel_read(p->channel, p->down.bytes, BUFFER_BYTES));
	if (n == LIBSSH2_ERROR_EAGAIN)
		return false;
	if (n > 0) {
		p->down.off = 0;
		p->down.len = (size_t)n;
		p->spoke = true;
		return true;
	}
	if (n == 0 && libssh2_channel_eof(p->channel) == 1) {
		p->down_ended = true;
		return true;
	}
	if (n < 0)
		lose(p);
	return false;
}

/*
 * Reads only what has come already, and asks for as much as pull_far does:
 * libssh2 widens the window by the length that is asked for, and a widening
 * that is begun with one length (while keys are exchanged) and finished with
 * another loses data.
 */
static bool
pull_stderr(struct pump *p)
{
	ssize_t n;

	if (!is_empty(&p->down) || !may(p, CALL_READ_ERR) || !libssh2_poll_channel_read(p->channel, 1))
		return false;
	n = after(p, CALL_READ_ERR, libssh2_channel_read_stderr(p->channel, p->down.bytes, BUFFER_BYTES));
	if (n > 0)
		lastline_feed(&p->said, p->down.bytes, (size_t)n);
	return n > 0;
}

static bool
push_near(struct pump *p)
{
	struct buffer *b = &p->down;
	ssize_t n;

	if (is_empty(b))
		return false;
	n = send(p->t->fd, b->bytes + b->off, b->len - b->off, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			p->over = true;		/* the owner has gone */
		return false;
	}
	b->off += (size_t)n;
	return true;
}

static bool
pull_near(struct pump *p)
{
	ssize_t n;

	if (!is_empty(&p->up) || p->up_ended)
		return false;
	n = recv(p->t->fd, p->up.bytes, BUFFER_BYTES, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		p->up_ended = true;
		return true;
	}
	p->up.off = 0;
	p->up.len = (size_t)n;
	return true;
}

static bool
push_far(struct pump *p)
{
	struct buffer *b = &p->up;
	ssize_t n;

	if (is_empty(b) || !may(p, CALL_WRITE))
		return false;
	n = after(p, CALL_WRITE, libssh2_channel_write(p->channel, b->bytes + b->off, b->len - b->off));
	if (n == LIBSSH2_ERROR_EAGAIN || n == 0)
		return false;
	if (n == LIBSSH2_ERROR_CHANNEL_CLOSED || n == LIBSSH2_ERROR_CHANNEL_EOF_SENT) {
		/* The far command does not listen any more; its reason comes. */
		b->off = b->len;
		return true;
	}
	if (n < 0) {
		lose(p);
		return false;
	}
	b->off += (size_t)n;
	return true;
}

static bool
push_eof(struct pump *p)
{
	ssize_t rc;

	if (!p->up_ended || p->eof_sent || !is_empty(&p->up) || !may(p, CALL_EOF))
		return false;
	rc = after(p, CALL_EOF, libssh2_channel_send_eof(p->channel));
	if (rc == LIBSSH2_ERROR_EAGAIN)
		return false;
	p->eof_sent = true;
	return true;
}

/* One round; false: nothing could be moved. */
static bool
move(struct pump *p)
{
	bool moved = false;

	moved |= pull_stderr(p);
	moved |= pull_far(p);
	moved |= push_near(p);
	moved |= pull_near(p);
	moved |= push_far(p);
	moved |= push_eof(p);
	return moved && !p->over;
}

/* ---- waiting ----------------------------------------------------------- */

/* libssh2 drops what it cannot send of a keepalive at once, and would then
 * refuse the next packet: so only when there is room. */
static void
keep_alive(struct pump *p, int64_t now)
{
	struct pollfd room = { .fd = p->sock, .events = POLLOUT };
	int seconds = TRANSPORT_KEEPALIVE_S;

	if (now < p->keepalive_ms || p->owner != CALL_NONE)
		return;
	if (poll(&room, 1, 0) == 1 && (room.revents & POLLOUT) &&
	    libssh2_keepalive_send(p->session, &seconds) < 0) {
		lose(p);
		return;
	}
	p->keepalive_ms = now + (seconds > 0 ? seconds : 1) * 1000;
}

static short
sock_events(struct pump *p)
{
	short events = 0;

	if (p->owner != CALL_NONE)
		return POLLOUT;
	/* Input is also what a write waits for that has used up its window. */
	if ((is_empty(&p->down) && !p->down_ended) || !is_empty(&p->up))
		events |= POLLIN;
	if (libssh2_session_block_directions(p->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND)
		events |= POLLOUT;
	return events;
}

static short
near_events(const struct pump *p)
{
	short events = 0;

	if (is_empty(&p->up) && !p->up_ended)
		events |= POLLIN;
	if (!is_empty(&p->down))
		events |= POLLOUT;
	return events;
}

/* Waits for anything that could move; notes silence. */
static void
wait_for_work(struct pump *p)
{
	short sock = sock_events(p), near = near_events(p);
	struct pollfd fds[] = {
		{ .fd = p->t->wake, .events = POLLIN },
		{ .fd = sock != 0 ? p->sock : -1, .events = sock },
		{ .fd = near != 0 ? p->t->fd : -1, .events = near },
	};
	int64_t now = clock_ms(), until = p->keepalive_ms;

	if (until < now + 100)
		until = now + 100;
	if (poll(fds, 3, (int)(until - now)) < 0 && errno != EINTR) {
		p->over = true;
		return;
	}
	now = clock_ms();
	if (fds[0].revents)
		p->over = true;
	/* While our own side takes nothing, the far one cannot be heard. */
	if (fds[1].revents || sock == 0)
		p->heard_ms = now;
	if (now - p->heard_ms > TRANSPORT_SILENCE_MS) {
		transport_set_end(p->t, TRANSPORT_UNREACHABLE, "%s has not answered for %d s",
		    p->t->url.host, TRANSPORT_SILENCE_MS / 1000);
		p->over = true;
	}
}

/* Waits until the far side has closed the channel, which brings the status. */
static void
take_exit(struct pump *p)
{
	int64_t until = clock_ms() + EXIT_WAIT_MS, now;
	struct pollfd fds[] = {
		{ .fd = p->t->wake, .events = POLLIN },
		{ .fd = p->sock, .events = POLLIN },
	};

	while (libssh2_channel_wait_closed(p->channel) == LIBSSH2_ERROR_EAGAIN &&
	    (now = clock_ms()) < until)
		if (poll(fds, 2, (int)(until - now)) < 0 || fds[0].revents)
			break;
	while (pull_stderr(p))
		;
	transport_set_exit(p->t, libssh2_channel_get_exit_status(p->channel),
	    lastline_get(&p->said), p->spoke);
}

void
ssh_pump_run(struct transport *t, LIBSSH2_SESSION *session, LIBSSH2_CHANNEL *channel, int sock)
{
	struct pump p = { .t = t, .session = session, .channel = channel, .sock = sock };

	p.up.bytes = mem_alloc(BUFFER_BYTES);
	p.down.bytes = mem_alloc(BUFFER_BYTES);
	p.heard_ms = clock_ms();
	p.keepalive_ms = p.heard_ms + TRANSPORT_KEEPALIVE_S * 1000;
	libssh2_keepalive_config(session, 1, TRANSPORT_KEEPALIVE_S);
	while (!p.over && !(p.down_ended && is_empty(&p.down))) {
		if (move(&p))
			continue;
		keep_alive(&p, clock_ms());
		if (!p.over && !(p.down_ended && is_empty(&p.down)))
			wait_for_work(&p);
	}
	if (!p.over)
		take_exit(&p);
	free(p.up.bytes);
	free(p.down.bytes);
}
