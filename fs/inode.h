/*
 * The inode table: what the kernel has been told of and not forgotten yet, by
 * device and inode number of the store.  A FUSE node number is the address of
 * a struct inode, the root's being FUSE_ROOT_ID.
 *
 * An inode keeps an O_PATH descriptor while it is among the recently used
 * ones.  The descriptors of others are closed, and opened again by file
 * handle, since descriptors are few (the hard limit may be 20,000).  Where
 * file handles do not work, as ordinary users may not open them, that is done by
 * name, and only to what is not open.  Files without a name that we know (FIFOs and
 * the like, what stands on other file systems mounted inside the store) keep theirs.
 *
 * There may be a million of them, at 160 bytes each with one name: what only
 * those need that are open or written stands elsewhere (descriptors in
 * inode_fd.c, sessions in session_impl.h, backing ids in backing.h).
 *
 * (locked): fs.lock must be held; (view): the replica's view lock, shared.
 */
#ifndef SIBFS_INODE_H
#define SIBFS_INODE_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "fs/names.h"
#include "fs/table.h"

struct closer;
struct descriptor;
struct file_handle;
struct fs;
struct session;

struct inode_key {
	dev_t dev;
	ino_t ino;
};

/* What a file that has no descriptor is known by. */
union reopen {
	struct file_handle *handle;	/* as name_to_handle_at gives it */
	unsigned char small[8];		/* or only these bytes of it: all there is on ext4 */
	int64_t born_ns;		/* it is opened by name: no other had its number at that time */
};

/*
 * Under fs.lock, but for key and type, which never change, and what is atomic:
 * that may be read without it, and looked and cached be set, too.
 */
struct inode {
	struct table_link link;
	struct inode_key key;
	uint64_t nlookup;		/* what the kernel will FORGET */
	struct named names;		/* empty outside the replicated tree */
	union {				/* inode_fd.c's; which one: has_descriptor */
		struct descriptor *descriptor;
		union reopen reopen;
	};
	struct session *session;	/* NULL: nobody writes, and all is told; stays while there are
					 * writers: they may use the pointer without the lock, no one else */
	unsigned handles;		/* open ones: these keep the inode, too */
	atomic_uint writers;		/* of these, those open for writing */
	uint16_t type;			/* S_IFMT bits */
	uint8_t small_type;		/* of a handle that is small; 0: it is not, or not made yet */
	bool by_name : 1;		/* it is opened by name */
	bool opening : 1;		/* just now: its directory is not inside of it */
	bool hashed : 1;		/* not when its number went to another file since */
	bool has_descriptor : 1;
	atomic_bool dirty;		/* written since the replica was told */
	atomic_bool replaced;		/* lost a name by a remote change */
	atomic_bool looked;		/* compared with its mark, or of our own making */
	atomic_bool cached;		/* the kernel may believe its attributes */
};

static_assert(sizeof(void *) != 8 || sizeof(struct inode) <= 72, "malloc takes 80 bytes for 72, and 96 for more");

struct inodes {
	struct inode root;
	struct table table;
	struct descriptor *lru;		/* the one used longest ago first */
	struct closer *closer;		/* the caller's; NULL: removed files are closed at once */
	unsigned fds, fds_max;
	int root_fd;			/* not O_PATH: open_by_handle_at wants that */
	bool handles_work, births_known;
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
