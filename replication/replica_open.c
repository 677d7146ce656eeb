/*
 * Opening and closing a store.
 */
#include "config.h"

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
#include "replication/open_impl.h"
#include "replication/replica_fork.h"
#include "replication/replica_impl.h"
#include "replication/replica_place.h"
#include "replication/take.h"

#define CACHE_REGS 50000

#define BOOT_ID "/proc/sys/kernel/random/boot_id"	/* changes with each start of the machine */


int
open_say(char *why, size_t size, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, size, fmt, ap);
	va_end(ap);
	return rc;
}

uint64_t
open_random_id(void)
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

static uint64_t
new_token(void *ctx)
{
	(void)ctx;
	return open_random_id();
}

struct state *
open_new_state(struct replica *r, uint64_t self)
{
	struct state_io io = { r, load_reg, node_name, conflicts_in, new_token };

	return state_new(self, &io);
}

/* ---- the files of a store ---- */

static int
open_meta(struct replica *r)
{
	static const char *const names[] = { "staging", "chunks", "trash", "moving" };
	int *const fds[] = { &r->staging_fd, &r->chunks_fd, &r->trash_fd, &r->moving_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++) {
		if (mkdirat(r->meta_fd, names[i], 0700) < 0 && errno != EEXIST)
			return -errno;
		*fds[i] = openat(r->meta_fd, names[i], DIR_FLAGS);
		if (*fds[i] < 0)
			return -errno;
	}
	return 0;
}

struct replica *
open_new_replica(void)
{
	struct replica *r = mem_alloc(sizeof(*r));
	pthread_rwlockattr_t attr;

	r->root_fd = r->meta_fd = r->staging_fd = r->chunks_fd = r->trash_fd = r->moving_fd = r->lock_fd = -1;
	r->journal_fd = r->wake_fd = r->listen_fd = r->net.fd = -1;
	r->last = &r->first;
	r->cache_regs = CACHE_REGS;
	r->as_root = geteuid() == 0;
	/* Whoever changes the view must not wait for ever behind operations. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&r->view_lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	r->queue_lock = (pthread_mutex_t)PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
	return r;
}

void
open_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void
replica_close(struct replica *r)
{
	struct progress *p, *ptmp;
	bool clean;

	if (!r)
		return;
	clean = r->x && r->s && r->opened && replica_commit(r) == 0 && !r->deferred.len;
	if (clean && index_begin(r->x) == 0) {
		index_set_value(r->x, "clean", "1", 1);
		peers_save(r);
		members_save(r);
		if (index_commit(r->x) == 0 && r->journal_fd >= 0)
			(void)!ftruncate(r->journal_fd, 0);
	}
	content_free(r);
	members_free(r);
	vv_fini(&r->committed);
	vv_fini(&r->durable);
	vv_fini(&r->forgetting.stable);
	vv_fini(&r->forgetting.done);
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
	for (size_t i = 0; i < r->again_len; i++)
		free(r->again[i].name);
	free(r->again);
	for (size_t i = 0; i < r->looks_len; i++)
		free(r->looks[i].name);
	free(r->looks);
	free(r->polled.fds);
	free(r->polled.who);
	disk_fini(&r->disk);
	ignore_free(r->ignore);
	ignore_free(r->ignored_before);
	index_close(r->x);
	state_free(r->s);
	settings_fini(&r->settings);
	open_close_fd(&r->journal_fd);
	open_close_fd(&r->wake_fd);
	open_close_fd(&r->staging_fd);
	open_close_fd(&r->chunks_fd);
	open_close_fd(&r->trash_fd);
	open_close_fd(&r->moving_fd);
	open_close_fd(&r->meta_fd);
	open_close_fd(&r->root_fd);
	open_close_fd(&r->lock_fd);
	open_close_fd(&r->quit_conn_fd);	/* who asked us to quit sees that the lock is free */
	pthread_rwlock_destroy(&r->view_lock);
	pthread_mutex_destroy(&r->queue_lock);
	marks_free(r);
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
get_vector(struct index *x, const char *key, struct vv *out)
{
	size_t len;
	void *p;

	if (index_get_value(x, key, &p, &len) < 0)
		return;
	for (size_t i = 0; i < len / sizeof(struct dot); i++)
		vv_raise(out, ((struct dot *)p)[i]);
	free(p);
}

/* A store of a version that kept only one has that. */
static void
load_epochs(struct replica *r)
{
	size_t len;
	void *p;

	r->epochs[r->epochs_len++] = (struct epoch){ r->epoch, 0 };
	if (index_get_value(r->x, "epochs", &p, &len) < 0)
		return;
	if (len <= sizeof(r->epochs)) {
		r->epochs_len = len / sizeof(*r->epochs);
		memcpy(r->epochs, p, r->epochs_len * sizeof(*r->epochs));
	}
	free(p);
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

static int
by_depth(const void *a, const void *b)
{
	unsigned x = dir_depth(((const struct dir_ino *)a)->d), y = dir_depth(((const struct dir_ino *)b)->d);

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

		if (d == r->s->root || !l->e[i].ino)
			continue;
		/* What it moves to may not be made yet: then it is found by its inode. */
		if (!up)
			up = r->disk.root;
		dd = disk_find(&r->disk, l->e[i].ino);
		if (!dd)
			dd = disk_add(&r->disk, l->e[i].ino, up, d->at.name);
		disk_assign(d, dd);
	}
}

/* After all files were copied the directories stand where they stood, as other
 * inodes. */
static void
find_inodes(struct replica *r, struct dir_inos *l)
{
	for (size_t i = 0; i < l->len; i++) {
		char *path = l->e[i].ino ? dir_path(l->e[i].d) : NULL;
		struct stat st;

		if (path && *path)
			l->e[i].ino = fstatat(r->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			    S_ISDIR(st.st_mode) ? st.st_ino : 0;
		state_dir_noted(r->s, l->e[i].d);
		free(path);
	}
}

void
open_read_word(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, out, size - 1) : 0;

	if (fd >= 0)
		close(fd);
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, " \n")] = '\0';
}

