/*
 * Content that a peer asks for and that is not here because it is ignored: it is
 * fetched of another peer on the asker's behalf, and not kept.  So what one
 * replica ignores still gets through it.  The replica's thread.
 */
#ifndef SIBFS_RELAY_H
#define SIBFS_RELAY_H

#include <stdbool.h>

#include "replication/content_impl.h"
#include "replication/wire.pb-c.h"

/* Takes on what l asks for; false: nobody else could have it. */
bool		 relay_take(struct link *l, const struct hash *h, const Sibfs__Wire__Want *m);

/* It is here, or will not come: those who asked are answered. */
void		 relay_settle(struct replica *r, const struct hash *h);

/* Who asked wants it no more, or has gone. */
void		 relay_stop(struct link *l, uint64_t id);
void		 relay_drop_link(struct link *l);

bool		 relay_waits(const struct replica *r, const struct hash *h);

#endif
