/*
 * Looking names up and changing them.  Each change is one step for the
 * replica: under its view lock, first a note that the name is about to change
 * (a killed daemon looks at it again), then the system call, then our tables
 * and what is told.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fs/caller.h"
#include "fs/echo.h"
#include "fs/ops.h"
#include "replication/mark.h"

/* A directory in use by a request. */
struct place {
	struct inode *dir;
	int fd;
	const char *name;
};

/* 0 or -errno; place_put only after 0. */
static int
place_get(struct fs *fs, fuse_ino_t parent, const char *name, struct place *p)
{
	p->dir = inode_of(fs, parent);
	p->name = name;
	if (ops_hidden(fs, p->dir, name))
		return -EPERM;
	p->fd = inode_fd_get(fs, p->dir);
	return p->fd < 0 ? p->fd : 0;
}

static void
place_put(struct fs *fs, struct place *p)
{
	inode_fd_put(fs, p->dir);
}

/* (view) Before the name changes. */
static void
touch(struct fs *fs, const struct place *p)
{
	if (inode_in_tree(fs, p->dir))
		replica_touch(fs->replica, p->dir->key.ino, p->name);
}

/* Either way that it may have gone. */
static void
reply_entry(fuse_req_t req, int rc, const struct fuse_entry_param *e)
{
	if (rc == 0)
		ops_reply_entry(req, e);
	else
		ops_reply(req, rc);
}

void
ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = ops_fs(req);
	struct inode *dir = inode_of(fs, parent);
	struct fuse_entry_param e;
	int fd, rc = -ENOENT;

	if (echo_is(fs, req) && echo_lookup(req, dir, name))
		return;
	if (!ops_hidden(fs, dir, name)) {
		fd = inode_fd_get(fs, dir);
		if (fd < 0) {
			ops_reply(req, fd);
			return;
		}
		replica_view_lock(fs->replica);
		rc = ops_enter(fs, dir, fd, name, &e, NULL);
		replica_view_unlock(fs->replica);
		inode_fd_put(fs, dir);
	}
	if (rc == -ENOENT && inode_in_tree(fs, dir)) {
		/* An entry without a number: the kernel remembers that there
		 * is none. */
		e = (struct fuse_entry_param){ .entry_timeout = ops_hidden(fs, dir, name) ? 0 : 1e9 };
		rc = 0;
	}
	reply_entry(req, rc, &e);
}

void
ops_forget(fuse_req_t req, fuse_ino_t node, uint64_t nlookup)
{
	struct fs *fs = ops_fs(req);

	inode_forget(fs, inode_of(fs, node), nlookup);
	fuse_reply_none(req);
}

void
ops_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs *fs = ops_fs(req);

	for (size_t i = 0; i < count; i++)
		inode_forget(fs, inode_of(fs, forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

/* What to make: mkdir, mknod or symlink. */
struct making {
	mode_t mode;
	dev_t rdev;
	const char *target;
};

static int
make_on_disk(fuse_req_t req, const struct place *p, const struct making *m)
{
	struct fs *fs = ops_fs(req);
	mode_t mode = caller_begin(req, m->mode);
	int rc;

	if (S_ISDIR(m->mode))
		rc = mkdirat(p->fd, p->name, mode & 07777);
	else if (S_ISLNK(m->mode))
		rc = symlinkat(m->target, p->fd, p->name);
	else
		rc = mknodat(p->fd, p->name, mode, m->rdev);
	if (rc < 0)
		rc = -errno;
	caller_end();
	if (rc < 0)
		return rc;
	rc = caller_own(fs, req, p->fd, p->name, m->mode);
	if (rc < 0)
		unlinkat(p->fd, p->name, S_ISDIR(m->mode) ? AT_REMOVEDIR : 0);
	return rc;
}

/* (view) Enters what was made or linked, and tells it. */
static int
enter_new(struct fs *fs, const struct place *p, struct fuse_entry_param *e)
{
	struct name *name;
	struct inode *i;
	int rc;

	rc = ops_enter(fs, p->dir, p->fd, p->name, e, &name);
	if (rc < 0)
		return rc;
	i = inode_of(fs, e->ino);
	atomic_store(&i->looked, true);
	if (inode_in_tree(fs, p->dir))
		session_name_made(fs, p->dir->key.ino, p->name, S_ISREG(i->type) || S_ISLNK(i->type));
	if (name != NULL && S_ISDIR(i->type))
		session_tell(fs, (struct replica_event){
			.op = REPLICA_MKDIR,
			.ino = i->key.ino,
			.dir = p->dir->key.ino,
			.name = p->name,
		});
	else if (name != NULL)
		session_name_new(fs, name, atomic_load(&i->dirty));
	pthread_mutex_unlock(&fs->lock);
	return 0;
}

/* (view) rc says whether something new stands at p: enters it, and replies.  Lets
 * go of the view, and of p. */
static void
made(fuse_req_t req, struct place *p, int rc)
{
	struct fs *fs = ops_fs(req);
	struct fuse_entry_param e;

	if (rc == 0)
		rc = enter_new(fs, p, &e);
	replica_view_unlock(fs->replica);
	place_put(fs, p);
	reply_entry(req, rc, &e);
}

static void
make(fuse_req_t req, fuse_ino_t parent, const char *name, const struct making *m)
{
	struct fs *fs = ops_fs(req);
	struct place p;
	int rc;

	rc = place_get(fs, parent, name, &p);
	if (rc < 0) {
		ops_reply(req, rc);
		return;
	}
	replica_view_lock(fs->replica);
	touch(fs, &p);
	made(req, &p, make_on_disk(req, &p, m));
}

void
ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, &(struct making){ .mode = S_IFDIR | mode });
}

