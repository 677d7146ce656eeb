/*
 * Laws of every history: replicas that have exchanged all hold and show the
 * same, in whatever order and however often broken off they did; what is shown
 * follows from the state alone; everything a replica holds passes the wire.
 *
 * SIBFS_HISTORIES says how many (300 unless given), SIBFS_SEED which first.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replication/mem.h"
#include "replication/wire.h"
#include "tests/lib/random.h"
#include "tests/lib/sim.h"

#define NODES_MAX 5

static const char *const nodes[NODES_MAX] = { "laptop", "server", "desk", "phone", "nas" };

/* ---- steps ---- */

/* Paths of what shows, and some of what does not. */
static char *
random_path(struct state *s)
{
	static const char *const names[] = { "a", "b", "c", "a/x", "b/x", "c/a/x", "a/b", "b/a", "c/b/a" };
	char *tree = sim_tree(s), *line = tree, *path;
	size_t n = 0;

	for (char *p = tree; *p; p++)
		n += *p == '\n';
	if (n == 0 || random_chance(40)) {
		free(tree);
		return mem_str(names[random_below(sizeof(names) / sizeof(*names))]);
	}
	for (n = random_below(n); n > 0; n--)
		line = strchr(line, '\n') + 1;
	*strchr(line, '\t') = '\0';
	path = random_chance(15) ? mem_printf("%s/%s", line, names[random_below(3)]) : mem_str(line);
	free(tree);
	return path;
}

static void
random_step(struct sim *sim, bool pulls)
{
	struct state *s = sim->s[random_below(sim->len)], *peer;
	char *path = random_path(s), *to = random_path(s), content[16];

	/* Clocks are wrong now and then. */
	s->now += random_below(1000);
	if (random_chance(5))
		s->now = random_below(100000);
	snprintf(content, sizeof(content), "%zu", random_below(random_chance(20) ? 3 : 100000));
	switch (random_below(pulls ? 12 : 9)) {
	case 0:
	case 1:
	case 2:
		sim_write(s, path, content);
		break;
	case 3:
		sim_unlink(s, path);
		break;
	case 4:
		sim_mkdir(s, path, 0700 | (uint32_t)random_below(64), random_chance(70) ? DIR_MADE_HERE : DIR_TAKEN_IN);
		break;
	case 5:
		sim_rmdir(s, path);
		break;
	case 6:
	case 7:
		sim_rename(s, path, to);
		break;
	case 8:
		sim_chmod(s, path, 0600 | (uint32_t)random_below(64));
		break;
	default:
		peer = sim->s[random_below(sim->len)];
		if (peer != s)
			sim_pull(s, peer, random_chance(30) ? random_below(4) : SIZE_MAX);
	}
	free(path);
	free(to);
}

/* ---- laws ---- */

static void
pull_all(struct sim *sim)
{
	/* There and back again, so that what one heard last reaches the first. */
	for (size_t round = 0; round < 3; round++)
		for (size_t i = 0; i < sim->len; i++)
			for (size_t j = 0; j < sim->len; j++)
				if (i != j)
					sim_pull(sim->s[i], sim->s[j], SIZE_MAX);
}

static void
pull_all_in_some_order(struct sim *sim)
{
	for (size_t n = 3 * sim->len * sim->len; n > 0; n--) {
		size_t i = random_below(sim->len), j = random_below(sim->len);

		if (i != j)
			sim_pull(sim->s[i], sim->s[j], random_chance(30) ? random_below(5) : SIZE_MAX);
	}
	pull_all(sim);
}

static void
assert_all_equal(struct sim *sim, uint64_t seed)
{
	char *first = sim_tree(sim->s[0]);

	for (size_t i = 1; i < sim->len; i++) {
		char *other = sim_tree(sim->s[i]);

		if (strcmp(first, other) != 0)
			fail_msg("history %llu: %s shows\n%s%s shows\n%s", (unsigned long long)seed, sim->name[0], first,
			    sim->name[i], other);
		free(other);
	}
	free(first);
}

/* A tree is computed step by step; from scratch it must be the same. */
static void
assert_places_follow(struct state *s, uint64_t seed)
{
	char *before = sim_tree(s), *after;

	state_rebuild(s);
	after = sim_tree(s);
	if (strcmp(before, after) != 0)
		fail_msg("history %llu: step by step\n%sfrom scratch\n%s", (unsigned long long)seed, before, after);
	free(before);
	free(after);
}

