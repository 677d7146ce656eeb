/*
 * Linear hashing (W. Litwin, 1980), with chains.  A bucket is known by the low
 * bits of a hash: one bit more for those that have been split already and those
 * that they were split into.
 */
#include "config.h"

#include "fs/table.h"

#include <assert.h>
#include <stdlib.h>

#include "replication/mem.h"

enum {
	FIRST = 16,	/* buckets at first */
	LOAD = 2,	/* elements for each bucket, at most */
};

static size_t
buckets_len(const struct table *t)
{
	return t->base + t->split;
}

static struct table_link **
bucket_of(const struct table *t, uint64_t hash)
{
	size_t b = hash & (2 * t->base - 1);

	return &t->buckets[b < buckets_len(t) ? b : b - t->base];
}

void
table_init(struct table *t, uint64_t (*hash)(const struct table_link *element))
{
	*t = (struct table){
		.hash = hash,
		.buckets = mem_alloc(FIRST * sizeof *t->buckets),
		.room = FIRST,
		.base = FIRST,
	};
}

void
table_fini(struct table *t)
{
	assert(t->len == 0);
	free(t->buckets);
	*t = (struct table){ 0 };
}

struct table_link *
table_find(const struct table *t, uint64_t hash,
    bool (*equal)(const struct table_link *element, const void *key), const void *key)
{
	struct table_link *e = *bucket_of(t, hash);

	while (e != NULL && !equal(e, key))
		e = e->next;
	return e;
}

static void
push(struct table *t, struct table_link *e)
{
	struct table_link **bucket = bucket_of(t, t->hash(e));

	e->next = *bucket;
	*bucket = e;
}

/* One bucket more, for some of the elements of the next one to be split. */
static void
grow(struct table *t)
{
	struct table_link *e, *next;

	if (buckets_len(t) == t->room) {
		t->room *= 2;
		t->buckets = mem_resize(t->buckets, t->room, sizeof *t->buckets);
	}
	e = t->buckets[t->split];
	t->buckets[t->split] = t->buckets[buckets_len(t)] = NULL;
	if (++t->split == t->base) {
		t->base *= 2;
		t->split = 0;
	}
	for (; e != NULL; e = next) {
		next = e->next;
		push(t, e);
	}
}

void
table_add(struct table *t, struct table_link *element)
{
	if (++t->len > LOAD * buckets_len(t))
		grow(t);
	push(t, element);
}

void
table_remove(struct table *t, struct table_link *element)
{
	struct table_link **at = bucket_of(t, t->hash(element));

	while (*at != element) {
		assert(*at != NULL);
		at = &(*at)->next;
	}
	*at = element->next;
	t->len--;
}

void
table_each(struct table *t, void (*visit)(struct table_link *element, void *arg), void *arg)
{
	struct table_link *e, *next;

	for (size_t b = 0; b < buckets_len(t); b++)
		for (e = t->buckets[b]; e != NULL; e = next) {
			next = e->next;
			visit(e, arg);
		}
}
