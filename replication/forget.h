/*
 * Forgetting what is deleted: a tombstone may go once every member of the set
 * knows of the deletion, and we know all that they knew then.  Nothing that is
 * concurrent with the deletion can arrive after that.  `state.forgot` keeps the
 * join of the contexts of all that went: whose knowledge does not cover that
 * must be sent all there is, and takes what is missing for removed.
 *
 * Pure: no I/O, no clock, no locks, no logging.
 */
#ifndef SIBFS_FORGET_H
#define SIBFS_FORGET_H

#include "replication/state.h"

/*
 * The events that all n members have, by what is heard of their knowledge (ours
 * among them).  False: one of them knows of events that we lack, so nothing may
 * be forgotten.  The caller owns *out.
 */
bool		 forget_stable(const struct state *s, const struct vv *const *know, size_t n, struct vv *out);

/*
 * May r go?  If not for want of an event, *missing is one that not all have;
 * else it is left alone.
 */
bool		 forget_may_reg(const struct reg *r, const struct vv *stable, struct dot *missing);

/* Forgets r, which is freed.  Its row goes in the same transaction as
 * state.forgot is written in. */
void		 forget_reg(struct state *s, struct reg *r);

struct forget_io {
	void *ctx;
	/* Is there a row for a register in that directory?  May be NULL. */
	bool (*holds)(void *ctx, uint64_t dir_num);
	/* Its row is to go.  May be NULL. */
	void (*gone)(void *ctx, uint64_t dir_num);
	/* Makes that durable, with state.forgot; false: all stays.  May be NULL. */
	bool (*commit)(void *ctx);
};

/*
 * Forgets directories that are removed, that nothing stands in, tombstones
 * included, and that no other directory names as its birth place or in a move.
 * At most `limit` are looked at closely; the rest comes first next time.
 * Directories must be in no list (written, and shown).  The number forgotten.
 */
size_t		 forget_dirs(struct state *s, const struct vv *stable, size_t limit, const struct forget_io *io);

/* How many directories are held as tombstones. */
size_t		 forget_count_dirs(const struct state *s);

#endif
