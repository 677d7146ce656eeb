/*
 * The mirror of the store's directories.
 */
#include "config.h"

#include "replication/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/mem.h"

static void
set_up(struct disk_dir *dd, struct disk_dir *up)
{
	if (dd->up)
		dd->up->below--;
	dd->up = up;
	if (up)
		up->below++;
}

int
disk_init(struct disk *k, int root_fd, int moving_fd)
{
	struct stat st;

	*k = (struct disk){ .root_fd = root_fd, .moving_fd = moving_fd };
	if (fstat(root_fd, &st) < 0)
		return -errno;
	k->root = disk_add(k, st.st_ino, NULL, "");
	return 0;
}

void
disk_fini(struct disk *k)
{
	struct disk_dir *dd, *tmp;

	HASH_ITER(hh, k->dirs, dd, tmp)
		set_up(dd, NULL);
	HASH_ITER(hh, k->dirs, dd, tmp)
		disk_forget(k, dd);
}

struct disk_dir *
disk_find(const struct disk *k, uint64_t ino)
{
	struct disk_dir *dd;

	if (ino == 0)
		return k->root;
	HASH_FIND(hh, k->dirs, &ino, sizeof(ino), dd);
	return dd;
}

struct disk_dir *
disk_at(const struct disk *k, const struct disk_dir *up, const char *name)
{
	struct disk_dir *dd, *tmp;

	if (!up->below)
		return NULL;
	HASH_ITER(hh, k->dirs, dd, tmp)
		if (dd->up == up && !dd->lifted && strcmp(dd->name, name) == 0)
			return dd;
	return NULL;
}

struct disk_dir *
disk_add(struct disk *k, uint64_t ino, struct disk_dir *up, const char *name)
{
	struct disk_dir *dd = disk_find(k, ino);

	/* The number of one that was removed may come back. */
	if (dd && dd != k->root)
		disk_forget(k, dd);
	dd = mem_alloc(sizeof(*dd));
	dd->ino = ino;
	set_up(dd, up);
	dd->name = mem_str(name);
	dd->fd = -1;
	HASH_ADD(hh, k->dirs, ino, sizeof(dd->ino), dd);
	return dd;
}

static void
drop_fd(struct disk *k, struct disk_dir *dd)
{
	if (dd->fd < 0)
		return;
	for (size_t i = 0; i < DISK_RING; i++)
		if (k->ring[i] == dd)
			k->ring[i] = NULL;
	close(dd->fd);
	dd->fd = -1;
}

void
disk_forget(struct disk *k, struct disk_dir *dd)
{
	struct disk_dir *below, *tmp;

	while (dd->ids_len)
		dd->ids[--dd->ids_len]->disk = NULL;
	drop_fd(k, dd);
	if (dd->up)
		dd->up->below--;
	/* What we think is in it is elsewhere: found by its inode. */
	if (dd->below)
		HASH_ITER(hh, k->dirs, below, tmp)
			if (below->up == dd)
				set_up(below, k->root);
	HASH_DEL(k->dirs, dd);
	free(dd->ids);
	free(dd->name);
	free(dd);
}

void
disk_place(struct disk_dir *dd, struct disk_dir *up, const char *name)
{
	char *copy = mem_str(name);

	free(dd->name);
	dd->name = copy;
	set_up(dd, up);
	dd->lifted = false;
}

bool
disk_is_in(const struct disk_dir *dd, const struct disk_dir *of)
{
	while (dd && dd != of)
		dd = dd->up;
	return dd != NULL;
}

void
disk_lifted_name(const struct disk_dir *dd, char *out, size_t size)
{
	snprintf(out, size, "d-%" PRIx64, dd->ino);
}

static bool
is_inode(int fd, uint64_t ino)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_ino == ino;
}

static int
open_by_place(struct disk *k, struct disk_dir *dd)
{
	const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	char lifted[32];
	int at, fd;

	if (dd->lifted) {
		disk_lifted_name(dd, lifted, sizeof(lifted));
		fd = openat(k->moving_fd, lifted, flags);
	} else {
		at = disk_fd(k, dd->up);
		if (at < 0)
			return at;
		fd = openat(at, dd->name, flags);
	}
	return fd < 0 ? -errno : fd;
}

int
disk_open_file(int dirfd, const char *name)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	int fd = openat(dirfd, name, flags | O_NOATIME);
	struct stat st;

	/* Only its owner may ask for that. */
	if (fd < 0 && errno == EPERM)
		fd = openat(dirfd, name, flags);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	if (fd >= 0 || errno == ENXIO) {
		if (fd >= 0)
			close(fd);
		errno = ENOENT;
	}
	return -1;
}

int
disk_fd(struct disk *k, struct disk_dir *dd)
{
	int fd;

	if (dd == k->root)
		return k->root_fd;
	if (dd->fd >= 0)
		return dd->fd;
	fd = open_by_place(k, dd);
	if (fd >= 0 && !is_inode(fd, dd->ino)) {
		close(fd);
		fd = -ESTALE;
	}
	/* A user may have moved it since: the mount knows it by its inode. */
	if (fd < 0 && k->open_dir) {
		fd = k->open_dir(k->open_ctx, dd->ino);
		if (fd >= 0 && !is_inode(fd, dd->ino)) {
			close(fd);
			fd = -ESTALE;
		}
	}
	if (fd < 0)
		return fd;
	if (k->ring[k->ring_next])
		drop_fd(k, k->ring[k->ring_next]);
	k->ring[k->ring_next] = dd;
	k->ring_next = (k->ring_next + 1) % DISK_RING;
	dd->fd = fd;
	return fd;
}

void
disk_assign(struct dir *d, struct disk_dir *dd)
{
	struct disk_dir *old = d->disk;

	if (old == dd)
		return;
	if (old) {
		size_t i = 0;

		while (old->ids[i] != d)
			i++;
		memmove(old->ids + i, old->ids + i + 1, (old->ids_len - i - 1) * sizeof(*old->ids));
		old->ids_len--;
	}
	d->disk = dd;
	if (!dd)
		return;
	dd->ids = mem_resize(dd->ids, dd->ids_len + 1, sizeof(*dd->ids));
	dd->ids[dd->ids_len++] = d;
}

void
disk_each_entry(int dirfd, void (*fn)(void *arg, const char *name), void *arg)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((de = readdir(dir)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			fn(arg, de->d_name);
	closedir(dir);
}
