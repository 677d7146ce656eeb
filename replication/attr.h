/*
 * Attributes as last-writer-wins cells: mode, owner, times and each extended
 * attribute, each on its own, ordered by (HLC, incarnation).  A cell without a
 * value says that the attribute was removed.  Never used for contents.
 *
 * Keys: "mode" (octal text), "owner" ("user:uid"), "group" ("group:gid"),
 * "mtime" (nanoseconds, decimal), "x.NAME" for an extended attribute.  Values
 * are bytes.  Sets stay sorted by key.  Pure.
 */
#ifndef SIBFS_ATTR_H
#define SIBFS_ATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* When a cell was set, and by which incarnation. */
struct stamp {
	uint64_t hlc;
	uint64_t id;
};

struct cell {
	char *key;
	void *value;		/* NULL: removed */
	uint32_t len;
	struct stamp at;
};

struct attrs {
	struct cell *c;
	uint32_t len;
};

int		 stamp_compare(struct stamp a, struct stamp b);

const struct cell *attrs_find(const struct attrs *a, const char *key);

/* Is it that of an extended attribute?  A file need not have those. */
bool		 cell_is_extended(const struct cell *c);

/* Says of extended attributes that are in `before` and not in a that they are removed. */
void		 attrs_without_others(struct attrs *a, const struct attrs *before, struct stamp at);

/* What has none but those that it says, whatever was set before that stamp on what
 * stood there.  As a cell of its own, that is inherited and travels as others do. */
#define ATTRS_BARE "x."

/* Sets a cell whatever was there; copies key and value. */
void		 attrs_set(struct attrs *a, const char *key, const void *value, uint32_t len, struct stamp at);

/* Keeps the newer of what is there and what comes, cell by cell. */
void		 attrs_merge(struct attrs *a, const struct attrs *other);
void		 attrs_merge_cell(struct attrs *a, const struct cell *c);

bool		 cell_same_value(const struct cell *a, const struct cell *b);

/* Do both say the same, stamps aside?  Removed and never set are alike. */
bool		 attrs_same_values(const struct attrs *a, const struct attrs *b);

struct attrs	 attrs_copy(const struct attrs *a);
void		 attrs_fini(struct attrs *a);

/* The permission bits, or fallback if there are none or they are malformed. */
uint32_t	 attrs_mode(const struct attrs *a, uint32_t fallback);
void		 attrs_set_mode(struct attrs *a, uint32_t mode, struct stamp at);

/* The highest stamp in the set. */
uint64_t	 attrs_hlc(const struct attrs *a);

#endif
