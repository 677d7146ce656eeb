/*
 * Stores that forget: restored from an old copy, copied, or both, once or
 * often, and in any order with writes and exchanges.  Whatever they wrote,
 * before and after, on either side of the fork, all replicas end with all of it
 * and show the same; no dot stands for two events.
 *
 * SIBFS_HISTORIES says how many random ones (200 unless given), SIBFS_SEED which.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replication/exchange.h"
#include "replication/mem.h"
#include "tests/lib/random.h"
#include "tests/lib/sim.h"

#define STORES_MAX 8

/* Replicas; each incarnation that any of them ever was has its node's name. */
struct world {
	struct state *s[STORES_MAX];
	const char *node[STORES_MAX];
	size_t len;
	unsigned forks;
};

/* ---- stores ---- */

static const char *
node_name(void *ctx, uint64_t id)
{
	static char name[32];

	(void)ctx;
	snprintf(name, sizeof(name), "n%llx", (unsigned long long)id & 0xffff);
	return name;
}

static uint64_t
token(void *ctx)
{
	(void)ctx;
	return random_number() | 1;
}

static struct state *
store_new(uint64_t self)
{
	struct state_io io = { .node_name = node_name, .token = token };

	return state_new(self, &io);
}

static void
add_store(struct world *w, const char *node)
{
	w->s[w->len] = store_new(token(NULL));
	w->node[w->len++] = node;
}

static struct dir *
same_dir(struct state *s, const struct dir *d)
{
	return d ? state_dir_num(s, d->num) : NULL;
}

static struct place
same_place(struct state *s, struct place p)
{
	return (struct place){ same_dir(s, p.up), mem_str(p.name) };
}

static void
copy_dir(struct state *s, struct dir *out, const struct dir *d)
{
	out->birth = same_place(s, d->birth);
	out->birth_k = d->birth_k;
	out->told = d->told;
	out->seq = d->seq;
	dirval_copy(&out->val, &d->val);
	for (uint32_t i = 0; i < d->val.moves_len; i++) {
		out->val.moves[i].to.up = same_dir(s, d->val.moves[i].to.up);
		out->val.moves[i].from.up = same_dir(s, d->val.moves[i].from.up);
	}
}

/* What an index holds: a store as it was, opened anew. */
static struct state *
store_copy(const struct state *from)
{
	struct state *s = store_new(from->self);
	size_t n;

	s->counter = from->counter;
	s->block = from->block;
	s->now = from->now;
	s->hlc = from->hlc;
	s->seq = from->seq;
	s->know = vv_copy(&from->know);
	s->seen = vv_copy(&from->seen);
	for (const struct block *b = from->lineage.blocks; b; b = b->hh.next) {
		lineage_learn(&s->lineage, b->token, b->parent, b->start);
		lineage_reach(&s->lineage, b->token, b->last);
	}
	free(lineage_settle(&s->lineage, &n));
	for (const struct dir *d = from->dirs; d; d = d->hh.next)
		if (d != from->root)
			state_dir_load(s, &d->id, d->num);
	for (const struct dir *d = from->dirs; d; d = d->hh.next)
		if (d != from->root)
			copy_dir(s, same_dir(s, d), d);
	for (const struct dir *d = from->dirs; d; d = d->hh.next)
		if (d != from->root)
			state_dir_loaded(s, same_dir(s, d));
	for (const struct reg *r = from->regs; r; r = r->hh.next) {
		struct reg *copy = state_reg(s, same_dir(s, r->dir), reg_name(r), true);

		regval_copy(&copy->shown, &r->shown);
		copy->seq = r->seq;
		copy->has_last = r->has_last;
		copy->last = r->last;
		copy->counted = copy->shown.len > 0;
		copy->dir->files += copy->counted;
	}
	state_rebuild(s);
	for (struct dir *d = s->dirs; d; d = d->hh.next)
		d->touched = false;
	s->touched_dirs.len = 0;
	return s;
}

