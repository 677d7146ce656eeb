/*
 * What time it is.  Any thread.
 */
#ifndef SIBFS_CLOCK_H
#define SIBFS_CLOCK_H

#include <stdint.h>

/* For how long something took, or may take: nobody sets this one. */
int64_t		 clock_ms(void);

/* The same, some milliseconds late, at less cost. */
int64_t		 clock_coarse_ms(void);

/* The time of day, since 1970; it may be wrong, and jump. */
int64_t		 clock_wall_ns(void);

#endif
