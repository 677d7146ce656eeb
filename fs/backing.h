/*
 * Kernel passthrough: the kernel reads, writes and maps the store's file
 * itself, and asks us only when files are opened and closed (Linux 6.9, FUSE
 * 7.40; needs CAP_SYS_ADMIN).  Where it cannot be had, data is copied through
 * the daemon.
 *
 * An inode has one mode for as long as it is open: the kernel refuses to mix
 * them (EIO).  So all its handles share one backing id, which is made at the
 * first open and given back at the last RELEASE.  The first time that the
 * kernel refuses an id, passthrough is over for good; inodes that are open
 * keep theirs.
 *
 * (locked): fs.lock must be held.
 */
#ifndef SIBFS_BACKING_H
#define SIBFS_BACKING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

struct fs;
struct inode;

struct backed;

struct backing {
	atomic_bool on;			/* set before the loop, if wanted */
	bool tried;
	struct backed *open;		/* the inodes that are open, by address */
};

/* "passthrough" or "copy", as the next file will be opened. */
const char	*backing_mode(const struct fs *fs);

/* (locked) Counts an open of a regular file.  Returns the id by which it is passed
 * through, valid until backing_close; 0: it is copied. */
int32_t		 backing_open(struct fs *fs, struct inode *i);
void		 backing_close(struct fs *fs, struct inode *i);

/* Reply to OPEN and CREATE of a handle that is passed through, as
 * fuse_reply_open and fuse_reply_create do for others. */
int		 backing_reply_open(fuse_req_t req, int32_t id, uint64_t fh);
int		 backing_reply_create(fuse_req_t req, const struct fuse_entry_param *e, int32_t id, uint64_t fh);

/*
 * Has anyone on this host the file behind this descriptor (O_PATH will do)
 * open for writing, or mapped so?  Also who does it through a handle that was
 * passed through and is closed, but whose mapping is not.  -errno: cannot be said.
 */
int		 backing_has_writers(int fd);

#endif
