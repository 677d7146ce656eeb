/*
 * Opening a store, making one, and what is looked at again after a stop that
 * was not clean.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "replication/display.h"
#include "replication/replica_impl.h"
#include "replication/take.h"

#define META ".sibfs"
#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define FUSE_MAGIC 0x65735546

static int say(char *why, size_t size, int rc, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static int
say(char *why, size_t size, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, size, fmt, ap);
	va_end(ap);
	return rc;
}

static uint64_t
random_id(void)
{
	uint64_t n = 0;

	while (n == 0)
		if (getrandom(&n, sizeof(n), 0) != sizeof(n))
			n = 0;
	return n;
}

/* ---- what the core asks for ---- */

static bool
load_reg(void *ctx, struct reg *reg)
{
	struct replica *r = ctx;
	int rc = index_get_reg(r->x, reg);

	if (rc < 0) {
		/* What is not known must not be written over. */
		log_err("%s: the index cannot be read: %s: nothing is committed any more", reg_name(reg),
		    strerror(-rc));
		r->index_broken = true;
	}
	return rc == 1;
}

static const char *
node_name(void *ctx, uint64_t id)
{
	return replica_member(ctx, id);
}

struct conflict_arg {
	uint64_t dir_num;
	void (*fn)(void *arg, const char *name);
	void *arg;
};

static int
conflict_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct conflict_arg *q = arg;

	(void)seq;
	if (dir_num == q->dir_num)
		q->fn(q->arg, name);
	return 0;
}

static void
conflicts_in(void *ctx, struct dir *d, void (*fn)(void *arg, const char *name), void *arg)
{
	struct conflict_arg q = { d->num, fn, arg };

	index_regs_in_conflict(((struct replica *)ctx)->x, conflict_row, &q);
}

static struct state *
new_state(struct replica *r, uint64_t self)
{
	struct state_io io = { r, load_reg, node_name, conflicts_in };

	return state_new(self, &io);
}

/* ---- the files of a store ---- */

static int
open_meta(struct replica *r)
{
	static const char *const names[] = { "staging", "trash", "moving" };
	int *const fds[] = { &r->staging_fd, &r->trash_fd, &r->moving_fd };

	for (int i = 0; i < 3; i++) {
		if (mkdirat(r->meta_fd, names[i], 0700) < 0 && errno != EEXIST)
			return -errno;
		*fds[i] = openat(r->meta_fd, names[i], DIR_FLAGS);
		if (*fds[i] < 0)
			return -errno;
	}
	return 0;
}

static struct replica *
replica_new(void)
{
	struct replica *r = mem_alloc(sizeof(*r));
	pthread_rwlockattr_t attr;

	r->root_fd = r->meta_fd = r->staging_fd = r->trash_fd = r->moving_fd = r->lock_fd = -1;
	r->journal_fd = r->wake_fd = r->listen_fd = -1;
	r->last = &r->first;
	r->as_root = geteuid() == 0;
	/* Whoever changes the view must not wait for ever behind operations. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&r->view_lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_mutex_init(&r->queue_lock, NULL);
	return r;
}

static void
close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void
replica_close(struct replica *r)
{
	struct member *m, *mtmp;
	struct progress *p, *ptmp;
	struct want *w, *wtmp;
	struct staged *s, *stmp;
	bool clean;

	if (!r)
		return;
	clean = r->x && r->s && r->opened && replica_commit(r) == 0 && !r->deferred.len;
	if (clean && index_begin(r->x) == 0) {
		index_set_value(r->x, "clean", "1", 1);
		peers_save(r);
		if (index_commit(r->x) == 0 && r->journal_fd >= 0)
			(void)!ftruncate(r->journal_fd, 0);
	}
	HASH_ITER(hh, r->wants, w, wtmp) {
		HASH_DEL(r->wants, w);
		for (size_t i = 0; i < w->waiters_len; i++)
			free(w->waiters[i].name);
		free(w->waiters);
		close_fd(&w->fd);
		free(w);
	}
	HASH_ITER(hh, r->staged, s, stmp) {
		HASH_DEL(r->staged, s);
		free(s);
	}
	HASH_ITER(hh, r->members, m, mtmp) {
		HASH_DEL(r->members, m);
		free(m);
	}
	HASH_ITER(hh, r->progress, p, ptmp) {
		HASH_DEL(r->progress, p);
		free(p);
	}
	while (r->peers) {
		struct peer *x = r->peers;

		r->peers = x->next;
		vv_fini(&x->know);
		free(x->name);
		free(x);
	}
	free(r->deferred.r);
	disk_fini(&r->disk);
	index_close(r->x);
	state_free(r->s);
	settings_fini(&r->settings);
	close_fd(&r->journal_fd);
	close_fd(&r->wake_fd);
	close_fd(&r->staging_fd);
	close_fd(&r->trash_fd);
	close_fd(&r->moving_fd);
	close_fd(&r->meta_fd);
	close_fd(&r->root_fd);
	close_fd(&r->lock_fd);
	close_fd(&r->quit_conn_fd);	/* who asked us to quit sees that the lock is free */
	pthread_rwlock_destroy(&r->view_lock);
	pthread_mutex_destroy(&r->queue_lock);
	free(r->mountpoint);
	free(r->path);
	free(r);
}

