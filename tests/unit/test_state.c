/*
 * The tables of a replica: what it keeps, counts and lets go.
 */
#include "config.h"

#include "replication/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replication/mem.h"
#include "tests/lib/sim.h"

static const char *const nodes[] = { "laptop", "server", "desk" };

static const char *
node_name(void *ctx, uint64_t id)
{
	(void)ctx;
	(void)id;
	return "node";
}

static void
write_to(struct state *s, struct reg *r, uint64_t n)
{
	struct version v = { .dot = { s->self, n }, .kind = KIND_FILE, .slot = mem_str("") };

	vv_raise(&r->shown.ctx, v.dot);
	regval_add(&r->shown, &v);
	state_reg_changed(s, r);
}

static void
test_stamps_only_rise_whatever_the_clock_does(void **state)
{
	struct state_io io = { .node_name = node_name };
	struct state *s = state_new(1, &io);
	uint64_t last = 0;

	(void)state;
	for (int i = 0; i < 10; i++) {
		s->now = i == 3 ? 1000 : i == 7 ? 10 : s->now;
		if (i == 5)
			state_saw(s, 5000);
		assert_true(state_stamp(s).hlc > last);
		last = s->hlc;
	}
	assert_true(last > 5000);
	state_free(s);
}

static void
test_events_are_numbered_without_gaps(void **state)
{
	struct state_io io = { .node_name = node_name };
	struct state *s = state_new(7, &io);
	struct vv ctx = { 0 };

	(void)state;
	for (uint64_t n = 1; n < 5; n++) {
		struct dot d = state_event(s, &ctx);

		assert_true(d.id == 7 && d.n == n);
		assert_int_equal(vv_get(&ctx, 7), n);
		assert_int_equal(vv_get(&s->know, 7), n);
	}
	vv_fini(&ctx);
	state_free(s);
}

struct loader {
	unsigned loads;
};

static bool
load_one(void *ctx, struct reg *r)
{
	struct version v = { .dot = { 1, 1 }, .kind = KIND_FILE, .slot = mem_str("") };

	((struct loader *)ctx)->loads++;
	if (strcmp(reg_name(r), "stored") != 0) {
		version_fini(&v);
		return false;
	}
	vv_raise(&r->shown.ctx, v.dot);
	regval_add(&r->shown, &v);
	return true;
}

static void
test_registers_are_loaded_once_and_let_go_when_written(void **state)
{
	struct loader loader = { 0 };
	struct state_io io = { .ctx = &loader, .load = load_one, .node_name = node_name };
	struct state *s = state_new(1, &io);
	struct reg *r = state_reg(s, s->root, "stored", false), *fresh;

	(void)state;
	assert_non_null(r);
	assert_ptr_equal(state_reg(s, s->root, "stored", false), r);
	assert_int_equal(loader.loads, 1);
	assert_null(state_reg(s, s->root, "missing", false));
	fresh = state_reg(s, s->root, "missing", true);
	write_to(s, fresh, 1);
	state_trim(s, 0);
	/* What is to be written stays. */
	assert_int_equal(HASH_COUNT(s->regs), 1);
	assert_ptr_equal(state_reg(s, s->root, "missing", false), fresh);
	loader.loads = 0;
	state_reg(s, s->root, "stored", false);
	assert_int_equal(loader.loads, 1);
	state_free(s);
}

static void
test_changes_are_listed_once_and_numbered(void **state)
{
	struct state_io io = { .node_name = node_name };
	struct state *s = state_new(1, &io);
	struct reg *r = state_reg(s, s->root, "f", true);

	(void)state;
	write_to(s, r, 1);
	write_to(s, r, 2);
	assert_int_equal(s->dirty_regs.len, 1);
	assert_int_equal(s->touched_regs.len, 1);
	assert_int_equal(r->seq, 2);
	assert_int_equal(s->root->files, 1);
	regval_remove(&r->shown, (struct dot){ 1, 1 });
	regval_remove(&r->shown, (struct dot){ 1, 2 });
	state_reg_changed(s, r);
	assert_int_equal(s->root->files, 0);
	state_free(s);
}

static void
test_what_is_pending_stays_at_or_above_what_is_shown(void **state)
{
	struct state_io io = { .node_name = node_name };
	struct state *s = state_new(1, &io);
	struct reg *r = state_reg(s, s->root, "f", true);
	struct version v = { .dot = { 2, 1 }, .kind = KIND_FILE, .slot = mem_str("") };

	(void)state;
	r->pending = mem_alloc(sizeof(*r->pending));
	vv_raise(&r->pending->ctx, v.dot);
	regval_add(r->pending, &v);
	state_reg_changed(s, r);
	assert_ptr_equal(reg_known(r), r->pending);
	assert_int_equal(s->root->files, 0);
	write_to(s, r, 1);	/* by a user who does not see it yet: concurrent */
	assert_int_equal(r->pending->len, 2);
	assert_int_equal(r->shown.len, 1);
	state_reg_show(s, r);
	assert_null(r->pending);
	assert_int_equal(r->shown.len, 2);
	assert_int_equal(s->root->files, 1);
	state_free(s);
}

