/*
 * What one replica holds: its directories, registers and knowledge, and where
 * directories show.  Directories live in memory; registers are fetched through
 * `load` when first needed and may be let go once they are in the index.
 *
 * Pure: no I/O of its own, no clock, no locks, no logging.  The caller sets
 * `now` before it changes anything.
 */
#ifndef SIBFS_STATE_H
#define SIBFS_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/dir.h"
#include "replication/lineage.h"
#include "replication/reg.h"
#include "replication/vv.h"

#define STATE_SEP ".conflict-"
#define STATE_NAME_MAX 255	/* bytes in a name */

struct state_io {
	void *ctx;
	/* Fills r (its key is set) from the index; false: there is none.  May be NULL. */
	bool (*load)(void *ctx, struct reg *r);
	/* The node name of an incarnation, for labels; never NULL. */
	const char *(*node_name)(void *ctx, uint64_t id);
	/* Calls fn for each name in d whose files are in conflict.  May be NULL. */
	void (*conflicts)(void *ctx, struct dir *d, void (*fn)(void *arg, const char *name), void *arg);
	/* A random number, never 0.  NULL: numbers are not taken in blocks. */
	uint64_t (*token)(void *ctx);
};

/* Pointers collected for the caller, each once until the list is taken. */
struct reg_list {
	struct reg **r;
	size_t len, cap;
};
struct dir_list {
	struct dir **d;
	size_t len, cap;
};

struct place_node;

struct state {
	struct state_io io;
	uint64_t self;		/* our incarnation */
	uint64_t counter;	/* of the last event */
	uint64_t block;		/* token of the block taken last, 0: none yet */
	uint64_t block_left;	/* numbers left in it; 0 when the store is opened */
	struct lineage lineage;
	uint64_t now;		/* physical clock, nanoseconds; may be wrong */
	uint64_t hlc;		/* the largest stamp given or seen here */
	uint64_t seq;		/* of the last change */
	uint64_t next_num;	/* for directories */
	struct vv know;
	struct vv seen;		/* all events heard of; above know where a round was cut */
	struct vv forgot;	/* over the events on all that was forgotten here */
	struct dir *root;
	struct dir *dirs;	/* by identity, the root among them */
	struct dir **by_num;
	size_t by_num_len;
	struct place_node *places;	/* (parent, name) -> directories that show there */
	struct reg *regs;	/* cached */
	size_t displaced;	/* directories that show elsewhere because of a ring */
	struct dir *by_seq;	/* directories in the order of their last change */
	struct dir *untold;	/* those that no peer has heard of */
	bool untold_moved;	/* one of them may stand elsewhere than it was made */
	uint64_t scopes;	/* that were opened: scope.h */
	struct dir_list removed;	/* not live when last looked at */

	struct reg_list dirty_regs, touched_regs;
	struct dir_list dirty_dirs, touched_dirs;
};

struct state	*state_new(uint64_t self, const struct state_io *io);
void		 state_free(struct state *s);

/* ---- events ---- */

/* The next dot, entered into ctx and into our knowledge. */
struct dot	 state_event(struct state *s, struct vv *ctx);

/* Begins a new block: the counter stands at its first number (state_event). */
void		 state_take_block(struct state *s);

/*
 * Has another store given numbers in our name?  Then we go on under another
 * incarnation: that of our last block if it lost, else a new one.  Lineage must
 * be settled.  True: self changed.
 */
bool		 state_fork_check(struct state *s);

/* Goes on as a new incarnation, whatever the lineage says. */
void		 state_fork(struct state *s);

/* Calls what changed dots by their new names, in all but registers that are not
 * loaded (state_relabel_reg each). */
void		 state_relabel(struct state *s, const struct relabel *l, size_t n);
/* True: it changed, and is to be written. */
bool		 state_relabel_reg(struct state *s, struct reg *r, const struct relabel *l, size_t n);

/* The next clock stamp. */
struct stamp	 state_stamp(struct state *s);
void		 state_saw(struct state *s, uint64_t hlc);

/* ---- registers ---- */

/* NULL if there is none and make is false; a name that is made is not too long.  Valid until state_trim. */
struct reg	*state_reg(struct state *s, struct dir *d, const char *name, bool make);
/* That of a row of the index; NULL: its directory or it is not known (any more). */
struct reg	*state_reg_in(struct state *s, uint64_t dir_num, const char *name);

/*
 * To be called after each change of r->shown or r->pending.  Keeps the counts
 * of what stands, the sequence, and pending at or above shown.
 */
void		 state_reg_changed(struct state *s, struct reg *r);

/* Its pending value is complete: from now on it is shown. */
void		 state_reg_show(struct state *s, struct reg *r);

/* Only its local notes changed: to be written, nothing to be sent. */
void		 state_reg_noted(struct state *s, struct reg *r);

/* ---- directories ---- */

struct dir	*state_dir(struct state *s, const struct identity *id);
struct dir	*state_dir_num(const struct state *s, uint64_t num);

/* Adds one of that birth (parent known); no live dots yet. */
struct dir	*state_dir_add(struct state *s, struct place birth, uint32_t k);

/* Puts one read from the index in place; then state_rebuild once for all. */
struct dir	*state_dir_load(struct state *s, const struct identity *id, uint64_t num);

/* All of it was read; those that changed first come first. */
void		 state_dir_loaded(struct state *s, struct dir *d);

/* After each change of a directory's value. */
void		 state_dir_changed(struct state *s, struct dir *d);
void		 state_dir_noted(struct state *s, struct dir *d);

/* The one that changed first after seq; those that changed later are its seq_next.
 * It costs what changed since. */
struct dir	*state_dirs_since(const struct state *s, uint64_t seq);

/* Has a peer heard of it? */
void		 state_set_told(struct state *s, struct dir *d, enum dir_told told);

/* Drops directories that nothing else names and no register stands in. */
void		 state_drop_dirs(struct state *s, struct dir *const *list, size_t n);

/* Drops a register that is in no list. */
void		 state_drop_reg(struct state *s, struct reg *r);

/* Gives an untold directory, and those made in it, the identity of another birth. */
void		 state_take_identity(struct state *s, struct dir *d, struct place birth, uint32_t k);

/* The lowest number for a new one at that place whose identity is not taken. */
uint32_t	 state_free_number(struct state *s, struct place at, bool reuse_removed);

/* The first directory shown at (up, name), standing or not; others by ->same_place. */
struct dir	*state_at(const struct state *s, const struct dir *up, const char *name);

/* Of d and those above it the highest that is not the only one to stand at its
 * place; NULL: d and each of those is seen as a directory by itself. */
struct dir	*state_shared(const struct dir *d);

/* name.conflict-LABEL, cut if it would be too long; out holds STATE_NAME_MAX + 1. */
void		 state_sibling(const char *name, const char *label, char *out);

/* Does it show: is it live, or does something stand in it? */
bool		 state_stands(const struct dir *d);

/* Where all directories show, from scratch. */
void		 state_rebuild(struct state *s);

void		 state_touch_reg(struct state *s, struct reg *r);
void		 state_touch_dir(struct state *s, struct dir *d);

/* Lets registers go that are written and not listed, down to `keep`. */
void		 state_trim(struct state *s, size_t keep);

#endif