static void
world_fini(struct world *w)
{
	for (size_t i = 0; i < w->len; i++)
		state_free(w->s[i]);
}

/* ---- meeting ---- */

/* What a link does with a peer's lineage; true: one of them goes by another name
 * now, so they part, and meet again. */
static bool
take_lineage(struct world *w, struct state *s, const Sibfs__Wire__Lineage *m)
{
	struct meeting x;
	bool parts;

	assert_int_equal(exchange_take_lineage(s, m, &x), 0);
	state_relabel(s, x.changed, x.changed_len);
	parts = x.changed_len || x.doubt_len;
	w->forks += x.changed_len > 0;
	exchange_end_meeting(&x);
	if (state_fork_check(s)) {
		w->forks++;
		parts = true;
	}
	return parts;
}

static bool
meet_once(struct world *w, struct state *a, struct state *b)
{
	size_t a_len, b_len;
	uint64_t *a_marks = lineage_landmarks(&a->lineage, &a_len), *b_marks = lineage_landmarks(&b->lineage, &b_len);
	Sibfs__Wire__Lineage *from_a = exchange_lineage(a, b_marks, b_len, 0);
	Sibfs__Wire__Lineage *from_b = exchange_lineage(b, a_marks, a_len, 0);
	bool parts = false;

	/* Two copies under one name: either gives it up. */
	if (a->self == b->self) {
		state_fork(random_chance(50) ? a : b);
		parts = true;
	} else {
		parts |= take_lineage(w, a, from_b);
		parts |= take_lineage(w, b, from_a);
	}
	sibfs__wire__lineage__free_unpacked(from_a, NULL);
	sibfs__wire__lineage__free_unpacked(from_b, NULL);
	free(a_marks);
	free(b_marks);
	return parts;
}

static void
pull(struct world *w, struct state *me, struct state *peer, size_t limit)
{
	unsigned tries = 0;

	while (meet_once(w, me, peer))
		assert_true(++tries < 5);
	sim_pull(me, peer, limit);
}

static void
pull_all(struct world *w)
{
	for (size_t round = 0; round < 4; round++)
		for (size_t i = 0; i < w->len; i++)
			for (size_t j = 0; j < w->len; j++)
				if (i != j)
					pull(w, w->s[i], w->s[j], SIZE_MAX);
}

/* ---- laws ---- */

static void
assert_all_equal(struct world *w, const char *what)
{
	char *first = sim_tree(w->s[0]);

	for (size_t i = 1; i < w->len; i++) {
		char *other = sim_tree(w->s[i]);

		if (strcmp(first, other) != 0)
			fail_msg("%s: the first shows\n%sstore %zu shows\n%s", what, first, i, other);
		free(other);
	}
	free(first);
}

struct used {
	UT_hash_handle hh;
	struct dot dot;
	struct hash hash;
};

/* One dot, one content, in all of them. */
static void
assert_no_dot_is_used_twice(struct world *w, const char *what)
{
	struct used *all = NULL, *u, *tmp;

	for (size_t i = 0; i < w->len; i++)
		for (struct reg *r = w->s[i]->regs; r; r = r->hh.next)
			for (uint32_t k = 0; k < reg_known(r)->len; k++) {
				const struct version *v = &reg_known(r)->v[k];

				HASH_FIND(hh, all, &v->dot, sizeof(v->dot), u);
				if (!u) {
					u = mem_alloc(sizeof(*u));
					u->dot = v->dot;
					u->hash = v->hash;
					HASH_ADD(hh, all, dot, sizeof(u->dot), u);
				} else if (hash_compare(&u->hash, &v->hash) != 0) {
					fail_msg("%s: %llx:%llu is %s and %s", what, (unsigned long long)v->dot.id,
					    (unsigned long long)v->dot.n, (const char *)u->hash.b, (const char *)v->hash.b);
				}
			}
	for (size_t i = 0; i < w->len; i++)
		for (size_t j = 0; j < i; j++)
			assert_true(w->s[i]->self != w->s[j]->self);
	HASH_ITER(hh, all, u, tmp) {
		HASH_DEL(all, u);
		free(u);
	}
}

