/*
 * Large content by chunks: the chunks that nothing here has.  Where the file has
 * bytes that may be nearly those (it was made from the version before), only the
 * blocks of a chunk that differ are fetched, else all of it.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/content_impl.h"

#define ASK_RANGES_MAX 64	/* in one message */
#define ASKED_MAX 2048		/* pieces on their way */
#define FLUSH_EACH (8u << 20)
#define BLOCKS_WORTH (32u << 10)	/* less is fetched sooner than asked about */

int
fetch_open_part(struct replica *r, struct want *w)
{
	char part[CONTENT_NAME_MAX];

	if (w->fd >= 0)
		return 0;
	lists_name(&w->hash, part);
	strcat(part, ".part");
	w->fd = openat(r->staging_fd, part, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return w->fd < 0 ? -errno : 0;
}

/* What the file has where the chunk is to be; zeros where it has nothing. */
static void
read_own(struct replica *r, struct want *w, const struct chunk *c, uint8_t *p)
{
	size_t n = 0;

	memset(p, 0, c->size);
	if (fetch_open_part(r, w) < 0)
		return;
	while (n < c->size) {
		ssize_t got = pread(w->fd, p + n, c->size - n, (off_t)(c->offset + n));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return;
		n += (size_t)got;
	}
}

/* ---- blocks ---- */

/* True: fingerprints of blocks were asked for, and are waited for. */
static bool
wait_for_blocks(struct want *w)
{
	struct fetch *f = w->fetch;
	uint64_t offsets[BLOCKS_CHUNKS_MAX], bytes = 0;
	uint32_t sizes[BLOCKS_CHUNKS_MAX];

	if (f->prints || !f->similar || !link_knows_blocks(w->link))
		return false;
	if (f->rough_len)
		return true;
	if (f->missing > BLOCKS_CHUNKS_MAX) {
		f->similar = false;
		return false;
	}
	for (uint32_t i = 0; i < f->list.len && f->rough_len < f->missing; i++) {
		if (f->have[i])
			continue;
		offsets[f->rough_len] = f->list.c[i].offset;
		sizes[f->rough_len] = f->list.c[i].size;
		bytes += f->list.c[i].size;
		f->rough[f->rough_len++] = i;
	}
	if (bytes < BLOCKS_WORTH) {
		fetch_forget_blocks(f);
		f->similar = false;
		return false;
	}
	link_ask_blocks(w->link, w, offsets, sizes, f->rough_len);
	return true;
}

static size_t
prints_len(const struct fetch *f, size_t rough)
{
	size_t n = 0;

	for (size_t k = 0; k < rough; k++)
		n += blocks_of(f->list.c[f->rough[k]].size) * BLOCK_PRINT;
	return n;
}

void
fetch_got_blocks(struct replica *r, struct want *w, const uint8_t *prints, size_t len)
{
	struct fetch *f = w->fetch;

	if (!f || f->job || !f->rough_len || f->prints)
		return;
	if (len == prints_len(f, f->rough_len)) {
		f->prints = mem_dup(prints, len);
	} else {
		fetch_forget_blocks(f);
		f->similar = false;
	}
	fetch_more(r, w);
}

void
fetch_forget_blocks(struct fetch *f)
{
	free(f->prints);
	f->prints = NULL;
	f->rough_len = 0;
}

/* What of a chunk is to be fetched. */
static size_t
stretches_of(struct replica *r, struct want *w, uint32_t i, struct stretch *out)
{
	static uint8_t own[CHUNK_MAX];
	struct fetch *f = w->fetch;
	const struct chunk *c = &f->list.c[i];
	size_t n = 0;

	for (size_t k = 0; f->prints && k < f->rough_len && !n; k++)
		if (f->rough[k] == i) {
			read_own(r, w, c, own);
			n = blocks_differ(own, c->size, f->prints + prints_len(f, k), out);
		}
	if (n)
		return n;
	out[0] = (struct stretch){ 0, c->size };
	return 1;
}

/* ---- asking ---- */

struct asking {
	uint64_t offsets[ASK_RANGES_MAX], room;
	uint32_t sizes[ASK_RANGES_MAX];
	size_t n;
};

static void
ask_stretch(struct want *w, struct asking *q, const struct piece *p)
{
	struct fetch *f = w->fetch;
	uint64_t offset = f->list.c[p->chunk].offset + p->from;
	uint32_t size = p->to - p->from;

	f->asked[f->asked_len++] = *p;
	link_asked(w->link, w, size);
	q->room = q->room > size ? q->room - size : 0;
	if (q->n && q->offsets[q->n - 1] + q->sizes[q->n - 1] == offset && q->sizes[q->n - 1] < (1u << 30)) {
		q->sizes[q->n - 1] += size;
		return;
	}
	q->offsets[q->n] = offset;
	q->sizes[q->n++] = size;
}

/* False: it has no place in this question. */
static bool
ask_chunk(struct replica *r, struct want *w, struct asking *q, uint32_t i)
{
	struct fetch *f = w->fetch;
	struct stretch parts[CHUNK_MAX / BLOCK];
	size_t n = stretches_of(r, w, i, parts);
	bool patch = n > 1 || parts[0].to - parts[0].from < f->list.c[i].size;

	if (f->asked_len + n > ASKED_MAX || q->n + n > ASK_RANGES_MAX)
		return false;
	for (size_t k = 0; k < n; k++)
		ask_stretch(w, q, &(struct piece){ i, parts[k].from, parts[k].to, k == 0, k + 1 == n, patch });
	return true;
}

void
fetch_more(struct replica *r, struct want *w)
{
	struct fetch *f = w->fetch;
	struct asking q = { .room = link_room(w->link) };

	if (!f->assembled || f->job || !f->serving || !f->missing || wait_for_blocks(w))
		return;
	/* A patch that fails is asked for once more. */
	if (!f->asked)
		f->asked = mem_resize(NULL, ASKED_MAX + BLOCKS_CHUNKS_MAX, sizeof(*f->asked));
	for (; f->next_chunk < f->list.len && q.room; f->next_chunk++)
		if (!f->have[f->next_chunk] && !ask_chunk(r, w, &q, f->next_chunk))
			break;
	if (q.n)
		link_ask_ranges(w->link, w, q.offsets, q.sizes, q.n);
}

/* ---- what came ---- */

static bool
is_zero(const uint8_t *p, size_t len)
{
	return len && !p[0] && memcmp(p, p + 1, len - 1) == 0;
}

/* A chunk is there, in f->buf. */
static int
take_chunk(struct replica *r, struct want *w, uint32_t i)
{
	struct fetch *f = w->fetch;
	struct chunk *c = &f->list.c[i];
	int rc;

	chunk_bytes_print(f->buf, c->size, &c->print);
	if ((rc = fetch_open_part(r, w)) < 0)
		return rc;
	if (!f->fresh || !is_zero(f->buf, c->size)) {
		if ((rc = content_write(w->fd, f->buf, c->size, c->offset)) < 0)
			return rc;
		/* The disk starts early: who syncs something small need not wait for this. */
		f->unflushed += c->size;
		if (f->unflushed >= FLUSH_EACH) {
			sync_file_range(w->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
			f->unflushed = 0;
		}
	}
	f->have[i] = 1;
	f->missing--;
	w->have += c->size;
	return 0;
}

/* The first piece that was asked for is there. */
static int
take_piece(struct replica *r, struct want *w)
{
	struct fetch *f = w->fetch;
	struct piece p = f->asked[0];
	struct asking q = { 0 };
	struct hash got;

	f->filled = 0;
	memmove(f->asked, f->asked + 1, --f->asked_len * sizeof(*f->asked));
	if (!p.last)
		return 0;
	chunk_bytes_hash(f->buf, f->list.c[p.chunk].size, &got);
	if (hash_compare(&got, &f->list.c[p.chunk].hash) == 0)
		return take_chunk(r, w, p.chunk);
	if (!p.patch)
		return -EBADMSG;
	/* Blocks that looked the same were not. */
	ask_stretch(w, &q, &(struct piece){ p.chunk, 0, f->list.c[p.chunk].size, true, true, false });
	link_ask_ranges(w->link, w, q.offsets, q.sizes, q.n);
	return 0;
}

void
fetch_got_data(struct replica *r, struct want *w, uint64_t offset, const uint8_t *p, size_t len)
{
	struct fetch *f = w->fetch;
	int rc = 0;

	if (!f->buf)
		f->buf = mem_alloc(CHUNK_MAX);
	while (len && rc == 0) {
		const struct piece *q = f->asked_len ? &f->asked[0] : NULL;
		const struct chunk *c = q ? &f->list.c[q->chunk] : NULL;
		size_t n;

		if (!q || offset != c->offset + q->from + f->filled) {
			rc = -EBADMSG;
			break;
		}
		if (q->first && q->patch && !f->filled)
			read_own(r, w, c, f->buf);
		n = q->to - q->from - f->filled;
		n = n < len ? n : len;
		memcpy(f->buf + q->from + f->filled, p, n);
		f->filled += n;
		offset += n;
		p += n;
		len -= n;
		if (f->filled == q->to - q->from)
			rc = take_piece(r, w);
	}
	if (rc < 0)
		content_unwritable(r, w, rc);
	else if (!f->missing)
		fetch_advance(r, w);
	else
		fetch_more(r, w);
}
