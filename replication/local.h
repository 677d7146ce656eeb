/*
 * What user operations do to the state, by the names that users see.  Each
 * call is one step: events, and pins for what would otherwise change its name,
 * so that no operation renames, hides or removes a name it does not touch.
 *
 * A folder is named by any directory that shows in it.  All return 0 or -errno,
 * and change nothing on failure.  The caller has set state.now.  Pure.
 */
#ifndef SIBFS_LOCAL_H
#define SIBFS_LOCAL_H

#include "replication/display.h"
#include "replication/state.h"

/* A file as it stands on disk; stamps of the attributes do not count. */
struct local_file {
	uint8_t kind;
	struct hash hash;
	uint64_t size;
	struct attrs attrs;
};

/* A file that nobody knew of was found in the directory d, which may show
 * elsewhere by now, or under a name that a directory took. */
struct reg	*local_found(struct state *s, struct dir *d, const char *name, const struct local_file *f);

/* A new version in the slot of a sibling of that name: it replaces what is in that slot
 * only, whatever that shows as one with. */
struct reg	*local_write_beside(struct state *s, struct dir *at, const char *name, const char *slot,
		    const struct local_file *f);

/* A new version that replaces exactly what the name showed, in the same slot.
 * *out (may be NULL) is the register it went into. */
int		 local_write(struct state *s, struct dir *at, const char *name, const struct local_file *f,
		    struct reg **out);

/* Removes exactly what the name stood for. */
int		 local_unlink(struct state *s, struct dir *at, const char *name);

/* A write at the target and a removal at the source, in one step.  f, if not
 * NULL, is what stands there now (content changed since it was last told). */
int		 local_rename(struct state *s, struct dir *at, const char *name, struct dir *to, const char *to_name,
		    const struct local_file *f, struct reg **out);

/* One event on the directory, whatever it holds. */
int		 local_move(struct state *s, struct dir *at, const char *name, struct dir *to, const char *to_name);

/* The two change places; either may be a directory. */
int		 local_exchange(struct state *s, struct dir *at, const char *name, struct dir *to, const char *to_name);

int		 local_mkdir(struct state *s, struct dir *at, const char *name, uint32_t mode, enum dir_told told,
		    struct dir **out);
int		 local_rmdir(struct state *s, struct dir *at, const char *name);

/* Sets the given attributes of what the name shows, file or directory. */
int		 local_set_attrs(struct state *s, struct dir *at, const char *name, const struct attrs *set);

/* The same for a directory by itself (the root has no name). */
void		 local_set_dir_attrs(struct state *s, const struct folder *f, const struct attrs *set);

#endif
