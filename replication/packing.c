/*
 * Timing by windows, each after what is under way from before: long enough that
 * clock ticks do not matter.
 */
#include "config.h"

#include "replication/packing.h"

#define SETTLE (16u << 20)	/* what is under way was queued before */
#define WINDOW (32u << 20)
#define STAY 8			/* windows: so trials of what is slower are one in nine */
#define SHORT_MS 50		/* a pause that belongs to sending: the peer asks for more */
#define FAST 100000u		/* bytes a millisecond: packing might be what holds this link up */

/* Bytes on the network cost, too: not packing must be faster by a tenth. */
static bool
plain_is_better(const struct packing *p)
{
	return p->rate[true] * 10 > p->rate[false] * 11;
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

	if (p->paused_ms && now_ms - p->paused_ms > SHORT_MS)
		p->bytes = 0;
	p->paused_ms = 0;
	p->bytes += bytes;
	if (p->bytes <= SETTLE) {
		p->since_ms = now_ms;
		return;
	}
	if (p->bytes < SETTLE + WINDOW)
		return;
	p->rate[p->off] = (p->bytes - SETTLE) / (uint64_t)(took > 0 ? took : 1);
	p->bytes = 0;
	next_window(p);
}

void
packing_pause(struct packing *p, int64_t now_ms)
{
	if (!p->paused_ms)
		p->paused_ms = now_ms;
}
