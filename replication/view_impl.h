/*
 * The insides of the view, shared by view.c, view_dirs.c and view_files.c.
 */
#ifndef SIBFS_VIEW_IMPL_H
#define SIBFS_VIEW_IMPL_H

#include "replication/display.h"
#include "replication/replica_impl.h"

/* A file that left its place: it stands in moving/ under `temp`. */
struct lifted {
	struct reg *reg;
	struct hash hash;
	struct file_stamp stamp;
	char *name;
	char temp[32];
	bool placed;
};

/* What is to be seen as one directory, and where. */
struct plan {
	struct disk_dir *dd, *up;
	const char *name;
	struct folder f;
};

struct view {
	struct replica *r;
	struct obstack o;
	struct lifted **lifted;		/* each stays where it is: slots point to them */
	size_t lifted_len;
	struct dir_list dirs;		/* to be looked at, those above first */
	struct plan *plans;
	size_t plans_len;
	struct disk_dir **left;		/* that some directory showed in until now */
	size_t left_len;
};

/* ---- view.c ---- */

void		 view_note(struct replica *r, ino_t dir, const char *name);
void		 view_tell_moved(struct replica *r, ino_t ino, ino_t dir, const char *name, ino_t dir2, const char *name2);
void		 view_not_again(struct replica *r, struct dir *d, struct reg *reg);
bool		 view_is_writing(const struct replica *r, ino_t ino);
/* Do versions under the name of that register still have that content?  They may
 * show as others', or not yet. */
bool		 view_is_live(struct view *v, struct reg *about, const struct hash *h);
bool		 view_same_stamp(const struct file_stamp *f, const struct stat *st);

/* ---- view_dirs.c ---- */

void		 view_lift_file(struct view *v, struct disk_dir *dd, struct reg *reg, const char *name);
/* What any register still has there is lifted: it shows elsewhere. */
void		 view_clear_name(struct view *v, struct disk_dir *dd, const char *name);
/* Is the file dd/name noted by any register that shows in dd? */
bool		 view_is_noted(struct view *v, struct disk_dir *dd, const char *name);
void		 view_update_dirs(struct view *v);

/* ---- view_files.c ---- */

bool		 view_lifted_is_as_noted(struct view *v, const struct lifted *l);
void		 view_update_files(struct view *v);
bool		 view_name_is_as_shown(struct replica *r, struct reg *reg, struct obstack *o);

#endif
