/*
 * Content-defined chunks and the hashes of contents.  Cut by FastCDC (Xia et
 * al., 2016) with normalised chunking: minimum 16 KiB, average 64 KiB, maximum
 * 256 KiB; a chunk's hash is SHA-256 over its bytes.  A file's hash is SHA-256
 * over a kind byte ('f' or 'l') and then, for each chunk, its length (4 bytes,
 * little-endian) and hash; for a symbolic link ('l') over the kind byte and its
 * target.  So equal hashes are equal kind and content.
 *
 * Beside its hash a chunk may have a fingerprint (XXH3, 128 bits): ten times
 * faster to take, never sent, and used only to see whether bytes that this
 * replica hashed before are still the same.  No peer and no file can choose what
 * it is compared with, so it need not resist an attacker.
 *
 * Reads descriptors, nothing else.  Any thread.
 */
#ifndef SIBFS_CHUNK_H
#define SIBFS_CHUNK_H

#include <stddef.h>
#include <stdint.h>

#include "replication/reg.h"

#define CHUNK_MIN (16u << 10)
#define CHUNK_AVERAGE (64u << 10)
#define CHUNK_MAX (256u << 10)

struct fingerprint {
	uint8_t b[16];
};

struct chunk {
	uint64_t offset;
	uint32_t size;
	struct hash hash;
	struct fingerprint print;
};

struct chunk_list {
	struct chunk *c;
	size_t len;
	uint64_t size;		/* of the whole */
	struct hash hash;	/* of the whole */
};

/* Where the first chunk of p[0..len) ends; `last`: no more bytes follow. */
size_t		 chunk_cut(const uint8_t *p, size_t len, bool last);

/* Reads all of fd from its start.  list->c is NULL if want_chunks is false.
 * 0 or -errno. */
int		 chunk_file(int fd, bool want_chunks, struct chunk_list *out);

/*
 * The same, where `old` is the list of what fd held before: only chunks whose
 * fingerprint has changed are cut and hashed again.  old may be NULL.
 */
int		 chunk_file_again(int fd, const struct chunk_list *old, struct chunk_list *out);

void		 chunk_list_fini(struct chunk_list *l);

/* The hash that a list of chunks makes. */
void		 chunk_list_hash(const struct chunk_list *l, struct hash *out);
void		 chunk_bytes_hash(const void *p, size_t len, struct hash *out);	/* of one chunk's bytes */
void		 chunk_bytes_print(const void *p, size_t len, struct fingerprint *out);
void		 chunk_content_hash(const void *p, size_t len, struct hash *out);	/* of a file held in memory */
void		 chunk_link_hash(const char *target, size_t len, struct hash *out);

#endif
