/*
 * A running replica: one thread that owns what this replica knows (the pure
 * core), its index, its links to peers and the names on disk.  The file system
 * tells it what users did; it tells the file system what arrived.  It can run
 * without a mount.  Not here: anything of FUSE.
 *
 * Threading: replica_open, _start, _stop, _close by one thread; replica_tell,
 * _touch, _ask, _view_* by any thread.
 *
 * Locks, outermost first: the view lock (replica_view_lock), then whatever
 * the file system has of its own, then the event queue (inside replica_tell).
 */
#ifndef SIBFS_REPLICA_H
#define SIBFS_REPLICA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct replica;

/*
 * What a user did, told after the system call in the store succeeded and while
 * the view lock is still held shared.  Directories are named by the inode
 * number that they have in the store.  Events are handled in the order told.
 */
enum replica_op {
	REPLICA_WRITE,		/* dir/name holds new content, or is new (file or symlink) */
	REPLICA_UNLINK,		/* dir/name is gone */
	REPLICA_RENAME,		/* dir/name is dir2/name2 now, and replaced what stood there */
	REPLICA_EXCHANGE,	/* dir/name and dir2/name2 changed places */
	REPLICA_MKDIR,		/* dir/name is a new directory; ino is its inode */
	REPLICA_RMDIR,		/* dir/name, a directory, is gone */
	REPLICA_ATTR,		/* mode, owner, times or xattrs of dir/name changed; dir 0: of the root */
	REPLICA_LOOK,		/* dir/name is not as it was marked: it may have changed unseen */
	REPLICA_IDLE,		/* no one has ino open for writing any more; what waited for it may go on */
};

/* Which attributes an operation set, even to what they were (REPLICA_ATTR). */
enum replica_attr {
	REPLICA_ATTR_MODE = 1,
	REPLICA_ATTR_OWNER = 2,
	REPLICA_ATTR_OTHER = 4,		/* times, extended attributes: compared */
};

struct replica_event {
	enum replica_op op;
	ino_t ino;		/* of the object itself */
	ino_t dir, dir2;
	const char *name, *name2;	/* borrowed during the call */
	int64_t time_ns;	/* CLOCK_REALTIME of the operation; 0: now */
	unsigned attrs;		/* ATTR: enum replica_attr */
	int64_t mtime_from, mtime_to;	/* ATTR: the file's mtime was set, in ns; equal: it was not */
	bool is_dir;		/* RENAME, EXCHANGE, ATTR: the object is a directory */
	bool unsure;		/* WRITE: if the content is as it was, nothing happened */
};

/*
 * What the mount provides.  Those marked (locked) are called with the view
 * lock held exclusively: no operation that changes names, and no open for
 * writing, is under way; they must not wait for the kernel.  The others are
 * called with no lock held, on the replica's thread, and only queue.
 */
struct replica_view {
	void *ctx;
	/* (locked) Has anyone this inode open for writing? */
	bool (*writing)(void *ctx, ino_t ino);
	/* (locked) The inode's name went to another inode or is gone, by a
	 * remote change: OPEN for writing, SETATTR and SETXATTR on it answer
	 * ESTALE from now on, so the kernel looks the name up again. */
	void (*replaced)(void *ctx, ino_t ino);
	/* (locked) A name went elsewhere by a remote change; name NULL: it came
	 * from outside the tree; name2 NULL: it left it. */
	void (*moved)(void *ctx, ino_t ino, ino_t dir, const char *name, ino_t dir2, const char *name2);
	/* (locked) dir/name is a name of that inode, too: who has it open for writing may
	 * not know it by any that still stands. */
	void (*named)(void *ctx, ino_t ino, ino_t dir, const char *name);
	/* Tells the replica now what waits to be told.  Called with the view
	 * lock held, shared or exclusively. */
	void (*tell_waiting)(void *ctx);
	/* (locked) Of that, files that do not stand any more where they are thought
	 * to be. */
	void (*tell_moved)(void *ctx);
	/* dir/name stands for something else than before, or for nothing. */
	void (*entry_changed)(void *ctx, ino_t dir, const char *name);
	/* Attributes of an inode changed. */
	void (*inode_changed)(void *ctx, ino_t ino);
	/* Calls done(arg) from another thread once the kernel was told of all
	 * that was reported before. */
	void (*settle)(void *ctx, void (*done)(void *arg), void *arg);
	/* Calls done(arg) from another thread once all that programs closed
	 * before this call was told to the replica (RELEASE is asynchronous). */
	void (*barrier)(void *ctx, void (*done)(void *arg), void *arg);
	/* A new O_PATH descriptor of a directory that the mount knows, or -errno. */
	int (*open_dir)(void *ctx, ino_t ino);
	/* How data goes, for users: "passthrough" or "copy". */
	const char *(*data_path)(void *ctx);
};

