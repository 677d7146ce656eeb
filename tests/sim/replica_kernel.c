/*
 * The part of the kernel that lies between programs and fs/: it remembers which
 * names it was told of until it hears otherwise, asks the operations of fs/ as
 * the real one would, and releases closed files some time later.  Paths are
 * walked through what is remembered; an answer of ESTALE has them walked once
 * more, asking for every name.
 *
 * Here are also the functions of libfuse that the operations reply by, and what
 * notify.h and barrier.h promise, without their threads.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uthash.h>
#include <utlist.h>

#include "fs/barrier.h"
#include "fs/handle.h"
#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/workers.h"
#include "tests/lib/random.h"
#include "tests/sim/replica_sim.h"

#define HANDLES_MAX 4
#define AGAIN_MAX 20

/* A name that is remembered. */
struct known {
	UT_hash_handle hh;
	uint64_t node;		/* 0: there is none */
	mode_t type;
	/* The key. */
	uint64_t up;
	char name[256];
};

/* What we have to forget. */
struct knode {
	UT_hash_handle hh;
	uint64_t node;
	uint64_t lookups;
};

struct open_file {
	bool used, writable, wrote;
	uint64_t node;
	struct fuse_file_info fi;
};

/* Something to be done later, in order. */
struct later {
	struct later *next;
	enum { RELEASE, BARRIER, ENTRY, SETTLE } what;
	uint64_t node;
	struct fuse_file_info fi;
	ino_t dir;
	char *name;
	void (*done)(void *arg);
	void *arg;
};

struct kernel {
	struct fs *fs;
	struct known *known;
	struct knode *nodes;
	struct open_file files[HANDLES_MAX];
	struct later *requests, *notes;
};

/* What libfuse calls a request. */
struct fuse_req {
	struct kernel *k;
	int err;
	struct fuse_entry_param e;
	struct fuse_file_info fi;
	size_t written;
};

/* ---- replies ---- */

static const struct fuse_ctx caller = { .uid = 0, .gid = 0, .umask = 022 };

void *
fuse_req_userdata(fuse_req_t req)
{
	return req->k->fs;
}

const struct fuse_ctx *
fuse_req_ctx(fuse_req_t req)
{
	(void)req;
	return &caller;
}

int
fuse_reply_err(fuse_req_t req, int err)
{
	req->err = -err;
	return 0;
}

void
fuse_reply_none(fuse_req_t req)
{
	(void)req;
}

int
fuse_reply_entry(fuse_req_t req, const struct fuse_entry_param *e)
{
	req->e = *e;
	return 0;
}

int
fuse_reply_create(fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi)
{
	req->e = *e;
	req->fi = *fi;
	return 0;
}

int
fuse_reply_open(fuse_req_t req, const struct fuse_file_info *fi)
{
	req->fi = *fi;
	return 0;
}

int
fuse_reply_attr(fuse_req_t req, const struct stat *st, double timeout)
{
	(void)req;
	(void)st;
	(void)timeout;
	return 0;
}

int
fuse_reply_write(fuse_req_t req, size_t n)
{
	req->written = n;
	return 0;
}

int
fuse_reply_buf(fuse_req_t req, const char *buf, size_t size)
{
	(void)req;
	(void)buf;
	(void)size;
	return 0;
}

int
fuse_reply_readlink(fuse_req_t req, const char *target)
{
	(void)req;
	(void)target;
	return 0;
}

/* ---- what is told to the kernel ---- */

static struct later *
add_later(struct later **list, int what)
{
	struct later *l = mem_alloc(sizeof(*l));

	l->what = what;
	LL_APPEND(*list, l);
	return l;
}

void
notify_entry(struct notify *n, ino_t dir, const char *name)
{
	struct later *l = add_later(&((struct kernel *)n)->notes, ENTRY);

	l->dir = dir;
	l->name = mem_str(name);
}

void
notify_inode(struct notify *n, ino_t ino)
{
	(void)n;
	(void)ino;
}

void
notify_attr(struct notify *n, const struct inode *i)
{
	(void)n;
	(void)i;
}

/* Nobody watches by inotify here: there is no echo to make steps. */
void
notify_step(struct notify *n, struct echo_step *step)
{
	(void)n;
	(void)step;
}

bool
notify_idle(struct notify *n)
{
	return ((struct kernel *)n)->notes == NULL;
}

void
notify_settle(struct notify *n, void (*done)(void *arg), void *arg)
{
	struct later *l = add_later(&((struct kernel *)n)->notes, SETTLE);

	l->done = done;
	l->arg = arg;
}

