/*
 * Display: from registers and directories to the names that users see.  A pure
 * function of the state, computed name by name, so that every replica that
 * knows the same shows the same.
 *
 * A folder is what users see as one directory: all directories that show at one
 * place, contents united, in a fixed order.  A group is what shows under one
 * name in a folder: a folder or a main file, and the siblings of that name.
 *
 * Results are allocated on an obstack of the caller's and stay valid until it
 * is freed, whatever happens to the state.  Pure.
 */
#ifndef SIBFS_DISPLAY_H
#define SIBFS_DISPLAY_H

#include <obstack.h>
#include <stdbool.h>
#include <stddef.h>

#include "replication/state.h"

struct folder {
	struct dir **ids;	/* the one that new entries come to stand in first */
	size_t len;
};

/* A live version, by register. */
struct ref {
	struct reg *reg;
	struct dot dot;
};

/* What a user sees as one file: versions of equal content, and those that they
 * were edited from. */
struct shown {
	char *name;		/* under which it shows */
	char *slot;		/* "" if that is the main name, else the label the name ends in */
	char *label;		/* that it takes when it does not get the main name */
	bool main;		/* competes for the main name */
	bool pinned;
	struct reg *leader_reg;
	struct dot leader;	/* the version whose content it shows */
	uint8_t kind;
	struct hash hash;
	uint64_t size;
	uint64_t hlc;		/* these two order files for display: those of the */
	struct dot rank;	/* newest version that competes for the main name, if any */
	struct attrs attrs;	/* joined over the group; on the heap: group_fini */
	struct ref *refs;	/* every live version it stands for, by register */
	size_t refs_len;
};

struct name_group {
	const char *name;	/* the main name */
	struct folder dirs;	/* the directory there, if dirs.len */
	struct shown *files;	/* in the order in which they took their names */
	size_t len;
};

/* The folder that d shows in; d itself stands in it even if it does not stand. */
void		 display_folder(struct state *s, struct dir *d, struct obstack *o, struct folder *out);

/* The folder of that name in another; len 0: there is none. */
void		 display_subfolder(struct state *s, const struct folder *up, const char *name, struct obstack *o,
		    struct folder *out);

/* The mode that a folder shows with. */
uint32_t	 display_folder_mode(const struct folder *f);

void		 display_group(struct state *s, const struct folder *f, const char *name, struct obstack *o,
		    struct name_group *out);
void		 group_fini(struct name_group *g);

/*
 * What shows under a name: finds the group it belongs to, and the file in it;
 * *file is NULL if a directory shows there or nothing does.
 */
void		 display_find(struct state *s, const struct folder *f, const char *name, struct obstack *o,
		    struct name_group *out, struct shown **file);

/* The main name that a sibling name may belong to: calls fn for each. */
void		 display_bases(struct state *s, const struct folder *f, const char *name,
		    void (*fn)(void *arg, const char *base), void *arg);

/* Is there more than one file, or a file beside a directory? */
static inline bool
group_in_conflict(const struct name_group *g)
{
	return g->len > 1 || (g->len == 1 && (g->dirs.len || g->files[0].slot[0]));
}

#endif
