/*
 * A running replica, top to bottom: opening the store, the thread and its
 * loop, the queue of events, commits, the end.
 */
#include "config.h"

#include "replication/replica.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <utlist.h>
#include <xxhash.h>

#include "replication/control.h"
#include "replication/replica_fork.h"
#include "replication/replica_impl.h"

#define TICK_MS 1000
#define DEFERRED_MS 30
#define RETRY_WANTS_MS 3000
#define NETWORK_MS 1000
#define PRUNE_MS 600000
#define NICE 3
#define JOURNAL_MAX (32u << 20)

/* A turn that found so many changes by users is in the midst of more: those of
 * this time come together in the next, as each turn ends with a commit. */
#define BURST 8
#define GATHER_MS 20

int64_t
replica_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

static int64_t
wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

/* ---- commits ---- */

int
replica_begin(struct replica *r)
{
	int rc = r->in_transaction ? 0 : index_begin(r->x);

	if (rc == 0)
		r->in_transaction = true;
	return rc;
}

static int
put_number(struct index *x, const char *key, uint64_t n)
{
	return index_set_value(x, key, &n, sizeof(n));
}

/* Who we are, and the blocks of numbers: all in the transaction of the first
 * event that uses them. */
static int
write_lineage(struct replica *r)
{
	struct state *s = r->s;
	int rc = put_number(r->x, "incarnation", s->self);

	if (rc == 0)
		rc = put_number(r->x, "block", s->block);
	for (const struct block *b = s->lineage.blocks; b && rc == 0; b = b->hh.next)
		if (b->dirty)
			rc = index_put_block(r->x, b);
	return rc;
}

static void
lineage_is_written(struct lineage *x)
{
	for (struct block *b = x->blocks; b && x->dirty; b = b->hh.next)
		b->dirty = false;
	x->dirty = false;
}

static int
write_dirty(struct replica *r)
{
	struct state *s = r->s;
	int rc = 0;

	if (vv_dominates(&s->know, &s->seen))
		vv_clear(&s->seen);
	for (size_t i = 0; i < s->dirty_dirs.len && rc == 0; i++) {
		const struct dir *d = s->dirty_dirs.d[i];

		rc = index_put_dir(r->x, d, disk_of(d) ? disk_of(d)->ino : 0);
	}
	for (size_t i = 0; i < s->dirty_regs.len && rc == 0; i++)
		rc = index_put_reg(r->x, s->dirty_regs.r[i], s->dirty_regs.r[i]->in_conflict);
	if (rc == 0)
		rc = put_number(r->x, "counter", s->counter);
	if (rc == 0)
		rc = put_number(r->x, "hlc", s->hlc);
	if (rc == 0)
		rc = put_number(r->x, "seq", s->seq);
	if (rc == 0)
		rc = index_set_value(r->x, "know", s->know.e, s->know.len * sizeof(*s->know.e));
	/* Mostly there is nothing beyond what we know. */
	if (rc == 0 && (s->seen.len || r->seen_saved))
		rc = index_set_value(r->x, "seen", s->seen.e, s->seen.len * sizeof(*s->seen.e));
	r->seen_saved = s->seen.len || rc < 0;
	if (rc == 0 && s->lineage.dirty)
		rc = write_lineage(r);
	if (rc == 0 && r->forgot_changed)
		rc = index_set_value(r->x, "forgot", s->forgot.e, s->forgot.len * sizeof(*s->forgot.e));
	return rc < 0 ? rc : members_save(r);
}

/* No event leaves before its content would survive a power cut too. */
static int
sync_content(struct replica *r)
{
	if (!r->unsynced || r->view_held)
		return 0;
	if (syncfs(r->root_fd) < 0)
		return -errno;
	r->unsynced = false;
	return 0;
}

static int
sync_index(struct replica *r)
{
	int rc = sync_content(r);

	if (rc == 0)
		rc = index_sync(r->x);
	if (rc == 0) {
		r->index_unsynced = false;
		vv_clear(&r->durable);
		vv_join(&r->durable, &r->committed);
	}
	return rc;
}

