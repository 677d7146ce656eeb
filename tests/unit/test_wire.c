/*
 * Messages: what the core holds comes out as it went in; what breaks a rule is
 * refused as a whole.
 */
#include "config.h"

#include "replication/wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "replication/mem.h"
#include "tests/lib/random.h"
#include "tests/lib/sim.h"

typedef Sibfs__Wire__RegisterValue RegisterValue;
typedef Sibfs__Wire__Directory Directory;

/* Through bytes, as on a link. */
static RegisterValue *
travelled(RegisterValue *m)
{
	size_t n = sibfs__wire__register_value__get_packed_size(m);
	uint8_t *p = malloc(n + 1);
	RegisterValue *out;

	sibfs__wire__register_value__pack(m, p);
	out = sibfs__wire__register_value__unpack(NULL, n, p);
	free(p);
	sibfs__wire__register_value__free_unpacked(m, NULL);
	assert_non_null(out);
	return out;
}

static void
assert_same_versions(const struct regval *a, const struct regval *b)
{
	assert_true(regval_equal(a, b));
	for (uint32_t i = 0; i < a->len; i++) {
		const struct version *x = &a->v[i], *y = &b->v[i];

		assert_int_equal(x->kind, y->kind);
		assert_int_equal(x->made, y->made);
		assert_int_equal(x->has_base, y->has_base);
		assert_int_equal(hash_compare(&x->hash, &y->hash), 0);
		if (x->has_base)
			assert_int_equal(hash_compare(&x->base, &y->base), 0);
		assert_int_equal(x->size, y->size);
		assert_int_equal(x->hlc, y->hlc);
	}
}

static void
test_registers_travel_unchanged(void **state)
{
	(void)state;
	for (int i = 0; i < 500; i++) {
		struct regval r = random_regval(), got;
		RegisterValue *m = travelled(wire_regval(&r));

		assert_int_equal(wire_get_regval(m, &got), 0);
		assert_same_versions(&r, &got);
		sibfs__wire__register_value__free_unpacked(m, NULL);
		regval_fini(&r);
		regval_fini(&got);
	}
}

static struct reg *
random_reg(void)
{
	static struct dir up;
	struct reg *r = reg_new(&up, 1, "name");

	r->shown = random_regval();
	if (random_chance(30)) {
		r->pending = mem_alloc(sizeof(*r->pending));
		*r->pending = random_regval();
	}
	r->has_last = random_chance(50);
	if (r->has_last)
		random_bytes(r->last.b, sizeof(r->last.b));
	for (size_t n = random_below(3); n > 0; n--) {
		struct file_stamp stamp = { random_number(), random_number(), (int64_t)random_number() };
		struct hash h;

		random_bytes(h.b, sizeof(h.b));
		reg_file_set(r, n == 1 ? "name" : "name.conflict-laptop", &h, &stamp);
	}
	return r;
}

static void
test_index_rows_hold_all_of_a_register(void **state)
{
	(void)state;
	for (int i = 0; i < 300; i++) {
		struct reg *r = random_reg(), *got = reg_new(r->dir, 1, "name");
		uint8_t *p;
		size_t n;

		wire_pack_index_reg(r, &p, &n);
		assert_int_equal(wire_unpack_index_reg(p, n, got), 0);
		assert_same_versions(&r->shown, &got->shown);
		assert_int_equal(!r->pending, !got->pending);
		if (r->pending)
			assert_same_versions(r->pending, got->pending);
		assert_int_equal(r->has_last, got->has_last);
		if (r->has_last)
			assert_int_equal(hash_compare(&r->last, &got->last), 0);
		assert_int_equal(r->files_len, got->files_len);
		for (uint32_t k = 0; k < r->files_len; k++) {
			const struct reg_file *f = &r->files[k], *g = reg_file_find(got, f->name);

			assert_non_null(g);
			assert_int_equal(hash_compare(&f->hash, &g->hash), 0);
			assert_true(f->stamp.ino == g->stamp.ino && f->stamp.size == g->stamp.size &&
			    f->stamp.mtime_ns == g->stamp.mtime_ns);
		}
		free(p);
		reg_free(r);
		reg_free(got);
	}
}