void
ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	make(req, parent, name, &(struct making){ .mode = mode, .rdev = rdev });
}

void
ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	make(req, parent, name, &(struct making){ .mode = S_IFLNK, .target = target });
}

static int
link_on_disk(struct fs *fs, struct inode *i, const struct place *p)
{
	int fd = inode_fd_get(fs, i);
	int rc;

	if (fd < 0)
		return fd;
	mark_wait(fd);
	rc = linkat(AT_FDCWD, fd_path(fd).s, p->fd, p->name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
	inode_fd_put(fs, i);
	return rc;
}

void
ops_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char *name)
{
	struct fs *fs = ops_fs(req);
	struct place p;
	int rc;

	rc = place_get(fs, parent, name, &p);
	if (rc < 0) {
		ops_reply(req, rc);
		return;
	}
	replica_view_lock(fs->replica);
	rc = session_may_change(fs, inode_of(fs, node));
	if (rc == 0) {
		touch(fs, &p);
		rc = link_on_disk(fs, inode_of(fs, node), &p);
	}
	made(req, &p, rc);
}

/* (view, locked) Takes dir/text out of the tables.  Returns what stood there, as
 * far as we know. */
static ino_t
forget_name(struct fs *fs, ino_t dir, const char *text)
{
	struct name *name = names_find(&fs->names, dir, text);
	ino_t ino;

	if (name == NULL)
		return 0;
	ino = name_inode(name)->key.ino;
	session_name_unlinked(fs, name);
	names_remove(&fs->names, name);
	return ino;
}

/* (view) dir/name is gone from the disk. */
static void
tell_removed(struct fs *fs, const struct place *p, enum replica_op op)
{
	struct replica_event e = { .op = op, .dir = p->dir->key.ino, .name = p->name };

	if (!inode_in_tree(fs, p->dir))
		return;
	pthread_mutex_lock(&fs->lock);
	/* Even what was never told: the replica may have found it by itself. */
	e.ino = forget_name(fs, p->dir->key.ino, p->name);
	session_tell(fs, e);
	pthread_mutex_unlock(&fs->lock);
}

static void
remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, int flags, enum replica_op op)
{
	struct fs *fs = ops_fs(req);
	struct place p;
	int rc;

	if (echo_is(fs, req)) {
		echo_remove(req, inode_of(fs, parent), name);
		return;
	}
	rc = place_get(fs, parent, name, &p);
	if (rc < 0) {
		ops_reply(req, rc);
		return;
	}
	replica_view_lock(fs->replica);
	touch(fs, &p);
	rc = unlinkat(p.fd, name, flags) < 0 ? -errno : 0;
	if (rc == 0)
		tell_removed(fs, &p, op);
	replica_view_unlock(fs->replica);
	place_put(fs, &p);
	ops_reply(req, rc);
}

void
ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, 0, REPLICA_UNLINK);
}

void
ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, AT_REMOVEDIR, REPLICA_RMDIR);
}

/* (locked) The name becomes another one of the same inode.  Whether it waited
 * or was never told does not matter any more: the rename tells of it. */
static void
move_name(struct fs *fs, struct name *name, ino_t dir, const char *text)
{
	struct named *of = name->of;

	session_name_gone(fs, name);
	names_remove(&fs->names, name);
	names_add(&fs->names, of, dir, text);
}

