/*
 * Telling the kernel that what it caches has changed.  One thread does it,
 * from a queue: notifications wait for operations in the same directory, so
 * neither a worker nor anyone who holds a lock may send them.
 */
#ifndef SIBFS_NOTIFY_H
#define SIBFS_NOTIFY_H

#include <stdbool.h>
#include <sys/types.h>

struct echo_step;
struct fs;
struct inode;
struct notify;

int		 notify_start(struct fs *fs, struct notify **out);

/* From now on the kernel is told nothing more; waits until the thread is out
 * of the kernel.  Those who wait by notify_settle are still called. */
void		 notify_mute(struct notify *n);
void		 notify_stop(struct notify *n);

/* Any thread, any locks.  dir and ino are inode numbers of the store. */
void		 notify_entry(struct notify *n, ino_t dir, const char *name);
void		 notify_inode(struct notify *n, ino_t ino);

/* (locked) Only its attributes, as what is passed through has no content in the kernel's
 * cache of this mount: that waits for nobody, and is done at once. */
void		 notify_attr(struct notify *n, const struct inode *i);

/* Shows it to watchers, or tells of both names.  The step is taken over. */
void		 notify_step(struct notify *n, struct echo_step *step);

/* Has the kernel been told of all that was reported? */
bool		 notify_idle(struct notify *n);

/* Calls done(arg) from the thread when all before was sent. */
void		 notify_settle(struct notify *n, void (*done)(void *arg), void *arg);

#endif