/* ---- loading ---- */

static int
get_number(struct index *x, const char *key, uint64_t *out)
{
	void *p;
	size_t len;
	int rc = index_get_value(x, key, &p, &len);

	if (rc < 0)
		return rc;
	rc = len == sizeof(*out) ? 0 : -EIO;
	if (rc == 0)
		memcpy(out, p, sizeof(*out));
	free(p);
	return rc;
}

static int
get_text(struct index *x, const char *key, char *out, size_t size)
{
	void *p;
	size_t len;
	int rc = index_get_value(x, key, &p, &len);

	if (rc < 0)
		return rc;
	rc = len < size ? 0 : -EIO;
	if (rc == 0) {
		memcpy(out, p, len);
		out[len] = '\0';
	}
	free(p);
	return rc;
}

static void
load_member(void *arg, uint64_t id, const char *node)
{
	struct replica *r = arg;
	struct member *m = mem_alloc(sizeof(*m));

	m->id = id;
	snprintf(m->node, sizeof(m->node), "%s", node);
	HASH_ADD(hh, r->members, id, sizeof(m->id), m);
}

static void
load_progress(void *arg, const char *node, uint64_t id, uint64_t epoch, uint64_t seq)
{
	struct replica *r = arg;
	struct progress *p = mem_alloc(sizeof(*p));

	p->id = id;
	p->epoch = epoch;
	p->seq = seq;
	snprintf(p->node, sizeof(p->node), "%s", node);
	HASH_ADD(hh, r->progress, id, sizeof(p->id), p);
}

struct dir_ino {
	struct dir *d;
	uint64_t ino;
};

struct dir_inos {
	struct dir_ino *e;
	size_t len;
};

static void
load_dir(void *arg, struct dir *d, uint64_t ino)
{
	struct dir_inos *l = arg;

	l->e = mem_resize(l->e, l->len + 1, sizeof(*l->e));
	l->e[l->len++] = (struct dir_ino){ d, ino };
}

static void
load_count(void *arg, uint64_t dir_num, uint32_t files)
{
	struct dir *d = state_dir_num(((struct replica *)arg)->s, dir_num);

	if (d)
		d->files = files;
}

static unsigned
depth_of(const struct dir *d)
{
	unsigned n = 0;

	for (; d->at.up; d = d->at.up)
		n++;
	return n;
}

static int
by_depth(const void *a, const void *b)
{
	unsigned x = depth_of(((const struct dir_ino *)a)->d), y = depth_of(((const struct dir_ino *)b)->d);

	return (x > y) - (x < y);
}

/* The mirror of the directories on disk, from the index: nothing is scanned. */
static void
load_disk(struct replica *r, struct dir_inos *l)
{
	disk_assign(r->s->root, r->disk.root);
	if (l->len)
		qsort(l->e, l->len, sizeof(*l->e), by_depth);
	for (size_t i = 0; i < l->len; i++) {
		struct dir *d = l->e[i].d;
		struct disk_dir *up = d->at.up ? disk_of(d->at.up) : NULL, *dd;

		if (d == r->s->root || !up || !l->e[i].ino)
			continue;
		dd = disk_find(&r->disk, l->e[i].ino);
		if (!dd)
			dd = disk_add(&r->disk, l->e[i].ino, up, d->at.name);
		disk_assign(d, dd);
	}
}

