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
 *	lost       a version is gone only where an event that removed it is known
 *	back       what was removed stays removed where that is known
 *	dot        a version is the one that its dot was given to
 *	knowledge  what a replica says to know it has taken in
 *	quiet      the exchange ends
 *	cursor     little is gone through again when a link is made anew
 *	equal      replicas that exchanged everything hold and show the same
 *	empty      removing all names that a listing gives leaves nothing
 */
#ifndef SIBFS_SIM_LAWS_H
#define SIBFS_SIM_LAWS_H

#include "tests/sim/world.h"

/* Around a user's operation at a replica; rc is what it returned. */
void		 laws_before(struct world *w, const struct step *s);
void		 laws_after(struct world *w, const struct step *s, int rc);

/* After a replica changed: `deep` also asks the ledger. */
void		 laws_check(struct world *w, unsigned i, bool deep);

/* After everything was exchanged. */
void		 laws_check_end(struct world *w);

#endif
