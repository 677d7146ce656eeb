/*
 * Events for who watches.  inotify tells programs of what others do through the
 * mount, not of what the kernel is told by us.  So what replication has done in
 * the store is done once more through the mount, for show: the notifier's thread
 * calls rename(2) or unlink(2) there, and our workers, who know it by its thread
 * number, change nothing and only say whether it is true.  The kernel then moves
 * its cached names and tells the watchers: also the working directories of
 * programs go along with a directory that was moved.
 *
 * What is new comes from a name that nobody else can look up, .sibfs/echo.  Where
 * this cannot be done, the kernel forgets the names instead.
 *
 * Threading: echo_moved, echo_next, echo_covers by the replica's thread; echo_play
 * by the notifier's; the rest by workers.
 */
#ifndef SIBFS_ECHO_H
#define SIBFS_ECHO_H

#include <stdbool.h>
#include <sys/types.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

struct echo;
struct fs;
struct inode;

/* What happened to one inode: it went from a name (NULL: it is new) to another
 * (NULL: it is gone). */
struct echo_step {
	ino_t ino;
	ino_t from_dir, to_dir;
	char *from, *to;
	ino_t replaced;		/* what stood there before, and is gone; 0: nothing */
	struct echo_step *next;
};

struct echo	*echo_new(struct fs *fs, const char *mountpoint);
void		 echo_free(struct echo *e);

/* Notes a step of a change of the view; the arguments as of view.moved. */
void		 echo_moved(struct echo *e, ino_t ino, ino_t dir, const char *name, ino_t dir2, const char *name2);

/* The change is over: the next thing to be shown, the caller's; NULL: no more. */
struct echo_step *echo_next(struct echo *e);
void		 echo_step_free(struct echo_step *s);

/* Is this name shown by a step of the last change? */
bool		 echo_covers(const struct echo *e, ino_t dir, const char *name);

/* Shows it.  False: the kernel must forget the names. */
bool		 echo_play(struct echo *e, const struct echo_step *s);

/* Is this request part of the show? */
bool		 echo_is(const struct fs *fs, fuse_req_t req);

/* Then it is answered by these.  echo_lookup: false if it is one as any other. */
bool		 echo_lookup(fuse_req_t req, struct inode *dir, const char *name);
void		 echo_rename(fuse_req_t req, struct inode *dir, const char *name, struct inode *newdir, const char *newname);
void		 echo_remove(fuse_req_t req, struct inode *dir, const char *name);

#endif
