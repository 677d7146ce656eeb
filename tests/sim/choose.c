/*
 * Steps by their weights.  Paths are mostly such as show at the replica.
 */
#include "config.h"

#include "tests/sim/choose.h"

#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"
#include "tests/lib/listing.h"
#include "tests/lib/random.h"

void
choose_begin(struct chooser *c, struct history *h, uint64_t seed)
{
	unsigned kind;

	random_reset(seed);
	kind = (unsigned)random_below(100);
	*h = (struct history){ .seed = seed };
	h->nodes = kind < 75 ? 2 + (unsigned)random_below(3) : kind < 93 ? 4 + (unsigned)random_below(5) :
	    kind < 99 ? 9 + (unsigned)random_below(8) : 17 + (unsigned)random_below(34);
	h->shape = (unsigned)random_below(SHAPES);
	*c = (struct chooser){ .steps = 10 + (unsigned)random_below(random_chance(20) ? 300 : 90) };
	if (h->nodes > 8)
		c->steps += 4 * h->nodes;
	c->users = 20 + (unsigned)random_below(50);
	c->faults = random_chance(30) ? 0 : (unsigned)random_below(25);
	c->moves = random_chance(30) ? 40 : 10;
	c->same = random_chance(50) ? 5 : 30;
	c->nested = 20 + (unsigned)random_below(60);
	c->rounds = random_chance(40);
	c->lateness = random_chance(30);
	c->retires = random_chance(30);
}

static char *
new_path(struct chooser *c)
{
	static const char *const names[] = { "a", "b", "d", "e", "f", "a~", "long" };
	char *path = mem_str(names[random_below(random_chance(90) ? 5 : 7)]);

	while (random_chance(c->nested) && strlen(path) < 8) {
		char *deeper = mem_printf("%s/%s", path, names[random_below(5)]);

		free(path);
		path = deeper;
	}
	return path;
}

static char *
choose_path(struct chooser *c, struct state *s, bool dirs)
{
	struct listing l;
	char *path = NULL;

	if (random_chance(30))
		return new_path(c);
	listing_make(&l, s);
	for (unsigned tries = 0; !path && l.len && tries < 5; tries++) {
		const struct entry *e = &l.e[random_below(l.len)];

		if (dirs && !e->dirs.len)
			continue;
		path = random_chance(12) && e->dirs.len ? mem_printf("%s/%c", e->path, (int)('a' + random_below(6))) :
		    mem_str(e->path);
	}
	listing_fini(&l);
	return path ? path : new_path(c);
}

/* Where a directory is moved: somewhere else, or into another one. */
static char *
choose_target(struct chooser *c, struct state *s, const char *from)
{
	char *to = choose_path(c, s, true), *in;
	const char *name = strrchr(from, '/');

	if (random_chance(30))
		return to;
	in = mem_printf("%s/%s", to, name ? name + 1 : from);
	free(to);
	return in;
}

static struct step
choose_user(struct chooser *c, struct world *w)
{
	static const uint32_t modes[] = { 0700, 0750, 0755, 0600, 0640, 0644 };
	struct step t = { .who = (unsigned)random_below(w->len) };
	struct state *s = w->node[t.who].s;
	unsigned x = (unsigned)random_below(100);

	if (random_chance(c->moves)) {
		t.kind = STEP_RENAME;
		t.a = choose_path(c, s, true);
		t.b = choose_target(c, s, t.a);
		return t;
	}
	t.a = choose_path(c, s, false);
	if (x < 40) {
		t.kind = STEP_WRITE;
		t.b = random_chance(c->same) ? mem_printf("same%zu", random_below(2)) : mem_printf("c%u", ++c->serial);
	} else if (x < 52) {
		t.kind = STEP_UNLINK;
	} else if (x < 64) {
		t.kind = random_chance(80) ? STEP_MKDIR : STEP_INIT;
		t.n = modes[random_below(3)];
		free(t.a);
		t.a = new_path(c);
	} else if (x < 70) {
		t.kind = STEP_RMDIR;
	} else if (x < 88) {
		t.kind = STEP_RENAME;
		t.b = random_chance(60) ? new_path(c) : choose_path(c, s, false);
	} else if (x < 92) {
		t.kind = STEP_SWAP;
		t.b = choose_path(c, s, false);
	} else {
		t.kind = STEP_CHMOD;
		t.n = modes[random_below(6)];
	}
	return t;
}

static unsigned
other_than(struct world *w, unsigned who)
{
	return (who + 1 + (unsigned)random_below(w->len - 1)) % w->len;
}

static struct step
choose_fault(struct chooser *c, struct world *w)
{
	struct step t = { .who = (unsigned)random_below(w->len) };

	t.other = other_than(w, t.who);
	switch (random_below(c->lateness ? 12 : 10)) {
	case 0:
	case 1:
		t.kind = STEP_CRASH;
		break;
	case 2:
	case 3:
		t.kind = STEP_CUT;
		break;
	case 4:
		t.kind = random_chance(60) ? STEP_STALL : STEP_FLOW;
		break;
	case 5:
		t.kind = STEP_AGAIN;
		break;
	case 6:
		t.kind = STEP_CLOCK;
		t.n = random_chance(50) ? (int64_t)random_below(100000) : -(int64_t)random_below(100000);
		break;
	case 7:
		t.kind = STEP_SLOW;
		break;
	case 8:
		t.kind = STEP_SHOW;
		t.n = (int64_t)random_below(4);
		break;
	case 9:
		t.kind = random_chance(30) ? STEP_COPY : STEP_FORGET;
		t.n = c->retires && random_chance(30) ? (int64_t)t.other : -1;
		break;
	default:
		t.kind = w->node[t.who].up ? STEP_STOP : STEP_START;
	}
	return t;
}

static struct step
choose_message(struct chooser *c, struct world *w)
{
	struct step t = { .who = (unsigned)random_below(w->len) };
	unsigned x = (unsigned)random_below(100);

	t.other = other_than(w, t.who);
	if (c->rounds && x < 60) {
		t.kind = STEP_SYNC;
	} else if (x < 70) {
		t.kind = STEP_RUN;
		t.n = 1 + (int64_t)random_below(20);
		t.m = (int64_t)random_below(1000000);
	} else if (x < 80) {
		t.kind = STEP_LINK;
	} else if (x < 85) {
		t.kind = STEP_COMMIT;
	} else {
		t.kind = random_chance(50) ? STEP_PUSH : STEP_DELIVER;
	}
	return t;
}

struct step
choose_step(struct chooser *c, struct world *w)
{
	unsigned x = (unsigned)random_below(100);

	if (x < c->users)
		return choose_user(c, w);
	if (x < c->users + c->faults)
		return choose_fault(c, w);
	return choose_message(c, w);
}
