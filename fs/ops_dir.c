/*
 * Reading directories.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/handle.h"
#include "fs/ops.h"

static struct dir_handle *
dir_of(const struct fuse_file_info *fi)
{
	return (struct dir_handle *)(uintptr_t)fi->fh;
}

void
ops_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	struct inode *i = inode_of(fs, node);
	struct dir_handle *d;
	int path_fd, fd, rc;

	session_look(fs, i);
	path_fd = inode_fd_get(fs, i);
	if (path_fd < 0) {
		ops_reply(req, path_fd);
		return;
	}
	fd = openat(path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = -errno;
	inode_fd_put(fs, i);
	if (fd < 0) {
		ops_reply(req, rc);
		return;
	}
	d = dir_handle_new(fd);
	if (d == NULL) {
		ops_reply(req, -ENOMEM);
		return;
	}
	fi->fh = (uintptr_t)d;
	fi->cache_readdir = fi->keep_cache = inode_in_tree(fs, i);
	if (fuse_reply_open(req, fi) != 0)
		dir_handle_free(d);
}

static bool
is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* An entry that is not looked up: "." and "..", and what vanished meanwhile. */
static void
plain_entry(const struct dirent *de, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){
		.attr.st_ino = de->d_ino,
		.attr.st_mode = (mode_t)de->d_type << 12,
	};
}

/* (view) Adds one entry; returns the bytes taken, more than size: no room. */
static size_t
add_plus(fuse_req_t req, struct inode *dir, int fd, const struct dirent *de, char *buf, size_t size)
{
	struct fs *fs = ops_fs(req);
	struct fuse_entry_param e;
	size_t n;

	if (is_dot(de->d_name) || ops_enter(fs, dir, fd, de->d_name, &e, NULL) < 0)
		plain_entry(de, &e);
	n = fuse_add_direntry_plus(req, buf, size, de->d_name, &e, de->d_off);
	return n;
}

static size_t
add_plain(fuse_req_t req, const struct dirent *de, char *buf, size_t size)
{
	struct fuse_entry_param e;

	plain_entry(de, &e);
	return fuse_add_direntry(req, buf, size, de->d_name, &e.attr, de->d_off);
}

/* Fills buf with entries from offset on.  Bytes used or -errno. */
static ssize_t
fill(fuse_req_t req, struct inode *dir, struct dir_handle *d, char *buf, size_t size, off_t offset, bool plus)
{
	struct fs *fs = ops_fs(req);
	struct dirent *de;
	size_t used = 0, n;
	int err;

	while ((de = dir_handle_next(d, offset, &err)) != NULL) {
		if (!ops_hidden(fs, dir, de->d_name)) {
			/* Asks for the size first: an entry that was looked
			 * up must also be delivered. */
			n = plus ? fuse_add_direntry_plus(req, NULL, 0, de->d_name, NULL, 0) :
			    fuse_add_direntry(req, NULL, 0, de->d_name, NULL, 0);
			if (n > size - used)
				break;
			used += plus ? add_plus(req, dir, dirfd(d->dir), de, buf + used, size - used) :
			    add_plain(req, de, buf + used, size - used);
		}
		offset = de->d_off;
		dir_handle_taken(d);
	}
	return de == NULL && err != 0 && used == 0 ? -err : (ssize_t)used;
}

static void
read_dir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi, bool plus)
{
	struct fs *fs = ops_fs(req);
	char *buf = malloc(size);
	ssize_t n;

	if (buf == NULL) {
		ops_reply(req, -ENOMEM);
		return;
	}
	if (plus)
		replica_view_lock(fs->replica);
	n = fill(req, inode_of(fs, node), dir_of(fi), buf, size, offset, plus);
	if (plus)
		replica_view_unlock(fs->replica);
	if (n < 0)
		ops_reply(req, (int)n);
	else
		fuse_reply_buf(req, buf, (size_t)n);
	free(buf);
}

void
ops_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
	read_dir(req, node, size, offset, fi, false);
}

void
ops_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
	read_dir(req, node, size, offset, fi, true);
}

void
ops_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	(void)node;
	dir_handle_free(dir_of(fi));
	ops_reply(req, 0);
}

void
ops_fsyncdir(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	int fd = dirfd(dir_of(fi)->dir);

	(void)node;
	ops_reply(req, (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0);
}
