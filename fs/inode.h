/*
 * The inode table: what the kernel has been told of and not forgotten yet, by
 * device and inode number of the store.  A FUSE node number is the address of
 * a struct inode, the root's being FUSE_ROOT_ID.
 *
 * An inode keeps an O_PATH descriptor while it is among the recently used
 * ones.  The descriptors of others are closed, and opened again by file
 * handle, since descriptors are few (the hard limit may be 20,000).  Where
 * file handles do not work (ordinary users may not open them; other file
 * systems mounted inside the store) descriptors are kept.
 *
 * (locked): fs.lock must be held; (view): the replica's view lock, shared.
 */
#ifndef SIBFS_INODE_H
#define SIBFS_INODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <uthash.h>

#include "fs/backing.h"
#include "fs/names.h"

struct file_handle;
struct fs;

/* What of a file changes when it is written. */
struct sight {
	off_t size;
	struct timespec mtime, ctime;
	bool fresh;			/* a change at the same moment might not show */
};

struct inode_key {
	dev_t dev;
	ino_t ino;
};

struct inode {
	struct inode_key key;
	mode_t type;			/* S_IFMT bits */
	bool hashed;			/* not when its number went to another file since */
	uint64_t nlookup;		/* what the kernel will FORGET */
	unsigned handles;		/* open ones: these keep it, too */
	struct named names;		/* empty outside the replicated tree */

	int fd;				/* O_PATH, or -1 */
	unsigned pins;			/* users of fd at this moment */
	struct file_handle *handle;	/* made when fd is first closed */
	struct inode *lru_prev, *lru_next;

	struct backed backed;

	/* The write session (session.c). */
	atomic_uint writers;		/* handles open for writing */
	atomic_bool dirty;		/* written since the replica was told */
	atomic_bool unsure;		/* dirty, but maybe not written: contents are compared */
	atomic_llong written_ms;	/* when last */
	atomic_bool replaced;		/* lost a name by a remote change */
	struct inode *dirty_prev, *dirty_next;

	/* While it is passed through to writers, who write unseen. */
	struct sight seen;		/* as it was when last looked at */
	bool watched;
	bool mapped;			/* closed, but mapped writable still: counts as a writer */
	atomic_bool looked;		/* compared with its mark, or of our own making */
	atomic_bool cached;		/* the kernel may believe its attributes */
	uint32_t writer_opens;		/* how many there were */
	struct inode *watched_prev, *watched_next;

	UT_hash_handle hh;
};

struct inodes {
	struct inode root;
	struct inode *table;
	struct inode *lru;		/* those with a descriptor, oldest first */
	unsigned fds, fds_max;
	int root_fd;			/* not O_PATH: open_by_handle_at wants that */
	bool handles_work;
};

/* root_fd stays the caller's. */
int		 inodes_init(struct inodes *t, int root_fd);
void		 inodes_fini(struct fs *fs);

/* A FUSE node number to its inode and back. */
struct inode	*inode_of(struct fs *fs, uint64_t node);
uint64_t	 inode_node(const struct fs *fs, const struct inode *i);

/* The inode that a name is of. */
struct inode	*name_inode(const struct name *name);

/* (locked) An inode of the replicated tree by its number; NULL: not known. */
struct inode	*inode_find(struct fs *fs, ino_t ino);

/*
 * (view, locked) Finds or makes the inode that the O_PATH descriptor fd stands for
 * and counts one lookup.  fd is taken over.
 */
struct inode	*inode_enter(struct fs *fs, int fd, const struct stat *st);

/* Returns n lookups; the inode may be gone then.  Takes the view lock. */
void		 inode_forget(struct fs *fs, struct inode *i, uint64_t n);

/* (view, locked) For open handles. */
void		 inode_hold(struct inode *i);
void		 inode_drop(struct fs *fs, struct inode *i);

/*
 * Its O_PATH descriptor, valid until inode_fd_put.  -errno: -ESTALE when the
 * file is gone.  On failure there is nothing to put.
 */
int		 inode_fd_get(struct fs *fs, struct inode *i);
void		 inode_fd_put(struct fs *fs, struct inode *i);
int		 inode_fd_get_locked(struct fs *fs, struct inode *i);
void		 inode_fd_put_locked(struct fs *fs, struct inode *i);

/* Does the replica care for it?  Not for what is on another file system, nor
 * for FIFOs, sockets and devices. */
bool		 inode_in_tree(const struct fs *fs, const struct inode *i);
bool		 inode_replicated(const struct fs *fs, const struct inode *i);
bool		 type_replicated(mode_t mode);

/* "/proc/self/fd/N", for calls that take no O_PATH descriptor. */
struct fd_path {
	char s[32];
};
struct fd_path	 fd_path(int fd);

#endif
