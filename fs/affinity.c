/*
 * Where workers run.
 */
#include "config.h"

#include "fs/affinity.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/fuse.h>

#include "replication/clock.h"

enum {
	ROW = 8,		/* requests of one program, until it is worth going there */
	AGAIN = 64,		/* requests, after which it may have moved */
	MUCH = 65536,		/* bytes: the kernel reads ahead, and wants two processors */
	AWAY_MS = 100,
};

static bool
set_policy(pid_t tid, int policy)
{
	const struct sched_param p = { 0 };

	return sched_setscheduler(tid, policy, &p) == 0;
}

static void *
try_both_ways(void *arg)
{
	struct affinity_home *h = arg;

	h->works = sched_getaffinity(0, sizeof h->cpus, &h->cpus) == 0 &&
	    sched_setaffinity(0, sizeof h->cpus, &h->cpus) == 0 &&
	    set_policy(0, SCHED_IDLE) && set_policy(0, SCHED_OTHER);
	return NULL;
}

void
affinity_home_init(struct affinity_home *h)
{
	pthread_t thread;	/* one that need not come back */

	h->works = false;
	if (sched_getscheduler(0) == SCHED_OTHER && pthread_create(&thread, NULL, try_both_ways, h) == 0)
		pthread_join(thread, NULL);
}

static void
go_home(const struct affinity *a)
{
	set_policy(a->tid, SCHED_OTHER);
	sched_setaffinity(a->tid, sizeof a->home->cpus, &a->home->cpus);
}

void
affinity_init(struct affinity *a, const struct affinity_home *h)
{
	a->home = h;
	a->tid = gettid();
	pthread_mutex_init(&a->lock, NULL);
	if (h->works)
		go_home(a);
}

void
affinity_fini(struct affinity *a)
{
	pthread_mutex_destroy(&a->lock);
}

/* The processor where a thread last ran (proc(5), "processor" of stat); -1: who knows. */
static int
cpu_of(pid_t tid)
{
	enum { BEFORE_STATE = 2, PROCESSOR = 39 };
	char path[32], buf[1024], *p;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof buf - 1);
	close(fd);
	if (n <= 0)
		return -1;
	buf[n] = '\0';
	p = strrchr(buf, ')');		/* of its name, which may hold anything */
	for (int field = BEFORE_STATE; p != NULL && field < PROCESSOR; field++)
		p = strchr(p + 1, ' ');
	return p != NULL ? atoi(p) : -1;
}

static void
go_near(struct affinity *a)
{
	int cpu = cpu_of(a->program);
	cpu_set_t one;

	if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &a->home->cpus) || (affinity_is_near(a) && cpu == a->cpu))
		return;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	pthread_mutex_lock(&a->lock);
	if (clock_coarse_ms() >= a->not_before_ms && sched_setaffinity(a->tid, sizeof one, &one) == 0) {
		a->cpu = cpu;
		atomic_store(&a->near, true);
		set_policy(a->tid, SCHED_IDLE);
	}
	pthread_mutex_unlock(&a->lock);
}

/* Does the kernel send more of this kind before the first one is answered? */
static bool
comes_in_numbers(const struct fuse_in_header *in, size_t size)
{
	const struct fuse_read_in *read_in = (const void *)(in + 1);

	if (in->opcode == FUSE_READ)
		return size >= sizeof *in + sizeof *read_in && read_in->size > MUCH;
	return size > MUCH;
}

void
affinity_serves(struct affinity *a, const void *request, size_t size)
{
	const struct fuse_in_header *in = request;

	/* Nobody waits for those without pid, such as RELEASE. */
	if (!a->home->works || size < sizeof *in || in->pid == 0)
		return;
	if ((pid_t)in->pid != a->program || comes_in_numbers(in, size)) {
		affinity_end(a, false);
		a->program = (pid_t)in->pid;
		a->row = 0;
		return;
	}
	a->row++;
	if (a->row == ROW || a->row % AGAIN == 0)
		go_near(a);
}

bool
affinity_is_near(struct affinity *a)
{
	return atomic_load(&a->near);
}

void
affinity_end(struct affinity *a, bool late)
{
	if (!affinity_is_near(a))
		return;
	pthread_mutex_lock(&a->lock);
	if (affinity_is_near(a)) {
		go_home(a);
		atomic_store(&a->near, false);
		if (late)
			a->not_before_ms = clock_coarse_ms() + AWAY_MS;
	}
	pthread_mutex_unlock(&a->lock);
}
