/*
 * Forks of this store and of others, found out by what peers tell (lineage.h)
 * or by the store's own marks (replica_place.h).  The replica's thread.
 */
#ifndef SIBFS_REPLICA_FORK_H
#define SIBFS_REPLICA_FORK_H

#include <stdbool.h>

#include <jansson.h>

struct replica;
struct meeting;

/*
 * Applies what came of a peer's lineage: dots here get their new names, and
 * this store a new incarnation if it forked, in one commit.  True: something
 * changed, and all links are closed, to be opened again under the new names.
 */
bool		 fork_met(struct replica *r, const struct meeting *x);

/* This store goes on as a new incarnation; why is for users. */
void		 fork_self(struct replica *r, const char *why);

/* What is said in `status`: a list of {time, text}, the last ones.  A new
 * reference.  fork_note adds to it, in the transaction under way, and logs. */
json_t		*fork_notes(struct replica *r);
void		 fork_note(struct replica *r, const char *text);

/* When the replica starts: what was found when the store was opened. */
void		 fork_say_last(struct replica *r);

#endif
