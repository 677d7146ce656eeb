/*
 * Arrays in the order of events; histories are short.
 */
#include "config.h"

#include "tests/sim/ledger.h"

#include <stdlib.h>

#include "replication/mem.h"

struct ledger *
ledger_new(void)
{
	return mem_alloc(sizeof(struct ledger));
}

static void
record_fini(struct record *r)
{
	free(r->name);
	free(r->kills);
}

void
ledger_free(struct ledger *g)
{
	if (!g)
		return;
	for (unsigned k = 0; k < RECORD_KINDS; k++) {
		while (g->of[k].len)
			record_fini(&g->of[k].r[--g->of[k].len]);
		free(g->of[k].r);
	}
	free(g->lived);
	free(g);
}

struct record *
ledger_add(struct world *w, enum record_kind kind, unsigned node, struct dot dot, const struct dir *d, const char *name)
{
	struct records *all = &w->ledger->of[kind];
	struct record *r;

	if (all->len == all->cap) {
		all->cap = all->cap ? 2 * all->cap : 64;
		all->r = mem_resize(all->r, all->cap, sizeof(*all->r));
	}
	r = &all->r[all->len++];
	*r = (struct record){ .dot = dot, .node = node, .num = d->num, .name = mem_str(name), .id = d->id };
	return r;
}

void
ledger_kill(struct record *r, struct dot by)
{
	r->kills = mem_resize(r->kills, r->kills_len + 1, sizeof(*r->kills));
	r->kills[r->kills_len++] = by;
}

struct record *
ledger_find(struct ledger *g, enum record_kind kind, struct dot dot)
{
	for (size_t i = 0; i < g->of[kind].len; i++)
		if (dot_equal(g->of[kind].r[i].dot, dot))
			return &g->of[kind].r[i];
	return NULL;
}

const struct identity *
ledger_where(struct world *w, struct record *r)
{
	const struct dir *d = state_dir_num(w->node[r->node].s, r->num);

	if (d)
		r->id = d->id;
	return &r->id;
}

static bool
is_lost(struct dot dot, unsigned node, uint64_t n)
{
	return dot.id == node + 1 && dot.n > n;
}

void
ledger_lose(struct ledger *g, unsigned node, uint64_t n)
{
	for (unsigned k = 0; k < RECORD_KINDS; k++) {
		struct records *all = &g->of[k];
		size_t kept = 0;

		for (size_t i = 0; i < all->len; i++) {
			struct record *r = &all->r[i];
			size_t left = 0;

			if (is_lost(r->dot, node, n)) {
				record_fini(r);
				continue;
			}
			for (size_t j = 0; j < r->kills_len; j++)
				if (!is_lost(r->kills[j], node, n))
					r->kills[left++] = r->kills[j];
			r->kills_len = left;
			all->r[kept++] = *r;
		}
		all->len = kept;
	}
}
