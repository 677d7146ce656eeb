/*
 * Registers: the laws of their join, on values that replicas could hold.
 */
#include "config.h"

#include "replication/reg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replication/mem.h"
#include "tests/lib/random.h"

#define REPLICAS 4

static struct version
version_of(uint64_t id, uint64_t n)
{
	struct version v = { .dot = { id, n }, .kind = KIND_FILE, .slot = mem_str("") };

	v.hash.b[0] = (uint8_t)id;
	v.hash.b[1] = (uint8_t)n;
	attrs_set_mode(&v.attrs, 0644, (struct stamp){ 1, id });
	return v;
}

/* A user's write, removal, label or chmod on one replica's copy. */
static void
random_event(struct regval *r, uint64_t id, uint64_t *clock)
{
	struct stamp at = { ++*clock, id };
	struct version v;
	uint64_t n = vv_get(&r->ctx, id) + 1;

	switch (random_below(6)) {
	case 0:
	case 1:
	case 2:
		v = version_of(id, n);
		while (r->len && random_chance(60))
			regval_remove(r, r->v[random_below(r->len)].dot);
		regval_add(r, &v);
		break;
	case 3:
		if (r->len)
			regval_remove(r, r->v[random_below(r->len)].dot);
		break;
	case 4:
		if (r->len) {
			struct version *p = &r->v[random_below(r->len)];

			free(p->slot);
			p->slot = mem_printf("label%d", (int)random_below(3));
			p->slot_at = at;
		}
		break;
	default:
		attrs_set_mode(regval_slot(r, random_chance(50) ? "" : "label1"), (uint32_t)random_below(512), at);
	}
	vv_raise(&r->ctx, (struct dot){ id, n });
}

/* Copies of one register after some events and joins. */
static void
random_copies(struct regval *r)
{
	uint64_t clock = 0;

	memset(r, 0, REPLICAS * sizeof(*r));
	for (size_t n = random_below(25); n > 0; n--) {
		size_t i = random_below(REPLICAS), j = random_below(REPLICAS);

		if (random_chance(70))
			random_event(&r[i], i + 1, &clock);
		else if (i != j)
			regval_join(&r[i], &r[j], NULL, NULL);
	}
}

static struct regval
joined(const struct regval *a, const struct regval *b)
{
	struct regval out;

	regval_copy(&out, a);
	regval_join(&out, b, NULL, NULL);
	return out;
}

static void
assert_equal(const struct regval *a, const struct regval *b)
{
	assert_true(regval_equal(a, b));
	for (uint32_t i = 1; i < a->len; i++)
		assert_true(dot_compare(a->v[i - 1].dot, a->v[i].dot) < 0);
}

static void
test_the_join_is_commutative_associative_idempotent(void **state)
{
	(void)state;
	for (int i = 0; i < 3000; i++) {
		struct regval r[REPLICAS], ab, ba, bc, left, right, again;

		random_copies(r);
		ab = joined(&r[0], &r[1]);
		ba = joined(&r[1], &r[0]);
		bc = joined(&r[1], &r[2]);
		left = joined(&ab, &r[2]);
		right = joined(&r[0], &bc);
		again = joined(&ab, &r[0]);
		assert_equal(&ab, &ba);
		assert_equal(&left, &right);
		assert_equal(&ab, &again);
		regval_fini(&ab);
		regval_fini(&ba);
		regval_fini(&bc);
		regval_fini(&left);
		regval_fini(&right);
		regval_fini(&again);
		for (size_t k = 0; k < REPLICAS; k++)
			regval_fini(&r[k]);
	}
}

static struct regval
written(uint64_t id)
{
	struct regval r = { 0 };
	struct version v = version_of(id, 1);

	vv_raise(&r.ctx, v.dot);
	regval_add(&r, &v);
	return r;
}

static void
test_concurrent_writes_stay_both(void **state)
{
	struct regval a = written(1), b = written(2);

	(void)state;
	regval_join(&a, &b, NULL, NULL);
	assert_int_equal(a.len, 2);
	regval_fini(&a);
	regval_fini(&b);
}

static void
test_an_edit_survives_a_concurrent_removal(void **state)
{
	struct regval mine = written(1), theirs;
	struct version v = version_of(2, 1);

	(void)state;
	regval_copy(&theirs, &mine);
	regval_remove(&mine, (struct dot){ 1, 1 });
	vv_raise(&mine.ctx, (struct dot){ 1, 2 });
	regval_remove(&theirs, (struct dot){ 1, 1 });
	vv_raise(&theirs.ctx, v.dot);
	regval_add(&theirs, &v);
	regval_join(&mine, &theirs, NULL, NULL);
	assert_int_equal(mine.len, 1);
	assert_int_equal(mine.v[0].dot.id, 2);
	regval_fini(&mine);
	regval_fini(&theirs);
}

