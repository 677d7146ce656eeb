/*
 * Walks folders from the root, by a table of all registers sorted by directory.
 */
#include "config.h"

#include "tests/lib/listing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

struct walk {
	struct listing *l;
	struct state *s;
	struct reg **regs;	/* by number of the directory */
	size_t regs_len;
	size_t cap;
};

static int
by_dir(const void *a, const void *b)
{
	uint64_t x = (*(struct reg *const *)a)->dir->num, y = (*(struct reg *const *)b)->dir->num;

	return (x > y) - (x < y);
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int
by_path(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

/* The first register of that directory, or of one after it. */
static size_t
first_of(const struct walk *w, uint64_t num)
{
	size_t low = 0, high = w->regs_len;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (w->regs[mid]->dir->num < num)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* The names that stand in a folder, sorted; some may be there twice. */
static const char **
names_in(const struct walk *w, const struct folder *f, size_t *n)
{
	const char **out = NULL;
	size_t cap = 0;

	*n = 0;
	for (size_t i = 0; i < f->len; i++) {
		struct dir *c = f->ids[i]->children;
		size_t at = first_of(w, f->ids[i]->num);

		for (;;) {
			const char *name;

			if (c) {
				name = c->at.name;
				c = c->next;
			} else if (at < w->regs_len && w->regs[at]->dir == f->ids[i]) {
				name = reg_name(w->regs[at++]);
			} else {
				break;
			}
			if (*n == cap) {
				cap = cap ? 2 * cap : 16;
				out = mem_resize(out, cap, sizeof(*out));
			}
			out[(*n)++] = name;
		}
	}
	if (*n)
		qsort(out, *n, sizeof(*out), by_text);
	return out;
}

static char *
join(struct obstack *o, const char *up, const char *name)
{
	if (*up)
		obstack_printf(o, "%s/", up);
	obstack_grow0(o, name, (int)strlen(name));
	return obstack_finish(o);
}

static struct entry *
add(struct walk *w)
{
	struct listing *l = w->l;

	if (l->len == w->cap) {
		w->cap = w->cap ? 2 * w->cap : 16;
		l->e = mem_resize(l->e, w->cap, sizeof(*l->e));
	}
	l->e[l->len] = (struct entry){ 0 };
	return &l->e[l->len++];
}

static void
list_folder(struct walk *w, const struct folder *f, const char *path)
{
	struct obstack *o = &w->l->o;
	size_t n;
	const char **names = names_in(w, f, &n);

	for (size_t i = 0; i < n; i++) {
		struct name_group g;

		if (i && strcmp(names[i], names[i - 1]) == 0)
			continue;
		display_group(w->s, f, names[i], o, &g);
		if (g.dirs.len) {
			struct entry *e = add(w);
			char *sub = e->path = join(o, path, names[i]);

			e->dirs = g.dirs;
			e->mode = display_folder_mode(&g.dirs);
			list_folder(w, &g.dirs, sub);
		}
		for (size_t j = 0; j < g.len; j++) {
			struct entry *e = add(w);

			e->path = join(o, path, g.files[j].name);
			e->hash = g.files[j].hash;
			e->mode = attrs_mode(&g.files[j].attrs, 0);
			e->refs = g.files[j].refs;
			e->refs_len = g.files[j].refs_len;
		}
		group_fini(&g);
	}
	free(names);
}

void
listing_make(struct listing *l, struct state *s)
{
	struct folder root = { &s->root, 1 };
	struct walk w = { .l = l, .s = s };

	*l = (struct listing){ 0 };
	obstack_init(&l->o);
	w.regs = mem_resize(NULL, HASH_COUNT(s->regs) + 1, sizeof(*w.regs));
	for (struct reg *r = s->regs; r; r = r->hh.next)
		w.regs[w.regs_len++] = r;
	qsort(w.regs, w.regs_len, sizeof(*w.regs), by_dir);
	list_folder(&w, &root, "");
	free(w.regs);
	if (l->len)
		qsort(l->e, l->len, sizeof(*l->e), by_path);
}

void
listing_fini(struct listing *l)
{
	free(l->e);
	obstack_free(&l->o, NULL);
}

const struct entry *
listing_find(const struct listing *l, const char *path)
{
	struct entry key = { .path = (char *)(uintptr_t)path };

	return l->len ? bsearch(&key, l->e, l->len, sizeof(*l->e), by_path) : NULL;
}

char *
listing_text(const struct listing *l)
{
	char *out = NULL;
	size_t size;
	FILE *f = open_memstream(&out, &size);

	for (size_t i = 0; i < l->len; i++) {
		const struct entry *e = &l->e[i];

		if (e->dirs.len)
			fprintf(f, "%s\t-\t%o\n", e->path, e->mode);
		else
			fprintf(f, "%s\t%.32s\t%o\n", e->path, (const char *)e->hash.b, e->mode);
	}
	fclose(f);
	return out;
}