/* An ordinary file's row: its name, hash and stamps stand there once. */
static void
test_index_rows_say_nothing_twice(void **state)
{
	struct file_stamp stamp = { 12345678, 4000, INT64_C(1763650000123456789) };
	struct reg *r = reg_new(NULL, 1, "an-ordinary-name.txt"), *got = reg_new(NULL, 1, "an-ordinary-name.txt");
	struct version v = { .dot = { UINT64_C(0x123456789abcdef0), 1000000 }, .kind = KIND_FILE, .made = true,
		.size = 4000, .hlc = UINT64_C(1763650000123456789), .slot = mem_str("") };
	static const char *const attrs[][2] = { { "mode", "644" }, { "owner", "somebody:1000" },
		{ "group", "somebody:1000" }, { "mtime", "1763650000123456789" } };
	struct stamp at = { v.hlc, v.dot.id };
	uint8_t *p;
	size_t n;

	(void)state;
	random_bytes(&v.hash, sizeof(v.hash));
	v.slot_at = at;
	for (size_t i = 0; i < 4; i++)
		attrs_set(&v.attrs, attrs[i][0], attrs[i][1], strlen(attrs[i][1]), at);
	vv_raise(&r->shown.ctx, v.dot);
	reg_file_set(r, reg_name(r), &v.hash, &stamp);
	regval_add(&r->shown, &v);
	wire_pack_index_reg(r, &p, &n);
	assert_true(n < 220);
	assert_int_equal(wire_unpack_index_reg(p, n, got), 0);
	assert_same_versions(&r->shown, &got->shown);
	assert_int_equal(got->files_len, 1);
	assert_string_equal(got->files[0].name, reg_name(r));
	assert_int_equal(hash_compare(&got->files[0].hash, &r->files[0].hash), 0);
	free(p);

	/* A stamp of zero is one, too. */
	r->shown.v[0].attrs.c[1].at = (struct stamp){ 0, 0 };
	reg_free(got);
	got = reg_new(NULL, 1, "an-ordinary-name.txt");
	wire_pack_index_reg(r, &p, &n);
	assert_int_equal(wire_unpack_index_reg(p, n, got), 0);
	assert_same_versions(&r->shown, &got->shown);
	assert_true(got->shown.v[0].attrs.c[1].at.hlc == 0);
	free(p);
	reg_free(r);
	reg_free(got);
}

/* All or nothing: whatever is cut off or changed. */
static void
test_a_damaged_index_row_leaves_the_register_as_it_was(void **state)
{
	(void)state;
	for (int i = 0; i < 300; i++) {
		struct reg *r = random_reg(), *got = reg_new(r->dir, 1, "name");
		uint8_t *p;
		size_t n;

		wire_pack_index_reg(r, &p, &n);
		if (random_chance(50))
			n = random_below(n);
		else
			p[random_below(n)] ^= (uint8_t)(1u << random_below(8));
		if (wire_unpack_index_reg(p, n, got) < 0) {
			assert_int_equal(got->files_len, 0);
			assert_int_equal(got->shown.len, 0);
			assert_int_equal(got->shown.ctx.len, 0);
			assert_null(got->pending);
			assert_false(got->has_last);
		}
		free(p);
		reg_free(r);
		reg_free(got);
	}
}

/* ---- rules for registers ---- */

typedef void	 spoil_fn(RegisterValue *m);

static RegisterValue *
good_value(void)
{
	struct stamp at = { 5, 1 };
	struct regval r = { 0 };
	RegisterValue *m;

	for (uint64_t n = 1; n <= 2; n++) {
		struct version v = { .dot = { n, 7 }, .kind = KIND_FILE, .has_base = true, .slot = mem_str("laptop") };

		vv_raise(&r.ctx, v.dot);
		attrs_set(&v.attrs, "mode", "644", 3, at);
		attrs_set(&v.attrs, "mtime", "1", 1, at);
		regval_add(&r, &v);
	}
	attrs_set(regval_slot(&r, "laptop"), "mode", "600", 3, at);
	attrs_set(regval_slot(&r, "server"), "mode", "600", 3, at);
	m = wire_regval(&r);
	regval_fini(&r);
	return m;
}

