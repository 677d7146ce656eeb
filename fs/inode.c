/*
 * The inode table.  Two things need care here.  A number may come back for
 * another file once the old one is deleted and no descriptor of ours holds it:
 * then the file handles differ, and the old struct leaves the table but stays
 * until the kernel forgets it.  And names go with their inode, in one step with
 * the lookup count, so that none is lost to a lookup that comes between.
 */
#include "config.h"

#include "fs/inode.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <utlist.h>

#include "fs/fs.h"
#include "replication/mem.h"

enum { FDS_MAX = 4096 };

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

int
inodes_init(struct inodes *t, int root_fd)
{
	struct stat st;

	memset(t, 0, sizeof *t);
	t->root_fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->root_fd < 0)
		return -errno;
	if (fstat(t->root_fd, &st) < 0) {
		int rc = -errno;

		close(t->root_fd);
		return rc;
	}
	t->root.key = (struct inode_key){ .dev = st.st_dev, .ino = st.st_ino };
	t->root.type = S_IFDIR;
	t->root.fd = t->root_fd;
	t->root.nlookup = 1;
	t->root.hashed = true;
	HASH_ADD(hh, t->table, key, sizeof t->root.key, &t->root);
	t->fds_max = fds_allowed();
	t->handles_work = probe_handles(t->root_fd);
	return 0;
}

/* (locked) */
static void
drop_names(struct fs *fs, struct inode *i)
{
	while (i->names.first != NULL) {
		session_name_dropped(fs, i->names.first);
		names_remove(&fs->names, i->names.first);
	}
}

static void
close_fd(struct inodes *t, struct inode *i)
{
	DL_DELETE2(t->lru, i, lru_prev, lru_next);
	t->fds--;
	close(i->fd);
	i->fd = -1;
}

static void
inode_free(struct fs *fs, struct inode *i)
{
	drop_names(fs, i);
	session_inode_dropped(fs, i);
	if (i->hashed)
		HASH_DEL(fs->inodes.table, i);
	if (i->fd >= 0)
		close_fd(&fs->inodes, i);
	free(i->handle);
	free(i);
}

void
inodes_fini(struct fs *fs)
{
	struct inode *i, *tmp;

	HASH_ITER(hh, fs->inodes.table, i, tmp)
		if (i != &fs->inodes.root)
			inode_free(fs, i);
	drop_names(fs, &fs->inodes.root);
	HASH_DEL(fs->inodes.table, &fs->inodes.root);
	close(fs->inodes.root_fd);
}

struct inode *
inode_of(struct fs *fs, uint64_t node)
{
	return node == FUSE_ROOT_ID ? &fs->inodes.root : (struct inode *)(uintptr_t)node;
}

uint64_t
inode_node(const struct fs *fs, const struct inode *i)
{
	return i == &fs->inodes.root ? FUSE_ROOT_ID : (uintptr_t)i;
}

struct inode *
name_inode(const struct name *name)
{
	return (struct inode *)((char *)name->of - offsetof(struct inode, names));
}

static struct inode *
find_key(struct inodes *t, dev_t dev, ino_t ino)
{
	struct inode_key key;
	struct inode *i;

	memset(&key, 0, sizeof key);
	key.dev = dev;
	key.ino = ino;
	HASH_FIND(hh, t->table, &key, sizeof key, i);
	return i;
}

struct inode *
inode_find(struct fs *fs, ino_t ino)
{
	return find_key(&fs->inodes, fs->inodes.root.key.dev, ino);
}

/* Closes descriptors that have not been used for long, while there are too many. */
static void
evict(struct inodes *t)
{
	struct inode *i = t->lru, *next;
	union any_handle h;

	for (unsigned tries = 0; i != NULL && t->fds > t->fds_max && tries < 64; i = next, tries++) {
		next = i->lru_next;
		if (i->pins > 0 || i->key.dev != t->root.key.dev)
			continue;
		if (i->handle == NULL) {
			if (!handle_of(i->fd, &h)) {
				t->handles_work = false;
				return;
			}
			i->handle = mem_dup(&h.h, sizeof h.h + h.h.handle_bytes);
		}
		close_fd(t, i);
	}
}

