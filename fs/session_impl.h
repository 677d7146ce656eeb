/*
 * What the parts of write sessions have in common: session.c, which says when it
 * is told what was written, session_names.c, by which names, and
 * session_unseen.c, which finds what was written unseen.
 */
#ifndef SIBFS_SESSION_IMPL_H
#define SIBFS_SESSION_IMPL_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fs/session.h"

enum {
	SESSION_WATCH_MS = 1000,	/* how often files are looked at that are only open */
};

struct fs;
struct inode;
struct name;

/* What of a file changes when it is written. */
struct sight {
	off_t size;
	struct timespec mtime, ctime;
	bool fresh;			/* a change at the same moment might not show */
};

/*
 * What an inode has from when it is opened for writing, or found to be dirty,
 * until it has no writers, is not dirty and not watched: inode->session.  All
 * under fs.lock, but for what is atomic: writers see that without it, too.
 */
struct session {
	struct inode *inode;
	atomic_llong written_ms;	/* when last */
	atomic_bool unsure;		/* dirty, but maybe not written: contents are compared */
	struct session *dirty_prev, *dirty_next;

	/* While it is passed through to writers, who write unseen. */
	bool watched;
	bool mapped;			/* closed, but mapped writable still: counts as a writer */
	bool closing;			/* or about to be closed only: content is not told yet */
	int64_t closed_ms;
	struct sight seen;		/* as it was when last looked at */
	struct session *watched_prev, *watched_next;
	uint32_t opens;			/* by writers: how many there were */
};

/* ---- session.c ---- */

/* (locked) Wakes the timer if it waits for something to do. */
void		 session_wake_timer(struct fs *fs);

/* (locked) Written since it was told; unsure: maybe not. */
void		 session_mark_dirty(struct fs *fs, struct inode *i, bool unsure);

/* (view, locked) Tells it if it is dirty; returns whether anything was told. */
bool		 session_seal_locked(struct fs *fs, struct inode *i);

/* (view, locked) One writer less.  told: what it wrote was told just now.  Returns
 * whether anything was. */
bool		 session_writer_gone(struct fs *fs, struct inode *i, bool told);

/* ---- session_names.c ---- */

/* (view, locked) The file has content to be told by this name.  Returns whether it
 * was told already. */
bool		 session_name_written(struct fs *fs, struct name *name, bool unsure);

/* (view, locked) Tells what waits and was moved away from another name. */
void		 session_name_settle(struct fs *fs, struct name *name);

/* (view, locked) Tells what has waited until now. */
void		 session_names_due(struct fs *fs, int64_t now);

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
 * (view, locked) The last one who had it open leaves, but a mapping may stay: then it
 * goes on to count as a writer, and is told by the timer.  The lock is given up while
 * the kernel is asked.
 */
bool		 session_leaves_mapping(struct fs *fs, struct inode *i);

/* (view, locked) Looks at all that were closed but mapped at that time.  Gives the lock
 * up meanwhile. */
void		 session_look_all_mapped(struct fs *fs, int64_t now);

#endif
