/*
 * Content over a link: asking for it, and serving what the peer asks for.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/link_impl.h"

int
link_get_want(struct link *l, const Sibfs__Wire__Want *m)
{
	struct serving *v;
	struct hash h;
	uint64_t size;
	int fd;

	if (m->hash.len != sizeof(h.b))
		return -EBADMSG;
	memcpy(h.b, m->hash.data, sizeof(h.b));
	fd = content_open(l->r, &h, &size);
	if (fd < 0 || m->offset > size) {
		Sibfs__Wire__Gone gone = SIBFS__WIRE__GONE__INIT;
		FRAME(f, GONE, &gone);

		if (fd >= 0)
			close(fd);
		f.gone = &gone;
		gone.id = m->id;
		link_send_frame(l, &f, false);
		return 0;
	}
	v = mem_alloc(sizeof(*v));
	v->id = m->id;
	v->fd = fd;
	v->size = size;
	v->offset = m->offset;
	DL_APPEND(l->serving, v);
	return 0;
}

void
link_stop_serving(struct link *l, struct serving *v)
{
	DL_DELETE(l->serving, v);
	close(v->fd);
	free(v);
}

void
link_pump_content(struct link *l)
{
	static uint8_t buf[DATA_BLOCK];

	/* In turn, a block each: a small file is not held up by a large one. */
	while (l->serving && l->out.len <= l->out_high && !l->closing) {
		Sibfs__Wire__Data m = SIBFS__WIRE__DATA__INIT;
		struct serving *v = l->serving;
		ssize_t n = pread(v->fd, buf, l->block, (off_t)v->offset);
		FRAME(f, DATA, &m);

		if (n < 0)
			n = 0;
		f.data = &m;
		m.id = v->id;
		m.offset = v->offset;
		m.bytes = (ProtobufCBinaryData){ (size_t)n, buf };
		v->offset += (uint64_t)n;
		m.last = n == 0 || v->offset >= v->size;
		link_send_frame(l, &f, true);
		DL_DELETE(l->serving, v);
		DL_APPEND(l->serving, v);
		if (m.last)
			link_stop_serving(l, v);
	}
}

bool
link_want(struct link *l, struct want *w)
{
	Sibfs__Wire__Want m = SIBFS__WIRE__WANT__INIT;
	FRAME(f, WANT, &m);

	f.want = &m;
	/* A number of its own: what still comes for an earlier asking is not this. */
	w->id = ++l->r->next_want;
	m.id = w->id;
	m.hash = (ProtobufCBinaryData){ sizeof(w->hash.b), w->hash.b };
	m.size = w->size;
	m.offset = w->have;
	link_send_frame(l, &f, false);
	l->wanted += !l->closing;
	return !l->closing;
}

unsigned
link_wanted(const struct link *l)
{
	return l->wanted;
}

void
link_released(struct link *l)
{
	l->wanted--;
}

struct want *
link_want_by_id(struct link *l, uint64_t id)
{
	struct want *w, *tmp;

	HASH_ITER(hh, l->r->wants, w, tmp)
		if (w->id == id && w->link == l)
			return w;
	return NULL;
}

void
link_unwant(struct link *l, const struct want *w)
{
	Sibfs__Wire__Stop m = SIBFS__WIRE__STOP__INIT;
	FRAME(f, STOP, &m);

	f.stop = &m;
	m.id = w->id;
	link_send_frame(l, &f, false);
}

void
link_get_stop(struct link *l, const Sibfs__Wire__Stop *m)
{
	struct serving *v;

	DL_FOREACH(l->serving, v)
		if (v->id == m->id) {
			link_stop_serving(l, v);
			return;
		}
}
