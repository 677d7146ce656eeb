/*
 * The descriptors of inodes.  Those in use lately have one, in a list by time
 * of use; the others are opened again when they are needed, by file handle or by
 * name.  A handle finds its file wherever it stands and leads to no other.  Names
 * change, and numbers come back, so what was opened by name must have been born
 * when ours was; and what is open keeps its descriptor, as it may lose its name.
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

#include "fs/closer.h"
#include "fs/fs.h"
#include "replication/mem.h"

enum {
	FDS_MAX = 4096,
	FDS_OTHER = 512,		/* of open files, links, and the like: most of the time */
};

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

/* When the file was made, which it never changes.  False: this store cannot say. */
static bool
birth_of(int fd, int64_t *ns)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BTIME, &st) < 0 || (st.stx_mask & STATX_BTIME) == 0)
		return false;
	*ns = (int64_t)st.stx_btime.tv_sec * 1000000000 + st.stx_btime.tv_nsec;
	return true;
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

/*
 * When the kernel makes a process' table of descriptors larger, whoever opened one too
 * many waits for all processors to have seen it: some 20 ms.  So that is done now.
 */
static void
make_room(int fd, unsigned fds)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, (int)fds);

	if (high >= 0)
		close(high);
}

void
inode_fd_init(struct inodes *t)
{
	int64_t born_ns;

	t->fds_max = fds_allowed();
	make_room(t->root_fd, 3 * t->fds_max + FDS_OTHER);	/* twice as many may wait to be closed */
	t->handles_work = probe_handles(t->root_fd);
	t->births_known = birth_of(t->root_fd, &born_ns);
}

static void
close_fd(struct inodes *t, struct descriptor *d)
{
	DL_DELETE(t->lru, d);
	t->fds--;
	if (t->closer != NULL && d->inode->names.first == NULL)
		closer_close(t->closer, d->fd);
	else
		close(d->fd);
	d->inode->has_descriptor = false;
	d->inode->reopen = d->reopen;
	free(d);
}

/* Nobody would miss it if it lost its name. */
static bool
only_named(const struct inode *i)
{
	return i->names.first != NULL && i->handles == 0 && i->session == NULL;
}

/* Finds out what it can be opened by again.  False: nothing, for now. */
static bool
can_reopen(struct inodes *t, struct descriptor *d)
{
	struct inode *i = d->inode;
	union any_handle h;

	if (i->key.dev != t->root.key.dev)
		return false;
	if (i->by_name)
		return only_named(i);
	if (i->small_type != 0 || d->reopen.handle != NULL)
		return true;
	if (t->handles_work && handle_of(d->fd, &h)) {
		reopen_by(i, &d->reopen, &h.h);
		return true;
	}
	t->handles_work = false;
	i->by_name = t->births_known && only_named(i) && birth_of(d->fd, &d->reopen.born_ns);
	return i->by_name;
}

/* Closes descriptors that have not been used for long, while there are too many. */
static void
evict(struct inodes *t)
{
	struct descriptor *d = t->lru, *next;

	for (unsigned tries = 0; d != NULL && t->fds > t->fds_max && tries < 64; d = next, tries++) {
		next = d->next;
		if (d->pins == 0 && can_reopen(t, d)) {
			close_fd(t, d);
		} else {
			DL_DELETE(t->lru, d);	/* not in the way of others next time */
			DL_APPEND(t->lru, d);
		}
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
	if (++t->fds > t->fds_max) {
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
	if (i->small_type == 0 && !i->by_name)
		free(i->reopen.handle);
}

/* Is i, which has no descriptor, the file behind fd, which has its number? */
static bool
is_behind(const struct inode *i, int fd)
{
	union any_handle h, room;
	int64_t born_ns;

	if (i->by_name)
		return birth_of(fd, &born_ns) && born_ns == i->reopen.born_ns;
	return handle_of(fd, &h) && handle_equal(reopen_handle(i, &room), &h.h);
}

bool
inode_fd_is(const struct inodes *t, const struct inode *i, int fd)
{
	if (i == &t->root || i->has_descriptor || i->handles > 0)
		return true;	/* it was held, so its number was not free */
	return is_behind(i, fd);
}

static int
open_at(struct fs *fs, const struct inode *i, const struct name *name)
{
	struct inode *dir = inode_find(fs, name->dir);
	int dir_fd = dir != NULL ? inode_fd_get_locked(fs, dir) : -ESTALE, fd;
	struct stat st;

	if (dir_fd < 0)
		return dir_fd;
	fd = openat(dir_fd, name->text, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		fd = errno == ENOENT || errno == ENOTDIR ? -ESTALE : -errno;
	inode_fd_put_locked(fs, dir);
	if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_dev != i->key.dev || st.st_ino != i->key.ino || !is_behind(i, fd))) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

static int
open_by_name(struct fs *fs, struct inode *i)
{
	const struct name *name;
	int fd = -ESTALE;

	if (i->opening)
		return -ESTALE;		/* names that are out of date can go round in circles */
	i->opening = true;
	DL_FOREACH(i->names.first, name) {
		fd = open_at(fs, i, name);
		if (fd >= 0)
			break;
	}
	i->opening = false;
	return fd;
}

static int
open_by_handle(const struct inodes *t, const struct inode *i)
{
	union any_handle room;
	int fd = open_by_handle_at(t->root_fd, reopen_handle(i, &room), O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int
inode_fd_get_locked(struct fs *fs, struct inode *i)
{
	struct inodes *t = &fs->inodes;

	if (i == &t->root)
		return t->root_fd;
	if (!i->has_descriptor) {
		int fd = i->by_name ? open_by_name(fs, i) : open_by_handle(t, i);

		if (fd < 0)
			return fd;
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
