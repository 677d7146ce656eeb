/*
 * Lists of chunks on disk: "sibfsck1", then for each chunk size (4 bytes,
 * little-endian), hash and fingerprint, then XXH3 (64 bits, canonical) over all
 * that.
 */
#include "config.h"

#include "replication/lists.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "replication/mem.h"

#define MAGIC "sibfsck1"
#define MAGIC_LEN 8
#define SUM_LEN sizeof(XXH64_canonical_t)
#define ROW (4 + sizeof(struct hash) + sizeof(struct fingerprint))
#define FILE_MAX (INT64_C(1) << 30)

void
lists_name(const struct hash *h, char *out)
{
	for (size_t i = 0; i < sizeof(h->b); i++)
		sprintf(out + 2 * i, "%02x", h->b[i]);
}

int
lists_hash(const char *name, struct hash *h)
{
	if (strlen(name) != 2 * sizeof(h->b) || strspn(name, "0123456789abcdef") != 2 * sizeof(h->b))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(h->b); i++)
		sscanf(name + 2 * i, "%2hhx", &h->b[i]);
	return 0;
}

static void
sum_of(const uint8_t *p, size_t len, uint8_t *out)
{
	XXH64_canonical_t c;

	XXH64_canonicalFromHash(&c, XXH3_64bits(p, len));
	memcpy(out, c.digest, SUM_LEN);
}

static int
decode(const uint8_t *p, size_t len, struct chunk_list *out)
{
	struct chunk_list l = { 0 };
	uint8_t sum[SUM_LEN];
	size_t n;

	if (len < MAGIC_LEN + SUM_LEN || (len - MAGIC_LEN - SUM_LEN) % ROW || memcmp(p, MAGIC, MAGIC_LEN) != 0)
		return -EIO;
	sum_of(p, len - SUM_LEN, sum);
	if (memcmp(sum, p + len - SUM_LEN, SUM_LEN) != 0)
		return -EIO;
	n = (len - MAGIC_LEN - SUM_LEN) / ROW;
	l.c = mem_resize(NULL, n + 1, sizeof(*l.c));
	p += MAGIC_LEN;
	for (; l.len < n; p += ROW) {
		struct chunk *c = &l.c[l.len++];

		c->offset = l.size;
		c->size = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
		memcpy(&c->hash, p + 4, sizeof(c->hash));
		memcpy(&c->print, p + 4 + sizeof(c->hash), sizeof(c->print));
		l.size += c->size;
		if (c->size == 0 || c->size > CHUNK_MAX) {
			chunk_list_fini(&l);
			return -EIO;
		}
	}
	*out = l;
	return 0;
}

static int
read_file(int fd, uint8_t **out, size_t *len)
{
	struct stat st;
	uint8_t *p;
	size_t n = 0;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
		return -EIO;
	p = mem_alloc((size_t)st.st_size + 1);
	while (n < (size_t)st.st_size) {
		ssize_t got = read(fd, p + n, (size_t)st.st_size - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	*out = p;
	*len = n;
	return 0;
}

int
lists_load(int dirfd, const struct hash *h, struct chunk_list *out)
{
	char name[LISTS_NAME_MAX];
	uint8_t *p = NULL;
	size_t len = 0;
	int fd, rc;

	lists_name(h, name);
	fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -ENOENT;
	rc = read_file(fd, &p, &len);
	close(fd);
	if (rc < 0)
		return rc;
	rc = decode(p, len, out);
	free(p);
	if (rc == 0) {
		chunk_list_hash(out, &out->hash);
		if (hash_compare(&out->hash, h) == 0)
			return 0;
		chunk_list_fini(out);
	}
	unlinkat(dirfd, name, 0);
	return -EIO;
}

void
lists_save(int dirfd, const struct chunk_list *l)
{
	size_t len = MAGIC_LEN + l->len * ROW + SUM_LEN;
	uint8_t *text = mem_alloc(len), *p = text;
	char name[LISTS_NAME_MAX], temp[LISTS_NAME_MAX + 4];
	ssize_t put = -1;
	int fd;

	memcpy(p, MAGIC, MAGIC_LEN);
	p += MAGIC_LEN;
	for (size_t i = 0; i < l->len; i++, p += ROW) {
		const struct chunk *c = &l->c[i];

		for (int k = 0; k < 4; k++)
			p[k] = (uint8_t)(c->size >> (8 * k));
		memcpy(p + 4, &c->hash, sizeof(c->hash));
		memcpy(p + 4 + sizeof(c->hash), &c->print, sizeof(c->print));
	}
	sum_of(text, len - SUM_LEN, p);
	lists_name(&l->hash, name);
	snprintf(temp, sizeof(temp), "%s.new", name);
	fd = openat(dirfd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd >= 0) {
		put = write(fd, text, len);
		close(fd);
	}
	if (put != (ssize_t)len || renameat(dirfd, temp, dirfd, name) < 0)
		unlinkat(dirfd, temp, 0);
	free(text);
}

int
lists_of(int dirfd, const struct hash *h, int fd, struct chunk_list *out)
{
	int rc = lists_load(dirfd, h, out);

	if (rc == 0)
		return 0;
	if ((rc = chunk_file(fd, true, out)) < 0)
		return rc;
	if (hash_compare(&out->hash, h) != 0) {
		chunk_list_fini(out);
		return -EBADMSG;
	}
	if (out->size > LISTS_WORTH)
		lists_save(dirfd, out);
	return 0;
}
