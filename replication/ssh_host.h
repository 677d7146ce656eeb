/*
 * What ssh_config says of a host: where it really is, who we are there, which
 * keys to offer, and whom to believe.  Asked of `ssh -G`, so aliases, Match
 * and Include mean here what they mean to ssh itself.
 */
#ifndef SIBFS_SSH_HOST_H
#define SIBFS_SSH_HOST_H

#include <stdbool.h>
#include <stddef.h>

#include "replication/transport.h"

struct ssh_names {
	char **at;
	size_t len;
};

struct ssh_host {
	char *name;		/* host name or address */
	char *user;
	int port;
	char *key_alias;	/* HostKeyAlias: the name in known_hosts; or NULL */
	char *agent;		/* IdentityAgent: a socket, "none", or NULL: SSH_AUTH_SOCK */
	bool proxied;		/* ProxyJump or ProxyCommand */
	char *ciphers;		/* that ssh would offer, with commas; or NULL: not known */
	struct ssh_names identities;
	struct ssh_names known_hosts;	/* the first is where a person would add a key */
	struct ssh_names global_known_hosts;
};

/*
 * Blocks for a moment; cancel (a descriptor) becoming readable ends it.
 * identity is offered alone if it is not NULL.  SIBFS_KNOWN_HOSTS, if set, is
 * the only known_hosts file.  0 or -errno with a line in why.
 */
int		 ssh_host_resolve(struct ssh_host *out, const struct transport_url *url,
		    const char *identity, int cancel, char *why, size_t why_size);
void		 ssh_host_fini(struct ssh_host *h);

/* The ciphers with aes128-gcm first, which is twice as fast as ssh's own choice
 * where the processor knows AES.  NULL: they are not to be changed (it may not
 * be used, or is first).  Allocated. */
char		*ssh_host_fast_ciphers(const struct ssh_host *h);

#endif
