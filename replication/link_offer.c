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

static void
free_offers(struct offer *o, size_t n)
{
	while (n)
		free(o[--n].path);
	free(o);
}

void
link_forget_offer(struct link *l)
{
	free_offers(l->offered, l->offered_len);
	l->offered = NULL;
	l->offered_len = 0;
}

/* How many of them one message holds. */
static size_t
fitting(const struct offer *all, size_t n)
{
	size_t bytes = 0;

	for (size_t i = 0; i < n; i++) {
		bytes += strlen(all[i].path);
		if (i == OFFER_MAX || bytes > OFFER_BYTES)
			return i;
	}
	return n;
}

/* Offers what nobody has heard of, as much as one message holds.  True: an
 * answer is awaited. */
bool
link_send_offer(struct link *l)
{
	Sibfs__Wire__Offer m = SIBFS__WIRE__OFFER__INIT;
	size_t n;
	FRAME(f, OFFER, &m);

	if (l->offer_out)
		return true;
	if (!l->r->s->untold)
		return false;
	link_forget_offer(l);
	/* What may only read does not decide which directory ours are. */
	if (!l->read_only) {
		l->offered = exchange_offers(l->r->s, &n);
		l->offered_len = fitting(l->offered, n);
		for (size_t i = l->offered_len; i < n; i++)
			free(l->offered[i].path);
	}
	if (!l->offered_len) {
		link_forget_offer(l);
		take_told(l->r->s);
		return false;
	}
	f.offer = &m;
	m.paths = mem_resize(NULL, l->offered_len, sizeof(*m.paths));
	for (; m.n_paths < l->offered_len; m.n_paths++) {
		char *path = l->offered[m.n_paths].path;

		m.paths[m.n_paths] = (ProtobufCBinaryData){ strlen(path), (uint8_t *)path };
	}
	m.first = l->offer_in != NULL;
	l->offer_out = true;
	link_send_frame(l, &f, true);
	free(m.paths);
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
		struct dir *d = exchange_answer(l->r->s, &in->paths[i]);

		if (!d)
			continue;
		exchange_add_above(l->r->s, &l->told, link_peer_has(l), &above, d);
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
	exchange_free_dirs(&above);
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
	struct dir *d;
	int rc = exchange_adopt(l->r->s, path, m, &d);

	if (rc == 0 && d && disk_of(d))
		marks_dir(l->r, disk_of(d));
	return rc;
}

int
link_get_answer(struct link *l, const Sibfs__Wire__Answer *m)
{
	int rc;

	if (!l->offer_out || m->n_index != m->n_dirs)
		return -EBADMSG;
	view_hold(l->r);
	rc = exchange_take_dirs(l->r->s, m->above, m->n_above, l->number, NULL, &l->taken_dirs);
	for (size_t i = 0; i < m->n_index && rc == 0; i++)
		rc = m->index[i] >= l->offered_len ? -EBADMSG :
		    adopt(l, l->offered[m->index[i]].path, m->dirs[i]);
	link_settle_taken(l);
	if (rc < 0)
		return rc;
	exchange_told_offers(l->r->s, l->offered, l->offered_len);
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
