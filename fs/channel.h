/*
 * The workers' way to the kernel: reading requests from /dev/fuse and writing
 * replies, by libfuse's I/O hooks.  Not here: what requests mean, but for
 * O_TMPFILE, which libfuse does not know: it becomes CREATE of the name
 * CHANNEL_TMPFILE.
 */
#ifndef SIBFS_CHANNEL_H
#define SIBFS_CHANNEL_H

struct fuse_session;
struct handshake;
struct workers;

#define CHANNEL_TMPFILE "/"

/* After fuse_session_mount, before the workers run.  w and h live until
 * channel_close, which comes after fuse_session_destroy. */
int		 channel_open(struct fuse_session *se, struct workers *w, struct handshake *h);
void		 channel_close(void);

#endif
