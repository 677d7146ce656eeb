/*
 * Rounds: one full exchange in both directions, contents included, that a
 * `sync` waits for.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/content_impl.h"
#include "replication/link_impl.h"

void
link_start_round(struct link *l, uint64_t round)
{
	l->round = round;
	l->round_in = l->round_sent = false;
	/* What the peer did not have it may have by now. */
	view_retry(l->r, true);
	view_update(l->r);
	content_retry(l->r, true);
	content_request(l->r);
	link_send_offer(l);
	link_send_subscribe(l, true, round);
}

void
link_round_in(struct link *l, uint64_t round)
{
	/* What was being written when it was asked for, and so was not to be had, is
	 * closed by now, if it was when the round began. */
	if (round == l->round || round == l->their_round) {
		content_retry(l->r, true);
		content_request(l->r);
	}
	if (round == l->round) {
		l->round_in = true;
		l->round_wants = l->r->wants_made;
	}
	if (round == l->their_round) {
		l->their_round_in = true;
		l->their_round_wants = l->r->wants_made;
	}
}

struct later {
	struct replica *r;
	struct link *l;
	link_later_fn *fn;
};

void *
link_later(struct link *l, link_later_fn *fn)
{
	struct later *q = mem_alloc(sizeof(*q));

	*q = (struct later){ l->r, l, fn };
	return q;
}

void
link_later_run(void *arg)
{
	struct later *q = arg;

	replica_call(q->r, q->fn, q->l);
	free(q);
}

/* Runs fn on our thread once the kernel knows of all that changed. */
static void
when_settled(struct link *l, link_later_fn *fn)
{
	if (!l->r->view)
		fn(l->r, l);
	else
		l->r->view->settle(l->r->view->ctx, link_later_run, link_later(l, fn));
}

/* Is it of this peer that the content is to come?  Also if nobody that is linked
 * told of it: what was wanted before a restart, or a peer that is away has. */
static bool
is_to_come(const struct link *l, const struct want *w)
{
	const struct link *other;

	if (w->link || w->from == l->id)
		return w->link == l || w->from == l->id;
	if (!w->waiters_len)
		return false;
	DL_FOREACH(l->r->links, other)
		if (other->id == w->from && link_is_up(other))
			return false;
	return true;
}

enum arrival { ARRIVING, ARRIVED, NO_ROOM };

/* Of what was wanted up to `last`: where users write all the time there is always
 * something that is to come. */
static enum arrival
arrival_of(struct link *l, uint64_t last)
{
	struct want *w, *tmp;
	bool all = true;

	HASH_ITER(hh, l->r->wants, w, tmp) {
		if (w->number > last || !is_to_come(l, w))
			continue;
		if (w->full)
			return NO_ROOM;
		all &= w->failed;
	}
	return all ? ARRIVED : ARRIVING;
}

static void
send_round_done(struct link *l, const char *error)
{
	Sibfs__Wire__RoundDone m = SIBFS__WIRE__ROUND_DONE__INIT;
	FRAME(f, ROUND_DONE, &m);

	f.round_done = &m;
	m.round = l->their_round;
	m.error = (char *)(uintptr_t)error;
	l->their_round = 0;
	link_send_frame(l, &f, false);
	link_pump(l);
}

static void
round_settled(struct replica *r, void *arg)
{
	struct link *l;

	DL_FOREACH(r->links, l)
		if (l == arg && l->their_round) {
			send_round_done(l, "");
			return;
		}
}

void
link_check_round(struct link *l)
{
	enum arrival a = l->round && l->round_in ? arrival_of(l, l->round_wants) : ARRIVING;
	enum arrival theirs = l->their_round && l->their_round_in ? arrival_of(l, l->their_round_wants) : ARRIVING;

	if (a == NO_ROOM) {
		uint64_t round = l->round;

		l->round = 0;
		control_round_done(l->r, round, "no room on this end for all that it sends");
	}
	if (theirs == NO_ROOM)
		send_round_done(l, "no room there for all that was sent");
	if (a == ARRIVED && !l->round_sent) {
		Sibfs__Wire__Round m = SIBFS__WIRE__ROUND__INIT;
		FRAME(f, ROUND, &m);

		l->round_sent = true;
		f.round = &m;
		m.round = l->round;
		link_send_frame(l, &f, false);
	}
	if (theirs == ARRIVED) {
		l->their_round_in = false;
		when_settled(l, round_settled);
	}
}

static void
round_done_here(struct replica *r, void *arg)
{
	struct link *l;

	DL_FOREACH(r->links, l)
		if (l == arg && l->round) {
			uint64_t round = l->round;

			l->round = 0;
			control_round_done(r, round, NULL);
			return;
		}
}

void
link_get_round_done(struct link *l, const Sibfs__Wire__RoundDone *m)
{
	uint64_t round = l->round;

	if (m->round != round)
		return;
	if (*m->error) {
		l->round = 0;
		control_round_done(l->r, round, m->error);
	} else {
		when_settled(l, round_done_here);
	}
}
