/*
 * Content over a link: asking for it, and serving what the peer asks for, whole
 * or by chunks.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/content_impl.h"
#include "replication/link_impl.h"
#include "replication/local_impl.h"
#include "replication/relay.h"

/* ---- what may be on its way to us at a time ---- */

#define ROOM_MIN (256u << 10)
#define ROOM_MAX (2u << 20)
#define ROOM_MS 250		/* so much of what the link carries */
#define BUSY_MS 40
#define RATE_MS 200

#define PROBE_EACH 16		/* of blocks that did not shrink, so many are sent as they are */
#define TELLING 4096		/* bytes: what is less may not shrink though the rest of it does */

static uint64_t
larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/*
 * Whatever is on its way is ahead of news, and lost when the link breaks: as
 * little as keeps the link busy, also while either end is busy for a moment.
 */
static uint64_t
room_max(const struct link *l)
{
	uint64_t rate = l->rate, far = rate * (uint64_t)l->rtt_ms / 500, busy = rate * BUSY_MS / 1000;
	uint64_t room = rate * ROOM_MS / 1000, most = larger(ROOM_MAX, larger(far, busy));

	if (!rate)
		return ROOM_MAX / 2;
	return room < ROOM_MIN ? ROOM_MIN : room > most ? most : room;
}

uint64_t
link_room(const struct link *l)
{
	uint64_t max = room_max(l);

	return max > l->in_flight ? max - l->in_flight : 0;
}

void
link_asked(struct link *l, struct want *w, uint64_t bytes)
{
	if (!l->in_flight) {
		l->rate_from_ms = replica_now_ms();
		l->rate_bytes = 0;
	}
	l->in_flight += bytes;
	w->asked += bytes;
}

/* What came, over the time in which something was to come. */
static void
measure(struct link *l, uint64_t bytes)
{
	int64_t now = replica_now_ms(), ms = now - l->rate_from_ms;

	l->rate_bytes += bytes;
	if (ms < RATE_MS)
		return;
	l->rate = l->rate_bytes * 1000 / (uint64_t)ms;
	l->rate_from_ms = now;
	l->rate_bytes = 0;
}

void
link_arrived(struct link *l, struct want *w, uint64_t bytes)
{
	uint64_t n = bytes < w->asked ? bytes : w->asked;

	measure(l, bytes);
	w->asked -= n;
	l->in_flight -= n;
}

unsigned
link_wanted(const struct link *l)
{
	return l->wanted;
}

void
link_taken_on(struct link *l, struct want *w)
{
	w->link = l;
	l->wanted++;
}

void
link_released(struct link *l, struct want *w)
{
	l->wanted--;
	w->link = NULL;
	l->in_flight -= w->asked;
	w->asked = 0;
}

/* ---- asking ---- */

bool
link_want(struct link *l, struct want *w, enum link_want by)
{
	static const Sibfs__Wire__Want__By words[] = {
		[LINK_WANT_WHOLE] = SIBFS__WIRE__WANT__BY__WHOLE,
		[LINK_WANT_OUTLINE] = SIBFS__WIRE__WANT__BY__OUTLINE,
		[LINK_WANT_RANGES] = SIBFS__WIRE__WANT__BY__RANGES,
	};
	Sibfs__Wire__Want m = SIBFS__WIRE__WANT__INIT;
	FRAME(f, WANT, &m);

	f.want = &m;
	/* A number of its own: what still comes for an earlier asking is not this. */
	if (w->id)
		HASH_DELETE(hh_id, l->r->wants_by_id, w);
	w->id = ++l->r->next_want;
	HASH_ADD(hh_id, l->r->wants_by_id, id, sizeof(w->id), w);
	m.id = w->id;
	m.hash = (ProtobufCBinaryData){ sizeof(w->hash.b), w->hash.b };
	m.size = w->size;
	m.offset = by == LINK_WANT_WHOLE ? w->have : 0;
	m.by = words[by];
	m.hops = w->hops;
	link_send_frame(l, &f, false);
	return !l->closing;
}

