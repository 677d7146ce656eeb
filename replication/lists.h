/*
 * Lists of chunks kept beside the store, a file for each large content, named
 * by its hash: .sibfs/chunks/HASH.  They save time and nothing else: one that is
 * missing or damaged is made anew from the content.
 *
 * Any thread.
 */
#ifndef SIBFS_LISTS_H
#define SIBFS_LISTS_H

#include "replication/chunk.h"

#define LISTS_NAME_MAX 65

/* Contents up to this size are cut again when their list is needed. */
#define LISTS_WORTH (4u << 20)

/* 0, -ENOENT, or -EIO: damaged, and removed. */
int		 lists_load(int dirfd, const struct hash *h, struct chunk_list *out);

/* Best effort; not synced. */
void		 lists_save(int dirfd, const struct chunk_list *l);

/* The list of the content `h` that fd holds: the one that is kept, else made
 * from fd and kept.  -EBADMSG: fd holds something else. */
int		 lists_of(int dirfd, const struct hash *h, int fd, struct chunk_list *out);

/* The file name of a content: 64 hexadecimal digits; and back, or -EINVAL. */
void		 lists_name(const struct hash *h, char *out);
int		 lists_hash(const char *name, struct hash *out);

#endif
