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
add_chunk(struct chunk_list *l, EVP_MD_CTX *whole, bool want, const uint8_t *p, size_t size)
{
	struct chunk c = { .offset = l->size, .size = (uint32_t)size };

	chunk_bytes_hash(p, size, &c.hash);
	whole_add(whole, &c);
	l->size += size;
	if (!want)
		return;
	l->c = mem_resize(l->c, l->len + 1, sizeof(*l->c));
	l->c[l->len++] = c;
}

int
chunk_file(int fd, bool want, struct chunk_list *out)
{
	struct chunk_list l = { 0 };
	EVP_MD_CTX *whole = whole_new();
	uint8_t *buf = malloc(BUFFER);
	size_t have = 0, used, n;
	uint64_t offset = 0;
	bool last = false;
	int rc = 0;

	if (!whole || !buf)
		rc = -ENOMEM;
	while (rc == 0 && !last) {
		ssize_t got = pread(fd, buf + have, BUFFER - have, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			rc = -errno;
			break;
		}
		offset += (uint64_t)got;
		have += (size_t)got;
		last = got == 0;
		for (used = 0; used < have && (n = chunk_cut(buf + used, have - used, last)); used += n)
			add_chunk(&l, whole, want, buf + used, n);
		have -= used;
		memmove(buf, buf + used, have);
	}
	if (rc == 0 && EVP_DigestFinal_ex(whole, l.hash.b, NULL) != 1)
		rc = -EIO;
	EVP_MD_CTX_free(whole);
	free(buf);
	if (rc < 0)
		free(l.c);
	else
		*out = l;
	return rc;
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
