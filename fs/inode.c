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
#include <unistd.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <xxhash.h>

#include "fs/fs.h"
#include "fs/inode_impl.h"
#include "replication/mem.h"

static uint64_t
hash_of(const struct inode_key *key)
{
	static_assert(sizeof *key == sizeof key->dev + sizeof key->ino, "no bytes between");
	return XXH3_64bits(key, sizeof *key);
}

static uint64_t
hash(const struct table_link *link)
{
	return hash_of(&((const struct inode *)link)->key);
}

static bool
equal(const struct table_link *link, const void *arg)
{
	const struct inode *i = (const struct inode *)link;
	const struct inode_key *key = arg;

	return i->key.ino == key->ino && i->key.dev == key->dev;
}

static void
enter(struct inodes *t, struct inode *i, const struct stat *st)
{
	i->key = (struct inode_key){ .dev = st->st_dev, .ino = st->st_ino };
	i->type = st->st_mode & S_IFMT;
	i->hashed = true;
	table_add(&t->table, &i->link);
}

static void
leave(struct inodes *t, struct inode *i)
{
	table_remove(&t->table, &i->link);
	i->hashed = false;
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
	static_assert(offsetof(struct inode, link) == 0, "a link is cast to its inode");
	table_init(&t->table, hash);
	enter(t, &t->root, &st);
	t->root.nlookup = 1;
	inode_fd_init(t);
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
inode_free(struct fs *fs, struct inode *i)
{
	session_inode_dropped(fs, i);
	inode_fd_close(&fs->inodes, i);
	drop_names(fs, i);
	if (i->hashed)
		leave(&fs->inodes, i);
	free(i);
}

static void
free_any(struct table_link *link, void *arg)
{
	struct fs *fs = arg;
	struct inode *i = (struct inode *)link;

	if (i != &fs->inodes.root)
		inode_free(fs, i);
}

void
inodes_fini(struct fs *fs)
{
	struct inodes *t = &fs->inodes;

	table_each(&t->table, free_any, fs);
	drop_names(fs, &t->root);
	leave(t, &t->root);
	table_fini(&t->table);
	close(t->root_fd);
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
find_key(const struct inodes *t, dev_t dev, ino_t ino)
{
	const struct inode_key key = { .dev = dev, .ino = ino };

	return (struct inode *)table_find(&t->table, hash_of(&key), equal, &key);
}

struct inode *
inode_find(struct fs *fs, ino_t ino)
{
	return find_key(&fs->inodes, fs->inodes.root.key.dev, ino);
}

struct inode *
inode_enter(struct fs *fs, int fd, const struct stat *st)
{
	struct inodes *t = &fs->inodes;
	struct inode *i = find_key(t, st->st_dev, st->st_ino);

	if (i != NULL && !inode_fd_is(t, i, fd)) {
		drop_names(fs, i);
		leave(t, i);
		i = NULL;
	}
	if (i == NULL) {
		i = mem_alloc(sizeof *i);
		enter(t, i, st);
	}
	i->nlookup++;
	inode_fd_keep(t, i, fd);
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