int
replica_commit(struct replica *r)
{
	struct state *s = r->s;
	int rc;

	if (!r->in_transaction && !s->dirty_dirs.len && !s->dirty_regs.len && !s->lineage.dirty)
		return r->index_unsynced && !r->view_held ? sync_index(r) : 0;
	if (r->index_broken)
		return -EIO;
	if ((rc = sync_content(r)) < 0)
		goto failed;
	if ((rc = replica_begin(r)) < 0)
		goto failed;
	rc = write_dirty(r);
	if (rc == 0)
		rc = index_commit_unsynced(r->x);
	if (rc < 0) {
		index_rollback(r->x);
		r->in_transaction = false;
		goto failed;
	}
	r->in_transaction = false;
	for (size_t i = 0; i < s->dirty_dirs.len; i++) {
		s->dirty_dirs.d[i]->dirty = false;
		s->dirty_dirs.d[i]->again |= s->dirty_dirs.d[i]->touched;	/* its row says so */
	}
	for (size_t i = 0; i < s->dirty_regs.len; i++)
		s->dirty_regs.r[i]->dirty = false;
	s->dirty_dirs.len = s->dirty_regs.len = 0;
	lineage_is_written(&s->lineage);
	r->forgot_changed = false;
	members_saved(r);
	vv_clear(&r->committed);
	vv_join(&r->committed, &s->know);
	r->index_unsynced = true;
	if (r->view_held || (rc = sync_index(r)) == 0)
		return 0;

failed:
	/* All stays dirty, and nothing leaves, until it can be written. */
	if (!r->index_failed)
		log_err("the index cannot be written: %s", strerror(-rc));
	r->index_failed = true;
	return rc;
}

/* ---- the queue ---- */

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
	copy->time_ns = e->time_ns ? e->time_ns : wall_ns();
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
static void
trim_journal(struct replica *r)
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

/* ---- the loop ---- */

static void
run_calls(struct replica *r)
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
work(struct replica *r)
{
	run_calls(r);
	replica_settle_events(r);
	local_look_when_told(r);
	view_update(r);
	if (r->s->dirty_regs.len || r->s->dirty_dirs.len || r->in_transaction || r->index_unsynced) {
		if (replica_commit(r) == 0) {
			r->index_failed = false;
			link_changed(r);
		}
	}
	if (r->wants && replica_now_ms() >= r->retry_wants_ms) {
		r->retry_wants_ms = replica_now_ms() + RETRY_WANTS_MS;
		content_retry(r, true);
	}
	content_request(r);
	if (r->receiver_full)
		content_check_room(r);
	trim_journal(r);
	if (!r->queued)
		marks_turn(r, false);
	if (!r->deferred.len)
		state_trim(r->s, r->cache_regs);
}

/*
 * After a turn in a burst of changes: the next ones are left to come together,
 * and nobody wakes us for them.  Who asks does, and what other threads want.
 */
static void
gather(struct replica *r)
{
	uint64_t count;

	pthread_mutex_lock(&r->queue_lock);
	if (r->running && r->handled >= BURST && !r->questions && !r->calls) {
		r->gathering = true;
		r->gather_until_ms = replica_now_ms() + GATHER_MS;
		(void)!read(r->wake_fd, &count, sizeof(count));
	}
	r->handled = 0;
	pthread_mutex_unlock(&r->queue_lock);
}

static void
stop_gathering(struct replica *r)
{
	pthread_mutex_lock(&r->queue_lock);
	r->gathering = false;
	pthread_mutex_unlock(&r->queue_lock);
}

