/*
 * Blocks of numbers: which lose, whatever is heard first, and what dots are
 * called then.
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replication/lineage.h"
#include "replication/mem.h"
#include "tests/lib/random.h"

#define ROOT 100

static void
learn(struct lineage *x, uint64_t token, uint64_t parent, uint64_t start, uint64_t last)
{
	assert_int_equal(lineage_learn(x, token, parent, start), 0);
	lineage_reach(x, token, last);
}

static void
settle(struct lineage *x)
{
	size_t n;

	free(lineage_settle(x, &n));
}

static uint64_t
id_of(const struct lineage *x, uint64_t token)
{
	return lineage_find(x, token)->id;
}

/* A root and one block, numbers 1 to 5. */
static void
five(struct lineage *x)
{
	learn(x, ROOT, 0, 0, 0);
	learn(x, 10, ROOT, 1, 5);
	settle(x);
}

static void
test_blocks_that_follow_each_other_are_one_incarnation(void **state)
{
	struct lineage x = { 0 };

	(void)state;
	five(&x);
	learn(&x, 20, 10, 6, 9);
	learn(&x, 5, 20, 10, 10);
	settle(&x);
	assert_int_equal(id_of(&x, 10), ROOT);
	assert_int_equal(id_of(&x, 20), ROOT);
	assert_int_equal(id_of(&x, 5), ROOT);
	assert_int_equal(lineage_at(&x, ROOT, 7)->token, 20);
	assert_int_equal(lineage_tip(&x, ROOT)->token, 5);
	lineage_fini(&x);
}

static void
test_a_block_loses_to_the_one_it_follows_if_that_went_on(void **state)
{
	struct lineage x = { 0 };
	struct relabel *l;
	size_t n;

	(void)state;
	five(&x);
	learn(&x, 20, 10, 6, 8);
	learn(&x, 30, 20, 9, 9);
	settle(&x);
	assert_int_equal(id_of(&x, 30), ROOT);
	lineage_reach(&x, 10, 6);
	l = lineage_settle(&x, &n);
	assert_int_equal(id_of(&x, 20), 20);
	assert_int_equal(id_of(&x, 30), 20);
	assert_int_equal(n, 2);
	assert_int_equal(lineage_dot((struct dot){ ROOT, 5 }, l, n).id, ROOT);
	assert_int_equal(lineage_dot((struct dot){ ROOT, 6 }, l, n).id, 20);
	assert_int_equal(lineage_dot((struct dot){ ROOT, 9 }, l, n).id, 20);
	assert_int_equal(lineage_dot((struct dot){ 7, 9 }, l, n).id, 7);
	free(l);
	lineage_fini(&x);
}

static void
test_of_two_that_follow_the_later_one_stands(void **state)
{
	struct lineage x = { 0 };

	(void)state;
	learn(&x, ROOT, 0, 0, 0);
	learn(&x, 10, ROOT, 1, 3);
	learn(&x, 20, 10, 4, 6);
	learn(&x, 30, 10, 6, 6);
	settle(&x);
	assert_int_equal(id_of(&x, 20), 20);
	assert_int_equal(id_of(&x, 30), ROOT);
	lineage_fini(&x);
}

static void
test_of_two_at_the_same_number_the_higher_token_loses(void **state)
{
	struct lineage x = { 0 };

	(void)state;
	five(&x);
	learn(&x, 30, 10, 6, 6);
	learn(&x, 20, 10, 6, 6);
	settle(&x);
	assert_int_equal(id_of(&x, 20), ROOT);
	assert_int_equal(id_of(&x, 30), 30);
	lineage_fini(&x);
}

static void
test_vectors_are_split_where_the_block_begins(void **state)
{
	struct relabel l[] = { { ROOT, 8, 30 }, { ROOT, 4, 20 } };
	struct vv v = { 0 }, w = { 0 };

	(void)state;
	vv_raise(&v, (struct dot){ ROOT, 9 });
	vv_raise(&v, (struct dot){ 7, 9 });
	assert_true(lineage_vector(&v, l, 2));
	assert_int_equal(vv_get(&v, ROOT), 3);
	assert_int_equal(vv_get(&v, 20), 7);
	assert_int_equal(vv_get(&v, 30), 9);
	assert_int_equal(vv_get(&v, 7), 9);
	assert_false(lineage_vector(&v, l, 2));
	vv_raise(&w, (struct dot){ ROOT, 9 });
	assert_true(lineage_doubt(&w, l, 2));
	assert_int_equal(vv_get(&w, ROOT), 3);
	assert_int_equal(w.len, 1);
	vv_fini(&v);
	vv_fini(&w);
}

static void
test_nonsense_is_refused(void **state)
{
	struct lineage x = { 0 };

	(void)state;
	five(&x);
	assert_int_equal(lineage_learn(&x, 10, ROOT, 1), 0);
	assert_int_equal(lineage_learn(&x, 10, ROOT, 2), -EBADMSG);
	assert_int_equal(lineage_learn(&x, 0, ROOT, 6), -EBADMSG);
	assert_int_equal(lineage_learn(&x, 20, 77, 6), -EBADMSG);
	assert_int_equal(lineage_learn(&x, 20, 10, 1), -EBADMSG);
	assert_int_equal(lineage_learn(&x, 20, 0, 1), -EBADMSG);
	assert_int_equal(lineage_learn(&x, 20, 10, UINT64_MAX), -EBADMSG);
	lineage_fini(&x);
}