static void
assert_shows(struct state *s, const char *path, const char *content)
{
	char *tree = sim_tree(s), *find = mem_printf("%s\t%s\t", path, content);

	if (!strstr(tree, find))
		fail_msg("%s with %s is not in\n%s", path, content, tree);
	free(find);
	free(tree);
}

/* Content stands under some name. */
static void
assert_has(struct state *s, const char *content)
{
	char *tree = sim_tree(s), *find = mem_printf("\t%s\t", content);

	if (!strstr(tree, find))
		fail_msg("%s is nowhere in\n%s", content, tree);
	free(find);
	free(tree);
}

static void
write_n(struct state *s, const char *prefix, unsigned n)
{
	for (unsigned i = 1; i <= n; i++) {
		char path[32];

		snprintf(path, sizeof(path), "%s%u", prefix, i);
		s->now += 1000;
		assert_int_equal(sim_write(s, path, path), 0);
	}
}

static void
assert_has_n(struct world *w, const char *prefix, unsigned n)
{
	for (size_t k = 0; k < w->len; k++)
		for (unsigned i = 1; i <= n; i++) {
			char path[32];

			snprintf(path, sizeof(path), "%s%u", prefix, i);
			assert_shows(w->s[k], path, path);
		}
}

/* ---- the cases ---- */

/* Restored at `at` when peers know `known`, and `more` written before anyone is met. */
static void
run_restored(unsigned at, unsigned known, unsigned more, unsigned met_first)
{
	struct world w = { .len = 0 };
	struct state *old;
	char what[64];

	snprintf(what, sizeof(what), "restored at %u of %u, then %u more", at, known, more);
	add_store(&w, "laptop");
	add_store(&w, "server");
	add_store(&w, "desk");
	write_n(w.s[0], "a", at);
	pull(&w, w.s[2], w.s[0], SIZE_MAX);
	old = store_copy(w.s[0]);
	write_n(w.s[0], "b", known - at);
	pull(&w, w.s[1], w.s[0], SIZE_MAX);
	state_free(w.s[0]);
	w.s[0] = old;
	write_n(w.s[0], "c", more);
	/* The first that it meets may know nothing of what it forgot. */
	pull(&w, w.s[met_first], w.s[0], SIZE_MAX);
	pull_all(&w);
	assert_all_equal(&w, what);
	assert_no_dot_is_used_twice(&w, what);
	assert_has_n(&w, "a", at);
	assert_has_n(&w, "b", known - at);
	assert_has_n(&w, "c", more);
	assert_true(known == at || w.forks > 0);
	write_n(w.s[0], "d", 2);
	pull_all(&w);
	assert_has_n(&w, "d", 2);
	assert_no_dot_is_used_twice(&w, what);
	world_fini(&w);
}

static void
test_a_store_restored_at_3_when_peers_know_5_loses_nothing(void **state)
{
	(void)state;
	for (unsigned more = 0; more < 5; more++) {
		run_restored(3, 5, more, 1);
		run_restored(3, 5, more, 2);
	}
}

static void
test_the_same_at_the_edges(void **state)
{
	(void)state;
	for (unsigned at = 0; at < 4; at++)
		for (unsigned known = at; known < 5; known++)
			for (unsigned more = 0; more < 4; more++) {
				run_restored(at, known, more, 1);
				run_restored(at, known, more, 2);
			}
}

