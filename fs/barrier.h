/*
 * Waiting for what programs have closed: RELEASE comes to the daemon some time
 * after close(2) has returned.  A thread asks for an attribute through the
 * mount itself; the kernel queues requests in order, so once this one is here
 * all RELEASEs before it are, too.
 */
#ifndef SIBFS_BARRIER_H
#define SIBFS_BARRIER_H

struct barrier;

/* The attribute asked for; answered by ENODATA after workers_barrier. */
#define BARRIER_XATTR "user.sibfs.barrier"

int		 barrier_start(const char *mountpoint, struct barrier **out);

/* From now on nothing is asked any more, and each is called at once.  Waits
 * until the thread is out of the mount. */
void		 barrier_mute(struct barrier *b);
void		 barrier_stop(struct barrier *b);

/* Calls done(arg) from the thread, also when the mount has ended. */
void		 barrier_call(struct barrier *b, void (*done)(void *arg), void *arg);

#endif