/* (locked) What the rename did to our names. */
static void
rename_names(struct fs *fs, const struct place *a, const struct place *b, bool exchange)
{
	struct name *from = names_find(&fs->names, a->dir->key.ino, a->name);
	struct name *to = names_find(&fs->names, b->dir->key.ino, b->name);
	struct named *replaced = to != NULL ? to->of : NULL;

	if (to != NULL) {
		if (exchange)
			session_name_gone(fs, to);
		else
			session_name_unlinked(fs, to);
		names_remove(&fs->names, to);
	}
	if (from != NULL)
		move_name(fs, from, b->dir->key.ino, b->name);
	if (exchange && replaced != NULL)
		names_add(&fs->names, replaced, a->dir->key.ino, a->name);
}

static struct replica_event
moving(enum replica_op op, const struct place *a, const struct place *b, const struct stat *st)
{
	return (struct replica_event){
		.op = op,
		.ino = st->st_ino,
		.dir = a->dir->key.ino,
		.name = a->name,
		.dir2 = b->dir->key.ino,
		.name2 = b->name,
		.is_dir = S_ISDIR(st->st_mode),
	};
}

/*
 * (view, locked) st: what stood at a and b before.  FIFOs, sockets and devices
 * are not there for the replica.
 */
static void
tell_rename(struct fs *fs, const struct place *a, const struct place *b, const struct stat st[2], bool exchange)
{
	bool first = type_replicated(st[0].st_mode), second = exchange && type_replicated(st[1].st_mode);

	if (first && second)
		session_tell(fs, moving(REPLICA_EXCHANGE, a, b, &st[0]));
	else if (first)
		session_tell(fs, moving(REPLICA_RENAME, a, b, &st[0]));
	else if (second)
		session_tell(fs, moving(REPLICA_RENAME, b, a, &st[1]));
	else if (st[1].st_ino != 0)
		session_tell(fs, (struct replica_event){
			.op = REPLICA_UNLINK,
			.ino = st[1].st_ino,
			.dir = b->dir->key.ino,
			.name = b->name,
		});
}

/* (view, locked) Is it told later, as it may be a backup that an editor makes? */
static bool
is_put_aside(struct fs *fs, const struct place *a, const struct place *b, const struct stat st[2])
{
	struct name *name = names_find(&fs->names, b->dir->key.ino, b->name);

	return name != NULL && a->dir == b->dir && S_ISREG(st[0].st_mode) && st[0].st_nlink == 1 &&
	    name_inode(name)->key.ino == st[0].st_ino && (st[1].st_ino == 0 || S_ISREG(st[1].st_mode)) &&
	    session_name_moved(fs, name, a->name);
}

/* (view) */
static int
rename_and_tell(struct fs *fs, const struct place *a, const struct place *b, unsigned flags)
{
	bool exchange = (flags & RENAME_EXCHANGE) != 0;
	struct stat st[2] = { 0 };

	if (fstatat(a->fd, a->name, &st[0], AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (fstatat(b->fd, b->name, &st[1], AT_SYMLINK_NOFOLLOW) < 0)
		st[1] = (struct stat){ 0 };
	touch(fs, a);
	touch(fs, b);
	if (renameat2(a->fd, a->name, b->fd, b->name, flags) < 0)
		return -errno;
	mark_drop_recent(b->fd, b->name, &st[0]);
	if (exchange)
		mark_drop_recent(a->fd, a->name, &st[1]);
	/* Between two names of one file it does nothing; the kernel may not have
	 * known that they are. */
	if (!inode_in_tree(fs, a->dir) || (st[0].st_ino == st[1].st_ino && st[0].st_dev == st[1].st_dev))
		return 0;
	pthread_mutex_lock(&fs->lock);
	session_name_made(fs, b->dir->key.ino, b->name, S_ISREG(st[0].st_mode) || S_ISLNK(st[0].st_mode));
	rename_names(fs, a, b, exchange);
	if (exchange || !is_put_aside(fs, a, b, st))
		tell_rename(fs, a, b, st, exchange);
	pthread_mutex_unlock(&fs->lock);
	return 0;
}

void
ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname,
    unsigned flags)
{
	struct fs *fs = ops_fs(req);
	struct place a, b;
	int rc;

	if (echo_is(fs, req)) {
		echo_rename(req, inode_of(fs, parent), name, inode_of(fs, newparent), newname);
		return;
	}
	/* A whiteout is a device, which would stay here alone. */
	if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) {
		ops_reply(req, -EINVAL);
		return;
	}
	rc = place_get(fs, parent, name, &a);
	if (rc < 0) {
		ops_reply(req, rc);
		return;
	}
	rc = place_get(fs, newparent, newname, &b);
	if (rc == 0) {
		replica_view_lock(fs->replica);
		rc = rename_and_tell(fs, &a, &b, flags);
		replica_view_unlock(fs->replica);
		place_put(fs, &b);
	}
	place_put(fs, &a);
	ops_reply(req, rc);
}
