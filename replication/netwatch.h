/*
 * Notices that this host's network is not what it was: an address or interface
 * came or went, or the machine slept.  Then links may be dead without a word,
 * and peers that could not be reached may be near.  One thread.
 */
#ifndef SIBFS_NETWATCH_H
#define SIBFS_NETWATCH_H

#include <stdbool.h>
#include <stdint.h>

struct netwatch {
	int fd;			/* readable when there is news; -1: only sleep is noticed */
	int64_t awake_ms;	/* how long the machine has slept since it started */
};

void		 netwatch_open(struct netwatch *w);
void		 netwatch_close(struct netwatch *w);

/* Has anything changed since the last call? */
bool		 netwatch_changed(struct netwatch *w);

#endif
