/*
 * What the core costs: joins, operations, messages.  Prints what it measures;
 * nothing here passes or fails.
 *
 *	core joins | million [OPERATIONS] | move [FILES] | reconnect [FILES] | shapes | scale [MOST_FILES]
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "replication/mem.h"
#include "replication/take.h"
#include "tests/lib/random.h"
#include "tests/sim/world.h"

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct world *
cluster(unsigned nodes, enum shape shape)
{
	struct history h = { .nodes = nodes, .shape = (unsigned)shape };
	struct world *w = world_new(&h, false);

	w->rows_max = 200;
	w->fleeting = true;
	for (unsigned i = 0; i < nodes; i++)
		for (unsigned j = 0; j < i; j++)
			if (world_in_shape(shape, nodes, i, j))
				world_link(w, i, j);
	world_run_until_quiet(w, UINT64_MAX / 2);
	return w;
}

/* A file written at a replica: file n of `dirs` directories. */
static void
write_file(struct world *w, unsigned who, size_t dirs, size_t n, unsigned content)
{
	char path[64], text[16];
	struct step t = { .kind = STEP_MKDIR, .who = who, .a = path, .b = text, .n = 0755 };

	snprintf(path, sizeof(path), "d%zu", n % dirs);
	if (n < dirs)
		world_step(w, &t);
	snprintf(path, sizeof(path), "d%zu/file%zu", n % dirs, n);
	snprintf(text, sizeof(text), "c%u", content);
	t.kind = STEP_WRITE;
	world_step(w, &t);
}

static struct tally
total(struct world *w)
{
	struct tally sum = { 0 };

	for (size_t i = 0; i < (size_t)w->len * w->len; i++) {
		const struct tally *t = w->wires[i].end ? endpoint_tally(w->wires[i].end) : NULL;

		if (!t)
			continue;
		sum.messages += t->messages;
		sum.bytes += t->bytes;
		sum.batches += t->batches;
		sum.watermarks += t->watermarks;
		sum.regs += t->regs;
		sum.dirs += t->dirs;
		if (t->longest > sum.longest)
			sum.longest = t->longest;
	}
	return sum;
}

/* What was said since. */
static struct tally
since(const struct tally *before, struct world *w)
{
	struct tally t = total(w);

	t.messages -= before->messages;
	t.bytes -= before->bytes;
	t.batches -= before->batches;
	t.watermarks -= before->watermarks;
	t.regs -= before->regs;
	t.dirs -= before->dirs;
	return t;
}

/* ---- joins ---- */

#define JOIN_FILES 50000

/* Versions that a peer wrote on top of each other, each joined in turn. */
static void
joins(void)
{
	struct world *w = cluster(2, SHAPE_CHAIN);
	struct state *mine = w->node[0].s, *peer = w->node[1].s;
	double taken = 0, start;
	size_t n = 0;
	bool news;

	for (size_t i = 0; i < JOIN_FILES; i++)
		write_file(w, 1, 100, i, 0);
	world_run_until_quiet(w, UINT64_MAX / 2);
	for (unsigned round = 1; round <= 10; round++) {
		for (size_t i = 0; i < JOIN_FILES; i++)
			write_file(w, 1, 100, i + JOIN_FILES * 100, round);
		start = seconds();
		for (struct reg *r = peer->regs; r; r = r->hh.next) {
			struct dir *d = state_dir(mine, &r->dir->id);
			struct reg *x;

			if (!d)
				continue;
			x = take_reg(mine, d, reg_name(r), reg_known(r), &peer->know, &news);
			state_reg_show(mine, x);
			n++;
		}
		taken += seconds() - start;
		world_commit(w, 0);
		world_commit(w, 1);
	}
	printf("%zu registers joined and shown: %.0f in a second\n", n, (double)n / taken);
	world_free(w);
}

/* ---- a million operations ---- */

