/*
 * Random values for tests.  Everything comes from one seed, SIBFS_SEED or 1,
 * which is printed as a TAP comment: the same seed, the same test.
 */
#ifndef SIBFS_TEST_RANDOM_H
#define SIBFS_TEST_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/reg.h"

/* To be called once, at the start of main. */
void		 random_init(void);
void		 random_reset(uint64_t seed);
uint64_t	 random_state(void);	/* for random_reset: to go on from here later */

uint64_t	 random_number(void);
size_t		 random_below(size_t n);		/* 0 .. n-1 */
bool		 random_chance(unsigned percent);
void		 random_bytes(void *p, size_t n);

struct attrs	 random_attrs(void);

/* A register's value as histories make them: sorted, dots under the context. */
struct regval	 random_regval(void);

#endif
