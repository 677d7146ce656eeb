/*
 * Random histories.  What happens often in one is rare in another: how many
 * replicas and names there are, how they are linked, how much breaks.
 */
#ifndef SIBFS_SIM_CHOOSE_H
#define SIBFS_SIM_CHOOSE_H

#include "tests/sim/world.h"

struct chooser {
	unsigned steps;
	unsigned users, faults;		/* percent of the steps; the rest are messages */
	unsigned moves, same;		/* percent of the operations; of contents */
	unsigned nested;		/* percent of the names are in directories */
	bool rounds;			/* exchanges are whole rounds, mostly */
	bool lateness;			/* some replicas stay away for long */
	bool retires;			/* deletions are forgotten without some members */
	unsigned serial;
};

/* Begins the history of a seed: h gets its replicas and shape. */
void		 choose_begin(struct chooser *c, struct history *h, uint64_t seed);
struct step	 choose_step(struct chooser *c, struct world *w);

#endif
