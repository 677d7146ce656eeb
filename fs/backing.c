/*
 * Backing ids, and the answers that carry them, which libfuse 3.14 has not.
 */
#include "config.h"

#include "fs/backing.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/fuse.h>
#include <uthash.h>

#include "fs/caller.h"
#include "fs/fs.h"
#include "replication/log.h"
#include "replication/mem.h"

/* Of kernels newer than the headers that we may be built with. */
#define OPEN_NOFLUSH	 (1u << 5)
#define OPEN_PASSTHROUGH (1u << 7)

/* How the data of an inode that is open is reached. */
struct backed {
	const struct inode *inode;
	int32_t id;			/* 0: copied */
	unsigned opens;
	UT_hash_handle hh;
};

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define BACKING_OPEN	_IOW(229, 1, struct backing_map)
#define BACKING_CLOSE	_IOW(229, 2, uint32_t)

/* fuse_open_out, with the field that passthrough added. */
struct open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing_id;
};

const char *
backing_mode(const struct fs *fs)
{
	return atomic_load(&fs->backing.on) && fs->handshake.passthrough ? "passthrough" : "copy";
}

/*
 * The kernel opens the file again for each handle, with the rights that we have
 * now: without CAP_FSETID, so that what is written loses setuid.
 */
static int
make_id(struct fs *fs, int fd)
{
	struct backing_map map = { .fd = fd };
	int id;

	caller_fsetid(false);
	id = ioctl(fuse_session_fd(fs->se), BACKING_OPEN, &map);
	if (id < 0)
		id = -errno;
	caller_fsetid(true);
	return id;
}

/*
 * The rights of one id are those of all who write: a file that has setuid or
 * setgid is copied, so that it loses them by who may not write it with them, and
 * keeps them with root.
 */
static bool
is_setid(int fd)
{
	struct stat st;

	return fstatat(fd, "", &st, AT_EMPTY_PATH) == 0 && (st.st_mode & (S_ISUID | S_ISGID)) != 0;
}

static int
new_id(struct fs *fs, struct inode *i)
{
	int fd = inode_fd_get_locked(fs, i), id = 0;

	if (fd < 0)
		return 0;	/* the open will say why */
	if (is_setid(fd)) {
		inode_fd_put_locked(fs, i);
		return 0;
	}
	if (!fs->handshake.passthrough)
		id = -EOPNOTSUPP;
	/* If it cannot be told who writes, files could be replaced under their
	 * writers. */
	else if (!fs->backing.tried)
		id = backing_has_writers(fd);
	fs->backing.tried = true;
	if (id >= 0)
		id = make_id(fs, fd);
	inode_fd_put_locked(fs, i);
	if (id > 0)
		return id;
	if (atomic_exchange(&fs->backing.on, false))
		log_info("no passthrough here (%s): data is copied", strerror(-id));
	return 0;
}

static struct backed *
find_backed(struct fs *fs, const struct inode *i)
{
	struct backed *b;

	HASH_FIND_PTR(fs->backing.open, &i, b);
	return b;
}

int32_t
backing_open(struct fs *fs, struct inode *i)
{
	struct backed *b = find_backed(fs, i);

	if (b == NULL) {
		b = mem_alloc(sizeof *b);
		b->inode = i;
		if (atomic_load(&fs->backing.on) && inode_in_tree(fs, i))
			b->id = new_id(fs, i);
		HASH_ADD_PTR(fs->backing.open, inode, b);
	}
	b->opens++;
	return b->id;
}

void
backing_close(struct fs *fs, struct inode *i)
{
	struct backed *b = find_backed(fs, i);
	uint32_t id;

	assert(b != NULL);
	if (--b->opens > 0)
		return;
	id = (uint32_t)b->id;
	if (id != 0)
		ioctl(fuse_session_fd(fs->se), BACKING_CLOSE, &id);
	HASH_DEL(fs->backing.open, b);
	free(b);
}

static struct open_out
opened(int32_t id, uint64_t fh)
{
	return (struct open_out){
		.fh = fh,
		.open_flags = OPEN_PASSTHROUGH | OPEN_NOFLUSH,
		.backing_id = id,
	};
}

int
backing_reply_open(fuse_req_t req, int32_t id, uint64_t fh)
{
	struct open_out out = opened(id, fh);

	return fuse_reply_buf(req, (const char *)&out, sizeof out);
}

static struct fuse_attr
attr_of(const struct stat *st)
{
	return (struct fuse_attr){
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.rdev = (uint32_t)st->st_rdev,
		.blksize = (uint32_t)st->st_blksize,
	};
}

int
backing_reply_create(fuse_req_t req, const struct fuse_entry_param *e, int32_t id, uint64_t fh)
{
	struct {
		struct fuse_entry_out entry;
		struct open_out open;
	} out = {
		.entry = {
			.nodeid = e->ino,
			.generation = e->generation,
			.entry_valid = (uint64_t)e->entry_timeout,
			.attr_valid = (uint64_t)e->attr_timeout,
			.attr_valid_nsec = (uint32_t)((e->attr_timeout - (double)(uint64_t)e->attr_timeout) * 1e9),
			.attr = attr_of(&e->attr),
		},
		.open = opened(id, fh),
	};

	return fuse_reply_buf(req, (const char *)&out, sizeof out);
}

/*
 * A read lease is given only while no one has the file open for writing
 * (fcntl(2)), and is given back at once; SIGIO, by which the kernel asks for
 * it, is ignored by the daemon.
 */
int
backing_has_writers(int fd)
{
	int file = open(fd_path(fd).s, O_RDONLY | O_NONBLOCK | O_NOATIME | O_CLOEXEC), rc;

	if (file < 0)
		return -errno;
	if (fcntl(file, F_SETLEASE, F_RDLCK) == 0) {
		fcntl(file, F_SETLEASE, F_UNLCK);
		rc = 0;
	} else {
		rc = errno == EAGAIN ? 1 : -errno;
	}
	close(file);
	return rc;
}
