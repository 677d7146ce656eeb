/*
 * Outlines: the list of chunks of a large content in two levels, so that it
 * travels as a difference.  Chunks are put together in groups whose bounds
 * depend on their hashes alone; a group's hash is SHA-256 over size (4 bytes,
 * little-endian) and hash of each of its chunks.  Whoever has a similar content
 * finds most groups in its own list, and asks for the chunks of the others.
 *
 * Pure: no I/O, no locks.
 */
#ifndef SIBFS_OUTLINE_H
#define SIBFS_OUTLINE_H

#include <stddef.h>
#include <stdint.h>

#include "replication/chunk.h"

#define GROUP_MAX 256		/* chunks */
#define GROUP_BITS 6		/* a group has 64 chunks on average */

/* Contents of more chunks are not outlined: the list would take too much memory. */
#define OUTLINE_CHUNKS_MAX (1u << 20)

struct group {
	struct hash hash;
	uint32_t first;		/* its first chunk in the list */
	uint32_t len;
};

struct outline {
	struct group *g;
	size_t len;
};

/* The groups of a list, for the caller to free. */
void		 outline_of(const struct chunk_list *l, struct outline *out);
void		 outline_fini(struct outline *o);

/*
 * What a peer says of a content of `size` bytes: n groups by their hashes (32
 * bytes each) and numbers of chunks.  -EBADMSG: there cannot be such a content.
 */
int		 outline_take(const uint8_t *hashes, const uint32_t *chunks, size_t n, uint64_t size,
		    struct outline *out);

/* And of one group: hash and size of each chunk.  -EBADMSG: it is not that group. */
int		 outline_take_group(const struct group *g, const uint8_t *hashes, const uint32_t *sizes, size_t n,
		    struct chunk *out);

void		 outline_group_hash(const struct chunk *c, size_t len, struct hash *out);

#endif
