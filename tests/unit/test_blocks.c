/*
 * Blocks: those that differ are found, and no others.
 */
#include "config.h"

#include "replication/blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replication/chunk.h"
#include "tests/lib/random.h"

#define MOST (CHUNK_MAX / BLOCK)

static uint8_t p[CHUNK_MAX], prints[MOST * BLOCK_PRINT];
static struct stretch s[MOST];

static void
test_what_is_equal_has_no_stretch(void **state)
{
	static const size_t sizes[] = { 0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, CHUNK_MAX };

	(void)state;
	random_bytes(p, sizeof(p));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		assert_int_equal(blocks_of(sizes[i]), sizes[i] / BLOCK + (sizes[i] % BLOCK != 0));
		blocks_print(p, sizes[i], prints);
		assert_int_equal(blocks_differ(p, sizes[i], prints, s), 0);
	}
}

/* Fetched where they say, what was another becomes what was asked about. */
static void
test_stretches_are_all_that_differs_and_whole_blocks(void **state)
{
	uint8_t *old = malloc(CHUNK_MAX);

	(void)state;
	for (int round = 0; round < 200; round++) {
		size_t len = 1 + random_below(CHUNK_MAX), n, bytes = 0;
		unsigned edits = 1 + (unsigned)random_below(4);

		random_bytes(p, len);
		memcpy(old, p, len);
		for (unsigned i = 0; i < edits; i++)
			old[random_below(len)] ^= 1;
		blocks_print(p, len, prints);
		n = blocks_differ(old, len, prints, s);
		for (size_t i = 0; i < n; i++) {
			assert_true(s[i].from < s[i].to && s[i].to <= len);
			assert_int_equal(s[i].from % BLOCK, 0);
			assert_true(i == 0 || s[i].from > s[i - 1].to);
			memcpy(old + s[i].from, p + s[i].from, s[i].to - s[i].from);
			bytes += s[i].to - s[i].from;
		}
		assert_memory_equal(old, p, len);
		assert_true(bytes <= (size_t)edits * BLOCK);
	}
	free(old);
}

static void
test_neighbours_are_one_stretch(void **state)
{
	(void)state;
	memset(p, 1, sizeof(p));
	blocks_print(p, sizeof(p), prints);
	memset(p, 2, sizeof(p));
	assert_int_equal(blocks_differ(p, sizeof(p), prints, s), 1);
	assert_int_equal(s[0].from, 0);
	assert_int_equal(s[0].to, sizeof(p));
	for (size_t at = 0; at < sizeof(p); at += 2 * BLOCK)
		memset(p + at, 1, BLOCK);
	assert_int_equal(blocks_differ(p, sizeof(p), prints, s), MOST / 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_equal_has_no_stretch),
		cmocka_unit_test(test_stretches_are_all_that_differs_and_whole_blocks),
		cmocka_unit_test(test_neighbours_are_one_stretch),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
