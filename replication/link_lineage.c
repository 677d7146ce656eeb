/*
 * Lineage over a link: exchanged before anything that names dots, and again
 * before the dots of a new block.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/link_impl.h"
#include "replication/replica_fork.h"

static void
send_lineage(struct link *l, Sibfs__Wire__Lineage *m)
{
	FRAME(f, LINEAGE, m);

	f.lineage = m;
	l->lineage_sent = l->r->s->lineage.learnt;
	/* What peers know of our numbers would survive a power cut. */
	if (replica_commit(l->r) < 0)
		link_close(l, "unreachable", "the index cannot be written");
	else
		link_send_frame(l, &f, true);
	sibfs__wire__lineage__free_unpacked(m, NULL);
}

void
link_answer_landmarks(struct link *l, const Sibfs__Wire__Hello *m)
{
	if (!m->run)
		return;		/* of a version that knows no lineage */
	l->has_lineage = true;
	send_lineage(l, exchange_lineage(l->r->s, m->landmarks ? m->landmarks : &m->id, m->n_landmarks, 0));
}

void
link_lineage_news(struct link *l)
{
	if (l->has_lineage && l->lineage_sent != l->r->s->lineage.learnt)
		send_lineage(l, exchange_lineage(l->r->s, NULL, 0, l->lineage_sent));
}

int
link_get_lineage(struct link *l, const Sibfs__Wire__Lineage *m)
{
	struct meeting x;
	bool changed;
	int rc;

	/* Who may only read does not decide what we call our events. */
	if (l->read_only)
		return 0;
	rc = exchange_take_lineage(l->r->s, m, &x);
	changed = fork_met(l->r, &x);
	if (rc == 0 && x.doubt_len && !changed)
		link_close(l, "connecting", "it learns of a fork, and connects again");
	exchange_end_meeting(&x);
	if (rc == 0 && !l->closing)
		l->peer->tries = 0;
	return rc;
}

int
link_meet_copy(struct link *l, const Sibfs__Wire__Hello *m)
{
	struct replica *r = l->r;

	if (!m->run || m->run == r->run) {
		link_send_bye(l, "the far end is this very replica");
		link_close(l, "refused", "the far end is this very replica");
		return 0;
	}
	/* Both see both Hellos: one of them gives the incarnation up. */
	if (r->run > m->run)
		fork_self(r, "this store and one that it met are copies of each other");
	link_close(l, "connecting", "it is a copy of this store: one of them goes on as a new incarnation");
	return 0;
}
