/*
 * Collecting what a change of the view did, playing it, and answering the play.
 *
 * The kernel holds the locks of the directories concerned while it asks whether
 * the rename or removal may be: what the worker sees on disk then, under the
 * view lock, still is so when the kernel changes its cache.
 */
#include "config.h"

#include "fs/echo.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <uthash.h>

#include "fs/fs.h"
#include "fs/ops.h"
#include "fs/watchdog.h"
#include "replication/mem.h"

#define HIDDEN		"echo"
#define HIDDEN_PATH	".sibfs/" HIDDEN

/* Names that the last change concerned, by "directory/name". */
struct covered {
	UT_hash_handle hh;
	bool taken;			/* something came to stand there */
	ino_t lost;			/* what stood there and is gone, or 0 */
	char key[];
};

/* Steps of the change that is under way, by inode. */
struct going {
	UT_hash_handle hh;
	struct echo_step *step;
	ino_t ino;
};

struct echo {
	struct fs *fs;
	char *mountpoint;
	dev_t dev;			/* of the mount */
	/* The replica's thread: */
	struct echo_step *first, **last;
	struct going *going;
	struct covered *covered;
	bool over;			/* what is collected is being taken */
	/* The notifier's thread sets them, workers look: */
	_Atomic pid_t tid;
	pthread_mutex_t lock;
	const struct echo_step *now;
	bool played;			/* the kernel asked, and heard that it is true */
};

struct echo *
echo_new(struct fs *fs, const char *mountpoint)
{
	struct echo *e = mem_alloc(sizeof *e);

	e->fs = fs;
	e->mountpoint = mem_str(mountpoint);
	e->dev = watchdog_device(mountpoint);
	e->last = &e->first;
	pthread_mutex_init(&e->lock, NULL);
	return e;
}

/* ---- collecting ---- */

void
echo_step_free(struct echo_step *s)
{
	free(s->from);
	free(s->to);
	free(s);
}

static struct covered *
find_covered(const struct echo *e, ino_t dir, const char *name)
{
	char key[NAME_MAX + 32];
	struct covered *c;

	snprintf(key, sizeof key, "%jx/%s", (uintmax_t)dir, name);
	HASH_FIND_STR(e->covered, key, c);
	return c;
}

static struct covered *
cover(struct echo *e, ino_t dir, const char *name)
{
	struct covered *c = find_covered(e, dir, name);
	size_t size = strlen(name) + 32;

	if (c == NULL) {
		c = mem_alloc(sizeof *c + size);
		snprintf(c->key, size, "%jx/%s", (uintmax_t)dir, name);
		HASH_ADD_STR(e->covered, key, c);
	}
	return c;
}

static void
forget_last(struct echo *e)
{
	struct going *g, *gtmp;
	struct covered *c, *ctmp;
	struct echo_step *s;

	HASH_ITER(hh, e->going, g, gtmp) {
		HASH_DEL(e->going, g);
		free(g);
	}
	HASH_ITER(hh, e->covered, c, ctmp) {
		HASH_DEL(e->covered, c);
		free(c);
	}
	while ((s = e->first) != NULL) {
		e->first = s->next;
		echo_step_free(s);
	}
	e->last = &e->first;
	e->over = false;
}

void
echo_free(struct echo *e)
{
	if (e == NULL)
		return;
	forget_last(e);
	pthread_mutex_destroy(&e->lock);
	free(e->mountpoint);
	free(e);
}

void
echo_moved(struct echo *e, ino_t ino, ino_t dir, const char *name, ino_t dir2, const char *name2)
{
	struct echo_step *s;
	struct going *g;

	if (e->over)
		forget_last(e);
	HASH_FIND(hh, e->going, &ino, sizeof ino, g);
	if (g == NULL) {
		g = mem_alloc(sizeof *g);
		g->ino = ino;
		g->step = s = mem_alloc(sizeof *s);
		s->ino = ino;
		s->from_dir = dir;
		s->from = name != NULL ? mem_str(name) : NULL;
		*e->last = s;
		e->last = &s->next;
		HASH_ADD(hh, e->going, ino, sizeof g->ino, g);
	}
	s = g->step;
	free(s->to);
	s->to_dir = dir2;
	s->to = name2 != NULL ? mem_str(name2) : NULL;
}

