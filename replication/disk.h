/*
 * The directories of the store as they stand on disk: inode, parent, name, and
 * which directories of the state each one shows.  A mirror in memory, so that
 * nothing has to be scanned; descriptors are opened when needed and kept in a
 * bounded ring.  The replica's thread only.
 */
#ifndef SIBFS_DISK_H
#define SIBFS_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <uthash.h>

#include "replication/dir.h"

#define DISK_RING 128

struct disk_dir {
	UT_hash_handle hh;	/* disk.dirs, by inode */
	uint64_t ino;
	struct disk_dir *up;	/* NULL for the root, and while it is lifted */
	char *name;
	struct dir **ids;	/* that show in it, first one first */
	size_t ids_len;
	size_t below;		/* how many have it as `up` */
	int fd;			/* -1, or O_PATH */
	bool lifted;		/* stands in .sibfs/moving for the moment */
};

struct disk {
	int root_fd;
	int moving_fd;
	struct disk_dir *dirs;
	struct disk_dir *root;
	struct disk_dir *ring[DISK_RING];
	size_t ring_next;
	/* Another way to open a directory whose place is not known (any more). */
	int (*open_dir)(void *ctx, ino_t ino);
	void *open_ctx;
};

int		 disk_init(struct disk *k, int root_fd, int moving_fd);
void		 disk_fini(struct disk *k);

struct disk_dir	*disk_find(const struct disk *k, uint64_t ino);
/* The one of that place; looks at all. */
struct disk_dir	*disk_at(const struct disk *k, const struct disk_dir *up, const char *name);
struct disk_dir	*disk_add(struct disk *k, uint64_t ino, struct disk_dir *up, const char *name);
void		 disk_forget(struct disk *k, struct disk_dir *dd);
/* Is it that one, or in it at any depth? */
bool		 disk_is_in(const struct disk_dir *dd, const struct disk_dir *of);
/* up must not be in dd: whoever goes up would never end. */
void		 disk_place(struct disk_dir *dd, struct disk_dir *up, const char *name);

/* An O_PATH descriptor, borrowed until the next call; or -errno. */
int		 disk_fd(struct disk *k, struct disk_dir *dd);

/* A file, to be read by us: who looks at its atime learns when users read it.
 * Never waits (for a FIFO, say).  -1 with errno; ELOOP: a link stands there,
 * ENOENT: nothing, or another kind. */
int		 disk_open_file(int dirfd, const char *name);

/* d shows in dd from now on (NULL: nowhere). */
void		 disk_assign(struct dir *d, struct disk_dir *dd);

static inline struct disk_dir *
disk_of(const struct dir *d)
{
	return d->disk;
}

/* Calls fn for each entry of a directory, if it can be listed; fn may remove it. */
void		 disk_each_entry(int dirfd, void (*fn)(void *arg, const char *name), void *arg);

/* The name under which a lifted directory stands in moving/. */
void		 disk_lifted_name(const struct disk_dir *dd, char *out, size_t size);

#endif
