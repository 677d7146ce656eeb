/*
 * A worker that serves one program's stream of requests goes where that program
 * runs.  Both wait for each other in turns, so one processor is enough for them;
 * to wake one on another processor, which sleeps meanwhile, takes longer than most
 * requests do.
 *
 * The scheduler spreads them, unless the worker may run on that one only, and counts
 * as idle there (SCHED_IDLE): then it gets the processor as soon as the program
 * waits, and gives it back with its answer.  Who counts as idle may have to wait for
 * long where others want the processor, too.  So it is that for as long as requests
 * come one after the other, and whoever keeps watch ends it once they do not.
 */
#ifndef SIBFS_AFFINITY_H
#define SIBFS_AFFINITY_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What a thread may do otherwise. */
struct affinity_home {
	bool works;			/* it can go and come back: not all users may */
	cpu_set_t cpus;
};

/* Of one worker.  The lock is for what it and who keeps watch do; the rest is the worker's. */
struct affinity {
	const struct affinity_home *home;
	pid_t tid;			/* of the worker */
	pthread_mutex_t lock;
	atomic_bool near;		/* (lock to change) */
	int64_t not_before_ms;		/* (lock) CLOCK_MONOTONIC: when it may be again */
	pid_t program;			/* a thread: whose the last request was */
	unsigned row;			/* of its requests without another's between */
	int cpu;			/* where it was found */
};

/* Finds out whether this process may.  One that has a policy of its own keeps that. */
void		 affinity_home_init(struct affinity_home *h);

/* By the worker itself, first of all: it starts as a copy of the thread that made it. */
void		 affinity_init(struct affinity *a, const struct affinity_home *h);
void		 affinity_fini(struct affinity *a);

/* By the worker: it has read that request (struct fuse_in_header and what follows). */
void		 affinity_serves(struct affinity *a, const void *request, size_t size);

/* By anyone. */
bool		 affinity_is_near(struct affinity *a);

/* By anyone: back to where it was.  late: there was something to do, and it did not
 * do it; then it stays away for a while. */
void		 affinity_end(struct affinity *a, bool late);

#endif