static void
set_bytes(ProtobufCBinaryData *b, const void *p, size_t n)
{
	free(b->data);
	b->data = malloc(n + 1);
	memcpy(b->data, p, n);
	b->len = n;
}

static void
set_key(Sibfs__Wire__Cell *c, size_t len)
{
	free(c->key);
	c->key = calloc(1, len + 1);
	memset(c->key, 'k', len);
}

static void dot_without_id(RegisterValue *m) { m->versions[0]->dot->id = 0; }
static void dot_without_number(RegisterValue *m) { m->versions[0]->dot->n = 0; }
static void dot_twice(RegisterValue *m) { *m->versions[0]->dot = *m->versions[1]->dot; }
static void dot_beyond_context(RegisterValue *m) { m->versions[0]->dot->n = 8; }
static void context_without_id(RegisterValue *m) { m->ctx[0]->id = 0; }
static void context_without_number(RegisterValue *m) { m->ctx[0]->n = 0; }
static void context_twice(RegisterValue *m) { m->ctx[0]->id = m->ctx[1]->id; }
static void kind_none(RegisterValue *m) { m->versions[0]->kind = 0; }
static void kind_unknown(RegisterValue *m) { m->versions[0]->kind = 3; }
static void kind_wrapped(RegisterValue *m) { m->versions[0]->kind = 257; }
static void size_negative(RegisterValue *m) { m->versions[0]->size = UINT64_MAX; }
static void hash_short(RegisterValue *m) { m->versions[0]->hash.len = 31; }
static void hash_missing(RegisterValue *m) { m->versions[0]->hash.len = 0; }
static void ancestor_short(RegisterValue *m) { m->versions[0]->ancestor.len = 31; }
static void slot_with_slash(RegisterValue *m) { set_bytes(&m->versions[0]->slot, "a/b", 3); }
static void slot_with_nul(RegisterValue *m) { set_bytes(&m->versions[0]->slot, "a\0b", 3); }
static void key_empty(RegisterValue *m) { set_key(m->versions[0]->attrs[0], 0); }
static void key_long(RegisterValue *m) { set_key(m->versions[0]->attrs[0], 258); }
static void slot_attrs_twice(RegisterValue *m) { set_bytes(&m->slots[0]->slot, "server", 6); }
static void slot_attrs_slash(RegisterValue *m) { set_bytes(&m->slots[0]->slot, "/", 1); }

static void
slot_long(RegisterValue *m)
{
	char text[201];

	memset(text, 'x', sizeof(text));
	set_bytes(&m->versions[0]->slot, text, sizeof(text));
}

static void
dot_missing(RegisterValue *m)
{
	sibfs__wire__dot__free_unpacked(m->versions[0]->dot, NULL);
	m->versions[0]->dot = NULL;
}

static void
key_twice(RegisterValue *m)
{
	set_key(m->versions[0]->attrs[0], 3);
	set_key(m->versions[0]->attrs[1], 3);
}

static void
value_large(RegisterValue *m)
{
	char *p = calloc(1, WIRE_VALUE_MAX + 1);

	set_bytes(&m->versions[0]->attrs[0]->value, p, WIRE_VALUE_MAX + 1);
	free(p);
}

static void
content_large(RegisterValue *m)
{
	char *p = calloc(1, WIRE_CONTENT_MAX + 1);

	set_bytes(&m->versions[0]->content, p, WIRE_CONTENT_MAX + 1);
	m->versions[0]->has_content = true;
	free(p);
}

