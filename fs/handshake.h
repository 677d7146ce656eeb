/*
 * What is agreed with the kernel at the start and libfuse 3.14 does not know
 * of: passthrough, and that we take setuid away from files that others write
 * (FUSE_HANDLE_KILLPRIV_V2; without it each write(2) asks for an attribute).
 * The first request and its answer are looked at, and the answer is amended,
 * on their way through the channel.  See linux/fuse.h, FUSE_INIT.
 *
 * Threading: the first request is read before any other thread serves; what
 * was agreed does not change after its answer.
 */
#ifndef SIBFS_HANDSHAKE_H
#define SIBFS_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct handshake {
	bool want_passthrough;		/* set before the loop */
	bool passthrough, killpriv;	/* agreed */

	bool done;
	uint64_t unique;		/* of the request */
	uint32_t offered, offered2;
};

/* Each is called for every request and answer, and does nothing after the first. */
void		 handshake_request(struct handshake *h, const void *request, size_t size);
void		 handshake_answer(struct handshake *h, const struct iovec *iov, int count);

#endif
