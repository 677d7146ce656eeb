/*
 * Frames: one message each, on a byte stream.
 *
 *	length	4 bytes, big-endian, of what follows the checksum
 *	flags	1 byte: how the payload was made smaller, if at all; bit 0: by
 *		zlib; bit 1: by zstd
 *	crc	4 bytes, big-endian, CRC-32 over the frame's number (4 bytes,
 *		big-endian, from 0, each direction by itself), flags, payload as sent
 *	payload	a wire.Frame; made smaller: its plain length (4 bytes,
 *		big-endian), then one zlib stream or zstd frame
 *
 * zstd is three times as fast as zlib and leaves less, but not every build has
 * it.  Every length is checked against FRAME_MAX before anything is allocated,
 * the plain one too.  A parser is fed bytes as they come.  Pure.
 */
#ifndef SIBFS_FRAME_H
#define SIBFS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/wire.pb-c.h"

#define FRAME_MAX (4u << 20)
#define FRAME_HEADER 9

/* The ways to make a payload smaller; also the bits of the flags. */
enum { FRAME_ZLIB = 1, FRAME_ZSTD = 2 };

#define FRAME_WORDS_MAX 2

/* Growing bytes: used for both directions of a link. */
struct bytes {
	uint8_t *p;
	size_t start, len, cap;	/* the bytes are p[start .. start + len) */
	uint32_t frames;	/* that went in or came out */
	void *packer, *unpacker;	/* zstd's, kept from one frame to the next */
};

void		 bytes_add(struct bytes *b, const void *p, size_t n);
/* Room for n bytes behind the last one; what is written there counts once len
 * is raised.  Valid until the next call. */
uint8_t		*bytes_room(struct bytes *b, size_t n);
void		 bytes_drop(struct bytes *b, size_t n);	/* from the front */
void		 bytes_trim(struct bytes *b);	/* gives back what an idle link does not need */
void		 bytes_fini(struct bytes *b);

/* What this build can undo: words for a Hello, and the way that one stands for
 * (0: none that we know). */
size_t		 frame_words(const char *out[FRAME_WORDS_MAX]);
unsigned	 frame_way(const char *word);

/* Appends m as a frame, made smaller by one of the ways (0: not) if that helps.
 * -EMSGSIZE if it would be too large. */
int		 frame_put(struct bytes *out, const Sibfs__Wire__Frame *m, unsigned ways);

/*
 * Takes the next whole frame from in.  1: *out is it (free with
 * sibfs__wire__frame__free_unpacked(m, NULL)); 0: more bytes are needed;
 * -EBADMSG: the stream is damaged; -EMSGSIZE: too large.
 */
int		 frame_get(struct bytes *in, Sibfs__Wire__Frame **out);

#endif