static void
assert_passes_the_wire(struct state *s, uint64_t seed)
{
	for (struct reg *r = s->regs; r; r = r->hh.next) {
		Sibfs__Wire__RegisterValue *m = wire_regval(reg_known(r));
		struct regval got;

		if (wire_get_regval(m, &got) < 0 || !regval_equal(&got, reg_known(r)))
			fail_msg("history %llu: %s does not pass", (unsigned long long)seed, reg_name(r));
		regval_fini(&got);
		sibfs__wire__register_value__free_unpacked(m, NULL);
	}
	for (struct dir *d = s->dirs; d; d = d->hh.next) {
		Sibfs__Wire__Directory *m = wire_directory(d);
		struct place birth;
		struct dirval got;
		uint32_t k;

		if (d != s->root) {
			if (wire_get_directory(s, m, &birth, &k, &got) < 0 || !dirval_equal(&got, &d->val) ||
			    !vv_dominates(&d->val.ctx, &(struct vv){ d->val.live, d->val.live_len, 0 }))
				fail_msg("history %llu: %s does not pass", (unsigned long long)seed, d->birth.name);
			free(birth.name);
			dirval_fini(&got);
		}
		sibfs__wire__directory__free_unpacked(m, NULL);
	}
}

/* What a replica counts as it goes. */
static void
assert_counts_are_right(struct state *s, uint64_t seed)
{
	for (struct dir *d = s->dirs; d; d = d->hh.next) {
		uint32_t files = 0, standing = 0;

		for (struct reg *r = s->regs; r; r = r->hh.next)
			files += r->dir == d && r->shown.len;
		for (struct dir *c = d->children; c; c = c->next)
			standing += state_stands(c);
		if (d->files != files || d->standing != standing)
			fail_msg("history %llu: %u of %u files, %u of %u directories", (unsigned long long)seed, d->files,
			    files, d->standing, standing);
	}
}

/* Content of a live version is never out of sight. */
static void
assert_nothing_is_hidden(struct state *s, uint64_t seed)
{
	char *tree = sim_tree(s);

	for (struct reg *r = s->regs; r; r = r->hh.next)
		for (uint32_t i = 0; i < r->shown.len; i++) {
			const struct version *v = &r->shown.v[i];
			char *find = mem_printf("\t%.32s\t", (const char *)v->hash.b);
			/* Made where nothing was and edited since by others: seen in what it became. */
			bool may_hide = v->made;

			if (!may_hide && !strstr(tree, find))
				fail_msg("history %llu: %s of %s is not to be seen", (unsigned long long)seed, find, reg_name(r));
			free(find);
		}
	free(tree);
}

static void
check_all(struct sim *sim, uint64_t seed)
{
	for (size_t i = 0; i < sim->len; i++) {
		assert_counts_are_right(sim->s[i], seed);
		assert_places_follow(sim->s[i], seed);
		assert_counts_are_right(sim->s[i], seed);
		assert_passes_the_wire(sim->s[i], seed);
		assert_nothing_is_hidden(sim->s[i], seed);
	}
}

/* One history; at its end all exchange, by the given way. */
static char *
run_history(uint64_t seed, void (*exchange)(struct sim *))
{
	struct sim sim = { .len = 0 };
	size_t steps;
	char *tree;

	random_reset(seed);
	sim_init(&sim, nodes, 2 + random_below(NODES_MAX - 1));
	for (steps = 5 + random_below(60); steps > 0; steps--)
		random_step(&sim, true);
	check_all(&sim, seed);
	exchange(&sim);
	assert_all_equal(&sim, seed);
	check_all(&sim, seed);
	tree = sim_tree(sim.s[0]);
	sim_fini(&sim);
	return tree;
}

static uint64_t first_seed;

static size_t
histories(void)
{
	const char *given = getenv("SIBFS_HISTORIES");

	return given ? strtoul(given, NULL, 10) : 300;
}

static void
test_replicas_that_exchanged_all_show_the_same(void **state)
{
	(void)state;
	for (size_t i = 0; i < histories(); i++)
		free(run_history(first_seed + i, pull_all));
}

/* Identities are settled by who speaks first; only histories without directories
 * that nobody has heard of must end the same in each order. */
