/*
 * From a path that a user gives (the store, its mount point, or anything
 * inside either) to the store.  A mount says itself whose it is (the
 * attribute user.sibfs.store); in the store itself, .sibfs shows the root.
 */
#ifndef SIBFS_LOCATE_H
#define SIBFS_LOCATE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct located {
	dev_t dev;		/* of the store's root directory */
	ino_t ino;
	char *store;		/* its path; NULL if the mount stands over it or hides it */
	char *mount;		/* the directory in the mount that was given; NULL: in the store */
};

/* 0, or -errno and a line for the user in why; -ENOENT: there is no store. */
int		 locate(const char *path, struct located *out, char *why, size_t why_size);
void		 located_fini(struct located *l);

#endif
