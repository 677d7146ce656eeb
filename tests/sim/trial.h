/*
 * Runs histories, each trial in a process of its own, so that one in which the
 * core ends by an assertion or a signal can be told of and made shorter too.
 */
#ifndef SIBFS_SIM_TRIAL_H
#define SIBFS_SIM_TRIAL_H

#include "tests/sim/step.h"

struct verdict {
	bool failed;
	char why[1024];		/* "law: how" */
	uint64_t seed;		/* of the history that failed */
	uint64_t histories;	/* that were run */
	uint64_t steps;
};

/* Histories of the seeds from `first` on: so many, or (0) for so many seconds. */
void		 trial_seeds(uint64_t first, uint64_t n, unsigned seconds, struct verdict *out);

/* The history of a seed, as far as it went. */
void		 trial_record(uint64_t seed, struct history *out, struct verdict *v);

/* Replays a history, with all laws looked at after each step. */
void		 trial_replay(const struct history *h, struct verdict *out);

/* Leaves out steps as long as the same law is broken. */
void		 trial_shrink(struct history *h, struct verdict *v);

#endif
