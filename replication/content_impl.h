/*
 * The insides of content on its way in, shared by content*.c, fetch*.c,
 * recycle.c, relay.c and the link's link_content.c, link_outline.c and
 * link_blocks.c.  The replica's thread, but for what a
 * job of fetch_job.c works on while it runs.
 */
#ifndef SIBFS_CONTENT_IMPL_H
#define SIBFS_CONTENT_IMPL_H

#include "replication/blocks.h"
#include "replication/lists.h"
#include "replication/outline.h"
#include "replication/replica_impl.h"

/* Larger ones come by chunks. */
#define CONTENT_WHOLE_MAX CHUNK_MAX

#define CONTENT_NAME_MAX (LISTS_NAME_MAX + 8)

/* Content in staging, complete, by hash. */
struct staged {
	UT_hash_handle hh;
	struct hash hash;
	bool kept;		/* of a version that shows as another's: peers may ask for it */
};

/* A register that waits for content. */
struct waiter {
	uint64_t dir_num;
	char *name;
};

/* Content that is not here. */
struct want {
	UT_hash_handle hh;	/* replica.wants, by hash */
	UT_hash_handle hh_id;	/* replica.wants_by_id, while it is asked for */
	struct hash hash;
	uint64_t id;		/* on the wire; 0: not asked for */
	uint64_t number;	/* in the order in which they were made */
	uint64_t size;
	uint64_t have;		/* bytes received so far */
	uint64_t asked;		/* bytes that are on their way to us */
	uint64_t from;		/* incarnation that told us of it last */
	struct link *link;	/* that it is asked for on, or NULL */
	int fd;			/* -1, or the partial file */
	struct fetch *fetch;	/* how it comes by chunks, or NULL */
	struct waiter *waiters;
	size_t waiters_len;
	bool whole;		/* not by chunks: the peer cannot */
	bool checking;		/* all is here, and being hashed */
	unsigned refused;	/* so many peers did not have it: the next is asked */
	bool relayed;		/* for a peer, which is not asked itself: not_of */
	unsigned hops;
	uint64_t not_of;
	bool failed;		/* nobody has it: wait for news */
	bool nowhere;		/* all that were linked said so when they were asked last */
	bool full;		/* no room: tried again later */
};

/* Another content that some of its chunks may be taken from. */
struct source {
	int fd;
	struct hash hash;
	struct chunk_list list;	/* c NULL: not known (yet) */
	struct outline outline;
	uint8_t *have;		/* which chunks it has; NULL: all */
	bool in_place;		/* it is the very file that is being put together */
};

#define SOURCES_MAX 8

/* A stretch of a chunk that was asked for. */
struct piece {
	uint32_t chunk, from, to;
	bool first, last;	/* of those of its chunk */
	bool patch;		/* the rest of the chunk is in the file */
};

/*
 * A want that comes by chunks: the list of its chunks first, as a difference to
 * the lists of similar contents; then what those do not have.
 */
struct fetch {
	struct fetch *prev, *next;
	struct want *w;		/* NULL: given up while a job runs */
	struct hash_job *job;	/* works on all below; or NULL */
	int lists_fd, staging_fd;	/* the replica's */
	struct source src[SOURCES_MAX];
	size_t src_len;
	bool prepared;		/* the sources' lists are known */
	bool outlined;		/* groups and the size of the list are known */
	bool listed;		/* the whole list is known, and checked */
	bool assembled;		/* what the sources have is in the file */
	bool fresh;		/* the file has nothing but what came: holes are zeros */
	bool serving;		/* the peer has it open for us */
	struct outline outline;
	size_t groups_missing;
	struct chunk_list list;	/* of a chunk that is not known the size is 0 */
	uint8_t *have;		/* a byte each */
	size_t missing;		/* how many chunks */
	uint32_t next_chunk;	/* from here on chunks may be asked for */
	struct piece *asked;	/* on their way, in order */
	size_t asked_len;
	uint8_t *buf;		/* the chunk of the first of those, as far as it came */
	size_t filled;		/* of the piece */
	bool similar;		/* where chunks are missing, the file may have bytes much like them */
	uint32_t rough[BLOCKS_CHUNKS_MAX];	/* chunks whose blocks were asked for */
	size_t rough_len;
	uint8_t *prints;	/* of those blocks, when they came */
	uint64_t unflushed;	/* bytes written since the disk was told to start */
};

/* A large file in the trash that may become the next version of its register. */
struct recycled {
	struct recycled *prev, *next;
	struct hash hash;
	uint64_t dir_num;
	char *name;		/* of the register */
	char *trash;		/* where it is */
	struct file_stamp stamp;
};

/* ---- content.c ---- */

struct staged	*content_staged_of(struct replica *r, const struct hash *h);	/* NULL: it is not there */
struct staged	*content_staged_add(struct replica *r, const struct hash *h);
int		 content_write(int fd, const uint8_t *p, size_t len, uint64_t offset);

/* Is there room for so much, and what is to stay free? */
bool		 content_fits(struct replica *r, uint64_t bytes);

