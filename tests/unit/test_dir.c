/*
 * Directories: identities, the laws of their join, and which move counts.
 */
#include "config.h"

#include "replication/dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replication/mem.h"
#include "tests/lib/random.h"

#define REPLICAS 4

static struct dir parents[3];
static char *const names[] = { (char[]){ "a" }, (char[]){ "b" }, (char[]){ "c" } };

static struct place
random_place(void)
{
	return (struct place){ &parents[random_below(3)], names[random_below(3)] };
}

static void
random_event(struct dirval *v, uint64_t id, uint64_t *clock)
{
	struct dot d = { id, vv_get(&v->ctx, id) + 1 };
	struct stamp at = { ++*clock, id };

	vv_raise(&v->ctx, d);
	switch (random_below(4)) {
	case 0:
		dirval_set_live(v, d);
		dirval_set_mode(v, d, (uint32_t)random_below(512));
		break;
	case 1:
		dirval_clear_live(v);
		break;
	case 2:
		dirval_set_live(v, d);
		dirval_set_move(v, d, random_place(), random_place(), at);
		break;
	default:
		dirval_set_mode(v, d, (uint32_t)random_below(512));
		attrs_set(&v->attrs, "owner", "user:1", 6, at);
	}
}

static void
random_copies(struct dirval *v)
{
	uint64_t clock = 0;

	memset(v, 0, REPLICAS * sizeof(*v));
	for (size_t n = random_below(25); n > 0; n--) {
		size_t i = random_below(REPLICAS), j = random_below(REPLICAS);

		if (random_chance(70))
			random_event(&v[i], i + 1, &clock);
		else if (i != j)
			dirval_join(&v[i], &v[j], NULL, NULL);
	}
}

static struct dirval
joined(const struct dirval *a, const struct dirval *b)
{
	struct dirval out;

	dirval_copy(&out, a);
	dirval_join(&out, b, NULL, NULL);
	return out;
}

/* Equal, and what follows from them too. */
static void
assert_equal(const struct dirval *a, const struct dirval *b)
{
	struct dir x = { .val = *a, .birth = { &parents[0], names[0] } };
	struct dir y = { .val = *b, .birth = { &parents[0], names[0] } };
	struct place p = dir_place(&x), q = dir_place(&y);

	assert_true(dirval_equal(a, b));
	assert_int_equal(dir_mode(&x), dir_mode(&y));
	assert_ptr_equal(p.up, q.up);
	assert_string_equal(p.name, q.name);
}

static void
test_the_join_is_commutative_associative_idempotent(void **state)
{
	(void)state;
	for (int i = 0; i < 3000; i++) {
		struct dirval v[REPLICAS], ab, ba, bc, left, right, again;

		random_copies(v);
		ab = joined(&v[0], &v[1]);
		ba = joined(&v[1], &v[0]);
		bc = joined(&v[1], &v[2]);
		left = joined(&ab, &v[2]);
		right = joined(&v[0], &bc);
		again = joined(&ab, &v[0]);
		assert_equal(&ab, &ba);
		assert_equal(&left, &right);
		assert_equal(&ab, &again);
		dirval_fini(&ab);
		dirval_fini(&ba);
		dirval_fini(&bc);
		dirval_fini(&left);
		dirval_fini(&right);
		dirval_fini(&again);
		for (size_t k = 0; k < REPLICAS; k++)
			dirval_fini(&v[k]);
	}
}

static void
test_an_identity_follows_from_where_and_what_and_which(void **state)
{
	struct identity root = { { 0 } }, a = identity_make(&root, "a", 0), b = identity_make(&root, "b", 0);
	struct identity second = identity_make(&root, "a", 1), below = identity_make(&a, "a", 0);
	struct identity same = identity_make(&root, "a", 0);

	(void)state;
	assert_true(identity_equal(&a, &same));
	assert_false(identity_equal(&a, &b));
	assert_false(identity_equal(&a, &second));
	assert_false(identity_equal(&a, &below));
}

