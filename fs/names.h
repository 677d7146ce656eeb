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

#include "fs/table.h"

struct name;

/* All names, by directory and text. */
struct names {
	struct table table;
};

/* What has names; embedded in an inode.  Zeroed when it has none. */
struct named {
	struct name *first;	/* the one most recently looked up first */
};

/* There is one for each cached inode and more: nothing belongs here that few of
 * them need.  A name that waits to be told is known to session_names.c. */
struct name {
	struct table_link link;
	struct named *of;
	struct name *prev, *next;	/* other names of the same inode */
	ino_t dir;
	char text[];
};

void		 names_init(struct names *n);
void		 names_fini(struct names *n);	/* all were removed */

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