void
link_ask_details(struct link *l, const struct want *w, const uint32_t *groups, size_t n)
{
	Sibfs__Wire__Details m = SIBFS__WIRE__DETAILS__INIT;
	FRAME(f, DETAILS, &m);

	f.details = &m;
	m.id = w->id;
	m.groups = (uint32_t *)(uintptr_t)groups;
	m.n_groups = n;
	link_send_frame(l, &f, false);
}

void
link_ask_ranges(struct link *l, const struct want *w, const uint64_t *offsets, const uint32_t *sizes, size_t n)
{
	Sibfs__Wire__Fetch m = SIBFS__WIRE__FETCH__INIT;
	FRAME(f, FETCH, &m);

	f.fetch = &m;
	m.id = w->id;
	m.offsets = (uint64_t *)(uintptr_t)offsets;
	m.n_offsets = n;
	m.sizes = (uint32_t *)(uintptr_t)sizes;
	m.n_sizes = n;
	link_send_frame(l, &f, false);
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

/* ---- serving ---- */

static void
send_gone(struct link *l, uint64_t id)
{
	Sibfs__Wire__Gone gone = SIBFS__WIRE__GONE__INIT;
	FRAME(f, GONE, &gone);

	f.gone = &gone;
	gone.id = id;
	link_send_frame(l, &f, false);
}

/* A file that was written since it was noted may have it still. */
static int
open_content(struct link *l, const struct hash *h, uint64_t *size)
{
	int fd = content_open(l->r, h, size);

	if (fd < 0) {
		local_look_for(l->r, h);
		fd = content_open(l->r, h, size);
	}
	return fd;
}

int
link_get_want(struct link *l, const Sibfs__Wire__Want *m)
{
	struct serving *v;
	struct hash h;
	uint64_t size;
	int fd;

	if (m->hash.len != sizeof(h.b) || l->serving_len == SERVING_MAX)
		return -EBADMSG;
	memcpy(h.b, m->hash.data, sizeof(h.b));
	fd = open_content(l, &h, &size);
	if (fd < 0 || m->offset > size) {
		if (fd >= 0)
			close(fd);
		else if (relay_take(l, &h, m))
			return 0;
		send_gone(l, m->id);
		return 0;
	}
	v = mem_alloc(sizeof(*v));
	v->id = m->id;
	v->fd = fd;
	v->hash = h;
	v->size = size;
	v->offset = m->offset;
	fstat(fd, &v->st);
	DL_APPEND(l->serving, v);
	l->serving_len++;
	if (m->by == SIBFS__WIRE__WANT__BY__WHOLE) {
		v->end = size;
		v->whole = true;
	} else if (m->by == SIBFS__WIRE__WANT__BY__OUTLINE) {
		link_send_outline(l, v);
	}
	return 0;
}

void
link_stop_serving(struct link *l, struct serving *v)
{
	DL_DELETE(l->serving, v);
	l->serving_len--;
	close(v->fd);
	chunk_list_fini(&v->list);
	outline_fini(&v->outline);
	free(v->groups);
	free(v->ranges);
	free(v);
}

struct serving *
link_serving(struct link *l, uint64_t id)
{
	struct serving *v;

	DL_FOREACH(l->serving, v)
		if (v->id == id)
			return v;
	return NULL;
}

int
link_get_fetch(struct link *l, const Sibfs__Wire__Fetch *m)
{
	struct serving *v = link_serving(l, m->id);

	if (!v)
		return 0;		/* it is gone, and said so */
	if (v->whole || m->n_offsets != m->n_sizes || v->ranges_len + m->n_offsets > RANGES_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < m->n_offsets; i++)
		if (!m->sizes[i] || m->offsets[i] > v->size || m->sizes[i] > v->size - m->offsets[i])
			return -EBADMSG;
	v->ranges = mem_resize(v->ranges, v->ranges_len + m->n_offsets, sizeof(*v->ranges));
	for (size_t i = 0; i < m->n_offsets; i++)
		v->ranges[v->ranges_len++] = (struct range){ m->offsets[i], m->offsets[i] + m->sizes[i] };
	return 0;
}

/* Has it something to send? */
static bool
next_range(struct serving *v)
{
	if (v->whole || v->offset < v->end)
		return true;
	if (!v->ranges_len)
		return false;
	v->offset = v->ranges[0].from;
	v->end = v->ranges[0].to;
	memmove(v->ranges, v->ranges + 1, --v->ranges_len * sizeof(*v->ranges));
	return true;
}

/* Was it written since it was opened? */
static bool
has_changed(const struct serving *v)
{
	struct stat st;

	return fstat(v->fd, &st) < 0 || st.st_size != v->st.st_size || st.st_mtim.tv_sec != v->st.st_mtim.tv_sec ||
	    st.st_mtim.tv_nsec != v->st.st_mtim.tv_nsec;
}

/* Was it written with what it held before, or does something else hold it? */
static bool
has_again(struct link *l, struct serving *v)
{
	uint64_t size;
	int fd = open_content(l, &v->hash, &size);

	if (fd < 0)
		return false;
	close(v->fd);
	v->fd = fd;
	return size == v->size && fstat(fd, &v->st) == 0;
}

/* What does not shrink is not tried at each block again. */
static void
send_data(struct link *l, struct serving *v, const Frame *f, size_t bytes)
{
	size_t before = l->out.len;
	bool try = v->untried == 0 && !l->packing.off;

	link_send_frame(l, f, try);
	if (v->untried > 0)
		v->untried--;
	else if (try && bytes >= TELLING && l->out.len - before >= bytes)
		v->untried = PROBE_EACH - 1;
	packing_sent(&l->packing, bytes, replica_now_ms());
}

/* One block; what is sent to its end, or cannot be, is served no more. */
static void
send_block(struct link *l, struct serving *v)
{
	static uint8_t buf[DATA_BLOCK];
	Sibfs__Wire__Data m = SIBFS__WIRE__DATA__INIT;
	size_t want = v->end - v->offset < l->block ? v->end - v->offset : l->block;
	ssize_t n = pread(v->fd, buf, want, (off_t)v->offset);
	FRAME(f, DATA, &m);

	if ((n < (ssize_t)want || has_changed(v)) && has_again(l, v))
		n = pread(v->fd, buf, want, (off_t)v->offset);
	if (n < (ssize_t)want || has_changed(v)) {
		send_gone(l, v->id);
		link_stop_serving(l, v);
		return;
	}
	f.data = &m;
	m.id = v->id;
	m.offset = v->offset;
	m.bytes = (ProtobufCBinaryData){ (size_t)n, buf };
	v->offset += (uint64_t)n;
	m.last = v->whole && v->offset >= v->size;
	send_data(l, v, &f, (size_t)n);
	if (m.last) {
		link_stop_serving(l, v);
		return;
	}
	/* In turn, a block each: a small file is not held up by a large one. */
	DL_DELETE(l->serving, v);
	DL_APPEND(l->serving, v);
}

void
link_pump_content(struct link *l)
{
	struct serving *v;

	while (l->out.len <= l->out_high && !l->closing) {
		DL_FOREACH(l->serving, v)
			if (v->groups_sent < v->groups_len || next_range(v))
				break;
		if (!v) {
			packing_pause(&l->packing, replica_now_ms());
			return;
		}
		if (!link_send_chunks(l, v))
			send_block(l, v);
	}
}

void
link_get_stop(struct link *l, const Sibfs__Wire__Stop *m)
{
	struct serving *v = link_serving(l, m->id);

	if (v)
		link_stop_serving(l, v);
	else
		relay_stop(l, m->id);
}
