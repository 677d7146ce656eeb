/*
 * Rules in the syntax of gitignore(5), and whether they cover a path.  Pure.
 *
 * A line is a pattern; the last one that matches counts.  `#` begins a comment,
 * `!` takes a path out again, a `/` at the end means directories only, a `/`
 * elsewhere ties the pattern to the root; `*`, `?`, `[...]` do not match a `/`,
 * `**` between slashes matches any number of directories.  What stands in a
 * directory that is covered is covered, whatever other lines say.
 */
#ifndef SIBFS_IGNORE_H
#define SIBFS_IGNORE_H

#include <stdbool.h>
#include <stddef.h>

struct ignore;

/* Lines that are too long or too many are left out. */
struct ignore	*ignore_parse(const char *text, size_t len);
void		 ignore_free(struct ignore *ig);

/* path: relative to the root, without a slash at either end.  ig may be NULL. */
bool		 ignore_covers(const struct ignore *ig, const char *path, bool is_dir);

#endif