void
barrier_call(struct barrier *b, void (*done)(void *arg), void *arg)
{
	struct later *l = add_later(&((struct kernel *)b)->requests, BARRIER);

	l->done = done;
	l->arg = arg;
}

void
workers_barrier(struct workers *w)
{
	(void)w;
}

/* ---- what is remembered ---- */

static struct known *
find_known(struct kernel *k, uint64_t up, const char *name, bool make)
{
	struct known probe, *e;

	memset(&probe, 0, sizeof(probe));
	probe.up = up;
	snprintf(probe.name, sizeof(probe.name), "%s", name);
	HASH_FIND(hh, k->known, &probe.up, sizeof(probe.up) + sizeof(probe.name), e);
	if (!e && make) {
		e = mem_alloc(sizeof(*e));
		e->up = up;
		memcpy(e->name, probe.name, sizeof(e->name));
		HASH_ADD(hh, k->known, up, sizeof(e->up) + sizeof(e->name), e);
	}
	return e;
}

static void
forget_known(struct kernel *k, uint64_t up, const char *name)
{
	struct known *e = find_known(k, up, name, false);

	if (!e)
		return;
	HASH_DEL(k->known, e);
	free(e);
}

static void
count_lookup(struct kernel *k, uint64_t node)
{
	struct knode *n;

	HASH_FIND(hh, k->nodes, &node, sizeof(node), n);
	if (!n) {
		n = mem_alloc(sizeof(*n));
		n->node = node;
		HASH_ADD(hh, k->nodes, node, sizeof(n->node), n);
	}
	n->lookups++;
}

/* A reply that says what stands at up/name. */
static void
learn(struct kernel *k, uint64_t up, const char *name, const struct fuse_entry_param *e)
{
	struct known *x = find_known(k, up, name, true);

	x->node = e->ino;
	x->type = e->attr.st_mode & S_IFMT;
	if (e->ino)
		count_lookup(k, e->ino);
}

static bool
is_in_use(const struct kernel *k, uint64_t node)
{
	const struct known *e;
	const struct later *l;

	for (unsigned i = 0; i < HANDLES_MAX; i++)
		if (k->files[i].used && k->files[i].node == node)
			return true;
	LL_FOREACH(k->requests, l)
		if (l->node == node)
			return true;
	for (e = k->known; e; e = e->hh.next)
		if (e->node == node || e->up == node)
			return true;
	return false;
}

void
kernel_shrink(struct kernel *k)
{
	struct known *e, *etmp;
	struct knode *n, *ntmp;

	HASH_ITER(hh, k->known, e, etmp)
		if (random_chance(60)) {
			HASH_DEL(k->known, e);
			free(e);
		}
	HASH_ITER(hh, k->nodes, n, ntmp)
		if (n->node != FUSE_ROOT_ID && !is_in_use(k, n->node)) {
			struct fuse_req req = { .k = k };

			HASH_DEL(k->nodes, n);
			ops_forget(&req, n->node, n->lookups);
			free(n);
		}
}

/* ---- walking ---- */

static struct known *
look_up(struct kernel *k, uint64_t up, const char *name, bool ask)
{
	struct known *e = ask ? NULL : find_known(k, up, name, false);
	struct fuse_req req = { .k = k };

	if (e)
		return e;
	ops_lookup(&req, up, name);
	if (req.err < 0) {
		forget_known(k, up, name);
		e = find_known(k, up, name, true);
		e->node = 0;
		return e;
	}
	learn(k, up, name, &req.e);
	return find_known(k, up, name, false);
}

/* The directory that path stands in, and its last name.  0 or -errno. */
static int
walk(struct kernel *k, const char *path, bool ask, uint64_t *up, const char **last)
{
	char part[256];
	const char *slash;

	*up = FUSE_ROOT_ID;
	while ((slash = strchr(path, '/'))) {
		struct known *e;

		snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		e = look_up(k, *up, part, ask);
		if (!e->node)
			return -ENOENT;
		if (!S_ISDIR(e->type))
			return -ENOTDIR;
		*up = e->node;
		path = slash + 1;
	}
	*last = path;
	return 0;
}

/* What an operation works on; walked again, asking, if it was stale. */
struct spot {
	uint64_t up, node;
	const char *name;
	mode_t type;
};

static int
find(struct kernel *k, const char *path, bool ask, struct spot *s)
{
	struct known *e;
	int rc = walk(k, path, ask, &s->up, &s->name);

	if (rc < 0)
		return rc;
	e = look_up(k, s->up, s->name, ask);
	s->node = e->node;
	s->type = e->type;
	return 0;
}

