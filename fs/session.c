/*
 * Write sessions: when it is told what was written.  Those of dirty inodes stand
 * in one list, those that are watched in another, and names may wait; one timer
 * thread looks at them while there are any.
 */
#include "config.h"

#include "fs/session_impl.h"

#include <assert.h>
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
#include "replication/mark.h"
#include "replication/mem.h"

enum {
	QUIET_MS = 2000,	/* a file that stays open is told after this time without writes */
	TICK_MS = 250,		/* how often the timer looks, while there is something */
	CLOSING_TICK_MS = 1,	/* the same, while files are being closed */
};

void
session_tell(struct fs *fs, struct replica_event e)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	e.time_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
	replica_tell(fs->replica, &e);
}

void
session_wake_timer(struct fs *fs)
{
	if (fs->sessions.idle) {
		fs->sessions.idle = false;
		pthread_cond_signal(&fs->sessions.changed);
	}
}

/* (locked) */
static struct session *
session_of(struct inode *i)
{
	if (i->session == NULL) {
		i->session = mem_alloc(sizeof *i->session);
		i->session->inode = i;
	}
	return i->session;
}

/* (locked) */
static void
end_if_over(struct inode *i)
{
	struct session *s = i->session;

	if (s == NULL || s->watched || atomic_load(&i->dirty) || atomic_load(&i->writers) > 0)
		return;
	i->session = NULL;
	free(s);
}

void
session_mark_dirty(struct fs *fs, struct inode *i, bool unsure)
{
	struct session *s = session_of(i);
	bool before = atomic_exchange(&i->dirty, true);

	s->unsure = unsure && (!before || s->unsure);
	if (before)
		return;
	DL_APPEND2(fs->sessions.dirty, s, dirty_prev, dirty_next);
	session_wake_timer(fs);
}

/* (locked) Returns whether it was dirty. */
static bool
mark_clean(struct fs *fs, struct inode *i)
{
	if (!atomic_exchange(&i->dirty, false))
		return false;
	DL_DELETE2(fs->sessions.dirty, i->session, dirty_prev, dirty_next);
	return true;
}

void
session_inode_dropped(struct fs *fs, struct inode *i)
{
	session_seal_locked(fs, i);
	session_stop_watching(fs, i);
	free(i->session);
	i->session = NULL;
}

bool
session_seal_locked(struct fs *fs, struct inode *i)
{
	struct name *name, *tmp;
	bool told = false;

	if (!mark_clean(fs, i))
		return false;
	DL_FOREACH_SAFE(i->names.first, name, tmp)
		told |= session_name_written(fs, name, i->session->unsure);
	end_if_over(i);
	return told;
}

void
session_seal(struct fs *fs, struct inode *i)
{
	pthread_mutex_lock(&fs->lock);
	session_look_again(fs, i);
	session_seal_locked(fs, i);
	pthread_mutex_unlock(&fs->lock);
}

void
session_wrote(struct fs *fs, struct inode *i)
{
	if (!inode_in_tree(fs, i))
		return;
	assert(atomic_load(&i->writers) > 0);
	atomic_store(&i->looked, true);
	atomic_store(&i->session->written_ms, clock_coarse_ms());
	/* After the write: if this still sees it dirty, it is told later than
	 * the write was done, and so with it. */
	if (atomic_load(&i->dirty) && !atomic_load(&i->session->unsure))
		return;
	pthread_mutex_lock(&fs->lock);
	session_mark_dirty(fs, i, false);
	pthread_mutex_unlock(&fs->lock);
}

