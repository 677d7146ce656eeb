/*
 * Content-defined chunks.
 */
#include "config.h"

#include "replication/chunk.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <xxhash.h>

#include "replication/mem.h"

#define BUFFER (1u << 20)
/* Normalised chunking: two bits harder below the average, two easier above. */
#define MASK_HARD UINT64_C(0xffffc00000000000)
#define MASK_EASY UINT64_C(0xfffc000000000000)

static uint64_t gear[256];
static pthread_once_t gear_once = PTHREAD_ONCE_INIT;

/* Fixed for ever: other numbers cut elsewhere.  splitmix64. */
static void
fill_gear(void)
{
	uint64_t x = UINT64_C(0x5369626673);

	for (int i = 0; i < 256; i++) {
		uint64_t z = x += UINT64_C(0x9e3779b97f4a7c15);

		z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
		gear[i] = z ^ (z >> 31);
	}
}

size_t
chunk_cut(const uint8_t *p, size_t len, bool last)
{
	size_t i = CHUNK_MIN, normal = CHUNK_AVERAGE < len ? CHUNK_AVERAGE : len, end = CHUNK_MAX < len ? CHUNK_MAX : len;
	uint64_t h = 0;

	pthread_once(&gear_once, fill_gear);
	if (len <= CHUNK_MIN)
		return last ? len : 0;
	for (; i < normal; i++) {
		h = (h << 1) + gear[p[i]];
		if (!(h & MASK_HARD))
			return i + 1;
	}
	for (; i < end; i++) {
		h = (h << 1) + gear[p[i]];
		if (!(h & MASK_EASY))
			return i + 1;
	}
	return end == CHUNK_MAX || last ? end : 0;
}

void
chunk_bytes_hash(const void *p, size_t len, struct hash *out)
{
	SHA256(p, len, out->b);
}

void
chunk_bytes_print(const void *p, size_t len, struct fingerprint *out)
{
	XXH128_canonical_t c;

	XXH128_canonicalFromHash(&c, XXH3_128bits(p, len));
	memcpy(out->b, c.digest, sizeof(out->b));
}

/* The hash of the whole, a chunk at a time. */
static void
whole_add(EVP_MD_CTX *whole, const struct chunk *c)
{
	uint8_t size[4] = { (uint8_t)c->size, (uint8_t)(c->size >> 8), (uint8_t)(c->size >> 16),
		(uint8_t)(c->size >> 24) };

	EVP_DigestUpdate(whole, size, sizeof(size));
	EVP_DigestUpdate(whole, c->hash.b, sizeof(c->hash.b));
}

static EVP_MD_CTX *
whole_new(void)
{
	EVP_MD_CTX *whole = EVP_MD_CTX_new();

	if (whole && EVP_DigestInit_ex(whole, EVP_sha256(), NULL) == 1 && EVP_DigestUpdate(whole, "f", 1) == 1)
		return whole;
	EVP_MD_CTX_free(whole);
	return NULL;
}

static void
keep_chunk(struct chunk_list *l, const struct chunk *c)
{
	if ((l->len & (l->len - 1)) == 0)
		l->c = mem_resize(l->c, l->len ? 2 * l->len : 1, sizeof(*l->c));
	l->c[l->len++] = *c;
}

static void
add_chunk(struct chunk_list *l, EVP_MD_CTX *whole, bool want, const uint8_t *p, size_t size)
{
	struct chunk c = { .offset = l->size, .size = (uint32_t)size };

	chunk_bytes_hash(p, size, &c.hash);
	whole_add(whole, &c);
	l->size += size;
	if (!want)
		return;
	chunk_bytes_print(p, size, &c.print);
	keep_chunk(l, &c);
}

/* A file that is read from its start, some way ahead of what was cut. */
struct reader {
	int fd;
	uint8_t *buf;
	size_t have, used;	/* the bytes ahead are buf[used..have) */
	uint64_t offset;	/* of what is read next */
	bool last;		/* the file has no more */
};

