/*
 * Open files.  Where data is passed through, only opening and closing comes
 * here, and what the kernel does not pass through (fallocate and the like).
 * Else data is copied through the daemon; the kernel keeps what it has read
 * (keep_cache), as it is told when a file changes behind it.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/caller.h"
#include "fs/channel.h"
#include "fs/handle.h"
#include "fs/ops.h"

/*
 * The kernel looks at the attributes of a new file once more to let it be
 * opened; it need not ask for that.
 */
#define OPENING	0.01

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
	return (flags & ~(O_APPEND | O_DIRECT | O_NOFOLLOW | O_CREAT | O_EXCL | O_NOCTTY | O_TMPFILE)) | O_CLOEXEC;
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

	bool writable = h->writable, did = atomic_load(&h->wrote);

	handle_free(h);		/* first: its descriptor would pass for a writer */
	if (writable)
		session_close(fs, i, did);
	pthread_mutex_lock(&fs->lock);
	backing_close(fs, i);
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
open_fd(fuse_req_t req, struct inode *i, int flags)
{
	struct fs *fs = ops_fs(req);
	int path_fd = inode_fd_get(fs, i);
	struct caller_write w = { 0 };
	int fd;

	if (path_fd < 0)
		return path_fd;
	if ((flags & O_TRUNC) != 0)
		w = caller_write_begin(req, path_fd);
	fd = open(fd_path(path_fd).s, own_flags(flags));
	if (fd < 0)
		fd = -errno;
	if ((flags & O_TRUNC) != 0)
		caller_write_end(req, path_fd, w);
	inode_fd_put(fs, i);
	return fd;
}

/*
 * The descriptor to serve an open with, which was counted by backing_open.
 * Where data is passed through there is none (-1), but truncation is left to us.
 */
static int
open_data(fuse_req_t req, struct inode *i, int flags, bool passed, int *fd)
{
	*fd = -1;
	if (passed && (flags & O_TRUNC) == 0)
		return 0;
	*fd = open_fd(req, i, flags);
	if (*fd < 0)
		return *fd;
	if (passed) {
		close(*fd);
		*fd = -1;
	}
	return 0;
}

/* (view, if writable) Opens i, which counts as a writer already if writable. */
static int
open_handle(fuse_req_t req, struct inode *i, int flags, bool writable, struct handle **out)
{
	struct fs *fs = ops_fs(req);
	struct handle *h;
	int32_t id;
	int fd, rc;

	pthread_mutex_lock(&fs->lock);
	inode_hold(i);
	id = backing_open(fs, i);
	pthread_mutex_unlock(&fs->lock);
	if (id != 0 && writable)
		session_watch(fs, i);
	rc = open_data(req, i, flags, id != 0, &fd);
	if (rc < 0) {
		pthread_mutex_lock(&fs->lock);
		backing_close(fs, i);
		inode_drop(fs, i);
		pthread_mutex_unlock(&fs->lock);
		return rc;
	}
	h = handle_new(i, fd, id, writable);
	if ((flags & O_TRUNC) != 0)
		wrote(fs, h);
	*out = h;
	return 0;
}

/* Opening for writing excludes that a remote change replaces the file, so
 * it is done under the view lock. */
static int
open_writable(fuse_req_t req, struct inode *i, int flags, struct handle **out)
{
	struct fs *fs = ops_fs(req);
	int rc;

	replica_view_lock(fs->replica);
	rc = session_open(fs, i);
	if (rc == 0) {
		rc = open_handle(req, i, flags, true, out);
		if (rc < 0)
			session_close(fs, i, false);
	}
	replica_view_unlock(fs->replica);
	return rc;
}

/* The kernel keeps the rest open with the handle. */
static int
reply_open(fuse_req_t req, struct handle *h, struct fuse_file_info *fi)
{
	if (h->backing_id != 0)
		return backing_reply_open(req, h->backing_id, (uintptr_t)h);
	set_reply(h, fi);
	return fuse_reply_open(req, fi);
}

void
ops_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct fs *fs = ops_fs(req);
	struct inode *i = inode_of(fs, node);
	struct handle *h = NULL;
	int rc;

	if (for_writing(fi->flags))
		rc = open_writable(req, i, fi->flags, &h);
	else
		rc = open_handle(req, i, fi->flags, false, &h);
	if (rc == 0 && !h->writable)
		session_look(fs, i);
	if (rc < 0) {
		ops_reply(req, rc);
		return;
	}
	if (reply_open(req, h, fi) != 0)
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

