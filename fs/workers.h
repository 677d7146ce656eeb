/*
 * The threads that serve the kernel's requests.  As long as requests are short,
 * one of them reads and serves each in turn: handing every request to another
 * thread would have it wake up on another processor, which costs more than
 * most requests do.  Another one reads as soon as a request takes long, or
 * more wait than one thread can serve.
 *
 * It is known at any time which worker is busy, so a barrier can wait until
 * every request that was read before it is done.
 */
#ifndef SIBFS_WORKERS_H
#define SIBFS_WORKERS_H

#include <stdint.h>
#include <sys/types.h>

struct fuse_session;
struct workers;

/* se must have hooks that call workers_read. */
int		 workers_new(struct fuse_session *se, struct workers **out);
void		 workers_free(struct workers *w);

/* Serves until the connection ends, or workers_stop: then 0.  Otherwise -errno. */
int		 workers_run(struct workers *w);

/* read(2) of a request by a worker. */
ssize_t		 workers_read(struct workers *w, int fd, void *buf, size_t size);

/* Called by a worker that handles a request: waits until all requests that were
 * read before this one are finished. */
void		 workers_barrier(struct workers *w);

/* Ends workers_run from another thread, though the kernel has not ended the
 * connection; workers_run returns once every request that was read is answered. */
void		 workers_stop(struct workers *w);

#endif
