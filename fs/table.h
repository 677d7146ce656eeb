/*
 * A hash table for what there are a million of: inodes and their names.  An
 * element embeds one pointer, and the table has one more for each two, where uthash
 * has 56 bytes in the element and its buckets besides; that is what it is for.
 * All else uses uthash.
 *
 * It grows by one bucket at a time as elements come (linear hashing), so that
 * no one waits for all of them to be sorted anew.  It does not shrink.
 *
 * Elements stay their owner's.  No locks: the caller's lock guards all of it.
 */
#ifndef SIBFS_TABLE_H
#define SIBFS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Embedded in each element; the table's. */
struct table_link {
	struct table_link *next;	/* in the same bucket */
};

struct table {
	uint64_t (*hash)(const struct table_link *element);
	struct table_link **buckets;
	size_t room;			/* for buckets */
	size_t base, split;		/* base is a power of two; there are base + split buckets, and
					 * those before split have given half away to those from base on */
	size_t len;			/* elements */
};

/* hash: of an element's key, all of its bits as good as random. */
void		 table_init(struct table *t, uint64_t (*hash)(const struct table_link *element));

/* Nothing is in it any more. */
void		 table_fini(struct table *t);

/* The element with this hash of which equal(element, key) is true; or NULL. */
struct table_link *table_find(const struct table *t, uint64_t hash,
		    bool (*equal)(const struct table_link *element, const void *key), const void *key);

/* None that is equal is in it. */
void		 table_add(struct table *t, struct table_link *element);

/* It is in it. */
void		 table_remove(struct table *t, struct table_link *element);

/* Calls visit for each element, in any order; it may remove that element, and
 * change nothing else in the table. */
void		 table_each(struct table *t, void (*visit)(struct table_link *element, void *arg), void *arg);

#endif