static void
million(unsigned operations)
{
	struct world *w = cluster(3, SHAPE_CHAIN);
	double start = seconds(), took;
	char a[32], b[32], text[16];
	struct step t = { .a = a, .b = b };

	for (unsigned i = 0; i < 100; i++) {
		snprintf(a, sizeof(a), "d%u", i);
		t.kind = STEP_MKDIR;
		t.n = 0755;
		world_step(w, &t);
	}
	for (unsigned n = 1; n <= operations; n++) {
		unsigned x = (unsigned)random_below(100);

		t.who = (unsigned)random_below(3);
		t.b = b;
		snprintf(a, sizeof(a), "d%zu/%zu", random_below(100), random_below(200));
		snprintf(b, sizeof(b), "d%zu/%zu", random_below(100), random_below(200));
		snprintf(text, sizeof(text), "c%u", n);
		t.kind = x < 70 ? STEP_WRITE : x < 85 ? STEP_RENAME : x < 95 ? STEP_UNLINK : STEP_CHMOD;
		if (t.kind == STEP_WRITE)
			t.b = text;
		t.n = 0644;
		world_step(w, &t);
		if (n % 1000 == 0)
			world_run_until_quiet(w, UINT64_MAX / 2);
	}
	world_run_until_quiet(w, UINT64_MAX / 2);
	took = seconds() - start;
	printf("%u operations at 3 replicas, exchanged after each 1000: %.1f s\n", operations, took);
	world_free(w);
}

/* ---- one directory ---- */

static void
move(size_t files)
{
	struct world *w = cluster(2, SHAPE_CHAIN);
	char a[] = "top", b[] = "moved";
	struct step t = { .kind = STEP_MKDIR, .a = a, .b = b, .n = 0755 };
	struct state *s = w->node[0].s;
	struct local_file f = { .kind = KIND_FILE };
	struct dir *top, *sub = NULL;
	struct tally before, said;
	uint64_t counter;
	double start, moved;
	size_t rows;

	world_step(w, &t);
	top = s->root->children;
	for (size_t i = 0; i < files; i++) {
		char name[32];

		snprintf(name, sizeof(name), "%zu", i);
		if (i % 1000 == 0)
			local_mkdir(s, top, name, 0755, DIR_MADE_HERE, &sub);
		else
			local_found(s, sub, name, &f);
	}
	world_run_until_quiet(w, UINT64_MAX / 2);
	before = total(w);
	counter = s->counter;
	start = seconds();
	t.kind = STEP_RENAME;
	world_step(w, &t);
	moved = seconds() - start;
	rows = s->dirty_regs.len + s->dirty_dirs.len;
	world_run_until_quiet(w, UINT64_MAX / 2);
	said = since(&before, w);
	printf("a directory with %zu files below it is moved in %.0f us: %llu event, %zu row, and to the peer\n"
	    "%llu directory in %llu message (and a watermark), %llu bytes, taken in within %.0f us\n", files, moved * 1e6,
	    (unsigned long long)(s->counter - counter), rows, (unsigned long long)said.dirs,
	    (unsigned long long)said.batches, (unsigned long long)said.bytes, (seconds() - start - moved) * 1e6);
	world_free(w);
}

/* ---- reconnecting ---- */

static void
reconnect(size_t files)
{
	struct world *w = cluster(2, SHAPE_CHAIN);
	struct tally said;
	double start;

	for (size_t i = 0; i < files; i++)
		write_file(w, 0, 100, i, 1);
	world_run_until_quiet(w, UINT64_MAX / 2);
	world_cut(w, 0, 1);
	for (size_t i = 0; i < 10; i++)
		write_file(w, i % 2, 100, files / 10 * i + 100, 2);
	start = seconds();
	world_link(w, 0, 1);
	world_run_until_quiet(w, UINT64_MAX / 2);
	said = total(w);
	printf("reconnecting with %zu files and 10 changes: %llu messages, %llu registers, %llu bytes, %.0f us\n", files,
	    (unsigned long long)said.messages, (unsigned long long)said.regs, (unsigned long long)said.bytes,
	    (seconds() - start) * 1e6);
	world_free(w);
}

/* ---- shapes of networks ---- */

static const char *const shape_names[] = { "chain", "ring", "star", "tree", "mesh" };

static unsigned
links(const struct world *w)
{
	unsigned n = 0;

	for (unsigned i = 0; i < w->len; i++)
		for (unsigned j = 0; j < i; j++)
			n += world_in_shape(w->shape, w->len, i, j);
	return n;
}