struct known {
	uint64_t token, parent, start, last;
};

/* A tree as restored stores make it. */
static size_t
random_tree(struct known *out, size_t max)
{
	size_t n = 0;

	out[n++] = (struct known){ ROOT, 0, 0, 0 };
	while (n < max) {
		const struct known *up = &out[random_below(n)];
		uint64_t start = up->start + 1 + random_below(up->last - up->start + 1);

		out[n++] = (struct known){ random_number() | 1, up->token, start, start + random_below(4) };
	}
	return n;
}

/* Some of it, parents first, in the order of the list. */
static void
learn_in_order(struct lineage *x, const struct known *all, size_t n, const size_t *order)
{
	bool again = true;

	while (again) {
		again = false;
		for (size_t i = 0; i < n; i++) {
			const struct known *k = &all[order[i]];

			if (lineage_find(x, k->token) || (k->parent && !lineage_find(x, k->parent)))
				continue;
			learn(x, k->token, k->parent, k->start, k->last);
			if (random_chance(50))
				settle(x);
			again = true;
		}
	}
	settle(x);
}

static void
test_the_order_in_which_it_is_heard_does_not_matter(void **state)
{
	(void)state;
	for (int round = 0; round < 300; round++) {
		struct known all[24];
		size_t n = random_tree(all, 2 + random_below(22)), order[24];
		struct lineage x = { 0 }, y = { 0 };

		for (size_t i = 0; i < n; i++)
			order[i] = i;
		learn_in_order(&x, all, n, order);
		for (size_t i = n; i-- > 1;) {
			size_t j = random_below(i + 1), k = order[i];

			order[i] = order[j];
			order[j] = k;
		}
		learn_in_order(&y, all, n, order);
		for (size_t i = 0; i < n; i++)
			assert_true(id_of(&x, all[i].token) == id_of(&y, all[i].token));
		/* What stands under one id never overlaps. */
		for (struct block *b = x.blocks; b; b = b->hh.next)
			for (struct block *c = x.blocks; c; c = c->hh.next)
				if (b != c && b->id == c->id && b->start < c->start)
					assert_true(b->last < c->start);
		lineage_fini(&x);
		lineage_fini(&y);
	}
}

static void
test_landmarks_tell_what_another_lacks(void **state)
{
	(void)state;
	for (int round = 0; round < 300; round++) {
		struct known all[40];
		size_t n = random_tree(all, 2 + random_below(38)), marks_len, lack;
		struct lineage x = { 0 }, y = { 0 };
		uint64_t *marks;
		struct block **list;

		for (size_t i = 0; i < n; i++)
			learn(&x, all[i].token, all[i].parent, all[i].start, all[i].last);
		settle(&x);
		for (size_t i = 0; i < n; i++)
			if ((!all[i].parent || lineage_find(&y, all[i].parent)) && random_chance(70))
				learn(&y, all[i].token, all[i].parent, all[i].start, all[i].last);
		settle(&y);
		marks = lineage_landmarks(&y, &marks_len);
		list = lineage_lacking(&x, marks, marks_len, &lack);
		for (size_t i = 0; i < lack; i++)
			assert_int_equal(lineage_learn(&y, list[i]->token, list[i]->parent, list[i]->start), 0);
		for (size_t i = 0; i < n; i++)
			assert_non_null(lineage_find(&y, all[i].token));
		free(list);
		free(marks);
		lineage_fini(&x);
		lineage_fini(&y);
	}
}

static void
test_landmarks_of_a_long_line_are_few(void **state)
{
	struct lineage x = { 0 };
	size_t n, lack;
	uint64_t *marks;
	struct block **list;

	(void)state;
	learn(&x, ROOT, 0, 0, 0);
	for (uint64_t i = 1; i <= 5000; i++)
		learn(&x, ROOT + i, ROOT + i - 1, i, i);
	settle(&x);
	marks = lineage_landmarks(&x, &n);
	assert_in_range(n, 10, 20);
	learn(&x, ROOT + 5001, ROOT + 5000, 5001, 5001);
	settle(&x);
	list = lineage_lacking(&x, marks, n, &lack);
	assert_int_equal(lack, 1);
	free(list);
	free(marks);
	lineage_fini(&x);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks_that_follow_each_other_are_one_incarnation),
		cmocka_unit_test(test_a_block_loses_to_the_one_it_follows_if_that_went_on),
		cmocka_unit_test(test_of_two_that_follow_the_later_one_stands),
		cmocka_unit_test(test_of_two_at_the_same_number_the_higher_token_loses),
		cmocka_unit_test(test_vectors_are_split_where_the_block_begins),
		cmocka_unit_test(test_nonsense_is_refused),
		cmocka_unit_test(test_the_order_in_which_it_is_heard_does_not_matter),
		cmocka_unit_test(test_landmarks_tell_what_another_lacks),
		cmocka_unit_test(test_landmarks_of_a_long_line_are_few),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
