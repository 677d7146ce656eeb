/*
 * Rules of gitignore: each case as git itself answers (git check-ignore).
 */
#include "config.h"

#include "replication/ignore.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static bool
covers(const char *rules, const char *path)
{
	size_t len = strlen(path);
	bool dir = path[len - 1] == '/', yes;
	struct ignore *ig = ignore_parse(rules, strlen(rules));
	char copy[256];

	memcpy(copy, path, len + 1);
	if (dir)
		copy[len - 1] = '\0';
	yes = ignore_covers(ig, copy, dir);
	ignore_free(ig);
	return yes;
}

struct example {
	const char *rules, *path;
	bool covered;
};

static void
check(const struct example *c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (covers(c[i].rules, c[i].path) != c[i].covered)
			fail_msg("rules \"%s\", path \"%s\": %d expected", c[i].rules, c[i].path, c[i].covered);
}

#define CHECK(...) do {									\
	static const struct example c[] = { __VA_ARGS__ };				\
	(void)state;									\
	check(c, sizeof(c) / sizeof(c[0]));						\
} while (0)

static void
test_a_pattern_without_a_slash_holds_everywhere(void **state)
{
	CHECK({ "*.o", "a.o", true }, { "*.o", "d/e/a.o", true }, { "*.o", "a.oo", false }, { "*.o", "a.o/", true },
	    { "core", "x/core", true }, { "core", "core/inside", true }, { "?", ".", true }, { "*", ".hidden", true },
	    { "[ab]c", "bc", true }, { "[!ab]c", "bc", false }, { "a\nb", "b", true }, { "a\r\n", "a", true });
}

static void
test_a_slash_ties_to_the_root(void **state)
{
	CHECK({ "/a", "a", true }, { "/a", "d/a", false }, { "d/a", "d/a", true }, { "d/a", "x/d/a", false },
	    { "d/*", "d/a", true }, { "d/*", "d/a/b", true }, { "d/*.o", "d/e/a.o", false });
}

static void
test_a_slash_at_the_end_means_directories(void **state)
{
	CHECK({ "build/", "build/", true }, { "build/", "build", false }, { "build/", "x/build/y", true },
	    { "/build/", "x/build/y", false });
}

static void
test_two_stars_match_any_depth(void **state)
{
	CHECK({ "**/a", "a", true }, { "**/a", "x/y/a", true }, { "a/**", "a/b/c", true }, { "a/**", "a/", false },
	    { "a/**/b", "a/b", true }, { "a/**/b", "a/x/y/b", true }, { "a/**/b", "a/x/y/c", false },
	    { "a/**/b/**/c", "a/1/b/2/b/3/c", true }, { "**/x/**/y", "x/x/z/y", true });
}

static void
test_the_last_rule_counts(void **state)
{
	CHECK({ "*.o\n!keep.o", "keep.o", false }, { "*.o\n!keep.o", "d/keep.o", false },
	    { "!keep.o\n*.o", "keep.o", true }, { "*.o\n!keep.o\nkeep.o", "keep.o", true });
}

static void
test_nothing_comes_back_from_a_covered_directory(void **state)
{
	CHECK({ "d/\n!d/a", "d/a", true }, { "d/*\n!d/a", "d/a", false });
}

static void
test_comments_spaces_and_escapes(void **state)
{
	CHECK({ "#a", "#a", false }, { "\\#a", "#a", true }, { "\\!a", "!a", true }, { "a  ", "a", true },
	    { "a\\ ", "a ", true }, { "\n\n \na", "b", false }, { "/", "a", false }, { "!", "a", false },
	    { "\\*", "*", true }, { "\\*", "a", false });
}

static void
test_names_that_are_not_utf8_match(void **state)
{
	CHECK({ "caf\xe9*", "caf\xe9.txt", true }, { "*.txt", "\xff\xfe.txt", true });
}

static void
test_without_rules_nothing_is_covered(void **state)
{
	(void)state;
	assert_false(ignore_covers(NULL, "a", false));
	assert_false(covers("", "a"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_pattern_without_a_slash_holds_everywhere),
		cmocka_unit_test(test_a_slash_ties_to_the_root),
		cmocka_unit_test(test_a_slash_at_the_end_means_directories),
		cmocka_unit_test(test_two_stars_match_any_depth),
		cmocka_unit_test(test_the_last_rule_counts),
		cmocka_unit_test(test_nothing_comes_back_from_a_covered_directory),
		cmocka_unit_test(test_comments_spaces_and_escapes),
		cmocka_unit_test(test_names_that_are_not_utf8_match),
		cmocka_unit_test(test_without_rules_nothing_is_covered),
	};

	return cmocka_run_group_tests_name("ignore", tests, NULL, NULL);
}
