/*
 * Limits: how they are written, and that a bucket keeps to one.
 */
#include "config.h"

#include "replication/throttle.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void
test_limits_are_written_as_people_do(void **state)
{
	struct limit l;

	(void)state;
	assert_int_equal(limit_parse("2M", &l), 0);
	assert_int_equal(l.rate, 2 << 20);
	assert_int_equal(limit_parse("500k", &l), 0);
	assert_int_equal(l.rate, 500 << 10);
	assert_int_equal(limit_parse("0", &l), 0);
	assert_int_equal(l.rate, 0);
	assert_int_equal(limit_parse("1G 22:30-06:00", &l), 0);
	assert_int_equal(l.from_min, 22 * 60 + 30);
	assert_int_equal(l.to_min, 6 * 60);
}

static void
test_anything_else_is_refused(void **state)
{
	static const char *const bad[] = { "", "M", "2X", "2MM", "-1", "99999999999", "2M 8-18", "2M 08:00-25:00",
		"2M 08:61-09:00", "2M 08:00-18:00 x", "2M 08:00" };
	struct limit l;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(limit_parse(bad[i], &l), -EINVAL);
}

static void
test_hours_may_go_over_midnight(void **state)
{
	struct limit day = { 1000, 8 * 60, 18 * 60 }, night = { 1000, 22 * 60, 6 * 60 }, always = { 1000, 0, 0 };

	(void)state;
	assert_int_equal(limit_at(&day, 8 * 60), 1000);
	assert_int_equal(limit_at(&day, 18 * 60), 0);
	assert_int_equal(limit_at(&day, 0), 0);
	assert_int_equal(limit_at(&night, 23 * 60), 1000);
	assert_int_equal(limit_at(&night, 60), 1000);
	assert_int_equal(limit_at(&night, 12 * 60), 0);
	assert_int_equal(limit_at(&always, 12 * 60), 1000);
}

/* Takes all it may, every step_ms, for ms. */
static uint64_t
run(struct throttle *t, int64_t *now, int64_t ms, int64_t step_ms)
{
	uint64_t sum = 0;

	for (int64_t end = *now + ms; *now < end; *now += step_ms) {
		size_t n = throttle_allow(t, *now);

		throttle_used(t, n);
		sum += n;
	}
	return sum;
}

static void
test_a_bucket_keeps_to_its_limit_however_often_it_is_asked(void **state)
{
	static const int64_t steps[] = { 1, 7, 50, 90 };
	static const uint64_t rates[] = { 300, 50000, 2 << 20 };

	(void)state;
	for (size_t i = 0; i < 4; i++)
		for (size_t j = 0; j < 3; j++) {
			struct throttle t = { 0 };
			int64_t now = 12345;
			uint64_t sum;

			throttle_set(&t, rates[j], now);
			sum = run(&t, &now, 20000, steps[i]);
			assert_in_range(sum, rates[j] * 19, rates[j] * 20 + 4096);
		}
}

static void
test_a_long_rest_saves_up_no_more_than_a_burst(void **state)
{
	struct throttle t = { 0 };

	(void)state;
	throttle_set(&t, 100000, 1000);
	assert_in_range(throttle_allow(&t, 100000000), 1, 10000);
}

static void
test_it_says_when_to_come_again(void **state)
{
	struct throttle t = { 0 };
	int64_t wait;

	(void)state;
	assert_int_equal(throttle_wait_ms(&t, 5), 0);
	throttle_set(&t, 100000, 1000);
	throttle_used(&t, 50000);
	wait = throttle_wait_ms(&t, 1000);
	assert_in_range(wait, 500, 560);
	assert_true(throttle_allow(&t, 1000 + wait) > 0);
}

static void
test_without_a_limit_anything_goes(void **state)
{
	struct throttle t = { 0 };

	(void)state;
	throttle_used(&t, 1 << 30);
	assert_true(throttle_allow(&t, 1) == SIZE_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits_are_written_as_people_do),
		cmocka_unit_test(test_anything_else_is_refused),
		cmocka_unit_test(test_hours_may_go_over_midnight),
		cmocka_unit_test(test_a_bucket_keeps_to_its_limit_however_often_it_is_asked),
		cmocka_unit_test(test_a_long_rest_saves_up_no_more_than_a_burst),
		cmocka_unit_test(test_it_says_when_to_come_again),
		cmocka_unit_test(test_without_a_limit_anything_goes),
	};

	return cmocka_run_group_tests_name("throttle", tests, NULL, NULL);
}
