/*
 * Blocks over a link: what chunks that the peer lacks are made of, told and taken.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "replication/blocks.h"
#include "replication/content_impl.h"
#include "replication/link_impl.h"

/* ---- asking ---- */

bool
link_knows_blocks(const struct link *l)
{
	return l->has_blocks;
}

void
link_ask_blocks(struct link *l, const struct want *w, const uint64_t *offsets, const uint32_t *sizes, size_t n)
{
	Sibfs__Wire__AskBlocks m = SIBFS__WIRE__ASK_BLOCKS__INIT;
	FRAME(f, ASK_BLOCKS, &m);

	f.ask_blocks = &m;
	m.id = w->id;
	m.offsets = (uint64_t *)(uintptr_t)offsets;
	m.n_offsets = n;
	m.sizes = (uint32_t *)(uintptr_t)sizes;
	m.n_sizes = n;
	link_send_frame(l, &f, false);
}

int
link_get_blocks(struct link *l, const Sibfs__Wire__Blocks *m)
{
	struct want *w = content_want_by_id(l->r, m->id, l);

	if (w)
		fetch_got_blocks(l->r, w, m->prints.data, m->prints.len);
	return 0;
}

/* ---- telling ---- */

/* False: it is not to be had (any more). */
static bool
read_all(int fd, uint8_t *p, size_t len, uint64_t offset)
{
	while (len) {
		ssize_t n = pread(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return true;
}

int
link_get_ask_blocks(struct link *l, const Sibfs__Wire__AskBlocks *m)
{
	static uint8_t buf[CHUNK_MAX], prints[BLOCKS_CHUNKS_MAX * (CHUNK_MAX / BLOCK) * BLOCK_PRINT];
	struct serving *v = link_serving(l, m->id);
	Sibfs__Wire__Blocks answer = SIBFS__WIRE__BLOCKS__INIT;
	size_t len = 0;
	FRAME(f, BLOCKS, &answer);

	if (!v)
		return 0;		/* it is gone, and said so */
	if (v->whole || m->n_offsets != m->n_sizes || m->n_offsets > BLOCKS_CHUNKS_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < m->n_offsets; i++) {
		if (m->sizes[i] > CHUNK_MAX || m->offsets[i] > v->size || m->sizes[i] > v->size - m->offsets[i])
			return -EBADMSG;
		if (!read_all(v->fd, buf, m->sizes[i], m->offsets[i])) {
			link_give_up(l, v);
			return 0;
		}
		blocks_print(buf, m->sizes[i], prints + len);
		len += blocks_of(m->sizes[i]) * BLOCK_PRINT;
	}
	f.blocks = &answer;
	answer.id = v->id;
	answer.prints = (ProtobufCBinaryData){ len, prints };
	link_send_frame(l, &f, false);
	return 0;
}
