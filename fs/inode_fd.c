/*
 * The descriptors of inodes.  Those in use lately have one, in a list by time
 * of use; the others have a file handle to be opened by again.
 */
#include "config.h"

#include "fs/inode_impl.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <utlist.h>

#include "fs/fs.h"
#include "replication/mem.h"

enum { FDS_MAX = 4096 };

struct descriptor {
	struct inode *inode;
	union reopen reopen;		/* made when it is first closed, and kept */
	struct descriptor *prev, *next;
	int fd;				/* O_PATH */
	unsigned pins;			/* users of fd at this moment */
};

/* A file handle on the stack. */
union any_handle {
	struct file_handle h;
	char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
};

static bool
handle_of(int fd, union any_handle *out)
{
	int mount_id;

	memset(out, 0, sizeof *out);
	out->h.handle_bytes = MAX_HANDLE_SZ;
	return name_to_handle_at(fd, "", &out->h, &mount_id, AT_EMPTY_PATH) == 0;
}

/* What an inode without descriptor is opened by. */
static struct file_handle *
reopen_handle(const struct inode *i, union any_handle *room)
{
	if (i->small_type == 0)
		return i->reopen.handle;
	room->h.handle_type = i->small_type;
	room->h.handle_bytes = sizeof i->reopen.small;
	memcpy(room->h.f_handle, i->reopen.small, sizeof i->reopen.small);
	return &room->h;
}

static void
reopen_by(struct inode *i, union reopen *r, const struct file_handle *h)
{
	if (h->handle_bytes == sizeof r->small && h->handle_type > 0 && h->handle_type <= UINT8_MAX) {
		i->small_type = (uint8_t)h->handle_type;
		memcpy(r->small, h->f_handle, sizeof r->small);
	} else {
		r->handle = mem_dup(h, sizeof *h + h->handle_bytes);
	}
}

static bool
handle_equal(const struct file_handle *a, const struct file_handle *b)
{
	return a->handle_type == b->handle_type && a->handle_bytes == b->handle_bytes &&
	    memcmp(a->f_handle, b->f_handle, a->handle_bytes) == 0;
}

static bool
probe_handles(int root_fd)
{
	union any_handle h;
	int fd;

	if (!handle_of(root_fd, &h))
		return false;
	fd = open_by_handle_at(root_fd, &h.h, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* Descriptors are what limits us: takes all that the hard limit allows. */
static unsigned
fds_allowed(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
		return 256;
	if (lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &lim) < 0)
			getrlimit(RLIMIT_NOFILE, &lim);
	}
	return lim.rlim_cur / 4 < FDS_MAX ? (unsigned)(lim.rlim_cur / 4) : FDS_MAX;
}

void
inode_fd_init(struct inodes *t)
{
	t->fds_max = fds_allowed();
	t->handles_work = probe_handles(t->root_fd);
}

static void
close_fd(struct inodes *t, struct descriptor *d)
{
	DL_DELETE(t->lru, d);
	t->fds--;
	close(d->fd);
	d->inode->has_descriptor = false;
	d->inode->reopen = d->reopen;
	free(d);
}

static bool
can_reopen(const struct descriptor *d)
{
	return d->inode->small_type != 0 || d->reopen.handle != NULL;
}

/* Closes descriptors that have not been used for long, while there are too many. */
static void
evict(struct inodes *t)
{
	struct descriptor *d = t->lru, *next;
	union any_handle h;

	for (unsigned tries = 0; d != NULL && t->fds > t->fds_max && tries < 64; d = next, tries++) {
		next = d->next;
		if (d->pins > 0 || d->inode->key.dev != t->root.key.dev)
			continue;
		if (!can_reopen(d)) {
			if (!handle_of(d->fd, &h)) {
				t->handles_work = false;
				return;
			}
			reopen_by(d->inode, &d->reopen, &h.h);
		}
		close_fd(t, d);
	}
}

static void
open_fd(struct inodes *t, struct inode *i, int fd)
{
	struct descriptor *d = mem_alloc(sizeof *d);

	*d = (struct descriptor){ .inode = i, .reopen = i->reopen, .fd = fd };
	i->descriptor = d;
	i->has_descriptor = true;
	DL_APPEND(t->lru, d);
	if (++t->fds > t->fds_max && t->handles_work) {
		d->pins++;
		evict(t);
		d->pins--;
	}
}

void
inode_fd_keep(struct inodes *t, struct inode *i, int fd)
{
	if (i == &t->root || i->has_descriptor)
		close(fd);
	else
		open_fd(t, i, fd);
}

void
inode_fd_close(struct inodes *t, struct inode *i)
{
	if (i->has_descriptor)
		close_fd(t, i->descriptor);
	if (i->small_type == 0)
		free(i->reopen.handle);
}

bool
inode_fd_is(const struct inodes *t, const struct inode *i, int fd)
{
	union any_handle h, room;

	if (i == &t->root || i->has_descriptor || i->handles > 0)
		return true;	/* it was held, so its number was not free */
	return handle_of(fd, &h) && handle_equal(reopen_handle(i, &room), &h.h);
}

int
inode_fd_get_locked(struct fs *fs, struct inode *i)
{
	struct inodes *t = &fs->inodes;

	if (i == &t->root)
		return t->root_fd;
	if (!i->has_descriptor) {
		union any_handle room;
		int fd = open_by_handle_at(t->root_fd, reopen_handle(i, &room), O_PATH | O_NOFOLLOW | O_CLOEXEC);

		if (fd < 0)
			return -errno;
		open_fd(t, i, fd);
	} else if (i->descriptor->next != NULL) {
		DL_DELETE(t->lru, i->descriptor);
		DL_APPEND(t->lru, i->descriptor);
	}
	i->descriptor->pins++;
	return i->descriptor->fd;
}

void
inode_fd_put_locked(struct fs *fs, struct inode *i)
{
	if (i != &fs->inodes.root) {
		assert(i->has_descriptor && i->descriptor->pins > 0);
		i->descriptor->pins--;
	}
}

int
inode_fd_get(struct fs *fs, struct inode *i)
{
	int fd;

	pthread_mutex_lock(&fs->lock);
	fd = inode_fd_get_locked(fs, i);
	pthread_mutex_unlock(&fs->lock);
	return fd;
}

void
inode_fd_put(struct fs *fs, struct inode *i)
{
	pthread_mutex_lock(&fs->lock);
	inode_fd_put_locked(fs, i);
	pthread_mutex_unlock(&fs->lock);
}