static int
load(struct replica *r, char *why, size_t size)
{
	struct dir_inos l = { 0 };
	uint64_t self, counter, hlc, seq;
	char clean[4] = "", boot[64], last_boot[64] = "";
	enum place_verdict verdict;
	size_t n;
	int rc;

	if ((rc = get_text(r->x, "node", r->node, sizeof(r->node))) < 0 ||
	    (rc = get_text(r->x, "set", r->set, sizeof(r->set))) < 0 ||
	    (rc = get_number(r->x, "incarnation", &self)) < 0 || (rc = get_number(r->x, "epoch", &r->epoch)) < 0 ||
	    (rc = get_number(r->x, "counter", &counter)) < 0 || (rc = get_number(r->x, "hlc", &hlc)) < 0 ||
	    (rc = get_number(r->x, "seq", &seq)) < 0)
		return open_say(why, size, -EIO, "%s: the index lacks what it must hold: `sibfs doctor --rebuild %s` "
		    "makes it anew", r->path, r->path);
	get_text(r->x, "clean", clean, sizeof(clean));
	r->clean_start = clean[0] == '1';
	open_read_word(BOOT_ID, boot, sizeof(boot));
	get_text(r->x, "boot", last_boot, sizeof(last_boot));
	r->same_boot = *boot && strcmp(boot, last_boot) == 0;
	r->s = open_new_state(r, self);
	r->next_round = open_random_id() >> 32 << 16;
	r->next_temp = open_random_id() >> 32 << 24;	/* not those of an earlier run */
	r->s->counter = counter;
	r->s->hlc = hlc;
	r->s->seq = seq;
	r->run = open_random_id();
	get_number(r->x, "block", &r->s->block);
	get_vector(r->x, "know", &r->s->know);
	get_vector(r->x, "seen", &r->s->seen);
	r->seen_saved = true;
	get_vector(r->x, "forgot", &r->s->forgot);
	vv_join(&r->committed, &r->s->know);
	vv_join(&r->durable, &r->s->know);
	load_epochs(r);
	verdict = place_check(r);
	r->restored = verdict != PLACE_SAME;
	if ((rc = index_load_members(r->x, members_load, r)) < 0 ||
	    (rc = index_load_peers(r->x, load_progress, r)) < 0 ||
	    (rc = index_load_blocks(r->x, &r->s->lineage)) < 0 ||
	    (rc = index_load_dirs(r->x, r->s, load_dir, &l)) < 0 ||
	    (rc = index_count_files(r->x, load_count, r)) < 0) {
		free(l.e);
		return open_say(why, size, rc, "%s: the index cannot be read: %s", r->path, strerror(-rc));
	}
	free(lineage_settle(&r->s->lineage, &n));
	state_rebuild(r->s);
	r->s->touched_dirs.len = 0;
	for (struct dir *d = r->s->dirs; d; d = d->hh.next)
		d->touched = false;
	if (verdict == PLACE_COPIED || verdict == PLACE_RESTORED)
		find_inodes(r, &l);
	load_disk(r, &l);
	for (struct dir *d = r->s->dirs; d; d = d->hh.next)
		if (d->again)
			state_touch_dir(r->s, d);
	free(l.e);
	if ((rc = place_mark(r)) < 0)
		return open_say(why, size, rc, "%s: it cannot be marked as opened: %s", r->path, strerror(-rc));
	if (r->restored) {
		for (struct disk_dir *dd = r->disk.dirs; dd; dd = dd->hh.next)
			marks_dir(r, dd);
		fork_self(r, place_text(verdict));
	}
	return 0;
}

