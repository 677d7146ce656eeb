/*
 * The workers' way to the kernel: reading requests from /dev/fuse and writing
 * replies, by libfuse's I/O hooks.  It knows at any time which worker is busy,
 * so a barrier can wait until every request that was read before it is done.
 * Not here: what requests mean, but for O_TMPFILE, which libfuse does not know:
 * it becomes CREATE of the name CHANNEL_TMPFILE.
 */
#ifndef SIBFS_CHANNEL_H
#define SIBFS_CHANNEL_H

struct channel;
struct fuse_session;
struct handshake;

enum { CHANNEL_WORKERS = 16 };

#define CHANNEL_TMPFILE "/"

/* After fuse_session_mount, before the loop, by the thread that will run the
 * loop.  Lives until after fuse_session_destroy; h longer. */
int		 channel_new(struct fuse_session *se, struct handshake *h, struct channel **out);
void		 channel_free(struct channel *c);

/* Called by a worker that handles a request: waits until all requests that the
 * kernel sent before this one are finished. */
void		 channel_barrier(struct channel *c);

/* Ends the loop from another thread, though the kernel has not ended the
 * connection.  May be repeated. */
void		 channel_stop(struct channel *c);

#endif
