/*
 * The ledger of a history: every version that a user wrote, every event, every
 * dot by which a directory lives, and the events that removed them.  It notes
 * where each stands as the replica that made it names the place; a directory
 * may still change its identity before others hear of it.
 */
#ifndef SIBFS_SIM_LEDGER_H
#define SIBFS_SIM_LEDGER_H

#include "tests/lib/listing.h"
#include "tests/sim/world.h"

enum record_kind {
	RECORD_VERSION,		/* of a file */
	RECORD_LIVE,		/* of a directory: it lives by that dot */
	RECORD_EVENT,		/* on a register or (name NULL) a directory */
	RECORD_KINDS,
};

struct record {
	struct dot dot;
	unsigned node;		/* who made it */
	uint64_t num;		/* that one's number of the directory */
	char *name;
	struct identity id;	/* of the directory, as last seen there */
	struct hash hash;	/* of a version */
	struct dot *kills;	/* the events that removed it */
	size_t kills_len;
};

struct records {
	struct record *r;	/* by the order of events */
	size_t len, cap;
};

struct ledger {
	struct records of[RECORD_KINDS];
	/* Before the operation under way. */
	struct listing before;
	uint64_t counter, seq;
	bool *lived;		/* by number of directory */
	uint64_t nums;
};

struct ledger	*ledger_new(void);
void		 ledger_free(struct ledger *g);

struct record	*ledger_add(struct world *w, enum record_kind kind, unsigned node, struct dot dot,
		    const struct dir *d, const char *name);
void		 ledger_kill(struct record *r, struct dot by);
struct record	*ledger_find(struct ledger *g, enum record_kind kind, struct dot dot);

/* Looks up where the record stands now. */
const struct identity *ledger_where(struct world *w, struct record *r);

/* What the replica made after its event n never was. */
void		 ledger_lose(struct ledger *g, unsigned node, uint64_t n);

#endif
