/*
 * Is the key that a host shows the one that known_hosts has for it?  Plain and
 * hashed entries, [host]:port as OpenSSH writes it.  Used by one thread.
 */
#ifndef SIBFS_SSH_KNOWN_H
#define SIBFS_SSH_KNOWN_H

#include <stdbool.h>
#include <stddef.h>

#include <libssh2.h>

#include "replication/ssh_host.h"

struct ssh_known;

struct ssh_known *ssh_known_open(LIBSSH2_SESSION *session, const struct ssh_host *h);
void		 ssh_known_close(struct ssh_known *k);

/* The host key algorithms to ask for, known ones first. */
void		 ssh_known_prefer(struct ssh_known *k, char *out, size_t size);

/* Does known_hosts have keys of the host, but only such as libssh2 cannot check? */
bool		 ssh_known_only_rsa(struct ssh_known *k);

/* After the handshake: 0, or -EPERM with a line for the user in why. */
int		 ssh_known_check(struct ssh_known *k, char *why, size_t why_size);

#endif
