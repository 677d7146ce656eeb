/*
 * Registers: all that a replica knows about the files of one name in one
 * directory.  The value is a causal context (a version vector over the events
 * on it) and the live versions, concurrent with each other, each with the dot
 * that wrote it; attributes set later live in slots beside them.  A deleted
 * name is a register without a live version (a tombstone).
 *
 * A register has two values.  `shown` is what its names stand for on disk and
 * what a user's operation acts upon; `pending`, when there is one, is at or
 * above it and waits for content that is not here yet.  Peers are sent the
 * higher one.
 *
 * Pure: no I/O, no locks, no logging.
 */
#ifndef SIBFS_REG_H
#define SIBFS_REG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uthash.h>

#include "replication/attr.h"
#include "replication/vv.h"

/* SHA-256 of kind and content: equal hashes are equal files. */
struct hash {
	uint8_t b[32];
};

enum file_kind {
	KIND_FILE = 1,
	KIND_SYMLINK = 2,
};

/* How a file in the store looked when it was last known to hold a version. */
struct file_stamp {
	uint64_t ino;		/* 0: never looked at since, or known to differ */
	uint64_t size;
	int64_t mtime_ns;
};

struct version {
	struct dot dot;		/* the event that wrote it */
	uint8_t kind;
	bool made;		/* written where no version was live: a creation, not an edit */
	bool has_base;
	struct hash hash;
	struct hash base;	/* what it replaced, or its writer had removed before */
	uint64_t size;
	uint64_t hlc;		/* orders versions for display only */
	char *slot;		/* "" competes for the main name; else the label it is pinned to */
	struct stamp slot_at;	/* 0: made from the mark on its file; what that does not say comes from peers */
	struct attrs attrs;	/* as of the write */
};

/* A file in the store that stands for versions of a register.  Local, never
 * sent.  Its hash says which: versions of equal content share one file. */
struct reg_file {
	char *name;
	struct hash hash;
	struct file_stamp stamp;
};

struct slot_attrs {
	char *slot;
	struct attrs attrs;	/* set since; outlive versions */
};

struct regval {
	struct vv ctx;
	struct version *v;	/* sorted by dot */
	uint32_t len;
	struct slot_attrs *slots;	/* sorted by slot */
	uint32_t slots_len;
};

struct dir;

struct reg {
	UT_hash_handle hh;	/* state.regs, by key */
	struct dir *dir;
	uint8_t *key;		/* number of the directory (8 bytes), name, NUL */
	uint32_t key_len;	/* without the NUL */
	uint64_t seq;		/* of its last change here, for the changes feed */
	uint64_t from;		/* the link that told us all of this value; 0: none, or forgotten */
	struct regval shown;
	struct regval *pending;
	bool has_last;
	struct hash last;	/* content last removed here (a local note) */
	struct reg_file *files;	/* unsorted; mostly one */
	uint32_t files_len;
	bool counted;		/* in its directory's count of files */
	bool in_conflict;	/* more than one file shows for its name */
	bool dirty;		/* to be written to the index */
	bool deferred;		/* pending is complete, but may not show yet */
	unsigned held;		/* by so many lists of links, which look at it later */
	bool touched;		/* its names on disk are to be looked at */
	bool again;		/* the disk could not be made to show it: a local note */
};

static inline const char *
reg_name(const struct reg *r)
{
	return (const char *)r->key + 8;
}

/* What peers are told: the higher of the two values. */
static inline struct regval *
reg_known(struct reg *r)
{
	return r->pending ? r->pending : &r->shown;
}

struct version	*regval_find(const struct regval *r, struct dot d);

/* Has any live version that content? */
bool		 regval_has(const struct regval *r, const struct hash *h);

/* Adds v, taking over what it points to. */
struct version	*regval_add(struct regval *r, struct version *v);
bool		 regval_remove(struct regval *r, struct dot d);

struct attrs	*regval_slot(struct regval *r, const char *slot);	/* made if missing */
const struct attrs *regval_slot_find(const struct regval *r, const char *slot);

/* What a version shows: the newer of its own attributes and those of its slot.
 * The caller owns the result. */
struct attrs	 regval_attrs_of(const struct regval *r, const struct version *v);

/*
 * Raises mine to the join of mine and theirs: of versions live on one side only
 * those stay whose dot the other side's knowledge does not cover.
 * Commutative, associative, idempotent.
 */
void		 regval_join(struct regval *mine, const struct regval *theirs,
		    const struct vv *my_know, const struct vv *their_know);

/* A copy, for the caller to free. */
void		 regval_copy(struct regval *out, const struct regval *r);
void		 regval_fini(struct regval *r);
bool		 regval_equal(const struct regval *a, const struct regval *b);

/* The highest clock stamp in it. */
uint64_t	 regval_hlc(const struct regval *r);

void		 version_fini(struct version *v);
int		 hash_compare(const struct hash *a, const struct hash *b);

struct reg_file	*reg_file_find(struct reg *r, const char *name);
void		 reg_file_set(struct reg *r, const char *name, const struct hash *hash, const struct file_stamp *stamp);
void		 reg_file_forget(struct reg *r, const char *name);

struct reg	*reg_new(struct dir *dir, uint64_t dir_num, const char *name);
void		 reg_free(struct reg *r);

#endif
