/*
 * The table of operations, what is agreed with the kernel at the start, and
 * what the groups of operations share.
 */
#include "config.h"

#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "replication/mark.h"

/*
 * Nothing of the replicated tree changes without the kernel being told, so it
 * may believe it for ever.  Other file systems mounted inside do.
 */
#define FOREVER	1e9
#define A_WHILE	1.0

static void
init(void *userdata, struct fuse_conn_info *conn)
{
	static const unsigned wanted =
	    FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_DONT_MASK | FUSE_CAP_POSIX_ACL | FUSE_CAP_PARALLEL_DIROPS |
	    FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_EXPLICIT_INVAL_DATA |
	    FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO;
	/* Splicing gains nothing here, and would go round the channel. */
	static const unsigned unwanted =
	    FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_AUTO_INVAL_DATA |
	    FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS;

	(void)userdata;
	conn->want |= conn->capable & wanted;
	conn->want &= ~unwanted;
	/* RELEASE is sent in the background: a barrier must not overtake one
	 * that was held back. */
	conn->max_background = UINT16_MAX;
	conn->congestion_threshold = UINT16_MAX;
	conn->time_gran = 1;
}

void
ops_reply(fuse_req_t req, int rc)
{
	fuse_reply_err(req, -rc);
}

double
ops_attr_timeout(const struct fs *fs, struct inode *i, const struct stat *st)
{
	if (!inode_in_tree(fs, i))
		return A_WHILE;
	if (atomic_load(&i->writers) > 0 || atomic_load(&i->dirty))
		return 0;
	/* The link count changes with names that are changed elsewhere. */
	if (!S_ISDIR(st->st_mode) && st->st_nlink > 1)
		return 0;
	atomic_store(&i->cached, true);
	return FOREVER;
}

bool
ops_hidden(const struct fs *fs, const struct inode *dir, const char *name)
{
	return dir == &fs->inodes.root && strcmp(name, ".sibfs") == 0;
}

/* Fills in e for an inode that was looked up. */
static void
fill_entry(struct fs *fs, struct inode *i, const struct stat *st, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){
		.ino = inode_node(fs, i),
		.attr = *st,
		.attr_timeout = ops_attr_timeout(fs, i, st),
		.entry_timeout = inode_in_tree(fs, i) ? FOREVER : A_WHILE,
	};
}

/* (view, locked) i was found to stand at dir/text. */
static struct name *
enter_name(struct fs *fs, struct inode *i, ino_t dir, const char *text)
{
	struct name *old = names_find(&fs->names, dir, text);

	if (old != NULL && old->of != &i->names) {
		session_name_gone(fs, old);
		names_remove(&fs->names, old);
	}
	i->replaced = false;
	return names_add(&fs->names, &i->names, dir, text);
}

int
ops_enter_fd(struct fs *fs, struct inode *dir, int fd, const char *text, struct fuse_entry_param *e,
    struct name **named)
{
	struct inode *i;
	struct name *name = NULL;
	struct stat st;
	int rc;

	if (fstatat(fd, "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	mark_show(fd, &st);
	pthread_mutex_lock(&fs->lock);
	i = inode_enter(fs, fd, &st);
	if (text != NULL && inode_in_tree(fs, dir) && inode_replicated(fs, i))
		name = enter_name(fs, i, dir->key.ino, text);
	fill_entry(fs, i, &st, e);
	if (named != NULL)
		*named = name;
	else
		pthread_mutex_unlock(&fs->lock);
	return 0;
}

int
ops_enter(struct fs *fs, struct inode *dir, int dir_fd, const char *text, struct fuse_entry_param *e,
    struct name **named)
{
	int fd = openat(dir_fd, text, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : ops_enter_fd(fs, dir, fd, text, e, named);
}

void
ops_reply_entry(fuse_req_t req, const struct fuse_entry_param *e)
{
	struct fs *fs = ops_fs(req);

	if (fuse_reply_entry(req, e) != 0 && e->ino != 0)
		inode_forget(fs, inode_of(fs, e->ino), 1);
}

const struct fuse_lowlevel_ops ops_table = {
	.init = init,
	.lookup = ops_lookup,
	.forget = ops_forget,
	.forget_multi = ops_forget_multi,
	.mknod = ops_mknod,
	.mkdir = ops_mkdir,
	.symlink = ops_symlink,
	.link = ops_link,
	.unlink = ops_unlink,
	.rmdir = ops_rmdir,
	.rename = ops_rename,
	.opendir = ops_opendir,
	.readdir = ops_readdir,
	.readdirplus = ops_readdirplus,
	.releasedir = ops_releasedir,
	.fsyncdir = ops_fsyncdir,
	.create = ops_create,
	.open = ops_open,
	.read = ops_read,
	.write = ops_write,
	.release = ops_release,
	.fsync = ops_fsync,
	.fallocate = ops_fallocate,
	.lseek = ops_lseek,
	.copy_file_range = ops_copy_file_range,
	.ioctl = ops_ioctl,
	.getattr = ops_getattr,
	.setattr = ops_setattr,
	.readlink = ops_readlink,
	.statfs = ops_statfs,
	.getxattr = ops_getxattr,
	.setxattr = ops_setxattr,
	.listxattr = ops_listxattr,
	.removexattr = ops_removexattr,
};
