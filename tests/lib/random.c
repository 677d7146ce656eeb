/*
 * splitmix64, and values made with it.
 */
#include "config.h"

#include "tests/lib/random.h"

#include <stdio.h>
#include <stdlib.h>

#include "replication/mem.h"

static uint64_t at;

void
random_reset(uint64_t seed)
{
	at = seed;
}

uint64_t
random_state(void)
{
	return at;
}

void
random_init(void)
{
	const char *given = getenv("SIBFS_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 1;

	printf("# SIBFS_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	random_reset(seed);
}

uint64_t
random_number(void)
{
	uint64_t z = at += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

size_t
random_below(size_t n)
{
	return (size_t)(random_number() % n);
}

bool
random_chance(unsigned percent)
{
	return random_below(100) < percent;
}

void
random_bytes(void *p, size_t n)
{
	for (uint8_t *b = p; n--; b++)
		*b = (uint8_t)random_number();
}

struct attrs
random_attrs(void)
{
	static const char *const keys[] = { "mode", "mtime", "owner", "x.user.comment", "x.\xff" };
	struct attrs a = { 0 };
	uint8_t value[40];

	for (size_t i = random_below(5); i > 0; i--) {
		struct stamp stamp = { random_number(), random_below(9) };

		random_bytes(value, sizeof(value));
		attrs_set(&a, keys[random_below(5)], random_chance(20) ? NULL : value,
		    (uint32_t)random_below(sizeof(value)), stamp);
	}
	return a;
}

static struct version
random_version(struct vv *ctx)
{
	static const char *const slots[] = { "", "", "laptop", "server-2", "\xc3\xa9" };
	struct version v = { .dot = { 1 + random_below(1000000), 1 + random_below(1000) } };

	vv_raise(ctx, v.dot);
	v.kind = random_chance(80) ? KIND_FILE : KIND_SYMLINK;
	v.made = random_chance(50);
	v.has_base = random_chance(50);
	random_bytes(v.hash.b, sizeof(v.hash.b));
	if (v.has_base)
		random_bytes(v.base.b, sizeof(v.base.b));
	v.size = random_number() >> 1;
	v.hlc = random_number();
	v.slot = mem_str(slots[random_below(5)]);
	v.slot_at = (struct stamp){ random_number(), random_number() };
	v.attrs = random_attrs();
	return v;
}

struct regval
random_regval(void)
{
	struct regval r = { 0 };

	for (size_t i = random_below(4); i > 0; i--) {
		struct version v = random_version(&r.ctx);

		if (regval_find(&r, v.dot))
			version_fini(&v);
		else
			regval_add(&r, &v);
	}
	for (size_t i = random_below(4); i > 0; i--)
		vv_raise(&r.ctx, (struct dot){ 1 + random_number() % 50, 1 + random_below(50) });
	for (size_t i = random_below(3); i > 0; i--) {
		struct attrs a = random_attrs();

		attrs_merge(regval_slot(&r, i == 1 ? "" : "laptop"), &a);
		attrs_fini(&a);
	}
	return r;
}
