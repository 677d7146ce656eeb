/*
 * Attributes: stat, chmod and the like, extended attributes, links' targets.
 * The names user.sibfs* belong to us: some are answered by the replica, none
 * can be set, none is listed.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fs/barrier.h"
#include "fs/caller.h"
#include "fs/echo.h"
#include "fs/handle.h"
#include "fs/ops.h"
#include "fs/workers.h"
#include "replication/mark.h"

static int
stat_inode(struct fs *fs, struct inode *i, struct stat *st)
{
	int fd = inode_fd_get(fs, i);
	int rc;

	if (fd < 0)
		return fd;
	rc = fstatat(fd, "", st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	if (rc == 0)
		mark_show(fd, st);
	inode_fd_put(fs, i);
	/* That it stands in the trash is nobody's business. */
	if (rc == 0 && !S_ISDIR(st->st_mode) && session_is_nameless(fs, i))
		st->st_nlink = 0;
	return rc;
}

static void
reply_attr(fuse_req_t req, struct inode *i)
{
	struct fs *fs = ops_fs(req);
	struct stat st;
	int rc = stat_inode(fs, i, &st);

	if (rc < 0)
		ops_reply(req, rc);
	else
		fuse_reply_attr(req, &st, ops_attr_timeout(fs, i, &st));
}

void
ops_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	(void)fi;
	reply_attr(req, inode_of(ops_fs(req), node));
}

static int
set_size(const char *path, off_t size, const struct handle *h)
{
	if (h != NULL && h->writable && h->fd >= 0)
		return ftruncate(h->fd, size);
	return truncate(path, size);
}

static struct timespec
time_to_set(int to_set, int set, int now, struct timespec t)
{
	if ((to_set & now) != 0)
		return (struct timespec){ .tv_nsec = UTIME_NOW };
	if ((to_set & set) != 0)
		return t;
	return (struct timespec){ .tv_nsec = UTIME_OMIT };
}

