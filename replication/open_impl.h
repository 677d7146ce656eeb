/*
 * What opening a store and making one share.
 */
#ifndef SIBFS_OPEN_IMPL_H
#define SIBFS_OPEN_IMPL_H

#include <stddef.h>
#include <stdint.h>

#define META ".sibfs"
#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

struct replica;
struct state;

/* Writes one line into why and returns rc. */
int		 open_say(char *why, size_t size, int rc, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

uint64_t	 open_random_id(void);	/* never 0 */
struct state	*open_new_state(struct replica *r, uint64_t self);
struct replica	*open_new_replica(void);
void		 open_close_fd(int *fd);

/* The first word of a small file, as those in /proc; empty if it cannot be read. */
void		 open_read_word(const char *path, char *out, size_t size);

/* The first rows of a new index: a new incarnation of that name; set NULL: a
 * random one. */
int		 open_write_identity(struct replica *r, const char *node, const char *set);

/* Opens r->path with all that stands in its .sibfs but the index, and locks it. */
int		 open_files(struct replica *r, char *why, size_t size);

#endif
