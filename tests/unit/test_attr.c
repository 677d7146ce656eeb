/*
 * Attributes: the newest of each key wins, whatever the order of merging.
 */
#include "config.h"

#include "replication/attr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/random.h"

/* Few stamps, so that some meet; of one stamp always one value. */
static struct attrs
some_attrs(void)
{
	static const char *const keys[] = { "x.a", "mode", "mtime", "owner" };
	struct attrs a = { 0 };

	for (size_t n = random_below(5); n > 0; n--) {
		struct stamp at = { 1 + random_below(4), 1 + random_below(3) };
		char value[2] = { (char)('a' + at.hlc), (char)('a' + at.id) };

		attrs_set(&a, keys[random_below(4)], (at.hlc + at.id) % 4 ? value : NULL, 2, at);
	}
	return a;
}

static void
assert_equal(const struct attrs *a, const struct attrs *b)
{
	assert_int_equal(a->len, b->len);
	for (uint32_t i = 0; i < a->len; i++) {
		assert_string_equal(a->c[i].key, b->c[i].key);
		assert_true(cell_same_value(&a->c[i], &b->c[i]));
		assert_int_equal(stamp_compare(a->c[i].at, b->c[i].at), 0);
		assert_true(i == 0 || strcmp(a->c[i - 1].key, a->c[i].key) < 0);
	}
}

static struct attrs
merged(const struct attrs *a, const struct attrs *b)
{
	struct attrs out = attrs_copy(a);

	attrs_merge(&out, b);
	return out;
}

static void
test_merging_is_commutative_associative_idempotent(void **state)
{
	(void)state;
	for (int i = 0; i < 2000; i++) {
		struct attrs a = some_attrs(), b = some_attrs(), c = some_attrs();
		struct attrs ab = merged(&a, &b), ba = merged(&b, &a), bc = merged(&b, &c);
		struct attrs left = merged(&ab, &c), right = merged(&a, &bc), again = merged(&ab, &b);

		assert_equal(&ab, &ba);
		assert_equal(&left, &right);
		assert_equal(&ab, &again);
		attrs_fini(&a);
		attrs_fini(&b);
		attrs_fini(&c);
		attrs_fini(&ab);
		attrs_fini(&ba);
		attrs_fini(&bc);
		attrs_fini(&left);
		attrs_fini(&right);
		attrs_fini(&again);
	}
}

static void
test_a_removal_is_a_value_that_can_win(void **state)
{
	struct attrs a = { 0 }, b = { 0 };

	(void)state;
	attrs_set(&a, "x.k", "v", 1, (struct stamp){ 5, 1 });
	attrs_set(&b, "x.k", NULL, 0, (struct stamp){ 5, 2 });
	attrs_merge(&a, &b);
	assert_non_null(attrs_find(&a, "x.k"));
	assert_null(attrs_find(&a, "x.k")->value);
	attrs_set(&b, "x.k", "", 0, (struct stamp){ 6, 1 });
	attrs_merge(&a, &b);
	assert_non_null(attrs_find(&a, "x.k")->value);
	assert_int_equal(attrs_find(&a, "x.k")->len, 0);
	attrs_fini(&a);
	attrs_fini(&b);
}

static void
test_same_values_are_told_without_their_stamps(void **state)
{
	struct attrs a = { 0 }, b = { 0 };

	(void)state;
	attrs_set(&a, "mode", "644", 3, (struct stamp){ 1, 1 });
	attrs_set(&b, "mode", "644", 3, (struct stamp){ 9, 2 });
	attrs_set(&b, "x.gone", NULL, 0, (struct stamp){ 9, 2 });
	assert_true(attrs_same_values(&a, &b));
	assert_true(attrs_same_values(&b, &a));
	attrs_set(&b, "x.empty", "", 0, (struct stamp){ 9, 2 });
	assert_false(attrs_same_values(&a, &b));
	assert_false(attrs_same_values(&b, &a));
	attrs_fini(&a);
	attrs_fini(&b);
}

static void
test_modes_are_octal_and_others_fall_back(void **state)
{
	static const char *const bad[] = { "", "8", "0x1", "1234567", " 644", "-1" };
	struct attrs a = { 0 };
	struct stamp at = { 1, 1 };

	(void)state;
	assert_int_equal(attrs_mode(&a, 0123), 0123);
	attrs_set_mode(&a, 04755, at);
	assert_int_equal(attrs_mode(&a, 0), 04755);
	attrs_set_mode(&a, 0100644, at);
	assert_int_equal(attrs_mode(&a, 0), 0644);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		attrs_set(&a, "mode", bad[i], (uint32_t)strlen(bad[i]), at);
		assert_int_equal(attrs_mode(&a, 0123), 0123);
	}
	attrs_set(&a, "mode", NULL, 0, at);
	assert_int_equal(attrs_mode(&a, 0123), 0123);
	attrs_fini(&a);
}

static void
test_the_highest_stamp_is_found(void **state)
{
	struct attrs a = { 0 };

	(void)state;
	assert_int_equal(attrs_hlc(&a), 0);
	attrs_set(&a, "b", "", 0, (struct stamp){ 7, 1 });
	attrs_set(&a, "a", NULL, 0, (struct stamp){ 9, 1 });
	attrs_set(&a, "c", "", 0, (struct stamp){ 8, 1 });
	assert_int_equal(attrs_hlc(&a), 9);
	attrs_fini(&a);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_merging_is_commutative_associative_idempotent),
		cmocka_unit_test(test_a_removal_is_a_value_that_can_win),
		cmocka_unit_test(test_same_values_are_told_without_their_stamps),
		cmocka_unit_test(test_modes_are_octal_and_others_fall_back),
		cmocka_unit_test(test_the_highest_stamp_is_found),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
