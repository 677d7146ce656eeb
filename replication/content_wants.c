/*
 * Content that is not here: who waits for it, whom it is asked of, what came.
 * Small ones come whole, from where a broken link left them; large ones by
 * chunks (fetch.c).
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/content_impl.h"
#include "replication/relay.h"

#define WANTS_PER_LINK 64
#define FETCHES_PER_LINK 4
#define RETRY_FULL_MS 2000

/* ---- the table ---- */

struct want *
content_want(struct replica *r, const struct hash *h)
{
	struct want *w;

	HASH_FIND(hh, r->wants, h, sizeof(*h), w);
	return w;
}

struct want *
content_want_by_id(struct replica *r, uint64_t id, const struct link *l)
{
	struct want *w;

	HASH_FIND(hh_id, r->wants_by_id, &id, sizeof(id), w);
	return w && w->link == l ? w : NULL;
}

static void
part_name(const struct hash *h, char *out)
{
	lists_name(h, out);
	strcat(out, ".part");
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

static struct want *
want_new(struct replica *r, const struct hash *h, uint64_t size)
{
	struct want *w = mem_alloc(sizeof(*w));
	char part[CONTENT_NAME_MAX];
	struct stat st;

	w->hash = *h;
	w->size = size;
	w->number = ++r->wants_made;
	w->fd = -1;
	part_name(h, part);
	/* What came by chunks has holes: its length says nothing. */
	if (w->size <= CONTENT_WHOLE_MAX && fstatat(r->staging_fd, part, &st, 0) == 0)
		w->have = (uint64_t)st.st_size;
	HASH_ADD(hh, r->wants, hash, sizeof(w->hash), w);
	r->wants_sorted = false;
	return w;
}

void
content_want_relayed(struct replica *r, const struct hash *h, uint64_t size, unsigned hops, uint64_t not_of)
{
	struct want *w = want_new(r, h, size);

	w->relayed = true;
	w->hops = hops;
	w->not_of = not_of;
}

void
content_want_add(struct replica *r, const struct reg *reg, const struct version *v, uint64_t from)
{
	struct want *w = content_want(r, &v->hash);

	if (!w)
		w = want_new(r, &v->hash, v->size);
	add_waiter(w, reg);
	/* What we want ourselves is asked of everyone, also of the peer for whom it was
	 * to be fetched: that one may have it by now. */
	w->relayed = false;
	if (from) {
		w->from = from;
		w->failed = false;
		w->refused = 0;
	}
}

void
content_release(struct replica *r, struct want *w)
{
	if (w->link)
		link_released(w->link, w);
	if (w->id)
		HASH_DELETE(hh_id, r->wants_by_id, w);
	w->id = 0;
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
	if (w->fetch)
		fetch_stop(r, w);
}

void
content_want_free(struct replica *r, struct want *w)
{
	content_release(r, w);
	if (w->fetch)
		fetch_drop(r, w);
	for (size_t i = 0; i < w->waiters_len; i++)
		free(w->waiters[i].name);
	free(w->waiters);
	HASH_DEL(r->wants, w);
	free(w);
}

void
content_fetch(struct replica *r, const struct reg *reg, const struct version *v)
{
	content_want_add(r, reg, v, v->dot.id);
}

/* Those who waited may show now, if they wait for nothing else. */
static void
wake_waiters(struct replica *r, struct want *w)
{
	for (size_t i = 0; i < w->waiters_len; i++) {
		struct reg *reg = state_reg_in(r->s, w->waiters[i].dir_num, w->waiters[i].name);

		if (reg && reg->pending)
			view_defer(r, reg);
		else if (reg)
			state_touch_reg(r->s, reg);
	}
}

/* ---- what came ---- */

void
content_settle(struct replica *r, struct want *w, int rc)
{
	char name[CONTENT_NAME_MAX], part[CONTENT_NAME_MAX];
	struct hash h = w->hash;

	lists_name(&h, name);
	part_name(&h, part);
	w->checking = false;
	if (rc == 0 && renameat(r->staging_fd, part, r->staging_fd, name) < 0)
		rc = -errno;
	if (rc < 0) {
		log_warn("content that came is not what was announced (%s): fetched again", strerror(-rc));
		unlinkat(r->staging_fd, part, 0);
		content_failed(r, w);
		if (w->fetch)
			fetch_drop(r, w);
		w->have = 0;
		return;
	}
	content_staged_add(r, &h);
	wake_waiters(r, w);
	content_want_free(r, w);
	relay_settle(r, &h);
}

static void
checked(struct replica *r, struct hash_job *j)
{
	struct want *w = content_want(r, &j->expected);

	if (w && w->checking)
		content_settle(r, w, j->rc < 0 ? j->rc : hash_compare(&j->hash, &j->expected) == 0 ? 0 : -EBADMSG);
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

	if (r->hasher && w->have > HASHER_WORTH) {
		struct hash_job *j = mem_alloc(sizeof(*j));

		j->fd = w->fd;
		w->fd = -1;
		j->sync = true;
		j->done = checked;
		j->lists_fd = r->chunks_fd;
		j->expected = w->hash;
		w->checking = true;
		content_release(r, w);
		hasher_add_exchange(r, j);
		return;
	}
	rc = chunk_file(w->fd, false, &l);
	if (rc == 0 && hash_compare(&l.hash, &w->hash) != 0 && !is_link(w->fd, &w->hash))
		rc = -EBADMSG;
	content_settle(r, w, rc);
}

static void
no_room(struct replica *r, struct want *w)
{
	if (!r->receiver_full)
		log_err("no room for what peers send: it goes on when there is");
	r->receiver_full = true;
	w->full = true;
	w->failed = true;
	r->retry_wants_ms = replica_now_ms() + RETRY_FULL_MS;
}

void
content_unwritable(struct replica *r, struct want *w, int rc)
{
	if (rc == -ENOSPC || rc == -EDQUOT)
		no_room(r, w);
	if (w->link)
		link_unwant(w->link, w);
	content_failed(r, w);
}

void
content_received(struct replica *r, struct want *w, uint64_t offset, const void *p, size_t len, bool last)
{
	char part[CONTENT_NAME_MAX];
	int rc = 0;

	link_arrived(w->link, w, len);
	w->nowhere = false;
	if (w->fetch && w->fetch->outlined) {
		fetch_got_data(r, w, offset, p, len);
		return;
	}
	if (w->fetch) {
		/* A peer that does not know of outlines sends all of it. */
		fetch_drop(r, w);
		w->whole = true;
		w->have = 0;
	}
	if (w->fd < 0) {
		part_name(&w->hash, part);
		w->fd = openat(r->staging_fd, part, O_RDWR | O_CREAT | (offset ? 0 : O_TRUNC) | O_CLOEXEC, 0600);
		if (w->fd < 0)
			rc = -errno;
	}
	if (rc == 0 && offset != w->have)
		rc = -EBADMSG;
	if (rc == 0)
		rc = content_write(w->fd, p, len, offset);
	if (rc < 0) {
		content_unwritable(r, w, rc);
		return;
	}
	w->have += len;
	if (last)
		complete(r, w);
}

void
content_failed(struct replica *r, struct want *w)
{
	content_release(r, w);
	w->failed = true;
}

/* Can p be asked for it? */
static bool
is_candidate(const struct want *w, const struct peer *p)
{
	return p->link && link_is_up(p->link) && !(w->relayed && link_peer_id(p->link) == w->not_of);
}

/* The peer that was asked does not have it: the next one is. */
void
content_refused(struct replica *r, struct want *w)
{
	struct hash h = w->hash;
	unsigned linked = 0;

	for (struct peer *p = r->peers; p; p = p->next)
		linked += is_candidate(w, p);
	content_failed(r, w);
	if (++w->refused < linked) {
		w->failed = false;
		return;
	}
	w->refused = 0;
	w->nowhere = true;
	if (w->relayed)
		content_want_free(r, w);
	relay_settle(r, &h);
}

void
content_drop_link(struct replica *r, struct link *l)
{
	struct want *w, *tmp;

	HASH_ITER(hh, r->wants, w, tmp)
		if (w->link == l && w->relayed)
			content_refused(r, w);
		else if (w->link == l)
			content_release(r, w);
}

/* ---- asking ---- */

static int
by_size(struct want *a, struct want *b)
{
	return (a->size > b->size) - (a->size < b->size);
}

static bool
comes_by_chunks(const struct want *w)
{
	return w->size > CONTENT_WHOLE_MAX && w->size <= (uint64_t)OUTLINE_CHUNKS_MAX * CHUNK_MIN && !w->whole;
}

static bool
may_ask(const struct peer *p)
{
	return p->link && link_is_up(p->link) && link_wanted(p->link) < WANTS_PER_LINK && link_room(p->link);
}

/* Only a few large ones of one peer at a time. */
static bool
is_fetching(const struct replica *r, const struct link *l)
{
	unsigned n = 0;

	for (const struct fetch *f = r->fetches; f; f = f->next)
		n += f->w && f->w->link == l;
	return n >= FETCHES_PER_LINK;
}

/* What is on its way has its room already, as it were. */
static bool
fits(struct replica *r, const struct want *w)
{
	uint64_t bytes = w->size > w->have ? w->size - w->have : 0;
	const struct want *other;

	for (other = r->wants_by_id; other; other = other->hh_id.next)
		bytes += other->size > other->have ? other->size - other->have : 0;
	return content_fits(r, bytes);
}

static void
ask(struct replica *r, struct want *w, struct link *l)
{
	if (!fits(r, w)) {
		no_room(r, w);
		return;
	}
	link_taken_on(l, w);
	if (comes_by_chunks(w))
		fetch_start(r, w);
	else if (link_want(l, w, LINK_WANT_WHOLE))
		link_asked(l, w, w->size > w->have ? w->size - w->have : 0);
}

/* Of the peer that told of it, and if that has it no more, of the others in turn. */
static void
ask_someone(struct replica *r, struct want *w)
{
	unsigned skip = w->refused;

	for (int others = 0; others <= 1; others++)
		for (struct peer *p = r->peers; p; p = p->next) {
			if (!is_candidate(w, p) || (link_peer_id(p->link) != w->from) != others)
				continue;
			if (skip) {
				skip--;
				continue;
			}
			if (may_ask(p) && !(comes_by_chunks(w) && is_fetching(r, p->link))) {
				ask(r, w, p->link);
				return;
			}
			if (!others)
				return;		/* when its turn comes */
		}
}

static bool
has_room(const struct replica *r)
{
	for (const struct peer *p = r->peers; p; p = p->next)
		if (may_ask(p))
			return true;
	return false;
}

/*
 * Asks for what is wanted, small ones first; of each peer only so much at once,
 * so that one that is slow does not take the turn of the others.
 */
void
content_request(struct replica *r)
{
	struct want *w, *tmp;

	if (!r->wants || !has_room(r))
		return;
	if (!r->wants_sorted)
		HASH_SORT(r->wants, by_size);
	r->wants_sorted = true;
	HASH_ITER(hh, r->wants, w, tmp) {
		if (w->link && w->fetch)
			fetch_more(r, w);
		else if (!w->link && !w->failed && !w->checking)
			ask_someone(r, w);
		if (!has_room(r))
			return;
	}
}

/* ---- what is not needed any more ---- */

bool
content_still_wanted(struct replica *r, const struct want *w)
{
	for (size_t i = 0; i < w->waiters_len; i++) {
		struct reg *reg = state_reg_in(r->s, w->waiters[i].dir_num, w->waiters[i].name);

		if (reg && reg->pending && regval_has(reg->pending, &w->hash) && !ignore_reg(r, reg))
			return true;
	}
	return relay_waits(r, &w->hash);
}

void
content_retry(struct replica *r, bool all)
{
	struct want *w, *tmp;

	HASH_ITER(hh, r->wants, w, tmp) {
		if (!w->failed)
			continue;
		if (!content_still_wanted(r, w)) {
			/* Newer content took its place; what names still show of
			 * it, and have not, they ask for again. */
			if (all)
				wake_waiters(r, w);
			content_want_free(r, w);
		} else if (all) {
			w->failed = w->full = false;
		}
	}
}

void
content_check_room(struct replica *r)
{
	struct want *w, *tmp;

	HASH_ITER(hh, r->wants, w, tmp)
		if (w->full || (!w->link && !w->checking))
			return;
	log_info("there is room for what peers send again");
	r->receiver_full = false;
}

uint64_t
content_wanted(struct replica *r, uint64_t *bytes)
{
	struct want *w, *tmp;
	uint64_t n = 0;

	*bytes = 0;
	HASH_ITER(hh, r->wants, w, tmp) {
		if (!w->waiters_len)
			continue;	/* a peer's */
		n++;
		*bytes += w->size > w->have ? w->size - w->have : 0;
	}
	return n;
}

void
content_nowhere(struct replica *r, void (*fn)(void *arg, const struct reg *reg), void *arg)
{
	struct want *w, *tmp;

	HASH_ITER(hh, r->wants, w, tmp)
		for (size_t i = 0; w->nowhere && i < w->waiters_len; i++) {
			struct reg *reg = state_reg_in(r->s, w->waiters[i].dir_num, w->waiters[i].name);

			if (reg && reg->pending && regval_has(reg->pending, &w->hash))
				fn(arg, reg);
		}
}
