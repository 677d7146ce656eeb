/*
 * The kernel's clocks, in one number each.
 */
#include "config.h"

#include "replication/clock.h"

#include <time.h>

static int64_t
in_ms(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

int64_t
clock_ms(void)
{
	return in_ms(CLOCK_MONOTONIC);
}

int64_t
clock_coarse_ms(void)
{
	return in_ms(CLOCK_MONOTONIC_COARSE);
}

int64_t
clock_wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}
