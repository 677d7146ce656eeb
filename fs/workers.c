/*
 * Workers rest, read, or are busy.  Who has finished a request reads the next
 * one, unless another reads already.  Whoever runs workers_run keeps watch: it
 * looks each millisecond, as long as there are requests, whether one of them
 * takes so long, or so many wait, that another worker must read.  Requests
 * that are known to take long (fsync) wake that other one by themselves.
 *
 * Each worker has a counter of its steps: resting, reading, busy, resting...
 * A barrier waits until each is seen to rest after what it had.  One that was
 * reading may have a request without having counted it yet: so it is woken by
 * a signal until its counter moves.  A signal that comes just before it sleeps
 * in read(2) is lost; hence "until".
 */
#include "config.h"

#include "fs/workers.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <linux/fuse.h>

#include "fs/affinity.h"
#include "replication/log.h"
#include "replication/mem.h"

enum {
	WORKERS = 16,		/* at most */
	TICK_NS = 1000000,
	QUIET_TICKS = 20,	/* without a request, until the watch sleeps */
};

/* FINISHED is only passed through: a counter that overflows keeps its phase. */
enum phase { RESTING, READING, BUSY, FINISHED, PHASES };

struct worker {
	struct workers *all;
	pthread_t thread;
	pid_t tid;
	atomic_uint steps;	/* modulo PHASES: what it does */
	unsigned seen;		/* (lock) of them, when the watch looked */
	struct affinity affinity;
	bool wanted;		/* (lock) it is to read */
	pthread_cond_t wake;
	struct worker *below;	/* (lock) in the stack of those that rest */
	struct fuse_buf buf;
};

struct workers {
	struct fuse_session *se;
	int fd;
	struct affinity_home home;
	pthread_mutex_t lock;
	pthread_cond_t watch;		/* requests come again */
	struct worker *resting;		/* the last one to rest is the first to be woken */
	unsigned readers;		/* reading, or about to */
	unsigned long taken;		/* requests */
	bool quiet;			/* the watch sleeps */
	bool lacks_thread;		/* the last one could not be made, and that was said */
	int rc;				/* why we end */
	atomic_uint len;
	struct worker worker[WORKERS];
};

static _Thread_local struct worker *self;

static int
wake_signal(void)
{
	return SIGRTMIN + 1;
}

static void
woken(int signo)
{
	(void)signo;
}

static bool
ended(struct workers *w)
{
	return fuse_session_exited(w->se);
}

static void
begin(struct worker *me)	/* to read, or to work on what was read */
{
	atomic_fetch_add(&me->steps, 1);
}

static void
rest(struct worker *me)
{
	atomic_fetch_add(&me->steps, PHASES - BUSY);
}

