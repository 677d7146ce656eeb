/*
 * The exchange between replicas as far as it is state and messages alone: which
 * directories go before what stands in them, what a message does to the state,
 * and offers.  Links feed it, and so does the simulator.
 *
 * Pure: no sockets, no contents of files, no commits.
 */
#ifndef SIBFS_EXCHANGE_H
#define SIBFS_EXCHANGE_H

#include "replication/state.h"
#include "replication/wire.h"

/* Directories that a peer was sent, each as of which change. */
struct told;

/* Directories for a message; what they were born in stands before them. */
struct dirs {
	Sibfs__Wire__Directory **d;
	size_t len;
	size_t bytes;		/* about */
};

/* What a peer has: the events that it knows, and those on what it forgot. */
struct has {
	const struct vv *know, *forgot;
};

/*
 * Adds d and those above it (of its birth and its moves) as far as they are
 * news for such a peer, or it may have forgotten them, and it was not told of
 * them as they are.  From now on they are told: their identity is final, which
 * is to be durable before the message leaves.
 */
void		 exchange_add_dir(struct state *s, struct told **told, struct has has, struct dirs *out, struct dir *d);

/* Only those above it. */
void		 exchange_add_above(struct state *s, struct told **told, struct has has, struct dirs *out,
		    const struct dir *d);
void		 exchange_free_dirs(struct dirs *out);
void		 exchange_forget_told(struct told **told);

/*
 * Joins what came from a peer with the knowledge `know` (may be NULL for
 * directories).  What we then hold no more of than it did is noted to be `from`
 * that link, and need not go back over it.  0 or -EBADMSG; news is set if anything was new, else
 * left.
 */
int		 exchange_take_dirs(struct state *s, Sibfs__Wire__Directory *const *list, size_t n, uint64_t from,
		    const struct vv *know, bool *news);
int		 exchange_take_reg(struct state *s, const Sibfs__Wire__Register *m, uint64_t from,
		    const struct vv *know, struct reg **out, bool *news);

/* A directory that nobody has heard of, and where it shows.  Until the answer
 * comes it may be removed, and forgotten: so it is kept by its number. */
struct offer {
	char *path;		/* allocated */
	uint64_t num;
};

/* All that may be offered, those above first.  The caller frees paths and list. */
struct offer	*exchange_offers(struct state *s, size_t *n);

/* They were answered: all that are still there are told. */
void		 exchange_told_offers(struct state *s, const struct offer *o, size_t n);

/* What we answer to one offered path: NULL for nothing.  It is told from now on. */
struct dir	*exchange_answer(struct state *s, const ProtobufCBinaryData *path);

/* Lets ours at path be the one that the peer shows there, if it may; *out is
 * that one, or NULL.  0 or -EBADMSG. */
int		 exchange_adopt(struct state *s, const char *path, const Sibfs__Wire__Directory *m, struct dir **out);

/* ---- lineage (exchange_lineage.c) ---- */

/*
 * What a peer with those landmarks may lack of the lineage, and how far blocks
 * reach.  With marks NULL: blocks learnt after the `since`-th, without reaches.
 * To free with sibfs__wire__lineage__free_unpacked.
 */
Sibfs__Wire__Lineage *exchange_lineage(struct state *s, const uint64_t *marks, size_t marks_len, uint64_t since);

/* What came of a peer's lineage. */
struct meeting {
	struct relabel *changed;	/* other names for dots here: to be applied */
	size_t changed_len;
	struct relabel *doubt;		/* dots that the peer calls otherwise than we do */
	size_t doubt_len;
};

/* 0 or -EBADMSG; what changed is to be applied then too. */
int		 exchange_take_lineage(struct state *s, const Sibfs__Wire__Lineage *m, struct meeting *out);
void		 exchange_end_meeting(struct meeting *x);

#endif
