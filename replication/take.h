/*
 * Taking in what another replica knows of one register or directory, and
 * adopting its directories for those made here that nobody has heard of yet.
 * Commutative, associative, idempotent.  Pure.
 */
#ifndef SIBFS_TAKE_H
#define SIBFS_TAKE_H

#include "replication/state.h"

/*
 * Joins a register.  What is joined is pending until state_reg_show.  Returns
 * the register; *news says whether anything was new.
 */
struct reg	*take_reg(struct state *s, struct dir *d, const char *name, const struct regval *theirs,
		    const struct vv *their_know, bool *news);

/* Joins a directory, whose parents (of birth and moves) are all known. */
struct dir	*take_dir(struct state *s, struct place birth, uint32_t k, const struct dirval *theirs,
		    const struct vv *their_know, bool *news);

/*
 * A peer sent all that it has, and not this: what its knowledge covers was
 * removed there, and forgotten.  take_absent_dir says whether that is news.
 */
struct reg	*take_absent_reg(struct state *s, struct dir *d, const char *name, const struct vv *their_know,
		    bool *news);
bool		 take_absent_dir(struct state *s, struct dir *d, const struct vv *their_know);

/*
 * What was removed here lives again, by those who had not heard of the removal,
 * and has modes or attributes from before that the value taken in, `theirs`, has
 * not: that becomes an event.  Others may have forgotten them together with what
 * was removed, and are told again only of events that they do not know.
 */
void		 take_lives_again(struct state *s, struct dir *d, const struct dirval *theirs);
void		 take_reg_lives_again(struct state *s, struct reg *r);

/*
 * Before a replica first sends directories that no peer has heard of, it offers
 * their paths; the peer answers with the directory it shows there, and what was
 * made here under that name is that one.
 */
bool		 take_may_offer(struct state *s, struct dir *d);

/* What we show at that path, if it can be adopted there; else NULL. */
struct dir	*take_answer(struct state *s, const char *path);

/* Lets our directory at path take the identity that the peer shows there.  The
 * caller then joins the peer's directory by take_dir. */
bool		 take_adopt(struct state *s, const char *path, struct place birth, uint32_t k, struct place place);

/* A peer is about to hear of all that we have, or of one. */
void		 take_told(struct state *s);
void		 take_told_one(struct state *s, struct dir *d);

#endif
