/*
 * The thread that hashes large files.
 */
#include "config.h"

#include "replication/hasher.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/chunk.h"
#include "replication/replica_impl.h"

#define NICE 10

struct waiting {
	struct waiting *next;
	void (*fn)(struct replica *r, void *arg);
	void *arg;
};

struct hasher {
	pthread_t thread;
	pthread_mutex_t lock;	/* jobs, stop */
	pthread_cond_t more;
	struct hash_job *jobs;
	bool stop;

	/* The replica's thread only. */
	unsigned under_way;
	struct waiting *waiting;
};

static void
job_free(struct hash_job *j)
{
	close(j->fd);
	free(j->name);
	free(j);
}

static void
finished(struct replica *r, void *arg)
{
	struct hasher *h = r->hasher;
	struct hash_job *j = arg;

	j->done(r, j);
	job_free(j);
	h->under_way--;
	while (!h->under_way && h->waiting) {
		struct waiting *w = h->waiting;

		LL_DELETE(h->waiting, w);
		w->fn(r, w->arg);
		free(w);
	}
}

static bool
same_content(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	    a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void
run_job(struct hash_job *j)
{
	struct chunk_list l;
	struct stat before;

	j->rc = j->sync && fdatasync(j->fd) < 0 ? -errno : 0;
	if (j->rc == 0 && fstat(j->fd, &before) < 0)
		j->rc = -errno;
	if (j->rc == 0)
		j->rc = chunk_file(j->fd, false, &l);
	if (j->rc < 0)
		return;
	j->hash = l.hash;
	if (fstat(j->fd, &j->st) < 0 || !same_content(&before, &j->st))
		j->st.st_ino = 0;
}

static void *
thread_main(void *arg)
{
	struct replica *r = arg;
	struct hasher *h = r->hasher;
	struct hash_job *j;

	/* On Linux this is the thread's own priority. */
	(void)!setpriority(PRIO_PROCESS, 0, NICE);
	pthread_mutex_lock(&h->lock);
	while (!h->stop) {
		if (!h->jobs) {
			pthread_cond_wait(&h->more, &h->lock);
			continue;
		}
		j = h->jobs;
		LL_DELETE(h->jobs, j);
		pthread_mutex_unlock(&h->lock);
		run_job(j);
		replica_call(r, finished, j);
		pthread_mutex_lock(&h->lock);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

int
hasher_start(struct replica *r)
{
	struct hasher *h = mem_alloc(sizeof(*h));
	int rc;

	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->more, NULL);
	r->hasher = h;
	rc = pthread_create(&h->thread, NULL, thread_main, r);
	if (rc != 0) {
		r->hasher = NULL;
		free(h);
	}
	return -rc;
}

void
hasher_stop(struct replica *r)
{
	struct hasher *h = r->hasher;

	pthread_mutex_lock(&h->lock);
	h->stop = true;
	pthread_cond_signal(&h->more);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
}

void
hasher_free(struct replica *r, void (*drop)(struct replica *r, struct hash_job *j))
{
	struct hasher *h = r->hasher;

	r->hasher = NULL;
	while (h->jobs) {
		struct hash_job *j = h->jobs;

		LL_DELETE(h->jobs, j);
		drop(r, j);
		job_free(j);
	}
	while (h->waiting) {
		struct waiting *w = h->waiting;

		LL_DELETE(h->waiting, w);
		free(w);
	}
	pthread_mutex_destroy(&h->lock);
	pthread_cond_destroy(&h->more);
	free(h);
}

void
hasher_add(struct replica *r, struct hash_job *j)
{
	struct hasher *h = r->hasher;

	h->under_way++;
	pthread_mutex_lock(&h->lock);
	LL_APPEND(h->jobs, j);
	pthread_cond_signal(&h->more);
	pthread_mutex_unlock(&h->lock);
}

bool
hasher_wait(struct replica *r, void (*fn)(struct replica *r, void *arg), void *arg)
{
	struct waiting *w;

	if (!r->hasher || !r->hasher->under_way)
		return false;
	w = mem_alloc(sizeof(*w));
	w->fn = fn;
	w->arg = arg;
	LL_APPEND(r->hasher->waiting, w);
	return true;
}