static bool
requests_wait(struct workers *w)
{
	struct pollfd p = { .fd = w->fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* ---- who reads --------------------------------------------------------- */

static void	*worker_run(void *arg);

/* Has a worker that rests, or a new one, read.  With the lock. */
static void
have_another_read(struct workers *w)
{
	unsigned n = atomic_load(&w->len);
	struct worker *another = w->resting;
	int rc;

	if (another != NULL) {
		w->resting = another->below;
		another->wanted = true;
		w->readers++;
		pthread_cond_signal(&another->wake);
	} else if (n < WORKERS) {
		another = &w->worker[n];
		another->all = w;
		pthread_cond_init(&another->wake, NULL);
		rc = pthread_create(&another->thread, NULL, worker_run, another);
		if (rc != 0) {
			/* The watch asks again; whoever is busy reads when it is done. */
			pthread_cond_destroy(&another->wake);
			if (!w->lacks_thread)
				log_warn("cannot start a thread: %s", strerror(rc));
			w->lacks_thread = true;
			return;
		}
		w->lacks_thread = false;
		w->readers++;
		atomic_store(&w->len, n + 1);
	}
}

/* After a request: read the next one, or rest until another reader is wanted.
 * False if we end. */
static bool
wait_to_read(struct workers *w, struct worker *me)
{
	pthread_mutex_lock(&w->lock);
	if (w->readers == 0 || requests_wait(w)) {
		w->readers++;
	} else {
		affinity_end(&me->affinity, false);
		me->below = w->resting;
		w->resting = me;
		while (!me->wanted && !ended(w))
			pthread_cond_wait(&me->wake, &w->lock);
		me->wanted = false;
	}
	pthread_mutex_unlock(&w->lock);
	return !ended(w);
}

/* Does a request of this kind take long, as a rule? */
static bool
takes_long(const void *request, ssize_t size)
{
	const struct fuse_in_header *in = request;

	if (size < (ssize_t)sizeof *in)
		return false;
	switch (in->opcode) {
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_SYNCFS:
	case FUSE_SETLKW:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
		return true;
	default:
		return false;
	}
}

static void
took(struct workers *w, bool request, bool is_long)
{
	pthread_mutex_lock(&w->lock);
	w->readers--;
	if (request) {
		w->taken++;
		if (is_long && w->readers == 0)
			have_another_read(w);
		if (w->quiet) {
			w->quiet = false;
			pthread_cond_signal(&w->watch);
		}
	}
	pthread_mutex_unlock(&w->lock);
}

ssize_t
workers_read(struct workers *w, int fd, void *buf, size_t size)
{
	ssize_t n;

	for (;;) {
		begin(self);
		n = read(fd, buf, size);
		begin(self);
		/* ENOENT: its program has given up. */
		if (n >= 0 || (errno != EINTR && errno != ENOENT) || ended(w))
			break;
		rest(self);
	}
	if (n > 0)
		affinity_serves(&self->affinity, buf, (size_t)n);
	took(w, n > 0, n > 0 && takes_long(buf, n));
	return n;
}

static void
end(struct workers *w, int rc)
{
	pthread_mutex_lock(&w->lock);
	if (rc < 0 && w->rc == 0)
		w->rc = rc;
	fuse_session_exit(w->se);
	pthread_cond_signal(&w->watch);
	pthread_mutex_unlock(&w->lock);
}

static void *
worker_run(void *arg)
{
	struct worker *me = arg;
	struct workers *w = me->all;
	int n = 0;

	self = me;
	me->tid = gettid();
	affinity_init(&me->affinity, &w->home);
	while (!ended(w)) {
		n = fuse_session_receive_buf(w->se, &me->buf);
		if (n > 0)
			fuse_session_process_buf(w->se, &me->buf);
		rest(me);
		if (n == -EINTR)
			n = 0;
		if (n < 0 || !wait_to_read(w, me))
			break;
	}
	end(w, n);
	free(me->buf.mem);
	return NULL;
}

/* ---- the watch --------------------------------------------------------- */

/* With the lock: who stays where its program runs, but does not get on? */
static void
end_affinities(struct workers *w)
{
	for (unsigned i = 0; i < atomic_load(&w->len); i++) {
		struct worker *one = &w->worker[i];
		unsigned steps = atomic_load(&one->steps);

		if (steps == one->seen && affinity_is_near(&one->affinity))
			affinity_end(&one->affinity, steps % PHASES == BUSY || requests_wait(w));
		one->seen = steps;
	}
}

/* One look: is another reader needed?  With the lock; true if there was
 * nothing to do since the last one. */
static bool
look(struct workers *w, unsigned long *taken)
{
	bool still = w->taken == *taken;

	*taken = w->taken;
	end_affinities(w);
	if (w->readers == 0 && (still || requests_wait(w))) {
		have_another_read(w);
		return false;
	}
	return still;
}

static void
keep_watch(struct workers *w)
{
	const struct timespec tick = { .tv_nsec = TICK_NS };
	unsigned long taken = 0;
	unsigned quiet = 0;

	pthread_mutex_lock(&w->lock);
	while (!ended(w)) {
		quiet = look(w, &taken) ? quiet + 1 : 0;
		w->quiet = quiet >= QUIET_TICKS;
		while (w->quiet && !ended(w))
			pthread_cond_wait(&w->watch, &w->lock);
		pthread_mutex_unlock(&w->lock);
		nanosleep(&tick, NULL);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
}

/* Wakes it until it has heard. */
static void
wait_for_end(struct workers *w, struct worker *one)
{
	const struct timespec tick = { .tv_nsec = TICK_NS };

	while (pthread_tryjoin_np(one->thread, NULL) == EBUSY) {
		workers_stop(w);
		nanosleep(&tick, NULL);
	}
}

int
workers_run(struct workers *w)
{
	pthread_mutex_lock(&w->lock);
	have_another_read(w);
	pthread_mutex_unlock(&w->lock);
	if (atomic_load(&w->len) == 0)
		return -EAGAIN;
	keep_watch(w);
	for (unsigned i = 0; i < atomic_load(&w->len); i++) {
		wait_for_end(w, &w->worker[i]);
		affinity_fini(&w->worker[i].affinity);
		pthread_cond_destroy(&w->worker[i].wake);
	}
	return w->rc;
}

int
workers_new(struct fuse_session *se, struct workers **out)
{
	struct sigaction sa = { .sa_handler = woken };	/* no SA_RESTART: read(2) must end */
	struct workers *w;

	if (sigaction(wake_signal(), &sa, NULL) < 0)
		return -errno;
	w = mem_alloc(sizeof *w);
	w->se = se;
	w->fd = fuse_session_fd(se);
	affinity_home_init(&w->home);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->watch, NULL);
	*out = w;
	return 0;
}

void
workers_free(struct workers *w)
{
	if (w != NULL) {
		pthread_cond_destroy(&w->watch);
		pthread_mutex_destroy(&w->lock);
		free(w);
	}
}

/* ---- from other threads ------------------------------------------------ */

static void
wake(pid_t tid)
{
	syscall(SYS_tgkill, getpid(), tid, wake_signal());
}

static void
wait_until_rests(struct workers *w, struct worker *other)
{
	const struct timespec tick = { .tv_nsec = TICK_NS };
	unsigned seen = atomic_load(&other->steps);
	unsigned done = seen + (PHASES - seen % PHASES) % PHASES;

	for (;;) {
		unsigned steps = atomic_load(&other->steps);

		if ((int)(steps - done) >= 0 || ended(w))
			return;
		if (steps % PHASES == READING)
			wake(other->tid);
		nanosleep(&tick, NULL);
	}
}

void
workers_barrier(struct workers *w)
{
	unsigned n = atomic_load(&w->len);

	for (unsigned i = 0; i < n; i++)
		if (&w->worker[i] != self)
			wait_until_rests(w, &w->worker[i]);
}

void
workers_stop(struct workers *w)
{
	unsigned n = atomic_load(&w->len);

	end(w, 0);
	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < n; i++) {
		pthread_cond_signal(&w->worker[i].wake);
		if (atomic_load(&w->worker[i].steps) % PHASES == READING)
			wake(w->worker[i].tid);
	}
	pthread_mutex_unlock(&w->lock);
}