static void
test_a_removal_takes_what_it_had_seen(void **state)
{
	struct regval mine = written(1), gone;

	(void)state;
	regval_copy(&gone, &mine);
	regval_remove(&gone, (struct dot){ 1, 1 });
	vv_raise(&gone.ctx, (struct dot){ 2, 1 });
	regval_join(&mine, &gone, NULL, NULL);
	assert_int_equal(mine.len, 0);
	regval_fini(&mine);
	regval_fini(&gone);
}

static void
test_knowledge_stands_for_forgotten_tombstones(void **state)
{
	struct regval mine = { 0 }, theirs = written(1);
	struct vv know = { 0 };

	(void)state;
	vv_raise(&know, (struct dot){ 1, 1 });
	/* Ours was deleted and forgotten: what comes late stays deleted. */
	regval_join(&mine, &theirs, &know, NULL);
	assert_int_equal(mine.len, 0);
	regval_fini(&mine);
	/* Theirs was: ours goes. */
	mine = (struct regval){ 0 };
	regval_join(&theirs, &mine, NULL, &know);
	assert_int_equal(theirs.len, 0);
	regval_fini(&mine);
	regval_fini(&theirs);
	vv_fini(&know);
}

static void
test_the_newer_label_counts_on_both_sides(void **state)
{
	struct regval a = written(1), b;

	(void)state;
	regval_copy(&b, &a);
	free(a.v[0].slot);
	a.v[0].slot = mem_str("older");
	a.v[0].slot_at = (struct stamp){ 5, 1 };
	free(b.v[0].slot);
	b.v[0].slot = mem_str("newer");
	b.v[0].slot_at = (struct stamp){ 6, 1 };
	regval_join(&b, &a, NULL, NULL);
	assert_string_equal(b.v[0].slot, "newer");
	regval_join(&a, &b, NULL, NULL);
	assert_string_equal(a.v[0].slot, "newer");
	regval_fini(&a);
	regval_fini(&b);
}

static void
test_attributes_of_a_slot_outlive_versions(void **state)
{
	struct regval r = written(1);
	struct attrs shown;

	(void)state;
	attrs_set_mode(regval_slot(&r, ""), 0600, (struct stamp){ 9, 1 });
	shown = regval_attrs_of(&r, &r.v[0]);
	assert_int_equal(attrs_mode(&shown, 0), 0600);
	attrs_fini(&shown);
	regval_remove(&r, (struct dot){ 1, 1 });
	assert_non_null(regval_slot_find(&r, ""));
	assert_null(regval_slot_find(&r, "laptop"));
	regval_fini(&r);
}

static void
test_the_highest_stamp_counts_everything(void **state)
{
	struct regval r = written(1);

	(void)state;
	r.v[0].hlc = 5;
	assert_int_equal(regval_hlc(&r), 5);
	r.v[0].slot_at.hlc = 6;
	assert_int_equal(regval_hlc(&r), 6);
	attrs_set_mode(&r.v[0].attrs, 0, (struct stamp){ 7, 1 });
	assert_int_equal(regval_hlc(&r), 7);
	attrs_set_mode(regval_slot(&r, "x"), 0, (struct stamp){ 8, 1 });
	assert_int_equal(regval_hlc(&r), 8);
	regval_fini(&r);
}

static void
test_files_are_noted_by_name(void **state)
{
	struct file_stamp one = { 1, 2, 3 }, two = { 4, 5, 6 };
	struct reg *r = reg_new(NULL, 7, "name");
	struct hash h = { { 1 } };

	(void)state;
	assert_string_equal(reg_name(r), "name");
	reg_file_set(r, "name", &h, &one);
	reg_file_set(r, "name.conflict-a", &h, &one);
	reg_file_set(r, "name", &h, &two);
	assert_int_equal(r->files_len, 2);
	assert_int_equal(reg_file_find(r, "name")->stamp.ino, 4);
	reg_file_forget(r, "name");
	reg_file_forget(r, "name");
	assert_null(reg_file_find(r, "name"));
	assert_non_null(reg_file_find(r, "name.conflict-a"));
	reg_free(r);
	reg_free(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_join_is_commutative_associative_idempotent),
		cmocka_unit_test(test_concurrent_writes_stay_both),
		cmocka_unit_test(test_an_edit_survives_a_concurrent_removal),
		cmocka_unit_test(test_a_removal_takes_what_it_had_seen),
		cmocka_unit_test(test_knowledge_stands_for_forgotten_tombstones),
		cmocka_unit_test(test_the_newer_label_counts_on_both_sides),
		cmocka_unit_test(test_attributes_of_a_slot_outlive_versions),
		cmocka_unit_test(test_the_highest_stamp_counts_everything),
		cmocka_unit_test(test_files_are_noted_by_name),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