/* ---- operations ---- */

static struct host *
host_of(const struct kernel *k)
{
	for (unsigned i = 0; i < sim.len; i++)
		if (sim.hosts[i].kernel == k)
			return &sim.hosts[i];
	return sim.at;
}

static void
enter_user(struct kernel *k, struct host **was_at, enum doing *was)
{
	*was_at = sim.at;
	*was = sim.doing;
	sim.at = host_of(k);
	sim.doing = DOING_USER;
}

/* Runs the body as a user, twice if the first time is answered by ESTALE. */
#define AS_USER(k, rc, body)								\
	do {										\
		struct host *was_at;							\
		enum doing was;								\
											\
		enter_user(k, &was_at, &was);						\
		for (int ask = 0; ask < 2; ask++) {					\
			body								\
			if (rc != -ESTALE)						\
				break;							\
		}									\
		sim.at = was_at;							\
		sim.doing = was;							\
	} while (0)

static int
open_one(struct kernel *k, const char *path, int flags, mode_t mode, bool ask, int slot)
{
	struct open_file *f = &k->files[slot];
	struct fuse_req req = { .k = k };
	struct fuse_file_info fi = { .flags = flags & ~(O_CREAT | O_EXCL) };
	struct spot s;
	int rc = find(k, path, ask, &s);

	if (rc < 0)
		return rc;
	if (s.node && (flags & O_EXCL))
		return -EEXIST;
	if (!s.node && !(flags & O_CREAT))
		return -ENOENT;
	if (s.node && !S_ISREG(s.type))
		return S_ISDIR(s.type) ? -EISDIR : -ELOOP;
	if (s.node) {
		ops_open(&req, s.node, &fi);
		if (req.err < 0)
			return req.err;
	} else {
		fi.flags = flags;
		ops_create(&req, s.up, s.name, S_IFREG | mode, &fi);
		if (req.err < 0) {
			if (req.err == -ESTALE)
				forget_known(k, s.up, s.name);
			return req.err;
		}
		learn(k, s.up, s.name, &req.e);
		s.node = req.e.ino;
	}
	*f = (struct open_file){ .used = true, .writable = (flags & O_ACCMODE) != O_RDONLY, .node = s.node,
		.fi = req.fi, .wrote = (flags & O_TRUNC) != 0 };
	return slot;
}

int
kernel_open(struct kernel *k, const char *path, int flags, mode_t mode)
{
	int rc = -EMFILE, slot = -1;

	for (int i = 0; i < HANDLES_MAX; i++)
		if (!k->files[i].used)
			slot = i;
	if (slot < 0)
		return rc;
	AS_USER(k, rc, rc = open_one(k, path, flags, mode, ask, slot););
	return rc;
}

static int
write_at(struct kernel *k, int handle, const char *text, size_t size, off_t at)
{
	struct open_file *f = &k->files[handle];
	struct fuse_req req = { .k = k };
	int rc = 0;

	AS_USER(k, rc,
		ops_write(&req, f->node, text, size, at, &f->fi);
		rc = req.err;
	);
	f->wrote = true;
	if (rc < 0)
		ledger_replaced(((struct handle *)(uintptr_t)f->fi.fh)->fd);
	return rc;
}

int
kernel_write(struct kernel *k, int handle, const char *text, bool append)
{
	struct handle *h = (struct handle *)(uintptr_t)k->files[handle].fi.fh;
	struct stat st;

	return write_at(k, handle, text, strlen(text), append && fstat(h->fd, &st) == 0 ? st.st_size : 0);
}

int
kernel_write_again(struct kernel *k, int handle)
{
	struct handle *h = (struct handle *)(uintptr_t)k->files[handle].fi.fh;
	char text[AGAIN_MAX];
	ssize_t n = ledger_read(h->fd, text, sizeof(text), 0);

	return n <= 0 ? -ENODATA : write_at(k, handle, text, (size_t)n, 0);
}

int
kernel_fsync(struct kernel *k, int handle)
{
	struct open_file *f = &k->files[handle];
	struct fuse_req req = { .k = k };
	int rc;

	AS_USER(k, rc,
		ops_fsync(&req, f->node, 0, &f->fi);
		rc = req.err;
	);
	return rc;
}

