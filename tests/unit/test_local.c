/*
 * User operations: each does what its name says and moves no other name.
 */
#include "config.h"

#include "replication/local.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/sim.h"

static const char *const nodes[] = { "laptop", "server" };

#define CONFLICT "f\ttheirs\t644\nf.conflict-laptop\tmine\t644\n"

static void
assert_shows(struct state *s, const char *expected)
{
	char *tree = sim_tree(s);

	assert_string_equal(tree, expected);
	free(tree);
}

/* On both, after all have heard. */
static void
assert_all_show(struct sim *sim, const char *expected)
{
	assert_shows(sim->s[0], expected);
	sim_pull_all(sim);
	assert_shows(sim->s[0], expected);
	assert_shows(sim->s[1], expected);
}

/* f, written on both; the server's is newer. */
static int
setup(void **state)
{
	struct sim *sim = calloc(1, sizeof(*sim));

	sim_init(sim, nodes, 2);
	sim->s[0]->now = 1000;
	sim->s[1]->now = 2000;
	sim_write(sim->s[0], "f", "mine");
	sim_write(sim->s[1], "f", "theirs");
	sim_pull_all(sim);
	assert_shows(sim->s[0], CONFLICT);
	assert_shows(sim->s[1], CONFLICT);
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
test_writing_the_main_name_leaves_the_sibling(void **state)
{
	struct sim *sim = *state;

	assert_int_equal(sim_write(sim->s[0], "f", "edited"), 0);
	assert_all_show(sim, "f\tedited\t644\nf.conflict-laptop\tmine\t644\n");
}

static void
test_writing_the_sibling_leaves_the_main_name(void **state)
{
	struct sim *sim = *state;

	sim->s[0]->now = 5000;		/* newer, and yet no new main */
	assert_int_equal(sim_write(sim->s[0], "f.conflict-laptop", "edited"), 0);
	assert_all_show(sim, "f\ttheirs\t644\nf.conflict-laptop\tedited\t644\n");
}

static void
test_removing_the_main_name_promotes_no_sibling(void **state)
{
	struct sim *sim = *state;

	assert_int_equal(sim_unlink(sim->s[0], "f"), 0);
	assert_all_show(sim, "f.conflict-laptop\tmine\t644\n");
}

static void
test_removing_by_a_listing_removes_everything(void **state)
{
	struct sim *sim = *state;

	assert_int_equal(sim_unlink(sim->s[0], "f"), 0);
	assert_int_equal(sim_unlink(sim->s[0], "f.conflict-laptop"), 0);
	assert_all_show(sim, "");
}

static void
test_removing_the_sibling_resolves(void **state)
{
	struct sim *sim = *state;

	assert_int_equal(sim_unlink(sim->s[0], "f.conflict-laptop"), 0);
	assert_all_show(sim, "f\ttheirs\t644\n");
}

static void
test_moving_the_sibling_onto_the_main_name_resolves(void **state)
{
	struct sim *sim = *state;

	assert_int_equal(sim_rename(sim->s[0], "f.conflict-laptop", "f"), 0);
	assert_all_show(sim, "f\tmine\t644\n");
}

static void
test_making_both_equal_resolves(void **state)
{
	struct sim *sim = *state;

	assert_int_equal(sim_write(sim->s[0], "f", "merged"), 0);
	assert_int_equal(sim_write(sim->s[0], "f.conflict-laptop", "merged"), 0);
	assert_all_show(sim, "f\tmerged\t644\n");
}

static void
test_a_write_concurrent_with_the_resolution_survives_it(void **state)
{
	struct sim *sim = *state;

	assert_int_equal(sim_rename(sim->s[0], "f.conflict-laptop", "f"), 0);
	sim->s[1]->now = 9000;
	assert_int_equal(sim_write(sim->s[1], "f", "meanwhile"), 0);
	sim_pull_all(sim);
	assert_shows(sim->s[0], "f\tmeanwhile\t644\nf.conflict-laptop\tmine\t644\n");
}

static void
test_moving_the_main_name_away_leaves_the_sibling_its_name(void **state)
{
	struct sim *sim = *state;

	assert_int_equal(sim_rename(sim->s[0], "f", "g"), 0);
	assert_all_show(sim, "f.conflict-laptop\tmine\t644\ng\ttheirs\t644\n");
}

/* As editors write: a new file over the name by rename, or by removal first. */
static void
test_editors_ways_to_save_leave_the_sibling(void **state)
{
	struct sim *sim = *state;

	assert_int_equal(sim_write(sim->s[0], "f.tmp", "saved"), 0);
	assert_int_equal(sim_rename(sim->s[0], "f.tmp", "f"), 0);
	assert_all_show(sim, "f\tsaved\t644\nf.conflict-laptop\tmine\t644\n");
	assert_int_equal(sim_unlink(sim->s[0], "f"), 0);
	assert_int_equal(sim_write(sim->s[0], "f", "again"), 0);
	assert_all_show(sim, "f\tagain\t644\nf.conflict-laptop\tmine\t644\n");
}

static void
test_a_file_written_under_a_free_sibling_name_is_its_own(void **state)
{
	struct sim *sim = *state;

	assert_int_equal(sim_write(sim->s[0], "f.conflict-other", "own"), 0);
	assert_all_show(sim, CONFLICT "f.conflict-other\town\t644\n");
}

static void
test_a_chmod_makes_no_sibling(void **state)
{
	struct sim *sim = *state;

	assert_int_equal(sim_unlink(sim->s[0], "f.conflict-laptop"), 0);
	sim_pull_all(sim);
	assert_int_equal(sim_chmod(sim->s[0], "f", 0600), 0);
	assert_int_equal(sim_write(sim->s[1], "f", "edited"), 0);
	sim_pull_all(sim);
	assert_shows(sim->s[0], "f\tedited\t600\n");
	assert_shows(sim->s[1], "f\tedited\t600\n");
}

/* Stamps order versions: by one more on one side another version gets the main name
 * than in the reference model. */
static void
test_what_is_done_to_directories_takes_no_stamp(void **state)
{
	struct sim *sim = *state;
	struct state *s = sim->s[0];
	uint64_t before = s->hlc;

	assert_int_equal(sim_mkdir(s, "d", 0755, DIR_MADE_HERE), 0);
	assert_int_equal(sim_chmod(s, "d", 0700), 0);
	assert_int_equal(sim_rmdir(s, "d"), 0);
	assert_true(s->hlc == before);
}

static void
test_a_directory_moves_with_all_its_names(void **state)
{
	struct sim *sim = *state;

	assert_int_equal(sim_mkdir(sim->s[0], "d", 0755, DIR_MADE_HERE), 0);
	sim_pull_all(sim);
	assert_int_equal(sim_write(sim->s[0], "d/f", "one"), 0);
	assert_int_equal(sim_write(sim->s[1], "d/f", "two"), 0);
	sim_pull_all(sim);
	assert_int_equal(sim_rename(sim->s[0], "d", "e"), 0);
	assert_int_equal(sim_write(sim->s[1], "d/new", "found"), 0);
	sim_pull_all(sim);
	assert_shows(sim->s[0], "e\t-\t755\ne/f\ttwo\t644\ne/f.conflict-laptop\tone\t644\ne/new\tfound\t644\n" CONFLICT);
	assert_shows(sim->s[1], "e\t-\t755\ne/f\ttwo\t644\ne/f.conflict-laptop\tone\t644\ne/new\tfound\t644\n" CONFLICT);
}

static void
test_making_a_directory_where_files_conflict_moves_none_of_them(void **state)
{
	struct sim *sim = *state;

	assert_int_equal(sim_unlink(sim->s[0], "f"), 0);
	assert_int_equal(sim_mkdir(sim->s[0], "f", 0755, DIR_MADE_HERE), 0);
	assert_all_show(sim, "f\t-\t755\nf.conflict-laptop\tmine\t644\n");
	assert_int_equal(sim_rmdir(sim->s[0], "f"), 0);
	assert_all_show(sim, "f.conflict-laptop\tmine\t644\n");
}

static void
test_exchanging_swaps_files_and_directories(void **state)
{
	struct sim *sim = *state;
	struct state *s = sim->s[0];

	assert_int_equal(sim_mkdir(s, "d", 0755, DIR_MADE_HERE), 0);
	assert_int_equal(sim_write(s, "d/in", "inside"), 0);
	sim_pull_all(sim);
	assert_int_equal(local_exchange(s, s->root, "d", s->root, "f"), 0);
	assert_all_show(sim, "d\ttheirs\t644\nf\t-\t755\nf.conflict-laptop\tmine\t644\nf/in\tinside\t644\n");
	assert_int_equal(local_exchange(s, s->root, "d", s->root, "nothing"), -ENOENT);
}

static void
test_what_fails_changes_nothing(void **state)
{
	struct sim *sim = *state;
	struct state *s = sim->s[0];
	uint64_t counter = s->counter, seq = s->seq;

	assert_int_equal(sim_unlink(s, "missing"), -ENOENT);
	assert_int_equal(sim_rename(s, "missing", "f"), -ENOENT);
	assert_int_equal(sim_rmdir(s, "f"), -ENOTDIR);
	assert_int_equal(sim_rmdir(s, "missing"), -ENOENT);
	assert_int_equal(sim_chmod(s, "missing", 0600), -ENOENT);
	assert_int_equal(sim_write(s, "missing/x", "x"), -ENOENT);
	assert_int_equal(sim_write(s, "f/x", "x"), -ENOTDIR);
	assert_int_equal(s->counter, counter);
	assert_int_equal(s->seq, seq);
	assert_all_show(sim, CONFLICT);
}

static void
test_a_directory_renamed_before_peers_heard_of_it_is_made_there(void **state)
{
	struct sim *sim = *state;
	struct dir *d;

	assert_int_equal(sim_mkdir(sim->s[0], "new folder", 0755, DIR_MADE_HERE), 0);
	assert_int_equal(sim_rename(sim->s[0], "new folder", "photos"), 0);
	d = state_at(sim->s[0], sim->s[0]->root, "photos");
	assert_string_equal(d->birth.name, "photos");
	assert_int_equal(d->val.moves_len, 0);
	assert_int_equal(sim_mkdir(sim->s[1], "photos", 0755, DIR_MADE_HERE), 0);
	sim_pull_all(sim);
	assert_null(state_at(sim->s[0], sim->s[0]->root, "photos")->same_place);
}

static void
test_a_directory_that_changed_places_unheard_of_can_be_moved_on(void **state)
{
	struct sim *sim = *state;
	struct state *s = sim->s[0];

	assert_int_equal(sim_mkdir(s, "d", 0755, DIR_MADE_HERE), 0);
	assert_int_equal(sim_write(s, "d/in", "inside"), 0);
	assert_int_equal(local_exchange(s, s->root, "d", s->root, "f"), 0);
	assert_int_equal(sim_mkdir(s, "g", 0755, DIR_MADE_HERE), 0);
	assert_int_equal(sim_rename(s, "f", "g"), 0);
	assert_all_show(sim, "d\ttheirs\t644\nf.conflict-laptop\tmine\t644\ng\t-\t755\ng/in\tinside\t644\n");
}

/* A directory in d, a file in that, and so on. */
static struct dir *
make_deep(struct state *s, struct dir *d, unsigned levels)
{
	struct local_file f = { .kind = KIND_FILE };

	for (unsigned i = 0; i < levels; i++) {
		assert_int_equal(local_mkdir(s, d, "d", 0755, DIR_MADE_HERE, &d), 0);
		assert_int_equal(local_write(s, d, "f", &f, NULL), 0);
	}
	return d;
}

/* What one operation costs may grow with the depth, and not with its square: then this
 * would take hours. */
static void
test_directories_may_be_deep(void **state)
{
	struct sim *sim = *state;
	struct state *s = sim->s[0];
	struct dir *top, *bottom;
	char *path;

	alarm(100);
	assert_int_equal(local_mkdir(s, s->root, "top", 0755, DIR_MADE_HERE, &top), 0);
	bottom = make_deep(s, top, 1000);
	assert_int_equal(local_write(s, bottom, "g", &(struct local_file){ .kind = KIND_FILE }, NULL), 0);
	assert_int_equal(local_unlink(s, bottom, "f"), 0);
	assert_int_equal(sim_rename(s, "top", "moved"), 0);
	path = dir_path(bottom);
	assert_int_equal(strlen(path), strlen("moved") + 1000 * strlen("/d"));
	assert_int_equal(strncmp(path, "moved/d/d/", 10), 0);
	free(path);
	alarm(0);
}

/* The same where two directories show as one, with all that is below. */
static void
test_directories_that_show_as_one_may_be_deep(void **state)
{
	struct sim *sim = *state;
	struct state *s = sim->s[0];
	struct dir *top;

	alarm(100);
	assert_int_equal(sim_mkdir(sim->s[1], "other", 0755, DIR_MADE_HERE), 0);
	sim_pull_all(sim);
	assert_int_equal(local_mkdir(s, s->root, "top", 0755, DIR_MADE_HERE, &top), 0);
	assert_int_equal(sim_rename(sim->s[1], "other", "top"), 0);
	sim_pull_all(sim);
	assert_ptr_equal(state_shared(top), top);
	make_deep(s, top, 300);
	assert_int_equal(sim_rename(s, "top", "moved"), 0);
	assert_string_equal(top->at.name, "moved");
	alarm(0);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_writing_the_main_name_leaves_the_sibling),
		TEST(test_writing_the_sibling_leaves_the_main_name),
		TEST(test_removing_the_main_name_promotes_no_sibling),
		TEST(test_removing_by_a_listing_removes_everything),
		TEST(test_removing_the_sibling_resolves),
		TEST(test_moving_the_sibling_onto_the_main_name_resolves),
		TEST(test_making_both_equal_resolves),
		TEST(test_a_write_concurrent_with_the_resolution_survives_it),
		TEST(test_moving_the_main_name_away_leaves_the_sibling_its_name),
		TEST(test_editors_ways_to_save_leave_the_sibling),
		TEST(test_a_file_written_under_a_free_sibling_name_is_its_own),
		TEST(test_a_chmod_makes_no_sibling),
		TEST(test_what_is_done_to_directories_takes_no_stamp),
		TEST(test_a_directory_moves_with_all_its_names),
		TEST(test_making_a_directory_where_files_conflict_moves_none_of_them),
		TEST(test_exchanging_swaps_files_and_directories),
		TEST(test_what_fails_changes_nothing),
		TEST(test_a_directory_renamed_before_peers_heard_of_it_is_made_there),
		TEST(test_a_directory_that_changed_places_unheard_of_can_be_moved_on),
		TEST(test_directories_may_be_deep),
		TEST(test_directories_that_show_as_one_may_be_deep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
