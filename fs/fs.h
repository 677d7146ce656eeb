/*
 * What all files of fs/ share: one mounted replica.  The store is reached only
 * through descriptors (the root's, those of inodes) and /proc/self/fd, never
 * by its path: the mount may stand over the store itself.
 *
 * Locks, outermost first; take them downwards only:
 *
 *	the replica's view lock		shared, by operations (replica.h)
 *	fs.lock				inodes, names, sessions, backing ids
 *	notify's queue, barrier's queue, the replica's event queue
 *
 * None is held across fuse_reply_*() or fuse_lowlevel_notify_*() (but for
 * attributes, notify_attr), and fs.lock is not held across a system call that can
 * wait for a disk.
 *
 * Operations that change one name never overlap here: the kernel holds the
 * directory's lock until it has the reply.  What comes by itself (RELEASE, the
 * timer) may fall between such an operation's system call and its telling;
 * the replica then hears of a name that is gone already, as it also does when
 * it is slow.
 */
#ifndef SIBFS_FS_H
#define SIBFS_FS_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "fs/backing.h"
#include "fs/handshake.h"
#include "fs/inode.h"
#include "fs/names.h"
#include "fs/session.h"

struct barrier;
struct echo;
struct fuse_session;
struct notify;
struct replica;
struct workers;

struct fs {
	struct replica *replica;
	struct fuse_session *se;
	struct handshake handshake;
	struct workers *workers;
	struct notify *notify;
	struct barrier *barrier;
	struct echo *echo;		/* NULL: watchers get no events */
	uid_t uid;			/* the daemon's own */
	gid_t gid;

	pthread_mutex_t lock;		/* the rest, and what inode.h and names.h say */
	struct backing backing;
	struct inodes inodes;
	struct names names;
	struct sessions sessions;
};

#endif