static int
fill(struct reader *q)
{
	memmove(q->buf, q->buf + q->used, q->have - q->used);
	q->have -= q->used;
	q->used = 0;
	while (!q->last && q->have < BUFFER) {
		ssize_t got = pread(q->fd, q->buf + q->have, BUFFER - q->have, (off_t)q->offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		q->offset += (uint64_t)got;
		q->have += (size_t)got;
		q->last = got == 0;
	}
	return 0;
}

/*
 * Where a chunk ends is decided by its own bytes alone, unless the file ended
 * there.  So what begins where an old chunk began and has its bytes is that
 * chunk.
 */
static bool
is_as_before(const struct reader *q, const struct chunk_list *old, size_t i, uint64_t at)
{
	const struct chunk *c = i < old->len ? &old->c[i] : NULL;
	struct fingerprint now;

	if (!c || c->offset != at || c->size > q->have - q->used)
		return false;
	if (i + 1 == old->len && !(q->last && q->have - q->used == c->size))
		return false;
	chunk_bytes_print(q->buf + q->used, c->size, &now);
	return memcmp(&now, &c->print, sizeof(now)) == 0;
}

/* Cuts and hashes all of it. */
static int
cut_file(struct reader *q, const struct chunk_list *old, bool want, EVP_MD_CTX *whole, struct chunk_list *l)
{
	size_t i = 0, n;
	int rc;

	for (;;) {
		if (q->have - q->used < CHUNK_MAX && (rc = fill(q)) < 0)
			return rc;
		if (q->used == q->have)
			return 0;
		while (i < old->len && old->c[i].offset < l->size)
			i++;
		if (is_as_before(q, old, i, l->size)) {
			n = old->c[i].size;
			whole_add(whole, &old->c[i]);
			keep_chunk(l, &old->c[i]);
			l->size += n;
		} else {
			n = chunk_cut(q->buf + q->used, q->have - q->used, q->last);
			add_chunk(l, whole, want, q->buf + q->used, n);
		}
		q->used += n;
	}
}

static int
hash_file(int fd, const struct chunk_list *old, bool want, struct chunk_list *out)
{
	struct reader q = { .fd = fd, .buf = malloc(BUFFER) };
	EVP_MD_CTX *whole = whole_new();
	struct chunk_list l = { 0 };
	int rc = whole && q.buf ? cut_file(&q, old, want, whole, &l) : -ENOMEM;

	if (rc == 0 && EVP_DigestFinal_ex(whole, l.hash.b, NULL) != 1)
		rc = -EIO;
	EVP_MD_CTX_free(whole);
	free(q.buf);
	if (rc < 0)
		free(l.c);
	else
		*out = l;
	return rc;
}

int
chunk_file(int fd, bool want, struct chunk_list *out)
{
	static const struct chunk_list none;

	return hash_file(fd, &none, want, out);
}

int
chunk_file_again(int fd, const struct chunk_list *old, struct chunk_list *out)
{
	static const struct chunk_list none;

	return hash_file(fd, old ? old : &none, true, out);
}

void
chunk_list_fini(struct chunk_list *l)
{
	free(l->c);
	*l = (struct chunk_list){ 0 };
}

void
chunk_list_hash(const struct chunk_list *l, struct hash *out)
{
	EVP_MD_CTX *whole = whole_new();

	for (size_t i = 0; whole && i < l->len; i++)
		whole_add(whole, &l->c[i]);
	if (whole)
		EVP_DigestFinal_ex(whole, out->b, NULL);
	EVP_MD_CTX_free(whole);
}

void
chunk_content_hash(const void *p, size_t len, struct hash *out)
{
	struct chunk_list l = { 0 };
	EVP_MD_CTX *whole = whole_new();

	if (!whole)
		abort();
	for (size_t used = 0; used < len;) {
		size_t n = chunk_cut((const uint8_t *)p + used, len - used, true);

		add_chunk(&l, whole, false, (const uint8_t *)p + used, n);
		used += n;
	}
	EVP_DigestFinal_ex(whole, out->b, NULL);
	EVP_MD_CTX_free(whole);
}

void
chunk_link_hash(const char *target, size_t len, struct hash *out)
{
	uint8_t *text = mem_alloc(len + 1);

	text[0] = 'l';
	memcpy(text + 1, target, len);
	SHA256(text, len + 1, out->b);
	free(text);
}