/* In a block of its own for each event, or nearly. */
static void
test_restored_where_a_block_ends(void **state)
{
	(void)state;
	for (unsigned at = 1; at < 5; at++)
		for (unsigned known = at; known < 7; known++)
			for (unsigned more = 0; more < 4; more++) {
				struct world w = { .len = 0 };
				struct state *old = NULL;

				add_store(&w, "laptop");
				add_store(&w, "server");
				for (unsigned i = 0; i < known; i++) {
					char name[16];

					if (i % 2 == 0)
						w.s[0]->block_left = 0;
					if (i == at)
						old = store_copy(w.s[0]);
					snprintf(name, sizeof(name), "a%u", i);
					assert_int_equal(sim_write(w.s[0], name, name), 0);
				}
				pull(&w, w.s[1], w.s[0], SIZE_MAX);
				if (old) {
					state_free(w.s[0]);
					w.s[0] = old;
				}
				for (unsigned i = 0; i < more; i++) {
					char name[16];

					if (i % 2 == 1)
						w.s[0]->block_left = 0;
					snprintf(name, sizeof(name), "c%u", i);
					assert_int_equal(sim_write(w.s[0], name, name), 0);
				}
				pull_all(&w);
				assert_all_equal(&w, "blocks of two");
				assert_no_dot_is_used_twice(&w, "blocks of two");
				for (unsigned i = 0; i < known; i++) {
					char name[16];

					snprintf(name, sizeof(name), "a%u", i);
					assert_shows(w.s[0], name, name);
				}
				world_fini(&w);
			}
}

/* Both go on, and neither knows: whoever is met tells them apart. */
static void
test_two_copies_of_one_store_both_keep_all(void **state)
{
	struct world w = { .len = 0 };

	(void)state;
	add_store(&w, "laptop");
	add_store(&w, "server");
	add_store(&w, "desk");
	write_n(w.s[0], "a", 3);
	pull(&w, w.s[1], w.s[0], SIZE_MAX);
	w.s[3] = store_copy(w.s[0]);
	w.node[3] = "laptop";
	w.len = 4;
	w.s[0]->block_left = 0;
	write_n(w.s[0], "b", 2);
	write_n(w.s[3], "c", 4);
	assert_int_equal(sim_write(w.s[0], "a1", "left"), 0);
	assert_int_equal(sim_write(w.s[3], "a1", "right"), 0);
	assert_int_equal(sim_unlink(w.s[3], "a2"), 0);
	/* Each tells another one, and those two meet without either. */
	pull(&w, w.s[1], w.s[0], SIZE_MAX);
	pull(&w, w.s[2], w.s[3], SIZE_MAX);
	pull(&w, w.s[1], w.s[2], SIZE_MAX);
	pull(&w, w.s[2], w.s[1], SIZE_MAX);
	for (size_t i = 1; i < 3; i++) {
		assert_shows(w.s[i], "b2", "b2");
		assert_shows(w.s[i], "c4", "c4");
		assert_has(w.s[i], "left");
		assert_has(w.s[i], "right");
	}
	pull_all(&w);
	assert_all_equal(&w, "two copies");
	assert_no_dot_is_used_twice(&w, "two copies");
	assert_has_n(&w, "b", 2);
	assert_has_n(&w, "c", 4);
	assert_has(w.s[0], "left");
	assert_has(w.s[0], "right");
	world_fini(&w);
}

/* A link between the two copies themselves. */
static void
test_two_copies_that_meet_each_other_part(void **state)
{
	(void)state;
	for (unsigned b = 0; b < 3; b++)
		for (unsigned c = 0; c < 3; c++) {
			struct world w = { .len = 0 };

			add_store(&w, "laptop");
			write_n(w.s[0], "a", 3);
			w.s[1] = store_copy(w.s[0]);
			w.len = 2;
			w.s[0]->block_left = 0;
			write_n(w.s[0], "b", b);
			write_n(w.s[1], "c", c);
			pull_all(&w);
			assert_all_equal(&w, "direct");
			write_n(w.s[0], "d", 2);
			write_n(w.s[1], "e", 2);
			pull_all(&w);
			assert_all_equal(&w, "direct");
			assert_no_dot_is_used_twice(&w, "direct");
			assert_has_n(&w, "a", 3);
			assert_has_n(&w, "b", b);
			assert_has_n(&w, "c", c);
			assert_has_n(&w, "d", 2);
			assert_has_n(&w, "e", 2);
			world_fini(&w);
		}
}