/* Changes at random replicas, so many at a time. */
static void
shape_cost(enum shape shape, const char *name, unsigned nodes, unsigned changes, unsigned at_a_time)
{
	struct world *w = cluster(nodes, shape);
	struct tally before, said;
	double crossings;

	for (size_t i = 0; i < 1000; i++)
		write_file(w, 0, 10, i, 1);
	world_run_until_quiet(w, UINT64_MAX / 2);
	before = total(w);
	for (unsigned i = 1; i <= changes; i++) {
		write_file(w, (unsigned)random_below(nodes), 10, 10 + random_below(990), i);
		if (i % at_a_time == 0)
			world_run_until_quiet(w, UINT64_MAX / 2);
	}
	said = since(&before, w);
	crossings = (double)changes * links(w);
	printf("%-6s %4u %6u %6u %6u  %8.2f %8.2f %8.0f\n", name, nodes, links(w), changes, at_a_time,
	    (double)said.regs / crossings, (double)said.messages / crossings, (double)said.bytes / crossings);
	world_free(w);
}

static void
shapes(void)
{
	static const unsigned sizes[] = { 2, 5, 10, 20, 50 };

	printf("# for each change and link: how often it crosses, messages, bytes\n"
	    "shape replicas links changes at a time  crosses messages   bytes\n");
	for (unsigned shape = 0; shape < SHAPES; shape++)
		for (unsigned i = 0; i < 5; i++)
			for (unsigned at = 1; at <= 100; at *= 100)
				shape_cost((enum shape)shape, shape_names[shape], sizes[i], 200, at);
}

/* ---- how it grows ---- */

/* What everyone has to say arrives everywhere, again and again: how often? */
static unsigned
rounds(struct world *w)
{
	unsigned n = 0;

	while (world_round(w))
		n++;
	return n;
}

/* All that one replica has goes to all; then ten changes at ten of them. */
static void
grow(enum shape shape, const char *name, unsigned replicas, size_t files)
{
	struct world *w = cluster(replicas, shape);
	double start = seconds(), took, per_link = links(w);
	struct tally all, said;
	unsigned n;

	for (size_t i = 0; i < files; i++)
		write_file(w, 1, 100, i, 1);
	world_run_until_quiet(w, UINT64_MAX / 2);
	took = seconds() - start;
	all = total(w);
	for (unsigned i = 0; i < 10; i++)
		write_file(w, (unsigned)random_below(replicas), 100, 100 + i * (files / 10 - 20), 2);
	n = rounds(w);
	said = since(&all, w);
	printf("%-6s %4u %7zu %8.0f %7.0f %8.2f %6.1f | %8.1f %7.0f %8.2f %7u\n", name, replicas, files,
	    (double)all.messages / per_link, (double)all.bytes / per_link / (double)files,
	    (double)all.regs / per_link / (double)files, took, (double)said.messages / per_link,
	    (double)said.bytes / per_link, (double)said.regs / per_link / 10, n);
	fflush(stdout);
	world_free(w);
}

#define CROSSINGS_MAX 20000000	/* that one can wait for */

static void
scale(size_t most)
{
	static const unsigned sizes[] = { 2, 10, 50 };

	printf("# all files of one replica to all, and then 10 changes; for each link\n"
	    "shape  repl.   files messages bytes/f  crosses      s | messages   bytes  crosses  rounds\n");
	for (unsigned shape = SHAPE_RING; shape < SHAPES; shape++)
		for (unsigned i = 0; i < 3; i++)
			for (size_t files = 1000; files <= most; files *= 10)
				if ((sizes[i] > 2 || shape == SHAPE_STAR) &&
				    (shape != SHAPE_MESH || sizes[i] * (sizes[i] - 1) / 2 * files <= CROSSINGS_MAX))
					grow((enum shape)shape, shape_names[shape], sizes[i], files);
}

int
main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

	random_reset(1);
	if (strcmp(what, "joins") == 0) {
		joins();
	} else if (strcmp(what, "million") == 0) {
		million(n ? (unsigned)n : 1000000);
	} else if (strcmp(what, "move") == 0) {
		move(n ? n : 1000000);
	} else if (strcmp(what, "reconnect") == 0) {
		reconnect(n ? n : 100000);
	} else if (strcmp(what, "shapes") == 0) {
		shapes();
	} else if (strcmp(what, "scale") == 0) {
		scale(n ? n : 100000);
	} else {
		fprintf(stderr, "usage: core joins | million [OPERATIONS] | move [FILES] | reconnect [FILES] | shapes | scale [MOST_FILES]\n");
		return 2;
	}
	return 0;
}