int
kernel_close(struct kernel *k, int handle)
{
	struct open_file *f = &k->files[handle];
	struct later *l;

	if (f->wrote)
		ledger_acked(host_of(k), ((struct handle *)(uintptr_t)f->fi.fh)->fd);
	l = add_later(&k->requests, RELEASE);
	l->node = f->node;
	l->fi = f->fi;
	f->used = false;
	return 0;
}

int
kernel_any_handle(struct kernel *k)
{
	int open[HANDLES_MAX], n = 0;

	for (int i = 0; i < HANDLES_MAX; i++)
		if (k->files[i].used)
			open[n++] = i;
	return n ? open[random_below((size_t)n)] : -1;
}

static int
remove_one(struct kernel *k, const char *path, bool ask, bool dir)
{
	struct fuse_req req = { .k = k };
	struct spot s;
	int rc = find(k, path, ask, &s);

	if (rc == 0 && !s.node)
		rc = -ENOENT;
	if (rc == 0 && S_ISDIR(s.type) != dir)
		rc = dir ? -ENOTDIR : -EISDIR;
	if (rc < 0)
		return rc;
	if (dir)
		ops_rmdir(&req, s.up, s.name);
	else
		ops_unlink(&req, s.up, s.name);
	if (req.err == 0 || req.err == -ENOENT)
		forget_known(k, s.up, s.name);
	return req.err;
}

int
kernel_unlink(struct kernel *k, const char *path)
{
	int rc;

	AS_USER(k, rc, rc = remove_one(k, path, ask, false););
	return rc;
}

int
kernel_rmdir(struct kernel *k, const char *path)
{
	int rc;

	AS_USER(k, rc, rc = remove_one(k, path, ask, true););
	return rc;
}

static int
make_one(struct kernel *k, const char *path, bool ask, const char *target, mode_t mode)
{
	struct fuse_req req = { .k = k };
	struct spot s;
	int rc = find(k, path, ask, &s);

	if (rc == 0 && s.node)
		rc = -EEXIST;
	if (rc < 0)
		return rc;
	if (target)
		ops_symlink(&req, target, s.up, s.name);
	else
		ops_mkdir(&req, s.up, s.name, mode);
	if (req.err == 0)
		learn(k, s.up, s.name, &req.e);
	else if (req.err == -EEXIST)
		forget_known(k, s.up, s.name);
	return req.err;
}

int
kernel_mkdir(struct kernel *k, const char *path, mode_t mode)
{
	int rc;

	AS_USER(k, rc, rc = make_one(k, path, ask, NULL, mode););
	return rc;
}

int
kernel_symlink(struct kernel *k, const char *target, const char *path)
{
	int rc;

	AS_USER(k, rc, rc = make_one(k, path, ask, target, 0777););
	return rc;
}

static int
link_one(struct kernel *k, const char *path, const char *to, bool ask)
{
	struct fuse_req req = { .k = k };
	struct spot a, b;
	int rc = find(k, path, ask, &a);

	if (rc == 0)
		rc = find(k, to, ask, &b);
	if (rc == 0 && !a.node)
		rc = -ENOENT;
	if (rc == 0 && S_ISDIR(a.type))
		rc = -EPERM;
	if (rc == 0 && b.node)
		rc = -EEXIST;
	if (rc < 0)
		return rc;
	ops_link(&req, a.node, b.up, b.name);
	if (req.err == 0)
		learn(k, b.up, b.name, &req.e);
	return req.err;
}

int
kernel_link(struct kernel *k, const char *path, const char *to)
{
	int rc;

	AS_USER(k, rc, rc = link_one(k, path, to, ask););
	return rc;
}

static int
rename_one(struct kernel *k, const char *path, const char *to, unsigned flags, bool ask)
{
	struct fuse_req req = { .k = k };
	struct known *e;
	struct spot a, b;
	int rc = find(k, path, ask, &a);

	if (rc == 0)
		rc = find(k, to, ask, &b);
	if (rc == 0 && (!a.node || ((flags & RENAME_EXCHANGE) && !b.node)))
		rc = -ENOENT;
	if (rc == 0 && (flags & RENAME_NOREPLACE) && b.node)
		rc = -EEXIST;
	if (rc == 0 && !flags && b.node && S_ISDIR(a.type) != S_ISDIR(b.type))
		rc = S_ISDIR(a.type) ? -ENOTDIR : -EISDIR;
	if (rc < 0)
		return rc;
	if (a.node == b.node)
		return 0;
	ops_rename(&req, a.up, a.name, b.up, b.name, flags);
	if (req.err < 0)
		return req.err;
	e = find_known(k, b.up, b.name, true);
	e->node = a.node;
	e->type = a.type;
	if (flags & RENAME_EXCHANGE) {
		e = find_known(k, a.up, a.name, true);
		e->node = b.node;
		e->type = b.type;
	} else {
		forget_known(k, a.up, a.name);
	}
	return 0;
}

