/*
 * Write sessions: when what users write is told to the replica.  A file is
 * dirty from the first write until it is told, by each name that it has then:
 * when a handle that wrote it is closed, when it is fsynced, when it was
 * quiet for two seconds though still open, when the mount ends.  Names that
 * editors use for a moment wait one second more.
 *
 * A file that is renamed to such a name may be an editor's backup: it waits as
 * well.  If the name that it had is made anew meanwhile, that is one new version
 * of the file there, as if it had been written in place, and what was moved
 * away is told as new, if it lasts.
 *
 * What is passed through is written unseen.  Such files are watched: looked at
 * (size, mtime, ctime) when they are opened for writing, closed or synced, and
 * each second between.  One that is closed can be mapped still; it is watched,
 * and counts as open for writing, until it is not.
 *
 * Everything that is told goes through here.  (view): the replica's view lock
 * is held shared; (locked): fs.lock is held, too.
 */
#ifndef SIBFS_SESSION_H
#define SIBFS_SESSION_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "replication/replica.h"

struct fs;
struct inode;
struct name;
struct session;
struct waiting;

struct sessions {
	struct session *dirty;		/* written, not told */
	struct waiting *waiting;	/* names, closed but passing ones, not told: session_names.c */
	struct session *watched;	/* passed through to writers, or mapped by them */
	unsigned mapped_len, closing_len;
	int64_t looked_ms;		/* when the watched ones were looked at last */
	bool fine_times;		/* two changes never have the same time */
	pthread_t timer;
	pthread_cond_t changed;
	bool idle, ending;		/* idle: the timer waits for something to do */
};

int		 sessions_start(struct fs *fs);
void		 sessions_stop(struct fs *fs);	/* tells all that is left */

/* Tells what is due at that time (CLOCK_MONOTONIC, ms): the timer does it. */
void		 sessions_tell_due(struct fs *fs, int64_t now_ms);

/* (view) Before a writable open: counts a writer.  -ESTALE: the inode has no
 * name any more by a remote change, and the kernel should look it up again. */
int		 session_open(struct fs *fs, struct inode *i);

/* Before it is opened for reading: compares it with the mark that the replica gave
 * it, once, and tells if it may have changed unseen.  Takes the view lock. */
void		 session_look(struct fs *fs, struct inode *i);

/* Has a remote change taken the last name of it away? */
bool		 session_is_nameless(struct fs *fs, struct inode *i);

/* (view) Before a change by name: may attributes of it be changed, or -ESTALE? */
int		 session_may_change(struct fs *fs, struct inode *i);

/* (view) Before its attributes change: its names stand in the journal. */
void		 session_touch(struct fs *fs, struct inode *i);

/* (view) Takes back the writer that session_open counted.  wrote: this handle
 * wrote something. */
void		 session_close(struct fs *fs, struct inode *i, bool wrote);

/* (view) What was just opened for writing, as session_open said, is passed through. */
void		 session_watch(struct fs *fs, struct inode *i);

/* (locked) The inode was just made, and is open for writing: counts a writer. */
void		 session_made(struct inode *i);

/* After each write, by who counts as a writer. */
void		 session_wrote(struct fs *fs, struct inode *i);

/* (view) Tells a file that is dirty, or was written unseen. */
void		 session_seal(struct fs *fs, struct inode *i);

/* (view, locked) dir/name is new.  open: it is told when it is closed. */
void		 session_name_new(struct fs *fs, struct name *name, bool open);

/* (view, locked) dir/name is gone, as the inode has another name now, or lost
 * this one; call before names_remove. */
void		 session_name_gone(struct fs *fs, struct name *name);
void		 session_name_unlinked(struct fs *fs, struct name *name);

/* (view, locked) name, of a file, was dir/was until now, and stands where nothing
 * is known to stand.  Does its telling wait?  Else it is the caller's. */
bool		 session_name_moved(struct fs *fs, struct name *name, const char *was);

/* (view, locked) Something is made as dir/text, or moved there, and will be told; plain:
 * it has content of its own, as files have. */
void		 session_name_made(struct fs *fs, ino_t dir, const char *text, bool plain);

/* (locked) dir/text is a name of that inode, which the kernel may not have been told of:
 * if it is open for writing, it is told by that, too. */
void		 session_name_found(struct fs *fs, ino_t ino, ino_t dir, const char *text);

/* (locked) A remote change takes the name away, maybe to give the inode another:
 * what waits to be told under it is told later, under the names it has then. */
void		 session_name_taken(struct fs *fs, struct name *name);

/* (locked) The inode is being forgotten; before its names are. */
void		 session_inode_dropped(struct fs *fs, struct inode *i);

/* Looks whether what was closed but mapped is so still.  Takes the view lock. */
void		 session_look_mapped(struct fs *fs);

/* (locked) Tells what waits, now. */
void		 session_tell_waiting(struct fs *fs);

/* (locked) Of that, what moved away and was not made anew. */
void		 session_tell_moved(struct fs *fs);

/* (locked) The name itself stays, but its inode is being forgotten. */
void		 session_name_dropped(struct fs *fs, struct name *name);

/* (view, locked) Attributes were set; which: enum replica_attr; mtime: what it was
 * and what it was set to, in ns, or NULL. */
void		 session_attr(struct fs *fs, struct inode *i, unsigned which, const int64_t mtime[2]);

/* (view, locked) Tells e, stamped with the time. */
void		 session_tell(struct fs *fs, struct replica_event e);

#endif
