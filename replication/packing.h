/*
 * Whether it pays to make contents smaller before they are sent.  It does where
 * the link is slower than the packer, and saves the network in any case; where
 * the link is faster by far (a local network, ciphers in hardware), contents
 * arrive sooner as they are.  Nobody can tell beforehand: so on links that turn
 * out to be fast both ways are timed while much is sent, and the faster is kept
 * for a while.  Pure: told the time.
 */
#ifndef SIBFS_PACKING_H
#define SIBFS_PACKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed: contents are packed. */
struct packing {
	bool off;			/* they are sent as they are */
	bool trial;			/* for this window only */
	unsigned stay;			/* windows before the other way is tried again */
	uint64_t bytes;			/* in this window, as they were before */
	int64_t since_ms;		/* its begin */
	int64_t paused_ms;		/* nothing is to be sent since then; 0: something is */
	uint64_t rate[2];		/* bytes a millisecond when last timed: packed, and not */
};

/* So many bytes of contents were queued, packed or not. */
void		 packing_sent(struct packing *p, size_t bytes, int64_t now_ms);

/* Nothing more is to be sent.  When that lasts longer than a peer takes to ask for
 * more, what is being timed is given up. */
void		 packing_pause(struct packing *p, int64_t now_ms);

#endif