/* ---- content_find.c ---- */

/* As content_open, in what the index does not know of yet. */
int		 content_open_dirty(struct replica *r, const struct hash *h, uint64_t *size);

/* ---- content_wants.c ---- */

struct want	*content_want(struct replica *r, const struct hash *h);
struct want	*content_want_by_id(struct replica *r, uint64_t id, const struct link *l);
void		 content_want_add(struct replica *r, const struct reg *reg, const struct version *v, uint64_t from);
/* For a peer that asked: see relay.h. */
void		 content_want_relayed(struct replica *r, const struct hash *h, uint64_t size, unsigned hops,
		    uint64_t not_of);
bool		 content_still_wanted(struct replica *r, const struct want *w);
void		 content_received(struct replica *r, struct want *w, uint64_t offset, const void *p, size_t len, bool last);
/* It does not come from there; what came is kept. */
void		 content_failed(struct replica *r, struct want *w);
/* The link that it was asked for on says that it is not there. */
void		 content_refused(struct replica *r, struct want *w);
/* It cannot be written here. */
void		 content_unwritable(struct replica *r, struct want *w, int rc);
/* It has all come: rc says whether it is what was announced.  Frees w, or not. */
void		 content_settle(struct replica *r, struct want *w, int rc);
void		 content_want_free(struct replica *r, struct want *w);
/* Nothing more comes for it on its link. */
void		 content_release(struct replica *r, struct want *w);

/* ---- fetch.c ---- */

/* w->link was set: goes on from where it is. */
void		 fetch_start(struct replica *r, struct want *w);
void		 fetch_stop(struct replica *r, struct want *w);	/* w->link went */
void		 fetch_drop(struct replica *r, struct want *w);	/* nobody wants it any more */
void		 fetch_got_outline(struct replica *r, struct want *w, const uint8_t *hashes, size_t n,
		    const uint32_t *chunks);
void		 fetch_got_chunks(struct replica *r, struct want *w, uint32_t group, const uint8_t *hashes,
		    const uint32_t *sizes, size_t n);
void		 fetch_free(struct fetch *f);
/* Goes on with the next step. */
void		 fetch_advance(struct replica *r, struct want *w);

/* ---- fetch_data.c ---- */

/* Opens the file that it is put together in, as w->fd. */
int		 fetch_open_part(struct replica *r, struct want *w);
void		 fetch_got_blocks(struct replica *r, struct want *w, const uint8_t *prints, size_t len);
void		 fetch_forget_blocks(struct fetch *f);
void		 fetch_got_data(struct replica *r, struct want *w, uint64_t offset, const uint8_t *p, size_t len);
/* Asks for more, as far as the link has room. */
void		 fetch_more(struct replica *r, struct want *w);

/* ---- fetch_job.c: on the hasher's thread ---- */

/* Finds the lists of the sources. */
void		 fetch_run_prepare(struct hash_job *j);
/* Puts together what the sources have. */
void		 fetch_run_assemble(struct hash_job *j);
/* Syncs it, keeps its list. */
void		 fetch_run_finish(struct hash_job *j);

/* Chunks of zeros need not come.  fresh: the file has nothing but holes there. */
int		 fetch_make_holes(struct fetch *f, int fd, bool fresh);

struct fetch_job {
	struct hash_job job;
	struct fetch *f;
	int fd;			/* of the file being put together */
};

/* ---- recycle.c ---- */

/* An older version of what w is wanted for, out of the trash, as the file that
 * w is put together in; fills in.  False: there is none that will do. */
bool		 recycle_take(struct replica *r, const struct want *w, struct source *out);
bool		 recycle_has(const struct replica *r, const struct hash *h);

/* ---- link_content.c, link_outline.c, link_blocks.c ---- */

enum link_want { LINK_WANT_WHOLE, LINK_WANT_OUTLINE, LINK_WANT_RANGES };

/* Asks for content; or says that what was asked for is not wanted any more. */
bool		 link_want(struct link *l, struct want *w, enum link_want by);
void		 link_unwant(struct link *l, const struct want *w);
void		 link_ask_details(struct link *l, const struct want *w, const uint32_t *groups, size_t n);
void		 link_ask_ranges(struct link *l, const struct want *w, const uint64_t *offsets, const uint32_t *sizes,
		    size_t n);
bool		 link_knows_blocks(const struct link *l);
void		 link_ask_blocks(struct link *l, const struct want *w, const uint64_t *offsets, const uint32_t *sizes,
		    size_t n);
/* How many bytes more may be asked for now: what is on its way is what others
 * wait behind, and what a broken link loses. */
uint64_t	 link_room(const struct link *l);
void		 link_asked(struct link *l, struct want *w, uint64_t bytes);
void		 link_arrived(struct link *l, struct want *w, uint64_t bytes);
/* w->link is l from now on; is NULL again, whatever was still to come. */
void		 link_taken_on(struct link *l, struct want *w);
void		 link_released(struct link *l, struct want *w);
unsigned	 link_wanted(const struct link *l);	/* how many it has been taken on for */

#endif
