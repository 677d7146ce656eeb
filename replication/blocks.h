/*
 * Blocks: what is finer than a chunk.  Who lacks a chunk, but has bytes where it
 * is to be that may be nearly the same (the version before), asks for fingerprints
 * of its blocks, and fetches those that differ.  The chunk's hash is checked
 * afterwards, so a fingerprint need not resist an attacker.
 *
 * Pure: no I/O, no locks.
 */
#ifndef SIBFS_BLOCKS_H
#define SIBFS_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#define BLOCK 4096
#define BLOCK_PRINT 8		/* bytes of a fingerprint: XXH3, 64 bits, big-endian */

/* So many chunks at most in one question. */
#define BLOCKS_CHUNKS_MAX 16

/* How many blocks p[0..len) has: each of BLOCK bytes but for the last. */
size_t		 blocks_of(size_t len);

/* Their fingerprints, blocks_of(len) * BLOCK_PRINT bytes. */
void		 blocks_print(const uint8_t *p, size_t len, uint8_t *out);

struct stretch {
	uint32_t from, to;
};

/* Where p[0..len) has not those fingerprints: stretches in order, none touching
 * the next; at most blocks_of(len) of them.  Returns how many. */
size_t		 blocks_differ(const uint8_t *p, size_t len, const uint8_t *prints, struct stretch *out);

#endif
