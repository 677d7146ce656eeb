/*
 * Open files.  Data is copied through the daemon; the kernel keeps what it has
 * read (keep_cache), as it is told when a file changes behind it.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/caller.h"
#include "fs/handle.h"
#include "fs/ops.h"
#include "replication/log.h"

static struct handle *
handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

static bool
for_writing(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
}

/*
 * The flags for our own descriptor.  The kernel gives offsets, so O_APPEND
 * would only misplace what comes from mappings; alignment for O_DIRECT is the
 * caller's, not ours.
 */
static int
own_flags(int flags)
{
	return (flags & ~(O_APPEND | O_DIRECT | O_NOFOLLOW | O_CREAT | O_EXCL | O_NOCTTY)) | O_CLOEXEC;
}

static void
set_reply(struct handle *h, struct fuse_file_info *fi)
{
	fi->fh = (uintptr_t)h;
	fi->keep_cache = 1;
	fi->noflush = 1;
}

/* (view) Gives back what an open file holds. */
static void
close_handle(struct fs *fs, struct handle *h)
{
	struct inode *i = h->inode;

	if (h->writable)
		session_close(fs, i, atomic_load(&h->wrote));
	handle_free(h);
	pthread_mutex_lock(&fs->lock);
	inode_drop(fs, i);
	pthread_mutex_unlock(&fs->lock);
}

static void
release(struct fs *fs, struct handle *h)
{
	replica_view_lock(fs->replica);
	close_handle(fs, h);
	replica_view_unlock(fs->replica);
}

static void
wrote(struct fs *fs, struct handle *h)
{
	atomic_store(&h->wrote, true);
	session_wrote(fs, h->inode);
}

static int
open_fd(struct fs *fs, struct inode *i, int flags)
{
	int path_fd = inode_fd_get(fs, i);
	int fd;

	if (path_fd < 0)
		return path_fd;
	fd = open(fd_path(path_fd).s, own_flags(flags));
	if (fd < 0)
		fd = -errno;
	inode_fd_put(fs, i);
	return fd;
}

/* (view) Opens i, which counts as a writer already if writable. */
static int
open_handle(struct fs *fs, struct inode *i, int flags, bool writable, struct handle **out)
{
	struct handle *h;
	int fd;

	fd = open_fd(fs, i, flags);
	if (fd < 0)
		return fd;
	h = handle_new(i, fd, writable);
	pthread_mutex_lock(&fs->lock);
	inode_hold(i);
	pthread_mutex_unlock(&fs->lock);
	if ((flags & O_TRUNC) != 0)
		wrote(fs, h);
	*out = h;
	return 0;
}

/* Opening for writing excludes that a remote change replaces the file, so
 * it is done under the view lock. */
static int
open_writable(struct fs *fs, struct inode *i, int flags, struct handle **out)
{
	int rc;

	replica_view_lock(fs->replica);
	rc = session_open(fs, i);
	if (rc == 0) {
		rc = open_handle(fs, i, flags, true, out);
		if (rc < 0)
			session_close(fs, i, false);
	}
	replica_view_unlock(fs->replica);
	return rc;
}

/*
 * What others than root write into loses setuid and setgid.  The kernel asks
 * for that at each write, but not when it leaves truncation to us (O_TRUNC).
 */
static void
drop_suid(fuse_req_t req, const struct handle *h)
{
	mode_t drop = S_ISUID;
	struct stat st;

	if (fuse_req_ctx(req)->uid == 0 || fstat(h->fd, &st) < 0)
		return;
	if ((st.st_mode & S_IXGRP) != 0)
		drop |= S_ISGID;	/* without it, it means mandatory locking */
	if ((st.st_mode & drop) != 0 && fchmod(h->fd, st.st_mode & 07777 & ~drop) < 0)
		log_warn("cannot clear setuid of an inode: %s", strerror(errno));
}

void
ops_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	struct inode *i = inode_of(fs, node);
	struct handle *h = NULL;
	int rc;

	if (for_writing(fi->flags))
		rc = open_writable(fs, i, fi->flags, &h);
	else
		rc = open_handle(fs, i, fi->flags, false, &h);
	if (rc < 0) {
		ops_reply(req, rc);
		return;
	}
	if ((fi->flags & O_TRUNC) != 0)
		drop_suid(req, h);
	set_reply(h, fi);
	if (fuse_reply_open(req, fi) != 0)
		release(fs, h);
}

/*
 * A new file.  If there is one already, it came after the kernel asked: it is
 * not opened past its permissions, but looked up by the kernel (ESTALE).
 */
static int
create_on_disk(fuse_req_t req, int dir_fd, const char *name, mode_t mode, int flags)
{
	struct fs *fs = ops_fs(req);
	int fd, rc;

	mode = caller_begin(req, mode);
	fd = openat(dir_fd, name, own_flags(flags) | O_CREAT | O_EXCL, mode & 07777);
	if (fd < 0)
		fd = -errno;
	caller_end();
	if (fd == -EEXIST && (flags & O_EXCL) == 0)
		return -ESTALE;
	if (fd < 0)
		return fd;
	rc = caller_own(fs, req, dir_fd, name, mode);
	if (rc < 0) {
		unlinkat(dir_fd, name, 0);
		close(fd);
		return rc;
	}
	return fd;
}

