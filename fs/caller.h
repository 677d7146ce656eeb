/*
 * New files belong to the caller of the request, with the mode that its umask
 * or the directory's default ACL gives: as if it had made them itself.
 */
#ifndef SIBFS_CALLER_H
#define SIBFS_CALLER_H

#include <sys/types.h>

struct fs;
struct fuse_req;

/* Before a call that makes a file, with the mode asked for: returns the mode
 * to call it with.  caller_end must follow on the same thread. */
mode_t		 caller_begin(struct fuse_req *req, mode_t mode);
void		 caller_end(void);

/* Gives what was just made as dir/name to the caller.  mode as asked for. */
int		 caller_own(const struct fs *fs, struct fuse_req *req, int dir, const char *name, mode_t mode);

#endif