static void
init(struct sim *sim)
{
	sim_init(sim, nodes, 3);
	for (size_t i = 0; i < 3; i++)
		sim->s[i]->now = 1000 * (i + 1);
}

static void
test_a_ring_of_three_opens_alike_everywhere(void **state)
{
	struct sim sim;
	char *trees[3];

	(void)state;
	init(&sim);
	sim_mkdir(sim.s[0], "a", 0755, DIR_MADE_HERE);
	sim_mkdir(sim.s[0], "b", 0755, DIR_MADE_HERE);
	sim_mkdir(sim.s[0], "c", 0755, DIR_MADE_HERE);
	sim_pull_all(&sim);
	sim_rename(sim.s[0], "a", "b/a");
	sim_rename(sim.s[1], "b", "c/b");
	sim_rename(sim.s[2], "c", "a/c");
	sim_pull_all(&sim);
	for (size_t i = 0; i < 3; i++) {
		trees[i] = sim_tree(sim.s[i]);
		assert_int_equal(sim.s[i]->displaced, 1);
	}
	assert_string_equal(trees[0], "c\t-\t755\nc/b\t-\t755\nc/b/a\t-\t755\n");
	assert_string_equal(trees[1], trees[0]);
	assert_string_equal(trees[2], trees[0]);
	for (size_t i = 0; i < 3; i++)
		free(trees[i]);
	/* Moved out of it, all is as it says again. */
	assert_int_equal(sim_rename(sim.s[0], "c/b", "b"), 0);
	sim_pull_all(&sim);
	for (size_t i = 0; i < 3; i++)
		assert_non_null(state_at(sim.s[i], sim.s[i]->root, "b"));
	sim_fini(&sim);
}

/* What it goes back to hangs from it as well: it shows in the root, under a name
 * that a disk can hold. */
static void
test_a_long_name_out_of_a_ring_is_cut(void **state)
{
	char d[251], in_q[260], in_w[260], w_in_d[260], *tree, *other;
	struct sim sim;

	(void)state;
	init(&sim);
	memset(d, 'd', sizeof(d) - 1);
	d[sizeof(d) - 1] = '\0';
	snprintf(in_q, sizeof(in_q), "q/%s", d);
	snprintf(in_w, sizeof(in_w), "w/%s", d);
	snprintf(w_in_d, sizeof(w_in_d), "q/%s/w", d);
	sim_mkdir(sim.s[0], "q", 0755, DIR_MADE_HERE);
	sim_mkdir(sim.s[0], "w", 0755, DIR_MADE_HERE);
	sim_mkdir(sim.s[0], in_q, 0755, DIR_MADE_HERE);
	sim_pull_all(&sim);
	sim.s[0]->now = 100000;
	assert_int_equal(sim_rename(sim.s[0], in_q, in_w), 0);
	assert_int_equal(sim_rename(sim.s[1], "w", w_in_d), 0);
	assert_int_equal(sim_rename(sim.s[2], "q", "w/q"), 0);
	sim_pull_all(&sim);
	tree = sim_tree(sim.s[0]);
	other = sim_tree(sim.s[1]);
	assert_string_equal(tree, other);
	free(other);
	assert_int_equal(strcspn(tree, "\t"), STATE_NAME_MAX);
	tree[STATE_NAME_MAX] = '\0';
	assert_string_equal(strchr(tree, '.'), ".conflict-laptop");
	/* And can be moved away from there. */
	sim.s[0]->now = 200000;
	assert_int_equal(sim_rename(sim.s[0], tree, "d"), 0);
	sim_pull_all(&sim);
	for (size_t i = 0; i < 3; i++)
		assert_non_null(state_at(sim.s[i], sim.s[i]->root, "d"));
	free(tree);
	sim_fini(&sim);
}

static void
test_a_directory_is_found_by_identity_number_and_place(void **state)
{
	struct sim sim;
	struct dir *d;

	(void)state;
	init(&sim);
	sim_mkdir(sim.s[0], "d", 0755, DIR_MADE_HERE);
	d = state_at(sim.s[0], sim.s[0]->root, "d");
	assert_non_null(d);
	assert_ptr_equal(state_dir(sim.s[0], &d->id), d);
	assert_ptr_equal(state_dir_num(sim.s[0], d->num), d);
	assert_ptr_equal(state_dir_num(sim.s[0], 1), sim.s[0]->root);
	assert_null(state_dir_num(sim.s[0], 1000000));
	assert_null(state_at(sim.s[0], d, "d"));
	sim_fini(&sim);
}

