/*
 * What is open through the mount: files and directories, each with a
 * descriptor of the daemon's own.
 */
#ifndef SIBFS_HANDLE_H
#define SIBFS_HANDLE_H

#include <dirent.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct inode;

struct handle {
	struct inode *inode;	/* held */
	int fd;
	bool writable;
	atomic_bool wrote;
};

/* One thread at a time: the kernel holds the position's lock. */
struct dir_handle {
	DIR *dir;
	struct dirent *entry;	/* read, but found no room in the last answer */
	off_t offset;		/* of what comes next */
};

/* Both take fd over, dir_handle_new also when it fails (NULL). */
struct handle	*handle_new(struct inode *i, int fd, bool writable);
void		 handle_free(struct handle *h);

struct dir_handle *dir_handle_new(int fd);
void		 dir_handle_free(struct dir_handle *d);

/* The next entry at offset, or NULL; *err is 0 at the end.  It stays the next
 * one until dir_handle_taken. */
struct dirent	*dir_handle_next(struct dir_handle *d, off_t offset, int *err);
void		 dir_handle_taken(struct dir_handle *d);

#endif