static int
timeout_ms(struct replica *r)
{
	int64_t now = replica_now_ms(), next = peers_next_ms(r) - now, ms = TICK_MS;

	if (r->gathering)
		return now < r->gather_until_ms ? (int)(r->gather_until_ms - now) : 0;
	if (next < ms)
		ms = next;
	if (r->deferred.len && ms > DEFERRED_MS)
		ms = DEFERRED_MS;
	if (marks_due(r) || r->looks_len)
		ms = 0;
	if (control_waiting(r) && ms > 100)
		ms = 100;
	if (forget_running(r) && ms > FORGET_TURN_MS)
		ms = FORGET_TURN_MS;
	for (struct link *l = r->links; l; l = link_next(l)) {
		int64_t wait = link_wait_ms(l);

		if (link_has_more(l))
			ms = 0;
		if (wait && wait < ms)
			ms = wait;
	}
	return ms < 0 ? 0 : (int)ms;
}

static void
add_fd(struct polled *p, int fd, short events, void *who)
{
	p->fds = mem_resize(p->fds, p->len + 1, sizeof(*p->fds));
	p->who = mem_resize(p->who, p->len + 1, sizeof(*p->who));
	p->fds[p->len] = (struct pollfd){ fd, events, 0 };
	p->who[p->len++] = who;
}

static void
serve_ready(struct replica *r, const struct polled *p)
{
	struct control_conn *c, *cnext;
	struct link *l, *lnext;

	if (p->fds[1].revents)
		control_accept(r);
	for (c = r->conns; c; c = cnext) {
		cnext = control_next(c);
		for (size_t i = 3; i < p->len; i++)
			if (p->who[i] == c && p->fds[i].revents) {
				control_ready(r, c);
				break;
			}
	}
	for (l = r->links; l; l = lnext) {
		lnext = link_next(l);
		for (size_t i = 3; i < p->len; i++)
			if (p->who[i] == l && p->fds[i].revents) {
				link_ready(l, p->fds[i].revents);
				break;
			}
	}
	for (l = r->links; l; l = link_next(l))
		if (link_has_more(l))
			link_pump(l);
}

static void
tick(struct replica *r)
{
	bool waiting = r->deferred.len || r->wants;
	int64_t now = replica_now_ms();
	struct link *l, *next;

	for (l = r->links; l; l = next) {
		next = link_next(l);
		waiting |= link_is_taking(l);
		link_tick(l, now);
	}
	if (r->staged && !waiting)
		content_clean(r);
	/* News comes in crowds, and not all at once. */
	if (now >= r->net_at_ms && netwatch_changed(&r->net)) {
		r->net_at_ms = now + NETWORK_MS;
		peers_network_changed(r);
	}
	view_retry(r, false);
	peers_tick(r, now);
	control_tick(r, now);
	forget_tick(r, now);
	if (r->sweep_due)
		content_sweep(r);
	if (now >= r->prune_at_ms) {
		r->prune_at_ms = now + PRUNE_MS;
		r->sweep_due = true;
		trash_prune(r);
	}
}

void
replica_turn(struct replica *r, int ms)
{
	struct polled *p = &r->polled;
	uint64_t count;

	p->len = 0;
	add_fd(p, r->wake_fd, POLLIN, NULL);
	add_fd(p, r->listen_fd, POLLIN, NULL);
	add_fd(p, replica_now_ms() >= r->net_at_ms ? r->net.fd : -1, POLLIN, NULL);
	for (struct control_conn *c = r->conns; c; c = control_next(c))
		add_fd(p, control_fd(c), POLLIN, c);
	for (struct link *l = r->links; l; l = link_next(l))
		add_fd(p, link_fd(l), link_events(l), l);
	if (poll(p->fds, p->len, ms) < 0 && errno != EINTR)
		log_err("poll: %s", strerror(errno));
	if (read(r->wake_fd, &count, sizeof(count)) > 0 || replica_now_ms() >= r->gather_until_ms)
		stop_gathering(r);
	if (!r->gathering)
		work(r);
	serve_ready(r, p);
	if (!r->gathering)
		work(r);
	tick(r);
	if (!r->gathering)
		gather(r);
}

/* Who uses the mount comes first where processors are few: it is not interrupted
 * for us, nor for the links, which inherit this. */
