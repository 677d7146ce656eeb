/*
 * Packing contents or not: on links of several speeds, what is chosen.
 */
#include "config.h"

#include "replication/packing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define BLOCK (128u << 10)

/* Sends MiB over a link that takes so many bytes a millisecond when packed,
 * and so many when not; returns the MiB that went plain. */
static unsigned
send_over(struct packing *p, unsigned mib, double packed, double plain)
{
	double now = 1000;
	unsigned blocks = 0;

	packing_pause(p);
	for (unsigned i = 0; i < mib * 8; i++) {
		blocks += p->off;
		now += BLOCK / (p->off ? plain : packed);
		packing_sent(p, BLOCK, (int64_t)now);
	}
	return blocks / 8;
}

static void
test_a_slow_link_gets_all_packed(void **state)
{
	struct packing p = { 0 };

	(void)state;
	assert_int_equal(send_over(&p, 1024, 50000, 20000), 0);
	assert_int_equal(send_over(&p, 1024, 50000, 90000), 0);
}

static void
test_a_fast_link_gets_most_plain(void **state)
{
	struct packing p = { 0 };

	(void)state;
	assert_in_range(send_over(&p, 256, 150000, 300000), 224, 240);
	assert_in_range(send_over(&p, 1024, 150000, 300000), 940, 1000);
}

static void
test_where_packing_is_as_fast_it_is_kept(void **state)
{
	struct packing p = { 0 };

	(void)state;
	assert_in_range(send_over(&p, 1024, 200000, 230000), 16, 70);
}

static void
test_it_notices_that_a_link_became_slow(void **state)
{
	struct packing p = { 0 };

	(void)state;
	send_over(&p, 256, 150000, 300000);
	assert_true(p.off);
	assert_in_range(send_over(&p, 1024, 40000, 20000), 16, 300);
	assert_false(p.off);
	assert_int_equal(send_over(&p, 1024, 40000, 20000), 0);
}

static void
test_pauses_are_not_counted(void **state)
{
	struct packing p = { 0 };
	int64_t now = 1000;

	(void)state;
	/* A small file each second, over a link that is fast. */
	for (int i = 0; i < 10000; i++, now += 1000) {
		packing_sent(&p, BLOCK, now);
		packing_sent(&p, BLOCK, now + 1);
		packing_pause(&p);
	}
	assert_int_equal(p.rate[false], 0);
	assert_false(p.off);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_slow_link_gets_all_packed),
		cmocka_unit_test(test_a_fast_link_gets_most_plain),
		cmocka_unit_test(test_where_packing_is_as_fast_it_is_kept),
		cmocka_unit_test(test_it_notices_that_a_link_became_slow),
		cmocka_unit_test(test_pauses_are_not_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
