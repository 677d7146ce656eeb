/*
 * A process beside the daemon that cuts the mount off when the daemon dies.
 *
 * The kernel does that by itself once the last descriptor of /dev/fuse is
 * closed.  But a thread of the daemon that waits in the kernel for its own
 * mount (a notification for a directory in which a user's request is under
 * way; the barrier) keeps the descriptors of a killed daemon open, and waits for
 * ever, as do all who use the mount.
 */
#ifndef SIBFS_WATCHDOG_H
#define SIBFS_WATCHDOG_H

#include <sys/types.h>

struct watchdog;

/* Before any thread is started, by the thread that lives to the end. */
int		 watchdog_start(const char *mountpoint, struct watchdog **out);

/* What to watch: the device of the mount, 0 for nothing yet. */
void		 watchdog_watch(struct watchdog *w, dev_t dev);

/* The mount has ended in good order. */
void		 watchdog_stop(struct watchdog *w);

/* The device of what is mounted at path, 0 if unknown; asks no daemon. */
dev_t		 watchdog_device(const char *path);

#endif
