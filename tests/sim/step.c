/*
 * Steps to text and back.
 */
#include "config.h"

#include "tests/sim/step.h"

#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"
#include "tests/sim/world.h"

/* What follows the word: r, o replicas; a, b paths or contents; 8 a mode; n, m
 * numbers. */
static const struct {
	const char *word, *args;
} kinds[STEP_KINDS] = {
	[STEP_WRITE] = { "write", "rab" },
	[STEP_UNLINK] = { "unlink", "ra" },
	[STEP_MKDIR] = { "mkdir", "ra8" },
	[STEP_INIT] = { "init", "ra8" },
	[STEP_RMDIR] = { "rmdir", "ra" },
	[STEP_RENAME] = { "rename", "rab" },
	[STEP_SWAP] = { "swap", "rab" },
	[STEP_CHMOD] = { "chmod", "ra8" },
	[STEP_COPY] = { "copy", "ro" },
	[STEP_LINK] = { "link", "ro" },
	[STEP_CUT] = { "cut", "ro" },
	[STEP_STALL] = { "stall", "ro" },
	[STEP_FLOW] = { "flow", "ro" },
	[STEP_PUSH] = { "push", "r" },
	[STEP_DELIVER] = { "deliver", "ro" },
	[STEP_AGAIN] = { "again", "ro" },
	[STEP_RUN] = { "run", "nm" },
	[STEP_SYNC] = { "sync", "ro" },
	[STEP_COMMIT] = { "commit", "r" },
	[STEP_CRASH] = { "crash", "r" },
	[STEP_STOP] = { "stop", "r" },
	[STEP_START] = { "start", "r" },
	[STEP_FORGET] = { "forget", "rn" },
	[STEP_CLOCK] = { "clock", "rn" },
	[STEP_SLOW] = { "slow", "r" },
	[STEP_SHOW] = { "show", "rn" },
};

static const char *const shapes[SHAPES] = { "chain", "ring", "star", "tree", "mesh" };

const char *
step_node_name(unsigned i)
{
	static const char *const names[] = { "laptop", "server", "desk", "phone", "nas" };
	static char more[NODES_MAX][12];

	if (i < sizeof(names) / sizeof(*names))
		return names[i];
	snprintf(more[i], sizeof(more[i]), "r%02u", i);
	return more[i];
}

static int
node_by_name(const char *name)
{
	for (unsigned i = 0; i < NODES_MAX; i++)
		if (strcmp(step_node_name(i), name) == 0)
			return (int)i;
	return -1;
}

void
step_print(FILE *f, const struct step *s)
{
	fputs(kinds[s->kind].word, f);
	for (const char *p = kinds[s->kind].args; *p; p++)
		switch (*p) {
		case 'r': fprintf(f, " %s", step_node_name(s->who)); break;
		case 'o': fprintf(f, " %s", step_node_name(s->other)); break;
		case 'a': fprintf(f, " %s", s->a); break;
		case 'b': fprintf(f, " %s", s->b); break;
		case '8': fprintf(f, " %llo", (unsigned long long)s->n); break;
		case 'n': fprintf(f, " %lld", (long long)s->n); break;
		default: fprintf(f, " %lld", (long long)s->m); break;
		}
	fputc('\n', f);
}

void
step_fini(struct step *s)
{
	free(s->a);
	free(s->b);
}

struct step
step_copy(const struct step *s)
{
	struct step out = *s;

	out.a = mem_str(s->a);
	out.b = mem_str(s->b);
	return out;
}

void
history_add(struct history *h, struct step s)
{
	if (h->len == h->cap) {
		h->cap = h->cap ? 2 * h->cap : 64;
		h->step = mem_resize(h->step, h->cap, sizeof(*h->step));
	}
	h->step[h->len++] = s;
}

void
history_fini(struct history *h)
{
	while (h->len)
		step_fini(&h->step[--h->len]);
	free(h->step);
	*h = (struct history){ 0 };
}

void
history_print(FILE *f, const struct history *h)
{
	fprintf(f, "# seed %llu\nnodes %u %s\n", (unsigned long long)h->seed, h->nodes, shapes[h->shape]);
	for (size_t i = 0; i < h->len; i++)
		step_print(f, &h->step[i]);
}

/* ---- reading ---- */

static bool
read_arg(struct step *s, char arg, const char *word, const struct history *h)
{
	int node;

	switch (arg) {
	case 'r':
	case 'o':
		node = node_by_name(word);
		if (node < 0 || (unsigned)node >= h->nodes)
			return false;
		*(arg == 'r' ? &s->who : &s->other) = (unsigned)node;
		return true;
	case 'a':
		s->a = mem_str(word);
		return true;
	case 'b':
		s->b = mem_str(word);
		return true;
	case '8':
		s->n = strtoll(word, NULL, 8);
		return true;
	default:
		*(arg == 'n' ? &s->n : &s->m) = strtoll(word, NULL, 10);
		return true;
	}
}

static bool
read_step(char *line, struct history *h)
{
	struct step s = { 0 };
	char *rest = line, *word = strsep(&rest, " ");
	bool good = true;

	for (unsigned k = 0; k < STEP_KINDS; k++) {
		if (strcmp(kinds[k].word, word) != 0)
			continue;
		s.kind = k;
		for (const char *p = kinds[k].args; *p && good; p++)
			good = (word = strsep(&rest, " ")) && *word && read_arg(&s, *p, word, h);
		if (good && !rest)
			history_add(h, s);
		else
			step_fini(&s);
		return good && !rest;
	}
	return false;
}

static bool
read_nodes(const char *line, struct history *h)
{
	char shape[16];

	if (sscanf(line, "nodes %u %15s", &h->nodes, shape) != 2 || h->nodes < 2 || h->nodes > NODES_MAX)
		return false;
	for (h->shape = 0; h->shape < SHAPES; h->shape++)
		if (strcmp(shapes[h->shape], shape) == 0)
			return true;
	return false;
}

bool
history_read(FILE *f, struct history *h, char *why, size_t why_size)
{
	char line[1024];

	*h = (struct history){ 0 };
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (!*line || *line == '#')
			continue;
		if (h->nodes ? !read_step(line, h) : !read_nodes(line, h)) {
			snprintf(why, why_size, "cannot read: %s", line);
			history_fini(h);
			return false;
		}
	}
	snprintf(why, why_size, "no line `nodes N SHAPE'");
	return h->nodes > 0;
}
