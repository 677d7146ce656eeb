#include "config.h"

#include "fs/closer.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "replication/mem.h"

enum {
	GATHER_NS = 1000000,	/* they come in crowds: who adds one need not wake us each time */
};

struct closer {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	bool idle, ending;
	int *fds, *closing;	/* those that wait, and those that are being closed */
	unsigned len, most;
};

static void *
run(void *arg)
{
	const struct timespec gather = { .tv_nsec = GATHER_NS };
	struct closer *c = arg;

	pthread_setname_np(pthread_self(), "sibfs-closer");
	pthread_mutex_lock(&c->lock);
	while (c->len > 0 || !c->ending) {
		int *fds = c->fds;
		unsigned n = c->len;

		if (n == 0) {
			c->idle = true;
			pthread_cond_wait(&c->changed, &c->lock);
			c->idle = false;
			continue;
		}
		c->fds = c->closing;
		c->closing = fds;
		c->len = 0;
		pthread_mutex_unlock(&c->lock);
		for (unsigned i = 0; i < n; i++)
			close(fds[i]);
		nanosleep(&gather, NULL);
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

struct closer *
closer_new(unsigned most)
{
	struct closer *c = mem_alloc(sizeof *c);

	c->most = most;
	c->fds = mem_alloc(most * sizeof *c->fds);
	c->closing = mem_alloc(most * sizeof *c->closing);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	if (pthread_create(&c->thread, NULL, run, c) == 0)
		return c;
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c->closing);
	free(c->fds);
	free(c);
	return NULL;
}

void
closer_free(struct closer *c)
{
	if (c == NULL)
		return;
	pthread_mutex_lock(&c->lock);
	c->ending = true;
	pthread_cond_signal(&c->changed);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c->closing);
	free(c->fds);
	free(c);
}

void
closer_close(struct closer *c, int fd)
{
	bool taken;

	pthread_mutex_lock(&c->lock);
	taken = c->len < c->most;
	if (taken)
		c->fds[c->len++] = fd;
	if (c->idle)
		pthread_cond_signal(&c->changed);
	pthread_mutex_unlock(&c->lock);
	if (!taken)
		close(fd);
}
