/*
 * Replicas in one process, as plain states: user operations by path, and pulls
 * that copy what one lacks of another.  Contents are short strings that stand
 * in the hash itself, so that a test can read them back.
 */
#ifndef SIBFS_TEST_SIM_H
#define SIBFS_TEST_SIM_H

#include "replication/display.h"
#include "replication/forget.h"
#include "replication/local.h"
#include "replication/state.h"
#include "replication/take.h"

struct sim {
	struct state *s[50];
	const char *name[50];
	size_t len;
};

void		 sim_init(struct sim *sim, const char *const *names, size_t n);
void		 sim_fini(struct sim *sim);

/* User operations; the errors that the store under a mount would give. */
int		 sim_write(struct state *s, const char *path, const char *content);
int		 sim_unlink(struct state *s, const char *path);
int		 sim_mkdir(struct state *s, const char *path, uint32_t mode, enum dir_told told);
int		 sim_rmdir(struct state *s, const char *path);
int		 sim_rename(struct state *s, const char *from, const char *to);
int		 sim_swap(struct state *s, const char *a, const char *b);
int		 sim_chmod(struct state *s, const char *path, uint32_t mode);

/* One full round; `limit` rows only, then the link breaks (SIZE_MAX: never). */
void		 sim_pull(struct state *me, struct state *peer, size_t limit);

/* Each of each other, twice: what one has then all have. */
void		 sim_pull_all(struct sim *sim);

/* Forgets what all members have; heard: what me has heard of the knowledge of each
 * of the n, its own among them.  The number of tombstones that went. */
size_t		 sim_collect(struct state *me, const struct vv *const *heard, size_t n);

/* How many tombstones it holds. */
size_t		 sim_tombstones(struct state *s);

/* The tree as lines "path\tcontent\tmode\n" sorted by path, "-" for a
 * directory; to free. */
char		*sim_tree(struct state *s);

#endif
