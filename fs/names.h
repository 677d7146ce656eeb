/*
 * Names that the kernel was told of: (directory, name) <-> inode.  A file that
 * was written is reported to the replica by the names that it has when it is
 * closed, wherever it was renamed meanwhile.  Only names of the replicated
 * tree are here, and only while the kernel remembers their inode.
 *
 * No locks: the caller's lock guards all of it.
 */
#ifndef SIBFS_NAMES_H
#define SIBFS_NAMES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <uthash.h>

struct name;

/* All names, by directory and text. */
struct names {
	struct name *table;
};

/* What has names; embedded in an inode.  Zeroed when it has none. */
struct named {
	struct name *first;	/* the one most recently looked up first */
};

struct name {
	struct named *of;
	struct name *prev, *next;		/* other names of the same inode */
	/* Owned by session.c: */
	int64_t wait_until_ms;			/* told then; 0: does not wait */
	struct name *wait_prev, *wait_next;
	char *was;				/* while it waits: the name in this directory that it had, as
						 * far as the replica was told; NULL: it is told as new */

	UT_hash_handle hh;
	ino_t dir;				/* the key: from here on */
	char text[];
};

/* NULL: not known. */
struct name	*names_find(const struct names *n, ino_t dir, const char *text);

/* Says that dir/text is a name of `of`, which it becomes the first of.  What
 * had that name before must have lost it already (names_remove) or be `of`. */
struct name	*names_add(struct names *n, struct named *of, ino_t dir, const char *text);

/* Takes a name away and frees it. */
void		 names_remove(struct names *n, struct name *name);

/* Is this a name that editors and desktops use for a moment only? */
bool		 name_is_passing(const char *text);

#endif