/* The owner comes before the mode, as a change of owner takes suid away. */
static int
set_attrs(fuse_req_t req, int fd, const struct stat *a, int to_set, const struct handle *h)
{
	struct fd_path path = fd_path(fd);
	struct caller_write w;
	int rc;

	if ((to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0 &&
	    fchownat(fd, "", to_set & FUSE_SET_ATTR_UID ? a->st_uid : (uid_t)-1,
	    to_set & FUSE_SET_ATTR_GID ? a->st_gid : (gid_t)-1, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if ((to_set & FUSE_SET_ATTR_MODE) != 0 && chmod(path.s, a->st_mode & 07777) < 0)
		return -errno;
	if ((to_set & FUSE_SET_ATTR_SIZE) != 0) {
		w = caller_write_begin(req, fd);
		rc = set_size(path.s, a->st_size, h) < 0 ? -errno : 0;
		caller_write_end(req, fd, w);
		if (rc < 0)
			return rc;
	}
	if ((to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) != 0) {
		struct timespec t[2] = {
			time_to_set(to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW, a->st_atim),
			time_to_set(to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW, a->st_mtim),
		};

		if (utimensat(fd, "", t, AT_EMPTY_PATH) < 0)
			return -errno;
	}
	return 0;
}

/* (view) Tells what SETATTR did, except for the size: that is told when who
 * truncated is done. */
static void
tell_set(struct fs *fs, struct inode *i, int to_set, const int64_t mtime[2], struct handle *h)
{
	if ((to_set & FUSE_SET_ATTR_SIZE) != 0) {
		if (h != NULL)
			atomic_store(&h->wrote, true);
		session_wrote(fs, i);
	}
	if ((to_set & ~(FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_CTIME)) != 0) {
		unsigned which = REPLICA_ATTR_OTHER;

		if ((to_set & FUSE_SET_ATTR_MODE) != 0)
			which |= REPLICA_ATTR_MODE;
		if ((to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0)
			which |= REPLICA_ATTR_OWNER;
		pthread_mutex_lock(&fs->lock);
		session_attr(fs, i, which, mtime);
		pthread_mutex_unlock(&fs->lock);
	}
}

static int64_t
mtime_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

/* (view) */
static int
change_attrs(fuse_req_t req, struct inode *i, const struct stat *a, int to_set, struct handle *h)
{
	struct fs *fs = ops_fs(req);
	bool timed = (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_SIZE)) == FUSE_SET_ATTR_MTIME;
	int64_t mtime[2] = { 0 };
	int fd, rc;

	fd = inode_fd_get(fs, i);
	if (fd < 0)
		return fd;
	mark_wait(fd);
	if (timed)
		mtime[0] = mtime_of(fd);
	session_touch(fs, i);
	rc = set_attrs(req, fd, a, to_set, h);
	if (timed)
		mtime[1] = mtime_of(fd);
	inode_fd_put(fs, i);
	if (rc == 0)
		tell_set(fs, i, to_set, timed ? mtime : NULL, h);
	return rc;
}

void
ops_setattr(fuse_req_t req, fuse_ino_t node, struct stat *a, int to_set, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	struct inode *i = inode_of(fs, node);
	struct handle *h = fi != NULL ? (struct handle *)(uintptr_t)fi->fh : NULL;
	bool truncates = h == NULL && (to_set & FUSE_SET_ATTR_SIZE) != 0;
	int rc;

	if (echo_is(fs, req)) {
		reply_attr(req, i);	/* for show */
		return;
	}
	replica_view_lock(fs->replica);
	/* To truncate by name is to open, write and close. */
	rc = truncates ? session_open(fs, i) : h == NULL ? session_may_change(fs, i) : 0;
	if (rc == 0) {
		rc = change_attrs(req, i, a, to_set, h);
		if (truncates)
			session_close(fs, i, rc == 0);
	}
	replica_view_unlock(fs->replica);
	if (rc < 0)
		ops_reply(req, rc);
	else
		reply_attr(req, i);
}

void
ops_readlink(fuse_req_t req, fuse_ino_t node)
{
	struct fs *fs = ops_fs(req);
	struct inode *i = inode_of(fs, node);
	char target[PATH_MAX + 1];
	ssize_t n;
	int fd, rc;

	fd = inode_fd_get(fs, i);
	if (fd < 0) {
		ops_reply(req, fd);
		return;
	}
	n = readlinkat(fd, "", target, sizeof target - 1);
	rc = -errno;
	inode_fd_put(fs, i);
	if (n < 0) {
		ops_reply(req, rc);
		return;
	}
	target[n] = '\0';
	fuse_reply_readlink(req, target);
}

void
ops_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct fs *fs = ops_fs(req);
	struct inode *i = inode_of(fs, node);
	struct statvfs st;
	int fd, rc;

	fd = inode_fd_get(fs, i);
	if (fd < 0) {
		ops_reply(req, fd);
		return;
	}
	rc = fstatvfs(fd, &st) < 0 ? -errno : 0;
	inode_fd_put(fs, i);
	if (rc < 0)
		ops_reply(req, rc);
	else
		fuse_reply_statfs(req, &st);
}

static bool
is_ours(const char *xattr)
{
	return strncmp(xattr, "user.sibfs", strlen("user.sibfs")) == 0;
}

static void
reply_value(fuse_req_t req, const void *value, size_t length, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, length);
	else if (length > size)
		ops_reply(req, -ERANGE);
	else
		fuse_reply_buf(req, value, length);
}

/* The name that an inode was last looked up by, copied; text has NAME_MAX + 1. */
static bool
copy_name(struct fs *fs, struct inode *i, ino_t *dir, char *text)
{
	struct name *name;

	pthread_mutex_lock(&fs->lock);
	name = i->names.first;
	if (name != NULL) {
		*dir = name->dir;
		strcpy(text, name->text);
	}
	pthread_mutex_unlock(&fs->lock);
	return name != NULL;
}

/* Asks the replica for one of the computed attributes. */
static int
computed(struct fs *fs, struct inode *i, const char *xattr, char **out)
{
	static const struct {
		const char *name;
		enum replica_query query;
	} known[] = {
		{ "user.sibfs.vv", REPLICA_VV },
		{ "user.sibfs.dot", REPLICA_DOT },
		{ "user.sibfs.siblings", REPLICA_SIBLINGS },
		{ "user.sibfs.origin", REPLICA_ORIGIN },
	};
	char text[NAME_MAX + 1] = "";
	ino_t dir = 0;

	for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
		if (strcmp(xattr, known[k].name) != 0)
			continue;
		if (i != &fs->inodes.root && !copy_name(fs, i, &dir, text))
			return -ENODATA;
		return replica_ask(fs->replica, known[k].query, dir, text, out);
	}
	return -ENODATA;
}

static void
get_ours(fuse_req_t req, struct inode *i, const char *xattr, size_t size)
{
	struct fs *fs = ops_fs(req);
	char *value = NULL;
	int rc;

	if (strcmp(xattr, BARRIER_XATTR) == 0) {
		workers_barrier(fs->workers);
		session_look_mapped(fs);
		rc = -ENODATA;
	} else if (strcmp(xattr, "user.sibfs.store") == 0) {
		/* For the command line: whose mount is this? */
		rc = asprintf(&value, "%jx-%jx", (uintmax_t)fs->inodes.root.key.dev,
		    (uintmax_t)fs->inodes.root.key.ino) < 0 ? -ENOMEM : 0;
	} else {
		rc = computed(fs, i, xattr, &value);
	}
	if (rc < 0)
		ops_reply(req, rc);
	else
		reply_value(req, value, strlen(value), size);
	free(value);
}

