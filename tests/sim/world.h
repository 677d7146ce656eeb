/*
 * Replicas in one process, on a network that delivers when it is told to.
 * Everything that happens is a step (step.h); nothing here is random but by the
 * seed that a step carries.
 *
 * Between two replicas that are linked messages arrive in order, as over a
 * stream, or not any more; which of several links goes first, and when, is up to
 * the steps.
 */
#ifndef SIBFS_SIM_WORLD_H
#define SIBFS_SIM_WORLD_H

#include "tests/lib/endpoint.h"
#include "tests/lib/sim.h"
#include "tests/sim/step.h"

#define NODES_MAX 50

/* The links that all is exchanged over in the end. */
enum shape { SHAPE_CHAIN, SHAPE_RING, SHAPE_STAR, SHAPE_TREE, SHAPE_MESH, SHAPES };

struct message {
	struct message *prev, *next;
	uint8_t *p;
	size_t len;
	struct sights *sights;		/* what showed at the sender; NULL: nobody asks */
};

/* One direction of a link: the sender's end, and what is on its way. */
struct wire {
	struct world *world;
	unsigned from, to;
	struct endpoint *end;		/* NULL: not linked */
	struct message *queue;
	struct message *last;		/* that arrived */
	struct said *said;		/* for the laws */
	bool stalled;
};

struct node {
	struct state *s;
	struct rows *rows;
	struct feed feed;
	bool up, slow;
	bool met;			/* it was linked once: a member */
	int64_t clock;
};

struct ledger;

struct world {
	struct node node[NODES_MAX];
	unsigned len;
	unsigned shape;
	struct wire *wires;		/* from * len + to */
	struct ledger *ledger;		/* NULL: no law is checked */
	int64_t time;
	bool forgot;			/* deletions were forgotten somewhere */
	bool fleeting;			/* commits write nothing: for measuring */
	bool careful;			/* all laws are looked at after each step */
	uint64_t delivered;
	size_t rows_max;		/* in a batch */
	char failed[1024];		/* the first law that was broken: "law: how" */
};

struct world	*world_new(const struct history *h, bool laws);
void		 world_free(struct world *w);

/* Says which law was broken; the first one counts. */
void		 world_fail(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Does one step.  One that is not possible does nothing. */
void		 world_step(struct world *w, const struct step *s);

/* Everything is repaired, linked in the shape of the history, and exchanged. */
void		 world_settle(struct world *w);

/* Are the two linked in that shape? */
bool		 world_in_shape(enum shape shape, unsigned len, unsigned a, unsigned b);

/* What the single steps are made of. */
void		 world_commit(struct world *w, unsigned i);
void		 world_link(struct world *w, unsigned a, unsigned b);
void		 world_cut(struct world *w, unsigned a, unsigned b);

/* Delivers until nothing is due; more than `limit` messages break a law. */
void		 world_run_until_quiet(struct world *w, uint64_t limit);

/* All say what they have to say, and then that arrives.  False: nobody had anything. */
bool		 world_round(struct world *w);

static inline struct wire *
world_wire(struct world *w, unsigned from, unsigned to)
{
	return &w->wires[from * w->len + to];
}

#endif
