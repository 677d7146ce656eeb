/*
 * The table of inodes and names: what was added is found, at every size, also
 * when all hashes are the same.
 */
#include "config.h"

#include "fs/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <xxhash.h>

enum { MANY = 5000 };

struct element {
	struct table_link link;
	unsigned key;
	unsigned visits;
};

static uint64_t
hash_key(unsigned key)
{
	return XXH3_64bits(&key, sizeof key);
}

static uint64_t
hash(const struct table_link *link)
{
	return hash_key(((const struct element *)link)->key);
}

static uint64_t
hash_same(const struct table_link *link)
{
	(void)link;
	return 7;
}

static bool
equal(const struct table_link *link, const void *key)
{
	return ((const struct element *)link)->key == *(const unsigned *)key;
}

static const struct table_link *
find(const struct table *t, unsigned key)
{
	return table_find(t, hash_key(key), equal, &key);
}

static void
visit(struct table_link *link, void *arg)
{
	((struct element *)link)->visits++;
	if (arg != NULL)
		table_remove(arg, link);
}

static void
test_what_was_added_is_found_as_it_grows(void **state)
{
	struct element *e = calloc(MANY, sizeof *e);
	struct table t;

	(void)state;
	table_init(&t, hash);
	for (unsigned k = 0; k < MANY; k++) {
		e[k].key = k;
		assert_null(find(&t, k));
		table_add(&t, &e[k].link);
		assert_ptr_equal(find(&t, k), &e[k].link);
		assert_ptr_equal(find(&t, k / 2), &e[k / 2].link);
	}
	assert_int_equal(t.len, MANY);
	for (unsigned k = 0; k < MANY; k++)
		assert_ptr_equal(find(&t, k), &e[k].link);
	table_each(&t, visit, NULL);
	for (unsigned k = 0; k < MANY; k++)
		assert_int_equal(e[k].visits, 1);
	table_each(&t, visit, &t);
	table_fini(&t);
	free(e);
}

static void
test_what_was_removed_is_not_found(void **state)
{
	struct element *e = calloc(MANY, sizeof *e);
	struct table t;

	(void)state;
	table_init(&t, hash);
	for (unsigned k = 0; k < MANY; k++) {
		e[k].key = k;
		table_add(&t, &e[k].link);
	}
	for (unsigned k = 0; k < MANY; k += 3)
		table_remove(&t, &e[k].link);
	for (unsigned k = 0; k < MANY; k++)
		assert_ptr_equal(find(&t, k), k % 3 == 0 ? NULL : &e[k].link);
	for (unsigned k = 0; k < MANY; k++)
		if (k % 3 != 0)
			table_remove(&t, &e[k].link);
	assert_int_equal(t.len, 0);
	table_fini(&t);
	free(e);
}

/* No bucket has many while the others have none. */
static void
test_elements_are_spread_at_every_size(void **state)
{
	struct element *e = calloc(MANY, sizeof *e);
	struct table t;

	(void)state;
	table_init(&t, hash);
	for (unsigned k = 0; k < MANY; k++) {
		size_t longest = 0;

		e[k].key = k;
		table_add(&t, &e[k].link);
		for (size_t b = 0; k % 100 == 0 && b < t.base + t.split; b++) {
			size_t n = 0;

			for (const struct table_link *l = t.buckets[b]; l != NULL; l = l->next)
				n++;
			longest = n > longest ? n : longest;
		}
		assert_true(longest <= 12);
	}
	table_each(&t, visit, &t);
	table_fini(&t);
	free(e);
}

static void
test_equal_hashes_are_told_apart(void **state)
{
	struct element e[100] = { 0 };
	struct table t;

	(void)state;
	table_init(&t, hash_same);
	for (unsigned k = 0; k < 100; k++) {
		e[k].key = k;
		table_add(&t, &e[k].link);
	}
	for (unsigned k = 0; k < 100; k++)
		assert_ptr_equal(table_find(&t, 7, equal, &k), &e[k].link);
	for (unsigned k = 0; k < 100; k += 2)
		table_remove(&t, &e[k].link);
	for (unsigned k = 0; k < 100; k++)
		assert_ptr_equal(table_find(&t, 7, equal, &k), k % 2 == 0 ? NULL : &e[k].link);
	table_each(&t, visit, &t);
	table_fini(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_was_added_is_found_as_it_grows),
		cmocka_unit_test(test_what_was_removed_is_not_found),
		cmocka_unit_test(test_elements_are_spread_at_every_size),
		cmocka_unit_test(test_equal_hashes_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