/* ---- open ---- */

static int
take_lock(struct replica *r, char *why, size_t size)
{
	r->lock_fd = openat(r->meta_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (r->lock_fd < 0)
		return open_say(why, size, -errno, "%s: cannot be locked: %s", r->path, strerror(errno));
	if (flock(r->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return open_say(why, size, -EBUSY, "%s is in use by another sibfs", r->path);
	return 0;
}

int
open_files(struct replica *r, char *why, size_t size)
{
	struct stat st;
	int rc;

	r->root_fd = open(r->path, DIR_FLAGS);
	if (r->root_fd < 0)
		return open_say(why, size, -errno, "%s: %s", r->path, strerror(errno));
	r->meta_fd = openat(r->root_fd, META, DIR_FLAGS | O_NOFOLLOW);
	if (r->meta_fd < 0)
		return open_say(why, size, errno == ENOENT ? -ENOENT : -errno, "%s is not a store: run `sibfs init` first",
		    r->path);
	if (fstat(r->root_fd, &st) < 0)
		return open_say(why, size, -errno, "%s: %s", r->path, strerror(errno));
	r->dev = st.st_dev;
	r->ino = st.st_ino;
	if ((rc = take_lock(r, why, size)) < 0)
		return rc;
	if ((rc = open_meta(r)) < 0)
		return open_say(why, size, rc, "%s: %s", r->path, strerror(-rc));
	r->journal_fd = openat(r->meta_fd, "journal", O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->journal_fd < 0 || r->wake_fd < 0)
		return open_say(why, size, -errno, "%s: %s", r->path, strerror(errno));
	return disk_init(&r->disk, r->root_fd, r->moving_fd);
}

int
replica_open(const char *path, struct replica **out, char *why, size_t size)
{
	struct replica *r = open_new_replica();
	char boot[64];
	int rc;

	r->quit_conn_fd = -1;
	r->path = realpath(path, NULL);
	if (!r->path) {
		rc = open_say(why, size, -errno, "%s: %s", path, strerror(errno));
		goto err;
	}
	if ((rc = open_files(r, why, size)) < 0)
		goto err;
	rc = index_open(r->meta_fd, false, &r->x, why, size);
	if (rc < 0) {
		if (rc == -ENOENT)
			open_say(why, size, rc, "%s has lost its index: `sibfs doctor %s` makes it anew", r->path, r->path);
		else if (rc == -EIO)
			open_say(why, size, rc, "%s: the index is damaged: `sibfs doctor --rebuild %s` makes it anew",
			    r->path, r->path);
		goto err;
	}
	if ((rc = load(r, why, size)) < 0)
		goto err;
	if (settings_load(r->meta_fd, &r->settings, why, size) < 0)
		log_err("%s", why);	/* told again where it is read in earnest */
	ignore_load(r);
	if (!r->clean_start || r->restored)
		replica_recover(r);
	ignore_catch_up(r);
	content_load(r);
	view_update(r);
	if (!r->clean_start)
		replica_recovered(r);
	open_read_word(BOOT_ID, boot, sizeof(boot));
	if (replica_commit(r) < 0 || index_begin(r->x) < 0 || index_set_value(r->x, "clean", "0", 1) < 0 ||
	    index_set_value(r->x, "boot", boot, strlen(boot)) < 0 ||
	    index_commit(r->x) < 0) {
		rc = open_say(why, size, -EIO, "%s: the index cannot be written", r->path);
		goto err;
	}
	(void)!ftruncate(r->journal_fd, 0);
	memset(r->journalled, 0, sizeof(r->journalled));
	r->opened = true;
	*out = r;
	return 0;

err:
	replica_close(r);
	return rc;
}