static int
load(struct replica *r, char *why, size_t size)
{
	struct dir_inos l = { 0 };
	uint64_t self, counter, hlc, seq;
	char clean[4] = "";
	size_t len;
	void *p;
	int rc;

	if ((rc = get_text(r->x, "node", r->node, sizeof(r->node))) < 0 ||
	    (rc = get_text(r->x, "set", r->set, sizeof(r->set))) < 0 ||
	    (rc = get_number(r->x, "incarnation", &self)) < 0 || (rc = get_number(r->x, "epoch", &r->epoch)) < 0 ||
	    (rc = get_number(r->x, "counter", &counter)) < 0 || (rc = get_number(r->x, "hlc", &hlc)) < 0 ||
	    (rc = get_number(r->x, "seq", &seq)) < 0)
		return say(why, size, -EIO, "%s: the index lacks what it must hold", r->path);
	get_text(r->x, "clean", clean, sizeof(clean));
	r->clean_start = clean[0] == '1';
	r->s = new_state(r, self);
	r->next_round = random_id() >> 32 << 16;
	r->s->counter = counter;
	r->s->hlc = hlc;
	r->s->seq = seq;
	if (index_get_value(r->x, "know", &p, &len) == 0) {
		for (size_t i = 0; i < len / sizeof(struct dot); i++)
			vv_raise(&r->s->know, ((struct dot *)p)[i]);
		free(p);
	}
	if ((rc = index_load_members(r->x, load_member, r)) < 0 ||
	    (rc = index_load_peers(r->x, load_progress, r)) < 0 ||
	    (rc = index_load_dirs(r->x, r->s, load_dir, &l)) < 0 ||
	    (rc = index_count_files(r->x, load_count, r)) < 0) {
		free(l.e);
		return say(why, size, rc, "%s: the index cannot be read: %s", r->path, strerror(-rc));
	}
	state_rebuild(r->s);
	r->s->touched_dirs.len = 0;
	for (struct dir *d = r->s->dirs; d; d = d->hh.next)
		d->touched = false;
	load_disk(r, &l);
	free(l.e);
	return 0;
}

/* ---- after a stop that was not clean ---- */

/* Names that users touched since the last clean stop. */
struct journal {
	char *text;
	size_t len;
};

static void
read_journal(struct replica *r, struct journal *j)
{
	struct stat st;
	ssize_t n;

	*j = (struct journal){ 0 };
	if (r->journal_fd < 0 || fstat(r->journal_fd, &st) < 0 || st.st_size == 0 || st.st_size > (256 << 20))
		return;
	j->text = mem_alloc((size_t)st.st_size + 1);
	n = pread(r->journal_fd, j->text, (size_t)st.st_size, 0);
	j->len = n > 0 ? (size_t)n : 0;
}

static bool
in_journal(const struct journal *j, ino_t dir, const char *name)
{
	char line[300];
	int n = snprintf(line, sizeof(line), "%llx %s", (unsigned long long)dir, name);

	if (n < 0 || (size_t)n >= sizeof(line))
		return true;
	for (const char *p = j->text; p && p < j->text + j->len; p += strlen(p) + 1)
		if (strcmp(p, line) == 0)
			return true;
	return false;
}

/* What was lifted when the daemon died stands in moving/: back it goes. */
struct moving {
	uint64_t ino;
	char name[64];
};

struct recovery {
	struct replica *r;
	struct journal j;
	struct moving *moving;
	size_t moving_len;
	bool again;
};

