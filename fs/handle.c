/*
 * Open files and directories.
 */
#include "config.h"

#include "fs/handle.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "replication/mem.h"

struct handle *
handle_new(struct inode *i, int fd, bool writable)
{
	struct handle *h = mem_alloc(sizeof *h);

	h->inode = i;
	h->fd = fd;
	h->writable = writable;
	return h;
}

void
handle_free(struct handle *h)
{
	if (h != NULL) {
		close(h->fd);
		free(h);
	}
}

struct dir_handle *
dir_handle_new(int fd)
{
	DIR *dir = fdopendir(fd);
	struct dir_handle *d;

	if (dir == NULL) {
		close(fd);
		return NULL;
	}
	d = mem_alloc(sizeof *d);
	d->dir = dir;
	return d;
}

void
dir_handle_free(struct dir_handle *d)
{
	if (d != NULL) {
		closedir(d->dir);
		free(d);
	}
}

struct dirent *
dir_handle_next(struct dir_handle *d, off_t offset, int *err)
{
	*err = 0;
	if (offset != d->offset) {
		seekdir(d->dir, offset);
		d->entry = NULL;
		d->offset = offset;
	}
	if (d->entry == NULL) {
		errno = 0;
		d->entry = readdir(d->dir);
		if (d->entry == NULL)
			*err = errno;
	}
	return d->entry;
}

void
dir_handle_taken(struct dir_handle *d)
{
	d->offset = d->entry->d_off;
	d->entry = NULL;
}
