/*
 * What the two halves of write sessions have in common: session.c, which tells
 * what was written, and session_unseen.c, which finds what was written unseen.
 */
#ifndef SIBFS_SESSION_IMPL_H
#define SIBFS_SESSION_IMPL_H

#include "fs/session.h"

enum {
	SESSION_WATCH_MS = 1000,	/* how often files are looked at that are only open */
};

struct fs;
struct inode;

/* ---- session.c ---- */

int64_t		 session_now_ms(void);		/* CLOCK_MONOTONIC */

/* (locked) Wakes the timer if it waits for something to do. */
void		 session_wake_timer(struct fs *fs);

/* (locked) Written since it was told; unsure: maybe not. */
void		 session_mark_dirty(struct fs *fs, struct inode *i, bool unsure);

/* (view, locked) Tells it if it is dirty; returns whether anything was told. */
bool		 session_seal_locked(struct fs *fs, struct inode *i);

/* (view, locked) One writer less.  told: what it wrote was told just now.  Returns
 * whether anything was. */
bool		 session_writer_gone(struct fs *fs, struct inode *i, bool told);

/* ---- session_unseen.c ---- */

/* Do files of this store show each change, however soon it follows another
 * (Linux 6.13, ext4, XFS, btrfs)? */
bool		 session_has_fine_times(int root_fd);

/* (locked) Looks at a file that is watched: it is dirty if it was written. */
void		 session_look_again(struct fs *fs, struct inode *i);

/* (view, locked) The same for all of them, if it is time. */
void		 session_look_at_watched(struct fs *fs, int64_t now);

/* (locked) */
void		 session_stop_watching(struct fs *fs, struct inode *i);

/*
 * (view, locked) The last one who had it open leaves, but a mapping may stay.  The
 * lock is given up while the kernel is asked; until then it counts as a writer.
 */
bool		 session_leaves_mapping(struct fs *fs, struct inode *i);

/* (view, locked) Looks at all that were closed but mapped.  Gives the lock up meanwhile. */
void		 session_look_all_mapped(struct fs *fs);

#endif
