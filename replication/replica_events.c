/*
 * How other threads reach the replica's: the queue of what users did, with the
 * questions between, and the calls.  What users do also goes to the journal, which
 * says after a kill which names to look at.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>
#include <xxhash.h>

#include "replication/clock.h"
#include "replication/replica_impl.h"

#define JOURNAL_MAX (32u << 20)

static void
wake(struct replica *r)
{
	uint64_t one = 1;

	(void)!write(r->wake_fd, &one, sizeof(one));
}

/* Under queue_lock.  Plain appends: they survive a killed daemon.  One line for a
 * name is enough. */
static void
journal_add(struct replica *r, ino_t dir, const char *name)
{
	uint64_t hash, *known;
	char line[300];
	int n;

	if (r->journal_fd < 0 || !name)
		return;
	n = snprintf(line, sizeof(line), "%llx %s", (unsigned long long)dir, name);
	if (n < 0 || (size_t)n >= sizeof(line))
		return;
	hash = XXH3_64bits(line, (size_t)n);
	known = &r->journalled[hash % JOURNAL_RECENT];
	if (*known == hash)
		return;
	if (write(r->journal_fd, line, (size_t)n + 1) != n + 1)
		return;
	r->journal_size += (size_t)n + 1;
	*known = hash;
}

static void
enqueue(struct replica *r, struct event *e)
{
	e->next = NULL;
	*r->last = e;
	r->last = &e->next;
	r->questions += e->question != NULL;
	if (e->question || (r->queued == 0 && !r->gathering))
		wake(r);
	r->queued++;
}

void
replica_tell(struct replica *r, const struct replica_event *e)
{
	struct event *copy = mem_alloc(sizeof(*copy));

	copy->op = e->op;
	copy->ino = e->ino;
	copy->dir = e->dir;
	copy->dir2 = e->dir2;
	copy->name = mem_str(e->name);
	copy->name2 = mem_str(e->name2);
	copy->time_ns = e->time_ns ? e->time_ns : clock_wall_ns();
	copy->mtime_from = e->mtime_from;
	copy->mtime_to = e->mtime_to;
	copy->attrs = e->attrs;
	copy->is_dir = e->is_dir;
	copy->unsure = e->unsure;
	pthread_mutex_lock(&r->queue_lock);
	if (e->op != REPLICA_IDLE) {
		journal_add(r, e->dir, e->name);
		journal_add(r, e->dir2, e->name2);
	}
	enqueue(r, copy);
	pthread_mutex_unlock(&r->queue_lock);
}

void
replica_touch(struct replica *r, ino_t dir, const char *name)
{
	pthread_mutex_lock(&r->queue_lock);
	journal_add(r, dir, name);
	pthread_mutex_unlock(&r->queue_lock);
}

int
replica_ask(struct replica *r, enum replica_query what, ino_t dir, const char *name, char **out)
{
	struct question q = { .what = what };
	struct event *e = mem_alloc(sizeof(*e));

	pthread_cond_init(&q.done_cond, NULL);
	e->op = REPLICA_IDLE;
	e->dir = dir;
	e->name = mem_str(name);
	e->question = &q;
	pthread_mutex_lock(&r->queue_lock);
	enqueue(r, e);
	while (!q.done)
		pthread_cond_wait(&q.done_cond, &r->queue_lock);
	pthread_mutex_unlock(&r->queue_lock);
	pthread_cond_destroy(&q.done_cond);
	if (q.rc == 0)
		*out = q.answer;
	return q.rc;
}

void
replica_call(struct replica *r, void (*fn)(struct replica *r, void *arg), void *arg)
{
	struct call *c = mem_alloc(sizeof(*c));

	c->fn = fn;
	c->arg = arg;
	pthread_mutex_lock(&r->queue_lock);
	LL_APPEND(r->calls, c);
	wake(r);
	pthread_mutex_unlock(&r->queue_lock);
}

void
replica_run_calls(struct replica *r)
{
	for (;;) {
		struct call *c;

		pthread_mutex_lock(&r->queue_lock);
		c = r->calls;
		if (c)
			LL_DELETE(r->calls, c);
		pthread_mutex_unlock(&r->queue_lock);
		if (!c)
			return;
		c->fn(r, c->arg);
		free(c);
	}
}

static void
event_free(struct event *e)
{
	free(e->name);
	free(e->name2);
	free(e);
}

static void
answer(struct replica *r, struct event *e)
{
	struct question *q = e->question;
	char *text = NULL;
	int rc = local_answer(r, e, &text);

	pthread_mutex_lock(&r->queue_lock);
	q->rc = rc;
	q->answer = text;
	q->done = true;
	pthread_cond_signal(&q->done_cond);
	pthread_mutex_unlock(&r->queue_lock);
}

static struct event *
dequeue(struct replica *r)
{
	struct event *e;

	if (!r->taken) {
		pthread_mutex_lock(&r->queue_lock);
		r->taken = r->first;
		r->taken_len = r->queued;
		r->first = NULL;
		r->last = &r->first;
		r->queued = r->questions = 0;
		pthread_mutex_unlock(&r->queue_lock);
	}
	e = r->taken;
	if (e) {
		r->taken = e->next;
		r->taken_len--;
	}
	return e;
}

void
replica_settle_events(struct replica *r)
{
	struct event *e;
	unsigned n = 0;

	while ((e = dequeue(r))) {
		if (e->question)
			answer(r, e);
		else
			local_event(r, e);
		event_free(e);
		if (++n % 2000 == 0)
			replica_commit(r);
	}
	r->handled += n;
}

/* All that was journalled is in the index, but for files still open for writing:
 * after a kill the whole tree is looked at then. */
void
replica_trim_journal(struct replica *r)
{
	if (r->journal_size < JOURNAL_MAX)
		return;
	pthread_mutex_lock(&r->queue_lock);
	if (!r->first && !r->taken && r->journal_size >= JOURNAL_MAX) {
		if (ftruncate(r->journal_fd, 0) == 0 &&
		    write(r->journal_fd, JOURNAL_CUT, sizeof(JOURNAL_CUT)) == sizeof(JOURNAL_CUT))
			r->journal_size = sizeof(JOURNAL_CUT);
		memset(r->journalled, 0, sizeof(r->journalled));
	}
	pthread_mutex_unlock(&r->queue_lock);
}

void
replica_settle_closed(struct replica *r)
{
	if (r->view) {
		replica_view_lock(r);
		r->view->tell_waiting(r->view->ctx);
		replica_view_unlock(r);
	}
	replica_settle_events(r);
	/* Whoever asks is told all of it, and not only what was found at once. */
	if (r->looks_len > 0) {
		local_look_when_told(r);
		view_update(r);
	}
}
