/*
 * Content that is not here: who waits for it, whom it is asked of, and what
 * comes of that.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/chunk.h"
#include "replication/content_impl.h"

#define WANTS_PER_LINK 64

static struct want *
want_find(struct replica *r, const struct hash *h)
{
	struct want *w;

	HASH_FIND(hh, r->wants, h, sizeof(*h), w);
	return w;
}

static void
add_waiter(struct want *w, const struct reg *reg)
{
	for (size_t i = 0; i < w->waiters_len; i++)
		if (w->waiters[i].dir_num == reg->dir->num && strcmp(w->waiters[i].name, reg_name(reg)) == 0)
			return;
	w->waiters = mem_resize(w->waiters, w->waiters_len + 1, sizeof(*w->waiters));
	w->waiters[w->waiters_len++] = (struct waiter){ reg->dir->num, mem_str(reg_name(reg)) };
}

static void
want_add(struct replica *r, const struct reg *reg, const struct version *v, uint64_t from)
{
	struct want *w = want_find(r, &v->hash);
	char name[80], part[90];
	struct stat st;

	if (!w) {
		w = mem_alloc(sizeof(*w));
		w->hash = v->hash;
		w->size = v->size;
		w->fd = -1;
		content_hex(&v->hash, name);
		snprintf(part, sizeof(part), "%s.part", name);
		if (fstatat(r->staging_fd, part, &st, 0) == 0)
			w->have = (uint64_t)st.st_size;
		HASH_ADD(hh, r->wants, hash, sizeof(w->hash), w);
		r->wants_sorted = false;
	}
	add_waiter(w, reg);
	if (from) {
		w->from = from;
		w->failed = false;
		w->refused = 0;
	}
}

/* It came, or will not. */
static void
release(struct want *w)
{
	if (w->link)
		link_released(w->link);
	w->link = NULL;
}

static void
want_free(struct replica *r, struct want *w)
{
	release(w);
	if (w->fd >= 0)
		close(w->fd);
	for (size_t i = 0; i < w->waiters_len; i++)
		free(w->waiters[i].name);
	free(w->waiters);
	HASH_DEL(r->wants, w);
	free(w);
}

void
content_fetch(struct replica *r, const struct reg *reg, const struct version *v)
{
	want_add(r, reg, v, v->dot.id);
}

/* Those who waited may show now, if they wait for nothing else. */
static void
wake_waiters(struct replica *r, struct want *w)
{
	for (size_t i = 0; i < w->waiters_len; i++) {
		struct dir *d = state_dir_num(r->s, w->waiters[i].dir_num);
		struct reg *reg = d ? state_reg(r->s, d, w->waiters[i].name, false) : NULL;

		if (reg && reg->pending)
			view_defer(r, reg);
		else if (reg)
			state_touch_reg(r->s, reg);
	}
}

/* Does the register show a file of that content already? */
static bool
stands_in(const struct reg *reg, const struct hash *h)
{
	for (uint32_t i = 0; i < reg->files_len; i++)
		if (hash_compare(&reg->files[i].hash, h) == 0)
			return true;
	return false;
}

bool
content_ready(struct replica *r, struct reg *reg, uint64_t from)
{
	bool ready = true;

	for (uint32_t i = 0; i < reg->pending->len; i++) {
		const struct version *v = &reg->pending->v[i];

		if (stands_in(reg, &v->hash) || content_staged(r, &v->hash) || content_stage_from_here(r, &v->hash))
			continue;
		want_add(r, reg, v, from);
		ready = false;
	}
	return ready;
}

/* It has all come: rc says whether it is what was announced. */
static void
settle_want(struct replica *r, struct want *w, int rc)
{
	char name[80], part[90];
	struct hash h = w->hash;

	content_hex(&h, name);
	snprintf(part, sizeof(part), "%s.part", name);
	w->checking = false;
	if (rc == 0 && renameat(r->staging_fd, part, r->staging_fd, name) < 0)
		rc = -errno;
	if (rc < 0) {
		log_warn("content that came is not what was announced (%s): fetched again", strerror(-rc));
		unlinkat(r->staging_fd, part, 0);
		content_failed(r, w);
		w->have = 0;
		return;
	}
	content_staged_add(r, &h);
	wake_waiters(r, w);
	want_free(r, w);
}

static void
checked(struct replica *r, struct hash_job *j)
{
	struct want *w = want_find(r, &j->expected);

	if (w && w->checking)
		settle_want(r, w, j->rc < 0 ? j->rc : hash_compare(&j->hash, &j->expected) == 0 ? 0 : -EBADMSG);
}

static bool
is_link(int fd, const struct hash *h)
{
	char target[4096];
	ssize_t n = pread(fd, target, sizeof(target), 0);
	struct hash link;

	if (n < 0)
		return false;
	chunk_link_hash(target, (size_t)n, &link);
	return hash_compare(&link, h) == 0;
}

