/*
 * The operations that the kernel asks for, as the table that libfuse calls.
 * Each decodes its request, works on the store, tells the replica and replies
 * once.  ops.c has the table and what the groups share; the operations are in
 * ops_name.c, ops_dir.c, ops_file.c and ops_attr.c.
 *
 * Left out, so that the kernel does them itself or without: FLUSH
 * (there is nothing to wait for), ACCESS (default_permissions), GETLK, SETLK,
 * FLOCK (a local file system's locks are local).
 */
#ifndef SIBFS_OPS_H
#define SIBFS_OPS_H

#include <stdbool.h>
#include <sys/stat.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "fs/fs.h"

extern const struct fuse_lowlevel_ops ops_table;

/* For the ops_*.c only, from here on. */

static inline struct fs *
ops_fs(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Replies rc, 0 or -errno. */
void		 ops_reply(fuse_req_t req, int rc);

/* How long the kernel may believe attributes. */
double		 ops_attr_timeout(const struct fs *fs, struct inode *i, const struct stat *st);

/* .sibfs in the root: nobody sees it. */
bool		 ops_hidden(const struct fs *fs, const struct inode *dir, const char *name);

/*
 * (view) Opens dir/name, enters it into the tables as looked up once, and fills
 * in the reply.  named, if not NULL, is set to its name, NULL outside the
 * replicated tree; valid under fs.lock, with which ops_enter returns then.
 */
int		 ops_enter(struct fs *fs, struct inode *dir, int dir_fd, const char *name,
		    struct fuse_entry_param *e, struct name **named);

/* (view) The same for the file behind an O_PATH descriptor, which is taken over; it
 * stands in dir as `name`, or with NULL nowhere. */
int		 ops_enter_fd(struct fs *fs, struct inode *dir, int fd, const char *name,
		    struct fuse_entry_param *e, struct name **named);

/* Replies an entry; takes the lookup back if the kernel does not want it. */
void		 ops_reply_entry(fuse_req_t req, const struct fuse_entry_param *e);

void ops_lookup(fuse_req_t, fuse_ino_t, const char *);
void ops_forget(fuse_req_t, fuse_ino_t, uint64_t);
void ops_forget_multi(fuse_req_t, size_t, struct fuse_forget_data *);
void ops_mknod(fuse_req_t, fuse_ino_t, const char *, mode_t, dev_t);
void ops_mkdir(fuse_req_t, fuse_ino_t, const char *, mode_t);
void ops_symlink(fuse_req_t, const char *, fuse_ino_t, const char *);
void ops_link(fuse_req_t, fuse_ino_t, fuse_ino_t, const char *);
void ops_unlink(fuse_req_t, fuse_ino_t, const char *);
void ops_rmdir(fuse_req_t, fuse_ino_t, const char *);
void ops_rename(fuse_req_t, fuse_ino_t, const char *, fuse_ino_t, const char *, unsigned);

void ops_opendir(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void ops_readdir(fuse_req_t, fuse_ino_t, size_t, off_t, struct fuse_file_info *);
void ops_readdirplus(fuse_req_t, fuse_ino_t, size_t, off_t, struct fuse_file_info *);
void ops_releasedir(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void ops_fsyncdir(fuse_req_t, fuse_ino_t, int, struct fuse_file_info *);

void ops_create(fuse_req_t, fuse_ino_t, const char *, mode_t, struct fuse_file_info *);
void ops_open(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void ops_read(fuse_req_t, fuse_ino_t, size_t, off_t, struct fuse_file_info *);
void ops_write(fuse_req_t, fuse_ino_t, const char *, size_t, off_t, struct fuse_file_info *);
void ops_release(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void ops_fsync(fuse_req_t, fuse_ino_t, int, struct fuse_file_info *);
void ops_fallocate(fuse_req_t, fuse_ino_t, int, off_t, off_t, struct fuse_file_info *);
void ops_lseek(fuse_req_t, fuse_ino_t, off_t, int, struct fuse_file_info *);
void ops_copy_file_range(fuse_req_t, fuse_ino_t, off_t, struct fuse_file_info *, fuse_ino_t, off_t,
	struct fuse_file_info *, size_t, int);
void ops_ioctl(fuse_req_t, fuse_ino_t, unsigned, void *, struct fuse_file_info *, unsigned, const void *,
	size_t, size_t);

void ops_getattr(fuse_req_t, fuse_ino_t, struct fuse_file_info *);
void ops_setattr(fuse_req_t, fuse_ino_t, struct stat *, int, struct fuse_file_info *);
void ops_readlink(fuse_req_t, fuse_ino_t);
void ops_statfs(fuse_req_t, fuse_ino_t);
void ops_getxattr(fuse_req_t, fuse_ino_t, const char *, size_t);
void ops_setxattr(fuse_req_t, fuse_ino_t, const char *, const char *, size_t, int);
void ops_listxattr(fuse_req_t, fuse_ino_t, size_t);
void ops_removexattr(fuse_req_t, fuse_ino_t, const char *);

#endif
