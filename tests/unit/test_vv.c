/*
 * Version vectors: a lattice, and its four orders.
 */
#include "config.h"

#include "replication/vv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/random.h"

static struct vv
random_vv(void)
{
	struct vv v = { 0 };

	for (size_t n = random_below(6); n > 0; n--)
		vv_raise(&v, (struct dot){ 1 + random_below(5), 1 + random_below(4) });
	return v;
}

static void
assert_equal(const struct vv *a, const struct vv *b)
{
	assert_int_equal(vv_compare(a, b), VV_EQUAL);
	assert_int_equal(a->len, b->len);
	if (a->len)
		assert_memory_equal(a->e, b->e, a->len * sizeof(*a->e));
}

static void
test_an_absent_id_counts_as_zero(void **state)
{
	struct vv v = { 0 };

	(void)state;
	assert_int_equal(vv_get(&v, 7), 0);
	vv_raise(&v, (struct dot){ 7, 0 });
	assert_int_equal(v.len, 0);
	vv_raise(&v, (struct dot){ 7, 3 });
	assert_int_equal(vv_get(&v, 7), 3);
	assert_int_equal(vv_get(&v, 6), 0);
	vv_fini(&v);
}

static void
test_raising_never_lowers_and_keeps_order(void **state)
{
	struct vv v = { 0 };

	(void)state;
	for (uint64_t id = 9; id > 0; id--)
		vv_raise(&v, (struct dot){ id, id + 1 });
	for (uint64_t id = 9; id > 0; id--)
		vv_raise(&v, (struct dot){ id, 1 });
	assert_int_equal(v.len, 9);
	for (uint32_t i = 0; i < v.len; i++) {
		assert_int_equal(v.e[i].id, i + 1);
		assert_int_equal(v.e[i].n, i + 2);
	}
	vv_fini(&v);
}

static void
test_a_dot_is_covered_from_its_number_on(void **state)
{
	struct vv v = { 0 };

	(void)state;
	vv_raise(&v, (struct dot){ 4, 5 });
	assert_true(vv_covers(&v, (struct dot){ 4, 4 }));
	assert_true(vv_covers(&v, (struct dot){ 4, 5 }));
	assert_false(vv_covers(&v, (struct dot){ 4, 6 }));
	assert_false(vv_covers(&v, (struct dot){ 5, 1 }));
	vv_fini(&v);
}

static void
test_there_are_four_orders(void **state)
{
	struct vv a = { 0 }, b = { 0 };

	(void)state;
	assert_int_equal(vv_compare(&a, &b), VV_EQUAL);
	vv_raise(&a, (struct dot){ 1, 1 });
	assert_int_equal(vv_compare(&a, &b), VV_AFTER);
	assert_int_equal(vv_compare(&b, &a), VV_BEFORE);
	vv_raise(&b, (struct dot){ 2, 1 });
	assert_int_equal(vv_compare(&a, &b), VV_CONCURRENT);
	vv_join(&a, &b);
	assert_int_equal(vv_compare(&a, &b), VV_AFTER);
	vv_fini(&a);
	vv_fini(&b);
}

static void
test_the_join_is_the_least_that_covers_both(void **state)
{
	(void)state;
	for (int i = 0; i < 2000; i++) {
		struct vv a = random_vv(), b = random_vv(), c = random_vv(), ab = vv_joined(&a, &b), ba = vv_joined(&b, &a);
		struct vv bc = vv_joined(&b, &c), left = vv_joined(&ab, &c), right = vv_joined(&a, &bc);
		struct vv again = vv_joined(&ab, &a);

		assert_equal(&ab, &ba);
		assert_equal(&left, &right);
		assert_equal(&ab, &again);
		assert_true(vv_dominates(&ab, &a) && vv_dominates(&ab, &b));
		if (vv_dominates(&c, &a) && vv_dominates(&c, &b))
			assert_true(vv_dominates(&c, &ab));
		for (uint64_t id = 1; id < 6; id++) {
			uint64_t x = vv_get(&a, id), y = vv_get(&b, id);

			assert_int_equal(vv_get(&ab, id), x > y ? x : y);
		}
		vv_fini(&a);
		vv_fini(&b);
		vv_fini(&c);
		vv_fini(&ab);
		vv_fini(&ba);
		vv_fini(&bc);
		vv_fini(&left);
		vv_fini(&right);
		vv_fini(&again);
	}
}

static void
test_a_copy_lives_on_its_own(void **state)
{
	struct vv a = { 0 }, b;

	(void)state;
	vv_raise(&a, (struct dot){ 1, 1 });
	b = vv_copy(&a);
	vv_raise(&b, (struct dot){ 1, 9 });
	vv_raise(&b, (struct dot){ 2, 9 });
	assert_int_equal(vv_get(&a, 1), 1);
	vv_fini(&a);
	assert_int_equal(vv_get(&b, 2), 9);
	vv_clear(&b);
	assert_int_equal(vv_get(&b, 2), 0);
	vv_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_absent_id_counts_as_zero),
		cmocka_unit_test(test_raising_never_lowers_and_keeps_order),
		cmocka_unit_test(test_a_dot_is_covered_from_its_number_on),
		cmocka_unit_test(test_there_are_four_orders),
		cmocka_unit_test(test_the_join_is_the_least_that_covers_both),
		cmocka_unit_test(test_a_copy_lives_on_its_own),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
