/*
 * The threads that hash large files.
 */
#include "config.h"

#include "replication/hasher.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/lists.h"
#include "replication/replica_impl.h"

#define NICE 10

struct waiting {
	struct waiting *next;
	uint64_t until;
	void (*fn)(struct replica *r, void *arg);
	void *arg;
};

struct lane {
	struct replica *r;
	pthread_t thread;
	pthread_mutex_t lock;	/* jobs, stop */
	pthread_cond_t more;
	struct hash_job *jobs;
	bool stop;
};

struct hasher {
	struct lane local, exchange;

	/* The replica's thread only. */
	uint64_t added, done;	/* in `local`, which works in order */
	struct waiting *waiting;
};

static void
job_free(struct hash_job *j)
{
	if (j->release)
		j->release(j);
	if (j->fd >= 0)
		close(j->fd);
	free(j->name);
	free(j);
}

static void
finished_exchange(struct replica *r, void *arg)
{
	struct hash_job *j = arg;

	j->done(r, j);
	job_free(j);
}

static void
finished(struct replica *r, void *arg)
{
	struct hasher *h = r->hasher;

	finished_exchange(r, arg);
	h->done++;
	while (h->waiting && h->done >= h->waiting->until) {
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

static int
hash_file(const struct hash_job *j, struct chunk_list *out)
{
	struct chunk_list old = { 0 };
	int rc;

	if (j->lists_fd < 0)
		return chunk_file(j->fd, false, out);
	if (j->has_before && lists_load(j->lists_fd, &j->before, &old) < 0)
		old = (struct chunk_list){ 0 };
	rc = chunk_file_again(j->fd, &old, out);
	chunk_list_fini(&old);
	return rc;
}

static void
run_job(struct hash_job *j)
{
	struct chunk_list l = { 0 };
	struct stat before;

	/* The disk writes while we read. */
	if (j->sync)
		(void)sync_file_range(j->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	j->rc = fstat(j->fd, &before) < 0 ? -errno : hash_file(j, &l);
	if (j->rc == 0 && j->sync && fdatasync(j->fd) < 0) {
		j->rc = -errno;
		chunk_list_fini(&l);
	}
	if (j->rc < 0)
		return;
	j->hash = l.hash;
	if (fstat(j->fd, &j->st) < 0 || !same_content(&before, &j->st))
		j->st.st_ino = 0;
	else if (j->lists_fd >= 0 && l.size > LISTS_WORTH)
		lists_save(j->lists_fd, &l);
	chunk_list_fini(&l);
}

static void *
thread_main(void *arg)
{
	struct lane *h = arg;
	struct hash_job *j;

	pthread_setname_np(pthread_self(), "sibfs-hasher");
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
		(j->run ? j->run : run_job)(j);
		replica_call(h->r, h == &h->r->hasher->local ? finished : finished_exchange, j);
		pthread_mutex_lock(&h->lock);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

static int
lane_start(struct replica *r, struct lane *h)
{
	h->r = r;
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->more, NULL);
	return -pthread_create(&h->thread, NULL, thread_main, h);
}

static void
lane_stop(struct lane *h)
{
	pthread_mutex_lock(&h->lock);
	h->stop = true;
	pthread_cond_signal(&h->more);
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->thread, NULL);
}

static void
lane_free(struct lane *h, void (*drop)(struct replica *r, struct hash_job *j))
{
	while (h->jobs) {
		struct hash_job *j = h->jobs;

		LL_DELETE(h->jobs, j);
		if (drop)
			drop(h->r, j);
		job_free(j);
	}
	pthread_mutex_destroy(&h->lock);
	pthread_cond_destroy(&h->more);
}

int
hasher_start(struct replica *r)
{
	struct hasher *h = mem_alloc(sizeof(*h));
	int rc;

	r->hasher = h;
	if ((rc = lane_start(r, &h->local)) < 0)
		goto err;
	if ((rc = lane_start(r, &h->exchange)) < 0) {
		lane_stop(&h->local);
		goto err;
	}
	return 0;

err:
	r->hasher = NULL;
	free(h);
	return rc;
}

void
hasher_stop(struct replica *r)
{
	lane_stop(&r->hasher->local);
	lane_stop(&r->hasher->exchange);
}

void
hasher_free(struct replica *r, void (*drop)(struct replica *r, struct hash_job *j))
{
	struct hasher *h = r->hasher;

	r->hasher = NULL;
	lane_free(&h->local, drop);
	lane_free(&h->exchange, NULL);
	while (h->waiting) {
		struct waiting *w = h->waiting;

		LL_DELETE(h->waiting, w);
		free(w);
	}
	free(h);
}

static void
lane_add(struct lane *h, struct hash_job *j)
{
	pthread_mutex_lock(&h->lock);
	LL_APPEND(h->jobs, j);
	pthread_cond_signal(&h->more);
	pthread_mutex_unlock(&h->lock);
}

void
hasher_add(struct replica *r, struct hash_job *j)
{
	r->hasher->added++;
	lane_add(&r->hasher->local, j);
}

void
hasher_add_exchange(struct replica *r, struct hash_job *j)
{
	lane_add(&r->hasher->exchange, j);
}

bool
hasher_wait(struct replica *r, void (*fn)(struct replica *r, void *arg), void *arg)
{
	struct waiting *w;

	if (!r->hasher || r->hasher->done == r->hasher->added)
		return false;
	w = mem_alloc(sizeof(*w));
	w->until = r->hasher->added;
	w->fn = fn;
	w->arg = arg;
	LL_APPEND(r->hasher->waiting, w);
	return true;
}
