/*
 * The insides of the recovery after a stop that was not clean, shared by
 * replica_recover.c and replica_recover_dirs.c.
 */
#ifndef SIBFS_REPLICA_RECOVER_IMPL_H
#define SIBFS_REPLICA_RECOVER_IMPL_H

#include "replication/local_impl.h"

/* What was lifted when the daemon died stands in moving/: back it goes. */
struct moving {
	uint64_t ino;
	char name[64];
};

/* A name that users touched since the last clean stop: "INODE NAME". */
struct journal_line {
	UT_hash_handle hh;
	const char *line;
};

struct recovery {
	struct replica *r;
	char *text;		/* the journal: lines, each with its NUL */
	size_t len;
	struct journal_line *lines;
	struct moving *moving;
	size_t moving_len;
	bool parted;		/* what was one directory on disk is to be several */
};

/* ---- replica_recover.c ---- */

bool		 recover_in_journal(const struct recovery *q, ino_t dir, const char *name);
struct moving	*recover_find_moving(const struct recovery *q, uint64_t ino);

/* A file of reg that was noted as f goes to staging/, from where the view puts it in
 * its place; what was written to it since is a version first. */
void		 recover_stage_noted(struct replica *r, struct reg *reg, int dirfd, const char *name,
		    const struct reg_file *f);

/* ---- replica_recover_dirs.c ---- */

/*
 * Of directories that are one on disk and are to be several, the one stays that
 * shows where the directory stands by now; what the others have in it is lifted, as
 * the view would have gone on.  Else their files were taken for new ones of the one
 * that is first.
 */
void		 recover_part_dirs(struct recovery *q);

/*
 * What is missing in a directory that waits in moving/ was brought to another, which
 * shows as one with it, and whose note of it is lost; no user removed it.
 */
void		 recover_unite_dirs(struct recovery *q);

/*
 * Directories that do not stand where they are noted were moved or removed, by users
 * with what they had in them, or by the view.  Before files are looked at.  True: all
 * that differed was users' doing.
 */
bool		 recover_settle_dirs(struct recovery *q);

#endif
