/*
 * What is open through the mount: files and directories.  Directories, and
 * files whose data is copied, have a descriptor of the daemon's own; files that
 * are passed through get one when something asks for it.
 */
#ifndef SIBFS_HANDLE_H
#define SIBFS_HANDLE_H

#include <dirent.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fs;
struct inode;

struct handle {
	struct inode *inode;	/* held */
	atomic_int fd;		/* -1: passed through, and none needed yet */
	int32_t backing_id;	/* passed through; 0: copied */
	bool writable;
	atomic_bool wrote;	/* seen by us; what is passed through is not */
};

/* One thread at a time: the kernel holds the position's lock. */
struct dir_handle {
	DIR *dir;
	struct dirent *entry;	/* read, but found no room in the last answer */
	off_t offset;		/* of what comes next */
};

/* Takes fd over; it is -1 for what is passed through by backing_id. */
struct handle	*handle_new(struct inode *i, int fd, int32_t backing_id, bool writable);
void		 handle_free(struct handle *h);

/* Its descriptor, opened now if there is none yet; -errno.  The handle's. */
int		 handle_fd(struct fs *fs, struct handle *h);

/* Takes fd over, also when it fails (NULL). */

struct dir_handle *dir_handle_new(int fd);
void		 dir_handle_free(struct dir_handle *d);

/* The next entry at offset, or NULL; *err is 0 at the end.  It stays the next
 * one until dir_handle_taken. */
struct dirent	*dir_handle_next(struct dir_handle *d, off_t offset, int *err);
void		 dir_handle_taken(struct dir_handle *d);

#endif