static void
test_the_order_and_breaks_of_the_exchange_do_not_matter(void **state)
{
	(void)state;
	for (size_t i = 0; i < histories(); i++) {
		uint64_t seed = first_seed + i;
		char *trees[2];

		for (int way = 0; way < 2; way++) {
			struct sim sim = { .len = 0 };

			random_reset(seed);
			sim_init(&sim, nodes, 2 + random_below(NODES_MAX - 1));
			for (size_t n = 5 + random_below(20); n > 0; n--)
				random_step(&sim, true);
			pull_all(&sim);
			for (size_t n = random_below(30); n > 0; n--) {
				struct state *s = sim.s[random_below(sim.len)];
				char *path = random_path(s), *to = random_path(s), content[16];

				s->now += 1000;
				snprintf(content, sizeof(content), "%zu", random_below(1000));
				switch (random_below(5)) {
				case 0: sim_unlink(s, path); break;
				case 1: sim_rename(s, path, to); break;
				case 2: sim_rmdir(s, path); break;
				default: sim_write(s, path, content); break;
				}
				free(path);
				free(to);
			}
			if (way == 0) {
				pull_all(&sim);
			} else {
				random_reset(seed * 31 + 7);
				pull_all_in_some_order(&sim);
			}
			assert_all_equal(&sim, seed);
			trees[way] = sim_tree(sim.s[0]);
			sim_fini(&sim);
		}
		if (strcmp(trees[0], trees[1]) != 0)
			fail_msg("history %llu: in order\n%sin another\n%s", (unsigned long long)seed, trees[0], trees[1]);
		free(trees[0]);
		free(trees[1]);
	}
}

static void
test_exchanging_again_changes_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < histories() / 4; i++) {
		struct sim sim = { .len = 0 };
		uint64_t seqs[NODES_MAX];

		random_reset(first_seed + i);
		sim_init(&sim, nodes, 2 + random_below(NODES_MAX - 1));
		for (size_t n = 40; n > 0; n--)
			random_step(&sim, true);
		pull_all(&sim);
		for (size_t k = 0; k < sim.len; k++)
			seqs[k] = sim.s[k]->seq;
		pull_all(&sim);
		for (size_t k = 0; k < sim.len; k++)
			assert_int_equal(sim.s[k]->seq, seqs[k]);
		sim_fini(&sim);
	}
}

/* Versions, by their dots: written by someone, and replaced or removed by someone
 * who had them on show. */
struct ledger {
	struct dot *written, *killed;
	size_t written_len, killed_len;
};

static bool
has_dot(const struct dot *list, size_t n, struct dot d)
{
	for (size_t i = 0; i < n; i++)
		if (dot_equal(list[i], d))
			return true;
	return false;
}

static struct dot *
live_dots(struct state *s, size_t *n)
{
	struct dot *out = NULL;

	*n = 0;
	for (struct reg *r = s->regs; r; r = r->hh.next)
		for (uint32_t i = 0; i < r->shown.len; i++) {
			out = mem_resize(out, *n + 1, sizeof(*out));
			out[(*n)++] = r->shown.v[i].dot;
		}
	return out;
}

/* Enters what is in a and not in b. */
static void
enter(struct dot **list, size_t *len, const struct dot *a, size_t a_len, const struct dot *b, size_t b_len)
{
	for (size_t i = 0; i < a_len; i++)
		if (!has_dot(b, b_len, a[i]) && !has_dot(*list, *len, a[i])) {
			*list = mem_resize(*list, *len + 1, sizeof(**list));
			(*list)[(*len)++] = a[i];
		}
}

/* A step of some replica, entered. */
static void
step_entered(struct sim *sim, struct ledger *l)
{
	struct dot *before[NODES_MAX], *after;
	size_t n[NODES_MAX], after_len;

	for (size_t i = 0; i < sim->len; i++)
		before[i] = live_dots(sim->s[i], &n[i]);
	random_step(sim, false);
	for (size_t i = 0; i < sim->len; i++) {
		after = live_dots(sim->s[i], &after_len);
		enter(&l->written, &l->written_len, after, after_len, before[i], n[i]);
		enter(&l->killed, &l->killed_len, before[i], n[i], after, after_len);
		free(before[i]);
		free(after);
	}
}