int
kernel_rename(struct kernel *k, const char *path, const char *to, unsigned flags)
{
	int rc;

	AS_USER(k, rc, rc = rename_one(k, path, to, flags, ask););
	return rc;
}

/* Sets what `what` says: FUSE_SET_ATTR_*, or an extended attribute. */
static int
set_one(struct kernel *k, const char *path, bool ask, struct stat *st, int what, const char *name, const char *value)
{
	struct fuse_req req = { .k = k };
	struct spot s;
	int rc = find(k, path, ask, &s);

	if (rc == 0 && !s.node)
		rc = -ENOENT;
	if (rc == 0 && (S_ISLNK(s.type) || ((what & FUSE_SET_ATTR_SIZE) && !S_ISREG(s.type))))
		rc = -EINVAL;
	if (rc < 0)
		return rc;
	if (name)
		ops_setxattr(&req, s.node, name, value, strlen(value), 0);
	else
		ops_setattr(&req, s.node, st, what, NULL);
	return req.err;
}

int
kernel_chmod(struct kernel *k, const char *path, mode_t mode)
{
	struct stat st = { .st_mode = mode };
	int rc;

	AS_USER(k, rc, rc = set_one(k, path, ask, &st, FUSE_SET_ATTR_MODE, NULL, NULL););
	return rc;
}

int
kernel_set_time(struct kernel *k, const char *path, struct timespec t)
{
	struct stat st = { .st_mtim = t };
	int rc;

	AS_USER(k, rc, rc = set_one(k, path, ask, &st, FUSE_SET_ATTR_MTIME, NULL, NULL););
	return rc;
}

int
kernel_truncate(struct kernel *k, const char *path, off_t size)
{
	struct stat st = { .st_size = size };
	int rc;

	AS_USER(k, rc, rc = set_one(k, path, ask, &st, FUSE_SET_ATTR_SIZE, NULL, NULL););
	return rc;
}

int
kernel_setxattr(struct kernel *k, const char *path, const char *name, const char *value)
{
	int rc;

	AS_USER(k, rc, rc = set_one(k, path, ask, NULL, 0, name, value););
	return rc;
}

int
kernel_stat(struct kernel *k, const char *path)
{
	struct spot s;
	int rc;

	AS_USER(k, rc, rc = find(k, path, ask, &s););
	return rc < 0 ? rc : s.node ? 0 : -ENOENT;
}

/* ---- in the background ---- */

static void
do_later(struct kernel *k, struct later *l)
{
	struct fuse_req req = { .k = k };
	struct inode *dir;

	switch (l->what) {
	case RELEASE:
		ops_release(&req, l->node, &l->fi);
		break;
	case ENTRY:
		dir = l->dir == k->fs->inodes.root.key.ino ? &k->fs->inodes.root : inode_find(k->fs, l->dir);
		if (dir)
			forget_known(k, inode_node(k->fs, dir), l->name);
		break;
	case BARRIER:
	case SETTLE:
		l->done(l->arg);
		break;
	}
	free(l->name);
	free(l);
}

static void
do_first(struct kernel *k, struct later **list)
{
	struct later *l = *list;
	struct host *was_at;
	enum doing was;

	enter_user(k, &was_at, &was);
	LL_DELETE(*list, l);
	do_later(k, l);
	sim.at = was_at;
	sim.doing = was;
}

bool
kernel_work(struct kernel *k, unsigned steps)
{
	for (; steps && (k->requests || k->notes); steps--) {
		if (k->requests && (!k->notes || random_chance(50)))
			do_first(k, &k->requests);
		else
			do_first(k, &k->notes);
	}
	return k->requests || k->notes;
}

struct kernel *
kernel_new(struct fs *fs)
{
	struct kernel *k = mem_alloc(sizeof(*k));

	k->fs = fs;
	return k;
}

void
kernel_free(struct kernel *k)
{
	struct known *e, *etmp;
	struct knode *n, *ntmp;

	HASH_ITER(hh, k->known, e, etmp) {
		HASH_DEL(k->known, e);
		free(e);
	}
	HASH_ITER(hh, k->nodes, n, ntmp) {
		HASH_DEL(k->nodes, n);
		free(n);
	}
	free(k);
}
