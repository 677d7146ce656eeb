/*
 * Names: found by directory and text, listed by inode; and which names are
 * those of a moment.
 */
#include "config.h"

#include "fs/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void
test_a_name_is_found_in_its_directory_only(void **state)
{
	struct names n;
	struct named file = { 0 };
	struct name *a;

	(void)state;
	names_init(&n);
	a = names_add(&n, &file, 7, "a");
	assert_ptr_equal(names_find(&n, 7, "a"), a);
	assert_null(names_find(&n, 8, "a"));
	assert_null(names_find(&n, 7, "ab"));
	assert_null(names_find(&n, 7, ""));
	names_remove(&n, a);
	assert_null(names_find(&n, 7, "a"));
	assert_null(file.first);
	names_fini(&n);
}

static void
test_names_of_an_inode_are_listed_newest_first(void **state)
{
	struct names n;
	struct named file = { 0 };

	(void)state;
	names_init(&n);
	names_add(&n, &file, 1, "a");
	names_add(&n, &file, 2, "b");
	assert_string_equal(file.first->text, "b");
	assert_string_equal(file.first->next->text, "a");
	/* Looked up again: no second entry. */
	names_add(&n, &file, 1, "a");
	assert_string_equal(file.first->text, "a");
	assert_string_equal(file.first->next->text, "b");
	assert_null(file.first->next->next);
	names_remove(&n, file.first->next);
	names_remove(&n, file.first);
	assert_null(file.first);
	names_fini(&n);
}

static void
test_names_too_long_are_not_known(void **state)
{
	struct names n;
	char text[300];

	(void)state;
	names_init(&n);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_null(names_find(&n, 1, text));
	names_fini(&n);
}

static void
test_editors_names_are_passing(void **state)
{
	static const char *const passing[] = {
		"notes.txt~", ".notes.swp", ".notes.swpx", "4913", ".#notes", "#notes#", ".goutputstream-AB12CD",
		"sedAbC123", ".~lock.report.odt#", "report.odt.QwErTy", "file.a1B2c3",
	};
	static const char *const lasting[] = {
		"notes.txt", "archive.tar.gz", "a.sqlite", "sed12345", "sed-script", "x.backup", "4914", "#", "README.UPPERC",
		".config", ".QwErTy", "conflict-LAPTOP", "", "a.b12345",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(passing) / sizeof(*passing); i++)
		if (!name_is_passing(passing[i]))
			fail_msg("%s lasts", passing[i]);
	for (size_t i = 0; i < sizeof(lasting) / sizeof(*lasting); i++)
		if (name_is_passing(lasting[i]))
			fail_msg("%s passes", lasting[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_name_is_found_in_its_directory_only),
		cmocka_unit_test(test_names_of_an_inode_are_listed_newest_first),
		cmocka_unit_test(test_names_too_long_are_not_known),
		cmocka_unit_test(test_editors_names_are_passing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