static bool
is_nothing(const struct echo_step *s)
{
	if (s->from == NULL || s->to == NULL)
		return s->from == s->to;
	return s->from_dir == s->to_dir && strcmp(s->from, s->to) == 0;
}

static void
end_change(struct echo *e)
{
	if (e->over)
		return;
	e->over = true;
	for (const struct echo_step *s = e->first; s != NULL; s = s->next) {
		if (is_nothing(s))
			continue;
		if (s->from != NULL && s->to == NULL)
			cover(e, s->from_dir, s->from)->lost = s->ino;
		else if (s->from != NULL)
			cover(e, s->from_dir, s->from);
		if (s->to != NULL)
			cover(e, s->to_dir, s->to)->taken = true;
	}
}

struct echo_step *
echo_next(struct echo *e)
{
	struct echo_step *s;
	bool replaced;

	end_change(e);
	while ((s = e->first) != NULL) {
		e->first = s->next;
		if (e->first == NULL)
			e->last = &e->first;
		/* What was replaced goes by what comes in its place. */
		replaced = s->to == NULL && s->from != NULL && find_covered(e, s->from_dir, s->from)->taken;
		if (!is_nothing(s) && !replaced) {
			s->replaced = s->to != NULL ? find_covered(e, s->to_dir, s->to)->lost : 0;
			return s;
		}
		echo_step_free(s);
	}
	return NULL;
}

bool
echo_covers(const struct echo *e, ino_t dir, const char *name)
{
	return e->over && find_covered(e, dir, name) != NULL;
}

/* ---- playing ---- */

static bool
read_path(int fd, char *out, size_t size)
{
	ssize_t n = readlink(fd_path(fd).s, out, size - 1);

	if (n <= 0 || (size_t)n >= size - 1)
		return false;
	out[n] = '\0';
	return true;
}

/* The path of a directory of the store below its root.  False: the kernel does
 * not know it, so nobody watches it. */
static bool
path_below(struct fs *fs, ino_t dir, char *out, size_t size)
{
	char root[PATH_MAX];
	struct inode *i;
	size_t n;
	bool ok = false;
	int fd;

	pthread_mutex_lock(&fs->lock);
	i = inode_find(fs, dir);
	fd = i != NULL && S_ISDIR(i->type) ? inode_fd_get_locked(fs, i) : -1;
	if (fd >= 0) {
		ok = read_path(fd, out, size) && read_path(fs->inodes.root_fd, root, sizeof root);
		inode_fd_put_locked(fs, i);
	}
	pthread_mutex_unlock(&fs->lock);
	n = ok ? strlen(root) : 0;
	if (!ok || strncmp(out, root, n) != 0 || (out[n] != '/' && out[n] != '\0'))
		return false;
	memmove(out, out + n, strlen(out + n) + 1);
	return true;
}

static bool
is_shown(const struct echo *e, int fd, const char *name, ino_t ino)
{
	struct statx st;

	return statx(fd, name, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, STATX_INO, &st) == 0 &&
	    st.stx_ino == ino && makedev(st.stx_dev_major, st.stx_dev_minor) == e->dev;
}

/*
 * A directory of the store as the mount shows it, or -1.  It must be that one,
 * in our mount: something else may be mounted there.
 */
static int
open_shown(struct echo *e, ino_t dir)
{
	char below[PATH_MAX], path[2 * PATH_MAX];
	int fd;

	if (!path_below(e->fs, dir, below, sizeof below))
		return -1;
	snprintf(path, sizeof path, "%s%s", e->mountpoint, below);
	fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && !is_shown(e, fd, "", dir)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static bool
was_played(struct echo *e)
{
	bool played;

	pthread_mutex_lock(&e->lock);
	played = e->played;
	pthread_mutex_unlock(&e->lock);
	return played;
}

/* It comes to a name: from where it was, or out of nothing. */
static bool
play_arrival(struct echo *e, const struct echo_step *s, int from, int to)
{
	const struct timespec touch[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } };
	char path[PATH_MAX + 16];
	int root;

	if (from >= 0 && renameat(from, s->from, to, s->to) == 0 && was_played(e))
		return is_shown(e, to, s->to, s->ino);
	snprintf(path, sizeof path, "%s", e->mountpoint);
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || !is_shown(e, root, "", e->fs->inodes.root.key.ino)) {
		if (root >= 0)
			close(root);
		return false;
	}
	if (renameat(root, HIDDEN_PATH, to, s->to) < 0) {
		close(root);
		return false;
	}
	close(root);
	if (!is_shown(e, to, s->to, s->ino))
		return false;
	/* Someone was faster and looked it up: then a rename does nothing. */
	if (!was_played(e))
		utimensat(to, s->to, touch, AT_SYMLINK_NOFOLLOW);
	/* The old name may be known still. */
	return from < 0;
}

