/*
 * The part of the display that one user operation could affect: taken before
 * it, compared after it.  What shows elsewhere than before without having been
 * touched is pinned to where it showed; an implied directory that would vanish
 * with its last entry becomes real.
 *
 * Used by local.c alone.  Pure.
 */
#ifndef SIBFS_SCOPE_H
#define SIBFS_SCOPE_H

#include "replication/display.h"
#include "replication/state.h"

struct scope_group;
struct scope_folder;

struct scope {
	struct state *s;
	struct obstack o;
	struct scope_group *groups;
	size_t groups_len;
	struct scope_folder *folders;	/* implied ones */
	size_t folders_len;
	char *gone;			/* path of a removed directory */
	char *from, *to;		/* paths of a moved one */
	uint64_t number;		/* of this scope: what it looked at bears it */
};

/* What a name stands for: a directory, a file, or nothing. */
struct spot {
	struct folder folder;
	struct folder dirs;	/* len 0: no directory shows under the name */
	struct shown *file;
	struct name_group group;	/* that file belongs to, or that a new one would */
};

void		 scope_open(struct scope *sc, struct state *s);
void		 scope_close(struct scope *sc);

/* What the name shows; all that hangs on it is in the scope from now on. */
void		 scope_find(struct scope *sc, struct dir *at, const char *name, struct spot *out);

/* The operation moves this directory: what shows below it moves along. */
void		 scope_moved(struct scope *sc, struct dir *at, const char *name, struct dir *to, const char *to_name);

/* Pins what would vanish or change its name. */
void		 scope_pin(struct scope *sc);

/* Pins what an entry stands for to the slot and the attributes it shows. */
void		 scope_pin_to(struct state *s, const struct shown *e);

/* One event on a directory: with a mode it stands (with that one if it was
 * removed), with a place it moves. */
void		 scope_touch_dir(struct state *s, struct dir *d, bool has_mode, uint32_t mode, const struct place *to);

#endif