/* (locked) Does the inode still stand under this name? */
static bool
stands(struct fs *fs, struct inode *i, const struct name *name)
{
	struct inode *dir = inode_find(fs, name->dir);
	struct stat st;
	int fd;
	bool yes;

	if (dir == NULL || (fd = inode_fd_get_locked(fs, dir)) < 0)
		return false;
	yes = fstatat(fd, name->text, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_dev == i->key.dev && st.st_ino == i->key.ino;
	inode_fd_put_locked(fs, dir);
	return yes;
}

/* (locked) Has a remote change taken all names away?  One that is being written is
 * never replaced; another name of the same inode may have stayed. */
static bool
is_nameless(struct fs *fs, struct inode *i)
{
	struct name *name;

	if (!i->replaced || atomic_load(&i->writers) > 0)
		return false;
	DL_FOREACH(i->names.first, name)
		if (stands(fs, i, name))
			return false;
	return true;
}

void
session_look(struct fs *fs, struct inode *i)
{
	struct name *name;
	bool same;
	int fd;

	if (i == &fs->inodes.root || !inode_replicated(fs, i) || atomic_load(&i->writers) > 0 ||
	    atomic_load(&i->dirty) || atomic_exchange(&i->looked, true))
		return;
	fd = inode_fd_get(fs, i);
	if (fd < 0)
		return;
	same = mark_holds(fd);
	inode_fd_put(fs, i);
	if (same)
		return;
	replica_view_lock(fs->replica);
	pthread_mutex_lock(&fs->lock);
	DL_FOREACH(i->names.first, name)
		session_tell(fs, (struct replica_event){
			.op = REPLICA_LOOK,
			.ino = i->key.ino,
			.dir = name->dir,
			.name = name->text,
			.is_dir = S_ISDIR(i->type),
		});
	pthread_mutex_unlock(&fs->lock);
	replica_view_unlock(fs->replica);
}

bool
session_is_nameless(struct fs *fs, struct inode *i)
{
	bool yes;

	if (!i->replaced)
		return false;
	pthread_mutex_lock(&fs->lock);
	yes = is_nameless(fs, i);
	pthread_mutex_unlock(&fs->lock);
	return yes;
}

int
session_may_change(struct fs *fs, struct inode *i)
{
	int rc;

	pthread_mutex_lock(&fs->lock);
	/* Once the kernel knows, only who has it open can mean it. */
	rc = is_nameless(fs, i) && (i->handles == 0 || !notify_idle(fs->notify)) ? -ESTALE : 0;
	pthread_mutex_unlock(&fs->lock);
	return rc;
}

/* (locked) Whatever ends us from here on, they are looked at. */
static void
touch_names(struct fs *fs, struct inode *i)
{
	struct name *name;

	DL_FOREACH(i->names.first, name)
		replica_touch(fs->replica, name->dir, name->text);
}

/* (locked) Returns how many there were before. */
static unsigned
count_writer(struct inode *i)
{
	session_of(i)->opens++;
	return atomic_fetch_add(&i->writers, 1);
}

int
session_open(struct fs *fs, struct inode *i)
{
	int rc;

	pthread_mutex_lock(&fs->lock);
	rc = is_nameless(fs, i) ? -ESTALE : 0;
	if (rc == 0 && count_writer(i) == 0)
		touch_names(fs, i);
	pthread_mutex_unlock(&fs->lock);
	return rc;
}

void
session_made(struct inode *i)
{
	count_writer(i);
}

void
session_touch(struct fs *fs, struct inode *i)
{
	pthread_mutex_lock(&fs->lock);
	touch_names(fs, i);
	pthread_mutex_unlock(&fs->lock);
}

bool
session_writer_gone(struct fs *fs, struct inode *i, bool told)
{
	if (atomic_fetch_sub(&i->writers, 1) > 1)
		return told;
	told |= session_seal_locked(fs, i);
	session_stop_watching(fs, i);
	end_if_over(i);
	if (!told && inode_in_tree(fs, i))
		session_tell(fs, (struct replica_event){ .op = REPLICA_IDLE, .ino = i->key.ino });
	return told;
}

void
session_close(struct fs *fs, struct inode *i, bool wrote)
{
	bool told = false;

	pthread_mutex_lock(&fs->lock);
	if (!session_leaves_mapping(fs, i)) {
		session_look_again(fs, i);
		if (wrote || i->session->watched || atomic_load(&i->writers) == 1)
			told = session_seal_locked(fs, i);
		session_writer_gone(fs, i, told);
	}
	pthread_mutex_unlock(&fs->lock);
}

void
session_attr(struct fs *fs, struct inode *i, unsigned which, const int64_t mtime[2])
{
	struct replica_event e = { .op = REPLICA_ATTR, .ino = i->key.ino, .is_dir = S_ISDIR(i->type),
		.attrs = which };
	struct name *name;

	if (mtime != NULL) {
		e.mtime_from = mtime[0];
		e.mtime_to = mtime[1];
	}

	if (i == &fs->inodes.root) {
		session_tell(fs, e);
		return;
	}
	if (!inode_replicated(fs, i))
		return;
	DL_FOREACH(i->names.first, name) {
		session_name_settle(fs, name);
		e.dir = name->dir;
		e.name = name->text;
		session_tell(fs, e);
	}
}

void
sessions_tell_due(struct fs *fs, int64_t now)
{
	struct session *s, *tmp;

	replica_view_lock(fs->replica);
	pthread_mutex_lock(&fs->lock);
	session_look_at_watched(fs, now);
	session_look_all_mapped(fs, now);
	DL_FOREACH_SAFE2(fs->sessions.dirty, s, tmp, dirty_next)
		if (now - atomic_load(&s->written_ms) >= QUIET_MS)
			session_seal_locked(fs, s->inode);
	session_names_due(fs, now);
	pthread_mutex_unlock(&fs->lock);
	replica_view_unlock(fs->replica);
}

/* Returns whether it was woken before. */
static bool
pause_ms(struct fs *fs, int ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += (long)ms * 1000000;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return pthread_cond_clockwait(&fs->sessions.changed, &fs->lock, CLOCK_MONOTONIC, &t) == 0;
}

/* Takes turns with fs.lock, as the view lock comes before it. */
static void *
timer_run(void *arg)
{
	struct fs *fs = arg;

	pthread_setname_np(pthread_self(), "sibfs-timer");
	pthread_mutex_lock(&fs->lock);
	while (!fs->sessions.ending) {
		bool due = fs->sessions.dirty != NULL || fs->sessions.waiting != NULL || fs->sessions.mapped_len > 0;

		if (!due && fs->sessions.watched == NULL) {
			fs->sessions.idle = true;
			pthread_cond_wait(&fs->sessions.changed, &fs->lock);
			continue;
		}
		fs->sessions.idle = !due;
		/* What wakes us is due in a while, and mostly comes in crowds. */
		if (due || (pause_ms(fs, SESSION_WATCH_MS) && !fs->sessions.ending)) {
			fs->sessions.idle = false;
			pause_ms(fs, fs->sessions.closing_len > 0 ? CLOSING_TICK_MS : TICK_MS);
		}
		pthread_mutex_unlock(&fs->lock);
		sessions_tell_due(fs, clock_coarse_ms());
		pthread_mutex_lock(&fs->lock);
	}
	pthread_mutex_unlock(&fs->lock);
	return NULL;
}

int
sessions_start(struct fs *fs)
{
	int rc;

	fs->sessions.fine_times = session_has_fine_times(fs->inodes.root_fd);

	pthread_cond_init(&fs->sessions.changed, NULL);
	rc = pthread_create(&fs->sessions.timer, NULL, timer_run, fs);
	if (rc != 0)
		pthread_cond_destroy(&fs->sessions.changed);
	return -rc;
}

void
sessions_stop(struct fs *fs)
{
	pthread_mutex_lock(&fs->lock);
	fs->sessions.ending = true;
	pthread_cond_signal(&fs->sessions.changed);
	pthread_mutex_unlock(&fs->lock);
	pthread_join(fs->sessions.timer, NULL);

	sessions_tell_due(fs, INT64_MAX);
	pthread_cond_destroy(&fs->sessions.changed);
}
