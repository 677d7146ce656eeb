/*
 * The start of the conversation with the kernel.
 */
#include "config.h"

#include "fs/handshake.h"

#include <string.h>

#include <linux/fuse.h>

/* Of kernels newer than the headers that we may be built with. */
#define INIT_EXT	 (1u << 30)
#define HANDLE_KILLPRIV_V2 (1u << 28)
#define FLAGS2_PASSTHROUGH (1u << (37 - 32))

/* How many file systems may be stacked below ours: the store's alone. */
#define STACK_DEPTH	 1

/* The start of fuse_init_in; older kernels send no more than flags. */
struct init_in {
	uint32_t major, minor, max_readahead, flags, flags2;
};

/* fuse_init_out, with the field that passthrough added. */
struct init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth;
	uint32_t unused[6];
};

_Static_assert(sizeof(struct init_out) == 64, "as in linux/fuse.h");

void
handshake_request(struct handshake *h, const void *request, size_t size)
{
	struct fuse_in_header header;
	struct init_in in = { 0 };

	if (h->done || h->unique != 0 || size < sizeof header)
		return;
	memcpy(&header, request, sizeof header);
	if (header.opcode != FUSE_INIT)
		return;
	size -= sizeof header;
	memcpy(&in, (const char *)request + sizeof header, size < sizeof in ? size : sizeof in);
	h->unique = header.unique;
	h->offered = in.flags;
	h->offered2 = (in.flags & INIT_EXT) != 0 ? in.flags2 : 0;
}

void
handshake_answer(struct handshake *h, const struct iovec *iov, int count)
{
	struct fuse_out_header header;
	struct init_out out;

	if (h->done || h->unique == 0 || count < 1 || iov[0].iov_len < sizeof header)
		return;
	memcpy(&header, iov[0].iov_base, sizeof header);
	if (header.unique != h->unique)
		return;
	h->done = true;
	if (header.error != 0 || count != 2 || iov[1].iov_len != sizeof out)
		return;
	memcpy(&out, iov[1].iov_base, sizeof out);
	if ((h->offered & HANDLE_KILLPRIV_V2) != 0) {
		out.flags |= HANDLE_KILLPRIV_V2;
		h->killpriv = true;
	}
	if (h->want_passthrough && (h->offered2 & FLAGS2_PASSTHROUGH) != 0) {
		out.flags |= INIT_EXT;
		out.flags2 |= FLAGS2_PASSTHROUGH;
		out.max_stack_depth = STACK_DEPTH;
		h->passthrough = true;
	}
	memcpy(iov[1].iov_base, &out, sizeof out);
}
