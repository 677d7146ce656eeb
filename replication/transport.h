/*
 * A byte stream to a peer.  Whatever carries it (libssh2, the ssh program),
 * the replica sees one non-blocking stream socket: a thread or a process
 * behind it does the waiting, so a dead link costs nobody else anything.
 */
#ifndef SIBFS_TRANSPORT_H
#define SIBFS_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>

struct transport;

enum transport_kind {
	TRANSPORT_AUTO,		/* libssh2; the ssh program where libssh2 cannot do what the host needs */
	TRANSPORT_SSH2,
	TRANSPORT_SSH,
};

/* Why a transport ended: tells whether trying again soon makes sense. */
enum transport_end {
	TRANSPORT_OPEN,		/* has not ended */
	TRANSPORT_CLOSED,	/* the far end closed it */
	TRANSPORT_UNREACHABLE,	/* no address, no route, no answer, connection lost */
	TRANSPORT_REFUSED,	/* host key unknown or changed, authentication refused, far command failed */
};

/* ssh://[user@]host[:port]/path or [user@]host:path */
struct transport_url {
	char *user;		/* NULL: as ssh_config or the local user says */
	char *host;
	int port;		/* 0: as ssh_config says, else 22 */
	char *path;
};

int		 transport_url_parse(const char *text, struct transport_url *out);
void		 transport_url_fini(struct transport_url *u);

struct transport_options {
	enum transport_kind kind;
	const char *identity;	/* private key file, or NULL */
	const char *node;	/* our node name, for `serve --peer` */
};

/*
 * Starts to connect and to run `sibfs serve PATH --peer NODE` at the far end.
 * Returns at once; *fd is a non-blocking stream socket, owned by the caller,
 * that carries bytes once the link stands; EOF on it means that the transport
 * has ended.  0 or -errno (no resources, bad url).
 */
int		 transport_open(const char *url, const struct transport_options *o, struct transport **out, int *fd);

/* How it ended, and one line for status and log into why; any thread. */
enum transport_end transport_status(struct transport *t, char *why, size_t size);

/* Ends it without waiting for the far end, and frees t once its thread has
 * gone (in the background).  The caller closes its own fd. */
void		 transport_close(struct transport *t);

#endif