static void
test_what_breaks_a_rule_for_registers_is_refused(void **state)
{
	static spoil_fn *const spoil[] = { dot_without_id, dot_without_number, dot_twice, dot_beyond_context,
		context_without_id, context_without_number, context_twice, kind_none, kind_unknown, kind_wrapped,
		size_negative, hash_short, hash_missing, ancestor_short, slot_with_slash, slot_with_nul, slot_long,
		key_empty, key_long, key_twice, slot_attrs_twice, slot_attrs_slash, dot_missing, value_large,
		content_large };
	struct regval out, before;
	RegisterValue *m = good_value();

	(void)state;
	memset(&out, 0x55, sizeof(out));
	before = out;
	for (size_t i = 0; i < sizeof(spoil) / sizeof(*spoil); i++) {
		RegisterValue *bad = good_value();

		spoil[i](bad);
		if (wire_get_regval(bad, &out) != -EBADMSG)
			fail_msg("rule %zu", i);
		assert_memory_equal(&out, &before, sizeof(out));
		sibfs__wire__register_value__free_unpacked(bad, NULL);
	}
	assert_int_equal(wire_get_regval(m, &out), 0);
	regval_fini(&out);
	sibfs__wire__register_value__free_unpacked(m, NULL);
}

static void
test_keys_of_the_longest_extended_attributes_pass(void **state)
{
	RegisterValue *m = good_value();
	struct regval out;

	(void)state;
	set_key(m->versions[0]->attrs[0], 257);
	assert_int_equal(wire_get_regval(m, &out), 0);
	regval_fini(&out);
	sibfs__wire__register_value__free_unpacked(m, NULL);
}

/* ---- vectors ---- */

static void
free_dots(Sibfs__Wire__Dot **dots, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sibfs__wire__dot__free_unpacked(dots[i], NULL);
	free(dots);
}

static void
test_vectors_come_unsorted_and_are_kept_sorted(void **state)
{
	struct vv v = { 0 }, got;
	Sibfs__Wire__Dot **dots = NULL;
	size_t n = 0;

	(void)state;
	for (int i = 0; i < 100; i++)
		vv_raise(&v, (struct dot){ random_number(), 1 + random_below(9) });
	wire_dots(&v, &dots, &n);
	for (size_t i = n - 1; i > 0; i--) {
		size_t k = random_below(i + 1);
		Sibfs__Wire__Dot *x = dots[i];

		dots[i] = dots[k];
		dots[k] = x;
	}
	assert_int_equal(wire_get_dots(dots, n, &got), 0);
	assert_int_equal(got.len, v.len);
	assert_memory_equal(got.e, v.e, v.len * sizeof(*v.e));
	free_dots(dots, n);
	vv_fini(&v);
	vv_fini(&got);
}

/* Sorted the wrong way round, so that no peer can keep us busy for long. */
static void
test_the_longest_vector_is_taken_quickly_and_longer_ones_are_not(void **state)
{
	size_t n = WIRE_DOTS_MAX + 1;
	Sibfs__Wire__Dot *all = calloc(n, sizeof(*all)), **dots = calloc(n, sizeof(*dots));
	clock_t start = clock();
	struct vv v;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		sibfs__wire__dot__init(&all[i]);
		all[i].id = n - i;
		all[i].n = 1;
		dots[i] = &all[i];
	}
	assert_int_equal(wire_get_dots(dots, n, &v), -EBADMSG);
	assert_int_equal(wire_get_dots(dots, n - 1, &v), 0);
	assert_int_equal(v.len, n - 1);
	assert_true(clock() - start < 5 * CLOCKS_PER_SEC);
	vv_fini(&v);
	free(all);
	free(dots);
}

/* ---- names ---- */

