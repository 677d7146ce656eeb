/*
 * The store's own marks: where it lies, and which opening of it was the last.
 * They show without any peer that a store was copied, or that its index is not
 * the one that belongs to it.
 *
 * The place is the file system (by its UUID where there is one), inode and
 * generation of the store's root, and the machine.  The last opening is a
 * random number in the index and in STORE/.sibfs/opened; the index knows the
 * inode of that file, which is a new one each time.
 */
#ifndef SIBFS_REPLICA_PLACE_H
#define SIBFS_REPLICA_PLACE_H

#include <stdint.h>

struct replica;

enum place_verdict {
	PLACE_SAME,
	PLACE_COPIED,		/* the store stands elsewhere than it did */
	PLACE_RESTORED,		/* its files were put back from a copy */
	PLACE_ROLLED_BACK,	/* the index is not that of the last opening */
};

/* To be asked before the store is changed. */
enum place_verdict place_check(struct replica *r);

/* What users are told of it; NULL if all is well. */
const char	*place_text(enum place_verdict v);

/* Marks the store as opened here and now, and begins a new stretch of sequence
 * numbers.  In a commit of its own; 0 or -errno. */
int		 place_mark(struct replica *r);

/* The incarnation of the last opening, as far as the file has it; 0: unknown. */
uint64_t	 place_last_self(struct replica *r);

/*
 * Where a peer stands that had all changes up to `seq` of stretch `epoch`: of
 * one that this index does not know, or knows to have ended before (it was
 * restored), only what was in common counts.
 */
uint64_t	 place_cursor(const struct replica *r, uint64_t epoch, uint64_t seq);

#endif
