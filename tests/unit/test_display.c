/*
 * What a user sees, by the rules of sibfs-conflicts(7): one example each.
 */
#include "config.h"

#include "replication/display.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replication/mem.h"
#include "tests/lib/sim.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

static const char *const nodes[] = { "laptop", "server", "desk" };

static int
setup(void **state)
{
	struct sim *sim = calloc(1, sizeof(*sim));

	sim_init(sim, nodes, 3);
	for (size_t i = 0; i < 3; i++)
		sim->s[i]->now = 1000 * (i + 1);
	*state = sim;
	return 0;
}

static int
teardown(void **state)
{
	sim_fini(*state);
	free(*state);
	return 0;
}

static void
assert_shows(struct state *s, const char *expected)
{
	char *tree = sim_tree(s);

	assert_string_equal(tree, expected);
	free(tree);
}

static void
test_equal_contents_are_one_file(void **state)
{
	struct sim *sim = *state;

	sim_write(sim->s[0], "f", "same");
	sim_write(sim->s[1], "f", "same");
	sim_pull_all(sim);
	assert_shows(sim->s[2], "f\tsame\t644\n");
}

static void
test_a_copy_from_before_hides_behind_what_it_was_edited_into(void **state)
{
	struct sim *sim = *state;

	sim_write(sim->s[0], "f", "old");
	sim_write(sim->s[1], "f", "old");
	sim_write(sim->s[1], "f", "edited");
	sim_pull_all(sim);
	assert_shows(sim->s[0], "f\tedited\t644\n");
}

static void
test_an_edit_back_to_what_stood_before_does_not_hide_another(void **state)
{
	struct sim *sim = *state;

	sim_write(sim->s[0], "f", "one");
	sim_write(sim->s[0], "f", "two");
	sim_write(sim->s[1], "f", "three");
	sim_pull_all(sim);
	assert_shows(sim->s[2], "f\tthree\t644\nf.conflict-laptop\ttwo\t644\n");
}

static void
test_the_newest_takes_the_main_name_and_others_their_nodes(void **state)
{
	struct sim *sim = *state;

	sim_write(sim->s[2], "f", "newest");
	sim_write(sim->s[0], "f", "oldest");
	sim_write(sim->s[1], "f", "middle");
	sim_pull_all(sim);
	for (size_t i = 0; i < 3; i++)
		assert_shows(sim->s[i],
		    "f\tnewest\t644\nf.conflict-laptop\toldest\t644\nf.conflict-server\tmiddle\t644\n");
}

static void
test_a_taken_sibling_name_is_counted_on(void **state)
{
	struct sim *sim = *state;

	sim_write(sim->s[0], "f.conflict-laptop", "a file of that name");
	sim_write(sim->s[0], "f", "mine");
	sim_write(sim->s[1], "f", "theirs");
	sim_pull_all(sim);
	assert_shows(sim->s[2], "f\ttheirs\t644\nf.conflict-laptop\ta file of that name\t644\n"
	    "f.conflict-laptop-2\tmine\t644\n");
}

static void
test_a_directory_takes_the_main_name(void **state)
{
	struct sim *sim = *state;

	sim_mkdir(sim->s[0], "x", 0755, DIR_MADE_HERE);
	sim_write(sim->s[1], "x", "file");
	sim_pull_all(sim);
	assert_shows(sim->s[0], "x\t-\t755\nx.conflict-server\tfile\t644\n");
}

static void
test_directories_of_one_name_are_one(void **state)
{
	struct sim *sim = *state;

	sim_mkdir(sim->s[0], "a", 0755, DIR_MADE_HERE);
	sim_pull_all(sim);
	sim_mkdir(sim->s[0], "b", 0755, DIR_MADE_HERE);
	sim_write(sim->s[0], "b/f", "one");
	sim_write(sim->s[0], "b/both", "one");
	take_told(sim->s[0]);
	sim_rename(sim->s[1], "a", "b");
	sim_write(sim->s[1], "b/g", "two");
	sim_write(sim->s[1], "b/both", "two");
	sim_pull_all(sim);
	assert_shows(sim->s[2], "b\t-\t755\nb/both\ttwo\t644\nb/both.conflict-laptop\tone\t644\nb/f\tone\t644\n"
	    "b/g\ttwo\t644\n");
}

static void
test_a_removed_directory_stands_while_something_is_in_it(void **state)
{
	struct sim *sim = *state;

	sim_mkdir(sim->s[0], "d", 0750, DIR_MADE_HERE);
	sim_pull_all(sim);
	sim_rmdir(sim->s[0], "d");
	sim_write(sim->s[1], "d/f", "kept");
	sim_pull_all(sim);
	assert_shows(sim->s[2], "d\t-\t750\nd/f\tkept\t644\n");
}