/*
 * (view) Enters the new file as being written; what it holds is told when it
 * is closed, even if that is nothing.  fd is taken over.
 */
static int
enter_created(struct fs *fs, struct inode *dir, int dir_fd, const char *text, int fd,
    struct fuse_entry_param *e, struct handle **out)
{
	struct name *name;
	struct inode *i;
	int rc;

	rc = ops_enter(fs, dir, dir_fd, text, e, &name);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	i = inode_of(fs, e->ino);
	inode_hold(i);
	atomic_fetch_add(&i->writers, 1);
	e->attr_timeout = 0;
	if (name != NULL)
		session_name_new(fs, name, true);
	pthread_mutex_unlock(&fs->lock);
	*out = handle_new(i, fd, true);
	wrote(fs, *out);
	return 0;
}

static int
create(fuse_req_t req, struct inode *dir, const char *name, mode_t mode, int flags,
    struct fuse_entry_param *e, struct handle **out)
{
	struct fs *fs = ops_fs(req);
	int dir_fd, fd;

	dir_fd = inode_fd_get(fs, dir);
	if (dir_fd < 0)
		return dir_fd;
	if (inode_in_tree(fs, dir))
		replica_touch(fs->replica, dir->key.ino, name);
	fd = create_on_disk(req, dir_fd, name, mode, flags);
	if (fd >= 0)
		fd = enter_created(fs, dir, dir_fd, name, fd, e, out);
	inode_fd_put(fs, dir);
	return fd;
}

void
ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	struct inode *dir = inode_of(fs, parent);
	struct fuse_entry_param e;
	struct handle *h = NULL;
	int rc = -EPERM;

	if (!ops_hidden(fs, dir, name)) {
		replica_view_lock(fs->replica);
		rc = create(req, dir, name, mode, fi->flags, &e, &h);
		replica_view_unlock(fs->replica);
	}
	if (rc < 0) {
		ops_reply(req, rc);
		return;
	}
	set_reply(h, fi);
	if (fuse_reply_create(req, &e, fi) != 0) {
		release(fs, h);
		inode_forget(fs, inode_of(fs, e.ino), 1);
	}
}

void
ops_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset, struct fuse_file_info *fi)
{
	char *buf = malloc(size);
	ssize_t n;

	(void)node;
	if (buf == NULL) {
		ops_reply(req, -ENOMEM);
		return;
	}
	n = pread(handle_of(fi)->fd, buf, size, offset);
	if (n < 0)
		ops_reply(req, -errno);
	else
		fuse_reply_buf(req, buf, (size_t)n);
	free(buf);
}

void
ops_write(fuse_req_t req, fuse_ino_t node, const char *buf, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	ssize_t n;

	(void)node;
	n = pwrite(h->fd, buf, size, offset);
	if (n < 0) {
		ops_reply(req, -errno);
		return;
	}
	wrote(ops_fs(req), h);
	fuse_reply_write(req, (size_t)n);
}

void
ops_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	(void)node;
	release(ops_fs(req), handle_of(fi));
	ops_reply(req, 0);
}

void
ops_fsync(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	struct handle *h = handle_of(fi);
	int rc;

	(void)node;
	rc = (datasync ? fdatasync(h->fd) : fsync(h->fd)) < 0 ? -errno : 0;
	if (rc == 0 && atomic_load(&h->inode->dirty)) {
		replica_view_lock(fs->replica);
		session_seal(fs, h->inode);
		replica_view_unlock(fs->replica);
	}
	ops_reply(req, rc);
}

void
ops_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	int rc;

	(void)node;
	rc = fallocate(h->fd, mode, offset, length) < 0 ? -errno : 0;
	if (rc == 0)
		wrote(ops_fs(req), h);
	ops_reply(req, rc);
}

void
ops_lseek(fuse_req_t req, fuse_ino_t node, off_t offset, int whence, struct fuse_file_info *fi)
{
	off_t at = lseek(handle_of(fi)->fd, offset, whence);

	(void)node;
	if (at < 0)
		ops_reply(req, -errno);
	else
		fuse_reply_lseek(req, at);
}

void
ops_copy_file_range(fuse_req_t req, fuse_ino_t node_in, off_t off_in, struct fuse_file_info *fi_in,
    fuse_ino_t node_out, off_t off_out, struct fuse_file_info *fi_out, size_t length, int flags)
{
	struct handle *out = handle_of(fi_out);
	ssize_t n;

	(void)node_in;
	(void)node_out;
	n = copy_file_range(handle_of(fi_in)->fd, &off_in, out->fd, &off_out, length, (unsigned)flags);
	if (n < 0) {
		ops_reply(req, -errno);
		return;
	}
	if (n > 0)
		wrote(ops_fs(req), out);
	fuse_reply_write(req, (size_t)n);
}

void
ops_ioctl(fuse_req_t req, fuse_ino_t node, unsigned cmd, void *arg, struct fuse_file_info *fi, unsigned flags,
    const void *in, size_t in_size, size_t out_size)
{
	(void)node, (void)cmd, (void)arg, (void)fi, (void)flags, (void)in, (void)in_size, (void)out_size;
	ops_reply(req, -ENOTTY);
}