static bool
play_removal(const struct echo_step *s, int from)
{
	return unlinkat(from, s->from, 0) == 0 || (errno == EISDIR && unlinkat(from, s->from, AT_REMOVEDIR) == 0);
}

bool
echo_play(struct echo *e, const struct echo_step *s)
{
	int from = s->from != NULL ? open_shown(e, s->from_dir) : -1;
	int to = s->to != NULL ? open_shown(e, s->to_dir) : -1;
	bool shown = false;

	atomic_store(&e->tid, gettid());
	pthread_mutex_lock(&e->lock);
	e->now = s;
	e->played = false;
	pthread_mutex_unlock(&e->lock);
	if (to >= 0)
		shown = play_arrival(e, s, from, to);
	else if (from >= 0 && s->to == NULL)
		shown = play_removal(s, from);
	pthread_mutex_lock(&e->lock);
	e->now = NULL;
	pthread_mutex_unlock(&e->lock);
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	return shown;
}

/* ---- answering, by workers ---- */

bool
echo_is(const struct fs *fs, fuse_req_t req)
{
	return fs->echo != NULL && fuse_req_ctx(req)->pid == atomic_load(&fs->echo->tid) &&
	    fuse_req_ctx(req)->pid != 0;
}

/* A step and its names, which outlive a player that does not wait for the answer:
 * the kernel sends it on if the connection is aborted. */
struct playing {
	struct echo_step step;
	char from[NAME_MAX + 1], to[NAME_MAX + 1];
};

static char *
copy_name(const char *name, char *out)
{
	if (name == NULL)
		return NULL;
	snprintf(out, NAME_MAX + 1, "%s", name);
	return out;
}

/* What is played, NULL: nothing. */
static const struct echo_step *
played_now(struct echo *e, struct playing *p)
{
	bool any;

	pthread_mutex_lock(&e->lock);
	any = e->now != NULL;
	if (any) {
		p->step = *e->now;
		p->step.from = copy_name(e->now->from, p->from);
		p->step.to = copy_name(e->now->to, p->to);
		p->step.next = NULL;
	}
	pthread_mutex_unlock(&e->lock);
	return any ? &p->step : NULL;
}

static bool
is_place(const struct inode *dir, const char *name, ino_t at_dir, const char *at)
{
	return at != NULL && dir->key.ino == at_dir && strcmp(name, at) == 0;
}

/* The inode that stands at a name on disk; 0: none. */
static ino_t
on_disk(struct fs *fs, ino_t dir, const char *name)
{
	struct inode *i;
	struct stat st = { 0 };
	int fd = -1;

	pthread_mutex_lock(&fs->lock);
	i = inode_find(fs, dir);
	if (i != NULL)
		fd = inode_fd_get_locked(fs, i);
	pthread_mutex_unlock(&fs->lock);
	if (fd < 0)
		return 0;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		st.st_ino = 0;
	inode_fd_put(fs, i);
	return st.st_ino;
}

/* Answers with what stands at dir/name on disk, to be asked for again each time. */
static void
reply_once(fuse_req_t req, ino_t dir, const char *name, ino_t ino)
{
	struct fs *fs = ops_fs(req);
	struct fuse_entry_param e;
	struct inode *i;
	int fd = -1, rc = -ENOENT;

	replica_view_lock(fs->replica);
	pthread_mutex_lock(&fs->lock);
	i = inode_find(fs, dir);	/* the player holds it */
	if (i != NULL)
		fd = inode_fd_get_locked(fs, i);
	pthread_mutex_unlock(&fs->lock);
	if (fd >= 0) {
		rc = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (rc >= 0)
			rc = ops_enter_fd(fs, i, rc, NULL, &e, NULL);
		inode_fd_put(fs, i);
	}
	replica_view_unlock(fs->replica);
	if (rc == 0 && ino != 0 && e.attr.st_ino != ino) {
		inode_forget(fs, inode_of(fs, e.ino), 1);
		rc = -ENOENT;
	}
	if (rc < 0) {
		ops_reply(req, -ENOENT);
		return;
	}
	e.entry_timeout = 0;
	ops_reply_entry(req, &e);
}