static void
test_private_modes_of_either_side_are_kept(void **state)
{
	struct sim *sim = *state;

	sim_mkdir(sim->s[0], "d", 0700, DIR_MADE_HERE);
	sim_mkdir(sim->s[1], "d", 0755, DIR_MADE_HERE);
	sim_pull_all(sim);
	assert_shows(sim->s[1], "d\t-\t700\n");
}

static void
test_directories_moved_into_each_other_both_show(void **state)
{
	struct sim *sim = *state;

	sim_mkdir(sim->s[0], "a", 0755, DIR_MADE_HERE);
	sim_mkdir(sim->s[0], "b", 0755, DIR_MADE_HERE);
	sim_pull_all(sim);
	sim_rename(sim->s[0], "a", "b/a");
	sim_rename(sim->s[1], "b", "a/b");
	sim_pull_all(sim);
	/* The newer move, of the later clock, does not count. */
	for (size_t i = 0; i < 3; i++)
		assert_shows(sim->s[i], "b\t-\t755\nb/a\t-\t755\n");
}

static void
test_sibling_names_fit_and_cut_no_character(void **state)
{
	char name[256], out[STATE_NAME_MAX + 1], other[STATE_NAME_MAX + 1];

	(void)state;
	state_sibling("f", "laptop", out);
	assert_string_equal(out, "f.conflict-laptop");
	/* The end takes 16 bytes: this one just fits, the next does not. */
	memset(name, 'x', 255);
	name[255] = name[239] = '\0';
	state_sibling(name, "laptop", out);
	assert_int_equal(strlen(out), 255);
	assert_null(strchr(out, '~'));
	name[239] = 'x';
	state_sibling(name, "laptop", out);
	assert_int_equal(strlen(out), 255);
	assert_int_equal(out[230], '~');
	assert_string_equal(out + 239, ".conflict-laptop");
	/* Names that are cut alike stay apart. */
	name[254] = 'y';
	state_sibling(name, "laptop", other);
	assert_int_equal(strlen(other), 255);
	assert_string_not_equal(out, other);
	/* Two-byte characters throughout: an odd cut goes back by one. */
	for (size_t i = 0; i < 254; i += 2)
		memcpy(name + i, "\xc3\xa9", 2);
	name[254] = '\0';
	state_sibling(name, "laptop", out);
	assert_true(strlen(out) <= 255);
	assert_int_equal(((size_t)(strchr(out, '~') - out)) % 2, 0);
	state_sibling(name, "laptop2", other);
	assert_int_equal(((size_t)(strchr(other, '~') - other)) % 2, 0);
}

static void
test_names_are_found_by_what_shows_under_them(void **state)
{
	struct sim *sim = *state;
	struct folder root = { &sim->s[0]->root, 1 };
	struct name_group g;
	struct shown *file;
	struct obstack o;

	sim_write(sim->s[0], "f", "mine");
	sim_write(sim->s[1], "f", "theirs");
	sim_mkdir(sim->s[0], "d", 0755, DIR_MADE_HERE);
	sim_pull_all(sim);
	obstack_init(&o);
	display_find(sim->s[0], &root, "f.conflict-laptop", &o, &g, &file);
	assert_non_null(file);
	assert_string_equal(g.name, "f");
	assert_string_equal(file->slot, "laptop");
	assert_true(group_in_conflict(&g));
	group_fini(&g);
	display_find(sim->s[0], &root, "f", &o, &g, &file);
	assert_non_null(file);
	assert_true(file->main);
	group_fini(&g);
	display_find(sim->s[0], &root, "d", &o, &g, &file);
	assert_null(file);
	assert_int_equal(g.dirs.len, 1);
	assert_false(group_in_conflict(&g));
	group_fini(&g);
	display_find(sim->s[0], &root, "f.conflict-desk", &o, &g, &file);
	assert_null(file);
	assert_int_equal(g.dirs.len, 0);
	group_fini(&g);
	obstack_free(&o, NULL);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_equal_contents_are_one_file),
		TEST(test_a_copy_from_before_hides_behind_what_it_was_edited_into),
		TEST(test_an_edit_back_to_what_stood_before_does_not_hide_another),
		TEST(test_the_newest_takes_the_main_name_and_others_their_nodes),
		TEST(test_a_taken_sibling_name_is_counted_on),
		TEST(test_a_directory_takes_the_main_name),
		TEST(test_directories_of_one_name_are_one),
		TEST(test_a_removed_directory_stands_while_something_is_in_it),
		TEST(test_private_modes_of_either_side_are_kept),
		TEST(test_directories_moved_into_each_other_both_show),
		TEST(test_sibling_names_fit_and_cut_no_character),
		TEST(test_names_are_found_by_what_shows_under_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