/* What is live is what was written and nobody removed. */
static void
assert_ledger(struct sim *sim, const struct ledger *l, uint64_t seed)
{
	for (size_t i = 0; i < sim->len; i++) {
		size_t n;
		struct dot *live = live_dots(sim->s[i], &n);

		for (size_t j = 0; j < l->written_len; j++) {
			struct dot d = l->written[j];
			bool is_live = has_dot(live, n, d), killed = has_dot(l->killed, l->killed_len, d);

			if (is_live == killed)
				fail_msg("history %llu: on %s version %llu of %s %s", (unsigned long long)seed, sim->name[i],
				    (unsigned long long)d.n, sim->name[d.id - 1], killed ? "came back" : "is lost");
		}
		free(live);
	}
}

/*
 * One replica is away for a while, and the others forget without it; when it
 * returns it brings old copies, and edits that nobody has seen.
 */
static size_t
history_with_one_away(uint64_t seed)
{
	struct sim sim = { .len = 0 };
	struct ledger l = { 0 };
	const struct vv *know[NODES_MAX];
	size_t away, steps, gone = 0;

	random_reset(seed);
	sim_init(&sim, nodes, 3 + random_below(NODES_MAX - 2));
	away = random_below(sim.len);
	for (steps = 5 + random_below(30); steps > 0; steps--)
		step_entered(&sim, &l);
	pull_all(&sim);
	for (steps = 20 + random_below(60); steps > 0; steps--) {
		size_t i = random_below(sim.len), j = random_below(sim.len), n = 0;

		step_entered(&sim, &l);
		if (i == j || i == away || j == away)
			continue;
		sim_pull(sim.s[i], sim.s[j], SIZE_MAX);
		sim_pull(sim.s[j], sim.s[i], SIZE_MAX);
		for (size_t k = 0; k < sim.len; k++)
			if (k != away)
				know[n++] = &sim.s[k]->know;
		gone += sim_collect(sim.s[i], know, n);
	}
	/* It is cut off now and then while it catches up. */
	for (size_t n = random_below(6); n > 0; n--) {
		size_t i = random_below(sim.len);

		if (i != away)
			sim_pull(sim.s[random_chance(50) ? i : away], sim.s[random_chance(50) ? i : away], random_below(5));
	}
	pull_all(&sim);
	check_all(&sim, seed);
	assert_ledger(&sim, &l, seed);
	free(l.written);
	free(l.killed);
	sim_fini(&sim);
	return gone;
}

static void
test_who_was_not_waited_for_brings_nothing_back_and_loses_nothing(void **state)
{
	size_t gone = 0;

	(void)state;
	for (size_t i = 0; i < histories(); i++)
		gone += history_with_one_away(first_seed + i);
	assert_true(gone > histories());
}

static void
test_what_all_know_is_forgotten_by_all(void **state)
{
	(void)state;
	for (size_t i = 0; i < histories() / 4; i++) {
		const struct vv *know[NODES_MAX];
		struct sim sim = { .len = 0 };

		random_reset(first_seed + i);
		sim_init(&sim, nodes, 2 + random_below(NODES_MAX - 1));
		for (size_t n = 40; n > 0; n--)
			random_step(&sim, true);
		pull_all(&sim);
		for (size_t k = 0; k < sim.len; k++)
			know[k] = &sim.s[k]->know;
		for (size_t k = 0; k < sim.len; k++) {
			char *before = sim_tree(sim.s[k]), *after;

			sim_collect(sim.s[k], know, sim.len);
			after = sim_tree(sim.s[k]);
			assert_string_equal(before, after);
			free(before);
			free(after);
			for (struct reg *r = sim.s[k]->regs; r; r = r->hh.next)
				assert_true(r->shown.len || !r->shown.ctx.len);
			/* A removed directory stays only where one that stands was made in it or
			 * moved from there. */
			for (struct dir *d = sim.s[k]->dirs; d; d = d->hh.next)
				assert_true(d == sim.s[k]->root || state_stands(d) || d->named);
		}
		check_all(&sim, first_seed + i);
		sim_fini(&sim);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replicas_that_exchanged_all_show_the_same),
		cmocka_unit_test(test_the_order_and_breaks_of_the_exchange_do_not_matter),
		cmocka_unit_test(test_exchanging_again_changes_nothing),
		cmocka_unit_test(test_who_was_not_waited_for_brings_nothing_back_and_loses_nothing),
		cmocka_unit_test(test_what_all_know_is_forgotten_by_all),
	};

	random_init();
	first_seed = random_number() % 1000000000;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
