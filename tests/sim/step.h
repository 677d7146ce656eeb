/*
 * A history is a list of steps: what users do, what the network does, what
 * crashes.  Each is one line of text, so that one that failed can be read,
 * stored, replayed, and made shorter by leaving lines out.
 */
#ifndef SIBFS_SIM_STEP_H
#define SIBFS_SIM_STEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum step_kind {
	/* A user's operation at a replica. */
	STEP_WRITE,		/* write R PATH CONTENT */
	STEP_UNLINK,		/* unlink R PATH */
	STEP_MKDIR,		/* mkdir R PATH MODE */
	STEP_INIT,		/* init R PATH MODE: a directory that was taken in */
	STEP_RMDIR,		/* rmdir R PATH */
	STEP_RENAME,		/* rename R FROM TO */
	STEP_SWAP,		/* swap R PATH PATH */
	STEP_CHMOD,		/* chmod R PATH MODE */
	STEP_COPY,		/* copy R FROM: an empty replica takes in a copy of what FROM shows */
	/* Links. */
	STEP_LINK,		/* link R PEER */
	STEP_CUT,		/* cut R PEER: what is on its way is lost */
	STEP_STALL,		/* stall R PEER: nothing from R arrives at PEER, until */
	STEP_FLOW,		/* flow R PEER */
	STEP_PUSH,		/* push R: one message to each peer that is owed one */
	STEP_DELIVER,		/* deliver R PEER: one message arrives */
	STEP_AGAIN,		/* again R PEER: the one that arrived last does once more */
	STEP_RUN,		/* run N SEED: so many messages in some order */
	STEP_SYNC,		/* sync R PEER: all messages between the two */
	/* Replicas. */
	STEP_COMMIT,		/* commit R: what was done is acknowledged */
	STEP_CRASH,		/* crash R: what was not committed is lost */
	STEP_STOP,		/* stop R: commits and is away, until */
	STEP_START,		/* start R */
	STEP_FORGET,		/* forget R N: deletions that all know of; without member N, if not -1 */
	STEP_CLOCK,		/* clock R DELTA: it jumps */
	STEP_SLOW,		/* slow R: contents wait there, until `show` */
	STEP_SHOW,		/* show R N: the contents of so many registers arrive */
	STEP_KINDS,
};

struct step {
	enum step_kind kind;
	unsigned who, other;
	char *a, *b;
	int64_t n, m;
};

struct history {
	uint64_t seed;
	unsigned nodes;		/* replicas: 2 to 50 */
	unsigned shape;		/* of the links in the end: enum shape of world.h */
	struct step *step;
	size_t len, cap;
};

const char	*step_node_name(unsigned i);
void		 step_print(FILE *f, const struct step *s);
void		 step_fini(struct step *s);
struct step	 step_copy(const struct step *s);

void		 history_add(struct history *h, struct step s);	/* takes s over */
void		 history_fini(struct history *h);
void		 history_print(FILE *f, const struct history *h);

/* Reads what history_print wrote; comments begin with '#'.  False: a line in
 * why says what is wrong. */
bool		 history_read(FILE *f, struct history *h, char *why, size_t why_size);

#endif
