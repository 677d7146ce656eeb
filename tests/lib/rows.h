/*
 * A replica's index in memory: the rows that its state was last committed as,
 * and the feed of changes by sequence number.  What was not committed is gone
 * after rows_restore, as after a crash.
 */
#ifndef SIBFS_TEST_ROWS_H
#define SIBFS_TEST_ROWS_H

#include "replication/state.h"

/* A change: to the register `name` in the directory, or (NULL) to that one.  It
 * is outdated if what it names has changed since. */
struct change {
	uint64_t seq, num;
	char *name;
};

struct feed {
	struct change *c;	/* by seq */
	size_t len, cap;
};

struct rows;

struct rows	*rows_new(void);
void		 rows_free(struct rows *x);

/*
 * Writes what is dirty, appends it to the feed, and empties the lists of what
 * was touched.  x may be NULL: then nothing survives a crash.
 */
void		 rows_commit(struct rows *x, struct state *s, struct feed *feed);

/* The state as committed, with a feed of all that is in it. */
struct state	*rows_restore(const struct rows *x, uint64_t self, const struct state_io *io, struct feed *feed);

/* How far this replica has come in a peer's changes, as committed. */
void		 rows_set_cursor(struct rows *x, uint64_t peer, uint64_t seq);
uint64_t	 rows_cursor(const struct rows *x, uint64_t peer);

/* Drops the rows of what the state has forgotten. */
void		 rows_forget(struct rows *x, struct state *s);

/* The knowledge as committed, until the next commit. */
const struct vv	*rows_know(const struct rows *x);
uint64_t	 rows_counter(const struct rows *x);

/* The first change after seq. */
size_t		 feed_after(const struct feed *f, uint64_t seq);
void		 feed_fini(struct feed *f);

#endif
