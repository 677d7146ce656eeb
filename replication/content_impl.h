/*
 * What content.c and content_wants.c share: staging, by hash.
 */
#ifndef SIBFS_CONTENT_IMPL_H
#define SIBFS_CONTENT_IMPL_H

#include "replication/replica_impl.h"

/* Its name in staging, of 64 digits and a NUL. */
void		 content_hex(const struct hash *h, char *out);

/* NULL: it is not in staging. */
struct staged	*content_staged(struct replica *r, const struct hash *h);

/* It is in staging from now on. */
struct staged	*content_staged_add(struct replica *r, const struct hash *h);

/* Copies equal content from elsewhere in the store to staging. */
bool		 content_stage_from_here(struct replica *r, const struct hash *h);

int		 content_write_all(int fd, const uint8_t *p, size_t len, uint64_t offset);

#endif