static void
test_names_that_cannot_stand_in_a_directory_are_refused(void **state)
{
	static const char *const bad[] = { "", ".", "..", "/", "a/b", "/a", "a/" };
	static const char *const good[] = { "a", "...", ".a", "\xff\xfe", "a b", ".sibfs2", "-", "\n" };
	char longest[WIRE_NAME_MAX + 2];
	ProtobufCBinaryData nul = { 3, (uint8_t *)(uintptr_t)"a\0b" };
	char *name = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(wire_name_ok(bad[i], false));
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		assert_true(wire_name_ok(good[i], true));
	assert_false(wire_name_ok(".sibfs", true));
	assert_true(wire_name_ok(".sibfs", false));
	memset(longest, 'x', sizeof(longest));
	longest[WIRE_NAME_MAX + 1] = '\0';
	assert_false(wire_name_ok(longest, false));
	longest[WIRE_NAME_MAX] = '\0';
	assert_true(wire_name_ok(longest, false));
	assert_int_equal(wire_get_name(&nul, false, &name), -EBADMSG);
	assert_null(name);
}

/* ---- directories ---- */

static const char *const names[] = { "laptop", "server" };

/* A tree with a moved directory, of modes of its own. */
static struct dir *
moved_dir(struct sim *sim)
{
	struct state *s;

	sim_init(sim, names, 2);
	s = sim->s[0];
	s->now = 1000;
	assert_int_equal(sim_mkdir(s, "a", 0700, DIR_MADE_HERE), 0);
	assert_int_equal(sim_mkdir(s, "a/b", 0750, DIR_MADE_HERE), 0);
	take_told(s);
	assert_int_equal(sim_rename(s, "a/b", "c"), 0);
	return state_at(s, s->root, "c");
}

static Directory *
travelled_dir(const struct dir *d)
{
	Directory *m = wire_directory(d), *out;
	size_t n = sibfs__wire__directory__get_packed_size(m);
	uint8_t *p = malloc(n);

	sibfs__wire__directory__pack(m, p);
	out = sibfs__wire__directory__unpack(NULL, n, p);
	free(p);
	sibfs__wire__directory__free_unpacked(m, NULL);
	return out;
}

static void
test_directories_travel_unchanged(void **state)
{
	struct sim sim;
	struct dir *d = moved_dir(&sim);
	Directory *m = travelled_dir(d);
	struct place birth;
	struct dirval val;
	uint32_t k;

	(void)state;
	assert_int_equal(wire_get_directory(sim.s[0], m, &birth, &k, &val), 0);
	assert_ptr_equal(birth.up, d->birth.up);
	assert_string_equal(birth.name, "b");
	assert_int_equal(k, d->birth_k);
	assert_true(dirval_equal(&val, &d->val));
	assert_int_equal(val.modes_len, 1);
	assert_int_equal(val.modes[0].mode, 0750);
	assert_int_equal(val.moves_len, 1);
	assert_ptr_equal(val.moves[0].to.up, sim.s[0]->root);
	assert_string_equal(val.moves[0].to.name, "c");
	assert_ptr_equal(val.moves[0].from.up, d->birth.up);
	assert_string_equal(val.moves[0].from.name, "b");
	assert_int_equal(val.moves[0].at.hlc, d->val.moves[0].at.hlc);
	free(birth.name);
	dirval_fini(&val);
	sibfs__wire__directory__free_unpacked(m, NULL);
	sim_fini(&sim);
}

static void
test_a_directory_whose_parent_is_unknown_is_told_apart(void **state)
{
	struct sim sim;
	Directory *m = travelled_dir(moved_dir(&sim));
	struct place birth;
	struct dirval val;
	uint32_t k;

	(void)state;
	assert_int_equal(wire_get_directory(sim.s[1], m, &birth, &k, &val), -ENOENT);
	sibfs__wire__directory__free_unpacked(m, NULL);
	sim_fini(&sim);
}

typedef void	 spoil_dir_fn(Directory *m);

static void id_of_another(Directory *m) { m->id.data[3] ^= 1; }
static void id_short(Directory *m) { m->id.len = 15; }
static void other_number(Directory *m) { m->number++; }
static void birth_in_short_id(Directory *m) { m->birth->up.len = 15; }
static void birth_named_dot(Directory *m) { set_bytes(&m->birth->name, ".", 1); }
static void moved_to_slash(Directory *m) { set_bytes(&m->moves[0]->to->name, "a/b", 3); }
static void moved_to_our_own(Directory *m) { set_bytes(&m->moves[0]->to->name, ".sibfs", 6); }
static void moved_from_nothing(Directory *m) { set_bytes(&m->moves[0]->from->name, "", 0); }
static void moved_without_dot(Directory *m) { m->moves[0]->dot->n = 0; }
static void live_without_id(Directory *m) { m->live[0]->id = 0; }
static void mode_without_dot(Directory *m) { m->modes[0]->dot->id = 0; }

