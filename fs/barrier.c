/*
 * The thread that asks through the mount.  Calls that came together are
 * answered by one question.
 */
#include "config.h"

#include "fs/barrier.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include <utlist.h>

#include "replication/mem.h"

struct call {
	struct call *prev, *next;
	void (*done)(void *arg);
	void *arg;
};

struct barrier {
	char *mountpoint;
	pthread_t thread;
	pthread_mutex_t lock;		/* all below */
	pthread_cond_t changed;
	struct call *queue;
	bool busy, mute, ending;
};

static void
answer(struct call *calls)
{
	struct call *c, *tmp;

	DL_FOREACH_SAFE(calls, c, tmp) {
		c->done(c->arg);
		free(c);
	}
}

static void *
barrier_run(void *arg)
{
	struct barrier *b = arg;

	pthread_setname_np(pthread_self(), "sibfs-barrier");
	pthread_mutex_lock(&b->lock);
	while (!b->ending || b->queue != NULL) {
		struct call *calls = b->queue;

		if (calls == NULL) {
			pthread_cond_wait(&b->changed, &b->lock);
			continue;
		}
		b->queue = NULL;
		b->busy = !b->mute;
		pthread_mutex_unlock(&b->lock);
		if (b->busy)
			getxattr(b->mountpoint, BARRIER_XATTR, NULL, 0);
		answer(calls);
		pthread_mutex_lock(&b->lock);
		b->busy = false;
		pthread_cond_broadcast(&b->changed);
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

int
barrier_start(const char *mountpoint, struct barrier **out)
{
	struct barrier *b = mem_alloc(sizeof *b);
	int rc;

	b->mountpoint = mem_str(mountpoint);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->changed, NULL);
	rc = pthread_create(&b->thread, NULL, barrier_run, b);
	if (rc != 0) {
		free(b->mountpoint);
		free(b);
		return -rc;
	}
	*out = b;
	return 0;
}

void
barrier_mute(struct barrier *b)
{
	pthread_mutex_lock(&b->lock);
	b->mute = true;
	while (b->busy)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

void
barrier_call(struct barrier *b, void (*done)(void *arg), void *arg)
{
	struct call *c = mem_alloc(sizeof *c);

	c->done = done;
	c->arg = arg;
	pthread_mutex_lock(&b->lock);
	DL_APPEND(b->queue, c);
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

void
barrier_stop(struct barrier *b)
{
	pthread_mutex_lock(&b->lock);
	b->ending = b->mute = true;
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
	pthread_join(b->thread, NULL);
	pthread_cond_destroy(&b->changed);
	pthread_mutex_destroy(&b->lock);
	free(b->mountpoint);
	free(b);
}
