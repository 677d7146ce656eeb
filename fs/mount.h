/*
 * A mounted replica, from start to end.  One at a time in a process.  Not
 * here: going into the background, which must happen before.
 */
#ifndef SIBFS_MOUNT_H
#define SIBFS_MOUNT_H

#include <stddef.h>

struct replica;

struct mount_options {
	const char *mountpoint;		/* absolute; may be the store itself */
	const char *fsname;		/* what /proc/self/mounts shows as the source: the store's path */
	const char *fuse_opts;		/* a comma list as after -o, or NULL */
	void (*ready)(void *arg);	/* called when it serves; may be NULL */
	void *arg;
};

/*
 * Mounts r and serves it until it is unmounted, the replica is asked to quit,
 * or SIGTERM, SIGINT or SIGHUP comes; starts and stops the replica's thread.
 * Blocks these signals, in the calling thread too, and returns so.  On failure
 * -errno and one line for the user in why.
 */
int		 mount_run(struct replica *r, const struct mount_options *o, char *why, size_t why_size);

/*
 * Removes a mount whose daemon has died from path (ENOTCONN); to be called
 * before the store is opened, if it may be mounted over itself.  0 also when
 * there is none.
 */
int		 mount_clear_dead(const char *path);

#endif
