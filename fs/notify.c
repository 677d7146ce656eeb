/*
 * The queue of notifications and the thread that sends them.
 */
#include "config.h"

#include "fs/notify.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <utlist.h>

#include "fs/echo.h"
#include "fs/fs.h"
#include "replication/mem.h"

struct note {
	struct note *prev, *next;
	void (*done)(void *arg);	/* a settle */
	void *arg;
	struct echo_step *step;		/* or something to be shown */
	ino_t ino;			/* else: an inode, or a name in a directory */
	char name[];			/* empty: the inode itself */
};

struct notify {
	struct fs *fs;
	pthread_t thread;
	pthread_mutex_t lock;		/* all below */
	pthread_cond_t changed;
	struct note *queue;
	bool busy, mute, ending;
};

static void
add(struct notify *n, struct note *note)
{
	pthread_mutex_lock(&n->lock);
	DL_APPEND(n->queue, note);
	pthread_cond_broadcast(&n->changed);
	pthread_mutex_unlock(&n->lock);
}

void
notify_entry(struct notify *n, ino_t dir, const char *name)
{
	size_t size = strlen(name) + 1;
	struct note *note = mem_alloc(sizeof *note + size);

	note->ino = dir;
	memcpy(note->name, name, size);
	add(n, note);
}

void
notify_inode(struct notify *n, ino_t ino)
{
	struct note *note = mem_alloc(sizeof *note + 1);

	note->ino = ino;
	add(n, note);
}

void
notify_attr(struct notify *n, const struct inode *i)
{
	pthread_mutex_lock(&n->lock);
	if (!n->mute)
		fuse_lowlevel_notify_inval_inode(n->fs->se, inode_node(n->fs, i), -1, 0);
	pthread_mutex_unlock(&n->lock);
}

void
notify_step(struct notify *n, struct echo_step *step)
{
	struct note *note = mem_alloc(sizeof *note + 1);

	note->step = step;
	add(n, note);
}

void
notify_settle(struct notify *n, void (*done)(void *arg), void *arg)
{
	struct note *note = mem_alloc(sizeof *note + 1);

	note->done = done;
	note->arg = arg;
	add(n, note);
}

/* The number that the kernel knows the inode by; 0: it does not know it. */
static fuse_ino_t
node_of(struct fs *fs, ino_t ino)
{
	struct inode *i;
	fuse_ino_t node = 0;

	pthread_mutex_lock(&fs->lock);
	i = inode_find(fs, ino);
	if (i != NULL)
		node = inode_node(fs, i);
	pthread_mutex_unlock(&fs->lock);
	return node;
}

/* Errors only say that the kernel did not have it. */
static void
send_entry(struct fs *fs, ino_t dir, const char *name)
{
	fuse_ino_t node = node_of(fs, dir);

	if (node == 0)
		return;
	fuse_lowlevel_notify_inval_entry(fs->se, node, name, strlen(name));
	/* This also drops the directory's listing. */
	fuse_lowlevel_notify_inval_inode(fs->se, node, 0, 0);
}

static void
send_inode(struct fs *fs, ino_t ino)
{
	fuse_ino_t node = node_of(fs, ino);

	if (node != 0)
		fuse_lowlevel_notify_inval_inode(fs->se, node, 0, 0);
}

static void
send_step(struct fs *fs, const struct echo_step *s)
{
	if (echo_play(fs->echo, s))
		return;
	if (s->from != NULL)
		send_entry(fs, s->from_dir, s->from);
	if (s->to != NULL)
		send_entry(fs, s->to_dir, s->to);
}

static void
send(struct fs *fs, const struct note *note)
{
	if (note->step != NULL)
		send_step(fs, note->step);
	else if (note->name[0] != '\0')
		send_entry(fs, note->ino, note->name);
	else
		send_inode(fs, note->ino);
}

static void *
notify_run(void *arg)
{
	struct notify *n = arg;
	struct note *note;

	pthread_setname_np(pthread_self(), "sibfs-notifier");
	pthread_mutex_lock(&n->lock);
	while (!n->ending || n->queue != NULL) {
		note = n->queue;
		if (note == NULL) {
			pthread_cond_wait(&n->changed, &n->lock);
			continue;
		}
		DL_DELETE(n->queue, note);
		n->busy = !n->mute && note->done == NULL;
		pthread_mutex_unlock(&n->lock);
		if (note->done != NULL)
			note->done(note->arg);
		else if (n->busy)
			send(n->fs, note);
		if (note->step != NULL)
			echo_step_free(note->step);
		free(note);
		pthread_mutex_lock(&n->lock);
		n->busy = false;
		pthread_cond_broadcast(&n->changed);
	}
	pthread_mutex_unlock(&n->lock);
	return NULL;
}

int
notify_start(struct fs *fs, struct notify **out)
{
	struct notify *n = mem_alloc(sizeof *n);
	int rc;

	n->fs = fs;
	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->changed, NULL);
	rc = pthread_create(&n->thread, NULL, notify_run, n);
	if (rc != 0) {
		free(n);
		return -rc;
	}
	*out = n;
	return 0;
}

bool
notify_idle(struct notify *n)
{
	bool idle;

	pthread_mutex_lock(&n->lock);
	idle = n->queue == NULL && !n->busy;
	pthread_mutex_unlock(&n->lock);
	return idle;
}

void
notify_mute(struct notify *n)
{
	pthread_mutex_lock(&n->lock);
	n->mute = true;
	while (n->busy)
		pthread_cond_wait(&n->changed, &n->lock);
	pthread_mutex_unlock(&n->lock);
}

void
notify_stop(struct notify *n)
{
	pthread_mutex_lock(&n->lock);
	n->ending = n->mute = true;
	pthread_cond_broadcast(&n->changed);
	pthread_mutex_unlock(&n->lock);
	pthread_join(n->thread, NULL);
	pthread_cond_destroy(&n->changed);
	pthread_mutex_destroy(&n->lock);
	free(n);
}