/*
 * getxattr(2) or, with xattr NULL, listxattr(2) of the store.  The length or
 * -errno.
 */
static ssize_t
read_xattr(struct fs *fs, struct inode *i, const char *xattr, char *out, size_t size)
{
	int fd = inode_fd_get(fs, i);
	struct fd_path path;
	ssize_t n;

	if (fd < 0)
		return fd;
	path = fd_path(fd);
	n = xattr != NULL ? getxattr(path.s, xattr, out, size) : listxattr(path.s, out, size);
	if (n < 0)
		n = -errno;
	inode_fd_put(fs, i);
	return n;
}

void
ops_getxattr(fuse_req_t req, fuse_ino_t node, const char *xattr, size_t size)
{
	struct fs *fs = ops_fs(req);
	struct inode *i = inode_of(fs, node);
	char value[XATTR_SIZE_MAX];
	ssize_t n;

	if (is_ours(xattr)) {
		get_ours(req, i, xattr, size);
		return;
	}
	n = read_xattr(fs, i, xattr, value, sizeof value);
	if (n < 0)
		ops_reply(req, (int)n);
	else
		reply_value(req, value, (size_t)n, size);
}

/* Takes out of a list our own names and, unless root asks, those that only root
 * may see; returns its new length. */
static size_t
to_be_listed(char *list, size_t length, bool root)
{
	size_t kept = 0;

	for (size_t at = 0; at < length;) {
		size_t n = strlen(list + at) + 1;

		if (!is_ours(list + at) && (root || strncmp(list + at, "trusted.", strlen("trusted.")) != 0)) {
			memmove(list + kept, list + at, n);
			kept += n;
		}
		at += n;
	}
	return kept;
}

void
ops_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	struct fs *fs = ops_fs(req);
	char list[XATTR_LIST_MAX];
	ssize_t n;

	n = read_xattr(fs, inode_of(fs, node), NULL, list, sizeof list);
	if (n < 0)
		ops_reply(req, (int)n);
	else
		reply_value(req, list, to_be_listed(list, (size_t)n, fuse_req_ctx(req)->uid == 0), size);
}

/* Sets or, with value NULL, removes. */
static int
change_xattr(struct fs *fs, struct inode *i, const char *xattr, const char *value, size_t size, int flags)
{
	int fd, rc;

	rc = session_may_change(fs, i);
	if (rc < 0)
		return rc;
	fd = inode_fd_get(fs, i);
	if (fd < 0)
		return fd;
	mark_wait(fd);
	session_touch(fs, i);
	if (value != NULL)
		rc = setxattr(fd_path(fd).s, xattr, value, size, flags);
	else
		rc = removexattr(fd_path(fd).s, xattr);
	if (rc < 0)
		rc = -errno;
	inode_fd_put(fs, i);
	if (rc == 0) {
		pthread_mutex_lock(&fs->lock);
		session_attr(fs, i, REPLICA_ATTR_OTHER, NULL);
		pthread_mutex_unlock(&fs->lock);
	}
	return rc;
}

/* (view) Who sets an access list of a file whose group he is not in takes its
 * setgid away, as by chmod. */
static void
drop_setgid(fuse_req_t req, struct inode *i)
{
	struct fs *fs = ops_fs(req);
	struct stat st;
	int fd;

	if (fuse_req_ctx(req)->uid == 0 || stat_inode(fs, i, &st) < 0 || (st.st_mode & S_ISGID) == 0 ||
	    caller_in_group(req, st.st_gid))
		return;
	fd = inode_fd_get(fs, i);
	if (fd >= 0) {
		chmod(fd_path(fd).s, st.st_mode & 07777 & ~(mode_t)S_ISGID);
		inode_fd_put(fs, i);
	}
}

static void
set_xattr(fuse_req_t req, fuse_ino_t node, const char *xattr, const char *value, size_t size, int flags)
{
	struct fs *fs = ops_fs(req);
	int rc = -EPERM;

	if (!is_ours(xattr)) {
		replica_view_lock(fs->replica);
		rc = change_xattr(fs, inode_of(fs, node), xattr, value, size, flags);
		if (rc == 0 && value != NULL && strcmp(xattr, "system.posix_acl_access") == 0)
			drop_setgid(req, inode_of(fs, node));
		replica_view_unlock(fs->replica);
	}
	ops_reply(req, rc);
}

void
ops_setxattr(fuse_req_t req, fuse_ino_t node, const char *xattr, const char *value, size_t size, int flags)
{
	set_xattr(req, node, xattr, value, size, flags);
}

void
ops_removexattr(fuse_req_t req, fuse_ino_t node, const char *xattr)
{
	set_xattr(req, node, xattr, NULL, 0, 0);
}
