/*
 * Timing by windows: long enough that queues and clock ticks do not matter.
 */
#include "config.h"

#include "replication/packing.h"

#define WINDOW (16u << 20)
#define STAY 16			/* windows: so trials of what is slower are one in seventeen */
#define FAST 100000u		/* bytes a millisecond: packing might be what holds this link up */

/* Bytes on the network cost, too: not packing must be faster by a fifth. */
static bool
plain_is_better(const struct packing *p)
{
	return p->rate[true] * 5 > p->rate[false] * 6;
}

static void
next_window(struct packing *p)
{
	if (p->trial) {
		p->trial = false;
		p->off = plain_is_better(p);
		p->stay = STAY;
	} else if (p->stay > 0) {
		p->stay--;
	} else if (p->off || p->rate[false] >= FAST) {
		p->trial = true;
		p->off = !p->off;
	}
}

void
packing_sent(struct packing *p, size_t bytes, int64_t now_ms)
{
	int64_t took = now_ms - p->since_ms;

	if (p->since_ms == 0) {
		p->since_ms = now_ms;
		return;
	}
	p->bytes += bytes;
	if (p->bytes < WINDOW)
		return;
	p->rate[p->off] = p->bytes / (uint64_t)(took > 0 ? took : 1);
	p->bytes = 0;
	p->since_ms = now_ms;
	next_window(p);
}

void
packing_pause(struct packing *p)
{
	p->bytes = 0;
	p->since_ms = 0;
}
