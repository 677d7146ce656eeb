/*
 * Lineage in messages: which blocks of numbers there are, before any dot of
 * them is told; and what a peer's says about ours.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "replication/exchange.h"
#include "replication/mem.h"

/* Every number that anything here mentions was given. */
static void
note_what_is_here(struct state *s)
{
	lineage_saw(&s->lineage, &s->know);
	lineage_saw(&s->lineage, &s->seen);
}

static Sibfs__Wire__Block *
block_message(const struct block *b)
{
	Sibfs__Wire__Block *m = mem_alloc(sizeof(*m));

	sibfs__wire__block__init(m);
	m->token = b->token;
	m->parent = b->parent;
	m->start = b->start;
	m->id = b->id;
	return m;
}

static Sibfs__Wire__Reach *
reach_message(const struct block *b)
{
	Sibfs__Wire__Reach *m = mem_alloc(sizeof(*m));

	sibfs__wire__reach__init(m);
	m->token = b->token;
	m->last = b->last;
	m->id = b->id;
	return m;
}

/* How far the others reach follows from those that follow them. */
static void
add_reaches(const struct lineage *x, Sibfs__Wire__Lineage *m)
{
	m->reaches = mem_alloc((HASH_COUNT(x->blocks) + 1) * sizeof(*m->reaches));
	for (struct block *b = x->blocks; b; b = b->hh.next)
		if (b->forked || !b->heir)
			m->reaches[m->n_reaches++] = reach_message(b);
}

Sibfs__Wire__Lineage *
exchange_lineage(struct state *s, const uint64_t *marks, size_t marks_len, uint64_t since)
{
	Sibfs__Wire__Lineage *m = mem_alloc(sizeof(*m));
	struct block **list;
	size_t n;

	sibfs__wire__lineage__init(m);
	note_what_is_here(s);
	if (marks) {
		list = lineage_lacking(&s->lineage, marks, marks_len, &n);
		m->blocks = mem_alloc((n + 1) * sizeof(*m->blocks));
		for (; m->n_blocks < n; m->n_blocks++)
			m->blocks[m->n_blocks] = block_message(list[m->n_blocks]);
		free(list);
		add_reaches(&s->lineage, m);
		return m;
	}
	m->blocks = mem_alloc((HASH_COUNT(s->lineage.blocks) + 1) * sizeof(*m->blocks));
	for (struct block *b = s->lineage.blocks; b; b = b->hh.next)
		if (b->order > since)
			m->blocks[m->n_blocks++] = block_message(b);
	return m;
}

/* Do they call its numbers otherwise than we do? */
static void
compare(const struct lineage *x, uint64_t token, uint64_t id, struct meeting *out)
{
	const struct block *b = lineage_find(x, token);

	if (!b || b->id == id)
		return;
	out->doubt = mem_resize(out->doubt, out->doubt_len + 1, sizeof(*out->doubt));
	out->doubt[out->doubt_len++] = (struct relabel){ id, b->start, b->id };
}

int
exchange_take_lineage(struct state *s, const Sibfs__Wire__Lineage *m, struct meeting *out)
{
	struct lineage *x = &s->lineage;
	int rc = 0;

	*out = (struct meeting){ 0 };
	note_what_is_here(s);
	for (size_t i = 0; i < m->n_blocks && rc == 0; i++)
		rc = lineage_learn(x, m->blocks[i]->token, m->blocks[i]->parent, m->blocks[i]->start);
	for (size_t i = 0; i < m->n_reaches && rc == 0; i++) {
		if (m->reaches[i]->last > INT64_MAX)
			rc = -EBADMSG;
		else
			lineage_reach(x, m->reaches[i]->token, m->reaches[i]->last);
	}
	out->changed = lineage_settle(x, &out->changed_len);
	for (size_t i = 0; i < m->n_blocks && rc == 0; i++)
		compare(x, m->blocks[i]->token, m->blocks[i]->id, out);
	for (size_t i = 0; i < m->n_reaches && rc == 0; i++)
		compare(x, m->reaches[i]->token, m->reaches[i]->id, out);
	/* Too many to remember: then forks among those are not found out. */
	return rc == -ENOSPC ? 0 : rc;
}

void
exchange_end_meeting(struct meeting *x)
{
	free(x->changed);
	free(x->doubt);
	*x = (struct meeting){ 0 };
}
