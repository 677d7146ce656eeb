/*
 * Directories: each has an identity that it keeps wherever it is moved.  A
 * replica holds the version vector over the events on it, the dots by which it
 * is live (makings and moves that no removal has seen), its moves and its
 * modes, all by dot and joined by the rule that registers are joined by.
 *
 * The identity is made from where the directory is made (the parent's, the
 * name, the lowest number not in use), so replicas that make the same directory
 * on their own mean the same one.  While no peer has heard of it, it may still
 * take another (state_take_identity).
 *
 * Pure: no I/O, no locks, no logging.
 */
#ifndef SIBFS_DIR_H
#define SIBFS_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uthash.h>

#include "replication/attr.h"
#include "replication/vv.h"

struct identity {
	uint8_t b[16];
};

struct dir;
struct place_node;

/* Parent and name.  The name is owned by what the place stands in. */
struct place {
	struct dir *up;
	char *name;
};

struct dir_move {
	struct dot dot;
	struct place to, from;
	struct stamp at;
};

struct dir_mode {
	struct dot dot;
	uint32_t mode;
};

enum dir_told {
	DIR_TOLD,		/* a peer has heard of it: its identity is final */
	DIR_MADE_HERE,
	DIR_TAKEN_IN,		/* by init: others may have copies from before */
};

/* The value that replicas join; what is pointed to belongs to it. */
struct dirval {
	struct vv ctx;
	struct dot *live;
	uint32_t live_len;
	struct dir_mode *modes;
	uint32_t modes_len;
	struct dir_move *moves;
	uint32_t moves_len;
	struct attrs attrs;	/* all but the mode */
};

struct dir {
	UT_hash_handle hh;	/* state.dirs, by identity */
	struct identity id;
	uint64_t num;		/* local number, for the index; the root's is 1 */
	struct place birth;
	uint32_t birth_k;
	struct dirval val;
	enum dir_told told;
	uint64_t seq;
	uint64_t from;		/* the link that told us all of this value; 0: none, or forgotten */

	/* Kept by state*.c from the above. */
	struct place at;	/* where it shows */
	struct place_node *shows;	/* the same, with all that show there */
	struct dir *prev, *next;	/* in its parent's list of children */
	struct dir *children;
	struct dir *same_place;	/* the next that shows there too */
	struct place want;	/* while places are computed */
	uint32_t mark;
	uint64_t looked;	/* the last scope that looked at it */
	struct dir **names;	/* that its moves name, as counted; NULL at the end */
	uint32_t named;		/* how many births and moves of others name it */
	uint32_t files;		/* registers in it with a live version shown */
	uint32_t standing;	/* children that stand */
	struct dir *seq_prev, *seq_next;	/* in the state's list of all by seq */
	struct dir *new_prev, *new_next;	/* in its list of those that no peer has heard of */
	bool counted;		/* in its parent's `standing` */
	bool removed;		/* in the state's list of those not live */
	bool dirty;
	bool touched;
	bool again;		/* the disk could not be made to show it: a local note */
	bool listed;		/* in the list of the update of the view under way */

	void *disk;		/* the replica's note of where it is in the store */
};

static inline bool
dir_is_live(const struct dir *d)
{
	return d->val.live_len > 0;
}

/* SHA-256 over the parent's identity, the name and the number, cut. */
struct identity	 identity_make(const struct identity *parent, const char *name, uint32_t k);
bool		 identity_equal(const struct identity *a, const struct identity *b);

/*
 * Its move that counts: the newest that no removal has seen; NULL if it stands
 * where it was made.  A removed one: the newest there was.
 */
const struct dir_move *dir_move(const struct dir *d);
struct place	 dir_place(const struct dir *d);	/* borrowed */
struct stamp	 dir_since(const struct dir *d);

/* How many directories it shows below; 0 for the root. */
unsigned	 dir_depth(const struct dir *d);

/* Where it shows: "" for the root, else "a/b"; to free. */
char		*dir_path(const struct dir *d);

/* What all concurrent modes allow. */
uint32_t	 dir_mode(const struct dir *d);

void		 dirval_join(struct dirval *mine, const struct dirval *theirs,
		    const struct vv *my_know, const struct vv *their_know);
void		 dirval_copy(struct dirval *out, const struct dirval *d);
void		 dirval_fini(struct dirval *d);
bool		 dirval_equal(const struct dirval *a, const struct dirval *b);
uint64_t	 dirval_hlc(const struct dirval *d);

/* Has a modes, moves or other attributes that b has not? */
bool		 dirval_has_more(const struct dirval *a, const struct dirval *b);

/* Replace all live dots, modes or moves by one of dot d. */
void		 dirval_set_live(struct dirval *v, struct dot d);
void		 dirval_clear_live(struct dirval *v);
void		 dirval_drop_dead_moves(struct dirval *v);	/* all but live ones */
void		 dirval_set_mode(struct dirval *v, struct dot d, uint32_t mode);
void		 dirval_set_move(struct dirval *v, struct dot d, struct place to, struct place from, struct stamp at);

#endif
