/*
 * The replica's questions and news.  Those that come with the view lock held
 * look at tables only.
 */
#include "config.h"

#include "fs/view.h"

#include <errno.h>
#include <fcntl.h>

#include "fs/barrier.h"
#include "fs/echo.h"
#include "fs/fs.h"
#include "fs/notify.h"

static bool
writing(void *ctx, ino_t ino)
{
	struct fs *fs = ctx;
	struct inode *i;
	bool yes;

	pthread_mutex_lock(&fs->lock);
	i = inode_find(fs, ino);
	yes = i != NULL && atomic_load(&i->writers) > 0;
	pthread_mutex_unlock(&fs->lock);
	return yes;
}

static void
replaced(void *ctx, ino_t ino)
{
	struct fs *fs = ctx;
	struct inode *i;

	pthread_mutex_lock(&fs->lock);
	i = inode_find(fs, ino);
	if (i != NULL)
		i->replaced = true;
	pthread_mutex_unlock(&fs->lock);
}

/* (locked) What we thought to stand there stands there no more. */
static void
forget_name(struct fs *fs, ino_t dir, const char *text)
{
	struct name *name = names_find(&fs->names, dir, text);

	if (name != NULL) {
		session_name_taken(fs, name);
		names_remove(&fs->names, name);
	}
}

static void
moved(void *ctx, ino_t ino, ino_t dir, const char *name, ino_t dir2, const char *name2)
{
	struct fs *fs = ctx;
	struct inode *i;

	pthread_mutex_lock(&fs->lock);
	if (name != NULL)
		forget_name(fs, dir, name);
	if (name2 != NULL) {
		forget_name(fs, dir2, name2);
		i = inode_find(fs, ino);
		if (i != NULL)
			names_add(&fs->names, &i->names, dir2, name2);
	}
	pthread_mutex_unlock(&fs->lock);
	if (fs->echo != NULL)
		echo_moved(fs->echo, ino, dir, name, dir2, name2);
}

static void
named(void *ctx, ino_t ino, ino_t dir, const char *name)
{
	struct fs *fs = ctx;

	pthread_mutex_lock(&fs->lock);
	session_name_found(fs, ino, dir, name);
	pthread_mutex_unlock(&fs->lock);
}

static void
tell_waiting(void *ctx)
{
	struct fs *fs = ctx;

	pthread_mutex_lock(&fs->lock);
	session_tell_waiting(fs);
	pthread_mutex_unlock(&fs->lock);
}

static void
tell_moved(void *ctx)
{
	struct fs *fs = ctx;

	pthread_mutex_lock(&fs->lock);
	session_tell_moved(fs);
	pthread_mutex_unlock(&fs->lock);
}

static void
entry_changed(void *ctx, ino_t dir, const char *name)
{
	struct fs *fs = ctx;
	struct echo_step *s;

	while (fs->echo != NULL && (s = echo_next(fs->echo)) != NULL)
		notify_step(fs->notify, s);
	if (fs->echo == NULL || !echo_covers(fs->echo, dir, name))
		notify_entry(fs->notify, dir, name);
}

static void
inode_changed(void *ctx, ino_t ino)
{
	notify_inode(((struct fs *)ctx)->notify, ino);
}

static void
settle(void *ctx, void (*done)(void *arg), void *arg)
{
	notify_settle(((struct fs *)ctx)->notify, done, arg);
}

static void
barrier(void *ctx, void (*done)(void *arg), void *arg)
{
	barrier_call(((struct fs *)ctx)->barrier, done, arg);
}

static int
open_dir(void *ctx, ino_t ino)
{
	struct fs *fs = ctx;
	struct inode *i;
	int fd = -ENOENT, rc;

	pthread_mutex_lock(&fs->lock);
	i = inode_find(fs, ino);
	if (i != NULL && S_ISDIR(i->type)) {
		fd = inode_fd_get_locked(fs, i);
		if (fd >= 0) {
			rc = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
			rc = rc < 0 ? -errno : rc;
			inode_fd_put_locked(fs, i);
			fd = rc;
		}
	}
	pthread_mutex_unlock(&fs->lock);
	return fd;
}

static const char *
data_path(void *ctx)
{
	return backing_mode(ctx);
}

struct replica_view
view_of(struct fs *fs)
{
	return (struct replica_view){
		.ctx = fs,
		.writing = writing,
		.replaced = replaced,
		.moved = moved,
		.named = named,
		.tell_waiting = tell_waiting,
		.tell_moved = tell_moved,
		.entry_changed = entry_changed,
		.inode_changed = inode_changed,
		.settle = settle,
		.barrier = barrier,
		.open_dir = open_dir,
		.data_path = data_path,
	};
}
