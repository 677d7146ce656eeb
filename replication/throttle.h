/*
 * A limit in bytes per second, perhaps only at certain hours of the day, and
 * a bucket that keeps to it.  Pure: told the time.
 *
 *	2M			2 MiB per second
 *	500K 08:00-18:00	that at day, no limit at night
 */
#ifndef SIBFS_THROTTLE_H
#define SIBFS_THROTTLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct limit {
	uint64_t rate;			/* bytes per second; 0: none */
	uint16_t from_min, to_min;	/* of the day; equal: always.  May go over midnight */
};

/* -EINVAL: not a limit. */
int		 limit_parse(const char *text, struct limit *out);

/* What holds at that minute of the day. */
uint64_t	 limit_at(const struct limit *l, unsigned minute);

/* Zeroed: full, and without a limit. */
struct throttle {
	uint64_t rate;
	int64_t tokens;		/* thousandths of bytes that may go; below 0: owed */
	int64_t at_ms;
};

/* rate 0: no limit.  Changing it forgets nothing that is owed. */
void		 throttle_set(struct throttle *t, uint64_t rate, int64_t now_ms);

/* How many bytes may go now; SIZE_MAX: any number. */
size_t		 throttle_allow(struct throttle *t, int64_t now_ms);
void		 throttle_used(struct throttle *t, size_t n);

/* How long until some may go; 0: now. */
int64_t		 throttle_wait_ms(struct throttle *t, int64_t now_ms);

#endif
