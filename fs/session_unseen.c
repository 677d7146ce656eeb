/*
 * Files that are written unseen, as what is passed through does not come here.
 * They are looked at while they are open for writing, and after that for as
 * long as they are mapped: a read lease is not to be had while they are.
 */
#include "config.h"

#include "fs/session_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <utlist.h>

#include "fs/fs.h"
#include "fs/notify.h"
#include "replication/clock.h"
#include "replication/mem.h"

enum {
	FRESH_MS = 20,		/* no clock of inodes is coarser */
	CLOSING_MS = 5,		/* close(2) of a file that is not mapped is done by then */
};

static bool
same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool
is_recent(struct timespec t)
{
	struct timespec now;
	int64_t ms;

	clock_gettime(CLOCK_REALTIME, &now);
	ms = (now.tv_sec - t.tv_sec) * (int64_t)1000 + (now.tv_nsec - t.tv_nsec) / 1000000;
	return ms > -FRESH_MS && ms < FRESH_MS;
}

/* (locked) */
static int
look(struct fs *fs, struct inode *i, struct sight *out)
{
	int fd = inode_fd_get_locked(fs, i), rc;
	struct stat st;

	if (fd < 0)
		return fd;
	rc = fstatat(fd, "", &st, AT_EMPTY_PATH) < 0 ? -errno : 0;
	inode_fd_put_locked(fs, i);
	if (rc < 0)
		return rc;
	*out = (struct sight){
		.size = st.st_size,
		.mtime = st.st_mtim,
		.ctime = st.st_ctim,
		.fresh = !fs->sessions.fine_times && is_recent(st.st_mtim),
	};
	return 0;
}

void
session_look_again(struct fs *fs, struct inode *i)
{
	struct session *s = i->session;
	struct sight now;
	bool written, touched;

	if (s == NULL || !s->watched || look(fs, i, &now) < 0)
		return;
	written = now.size != s->seen.size || !same_time(now.mtime, s->seen.mtime);
	/* A time set back by hand hides a write, but not from ctime. */
	touched = !same_time(now.ctime, s->seen.ctime) || s->seen.fresh;
	s->seen = now;
	if (!written && !touched)
		return;
	atomic_store(&s->written_ms, clock_coarse_ms());
	session_mark_dirty(fs, i, !written);
	/* Stores to a mapping change times without the kernel's cache. */
	if (written && i->cached) {
		i->cached = false;
		notify_attr(fs->notify, i);
	}
}

void
session_watch(struct fs *fs, struct inode *i)
{
	struct session *s;

	pthread_mutex_lock(&fs->lock);
	s = i->session;
	if (!s->watched && inode_in_tree(fs, i) && look(fs, i, &s->seen) == 0) {
		s->watched = true;
		DL_APPEND2(fs->sessions.watched, s, watched_prev, watched_next);
		session_wake_timer(fs);
	}
	pthread_mutex_unlock(&fs->lock);
}

void
session_stop_watching(struct fs *fs, struct inode *i)
{
	struct session *s = i->session;

	if (s != NULL && s->watched) {
		s->watched = false;
		DL_DELETE2(fs->sessions.watched, s, watched_prev, watched_next);
	}
}

/* Is a file that we are told is closed still written by someone? */
static bool
is_written(struct fs *fs, struct inode *i)
{
	int fd = inode_fd_get(fs, i), rc;

	if (fd < 0)
		return false;
	rc = backing_has_writers(fd);
	inode_fd_put(fs, i);
	return rc == 1;
}

/* The one who leaves counts as a writer: the session stays.  We may be told of the
 * close before it is done: the timer finds out soon which it is. */
bool
session_leaves_mapping(struct fs *fs, struct inode *i)
{
	struct session *s = i->session;
	uint32_t opens;
	bool yes;

	do {
		if (!s->watched || s->mapped || atomic_load(&i->writers) > 1)
			return false;
		opens = s->opens;
		pthread_mutex_unlock(&fs->lock);
		yes = is_written(fs, i);
		pthread_mutex_lock(&fs->lock);
	} while (opens != s->opens);	/* who came meanwhile may have mapped it */
	if (!yes || !s->watched || s->mapped)
		return false;
	s->mapped = s->closing = true;
	s->closed_ms = clock_coarse_ms();
	fs->sessions.mapped_len++;
	fs->sessions.closing_len++;
	inode_hold(i);
	pthread_cond_signal(&fs->sessions.changed);
	return true;
}

/* (locked) Whether it is mapped or was being closed is known. */
static void
closing_over(struct fs *fs, struct session *s)
{
	if (s->closing) {
		s->closing = false;
		fs->sessions.closing_len--;
	}
}

/*
 * (view, locked) Is it mapped still?  The lock is given up meanwhile, and someone
 * else may ask, too, and be done first.  Stores into pages that were dirty already
 * move no time: once it is not mapped any more, contents are compared.
 */
static void
look_mapped(struct fs *fs, struct inode *i, int64_t now)
{
	struct session *s;
	bool still;

	pthread_mutex_unlock(&fs->lock);
	still = is_written(fs, i);
	pthread_mutex_lock(&fs->lock);
	s = i->session;
	if (s == NULL || !s->mapped)
		return;
	if (still) {
		if (s->closing && now - s->closed_ms >= CLOSING_MS) {
			closing_over(fs, s);
			session_look_again(fs, i);
			session_seal_locked(fs, i);
		}
		return;
	}
	closing_over(fs, s);
	s->mapped = false;
	fs->sessions.mapped_len--;
	session_look_again(fs, i);
	session_mark_dirty(fs, i, true);
	session_writer_gone(fs, i, session_seal_locked(fs, i));
	inode_drop(fs, i);
}

/* (view, locked) The list may change while one is looked at: held inodes stay. */
void
session_look_all_mapped(struct fs *fs, int64_t now)
{
	struct inode **all;
	struct session *s;
	size_t n = 0;

	if (fs->sessions.mapped_len == 0)
		return;
	all = mem_alloc(fs->sessions.mapped_len * sizeof *all);
	DL_FOREACH2(fs->sessions.watched, s, watched_next)
		if (s->mapped) {
			inode_hold(s->inode);
			all[n++] = s->inode;
		}
	for (size_t k = 0; k < n; k++) {
		look_mapped(fs, all[k], now);
		inode_drop(fs, all[k]);
	}
	free(all);
}

void
session_look_mapped(struct fs *fs)
{
	replica_view_lock(fs->replica);
	pthread_mutex_lock(&fs->lock);
	session_look_all_mapped(fs, INT64_MAX);
	pthread_mutex_unlock(&fs->lock);
	replica_view_unlock(fs->replica);
}

void
session_look_at_watched(struct fs *fs, int64_t now)
{
	struct session *s;

	if (now - fs->sessions.looked_ms < SESSION_WATCH_MS)
		return;
	fs->sessions.looked_ms = now;
	DL_FOREACH2(fs->sessions.watched, s, watched_next)
		session_look_again(fs, s->inode);
}

bool
session_has_fine_times(int root_fd)
{
	int fd = openat(root_fd, ".sibfs", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct timespec last = { 0 };
	struct stat st;
	bool fine = fd >= 0;

	for (int k = 0; k < 5 && fine; k++) {
		fine = pwrite(fd, "x", 1, 0) == 1 && fstat(fd, &st) == 0 && !same_time(st.st_mtim, last);
		last = st.st_mtim;
	}
	if (fd >= 0)
		close(fd);
	return fine;
}
