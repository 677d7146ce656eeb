/*
 * The last line that a program said on its stderr: the reason worth showing
 * when it fails.  Fed with bytes as they come; bounded.  Plain data.
 */
#ifndef SIBFS_LASTLINE_H
#define SIBFS_LASTLINE_H

#include <stdbool.h>
#include <stddef.h>

enum { LASTLINE_MAX = 300 };

struct lastline {
	char text[LASTLINE_MAX];
	size_t len;
	bool ended;		/* the next byte begins a new line */
};

void		 lastline_feed(struct lastline *l, const char *bytes, size_t n);

/* The line, or "" if nothing was said.  Valid until the next feed. */
const char	*lastline_get(struct lastline *l);

#endif