static void
test_those_made_in_it_follow_an_identity(void **state)
{
	struct sim sim;
	struct state *s;
	struct dir *d, *in;
	struct identity expected;
	uint64_t num;

	(void)state;
	init(&sim);
	s = sim.s[0];
	sim_mkdir(s, "d", 0755, DIR_MADE_HERE);
	sim_mkdir(s, "d/in", 0755, DIR_MADE_HERE);
	sim_write(s, "d/in/f", "kept");
	d = state_at(s, s->root, "d");
	in = state_at(s, d, "in");
	num = in->num;
	state_take_identity(s, d, (struct place){ s->root, "e" }, 0);
	expected = identity_make(&s->root->id, "e", 0);
	assert_ptr_equal(state_dir(s, &expected), d);
	expected = identity_make(&d->id, "in", 0);
	assert_ptr_equal(state_dir(s, &expected), in);
	assert_int_equal(in->num, num);
	assert_int_equal(in->files, 1);
	sim_fini(&sim);
}

static void
test_a_number_in_use_is_not_given_again(void **state)
{
	struct sim sim;
	struct state *s;
	struct place at;

	(void)state;
	init(&sim);
	s = sim.s[0];
	at = (struct place){ s->root, "d" };
	assert_int_equal(state_free_number(s, at, false), 0);
	sim_mkdir(s, "d", 0755, DIR_MADE_HERE);
	assert_int_equal(state_free_number(s, at, false), 1);
	assert_int_equal(state_free_number(s, at, true), 1);
	sim_rmdir(s, "d");
	assert_int_equal(state_free_number(s, at, true), 0);
	assert_int_equal(state_free_number(s, at, false), 1);
	sim_fini(&sim);
}

static void
test_directories_are_found_by_when_they_changed(void **state)
{
	struct state_io io = { .node_name = node_name };
	struct state *s = state_new(1, &io);
	struct dir *d[5];

	(void)state;
	assert_null(state_dirs_since(s, 0));
	for (int i = 0; i < 5; i++) {
		char name[] = { (char)('a' + i), '\0' };

		assert_int_equal(local_mkdir(s, s->root, name, 0755, DIR_MADE_HERE, &d[i]), 0);
	}
	assert_ptr_equal(state_dirs_since(s, 0), d[0]);
	assert_ptr_equal(state_dirs_since(s, d[2]->seq), d[3]);
	assert_null(state_dirs_since(s, s->seq));
	/* One from the middle and the first change: they are the last now. */
	state_dir_changed(s, d[2]);
	state_dir_changed(s, d[0]);
	assert_ptr_equal(state_dirs_since(s, 0), d[1]);
	assert_ptr_equal(state_dirs_since(s, d[4]->seq), d[2]);
	assert_ptr_equal(d[2]->seq_next, d[0]);
	assert_null(d[0]->seq_next);
	state_drop_dirs(s, &d[0], 1);
	assert_null(d[2]->seq_next);
	assert_ptr_equal(state_dirs_since(s, d[4]->seq), d[2]);
	state_free(s);
}

static void
test_what_no_peer_has_heard_of_is_listed(void **state)
{
	struct state_io io = { .node_name = node_name };
	struct state *s = state_new(1, &io);
	struct dir *a, *b, *c;

	(void)state;
	local_mkdir(s, s->root, "a", 0755, DIR_MADE_HERE, &a);
	local_mkdir(s, a, "b", 0755, DIR_MADE_HERE, &b);
	local_mkdir(s, s->root, "c", 0755, DIR_TAKEN_IN, &c);
	assert_int_equal(local_move(s, s->root, "c", a, "c"), 0);
	assert_true(s->untold_moved);
	assert_ptr_equal(s->untold, a);
	assert_ptr_equal(a->new_next, b);
	assert_ptr_equal(b->new_next, c);
	/* With b a, in which it was made. */
	take_told_one(s, b);
	assert_ptr_equal(s->untold, c);
	assert_null(c->new_next);
	take_told(s);
	assert_null(s->untold);
	assert_false(s->untold_moved);
	state_free(s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stamps_only_rise_whatever_the_clock_does),
		cmocka_unit_test(test_events_are_numbered_without_gaps),
		cmocka_unit_test(test_registers_are_loaded_once_and_let_go_when_written),
		cmocka_unit_test(test_changes_are_listed_once_and_numbered),
		cmocka_unit_test(test_what_is_pending_stays_at_or_above_what_is_shown),
		cmocka_unit_test(test_a_ring_of_three_opens_alike_everywhere),
		cmocka_unit_test(test_a_long_name_out_of_a_ring_is_cut),
		cmocka_unit_test(test_a_directory_is_found_by_identity_number_and_place),
		cmocka_unit_test(test_those_made_in_it_follow_an_identity),
		cmocka_unit_test(test_a_number_in_use_is_not_given_again),
		cmocka_unit_test(test_directories_are_found_by_when_they_changed),
		cmocka_unit_test(test_what_no_peer_has_heard_of_is_listed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
