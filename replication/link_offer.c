/*
 * Offers: before a replica first tells of directories that nobody has heard of
 * yet, it asks whether the peer shows others under their names, and lets them
 * be those.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/link_impl.h"

void
link_forget_offer(struct link *l)
{
	for (size_t i = 0; i < l->offered_len; i++)
		free(l->offered[i]);
	free(l->offered);
	free(l->offered_dirs);
	l->offered = NULL;
	l->offered_dirs = NULL;
	l->offered_len = 0;
}

struct offer {
	char *path;
	struct dir *dir;
};

static int
by_path(const void *a, const void *b)
{
	return strcmp(((const struct offer *)a)->path, ((const struct offer *)b)->path);
}

/* All that may be offered, those above first. */
static struct offer *
collect_offers(struct link *l, size_t *n)
{
	struct offer *all = NULL;
	struct dir *d, *tmp;

	*n = 0;
	HASH_ITER(hh, l->r->s->dirs, d, tmp) {
		if (!take_may_offer(l->r->s, d))
			continue;
		all = mem_resize(all, *n + 1, sizeof(*all));
		all[(*n)++] = (struct offer){ take_path(d), d };
	}
	if (*n)
		qsort(all, *n, sizeof(*all), by_path);
	return all;
}

/* Offers what nobody has heard of, as much as one message holds.  True: an
 * answer is awaited. */
bool
link_send_offer(struct link *l)
{
	Sibfs__Wire__Offer m = SIBFS__WIRE__OFFER__INIT;
	struct offer *all;
	size_t n, bytes = 0;
	FRAME(f, OFFER, &m);

	if (l->offer_out)
		return true;
	if (!l->r->s->untold)
		return false;
	/* What may only read does not decide which directory ours are. */
	if (l->read_only) {
		take_told(l->r->s);
		return false;
	}
	link_forget_offer(l);
	all = collect_offers(l, &n);
	if (!n) {
		take_told(l->r->s);
		return false;
	}
	f.offer = &m;
	m.paths = mem_resize(NULL, n, sizeof(*m.paths));
	l->offered = mem_resize(NULL, n, sizeof(*l->offered));
	l->offered_dirs = mem_resize(NULL, n, sizeof(*l->offered_dirs));
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(all[i].path);

		if (m.n_paths == OFFER_MAX || bytes + len > OFFER_BYTES) {
			free(all[i].path);
			continue;
		}
		bytes += len;
		m.paths[m.n_paths++] = (ProtobufCBinaryData){ len, (uint8_t *)all[i].path };
		l->offered[l->offered_len] = all[i].path;
		l->offered_dirs[l->offered_len++] = all[i].dir;
	}
	m.first = l->offer_in != NULL;
	l->offer_out = true;
	link_send_frame(l, &f, true);
	free(m.paths);
	free(all);
	return true;
}

static void
answer_offer(struct link *l, const Sibfs__Wire__Offer *in)
{
	Sibfs__Wire__Answer m = SIBFS__WIRE__ANSWER__INIT;
	struct dirs above = { 0 };
	FRAME(f, ANSWER, &m);

	f.answer = &m;
	m.index = mem_resize(NULL, in->n_paths + 1, sizeof(*m.index));
	m.dirs = mem_resize(NULL, in->n_paths + 1, sizeof(*m.dirs));
	for (size_t i = 0; i < in->n_paths; i++) {
		char *path = mem_alloc(in->paths[i].len + 1);
		struct dir *d;

		memcpy(path, in->paths[i].data, in->paths[i].len);
		d = take_answer(l->r->s, path);
		free(path);
		if (!d)
			continue;
		/* A peer has heard of it now: it keeps its identity. */
		take_told_one(l->r->s, d);
		link_add_dir(l, &above, d->birth.up, true);
		for (uint32_t j = 0; j < d->val.moves_len; j++) {
			link_add_dir(l, &above, d->val.moves[j].to.up, true);
			link_add_dir(l, &above, d->val.moves[j].from.up, true);
		}
		m.index[m.n_index++] = (uint32_t)i;
		m.dirs[m.n_dirs++] = wire_directory(d);
	}
	m.above = above.d;
	m.n_above = above.len;
	replica_commit(l->r);
	link_send_frame(l, &f, true);
	for (size_t i = 0; i < m.n_dirs; i++)
		sibfs__wire__directory__free_unpacked(m.dirs[i], NULL);
	free(m.dirs);
	free(m.index);
	link_free_dirs(&above);
}

int
link_get_offer(struct link *l, Frame **f)
{
	Sibfs__Wire__Offer *in = (*f)->offer;

	if (in->n_paths > OFFER_MAX)
		return -EBADMSG;
	/* Ours goes first: what we adopt may be what they offer. */
	if (!l->offer_out && !l->offer_in && l->r->s->untold) {
		l->offer_in = *f;
		*f = NULL;
		if (link_send_offer(l))
			return 0;
		*f = l->offer_in;
		l->offer_in = NULL;
	} else if (l->offer_out && !in->first && l->r->s->self > l->id && !l->offer_in) {
		l->offer_in = *f;	/* both at once: theirs waits */
		*f = NULL;
		return 0;
	}
	answer_offer(l, in);
	return 0;
}

/* One directory that they show where ours, unheard of, stands. */
static int
adopt(struct link *l, const char *path, const Sibfs__Wire__Directory *m)
{
	struct state *s = l->r->s;
	struct dirval val;
	struct place birth, place;
	struct disk_dir *dd;
	struct dir *d;
	uint32_t k;
	bool news;
	int rc = wire_get_directory(s, m, &birth, &k, &val);

	if (rc == -ENOENT)
		return 0;		/* what is above it is not shown alike */
	if (rc < 0)
		return rc;
	place = birth;
	for (uint32_t i = 0; i < val.moves_len; i++) {
		struct dir probe = { .birth = birth, .val = val };

		place = dir_place(&probe);
	}
	if (take_adopt(s, path, birth, k, place)) {
		d = take_dir(s, birth, k, &val, NULL, &news);
		dd = disk_of(d);
		if (dd)
			disk_mark_dir(l->r, dd);
	}
	free(birth.name);
	dirval_fini(&val);
	return 0;
}

int
link_get_answer(struct link *l, const Sibfs__Wire__Answer *m)
{
	int rc;

	if (!l->offer_out || m->n_index != m->n_dirs)
		return -EBADMSG;
	view_hold(l->r);
	rc = link_take_dirs(l, m->above, m->n_above, NULL);
	for (size_t i = 0; i < m->n_index && rc == 0; i++)
		rc = m->index[i] >= l->offered_len ? -EBADMSG :
		    adopt(l, l->offered[m->index[i]], m->dirs[i]);
	link_settle_taken(l);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < l->offered_len; i++)
		take_told_one(l->r->s, l->offered_dirs[i]);
	link_forget_offer(l);
	l->offer_out = false;
	replica_commit(l->r);
	if (l->offer_in) {
		answer_offer(l, l->offer_in->offer);
		sibfs__wire__frame__free_unpacked(l->offer_in, NULL);
		l->offer_in = NULL;
	}
	return 0;
}