static void
live_twice(Directory *m)
{
	m->live = realloc(m->live, 2 * sizeof(*m->live));
	m->live[1] = malloc(sizeof(**m->live));
	*m->live[1] = *m->live[0];
	m->n_live = 2;
}

static void
mode_twice(Directory *m)
{
	m->modes = realloc(m->modes, 2 * sizeof(*m->modes));
	m->modes[1] = malloc(sizeof(**m->modes));
	*m->modes[1] = *m->modes[0];
	m->modes[1]->dot = malloc(sizeof(*m->modes[0]->dot));
	*m->modes[1]->dot = *m->modes[0]->dot;
	m->n_modes = 2;
}

static void
birth_missing(Directory *m)
{
	sibfs__wire__place__free_unpacked(m->birth, NULL);
	m->birth = NULL;
}

static void
move_nowhere(Directory *m)
{
	sibfs__wire__place__free_unpacked(m->moves[0]->to, NULL);
	m->moves[0]->to = NULL;
}

static void
test_what_breaks_a_rule_for_directories_is_refused(void **state)
{
	static spoil_dir_fn *const spoil[] = { id_of_another, id_short, other_number, birth_in_short_id,
		birth_named_dot, moved_to_slash, moved_to_our_own, moved_from_nothing, moved_without_dot,
		live_without_id, mode_without_dot, live_twice, mode_twice, birth_missing, move_nowhere };
	struct sim sim;
	struct dir *d = moved_dir(&sim);
	struct place birth;
	struct dirval val;
	uint32_t k;

	(void)state;
	for (size_t i = 0; i < sizeof(spoil) / sizeof(*spoil); i++) {
		Directory *m = travelled_dir(d);

		spoil[i](m);
		if (wire_get_directory(sim.s[0], m, &birth, &k, &val) != -EBADMSG)
			fail_msg("rule %zu", i);
		sibfs__wire__directory__free_unpacked(m, NULL);
	}
	sim_fini(&sim);
}

static void
test_the_root_is_nobodys_child(void **state)
{
	struct sim sim;
	struct place birth;
	struct dirval val;
	Directory *m;
	uint32_t k;

	(void)state;
	sim_init(&sim, names, 2);
	m = travelled_dir(sim.s[0]->root);
	assert_null(m->birth);
	assert_int_equal(wire_get_directory(sim.s[0], m, &birth, &k, &val), -EBADMSG);
	sibfs__wire__directory__free_unpacked(m, NULL);
	sim_fini(&sim);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers_travel_unchanged),
		cmocka_unit_test(test_index_rows_hold_all_of_a_register),
		cmocka_unit_test(test_index_rows_say_nothing_twice),
		cmocka_unit_test(test_a_damaged_index_row_leaves_the_register_as_it_was),
		cmocka_unit_test(test_what_breaks_a_rule_for_registers_is_refused),
		cmocka_unit_test(test_keys_of_the_longest_extended_attributes_pass),
		cmocka_unit_test(test_vectors_come_unsorted_and_are_kept_sorted),
		cmocka_unit_test(test_the_longest_vector_is_taken_quickly_and_longer_ones_are_not),
		cmocka_unit_test(test_names_that_cannot_stand_in_a_directory_are_refused),
		cmocka_unit_test(test_directories_travel_unchanged),
		cmocka_unit_test(test_a_directory_whose_parent_is_unknown_is_told_apart),
		cmocka_unit_test(test_what_breaks_a_rule_for_directories_is_refused),
		cmocka_unit_test(test_the_root_is_nobodys_child),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
