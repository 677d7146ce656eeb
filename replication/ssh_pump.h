/*
 * Carries bytes between a transport's socket and an SSH channel, both ways at
 * once, until either ends; notes on the transport how.  Needs a non-blocking
 * session after authentication; takes the thread meanwhile.
 */
#ifndef SIBFS_SSH_PUMP_H
#define SIBFS_SSH_PUMP_H

#include <libssh2.h>

#include "replication/transport_impl.h"

void		 ssh_pump_run(struct transport *t, LIBSSH2_SESSION *session, LIBSSH2_CHANNEL *channel, int sock);

#endif
