/*
 * Taking in what peers know: once, in any order, and nothing is shown before
 * its content is here.
 */
#include "config.h"

#include "replication/take.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replication/mem.h"
#include "tests/lib/sim.h"

static const char *const nodes[] = { "laptop", "server" };

static int
setup(void **state)
{
	struct sim *sim = calloc(1, sizeof(*sim));

	sim_init(sim, nodes, 2);
	sim->s[0]->now = 1000;
	sim->s[1]->now = 2000;
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

static struct regval
written(uint64_t id, uint64_t n)
{
	struct version v = { .dot = { id, n }, .kind = KIND_FILE, .slot = mem_str("") };
	struct regval r = { 0 };

	vv_raise(&r.ctx, v.dot);
	regval_add(&r, &v);
	return r;
}

static void
test_what_is_taken_waits_for_its_content(void **state)
{
	struct sim *sim = *state;
	struct state *s = sim->s[0];
	struct regval theirs = written(9, 1);
	struct reg *r;
	bool news;

	r = take_reg(s, s->root, "f", &theirs, NULL, &news);
	assert_true(news);
	assert_non_null(r->pending);
	assert_int_equal(r->shown.len, 0);
	assert_int_equal(s->root->files, 0);
	state_reg_show(s, r);
	assert_int_equal(r->shown.len, 1);
	assert_int_equal(s->root->files, 1);
	regval_fini(&theirs);
}

static void
test_what_is_known_is_no_news(void **state)
{
	struct sim *sim = *state;
	struct state *s = sim->s[0];
	struct regval theirs = written(9, 1);
	uint64_t seq;
	bool news;

	take_reg(s, s->root, "f", &theirs, NULL, &news);
	seq = s->seq;
	take_reg(s, s->root, "f", &theirs, NULL, &news);
	assert_false(news);
	assert_int_equal(s->seq, seq);
	regval_fini(&theirs);
}

static void
test_a_version_that_was_deleted_here_stays_deleted(void **state)
{
	struct sim *sim = *state;
	struct state *s = sim->s[0];
	struct regval theirs = written(9, 1);
	struct reg *r;
	bool news;

	vv_raise(&s->know, (struct dot){ 9, 5 });
	r = take_reg(s, s->root, "f", &theirs, NULL, &news);
	assert_int_equal(reg_known(r)->len, 0);
	regval_fini(&theirs);
}

static void
test_clocks_of_others_are_heeded(void **state)
{
	struct sim *sim = *state;
	struct state *s = sim->s[0];
	struct regval theirs = written(9, 1);
	bool news;

	theirs.v[0].hlc = UINT64_C(1) << 60;
	take_reg(s, s->root, "f", &theirs, NULL, &news);
	assert_true(state_stamp(s).hlc > UINT64_C(1) << 60);
	regval_fini(&theirs);
}

static void
test_directories_made_alike_are_the_same(void **state)
{
	struct sim *sim = *state;
	struct dir *d;
	bool news;

	sim_mkdir(sim->s[0], "d", 0755, DIR_MADE_HERE);
	sim_mkdir(sim->s[1], "d", 0700, DIR_MADE_HERE);
	d = state_at(sim->s[1], sim->s[1]->root, "d");
	d = take_dir(sim->s[0], (struct place){ sim->s[0]->root, "d" }, 0, &d->val, &sim->s[1]->know, &news);
	assert_true(news);
	assert_ptr_equal(d, state_at(sim->s[0], sim->s[0]->root, "d"));
	assert_null(d->same_place);
	assert_int_equal(dir_mode(d), 0700);
	assert_int_equal(d->told, DIR_TOLD);
	assert_null(sim->s[0]->untold);
}

static void
test_a_path_leads_from_the_root(void **state)
{
	struct sim *sim = *state;
	struct state *s = sim->s[0];
	char *path;

	sim_mkdir(s, "a", 0755, DIR_MADE_HERE);
	sim_mkdir(s, "a/b", 0755, DIR_MADE_HERE);
	path = dir_path(s->root);
	assert_string_equal(path, "");
	free(path);
	path = dir_path(state_at(s, state_at(s, s->root, "a"), "b"));
	assert_string_equal(path, "a/b");
	free(path);
}

/* The peer's "p" was made elsewhere and moved there; ours was made there. */
static void
test_one_made_where_the_peer_shows_another_becomes_that(void **state)
{
	struct sim *sim = *state;
	struct dir *theirs, *mine;

	sim_mkdir(sim->s[1], "old", 0755, DIR_MADE_HERE);
	take_told(sim->s[1]);
	sim_rename(sim->s[1], "old", "p");
	sim_mkdir(sim->s[0], "p", 0755, DIR_MADE_HERE);
	sim_write(sim->s[0], "p/f", "ours");
	mine = state_at(sim->s[0], sim->s[0]->root, "p");
	assert_true(take_may_offer(sim->s[0], mine));
	theirs = take_answer(sim->s[1], "p");
	assert_non_null(theirs);
	assert_true(take_adopt(sim->s[0], "p", (struct place){ sim->s[0]->root, "old" }, theirs->birth_k,
	    (struct place){ sim->s[0]->root, "p" }));
	assert_true(identity_equal(&mine->id, &theirs->id));
	sim_pull(sim->s[0], sim->s[1], SIZE_MAX);
	sim_pull(sim->s[1], sim->s[0], SIZE_MAX);
	for (int i = 0; i < 2; i++) {
		char *tree = sim_tree(sim->s[i]);

		assert_string_equal(tree, "p\t-\t755\np/f\tours\t644\n");
		free(tree);
	}
}

static void
test_nothing_is_adopted_once_peers_know(void **state)
{
	struct sim *sim = *state;
	struct state *s = sim->s[0];
	struct place other = { s->root, "old" }, at = { s->root, "p" };

	sim_mkdir(s, "p", 0755, DIR_MADE_HERE);
	take_told(s);
	assert_false(take_may_offer(s, state_at(s, s->root, "p")));
	assert_false(take_adopt(s, "p", other, 0, at));
	assert_false(take_adopt(s, "missing", other, 0, at));
	assert_null(take_answer(s, "missing"));
	assert_null(take_answer(s, ""));
}

static void
test_a_cut_round_leaves_nothing_without_a_place(void **state)
{
	struct sim *sim = *state;

	sim_mkdir(sim->s[1], "a", 0755, DIR_MADE_HERE);
	sim_mkdir(sim->s[1], "a/b", 0755, DIR_MADE_HERE);
	sim_write(sim->s[1], "a/b/f", "deep");
	sim_rename(sim->s[1], "a/b/f", "a/b/g");
	for (size_t limit = 0; limit < 8; limit++) {
		char *tree;

		sim_pull(sim->s[0], sim->s[1], limit);
		tree = sim_tree(sim->s[0]);
		/* The renamed file is never out of sight once it was seen. */
		assert_true(!strstr(tree, "a/b\t") || !sim->s[0]->regs || strstr(tree, "deep"));
		free(tree);
	}
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_taken_waits_for_its_content),
		TEST(test_what_is_known_is_no_news),
		TEST(test_a_version_that_was_deleted_here_stays_deleted),
		TEST(test_clocks_of_others_are_heeded),
		TEST(test_directories_made_alike_are_the_same),
		TEST(test_a_path_leads_from_the_root),
		TEST(test_one_made_where_the_peer_shows_another_becomes_that),
		TEST(test_nothing_is_adopted_once_peers_know),
		TEST(test_a_cut_round_leaves_nothing_without_a_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