static struct dir
made(void)
{
	struct dir d = { .birth = { &parents[0], names[0] } };

	vv_raise(&d.val.ctx, (struct dot){ 1, 1 });
	dirval_set_live(&d.val, (struct dot){ 1, 1 });
	dirval_set_mode(&d.val, (struct dot){ 1, 1 }, 0755);
	return d;
}

static void
move(struct dir *d, uint64_t id, uint64_t hlc, char *name)
{
	struct dot dot = { id, vv_get(&d->val.ctx, id) + 1 };

	vv_raise(&d->val.ctx, dot);
	dirval_set_live(&d->val, dot);
	dirval_set_move(&d->val, dot, (struct place){ &parents[1], name }, dir_place(d), (struct stamp){ hlc, id });
}

static void
test_the_newest_move_counts(void **state)
{
	struct dir a = made(), b = made();

	(void)state;
	assert_string_equal(dir_place(&a).name, "a");
	move(&a, 2, 10, names[1]);
	move(&b, 3, 11, names[2]);
	dirval_join(&a.val, &b.val, NULL, NULL);
	assert_int_equal(a.val.moves_len, 2);
	assert_string_equal(dir_place(&a).name, "c");
	assert_int_equal(dir_since(&a).hlc, 11);
	dirval_fini(&a.val);
	dirval_fini(&b.val);
}

/* Whoever has it at its old place and makes it anew does not move it back. */
static void
test_a_making_does_not_undo_a_move(void **state)
{
	struct dir moved = made(), old = made();

	(void)state;
	move(&moved, 2, 10, names[1]);
	vv_raise(&old.val.ctx, (struct dot){ 3, 1 });
	dirval_set_live(&old.val, (struct dot){ 3, 1 });
	dirval_join(&moved.val, &old.val, NULL, NULL);
	assert_string_equal(dir_place(&moved).name, "b");
	dirval_fini(&moved.val);
	dirval_fini(&old.val);
}

static void
test_a_removed_one_shows_where_it_was(void **state)
{
	struct dir d = made();

	(void)state;
	move(&d, 2, 10, names[1]);
	dirval_clear_live(&d.val);
	assert_false(dir_is_live(&d));
	assert_string_equal(dir_place(&d).name, "b");
	/* Made anew where it was made, by one who saw the removal. */
	vv_raise(&d.val.ctx, (struct dot){ 3, 1 });
	dirval_set_live(&d.val, (struct dot){ 3, 1 });
	assert_string_equal(dir_place(&d).name, "a");
	dirval_fini(&d.val);
}

static void
test_of_concurrent_modes_what_all_allow_counts(void **state)
{
	struct dir a = made(), b = made(), none = { .birth = { &parents[0], names[0] } };

	(void)state;
	assert_int_equal(dir_mode(&none), 0755);
	vv_raise(&a.val.ctx, (struct dot){ 2, 1 });
	dirval_set_mode(&a.val, (struct dot){ 2, 1 }, 0750);
	vv_raise(&b.val.ctx, (struct dot){ 3, 1 });
	dirval_set_mode(&b.val, (struct dot){ 3, 1 }, 0705);
	dirval_join(&a.val, &b.val, NULL, NULL);
	assert_int_equal(dir_mode(&a), 0700);
	dirval_fini(&a.val);
	dirval_fini(&b.val);
}

static void
test_a_copy_lives_on_its_own(void **state)
{
	struct dir d = made();
	struct dirval copy;

	(void)state;
	move(&d, 2, 10, names[1]);
	dirval_copy(&copy, &d.val);
	dirval_fini(&d.val);
	assert_int_equal(copy.moves_len, 1);
	assert_string_equal(copy.moves[0].to.name, "b");
	assert_int_equal(dirval_hlc(&copy), 10);
	dirval_fini(&copy);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_join_is_commutative_associative_idempotent),
		cmocka_unit_test(test_an_identity_follows_from_where_and_what_and_which),
		cmocka_unit_test(test_the_newest_move_counts),
		cmocka_unit_test(test_a_making_does_not_undo_a_move),
		cmocka_unit_test(test_a_removed_one_shows_where_it_was),
		cmocka_unit_test(test_of_concurrent_modes_what_all_allow_counts),
		cmocka_unit_test(test_a_copy_lives_on_its_own),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