/*
 * Makes the directory at path (made if missing) a store: node is its name for
 * users, set the replicated set's id or NULL for a random one.  Files that
 * stand there are taken in; progress (may be NULL) is called now and then.
 * On failure -errno, one line for the user in why, and nothing is changed.
 */
int		 replica_init(const char *path, const char *node, const char *set,
		    void (*progress)(void *arg, uint64_t files, uint64_t bytes), void *arg,
		    char *why, size_t why_size);

/*
 * Opens the store at path and takes its lock.  On failure returns -errno and
 * writes one line for the user into why.  -EBUSY: another daemon has it.
 */
int		 replica_open(const char *path, struct replica **out, char *why, size_t why_size);
void		 replica_close(struct replica *r);

/* The answers of `status` and `conflicts`, as the JSON that the control socket
 * gives ({"ok": true, ...}); for use between replica_open and replica_start
 * only.  Allocated. */
char		*replica_report(struct replica *r, const char *cmd);

/* Deletions wait for none of the incarnations of that node any more that are not
 * connected.  -EINVAL with one line in why.  On the replica's thread, or while
 * there is none. */
int		 replica_retire(struct replica *r, const char *node, char *why, size_t size);

/* Starts the thread.  view is NULL or lives until replica_stop. */
int		 replica_start(struct replica *r, const struct replica_view *view, const char *mountpoint);

/* Ends the thread: commits what was told, drops the links. */
void		 replica_stop(struct replica *r);

/* Calls stop(arg) once, from the replica's thread, when it should end: asked
 * by `umount`, or by a mount that takes the store over. */
void		 replica_on_quit(struct replica *r, void (*stop)(void *arg), void *arg);

/* Joins a peer's byte stream (both directions on fd, which is taken over) as
 * if it had come through the control socket.  Used by `serve` without a daemon.
 * peer: who alone may call, or NULL. */
int		 replica_serve(struct replica *r, int fd, const char *peer, bool read_only,
		    void (*closed)(void *arg), void *arg);

/* The store's root directory, opened before anything is mounted over it. */
int		 replica_root_fd(const struct replica *r);

/*
 * Held shared by the file system around a system call that changes names or
 * attributes, or opens for writing, and the replica_tell that follows it.
 */
void		 replica_view_lock(struct replica *r);
void		 replica_view_unlock(struct replica *r);

/* Tells what happened.  Never waits for the network, the index or a hash. */
void		 replica_tell(struct replica *r, const struct replica_event *e);

/* Notes in the journal that dir/name is about to be written: after a killed
 * daemon it is looked at again. */
void		 replica_touch(struct replica *r, ino_t dir, const char *name);

enum replica_query { REPLICA_VV, REPLICA_DOT, REPLICA_SIBLINGS, REPLICA_ORIGIN };

/*
 * The computed attributes user.sibfs.vv, .dot, .siblings, .origin of dir/name
 * (dir 0: of the root).  Waits until what was told before is handled.  *out is
 * allocated, NUL-terminated.  -ENODATA: it has none (local only).
 */
int		 replica_ask(struct replica *r, enum replica_query what, ino_t dir, const char *name, char **out);

#endif
