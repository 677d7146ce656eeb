/*
 * Blocks of a chunk.
 */
#include "config.h"

#include "replication/blocks.h"

#include <string.h>

#include <xxhash.h>

size_t
blocks_of(size_t len)
{
	return (len + BLOCK - 1) / BLOCK;
}

static size_t
block_size(size_t len, size_t at)
{
	return len - at < BLOCK ? len - at : BLOCK;
}

static void
print_one(const uint8_t *p, size_t len, uint8_t *out)
{
	XXH64_canonical_t c;

	XXH64_canonicalFromHash(&c, XXH3_64bits(p, len));
	memcpy(out, c.digest, BLOCK_PRINT);
}

void
blocks_print(const uint8_t *p, size_t len, uint8_t *out)
{
	for (size_t at = 0; at < len; at += BLOCK, out += BLOCK_PRINT)
		print_one(p + at, block_size(len, at), out);
}

size_t
blocks_differ(const uint8_t *p, size_t len, const uint8_t *prints, struct stretch *out)
{
	uint8_t print[BLOCK_PRINT];
	size_t n = 0;

	for (size_t at = 0; at < len; at += BLOCK, prints += BLOCK_PRINT) {
		size_t size = block_size(len, at);

		print_one(p + at, size, print);
		if (memcmp(print, prints, BLOCK_PRINT) == 0)
			continue;
		if (n && out[n - 1].to == at)
			out[n - 1].to += (uint32_t)size;
		else
			out[n++] = (struct stretch){ (uint32_t)at, (uint32_t)(at + size) };
	}
	return n;
}
