/*
 * Outlines over a link: what large contents are made of, told and taken.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/content_impl.h"
#include "replication/link_impl.h"

/* ---- telling ---- */

/* Makes a list on the hasher's thread; then tells it, if the link still stands. */
struct list_job {
	struct hash_job job;
	struct link *l;		/* may be gone: compared, not followed */
	uint64_t id;
	int lists_fd;
};

static void
run_list(struct hash_job *j)
{
	struct list_job *q = (struct list_job *)j;
	struct chunk_list l;

	j->rc = lists_of(q->lists_fd, &j->expected, j->fd, &l);
	if (j->rc == 0)
		chunk_list_fini(&l);
}

void
link_give_up(struct link *l, struct serving *v)
{
	Sibfs__Wire__Gone gone = SIBFS__WIRE__GONE__INIT;
	FRAME(f, GONE, &gone);

	f.gone = &gone;
	gone.id = v->id;
	link_send_frame(l, &f, false);
	link_stop_serving(l, v);
}

static void
tell(struct link *l, struct serving *v)
{
	Sibfs__Wire__Outline m = SIBFS__WIRE__OUTLINE__INIT;
	FRAME(f, OUTLINE, &m);

	outline_of(&v->list, &v->outline);
	f.outline = &m;
	m.id = v->id;
	m.hashes.data = mem_alloc(v->outline.len * sizeof(struct hash));
	m.hashes.len = v->outline.len * sizeof(struct hash);
	m.chunks = mem_resize(NULL, v->outline.len + 1, sizeof(*m.chunks));
	m.n_chunks = v->outline.len;
	for (size_t i = 0; i < v->outline.len; i++) {
		memcpy(m.hashes.data + i * sizeof(struct hash), &v->outline.g[i].hash, sizeof(struct hash));
		m.chunks[i] = v->outline.g[i].len;
	}
	link_send_frame(l, &f, false);
	free(m.hashes.data);
	free(m.chunks);
}

static void
listed(struct replica *r, struct hash_job *j)
{
	struct list_job *q = (struct list_job *)j;
	struct serving *v;
	struct link *l;

	DL_FOREACH(r->links, l)
		if (l == q->l && (v = link_serving(l, q->id)) && hash_compare(&v->hash, &j->expected) == 0) {
			if (j->rc == 0 && lists_load(r->chunks_fd, &v->hash, &v->list) == 0)
				tell(l, v);
			else
				link_give_up(l, v);
			link_pump(l);
			return;
		}
}

void
link_send_outline(struct link *l, struct serving *v)
{
	struct list_job *q;

	if (lists_load(l->r->chunks_fd, &v->hash, &v->list) == 0 ||
	    ((v->size <= LISTS_WORTH || !l->r->hasher) &&
	    lists_of(l->r->chunks_fd, &v->hash, v->fd, &v->list) == 0)) {
		tell(l, v);
		return;
	}
	if (v->size <= LISTS_WORTH || !l->r->hasher) {
		link_give_up(l, v);
		return;
	}
	q = mem_alloc(sizeof(*q));
	q->job.fd = fcntl(v->fd, F_DUPFD_CLOEXEC, 0);
	q->job.run = run_list;
	q->job.done = listed;
	q->job.expected = v->hash;
	q->l = l;
	q->id = v->id;
	q->lists_fd = l->r->chunks_fd;
	hasher_add_exchange(l->r, &q->job);
}

int
link_get_details(struct link *l, const Sibfs__Wire__Details *m)
{
	struct serving *v = link_serving(l, m->id);

	if (!v)
		return 0;
	/* Told once: it is not needed for the bytes. */
	if (m->n_groups > v->outline.len || v->groups)
		return -EBADMSG;
	for (size_t i = 0; i < m->n_groups; i++)
		if (m->groups[i] >= v->outline.len)
			return -EBADMSG;
	v->groups = mem_dup(m->groups, m->n_groups * sizeof(*v->groups));
	v->groups_len = m->n_groups;
	return 0;
}

bool
link_send_chunks(struct link *l, struct serving *v)
{
	Sibfs__Wire__Chunks c = SIBFS__WIRE__CHUNKS__INIT;
	uint8_t hashes[GROUP_MAX * sizeof(struct hash)];
	uint32_t sizes[GROUP_MAX];
	const struct group *g;
	FRAME(f, CHUNKS, &c);

	if (v->groups_sent == v->groups_len)
		return false;
	c.id = v->id;
	c.group = v->groups[v->groups_sent++];
	g = &v->outline.g[c.group];
	for (uint32_t k = 0; k < g->len; k++) {
		memcpy(hashes + k * sizeof(struct hash), &v->list.c[g->first + k].hash, sizeof(struct hash));
		sizes[k] = v->list.c[g->first + k].size;
	}
	f.chunks = &c;
	c.hashes = (ProtobufCBinaryData){ g->len * sizeof(struct hash), hashes };
	c.sizes = sizes;
	c.n_sizes = g->len;
	link_send_frame(l, &f, false);
	if (v->groups_sent == v->groups_len) {
		chunk_list_fini(&v->list);
		outline_fini(&v->outline);
	}
	return true;
}

/* ---- taking ---- */

int
link_get_outline(struct link *l, const Sibfs__Wire__Outline *m)
{
	struct want *w = content_want_by_id(l->r, m->id, l);

	if (m->hashes.len != m->n_chunks * sizeof(struct hash))
		return -EBADMSG;
	if (w)
		fetch_got_outline(l->r, w, m->hashes.data, m->n_chunks, m->chunks);
	return 0;
}

int
link_get_chunks(struct link *l, const Sibfs__Wire__Chunks *m)
{
	struct want *w = content_want_by_id(l->r, m->id, l);

	if (m->n_sizes > GROUP_MAX || m->hashes.len != m->n_sizes * sizeof(struct hash))
		return -EBADMSG;
	if (w)
		fetch_got_chunks(l->r, w, m->group, m->hashes.data, m->sizes, m->n_sizes);
	return 0;
}
