/*
 * Private to transport*.c and ssh_pump.c: what a transport's thread and its
 * owner share.  All but `state` is set before the thread starts.
 */
#ifndef SIBFS_TRANSPORT_IMPL_H
#define SIBFS_TRANSPORT_IMPL_H

#include <pthread.h>
#include <stdbool.h>

#include "replication/ssh_host.h"
#include "replication/transport.h"

enum {
	TRANSPORT_WHY_MAX = 512,
	TRANSPORT_CONNECT_MS = 10000,
	TRANSPORT_KEEPALIVE_S = 15,
	TRANSPORT_SILENCE_MS = 45000,	/* then the link is dead */
};

struct transport {
	struct transport_url url;
	enum transport_kind kind;
	char *identity;
	char *command;		/* what to run at the far end */
	int fd;			/* our end of the socket pair; the thread's */
	int wake;		/* an eventfd, readable once the owner has closed */

	pthread_mutex_t lock;	/* guards what follows */
	enum transport_end end;
	char why[TRANSPORT_WHY_MAX];
	int refs;		/* the owner's and the thread's */
};

/* Notes how it ended; the first call counts. */
void		 transport_set_end(struct transport *t, enum transport_end end, const char *fmt, ...)
		    __attribute__((format(printf, 3, 4)));

/* What a far command's end means; said is its last line on stderr. */
void		 transport_set_exit(struct transport *t, int status, const char *said, bool spoke);

/*
 * These carry bytes between t->fd and the far command until either side ends,
 * and note how.  ssh2 returns -EOPNOTSUPP with a line in why, having done
 * nothing yet, if libssh2 cannot do what the host needs; else 0.
 */
int		 transport_ssh2_run(struct transport *t, const struct ssh_host *h, char *why, size_t why_size);
void		 transport_cmd_run(struct transport *t, const struct ssh_host *h);	/* h may be NULL */

#endif
