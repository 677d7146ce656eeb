/*
 * Groups of chunks.
 */
#include "config.h"

#include "replication/outline.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>

#include "replication/mem.h"

void
outline_group_hash(const struct chunk *c, size_t len, struct hash *out)
{
	uint8_t text[GROUP_MAX * (4 + sizeof(c->hash.b))], *p = text;

	for (size_t i = 0; i < len && i < GROUP_MAX; i++) {
		*p++ = (uint8_t)c[i].size;
		*p++ = (uint8_t)(c[i].size >> 8);
		*p++ = (uint8_t)(c[i].size >> 16);
		*p++ = (uint8_t)(c[i].size >> 24);
		for (size_t k = 0; k < sizeof(c->hash.b); k++)
			*p++ = c[i].hash.b[k];
	}
	SHA256(text, (size_t)(p - text), out->b);
}

/* Does a group end with this chunk? */
static bool
ends_group(const struct chunk *c)
{
	return (c->hash.b[31] & ((1u << GROUP_BITS) - 1)) == 0;
}

void
outline_of(const struct chunk_list *l, struct outline *out)
{
	uint32_t first = 0;

	*out = (struct outline){ 0 };
	for (uint32_t i = 0; i < l->len; i++) {
		struct group *g;

		if (!ends_group(&l->c[i]) && i + 1 - first < GROUP_MAX && i + 1 < l->len)
			continue;
		if ((out->len & (out->len - 1)) == 0)
			out->g = mem_resize(out->g, out->len ? 2 * out->len : 1, sizeof(*out->g));
		g = &out->g[out->len++];
		*g = (struct group){ .first = first, .len = i + 1 - first };
		outline_group_hash(&l->c[first], g->len, &g->hash);
		first = i + 1;
	}
}

int
outline_take(const uint8_t *hashes, const uint32_t *chunks, size_t n, uint64_t size, struct outline *out)
{
	uint64_t total = 0;

	for (size_t i = 0; i < n; i++) {
		total += chunks[i];
		if (!chunks[i] || chunks[i] > GROUP_MAX || total > OUTLINE_CHUNKS_MAX)
			return -EBADMSG;
	}
	if (total == 0 || total > size / CHUNK_MIN + 1 || size > total * CHUNK_MAX)
		return -EBADMSG;
	*out = (struct outline){ mem_resize(NULL, n, sizeof(*out->g)), 0 };
	total = 0;
	for (size_t i = 0; i < n; i++) {
		struct group *g = &out->g[out->len++];

		*g = (struct group){ .first = (uint32_t)total, .len = chunks[i] };
		memcpy(&g->hash, hashes + i * sizeof(g->hash), sizeof(g->hash));
		total += chunks[i];
	}
	return 0;
}

int
outline_take_group(const struct group *g, const uint8_t *hashes, const uint32_t *sizes, size_t n, struct chunk *out)
{
	struct hash got;

	if (n != g->len)
		return -EBADMSG;
	for (size_t i = 0; i < n; i++) {
		if (!sizes[i] || sizes[i] > CHUNK_MAX)
			return -EBADMSG;
		out[i] = (struct chunk){ .size = sizes[i] };
		memcpy(&out[i].hash, hashes + i * sizeof(out[i].hash), sizeof(out[i].hash));
	}
	outline_group_hash(out, n, &got);
	return hash_compare(&got, &g->hash) == 0 ? 0 : -EBADMSG;
}

void
outline_fini(struct outline *o)
{
	free(o->g);
	*o = (struct outline){ 0 };
}
