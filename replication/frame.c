/*
 * Frames on a byte stream.
 */
#include "config.h"

#include "replication/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#include "replication/mem.h"

#define WAYS (FRAME_ZLIB | FRAME_ZSTD)
#define PROBE 4096
#define WORTH_TRYING 512
#define KEEP (256u << 10)
#define PLAIN_SIZE 4		/* of the plain length, before what was made smaller */

/* ---- bytes ---- */

uint8_t *
bytes_room(struct bytes *b, size_t n)
{
	if (b->start && b->start + b->len + n > b->cap) {
		memmove(b->p, b->p + b->start, b->len);
		b->start = 0;
	}
	if (b->start + b->len + n > b->cap) {
		b->cap = 2 * (b->start + b->len + n);
		b->p = mem_resize(b->p, b->cap, 1);
	}
	return b->p + b->start + b->len;
}

void
bytes_add(struct bytes *b, const void *p, size_t n)
{
	if (n == 0)
		return;
	memcpy(bytes_room(b, n), p, n);
	b->len += n;
}

void
bytes_drop(struct bytes *b, size_t n)
{
	b->start += n;
	b->len -= n;
	if (!b->len)
		b->start = 0;
}

static void
free_packers(struct bytes *b)
{
#ifdef HAVE_ZSTD
	ZSTD_freeCCtx(b->packer);
	ZSTD_freeDCtx(b->unpacker);
#endif
	b->packer = b->unpacker = NULL;
}

/* The frames are counted on. */
void
bytes_trim(struct bytes *b)
{
	if (b->len)
		return;
	free_packers(b);
	if (b->cap <= KEEP)
		return;
	free(b->p);
	b->p = NULL;
	b->cap = 0;
}

void
bytes_fini(struct bytes *b)
{
	free_packers(b);
	free(b->p);
	*b = (struct bytes){ 0 };
}

/* ---- numbers ---- */

static void
put32(uint8_t *p, uint32_t n)
{
	p[0] = (uint8_t)(n >> 24);
	p[1] = (uint8_t)(n >> 16);
	p[2] = (uint8_t)(n >> 8);
	p[3] = (uint8_t)n;
}

static uint32_t
get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The number of the frame is in it: a lost frame is noticed as a damaged one is. */
static uint32_t
checksum(uint32_t number, uint8_t flags, const uint8_t *p, size_t len)
{
	uint8_t head[5];

	put32(head, number);
	head[4] = flags;
	return (uint32_t)crc32(crc32(0, head, sizeof(head)), p, (uInt)len);
}

/* ---- making smaller ---- */

size_t
frame_words(const char *out[FRAME_WORDS_MAX])
{
	size_t n = 0;

	out[n++] = "zlib";
#ifdef HAVE_ZSTD
	out[n++] = "zstd";
#endif
	return n;
}

unsigned
frame_way(const char *word)
{
	return strcmp(word, "zlib") == 0 ? FRAME_ZLIB : strcmp(word, "zstd") == 0 ? FRAME_ZSTD : 0;
}

/* How many bytes p[0..len) became in out[0..max), 0: more than that. */
#ifdef HAVE_ZSTD
static size_t
pack_zstd(struct bytes *b, const uint8_t *p, size_t len, uint8_t *out, size_t max)
{
	size_t n;

	if (!b->packer && !(b->packer = ZSTD_createCCtx()))
		return 0;
	n = ZSTD_compressCCtx(b->packer, out, max, p, len, 1);
	return ZSTD_isError(n) ? 0 : n;
}
#endif

/* Not what does not shrink by a tenth at its start: zlib is slow. */
static size_t
pack_zlib(const uint8_t *p, size_t len, uint8_t *out, size_t max)
{
	uint8_t start[PROBE + 64];
	uLongf n = sizeof(start);
	size_t probe = len < PROBE ? len : PROBE;

	if (compress2(start, &n, p, probe, 1) != Z_OK || n >= probe - probe / 10)
		return 0;
	n = max;
	return compress2(out, &n, p, len, 1) == Z_OK ? n : 0;
}

