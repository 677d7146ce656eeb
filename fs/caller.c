/*
 * The caller's umask cannot be applied by us, as a default ACL takes its place
 * where there is one; only the file system of the store knows.  So the worker
 * takes it on.  The umask belongs to a process unless a thread unshares it;
 * capabilities always belong to a thread.
 */
#include "config.h"

#include "fs/caller.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "fs/fs.h"

static _Thread_local enum { UNASKED, OWN, SHARED } mask_kind;
static _Thread_local mode_t mask_before;

mode_t
caller_begin(fuse_req_t req, mode_t mode)
{
	mode_t mask = fuse_req_ctx(req)->umask;

	if (mask_kind == UNASKED)
		mask_kind = unshare(CLONE_FS) == 0 ? OWN : SHARED;
	if (mask_kind == SHARED)
		return S_ISLNK(mode) ? mode : mode & ~mask;
	mask_before = umask(mask);
	return mode;
}

void
caller_end(void)
{
	if (mask_kind == OWN)
		umask(mask_before);
}

void
caller_fsetid(bool have)
{
	/* Nobody else changes what this thread has. */
	static _Thread_local struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	static _Thread_local bool known;
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const unsigned bit = CAP_TO_MASK(CAP_FSETID);

	if (!known && syscall(SYS_capget, &header, data) < 0)
		return;
	known = true;
	if ((data[0].permitted & bit) == 0)
		return;
	data[0].effective = have ? data[0].effective | bit : data[0].effective & ~bit;
	syscall(SYS_capset, &header, data);
}

bool
caller_in_group(fuse_req_t req, gid_t gid)
{
	enum { MOST = 1024 };
	gid_t groups[MOST];
	int n;

	if (fuse_req_ctx(req)->gid == gid)
		return true;
	n = fuse_req_getgroups(req, MOST, groups);
	for (int i = 0; i < n && i < MOST; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

struct caller_write
caller_write_begin(fuse_req_t req, int fd)
{
	struct caller_write w = { 0 };
	struct stat st;

	if (fuse_req_ctx(req)->uid == 0)
		return w;
	if (fstat(fd, &st) == 0 && (st.st_mode & (S_ISGID | S_IXGRP)) == S_ISGID) {
		w.keeps_setgid = caller_in_group(req, st.st_gid);
		w.loses_setgid = !w.keeps_setgid;
	}
	caller_fsetid(false);
	return w;
}

void
caller_write_end(fuse_req_t req, int fd, struct caller_write w)
{
	int before = errno;
	struct stat st;

	if (fuse_req_ctx(req)->uid != 0)
		caller_fsetid(true);
	if ((w.keeps_setgid || w.loses_setgid) && fstat(fd, &st) == 0 && ((st.st_mode & S_ISGID) != 0) != w.keeps_setgid)
		chmod(fd_path(fd).s, (st.st_mode ^ S_ISGID) & 07777);
	errno = before;
}

/* Is a new file in dir to be given to its caller?  0: yes, and to that group, or -1 if
 * it has its group already, as in a setgid directory.  1: no, it is the caller's. */
static int
group_in(const struct fs *fs, const struct fuse_ctx *ctx, int dir, gid_t *gid)
{
	struct stat st;

	if (fs->uid != 0 || (ctx->uid == fs->uid && ctx->gid == fs->gid))
		return 1;
	if (fstat(dir, &st) < 0)
		return -errno;
	*gid = st.st_mode & S_ISGID ? (gid_t)-1 : ctx->gid;
	return 0;
}

int
caller_own(const struct fs *fs, fuse_req_t req, int dir, const char *name, mode_t mode)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct stat st;
	gid_t gid = (gid_t)-1;
	int rc = group_in(fs, ctx, dir, &gid);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	if (fchownat(dir, name, ctx->uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* A change of owner takes these bits away. */
	if (!S_ISDIR(mode) && !S_ISLNK(mode) && (mode & (S_ISUID | S_ISGID)) != 0) {
		if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    fchmodat(dir, name, (st.st_mode | (mode & (S_ISUID | S_ISGID))) & 07777, 0) < 0)
			return -errno;
	}
	return 0;
}

int
caller_own_unnamed(const struct fs *fs, fuse_req_t req, int dir, int fd)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct stat st;
	gid_t gid = (gid_t)-1;
	int rc = group_in(fs, ctx, dir, &gid);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	if (fstat(fd, &st) < 0 || fchown(fd, ctx->uid, gid) < 0)
		return -errno;
	if ((st.st_mode & (S_ISUID | S_ISGID)) != 0 && fchmod(fd, st.st_mode & 07777) < 0)
		return -errno;
	return 0;
}
