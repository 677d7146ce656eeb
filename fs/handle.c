/*
 * Open files and directories.
 */
#include "config.h"

#include "fs/handle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/fs.h"
#include "replication/mem.h"

struct handle *
handle_new(struct inode *i, int fd, int32_t backing_id, bool writable)
{
	struct handle *h = mem_alloc(sizeof *h);

	h->inode = i;
	h->fd = fd;
	h->backing_id = backing_id;
	h->writable = writable;
	return h;
}

void
handle_free(struct handle *h)
{
	if (h != NULL) {
		if (h->fd >= 0)
			close(h->fd);
		free(h);
	}
}

/* Who opened it has shown what it may do; the kernel has checked what it asks
 * for. */
int
handle_fd(struct fs *fs, struct handle *h)
{
	int fd = atomic_load(&h->fd), path_fd, before = -1;

	if (fd >= 0)
		return fd;
	path_fd = inode_fd_get(fs, h->inode);
	if (path_fd < 0)
		return path_fd;
	fd = open(fd_path(path_fd).s, (h->writable ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	inode_fd_put(fs, h->inode);
	if (fd >= 0 && !atomic_compare_exchange_strong(&h->fd, &before, fd)) {
		close(fd);
		fd = before;
	}
	return fd;
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