/* Makes p[0..*len) smaller where it stands; returns the flags. */
static uint8_t
pack(struct bytes *b, unsigned ways, uint8_t *p, size_t *len)
{
	size_t n = 0, max = *len - PLAIN_SIZE - 1;
	uint8_t *small, flags = 0;

	if (!(ways & WAYS) || *len < WORTH_TRYING)
		return 0;
	small = mem_resize(NULL, max, 1);
#ifdef HAVE_ZSTD
	if (ways & FRAME_ZSTD && (n = pack_zstd(b, p, *len, small, max)) > 0)
		flags = FRAME_ZSTD;
#else
	(void)b;
#endif
	if (!(ways & FRAME_ZSTD) && (n = pack_zlib(p, *len, small, max)) > 0)
		flags = FRAME_ZLIB;
	if (flags) {
		put32(p, (uint32_t)*len);
		memcpy(p + PLAIN_SIZE, small, n);
		*len = n + PLAIN_SIZE;
	}
	free(small);
	return flags;
}

int
frame_put(struct bytes *out, const Sibfs__Wire__Frame *m, unsigned ways)
{
	size_t len = sibfs__wire__frame__get_packed_size(m);
	uint8_t *header, *p;

	if (len > FRAME_MAX)
		return -EMSGSIZE;
	header = bytes_room(out, FRAME_HEADER + len);
	p = header + FRAME_HEADER;
	sibfs__wire__frame__pack(m, p);
	header[4] = pack(out, ways, p, &len);
	put32(header, (uint32_t)len);
	put32(header + 5, checksum(out->frames++, header[4], p, len));
	out->len += FRAME_HEADER + len;
	return 0;
}

/* ---- taking out ---- */

static int
unpack_zlib(const uint8_t *p, size_t len, uint8_t *out, size_t size)
{
	uLong used = len;
	uLongf n = size;

	return uncompress2(out, &n, p, &used) == Z_OK && n == size && used == len ? 0 : -EBADMSG;
}

static int
unpack_zstd(struct bytes *b, const uint8_t *p, size_t len, uint8_t *out, size_t size)
{
#ifdef HAVE_ZSTD
	if (!b->unpacker && !(b->unpacker = ZSTD_createDCtx()))
		return -ENOMEM;
	return ZSTD_findFrameCompressedSize(p, len) == len &&
	    ZSTD_decompressDCtx(b->unpacker, out, size, p, len) == size ? 0 : -EBADMSG;
#else
	(void)b;
	(void)p;
	(void)len;
	(void)out;
	(void)size;
	return -EBADMSG;		/* we never said that we can */
#endif
}

static int
unpack(struct bytes *b, uint8_t flags, const uint8_t *p, size_t len, uint8_t **out, size_t *size)
{
	int rc;

	if (len < PLAIN_SIZE)
		return -EBADMSG;
	*size = get32(p);
	if (*size > FRAME_MAX)
		return -EMSGSIZE;
	*out = malloc(*size + 1);
	if (!*out)
		return -ENOMEM;
	p += PLAIN_SIZE;
	len -= PLAIN_SIZE;
	rc = flags == FRAME_ZLIB ? unpack_zlib(p, len, *out, *size) : unpack_zstd(b, p, len, *out, *size);
	if (rc < 0)
		free(*out);
	return rc;
}

int
frame_get(struct bytes *in, Sibfs__Wire__Frame **out)
{
	const uint8_t *p = in->p + in->start;
	uint8_t *plain = NULL;
	size_t len, plain_len = 0;
	int rc = 1;

	if (in->len < 4)
		return 0;
	len = get32(p);
	if (len > FRAME_MAX)
		return -EMSGSIZE;
	if (in->len < FRAME_HEADER)
		return 0;
	if (in->len < FRAME_HEADER + len)
		return 0;
	if (p[4] > FRAME_ZSTD || checksum(in->frames, p[4], p + FRAME_HEADER, len) != get32(p + 5))
		return -EBADMSG;
	in->frames++;
	if (p[4]) {
		rc = unpack(in, p[4], p + FRAME_HEADER, len, &plain, &plain_len);
		if (rc < 0)
			return rc;
		*out = sibfs__wire__frame__unpack(NULL, plain_len, plain);
		free(plain);
	} else {
		*out = sibfs__wire__frame__unpack(NULL, len, p + FRAME_HEADER);
	}
	bytes_drop(in, FRAME_HEADER + len);
	return *out ? 1 : -EBADMSG;
}