static void
list_moving(struct recovery *q)
{
	int fd = openat(q->r->moving_fd, ".", DIR_FLAGS);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;
	struct stat st;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((de = readdir(dir))) {
		if (de->d_name[0] == '.' || strlen(de->d_name) >= sizeof(q->moving->name) ||
		    fstatat(q->r->moving_fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		q->moving = mem_resize(q->moving, q->moving_len + 1, sizeof(*q->moving));
		q->moving[q->moving_len].ino = st.st_ino;
		strcpy(q->moving[q->moving_len++].name, de->d_name);
	}
	closedir(dir);
}

static const struct moving *
find_moving(const struct recovery *q, uint64_t ino)
{
	for (size_t i = 0; i < q->moving_len; i++)
		if (q->moving[i].ino == ino)
			return &q->moving[i];
	return NULL;
}

static void
check_dirs(struct recovery *q)
{
	struct disk_dir *dd, *tmp;

	HASH_ITER(hh, q->r->disk.dirs, dd, tmp) {
		const struct moving *m = find_moving(q, dd->ino);

		if (!m)
			continue;
		dd->lifted = true;
		for (size_t i = 0; i < dd->ids_len; i++)
			state_touch_dir(q->r->s, dd->ids[i]);
	}
}

/* A file that the index notes is not where it was. */
static int
check_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct recovery *q = arg;
	struct dir *d = state_dir_num(q->r->s, dir_num);
	struct reg *reg = d ? state_reg(q->r->s, d, name, false) : NULL;
	struct disk_dir *dd = d ? disk_of(d) : NULL;
	int fd = dd ? disk_fd(&q->r->disk, dd) : -1;
	struct stat st;

	(void)seq;
	if (!reg || fd < 0)
		return 0;
	for (uint32_t i = 0; i < reg->files_len; i++) {
		struct reg_file *f = &reg->files[i];
		const struct moving *m;

		if (fstatat(fd, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		m = find_moving(q, f->stamp.ino);
		if (m && renameat2(q->r->moving_fd, m->name, fd, f->name, RENAME_NOREPLACE) == 0) {
			state_touch_reg(q->r->s, reg);
			continue;
		}
		if (!reg->pending && (in_journal(&q->j, dd->ino, f->name) || !state_stands(d)))
			q->r->s->now = q->r->s->hlc;
		if (!reg->pending) {
			/* Removed by a user, as far as can be known. */
			char *gone = mem_str(f->name);
			struct event e = { .op = REPLICA_UNLINK, .dir = dd->ino, .name = gone };
			struct timespec now;

			clock_gettime(CLOCK_REALTIME, &now);
			e.time_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
			local_event(q->r, &e);
			free(gone);
			q->again = true;
			return 0;
		}
		reg_file_forget(reg, f->name);
		state_reg_noted(q->r->s, reg);
		i--;
	}
	return 0;
}

static void
check_missing_dirs(struct recovery *q)
{
	struct disk_dir *dd, *tmp;

	HASH_ITER(hh, q->r->disk.dirs, dd, tmp) {
		struct stat st;
		int fd;

		if (!dd->up || dd->lifted)
			continue;
		fd = disk_fd(&q->r->disk, dd->up);
		if (fd >= 0 && fstatat(fd, dd->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == dd->ino)
			continue;
		if (in_journal(&q->j, dd->up->ino, dd->name)) {
			struct event e = { .op = REPLICA_RMDIR, .dir = dd->up->ino, .name = mem_str(dd->name) };

			e.time_ns = (int64_t)q->r->s->hlc;
			local_event(q->r, &e);
			free(e.name);
		} else {
			/* Not made yet when the daemon died. */
			while (dd->ids_len) {
				struct dir *d = dd->ids[0];

				disk_assign(d, NULL);
				state_touch_dir(q->r->s, d);
			}
		}
	}
}

static void
recover(struct replica *r)
{
	struct recovery q = { .r = r };
	struct timespec now;

	log_info("the last stop was not clean: looking at what changed since");
	clock_gettime(CLOCK_REALTIME, &now);
	r->s->now = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	read_journal(r, &q.j);
	list_moving(&q);
	check_dirs(&q);
	local_reconcile(r, r->disk.root, NULL, NULL);
	index_regs_since(r->x, 0, SIZE_MAX, check_row, &q);
	check_missing_dirs(&q);
	free(q.j.text);
	free(q.moving);
	replica_commit(r);
}

/* ---- open ---- */

static int
take_lock(struct replica *r, char *why, size_t size)
{
	r->lock_fd = openat(r->meta_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (r->lock_fd < 0)
		return say(why, size, -errno, "%s: cannot be locked: %s", r->path, strerror(errno));
	if (flock(r->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return say(why, size, -EBUSY, "%s is in use by another sibfs", r->path);
	return 0;
}

static int
open_store(struct replica *r, char *why, size_t size)
{
	struct stat st;
	int rc;

	r->root_fd = open(r->path, DIR_FLAGS);
	if (r->root_fd < 0)
		return say(why, size, -errno, "%s: %s", r->path, strerror(errno));
	r->meta_fd = openat(r->root_fd, META, DIR_FLAGS | O_NOFOLLOW);
	if (r->meta_fd < 0)
		return say(why, size, errno == ENOENT ? -ENOENT : -errno, "%s is not a store: run `sibfs init` first",
		    r->path);
	if (fstat(r->root_fd, &st) < 0)
		return say(why, size, -errno, "%s: %s", r->path, strerror(errno));
	r->dev = st.st_dev;
	r->ino = st.st_ino;
	if ((rc = take_lock(r, why, size)) < 0)
		return rc;
	if ((rc = open_meta(r)) < 0)
		return say(why, size, rc, "%s: %s", r->path, strerror(-rc));
	r->journal_fd = openat(r->meta_fd, "journal", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->journal_fd < 0 || r->wake_fd < 0)
		return say(why, size, -errno, "%s: %s", r->path, strerror(errno));
	return disk_init(&r->disk, r->root_fd, r->moving_fd);
}

int
replica_open(const char *path, struct replica **out, char *why, size_t size)
{
	struct replica *r = replica_new();
	int rc;

	r->quit_conn_fd = -1;
	r->path = realpath(path, NULL);
	if (!r->path) {
		rc = say(why, size, -errno, "%s: %s", path, strerror(errno));
		goto err;
	}
	if ((rc = open_store(r, why, size)) < 0)
		goto err;
	rc = index_open(r->meta_fd, false, &r->x, why, size);
	if (rc < 0) {
		if (rc == -ENOENT)
			say(why, size, rc, "%s: the index is missing", r->path);
		goto err;
	}
	if ((rc = load(r, why, size)) < 0)
		goto err;
	if (!r->clean_start)
		recover(r);
	content_load(r);
	view_update(r);
	if (replica_commit(r) < 0 || index_begin(r->x) < 0 || index_set_value(r->x, "clean", "0", 1) < 0 ||
	    index_commit(r->x) < 0) {
		rc = say(why, size, -EIO, "%s: the index cannot be written", r->path);
		goto err;
	}
	(void)!ftruncate(r->journal_fd, 0);
	r->opened = true;
	*out = r;
	return 0;

err:
	replica_close(r);
	return rc;
}

/* ---- init ---- */

static bool
is_inside_store(const char *path)
{
	char *copy = mem_str(path), *slash;
	bool found = false;

	while ((slash = strrchr(copy, '/')) && !found) {
		char *probe;

		*slash = '\0';
		probe = mem_printf("%s/" META "/index.db", copy);
		found = access(probe, F_OK) == 0;
		free(probe);
	}
	free(copy);
	return found;
}

static int
check_target(struct replica *r, char *why, size_t size)
{
	struct statfs fs;
	struct stat st;
	int rc;

	r->root_fd = open(r->path, DIR_FLAGS);
	if (r->root_fd < 0)
		return say(why, size, -errno, errno == ENOTDIR ? "%s is not a directory" : "%s cannot be opened",
		    r->path);
	if (fstatat(r->root_fd, META "/index.db", &st, 0) == 0)
		return say(why, size, -EEXIST, "%s is a store already", r->path);
	if (fstatfs(r->root_fd, &fs) == 0 && fs.f_type == FUSE_MAGIC)
		return say(why, size, -EINVAL, "%s is on a FUSE file system: use a directory on a disk", r->path);
	if (is_inside_store(r->path))
		return say(why, size, -EINVAL, "%s lies inside another store", r->path);
	if (faccessat(r->root_fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return say(why, size, -EACCES, "%s is not writable", r->path);
	if (fsetxattr(r->root_fd, "user.sibfs.probe", "1", 1, 0) < 0) {
		rc = -errno;
		if (rc == -EROFS)
			return say(why, size, rc, "%s is not writable: read-only file system", r->path);
		return say(why, size, rc, "%s: this file system has no user extended attributes", r->path);
	}
	fremovexattr(r->root_fd, "user.sibfs.probe");
	return 0;
}

static int
write_identity(struct replica *r, const char *node, const char *set)
{
	char random_set[33];
	uint64_t self = random_id(), zero = 0, token[2] = { random_id(), random_id() };

	if (!set) {
		snprintf(random_set, sizeof(random_set), "%016" PRIx64 "%016" PRIx64, token[0], token[1]);
		set = random_set;
	}
	r->epoch = random_id();
	r->s = new_state(r, self);
	snprintf(r->node, sizeof(r->node), "%s", node);
	snprintf(r->set, sizeof(r->set), "%s", set);
	if (replica_begin(r) < 0)
		return -EIO;
	if (index_set_value(r->x, "node", node, strlen(node)) < 0 ||
	    index_set_value(r->x, "set", set, strlen(set)) < 0 ||
	    index_set_value(r->x, "incarnation", &self, sizeof(self)) < 0 ||
	    index_set_value(r->x, "epoch", &r->epoch, sizeof(r->epoch)) < 0 ||
	    index_set_value(r->x, "counter", &zero, sizeof(zero)) < 0 ||
	    index_set_value(r->x, "hlc", &zero, sizeof(zero)) < 0 ||
	    index_set_value(r->x, "seq", &zero, sizeof(zero)) < 0 || index_set_value(r->x, "know", "", 0) < 0 ||
	    index_set_value(r->x, "clean", "0", 1) < 0)
		return -EIO;
	replica_add_member(r, self, node);
	return replica_commit(r);
}

static void
remove_meta(int root_fd)
{
	static const char *const names[] = { META "/staging", META "/trash", META "/moving", META "/index.db",
		META "/index.db-wal", META "/index.db-shm", META "/index.db-journal", META "/lock", META "/journal",
		META "/config" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (unlinkat(root_fd, names[i], 0) < 0)
			unlinkat(root_fd, names[i], AT_REMOVEDIR);
	unlinkat(root_fd, META, AT_REMOVEDIR);
}

int
replica_init(const char *path, const char *node, const char *set,
    void (*progress)(void *arg, uint64_t files, uint64_t bytes), void *arg, char *why, size_t size)
{
	struct replica *r;
	struct timespec now;
	bool made = mkdir(path, 0777) == 0;
	int rc;

	if (!made && errno != EEXIST)
		return say(why, size, -errno, "%s: cannot be made: %s", path, strerror(errno));
	r = replica_new();
	r->quit_conn_fd = -1;
	r->path = realpath(path, NULL);
	if (!r->path) {
		rc = say(why, size, -errno, "%s: %s", path, strerror(errno));
		goto out;
	}
	if ((rc = check_target(r, why, size)) < 0)
		goto out;
	close_fd(&r->root_fd);
	{
		char *meta = mem_printf("%s/" META, r->path);

		rc = mkdir(meta, 0700) < 0 && errno != EEXIST ? -errno : 0;
		free(meta);
	}
	if (rc < 0) {
		say(why, size, rc, "%s: %s", r->path, strerror(-rc));
		goto out;
	}
	if ((rc = open_store(r, why, size)) < 0)
		goto out;
	if ((rc = index_open(r->meta_fd, true, &r->x, why, size)) < 0)
		goto undo;
	if ((rc = write_identity(r, node, set)) < 0) {
		say(why, size, rc, "%s: the index cannot be written: %s", r->path, strerror(-rc));
		goto undo;
	}
	settings_set(r->meta_fd, "replica", "node", r->node);
	settings_set(r->meta_fd, "replica", "set", r->set);
	disk_assign(r->s->root, r->disk.root);
	clock_gettime(CLOCK_REALTIME, &now);
	r->s->now = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	local_reconcile(r, r->disk.root, progress, arg);
	disk_mark_dir(r, r->disk.root);
	if ((rc = replica_commit(r)) < 0) {
		say(why, size, rc, "%s: the index cannot be written: %s", r->path, strerror(-rc));
		goto undo;
	}
	r->opened = true;
	replica_close(r);
	return 0;

undo:
	index_close(r->x);
	r->x = NULL;
	remove_meta(r->root_fd);
out:
	replica_close(r);
	if (made)
		rmdir(path);
	return rc;
}
