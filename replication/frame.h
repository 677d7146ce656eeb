/*
 * Frames: one message each, on a byte stream.
 *
 *	length	4 bytes, big-endian, of what follows the checksum
 *	flags	1 byte; bit 0: deflated (zlib)
 *	crc	4 bytes, big-endian, CRC-32 over the frame's number (4 bytes,
 *		big-endian, from 0, each direction by itself), flags, payload as sent
 *	payload	a wire.Frame; deflated: its plain length (4 bytes,
 *		big-endian), then the zlib stream
 *
 * A frame is deflated when that makes it smaller and a probe of its start says
 * so.  Every length is checked against FRAME_MAX before anything is allocated,
 * the inflated one too.  A parser is fed bytes as they come.  Pure.
 */
#ifndef SIBFS_FRAME_H
#define SIBFS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/wire.pb-c.h"

#define FRAME_MAX (4u << 20)
#define FRAME_HEADER 9

/* Growing bytes: used for both directions of a link. */
struct bytes {
	uint8_t *p;
	size_t start, len, cap;	/* the bytes are p[start .. start + len) */
	uint32_t frames;	/* that went in or came out */
};

void		 bytes_add(struct bytes *b, const void *p, size_t n);
void		 bytes_drop(struct bytes *b, size_t n);	/* from the front */
void		 bytes_fini(struct bytes *b);

/* Appends m as a frame.  -EMSGSIZE if it would be too large. */
int		 frame_put(struct bytes *out, const Sibfs__Wire__Frame *m, bool compress);

/*
 * Takes the next whole frame from in.  1: *out is it (free with
 * sibfs__wire__frame__free_unpacked(m, NULL)); 0: more bytes are needed;
 * -EBADMSG: the stream is damaged; -EMSGSIZE: too large.
 */
int		 frame_get(struct bytes *in, Sibfs__Wire__Frame **out);

#endif
