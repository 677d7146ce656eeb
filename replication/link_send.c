/*
 * Sending changes: in windows over the sequence of changes, what lives first and
 * what was removed last, with a watermark once all was sent.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/chunk.h"
#include "replication/link_impl.h"

#define COPY_WORTH 1024		/* to ask would cost about as much */
#define TURN_STRETCHES 10	/* then others have a turn */
#define GONE_STEP 20000		/* changes that are gone through for removals at a time */
#define PLACES_MAX 16		/* of one content, that are looked at for one the peer has */

struct row_list {
	struct link *l;
	struct row rows[BATCH_ROWS];
	size_t len;
};

static int
collect_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct row_list *q = arg;
	struct row *row;

	if (seq > q->l->window || q->len == BATCH_ROWS)
		return 1;
	row = &q->rows[q->len];
	row->dir = state_dir_num(q->l->r->s, dir_num);
	row->name = mem_str(name);
	row->seq = seq;
	q->len++;
	return 0;
}

struct elsewhere {
	struct link *l;
	const struct reg *but;
	const struct hash *h;
	bool found;
};

static int
peer_has_it_there(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct elsewhere *q = arg;
	struct reg *reg = state_reg_in(q->l->r->s, dir_num, name);

	(void)seq;
	for (uint32_t i = 0; reg && reg != q->but && i < reg->shown.len; i++)
		q->found |= hash_compare(&reg->shown.v[i].hash, q->h) == 0 && vv_covers(&q->l->know, reg->shown.v[i].dot);
	return q->found;
}

/* Has the peer that content under another name?  If it has not after all, it
 * asks; if it has and that is not found soon, it gets it once more. */
static bool
peer_has(struct link *l, const struct reg *reg, const struct hash *h)
{
	struct elsewhere q = { .l = l, .but = reg, .h = h };

	index_regs_with_content(l->r->x, h, PLACES_MAX, peer_has_it_there, &q);
	return q.found;
}

/* Small content comes along with its version, to save a round trip. */
static size_t
put_inline(struct link *l, struct reg *reg, Sibfs__Wire__Register *m)
{
	size_t bytes = 0;

	for (size_t i = 0; i < m->value->n_versions; i++) {
		Sibfs__Wire__Version *v = m->value->versions[i];
		struct dot d = { v->dot->id, v->dot->n };
		struct hash h, got;
		uint64_t size;
		int fd;

		if (bytes > INLINE_SUM_MAX || vv_covers(&l->know, d) || v->size > INLINE_MAX || v->hash.len != sizeof(h.b))
			continue;
		memcpy(h.b, v->hash.data, sizeof(h.b));
		if (v->kind == KIND_SYMLINK && disk_of(reg->dir)) {
			char target[4096];
			int dirfd = disk_fd(&l->r->disk, disk_of(reg->dir));

			for (uint32_t j = 0; j < reg->files_len && dirfd >= 0; j++) {
				ssize_t n;

				if (hash_compare(&reg->files[j].hash, &h) != 0)
					continue;
				n = readlinkat(dirfd, reg->files[j].name, target, sizeof(target));
				if (n <= 0)
					continue;
				chunk_link_hash(target, (size_t)n, &got);
				if (hash_compare(&got, &h) != 0)
					continue;
				v->content.data = mem_dup(target, (size_t)n);
				v->content.len = (size_t)n;
				v->has_content = true;
				bytes += (size_t)n;
				break;
			}
			continue;
		}
		if (v->size > COPY_WORTH && peer_has(l, reg, &h))
			continue;
		fd = content_open(l->r, &h, &size);
		if (fd < 0)
			continue;
		if (size == v->size) {
			uint8_t *p = mem_alloc(size + 1);
			ssize_t n = pread(fd, p, size, 0);

			if (n == (ssize_t)size)
				chunk_content_hash(p, size, &got);
			/* A user may have written between two looks at it. */
			if (n == (ssize_t)size && hash_compare(&got, &h) == 0) {
				v->content.data = p;
				v->content.len = size;
				v->has_content = true;
				bytes += size;
			} else {
				free(p);
			}
		}
		close(fd);
	}
	return bytes;
}

struct batch {
	struct dirs dirs;
	Sibfs__Wire__Register **regs;
	size_t regs_len;
	size_t bytes;
};

static void
send_batch(struct link *l, struct batch *b)
{
	Sibfs__Wire__Batch m = SIBFS__WIRE__BATCH__INIT;
	FRAME(f, BATCH, &m);

	if (b->dirs.len || b->regs_len) {
		f.batch = &m;
		wire_dots(&l->r->s->know, &m.know, &m.n_know);
		m.dirs = b->dirs.d;
		m.n_dirs = b->dirs.len;
		m.regs = b->regs;
		m.n_regs = b->regs_len;
		if (l->members_sent != HASH_COUNT(l->r->members)) {
			l->members_sent = HASH_COUNT(l->r->members);
			link_name_members(l->r, &m.members, &m.n_members);
		}
		m.full = l->full_round;
		/* That a directory was told of, so that its identity is final, would
		 * survive a crash before anyone hears of it. */
		if (replica_commit(l->r) < 0)
			link_close(l, "unreachable", "the index cannot be written");
		else
			link_send_frame(l, &f, true);
		wire_free_dots(m.know, m.n_know);
		link_free_members(m.members, m.n_members);
		l->news = true;
	}
	exchange_free_dirs(&b->dirs);
	for (size_t i = 0; i < b->regs_len; i++)
		sibfs__wire__register__free_unpacked(b->regs[i], NULL);
	free(b->regs);
	*b = (struct batch){ 0 };
}

