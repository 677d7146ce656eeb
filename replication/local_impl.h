/*
 * From the disk to the state: what local_note.c, local_file.c, local_links.c,
 * local_dir.c and local_attr.c have for replica_local.c, which takes told events one by one, and
 * for the other replica_*.c that look at files (scan, ask, doctor, ignore, marks,
 * rebuild).  local.h is something else: what a user's operation does to the state.
 * The replica's thread.
 */
#ifndef SIBFS_LOCAL_IMPL_H
#define SIBFS_LOCAL_IMPL_H

#include "replication/display.h"
#include "replication/replica_impl.h"

struct seen {
	struct obstack o;
	const struct disk_dir *dd;
	struct folder f;
	struct name_group g;
	struct shown *e;
	bool elsewhere;
};

/*
 * What shows under dd/name; closed by the caller.  Directories that come to stand
 * as one with dd may be elsewhere on disk still: what they have was not on show
 * here.  Then e is what dd itself has of that name, and has another name by now, or
 * NULL, and elsewhere says that a new file must not come to theirs.
 */
void		 local_seen_open(struct replica *r, struct disk_dir *dd, const char *name, struct seen *q);
void		 local_seen_close(struct seen *q);
/* The note of the file of that name, and the register that has it. */
struct reg_file *local_seen_file(const struct seen *q, const char *name, struct reg **owner);
/* The name under which what is noted there shows: another one if a directory came to
 * stand there, and the file has not gone yet. */
const char	*local_seen_as(const struct seen *q, const char *name, const struct reg_file *known);
/* dd/name, which q was opened with, holds that: a version in place of what is known
 * there, or a new file. */
int		 local_write_seen(struct replica *r, struct disk_dir *dd, const char *name, const struct seen *q,
		    const struct reg_file *known, const struct local_file *f, struct reg **out);
/* Nothing shows under that name: the register that notes a file there even so, a
 * sibling's that is still to go, or NULL. */
struct reg	*local_noting(struct replica *r, const struct seen *q, const char *name);
/* Nothing shows under dd/name, as its content became equal to what shows under another
 * name, and the file is still to go: q is of that name from now on.  NULL: no. */
struct reg_file *local_seen_alias(struct replica *r, struct disk_dir *dd, const char *name, struct seen *q,
		    struct reg **owner);
/* No register notes q's file `name` any more, be it one that shows it there or one whose
 * sibling it was until now: a file that two of them note is removed for the one. */
void		 local_forget_file(struct replica *r, const struct seen *q, const char *name);
/* dirfd/name holds that content from now on. */
void		 local_note_file(struct replica *r, struct reg *reg, const char *name, const struct hash *h,
		    const struct stat *st);
/* 0, or -errno; -EINVAL: not a thing that is replicated; -ENOENT: not there, or
 * another kind took its place meanwhile. */
int		 local_read_file(struct replica *r, int dirfd, const char *name, struct stat *st,
		    const struct attrs *prev, struct local_file *out);
struct file_stamp local_stamp_of(const struct stat *st);
bool		 local_stamp_same(const struct file_stamp *a, const struct stat *st);

/* dd/name holds new content; ino 0: whatever stands there.  unsure: maybe not;
 * then contents are compared.  job: its hash, if that is known already. */
void		 local_write_at(struct replica *r, struct disk_dir *dd, const char *name, ino_t ino, bool unsure,
		    const struct hash_job *job);
void		 local_unlink_at(struct replica *r, struct disk_dir *dd, const char *name);
void		 local_rename_file(struct replica *r, const struct event *e, struct disk_dir *from,
		    struct disk_dir *to);

void		 local_new_dir(struct replica *r, struct disk_dir *up, const char *name, ino_t ino, enum dir_told told);
/* The same where the state is to know it by another name for now. */
void		 local_new_dir_as(struct replica *r, struct disk_dir *up, const char *name, const char *as, ino_t ino,
		    enum dir_told told);
void		 local_rename_dir(struct replica *r, const struct event *e, struct disk_dir *from,
		    struct disk_dir *to);
void		 local_remove_dir(struct replica *r, struct disk_dir *up, const char *name);

/* A directory stands where a file is noted: that went first. */
void		 local_file_made_way(struct replica *r, struct disk_dir *dd, const char *name);

/* All files that are noted in dd are gone, as if users had removed them.  The
 * index is up to date. */
void		 local_forget_files(struct replica *r, struct disk_dir *dd);

/* What differs from the state is set there; which: REPLICA_ATTR_*, those that were
 * set by hand.  e: what was told of that file, by whichever name; NULL: nothing. */
void		 local_dir_attrs(struct replica *r, struct disk_dir *dd, unsigned which);
void		 local_file_attrs(struct replica *r, struct disk_dir *dd, const char *name, const struct event *e);

/* Files that are noted to hold that, but are not as they were noted, are looked at:
 * all but those that are being written. */
void		 local_look_for(struct replica *r, const struct hash *h);

/* ---- local_links.c ---- */

/* Noted names of one inode but for one: the mount may not know them. */
struct links {
	struct replica *r;
	struct hash hash;
	ino_t ino;
	const struct reg *but;
	const char *but_name;
	struct link_name {
		uint64_t dir;		/* inode */
		char *name;
	} *l;
	size_t len;
};

/* Those of dd/name, if it is that inode and was noted. */
void		 local_links_find(struct replica *r, struct disk_dir *dd, const char *name, ino_t ino,
		    struct links *q);
/* Those that are noted with that content, but for one of reg. */
void		 local_links_noted(struct replica *r, const struct reg *reg, const char *name, const struct hash *h,
		    ino_t ino, struct links *q);
void		 local_links_free(struct links *q);

/* reg's file `name`, st, was noted with that content until now, and holds that of
 * f: so do its other names. */
void		 local_links_written(struct replica *r, const struct reg *reg, const char *name,
		    const struct hash *before, const struct local_file *f, const struct stat *st);

#endif