/* Answers with what is replaced, so that who watches that very file hears of it;
 * else with nothing. */
static void
reply_replaced(fuse_req_t req, ino_t ino)
{
	struct fs *fs = ops_fs(req);
	struct fuse_entry_param e = { 0 };
	struct inode *i;
	int fd = -1, rc = -ENOENT;

	replica_view_lock(fs->replica);
	pthread_mutex_lock(&fs->lock);
	i = ino != 0 ? inode_find(fs, ino) : NULL;
	if (i != NULL && !S_ISDIR(i->type) && (fd = inode_fd_get_locked(fs, i)) >= 0) {
		rc = S_ISLNK(i->type) ? -ENOENT : open(fd_path(fd).s, O_PATH | O_CLOEXEC);
		inode_fd_put_locked(fs, i);
	}
	pthread_mutex_unlock(&fs->lock);
	if (rc < 0 || ops_enter_fd(fs, i, rc, NULL, &e, NULL) < 0)
		e = (struct fuse_entry_param){ 0 };
	replica_view_unlock(fs->replica);
	e.entry_timeout = 0;
	ops_reply_entry(req, &e);
}

bool
echo_lookup(fuse_req_t req, struct inode *dir, const char *name)
{
	struct fs *fs = ops_fs(req);
	ino_t root = fs->inodes.root.key.ino;
	struct playing p;
	const struct echo_step *s = played_now(fs->echo, &p);

	if (s == NULL)
		return false;
	if (dir == &fs->inodes.root && strcmp(name, ".sibfs") == 0)
		reply_once(req, root, name, 0);
	else if (strcmp(name, HIDDEN) == 0 && dir->key.ino == on_disk(fs, root, ".sibfs") && s->to != NULL)
		reply_once(req, s->to_dir, s->to, s->ino);
	else if (is_place(dir, name, s->to_dir, s->to))
		reply_replaced(req, s->replaced);
	else if (is_place(dir, name, s->from_dir, s->from) && s->to != NULL)
		reply_once(req, s->to_dir, s->to, s->ino);
	else if (is_place(dir, name, s->from_dir, s->from))
		reply_once(req, root, ".sibfs/config", 0);	/* some file: it is about the name */
	else
		return false;
	return true;
}

/* EAGAIN makes nobody try again, as ESTALE would. */
static void
reply_played(fuse_req_t req, bool is_true)
{
	struct echo *e = ops_fs(req)->echo;

	if (is_true) {
		pthread_mutex_lock(&e->lock);
		e->played = true;
		pthread_mutex_unlock(&e->lock);
	}
	ops_reply(req, is_true ? 0 : -EAGAIN);
}

void
echo_rename(fuse_req_t req, struct inode *dir, const char *name, struct inode *newdir, const char *newname)
{
	struct fs *fs = ops_fs(req);
	struct playing p;
	const struct echo_step *s = played_now(fs->echo, &p);
	bool is_true = false;

	if (s != NULL && is_place(newdir, newname, s->to_dir, s->to)) {
		bool hidden = strcmp(name, HIDDEN) == 0 && !is_place(dir, name, s->from_dir, s->from);

		replica_view_lock(fs->replica);
		is_true = on_disk(fs, s->to_dir, s->to) == s->ino && (hidden ||
		    (is_place(dir, name, s->from_dir, s->from) && on_disk(fs, s->from_dir, s->from) == 0));
		replica_view_unlock(fs->replica);
	}
	reply_played(req, is_true);
}

void
echo_remove(fuse_req_t req, struct inode *dir, const char *name)
{
	struct fs *fs = ops_fs(req);
	struct playing p;
	const struct echo_step *s = played_now(fs->echo, &p);
	bool is_true = false;

	if (s != NULL && s->to == NULL && is_place(dir, name, s->from_dir, s->from)) {
		replica_view_lock(fs->replica);
		is_true = on_disk(fs, s->from_dir, s->from) == 0;
		replica_view_unlock(fs->replica);
	}
	reply_played(req, is_true);
}
