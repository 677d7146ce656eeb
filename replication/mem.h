/*
 * Allocation for the core.  A replica that cannot allocate a few bytes ends at
 * once: that is safe at any moment, because what it acknowledged is on disk
 * and its index changes by transactions only.  Large or peer-chosen sizes are
 * bounded before they come here.  fs/ and decoders use malloc and report.
 */
#ifndef SIBFS_MEM_H
#define SIBFS_MEM_H

#include <stddef.h>

void		*mem_alloc(size_t size);			/* zeroed */
void		*mem_resize(void *p, size_t n, size_t size);	/* n elements of size */
void		*mem_dup(const void *p, size_t size);		/* NULL for size 0 */
char		*mem_str(const char *s);			/* NULL stays NULL */
char		*mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
