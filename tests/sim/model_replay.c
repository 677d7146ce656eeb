/*
 * Runs histories of the reference model on the C core.  Lines in, answers out:
 *
 *	nodes NAME...			a new history
 *	OP NODE CLOCK ARG...		answered by "ok" or an errno name
 *	collect NODE MEMBER=VECTOR...	forgets, by what it has heard that each member
 *					has; a vector is name:counter, with commas;
 *					answered by how many tombstones of files stay
 *	tree NODE			answered by its lines, then "."
 *
 * Driven by model_diff.py, which compares with what the model does.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"
#include "tests/lib/sim.h"

static struct sim sim;
static char *names[50];

static size_t
node(const char *name)
{
	for (size_t i = 0; i < sim.len; i++)
		if (strcmp(sim.name[i], name) == 0)
			return i;
	fprintf(stderr, "no node %s\n", name);
	exit(2);
}

static void
read_vector(char *text, struct vv *out)
{
	char *one, *colon;

	while ((one = strsep(&text, ",")))
		if ((colon = strchr(one, ':'))) {
			*colon = '\0';
			vv_raise(out, (struct dot){ node(one) + 1, strtoull(colon + 1, NULL, 10) });
		}
}

static size_t
collect(struct state *s, char **arg, size_t n)
{
	struct vv know[50] = { 0 };
	const struct vv *list[50];
	size_t left = 0;

	for (size_t i = 0; i < n; i++) {
		read_vector(strchr(arg[i], '=') + 1, &know[i]);
		list[i] = &know[i];
	}
	sim_collect(s, list, n);
	for (size_t i = 0; i < n; i++)
		vv_fini(&know[i]);
	for (struct reg *r = s->regs; r; r = r->hh.next)
		left += r->shown.ctx.len && !r->shown.len;
	return left;
}

static int
run(const char *op, struct state *s, char **arg)
{
	if (strcmp(op, "write") == 0)
		return sim_write(s, arg[0], arg[1]);
	if (strcmp(op, "unlink") == 0)
		return sim_unlink(s, arg[0]);
	if (strcmp(op, "mkdir") == 0)
		return sim_mkdir(s, arg[0], (uint32_t)strtoul(arg[1], NULL, 10), DIR_MADE_HERE);
	if (strcmp(op, "init") == 0)
		return sim_mkdir(s, arg[0], 0755, DIR_TAKEN_IN);
	if (strcmp(op, "rmdir") == 0)
		return sim_rmdir(s, arg[0]);
	if (strcmp(op, "rename") == 0)
		return sim_rename(s, arg[0], arg[1]);
	if (strcmp(op, "chmod") == 0)
		return sim_chmod(s, arg[0], (uint32_t)strtoul(arg[1], NULL, 10));
	if (strcmp(op, "sync") == 0) {
		sim_pull(s, sim.s[node(arg[0])], SIZE_MAX);
		sim_pull(sim.s[node(arg[0])], s, SIZE_MAX);
		return 0;
	}
	if (strcmp(op, "partial") == 0) {
		sim_pull(s, sim.s[node(arg[0])], strtoul(arg[1], NULL, 10));
		return 0;
	}
	fprintf(stderr, "no operation %s\n", op);
	exit(2);
}

static void
restart(char **word, size_t n)
{
	sim_fini(&sim);
	for (size_t i = 0; i < n; i++) {
		free(names[i]);
		names[i] = mem_str(word[i]);
	}
	sim_init(&sim, (const char *const *)names, n);
}

int
main(void)
{
	char line[4096], *word[64], *rest, *w;

	while (fgets(line, sizeof(line), stdin)) {
		size_t n = 0;

		line[strcspn(line, "\n")] = '\0';
		for (rest = line; (w = strsep(&rest, " ")) && n < 64;)
			word[n++] = w;
		if (strcmp(word[0], "nodes") == 0) {
			restart(word + 1, n - 1);
		} else if (strcmp(word[0], "tree") == 0) {
			char *tree = sim_tree(sim.s[node(word[1])]);

			printf("%s.\n", tree);
			free(tree);
		} else if (strcmp(word[0], "collect") == 0) {
			printf("%zu\n", collect(sim.s[node(word[1])], word + 2, n - 2));
		} else {
			struct state *s = sim.s[node(word[1])];
			int rc;

			s->now = strtoull(word[2], NULL, 10);
			rc = run(word[0], s, word + 3);
			printf("%s\n", rc == 0 ? "ok" : strerrorname_np(-rc));
		}
		fflush(stdout);
	}
	sim_fini(&sim);
	for (size_t i = 0; i < 50; i++)
		free(names[i]);
	return 0;
}