/* One that was restored is not heard of again; those it told still agree. */
static void
test_third_replicas_agree_without_the_forked_one(void **state)
{
	struct world w = { .len = 0 };
	struct state *old;

	(void)state;
	add_store(&w, "laptop");
	add_store(&w, "server");
	add_store(&w, "desk");
	write_n(w.s[0], "a", 3);
	old = store_copy(w.s[0]);
	write_n(w.s[0], "b", 4);
	pull(&w, w.s[1], w.s[0], SIZE_MAX);
	write_n(old, "c", 5);
	pull(&w, w.s[2], old, 4);	/* and that round broke */
	state_free(old);
	state_free(w.s[0]);
	w.s[0] = w.s[--w.len];
	pull_all(&w);
	assert_all_equal(&w, "without it");
	assert_no_dot_is_used_twice(&w, "without it");
	assert_has_n(&w, "b", 4);
	world_fini(&w);
}

static void
test_a_store_that_did_not_fork_keeps_its_incarnation(void **state)
{
	struct world w = { .len = 0 };
	uint64_t self;

	(void)state;
	add_store(&w, "laptop");
	add_store(&w, "server");
	self = w.s[0]->self;
	for (unsigned i = 0; i < 20; i++) {
		char name[16];
		struct state *again;

		snprintf(name, sizeof(name), "f%u", i);
		assert_int_equal(sim_write(w.s[0], name, name), 0);
		if (i % 3)
			pull(&w, w.s[1], w.s[0], i % 4 ? SIZE_MAX : 1);
		again = store_copy(w.s[0]);
		state_free(w.s[0]);
		w.s[0] = again;
	}
	pull_all(&w);
	assert_int_equal(w.forks, 0);
	assert_true(w.s[0]->self == self);
	assert_int_equal(vv_get(&w.s[1]->know, self), 20);
	assert_int_equal(w.s[0]->know.len, 1);
	world_fini(&w);
}

static const char *
one_name(void *ctx, uint64_t id)
{
	(void)ctx;
	(void)id;
	return "laptop";
}

/* Two users chose one name, and never met: they are two replicas, and their
 * siblings have names of their own. */
static void
test_two_stores_of_one_name_are_two(void **state)
{
	static const char *const content[] = { "one", "two", "three" };
	struct world w = { .len = 0 };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		add_store(&w, "laptop");
		w.s[i]->io.node_name = one_name;
		w.s[i]->now = 1000 * (i + 1);
		write_n(w.s[i], content[i], 2);
		assert_int_equal(sim_write(w.s[i], "a", content[i]), 0);
		assert_int_equal(sim_mkdir(w.s[i], "d", 0755, DIR_MADE_HERE), 0);
	}
	pull_all(&w);
	assert_all_equal(&w, "one name");
	assert_no_dot_is_used_twice(&w, "one name");
	assert_int_equal(w.forks, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_has_n(&w, content[i], 2);
	assert_shows(w.s[0], "a", "three");
	assert_shows(w.s[0], "a.conflict-laptop", "one");
	assert_shows(w.s[0], "a.conflict-laptop-2", "two");
	/* Each is edited under its name, by whoever. */
	assert_int_equal(sim_write(w.s[0], "a.conflict-laptop-2", "edited"), 0);
	assert_int_equal(sim_unlink(w.s[1], "a.conflict-laptop"), 0);
	pull_all(&w);
	assert_all_equal(&w, "one name");
	assert_shows(w.s[2], "a", "three");
	assert_shows(w.s[2], "a.conflict-laptop-2", "edited");
	world_fini(&w);
}