static void
stand_back(void)
{
	const struct sched_param none = { 0 };

	pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
	(void)!setpriority(PRIO_PROCESS, 0, NICE);	/* on Linux the thread's own */
}

static void *
thread_main(void *arg)
{
	struct replica *r = arg;

	pthread_setname_np(pthread_self(), "sibfs-replica");
	stand_back();
	while (!r->stopping)
		replica_turn(r, timeout_ms(r));
	work(r);
	marks_turn(r, true);
	return NULL;
}

/* ---- starting and stopping ---- */

void
replica_attach(struct replica *r, const struct replica_view *view, const char *mountpoint)
{
	r->view = view;
	r->mountpoint = mem_str(mountpoint);
	if (view) {
		r->disk.open_dir = view->open_dir;
		r->disk.open_ctx = view->ctx;
	}
	peers_reload(r);
}

int
replica_start(struct replica *r, const struct replica_view *view, const char *mountpoint)
{
	int rc;

	r->listen_fd = control_listen(r->dev, r->ino);
	if (r->listen_fd < 0)
		return r->listen_fd;
	netwatch_open(&r->net);
	replica_attach(r, view, mountpoint);
	fork_say_last(r);
	if ((rc = hasher_start(r)) < 0)
		return rc;
	r->running = true;
	rc = pthread_create(&r->thread, NULL, thread_main, r);
	if (rc != 0) {
		r->running = false;
		return -rc;
	}
	return 0;
}

static void
stop_call(struct replica *r, void *arg)
{
	(void)arg;
	r->stopping = true;
}

void
replica_detach(struct replica *r)
{
	while (r->links) {
		link_close(r->links, "unreachable", "this end stops");
		link_tick(r->links, replica_now_ms());
	}
	control_close_all(r);
	r->view = NULL;
	r->disk.open_dir = NULL;
	replica_commit(r);
}

void
replica_stop(struct replica *r)
{
	if (!r->running)
		return;
	replica_call(r, stop_call, NULL);
	pthread_join(r->thread, NULL);
	r->running = false;
	hasher_stop(r);
	run_calls(r);
	hasher_free(r, local_hash_now);
	control_unlink(r->dev, r->ino);
	netwatch_close(&r->net);
	replica_detach(r);
	close(r->listen_fd);
	r->listen_fd = -1;
	r->stopping = false;
}

void
replica_on_quit(struct replica *r, void (*stop)(void *arg), void *arg)
{
	r->quit_fn = stop;
	r->quit_arg = arg;
}

struct served {
	int fd;
	char *peer;
	bool read_only;
	void (*closed)(void *arg);
	void *arg;
};

static void
serve_call(struct replica *r, void *arg)
{
	struct served *q = arg;

	link_on_close(link_new(r, q->fd, NULL, q->peer, q->read_only), q->closed, q->arg);
	free(q->peer);
	free(q);
}

int
replica_serve(struct replica *r, int fd, const char *peer, bool read_only, void (*closed)(void *arg), void *arg)
{
	struct served *q = mem_alloc(sizeof(*q));

	*q = (struct served){ fd, mem_str(peer), read_only, closed, arg };
	replica_call(r, serve_call, q);
	return 0;
}

/* ---- small ones ---- */

int
replica_root_fd(const struct replica *r)
{
	return r->root_fd;
}

void
replica_view_lock(struct replica *r)
{
	pthread_rwlock_rdlock(&r->view_lock);
}

void
replica_view_unlock(struct replica *r)
{
	pthread_rwlock_unlock(&r->view_lock);
}

char *
replica_report(struct replica *r, const char *cmd)
{
	json_t *answer_json = json_object();
	char *text;

	json_object_set_new(answer_json, "ok", json_true());
	peers_reload(r);
	if (strcmp(cmd, "status") == 0)
		json_object_set_new(answer_json, "status", report_status(r));
	else
		json_object_set_new(answer_json, "conflicts", report_conflicts(r));
	text = json_dumps(answer_json, JSON_COMPACT);
	json_decref(answer_json);
	return text;
}
