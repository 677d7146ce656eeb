/*
 * A running replica, from its start to its end: its thread, and what that does in
 * each turn of its loop.
 */
#include "config.h"

#include "replication/replica.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "replication/clock.h"
#include "replication/control.h"
#include "replication/replica_fork.h"
#include "replication/replica_impl.h"

#define TICK_MS 1000
#define DEFERRED_MS 30
#define RETRY_WANTS_MS 3000
#define NETWORK_MS 1000
#define PRUNE_MS 600000
#define NICE 3

/* A turn that found so many changes by users is in the midst of more: those of
 * this time come together in the next, as each turn ends with a commit. */
#define BURST 8
#define GATHER_MS 20

int64_t
replica_now_ms(void)
{
	return clock_ms();
}

/* ---- the loop ---- */

static void
work(struct replica *r)
{
	replica_run_calls(r);
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
	replica_trim_journal(r);
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
	replica_run_calls(r);
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