/* A directory that nobody has heard of changes its identity when it is renamed,
 * without an event: a store that forgot that it told of it must not do that. */
static bool
is_told(struct state *s, const char *name)
{
	struct dir *d = state_at(s, s->root, name);

	return d && d->told == DIR_TOLD;
}

/* Anything, in any order; files of the name fN are never removed, so all of them
 * must be there in the end. */
static void
run_history(uint64_t seed)
{
	struct world w = { .len = 0 };
	struct state *old = NULL;
	unsigned written = 0;
	char what[48];

	random_reset(seed);
	snprintf(what, sizeof(what), "history %llu", (unsigned long long)seed);
	for (size_t i = 3 + random_below(2); i > 0; i--)
		add_store(&w, "any");
	for (size_t n = 10 + random_below(50); n > 0; n--) {
		size_t i = random_below(w.len), j = random_below(w.len);
		char name[32], to[32];

		w.s[i]->now += random_below(5000);
		switch (random_below(17)) {
		case 0:		/* a backup is taken */
			if (old)
				state_free(old);
			old = store_copy(w.s[i]);
			break;
		case 1:		/* and comes back as one more */
			if (old && w.len < STORES_MAX) {
				w.s[w.len++] = old;
				old = NULL;
			}
			break;
		case 2:		/* closed and opened */
			w.s[i]->block_left = 0;
			break;
		case 3:
			snprintf(name, sizeof(name), "d%zu", random_below(5));
			sim_mkdir(w.s[i], name, 0755, DIR_MADE_HERE);
			break;
		case 4:
		case 5:
		case 6:
		case 7:
			snprintf(name, sizeof(name), "f%u", ++written);
			assert_int_equal(sim_write(w.s[i], name, name), 0);
			break;
		case 8:
		case 9:
		case 10:	/* what comes and goes */
			snprintf(name, sizeof(name), "d%zu/x", random_below(5));
			snprintf(to, sizeof(to), "w%zu", n);
			sim_write(w.s[i], random_chance(50) ? name : name + 3, to);
			break;
		case 11:
			snprintf(name, sizeof(name), "d%zu/x", random_below(5));
			sim_unlink(w.s[i], random_chance(50) ? name : name + 3);
			break;
		case 12:
			snprintf(name, sizeof(name), "d%zu", random_below(5));
			snprintf(to, sizeof(to), "m%zu", n);
			if (is_told(w.s[i], name))
				sim_rename(w.s[i], name, to);
			else
				sim_rmdir(w.s[i], name);
			break;
		default:
			if (i != j)
				pull(&w, w.s[i], w.s[j], random_chance(30) ? random_below(5) : SIZE_MAX);
		}
	}
	pull_all(&w);
	assert_all_equal(&w, what);
	assert_no_dot_is_used_twice(&w, what);
	assert_has_n(&w, "f", written);
	if (old)
		state_free(old);
	world_fini(&w);
}

static void
test_random_histories_with_backups_and_copies_lose_nothing(void **state)
{
	const char *given = getenv("SIBFS_HISTORIES");
	uint64_t first = random_number() % 1000000000;

	(void)state;
	for (size_t n = given ? strtoul(given, NULL, 10) : 200; n > 0; n--)
		run_history(first + n);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_store_restored_at_3_when_peers_know_5_loses_nothing),
		cmocka_unit_test(test_the_same_at_the_edges),
		cmocka_unit_test(test_restored_where_a_block_ends),
		cmocka_unit_test(test_two_copies_of_one_store_both_keep_all),
		cmocka_unit_test(test_two_copies_that_meet_each_other_part),
		cmocka_unit_test(test_third_replicas_agree_without_the_forked_one),
		cmocka_unit_test(test_two_stores_of_one_name_are_two),
		cmocka_unit_test(test_a_store_that_did_not_fork_keeps_its_incarnation),
		cmocka_unit_test(test_random_histories_with_backups_and_copies_lose_nothing),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
