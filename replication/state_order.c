/*
 * Two lists of directories that spare a walk over all of them: in the order of
 * their last change, for peers that ask what changed, and those that no peer has
 * heard of.
 */
#include "config.h"

#include "replication/state_impl.h"

#include <utlist.h>

/* ---- by change ---- */

void
state_order(struct state *s, struct dir *d)
{
	struct dir *after;

	if (d->seq_prev)
		DL_DELETE2(s->by_seq, d, seq_prev, seq_next);
	/* The first one's seq_prev is the last: mostly d goes there. */
	after = s->by_seq ? s->by_seq->seq_prev : NULL;
	while (after && after->seq > d->seq)
		after = after == s->by_seq ? NULL : after->seq_prev;
	if (after)
		DL_APPEND_ELEM2(s->by_seq, after, d, seq_prev, seq_next);
	else
		DL_PREPEND2(s->by_seq, d, seq_prev, seq_next);
}

struct dir *
state_dirs_since(const struct state *s, uint64_t seq)
{
	struct dir *d, *first = NULL;

	if (!s->by_seq)
		return NULL;
	for (d = s->by_seq->seq_prev; d->seq > seq; d = d->seq_prev) {
		first = d;
		if (d == s->by_seq)
			break;
	}
	return first;
}

/* ---- by whether a peer has heard of it ---- */

static void
forget_untold(struct state *s, struct dir *d)
{
	if (!d->new_prev)
		return;
	DL_DELETE2(s->untold, d, new_prev, new_next);
	d->new_prev = d->new_next = NULL;
	if (!s->untold)
		s->untold_moved = false;
}

void
state_set_told(struct state *s, struct dir *d, enum dir_told told)
{
	d->told = told;
	if (told == DIR_TOLD)
		forget_untold(s, d);
	else if (!d->new_prev)
		DL_APPEND2(s->untold, d, new_prev, new_next);
}

void
state_order_drop(struct state *s, struct dir *d)
{
	if (d->seq_prev)
		DL_DELETE2(s->by_seq, d, seq_prev, seq_next);
	forget_untold(s, d);
}
