/*
 * New files belong to the caller of the request, with the mode that its umask
 * or the directory's default ACL gives: as if it had made them itself.  What it
 * writes loses setuid as if it had written it itself.
 */
#ifndef SIBFS_CALLER_H
#define SIBFS_CALLER_H

#include <stdbool.h>
#include <sys/types.h>

struct fs;
struct fuse_req;

/* Before a call that makes a file, with the mode asked for: returns the mode
 * to call it with.  caller_end must follow on the same thread. */
mode_t		 caller_begin(struct fuse_req *req, mode_t mode);
void		 caller_end(void);

/* Takes CAP_FSETID from this thread, and gives it back: without it, what is
 * written or truncated loses setuid and setgid, as it does for most users. */
void		 caller_fsetid(bool have);

/*
 * The same around a write on behalf of the caller, if that is not root, to the file
 * behind fd, which may be an O_PATH one.  A setgid bit without execution for the
 * group stays if the caller is in that group; the kernel knows but ours.
 */
struct caller_write {
	bool keeps_setgid, loses_setgid;
};

struct caller_write caller_write_begin(struct fuse_req *req, int fd);
void		 caller_write_end(struct fuse_req *req, int fd, struct caller_write w);

/* Is the caller in that group? */
bool		 caller_in_group(struct fuse_req *req, gid_t gid);

/* Gives what was just made as dir/name to the caller.  mode as asked for. */
int		 caller_own(const struct fs *fs, struct fuse_req *req, int dir, const char *name, mode_t mode);

/* The same for a file in dir that has no name. */
int		 caller_own_unnamed(const struct fs *fs, struct fuse_req *req, int dir, int fd);

#endif
