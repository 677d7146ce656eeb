/*
 * Talking to a store's daemon through its control socket.  Not here: finding
 * the store (locate.h), or starting a daemon.
 */
#ifndef SIBFS_CLIENT_H
#define SIBFS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <jansson.h>

#include "tools/locate.h"

/*
 * Finds the store of path and connects to its daemon; *fd is -1 if none runs.
 * CLI_DONE, or the exit status with a line for the user in why.
 */
int		 client_open(const char *path, struct located *l, int *fd, char *why, size_t why_size);
void		 client_close(struct located *l, int fd);

/* A connected socket, or -errno; -ENOENT or -ECONNREFUSED: no daemon runs. */
int		 client_connect(const struct located *l);
bool		 client_is_absent(int rc);

/*
 * Asks and waits for the answer.  0 with a new reference in *reply if that is
 * {"ok": true, ...}; else the exit status, with a line for the user in why.
 * Takes over request.  Reads nothing past the answer.
 */
int		 client_ask(int fd, json_t *request, int timeout_s, json_t **reply, char *why, size_t why_size);

/* The two halves of that, for who has to look elsewhere meanwhile: the socket is
 * readable when the answer comes. */
int		 client_send(int fd, json_t *request, char *why, size_t why_size);
int		 client_receive(int fd, int timeout_s, json_t **reply, char *why, size_t why_size);

/* {"cmd": cmd} */
json_t		*client_request(const char *cmd);

/* The daemon's process, from the socket; 0 if it cannot be told. */
pid_t		 client_daemon_pid(int fd);

/*
 * A descriptor of the store's .sibfs, -errno on failure.  Under a mount it is
 * reached through the store's root as the daemon (socket fd) has it open.
 */
int		 client_open_own_dir(const struct located *l, int fd);

#endif
