/*
 * Asking a far end who it is: what `clone` must know of a replica before it has
 * one of its own.  Both ends of a link greet at once, so the first frame that
 * comes says it; nothing is sent, and the link is closed again.  Blocking.
 */
#ifndef SIBFS_GREETING_H
#define SIBFS_GREETING_H

#include <stddef.h>

#include "replication/settings.h"
#include "replication/transport.h"

enum { GREETING_SET_MAX = 64 };

struct greeting {
	char node[SETTINGS_NODE_MAX + 1];
	char set[GREETING_SET_MAX + 1];
};

/*
 * 0; else one line for the user in why: -ETIMEDOUT, -ECONNREFUSED (it refuses
 * us, or no store is there: trying again is no use), -ENOTCONN (unreachable),
 * -EPROTO (it speaks another protocol).
 */
int		 greeting_ask(const char *url, const struct transport_options *o, int timeout_ms,
		    struct greeting *out, char *why, size_t why_size);

#endif
