/*
 * The daemon's control socket: DIR/DEV-INO/control, DEV and INO being those of
 * the store's root in hex, DIR the first that is usable of those that
 * sibfs-store(5) lists.  (A socket inside a store that is mounted over cannot be
 * reached.)  One JSON object a line asks, one answers:
 *
 *	{"cmd": "status"}            -> {"ok": true, "status": {...}}
 *	{"cmd": "conflicts"}         -> {"ok": true, "conflicts": [...]}
 *	{"cmd": "sync", "peer": "p" or absent for all, "timeout": 60}
 *	                             -> {"ok": true} when the round is complete
 *	{"cmd": "wait", "peer": .., "timeout": ..}
 *	{"cmd": "reload"}            -> settings are read again
 *	{"cmd": "retire", "node": ..} -> that member is not waited for any more
 *	{"cmd": "quit"}              -> unmounts and ends; answered, then the
 *	                                socket closes when the store's lock is free
 *	{"cmd": "serve", "peer": "laptop", "read_only": false}
 *	                             -> {"ok": true}, then the socket carries the peer's bytes
 *
 * An error is {"ok": false, "error": "one line", "exit": 3}.
 */
#ifndef SIBFS_CONTROL_H
#define SIBFS_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>


/* Listens (makes the directory, 0700; removes a stale socket).  fd or -errno. */
int		 control_listen(dev_t dev, ino_t ino);
void		 control_unlink(dev_t dev, ino_t ino);

/* Connects.  fd or -errno; -ECONNREFUSED, -ENOENT: no daemon. */
int		 control_connect(dev_t dev, ino_t ino);

#endif
