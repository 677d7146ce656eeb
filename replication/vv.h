/*
 * Version vectors and dots: which events a replica has seen.  A dot (id, n) is
 * the n-th event of the incarnation id; a vector maps ids to the highest such
 * n, an absent id counts as zero.  Entries stay sorted by id, so equal vectors
 * encode to equal bytes.  Pure: no I/O, no locks, no logging.
 *
 * Parker et al., "Detection of mutual inconsistency in distributed systems",
 * 1983; Preguica et al., "Dotted version vectors", 2010.
 */
#ifndef SIBFS_VV_H
#define SIBFS_VV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dot {
	uint64_t id;
	uint64_t n;
};

struct vv {
	struct dot *e;
	uint32_t len, cap;
};

enum vv_order {
	VV_EQUAL,
	VV_BEFORE,	/* b has seen all of a, and more */
	VV_AFTER,
	VV_CONCURRENT,	/* neither has seen the other: siblings */
};

int		 dot_compare(struct dot a, struct dot b);
static inline bool
dot_equal(struct dot a, struct dot b)
{
	return a.id == b.id && a.n == b.n;
}

uint64_t	 vv_get(const struct vv *v, uint64_t id);
bool		 vv_covers(const struct vv *v, struct dot d);

/* Does a cover all that b covers? */
bool		 vv_dominates(const struct vv *a, const struct vv *b);
enum vv_order	 vv_compare(const struct vv *a, const struct vv *b);

/* Raises v to cover d, or all of other. */
void		 vv_raise(struct vv *v, struct dot d);
void		 vv_join(struct vv *v, const struct vv *other);

/* A copy that the caller owns; the join of two, that the caller owns. */
struct vv	 vv_copy(const struct vv *v);
struct vv	 vv_joined(const struct vv *a, const struct vv *b);

/* Lowers v to what other covers too. */
void		 vv_meet(struct vv *v, const struct vv *other);
void		 vv_clear(struct vv *v);
void		 vv_fini(struct vv *v);

#endif
