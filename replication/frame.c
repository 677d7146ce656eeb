/*
 * Frames on a byte stream.
 */
#include "config.h"

#include "replication/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "replication/mem.h"

#define FLAG_DEFLATED 1
#define PROBE 4096
#define WORTH_TRYING 512
#define KEEP (256u << 10)

void
bytes_add(struct bytes *b, const void *p, size_t n)
{
	if (n == 0)
		return;
	if (b->start && b->start + b->len + n > b->cap) {
		memmove(b->p, b->p + b->start, b->len);
		b->start = 0;
	}
	if (b->start + b->len + n > b->cap) {
		b->cap = 2 * (b->start + b->len + n);
		b->p = mem_resize(b->p, b->cap, 1);
	}
	memcpy(b->p + b->start + b->len, p, n);
	b->len += n;
}

void
bytes_drop(struct bytes *b, size_t n)
{
	b->start += n;
	b->len -= n;
	if (b->len)
		return;
	b->start = 0;
	/* An idle link holds little memory; its frames are counted on. */
	if (b->cap > KEEP) {
		free(b->p);
		b->p = NULL;
		b->cap = 0;
	}
}

void
bytes_fini(struct bytes *b)
{
	free(b->p);
	*b = (struct bytes){ 0 };
}

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

/* Does its start shrink by a tenth? */
static bool
is_worth(const uint8_t *p, size_t len)
{
	uint8_t out[PROBE + 64];
	uLongf n = sizeof(out);
	size_t probe = len < PROBE ? len : PROBE;

	return len >= WORTH_TRYING && compress2(out, &n, p, probe, 1) == Z_OK && n < probe - probe / 10;
}

int
frame_put(struct bytes *out, const Sibfs__Wire__Frame *m, bool compress)
{
	size_t len = sibfs__wire__frame__get_packed_size(m);
	uint8_t header[FRAME_HEADER], *p, *packed = NULL;
	uLongf n;
	uint32_t crc;

	if (len > FRAME_MAX)
		return -EMSGSIZE;
	p = mem_alloc(len);
	sibfs__wire__frame__pack(m, p);
	header[4] = 0;
	if (compress && is_worth(p, len)) {
		n = compressBound(len);
		packed = mem_alloc(n + 4);
		put32(packed, (uint32_t)len);
		if (compress2(packed + 4, &n, p, len, 1) == Z_OK && n + 4 < len) {
			header[4] = FLAG_DEFLATED;
			free(p);
			p = packed;
			packed = NULL;
			len = n + 4;
		}
	}
	free(packed);
	crc = checksum(out->frames++, header[4], p, len);
	put32(header, (uint32_t)len);
	put32(header + 5, crc);
	bytes_add(out, header, sizeof(header));
	bytes_add(out, p, len);
	free(p);
	return 0;
}

static int
inflate_payload(const uint8_t *p, size_t len, uint8_t **out, size_t *out_len)
{
	uLong used;
	uLongf n;

	if (len < 4)
		return -EBADMSG;
	used = len - 4;
	n = get32(p);
	if (n > FRAME_MAX)
		return -EMSGSIZE;
	*out = malloc(n + 1);
	if (!*out)
		return -ENOMEM;
	*out_len = n;
	if (uncompress2(*out, &n, p + 4, &used) == Z_OK && n == *out_len && used == len - 4)
		return 0;
	free(*out);
	return -EBADMSG;
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
	if (p[4] & ~FLAG_DEFLATED || checksum(in->frames, p[4], p + FRAME_HEADER, len) != get32(p + 5))
		return -EBADMSG;
	in->frames++;
	if (p[4] & FLAG_DEFLATED) {
		rc = inflate_payload(p + FRAME_HEADER, len, &plain, &plain_len);
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
