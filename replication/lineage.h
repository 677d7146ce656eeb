/*
 * Lineage: which numbers of an incarnation are whose.
 *
 * A store that was restored from a backup, or copied, may give numbers again
 * that it gave before.  So it takes its numbers in blocks, each with a random
 * token, and begins a new block whenever it is opened; a block also names the
 * one that it follows.  All blocks that replicas ever heard of make trees: one
 * for each incarnation, whose root is a block without numbers and has the
 * incarnation's id as its token.
 *
 * Where two blocks claim the same numbers the incarnation has forked.  Which
 * one loses follows from the tree alone, and never changes when more is heard:
 * a block loses if the one that it follows went on, or another follows that
 * later; of two that follow at the same number the higher token loses.  From
 * then on the lost block, with all that follows it, is an incarnation of its
 * own, with its token as the id and the same numbers.  So every replica comes
 * to call each event by the same dot, and what two forked stores wrote is
 * concurrent, as it truly was; nothing has to be written anew.
 *
 * A grow-only set: commutative, associative, idempotent.  Pure.
 */
#ifndef SIBFS_LINEAGE_H
#define SIBFS_LINEAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uthash.h>

#include "replication/vv.h"

#define LINEAGE_MAX 65536	/* blocks; more are not taken in */
#define LINEAGE_BLOCK (1u << 16)	/* numbers in one block */

struct block {
	UT_hash_handle hh;	/* lineage.blocks, by token; those followed come first */
	uint64_t token;
	uint64_t parent;	/* token of the one that it follows; 0: a root */
	uint64_t start;		/* its first number; 0: of a root */
	uint64_t last;		/* the highest that is known to have been given in it */
	uint64_t id;		/* incarnation that its numbers stand under; 0: not settled yet */
	uint64_t order;		/* how many were learnt before it, and 1 */
	bool dirty;		/* to be written to the index */
	/* As of the last time it was settled. */
	uint64_t reach;		/* it went on to here at least */
	uint64_t heir;		/* the token that follows there; 0: none */
	bool forked;		/* one that follows it lost */
};

struct lineage {
	struct block *blocks;
	uint64_t learnt;	/* how many, for those who pass them on */
	bool dirty;
	bool unsettled;
};

/* From now on the dots (from, start and above) are (to, the same number). */
struct relabel {
	uint64_t from, start, to;
};

void		 lineage_fini(struct lineage *x);

/*
 * Learns of a block.  -EBADMSG if it contradicts what is known, or follows one
 * that is not; -ENOSPC: too many.  To be settled.
 */
int		 lineage_learn(struct lineage *x, uint64_t token, uint64_t parent, uint64_t start);

/* One that was settled before, as it was; in the order in which they were learnt. */
int		 lineage_load(struct lineage *x, uint64_t token, uint64_t parent, uint64_t start, uint64_t last,
		    uint64_t id);

/* That this number of the block was given. */
void		 lineage_reach(struct lineage *x, uint64_t token, uint64_t last);

/* The same for all dots of a vector, by the incarnations they stand under. */
void		 lineage_saw(struct lineage *x, const struct vv *seen);

/*
 * Works out which blocks lost.  What changes for dots already here is
 * returned, in the order in which it is to be applied; to free.
 */
struct relabel	*lineage_settle(struct lineage *x, size_t *n);

struct block	*lineage_find(const struct lineage *x, uint64_t token);

/* The block of that number of an incarnation; NULL if it is not known. */
struct block	*lineage_at(const struct lineage *x, uint64_t id, uint64_t n);

/* The one that nothing follows yet under that incarnation. */
struct block	*lineage_tip(const struct lineage *x, uint64_t id);

/*
 * A few tokens that say which blocks we have: of each incarnation the last
 * ones, and ever fewer of those before.  To free.
 */
uint64_t	*lineage_landmarks(const struct lineage *x, size_t *n);

/*
 * The blocks that one with those landmarks may lack, those followed first: of
 * each incarnation all after the last one that it has.  To free; borrowed.
 */
struct block	**lineage_lacking(const struct lineage *x, const uint64_t *marks, size_t marks_len, size_t *n);

/* ---- applying what changed ---- */

struct dot	 lineage_dot(struct dot d, const struct relabel *l, size_t n);
/* Returns whether anything changed. */
bool		 lineage_vector(struct vv *v, const struct relabel *l, size_t n);
/* Of hearsay, which may be of either branch: takes back what is not certain. */
bool		 lineage_doubt(struct vv *v, const struct relabel *l, size_t n);

#endif