/* Whether it may be given a name later (O_EXCL) is the kernel's business. */
static int
create_unnamed(fuse_req_t req, int dir_fd, mode_t mode, int flags)
{
	int fd, rc;

	mode = caller_begin(req, mode);
	fd = openat(dir_fd, ".", own_flags(flags) | O_TMPFILE, mode & 07777);
	if (fd < 0)
		fd = -errno;
	caller_end();
	if (fd < 0)
		return fd;
	rc = caller_own_unnamed(ops_fs(req), req, dir_fd, fd);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

/*
 * (view) Enters the new file as being written; what it holds is told when it
 * is closed, even if that is nothing.  fd is taken over.  text NULL: it has no
 * name.
 */
static int
enter_created(struct fs *fs, struct inode *dir, int dir_fd, const char *text, int fd,
    struct fuse_entry_param *e, struct handle **out)
{
	struct name *name;
	struct inode *i;
	int32_t id;
	int path_fd, rc;

	path_fd = text != NULL ? openat(dir_fd, text, O_PATH | O_NOFOLLOW | O_CLOEXEC) :
	    open(fd_path(fd).s, O_PATH | O_CLOEXEC);
	rc = path_fd < 0 ? -errno : ops_enter_fd(fs, dir, path_fd, text, e, &name);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	i = inode_of(fs, e->ino);
	inode_hold(i);
	session_made(i);
	e->attr_timeout = OPENING;
	atomic_store(&i->cached, false);
	if (name != NULL) {
		session_name_made(fs, name->dir, name->text, true);
		session_name_new(fs, name, true);
	}
	id = backing_open(fs, i);
	pthread_mutex_unlock(&fs->lock);
	if (id != 0) {
		session_watch(fs, i);
		close(fd);
		fd = -1;
	}
	*out = handle_new(i, fd, id, true);
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
	if (strcmp(name, CHANNEL_TMPFILE) == 0) {
		name = NULL;
		fd = create_unnamed(req, dir_fd, mode, flags);
	} else {
		if (inode_in_tree(fs, dir))
			replica_touch(fs->replica, dir->key.ino, name);
		fd = create_on_disk(req, dir_fd, name, mode, flags);
	}
	if (fd >= 0)
		fd = enter_created(fs, dir, dir_fd, name, fd, e, out);
	inode_fd_put(fs, dir);
	return fd;
}

static int
reply_create(fuse_req_t req, struct handle *h, const struct fuse_entry_param *e, struct fuse_file_info *fi)
{
	if (h->backing_id != 0)
		return backing_reply_create(req, e, h->backing_id, (uintptr_t)h);
	set_reply(h, fi);
	return fuse_reply_create(req, e, fi);
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
	if (reply_create(req, h, &e, fi) != 0) {
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
	struct caller_write w;
	ssize_t n;

	(void)node;
	w = caller_write_begin(req, h->fd);
	n = pwrite(h->fd, buf, size, offset);
	if (n < 0)
		n = -errno;
	caller_write_end(req, h->fd, w);
	if (n < 0) {
		ops_reply(req, (int)n);
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
	int fd = handle_fd(fs, h), rc;

	(void)node;
	if (fd < 0) {
		ops_reply(req, fd);
		return;
	}
	rc = (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
	if (rc == 0 && (h->backing_id != 0 || atomic_load(&h->inode->dirty))) {
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
	int fd = handle_fd(ops_fs(req), h), rc = fd;

	(void)node;
	if (fd >= 0) {
		struct caller_write w = caller_write_begin(req, fd);

		rc = fallocate(fd, mode, offset, length) < 0 ? -errno : 0;
		caller_write_end(req, fd, w);
	}
	if (rc == 0)
		wrote(ops_fs(req), h);
	ops_reply(req, rc);
}

void
ops_lseek(fuse_req_t req, fuse_ino_t node, off_t offset, int whence, struct fuse_file_info *fi)
{
	int fd = handle_fd(ops_fs(req), handle_of(fi));
	off_t at = fd < 0 ? fd : lseek(fd, offset, whence);

	(void)node;
	if (fd < 0)
		ops_reply(req, fd);
	else if (at < 0)
		ops_reply(req, -errno);
	else
		fuse_reply_lseek(req, at);
}

void
ops_copy_file_range(fuse_req_t req, fuse_ino_t node_in, off_t off_in, struct fuse_file_info *fi_in,
    fuse_ino_t node_out, off_t off_out, struct fuse_file_info *fi_out, size_t length, int flags)
{
	struct handle *out = handle_of(fi_out);
	int from = handle_fd(ops_fs(req), handle_of(fi_in)), to = handle_fd(ops_fs(req), out);
	struct caller_write w;
	ssize_t n;

	(void)node_in;
	(void)node_out;
	if (from < 0 || to < 0) {
		ops_reply(req, from < 0 ? from : to);
		return;
	}
	w = caller_write_begin(req, to);
	n = copy_file_range(from, &off_in, to, &off_out, length, (unsigned)flags);
	if (n < 0)
		n = -errno;
	caller_write_end(req, to, w);
	if (n < 0) {
		ops_reply(req, (int)n);
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