static void
keep_fd(struct inodes *t, struct inode *i, int fd)
{
	i->fd = fd;
	DL_APPEND2(t->lru, i, lru_prev, lru_next);
	if (++t->fds > t->fds_max && t->handles_work) {
		i->pins++;
		evict(t);
		i->pins--;
	}
}

/* Is the inode that we know by this number still the file behind fd? */
static bool
same_file(const struct inode *i, int fd)
{
	union any_handle h;

	if (i->fd >= 0 || i->handles > 0)
		return true;	/* it was held, so its number was not free */
	return handle_of(fd, &h) && handle_equal(i->handle, &h.h);
}

struct inode *
inode_enter(struct fs *fs, int fd, const struct stat *st)
{
	struct inodes *t = &fs->inodes;
	struct inode *i = find_key(t, st->st_dev, st->st_ino);

	if (i != NULL && !same_file(i, fd)) {
		drop_names(fs, i);
		HASH_DEL(t->table, i);
		i->hashed = false;
		i = NULL;
	}
	if (i == NULL) {
		i = mem_alloc(sizeof *i);
		i->key.dev = st->st_dev;
		i->key.ino = st->st_ino;
		i->type = st->st_mode & S_IFMT;
		i->fd = -1;
		i->hashed = true;
		HASH_ADD(hh, t->table, key, sizeof i->key, i);
	}
	i->nlookup++;
	if (i->fd < 0)
		keep_fd(t, i, fd);
	else
		close(fd);
	return i;
}

static void
maybe_free(struct fs *fs, struct inode *i)
{
	if (i->nlookup == 0 && i->handles == 0 && i != &fs->inodes.root)
		inode_free(fs, i);
}

void
inode_forget(struct fs *fs, struct inode *i, uint64_t n)
{
	if (i == &fs->inodes.root)
		return;
	replica_view_lock(fs->replica);
	pthread_mutex_lock(&fs->lock);
	assert(i->nlookup >= n);
	i->nlookup -= n;
	maybe_free(fs, i);
	pthread_mutex_unlock(&fs->lock);
	replica_view_unlock(fs->replica);
}

void
inode_hold(struct inode *i)
{
	i->handles++;
}

void
inode_drop(struct fs *fs, struct inode *i)
{
	assert(i->handles > 0);
	i->handles--;
	maybe_free(fs, i);
}

int
inode_fd_get_locked(struct fs *fs, struct inode *i)
{
	struct inodes *t = &fs->inodes;

	if (i == &t->root)
		return i->fd;
	if (i->fd < 0) {
		int fd = open_by_handle_at(t->root_fd, i->handle, O_PATH | O_NOFOLLOW | O_CLOEXEC);

		if (fd < 0)
			return -errno;
		keep_fd(t, i, fd);
	} else if (i->lru_next != NULL) {
		DL_DELETE2(t->lru, i, lru_prev, lru_next);
		DL_APPEND2(t->lru, i, lru_prev, lru_next);
	}
	i->pins++;
	return i->fd;
}

void
inode_fd_put_locked(struct fs *fs, struct inode *i)
{
	if (i != &fs->inodes.root) {
		assert(i->pins > 0);
		i->pins--;
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

bool
inode_in_tree(const struct fs *fs, const struct inode *i)
{
	return i->key.dev == fs->inodes.root.key.dev;
}

bool
type_replicated(mode_t mode)
{
	return S_ISREG(mode) || S_ISLNK(mode) || S_ISDIR(mode);
}

bool
inode_replicated(const struct fs *fs, const struct inode *i)
{
	return inode_in_tree(fs, i) && type_replicated(i->type);
}

struct fd_path
fd_path(int fd)
{
	struct fd_path p;

	snprintf(p.s, sizeof p.s, "/proc/self/fd/%d", fd);
	return p;
}