static void
complete(struct replica *r, struct want *w)
{
	struct chunk_list l;
	int rc;

	release(w);
	if (r->hasher && w->have > HASHER_WORTH) {
		struct hash_job *j = mem_alloc(sizeof(*j));

		j->fd = w->fd;
		w->fd = -1;
		j->sync = true;
		j->done = checked;
		j->expected = w->hash;
		w->checking = true;
		hasher_add(r, j);
		return;
	}
	rc = fdatasync(w->fd) < 0 ? -errno : chunk_file(w->fd, false, &l);
	if (rc == 0 && hash_compare(&l.hash, &w->hash) != 0 && !is_link(w->fd, &w->hash))
		rc = -EBADMSG;
	settle_want(r, w, rc);
}

void
content_received(struct replica *r, struct want *w, uint64_t offset, const void *p, size_t len, bool last)
{
	char name[80], part[90];
	int rc = 0;

	if (w->fd < 0) {
		content_hex(&w->hash, name);
		snprintf(part, sizeof(part), "%s.part", name);
		w->fd = openat(r->staging_fd, part, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (w->fd < 0)
			rc = -errno;
	}
	if (rc == 0 && offset != w->have)
		rc = -EBADMSG;
	if (rc == 0)
		rc = content_write_all(w->fd, p, len, offset);
	if (rc < 0) {
		if (rc == -ENOSPC || rc == -EDQUOT) {
			if (!r->receiver_full)
				log_err("no room for what peers send: it goes on when there is");
			r->receiver_full = true;
			w->full = true;
			r->retry_wants_ms = replica_now_ms() + 2000;
		}
		if (w->link)
			link_unwant(w->link, w);
		content_failed(r, w);
		return;
	}
	w->have += len;
	if (last)
		complete(r, w);
}

void
content_failed(struct replica *r, struct want *w)
{
	(void)r;
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
	release(w);
	w->failed = true;
}

void
content_drop_link(struct replica *r, struct link *l)
{
	struct want *w, *tmp;

	HASH_ITER(hh, r->wants, w, tmp)
		if (w->link == l) {
			if (w->fd >= 0)
				close(w->fd);
			w->fd = -1;
			release(w);
		}
}

static int
by_size(struct want *a, struct want *b)
{
	return (a->size > b->size) - (a->size < b->size);
}

static bool
may_ask(const struct peer *p)
{
	return p->link && link_is_up(p->link) && link_wanted(p->link) < WANTS_PER_LINK;
}

/* Of the peer that told of it, and if that has it no more, of the others in turn. */
static void
ask_someone(struct want *w, struct peer *peers)
{
	unsigned skip = w->refused;

	for (int others = 0; others <= 1; others++)
		for (struct peer *p = peers; p; p = p->next) {
			if (!p->link || !link_is_up(p->link) || (link_peer_id(p->link) != w->from) != others)
				continue;
			if (skip) {
				skip--;
				continue;
			}
			if (may_ask(p) && link_want(p->link, w)) {
				w->link = p->link;
				return;
			}
			if (!others)
				return;		/* when its turn comes */
		}
}

/*
 * Asks for what is wanted, small ones first; of each peer only so much at once,
 * so that one that is slow does not take the turn of the others.
 */
void
content_request(struct replica *r)
{
	struct want *w, *tmp;
	bool room = false;

	for (struct peer *p = r->peers; p && !room; p = p->next)
		room = may_ask(p);
	if (!r->wants || !room)
		return;
	if (!r->wants_sorted)
		HASH_SORT(r->wants, by_size);
	r->wants_sorted = true;
	HASH_ITER(hh, r->wants, w, tmp) {
		if (w->link || w->failed || w->checking)
			continue;
		ask_someone(w, r->peers);
		room = false;
		for (struct peer *p = r->peers; p && !room; p = p->next)
			room = may_ask(p);
		if (!room)
			return;
	}
}

/* The peer that was asked does not have it: the next one is. */
void
content_refused(struct replica *r, struct want *w)
{
	unsigned linked = 0;

	for (struct peer *p = r->peers; p; p = p->next)
		linked += p->link && link_is_up(p->link);
	content_failed(r, w);
	if (++w->refused < linked)
		w->failed = false;
	else
		w->refused = 0;
}

/* Does any register that asked for it still need it? */
static bool
still_wanted(struct replica *r, const struct want *w)
{
	for (size_t i = 0; i < w->waiters_len; i++) {
		struct dir *d = state_dir_num(r->s, w->waiters[i].dir_num);
		struct reg *reg = d ? state_reg(r->s, d, w->waiters[i].name, false) : NULL;

		if (reg && reg->pending && regval_has(reg->pending, &w->hash))
			return true;
	}
	return false;
}

void
content_retry(struct replica *r, bool all)
{
	struct want *w, *tmp;

	HASH_ITER(hh, r->wants, w, tmp) {
		if (!w->failed)
			continue;
		if (!still_wanted(r, w)) {
			/* Newer content took its place; what names still show of
			 * it, and have not, they ask for again. */
			if (all)
				wake_waiters(r, w);
			want_free(r, w);
		} else if (all) {
			w->failed = w->full = false;
		}
	}
}

uint64_t
content_wanted(struct replica *r, uint64_t *bytes)
{
	struct want *w, *tmp;
	uint64_t n = 0;

	*bytes = 0;
	HASH_ITER(hh, r->wants, w, tmp) {
		n++;
		*bytes += w->size > w->have ? w->size - w->have : 0;
	}
	return n;
}
