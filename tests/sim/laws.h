/*
 * What must hold of every history.  Laws that are broken are told by world_fail
 * as "law: how".  The laws:
 *
 *	refused    an operation that is refused changes nothing
 *	touched    an operation changes no name that it does not touch
 *	done       an operation does what it was asked to
 *	removed    only what the operation had on show is removed by it
 *	place      each directory stands in exactly one place, below the root
 *	counts     what is counted as things change is so
 *	scratch    places follow from the state, whatever led to it
 *	name       each live version and directory shows, under a name of its own
 *	bounds     a replica has at most one making, move and mode of a directory
 *	size       messages and rows are no longer than sibfs-wire(5) says
 *	twice      nothing is said again over a link, but in a round in full
 *	sight      a message that removes a name comes after what it was renamed to
 *	lost       a version is gone only where an event that removed it is known
 *	back       what was removed stays removed where that is known
 *	dot        a version is the one that its dot was given to
 *	knowledge  what a replica says to know it has taken in
 *	quiet      the exchange ends
 *	cursor     little is gone through again when a link is made anew
 *	equal      replicas that exchanged everything hold and show the same
 *	forgotten  what all know to be removed goes everywhere, and nothing else does
 *	empty      removing all names that a listing gives leaves nothing
 */
#ifndef SIBFS_SIM_LAWS_H
#define SIBFS_SIM_LAWS_H

#include "tests/sim/world.h"

/* Around a user's operation at a replica; rc is what it returned. */
void		 laws_before(struct world *w, const struct step *s);
void		 laws_after(struct world *w, const struct step *s, int rc);

/* (laws_wire.c) A message that is sent, and the row of a register. */
void		 laws_sent(struct world *w, struct wire *x, const uint8_t *p, size_t len);
void		 laws_forget_said(struct wire *x);
void		 laws_check_row(struct world *w, const struct reg *r);

/* What shows, to free; and after a message arrived, with what showed before. */
struct sights	*laws_sights(struct state *s, uint64_t upto);
void		 laws_heard(struct world *w, struct wire *x, const struct message *m, const struct sights *before);

/* After a replica changed: `deep` also asks the ledger. */
void		 laws_check(struct world *w, unsigned i, bool deep);

/* After everything was exchanged. */
void		 laws_check_end(struct world *w);

#endif
