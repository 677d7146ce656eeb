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

	*p = (struct packing){ .off = p->off, .stay = p->stay, .rate = { p->rate[0], p->rate[1] } };
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
	assert_in_range(send_over(&p, 256, 150000, 300000), 200, 210);
	assert_in_range(send_over(&p, 1024, 150000, 300000), 900, 980);
}

static void
test_where_packing_is_as_fast_it_is_kept(void **state)
{
	struct packing p = { 0 };

	(void)state;
	assert_in_range(send_over(&p, 1024, 200000, 215000), 48, 128);
}

static void
test_it_notices_that_a_link_became_slow(void **state)
{
	struct packing p = { 0 };

	(void)state;
	send_over(&p, 256, 150000, 300000);
	assert_true(p.off);
	assert_in_range(send_over(&p, 1024, 40000, 20000), 48, 400);
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
		packing_pause(&p, now + 2);
	}
	assert_int_equal(p.rate[false], 0);
	assert_false(p.off);
}

/* One that asks for 2 MiB at a time, and for the next when it has them. */
static void
test_a_peer_that_asks_bit_by_bit(void **state)
{
	struct packing p = { 0 };
	unsigned plain = 0;
	int64_t now = 1000;

	(void)state;
	for (int i = 0; i < 128; i++) {
		for (int k = 0; k < 16; k++) {
			plain += p.off;
			now += p.off ? k % 4 == 0 : k % 4 != 0;
			packing_sent(&p, BLOCK, now);
		}
		packing_pause(&p, now + 1);
		packing_pause(&p, now + 2);
		now += 3;
	}
	assert_in_range(p.rate[false], (2 << 20) / 16, (2 << 20) / 14);
	assert_in_range(plain * BLOCK >> 20, 200, 240);
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
		cmocka_unit_test(test_a_peer_that_asks_bit_by_bit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
