/*
 * Each worker thread has a slot with a counter of its turns, odd while it has
 * a request, even while it reads.  libfuse calls our read hook again only when
 * the request before is finished, so the hook sees both ends.
 *
 * The barrier: a worker that was busy is done when its counter moves.  One
 * that was reading may have a request already, without having counted it yet:
 * so it is woken by a signal until its counter has moved as well.  A signal
 * that comes just before it sleeps in read(2) is lost; hence "until".
 */
#include "config.h"

#include "fs/channel.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <linux/fuse.h>

#include "fs/handshake.h"
#include "replication/mem.h"

struct worker {
	pid_t tid;
	atomic_uint turns;
};

struct channel {
	struct fuse_session *se;
	struct handshake *handshake;
	pid_t loop_tid;
	pthread_mutex_t lock;		/* taking a slot */
	atomic_uint workers_len;
	struct worker workers[2 * CHANNEL_WORKERS];
};

/* Only one mount is served by a process. */
static struct channel *current;
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

static void
join(struct channel *c)
{
	unsigned n;

	pthread_mutex_lock(&c->lock);
	n = atomic_load(&c->workers_len);
	assert(n < sizeof c->workers / sizeof *c->workers);
	self = &c->workers[n];
	self->tid = gettid();
	atomic_store(&self->turns, 1);
	atomic_store(&c->workers_len, n + 1);
	pthread_mutex_unlock(&c->lock);
}

/*
 * O_TMPFILE.  libfuse 3.14 does not know the request, but it is CREATE with
 * another number, and is answered alike.  The name in it is "/", which no file
 * can have: by that ops_create knows it.
 */
static void
tmpfile_as_create(void *request, size_t size)
{
	struct fuse_in_header *in = request;

	if (size >= sizeof *in && in->opcode == FUSE_TMPFILE)
		in->opcode = FUSE_CREATE;
}

static ssize_t
channel_read(int fd, void *buf, size_t size, void *userdata)
{
	ssize_t n;

	(void)userdata;
	if (self == NULL)
		join(current);
	do {
		atomic_fetch_add(&self->turns, 1);
		n = read(fd, buf, size);
		atomic_fetch_add(&self->turns, 1);
	} while (n < 0 && errno == EINTR && !fuse_session_exited(current->se));
	if (n > 0) {
		handshake_request(current->handshake, buf, (size_t)n);
		tmpfile_as_create(buf, (size_t)n);
	}
	return n;
}

static ssize_t
channel_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	(void)userdata;
	handshake_answer(current->handshake, iov, count);
	return writev(fd, iov, count);
}

int
channel_new(struct fuse_session *se, struct handshake *h, struct channel **out)
{
	const struct fuse_custom_io io = { .read = channel_read, .writev = channel_writev };
	struct sigaction sa = { .sa_handler = woken };	/* no SA_RESTART: read(2) must end */
	struct channel *c;
	int rc;

	assert(current == NULL);
	rc = fuse_session_custom_io(se, &io, fuse_session_fd(se));
	if (rc < 0)
		return rc;
	if (sigaction(wake_signal(), &sa, NULL) < 0)
		return -errno;
	c = mem_alloc(sizeof *c);
	c->se = se;
	c->handshake = h;
	c->loop_tid = gettid();
	pthread_mutex_init(&c->lock, NULL);
	current = c;
	*out = c;
	return 0;
}

void
channel_free(struct channel *c)
{
	if (c != NULL) {
		current = NULL;
		pthread_mutex_destroy(&c->lock);
		free(c);
	}
}

static void
wake(pid_t tid)
{
	syscall(SYS_tgkill, getpid(), tid, wake_signal());
}

static void
wait_for_turn(struct channel *c, struct worker *w)
{
	const struct timespec tick = { .tv_nsec = 1000000 };
	unsigned seen = atomic_load(&w->turns);
	unsigned done = (seen | 1) + 1;	/* it reads again */

	for (;;) {
		unsigned turns = atomic_load(&w->turns);

		if ((int)(turns - done) >= 0 || fuse_session_exited(c->se))
			return;
		if (turns % 2 == 0)
			wake(w->tid);
		nanosleep(&tick, NULL);
	}
}

void
channel_barrier(struct channel *c)
{
	unsigned n = atomic_load(&c->workers_len);

	for (unsigned i = 0; i < n; i++)
		if (&c->workers[i] != self)
			wait_for_turn(c, &c->workers[i]);
}

void
channel_stop(struct channel *c)
{
	/* The loop waits in sem_wait(3), then cancels the workers. */
	fuse_session_exit(c->se);
	wake(c->loop_tid);
}
