/*
 * A request waits here until its content has come into staging, and is then
 * served from there like any other.  Requests count how often they were passed
 * on: in a ring of those that ignore, they would go round for ever.
 */
#include "config.h"

#include "replication/relay.h"

#include <stdlib.h>

#include <utlist.h>

#include "replication/link_impl.h"

#define HOPS_MAX 3
#define RELAYS_MAX 1000

struct relay {
	struct relay *prev, *next;
	struct link *link;	/* who asked */
	struct hash hash;
	Sibfs__Wire__Want want;
};

/* Is anyone else linked that could be asked? */
static bool
has_others(const struct link *l)
{
	for (struct peer *p = l->r->peers; p; p = p->next)
		if (p->link && p->link != l && link_is_up(p->link))
			return true;
	return false;
}

bool
relay_take(struct link *l, const struct hash *h, const Sibfs__Wire__Want *m)
{
	struct want *w = content_want(l->r, h);
	struct relay *q;
	int n;

	/* What is on its way here by itself is asked for again, and here then.
	 * Two that relay for others must not wait for each other: who waits has
	 * been passed on less often than what it waits for. */
	if (m->hops >= HOPS_MAX || !has_others(l) || (w && (!w->relayed || w->hops <= m->hops)))
		return false;
	DL_COUNT(l->r->relays, q, n);
	if (n >= RELAYS_MAX)
		return false;
	q = mem_alloc(sizeof(*q));
	q->link = l;
	q->hash = *h;
	sibfs__wire__want__init(&q->want);
	q->want.id = m->id;
	q->want.size = m->size;
	q->want.offset = m->offset;
	q->want.by = m->by;
	q->want.hops = HOPS_MAX;
	DL_APPEND(l->r->relays, q);
	if (!w)
		content_want_relayed(l->r, h, m->size, m->hops + 1, l->id);
	content_request(l->r);
	return true;
}

void
relay_settle(struct replica *r, const struct hash *h)
{
	struct relay *q, *tmp;

	DL_FOREACH_SAFE(r->relays, q, tmp) {
		if (hash_compare(&q->hash, h) != 0)
			continue;
		DL_DELETE(r->relays, q);
		q->want.hash = (ProtobufCBinaryData){ sizeof(q->hash.b), q->hash.b };
		link_get_want(q->link, &q->want);
		free(q);
	}
}

void
relay_stop(struct link *l, uint64_t id)
{
	struct relay *q, *tmp;

	DL_FOREACH_SAFE(l->r->relays, q, tmp)
		if (q->link == l && q->want.id == id) {
			DL_DELETE(l->r->relays, q);
			free(q);
		}
}

void
relay_drop_link(struct link *l)
{
	struct relay *q, *tmp;

	DL_FOREACH_SAFE(l->r->relays, q, tmp)
		if (q->link == l) {
			DL_DELETE(l->r->relays, q);
			free(q);
		}
}

bool
relay_waits(const struct replica *r, const struct hash *h)
{
	const struct relay *q;

	DL_FOREACH(r->relays, q)
		if (hash_compare(&q->hash, h) == 0)
			return true;
	return false;
}