static void
add_row(struct link *l, struct batch *b, const struct row *row)
{
	struct reg *reg = row->dir ? state_reg(l->r->s, row->dir, row->name, false) : NULL;
	struct regval *val = reg ? reg_known(reg) : NULL;
	Sibfs__Wire__Register *m;

	if (!reg || (val->len == 0) != (l->pass == 1) ||
	    (!l->full_round && (reg->from == l->number || vv_dominates(&l->know, &val->ctx))))
		return;
	exchange_add_dir(l->r->s, &l->told, link_peer_has(l), &b->dirs, row->dir);
	m = wire_register(reg, val);
	b->regs = mem_resize(b->regs, b->regs_len + 1, sizeof(*b->regs));
	b->regs[b->regs_len++] = m;
	b->bytes += 300 + put_inline(l, reg, m);
	if (b->bytes + b->dirs.bytes > BATCH_BYTES)
		send_batch(l, b);
}

static bool
start_window(struct link *l)
{
	if (l->window)
		return true;
	if (l->sent_seq >= l->r->s->seq)
		return false;
	l->window = l->r->s->seq;
	l->pass = 0;
	l->pass_seq = l->sent_seq;
	return true;
}

static void
send_window_dirs(struct link *l, struct batch *b)
{
	struct dir *d;

	for (d = state_dirs_since(l->r->s, l->sent_seq); d && d->seq <= l->window; d = d->seq_next) {
		if (dir_is_live(d) != (l->pass == 0) ||
		    (!l->full_round && (d->from == l->number || vv_dominates(&l->know, &d->val.ctx))))
			continue;
		exchange_add_dir(l->r->s, &l->told, link_peer_has(l), &b->dirs, d);
		if (b->dirs.bytes > BATCH_BYTES)
			send_batch(l, b);
	}
}

/* The rows of the next stretch; false: there are no more in this pass. */
static bool
collect_rows(struct link *l, struct row_list *q)
{
	uint64_t upto = l->window;

	if (l->pass == 0) {
		index_regs_since(l->r->x, l->pass_seq, BATCH_ROWS, collect_row, q);
		return q->len == BATCH_ROWS;
	}
	/* Most changes are none of these: they are not even read. */
	if (upto - l->pass_seq > GONE_STEP)
		upto = l->pass_seq + GONE_STEP;
	index_regs_gone(l->r->x, l->pass_seq, upto, BATCH_ROWS, collect_row, q);
	if (q->len == BATCH_ROWS)
		return true;
	l->pass_seq = upto;
	return upto < l->window;
}

/* One stretch of the window under way. */
static void
send_stretch(struct link *l)
{
	struct row_list q = { .l = l };
	struct batch b = { 0 };
	bool more;

	if (l->pass_seq == l->sent_seq)
		send_window_dirs(l, &b);
	more = collect_rows(l, &q);
	for (size_t i = 0; i < q.len; i++) {
		add_row(l, &b, &q.rows[i]);
		if (q.rows[i].seq > l->pass_seq)
			l->pass_seq = q.rows[i].seq;
		free(q.rows[i].name);
	}
	send_batch(l, &b);
	if (more)
		return;
	if (l->pass == 0) {
		l->pass = 1;
		l->pass_seq = l->sent_seq;
	} else {
		l->sent_seq = l->window;
		l->window = 0;
	}
}

/* Do we know more than they, and than we said?  All that we have may have gone to
 * them before we heard that it is all there is. */
static bool
knows_more(const struct link *l)
{
	return !vv_dominates(&l->marked, &l->r->durable) && !vv_dominates(&l->know, &l->r->durable);
}

/* What they told us is sent to nobody here, but is in the way of the next link. */
static bool
came_far(const struct link *l)
{
	return l->sent_seq - l->marked_seq >= MARK_CHANGES;
}

void
link_pump_changes(struct link *l)
{
	l->more = false;
	if (!l->subscribed || l->barrier_wait || l->closing || l->out.len > l->out_high)
		return;
	/* While paused only what was asked for by hand. */
	if (!l->due_len && !l->window && peers_paused(l->r, l->peer))
		return;
	if (replica_commit(l->r) < 0)
		return;
	/* Adopting comes before telling. */
	if ((l->sent_seq < l->r->s->seq || l->due_len) && link_send_offer(l))
		return;
	if (replica_commit(l->r) < 0)
		return;
	if (!link_check_full(l))
		return;
	for (unsigned n = 0; l->out.len <= l->out_high && !l->closing && start_window(l); n++) {
		l->more = n == TURN_STRETCHES;
		if (l->more)
			return;
		send_stretch(l);
	}
	while (!l->closing && l->subscribed && !l->window && l->sent_seq >= l->r->s->seq &&
	    (l->news || l->due_len || !l->continuous || knows_more(l) || came_far(l)))
		link_send_watermark(l);
}
