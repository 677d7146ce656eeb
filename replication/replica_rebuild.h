/*
 * Making the index anew of a store that lost it: from the marks on its files
 * (user.sibfs), as far as they fit, and else as `init` takes files in.
 */
#ifndef SIBFS_REPLICA_REBUILD_H
#define SIBFS_REPLICA_REBUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk_dir;
struct local_file;
struct replica;
struct stat;

struct rebuilt {
	uint64_t files;		/* all that were looked at */
	uint64_t marked;	/* that are what their mark says */
};

/*
 * The store at path has no index, or one that is to be put aside (force).  node
 * NULL: as its config says.  The store goes on as a new incarnation; what marks
 * do not say (labels, clocks, what was removed) comes from peers.  0, or -errno
 * and one line in why.
 */
int		 replica_rebuild(const char *path, const char *node, bool force, struct rebuilt *out, char *why,
		    size_t size);

/* For the walk over the tree: true if dd/name (st, file) was entered as its mark
 * says. */
bool		 rebuild_file(struct replica *r, struct disk_dir *dd, int fd, const char *name, const struct stat *st,
		    struct local_file *file);

#endif
