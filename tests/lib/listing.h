/*
 * What a replica shows: every name, with what it stands for.  Contents are short
 * strings that stand in the hash itself.
 */
#ifndef SIBFS_TEST_LISTING_H
#define SIBFS_TEST_LISTING_H

#include "replication/display.h"
#include "replication/state.h"

/* A directory (dirs.len) or a file. */
struct entry {
	char *path;
	struct folder dirs;
	struct hash hash;
	uint32_t mode;
	struct ref *refs;	/* the versions that it stands for */
	size_t refs_len;
};

/* Sorted by path; valid until the state lets a register go. */
struct listing {
	struct obstack o;
	struct entry *e;
	size_t len;
};

void		 listing_make(struct listing *l, struct state *s);
void		 listing_fini(struct listing *l);
const struct entry *listing_find(const struct listing *l, const char *path);

/* As lines "path\tcontent\tmode\n", "-" for a directory; to free. */
char		*listing_text(const struct listing *l);

#endif
