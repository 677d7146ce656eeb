/*
 * A name on disk, what shows under it, and the note that says which version it
 * holds: what replica_local.c provides for the other replica_*.c that look at
 * files (scan, ask, doctor, ignore, marks, rebuild).  local.h is something else:
 * what a user's operation does to the state.  The replica's thread.
 */
#ifndef SIBFS_LOCAL_IMPL_H
#define SIBFS_LOCAL_IMPL_H

#include "replication/display.h"
#include "replication/replica_impl.h"

struct seen {
	struct obstack o;
	struct folder f;
	struct name_group g;
	struct shown *e;
};

/* What shows under dd/name; closed by the caller. */
void		 local_seen_open(struct replica *r, struct disk_dir *dd, const char *name, struct seen *q);
void		 local_seen_close(struct seen *q);
/* The note of the file of that name, and the register that has it. */
struct reg_file *local_seen_file(const struct seen *q, const char *name, struct reg **owner);
void		 local_forget_file(struct replica *r, const struct seen *q, const char *name);
/* dirfd/name holds that content from now on. */
void		 local_note_file(struct replica *r, struct reg *reg, const char *name, const struct hash *h,
		    const struct stat *st);
/* 0, or -errno; -EINVAL: not a thing that is replicated. */
int		 local_read_file(struct replica *r, int dirfd, const char *name, struct stat *st,
		    const struct attrs *prev, struct local_file *out);
struct file_stamp local_stamp_of(const struct stat *st);
bool		 local_stamp_same(const struct file_stamp *a, const struct stat *st);
void		 local_new_dir(struct replica *r, struct disk_dir *up, const char *name, ino_t ino, enum dir_told told);
void		 local_rename_dir(struct replica *r, const struct event *e, struct disk_dir *from,
		    struct disk_dir *to);

/* All files that are noted in dd are gone, as if users had removed them.  The
 * index is up to date. */
void		 local_forget_files(struct replica *r, struct disk_dir *dd);

#endif
