/*
 * Registers are kept packed as in the index; directories by local number, as
 * there, with the numbers in place of pointers.
 */
#include "config.h"

#include "tests/lib/rows.h"

#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"
#include "replication/wire.h"

struct reg_row {
	UT_hash_handle hh;
	uint8_t *key;
	uint32_t key_len;
	uint64_t seq;
	uint8_t *data;
	size_t len;
};

struct dir_row {
	UT_hash_handle hh;
	uint64_t num, seq;
	struct identity id;
	struct place birth;	/* here and in val `up` is the number */
	uint32_t k;
	enum dir_told told;
	struct dirval val;
};

struct cursor {
	UT_hash_handle hh;
	uint64_t peer, seq;
};

struct rows {
	struct reg_row *regs;
	struct dir_row *dirs;
	struct cursor *cursors;
	uint64_t counter, hlc, seq, next_num;
	struct vv know, forgot;
};

/* ---- the feed ---- */

static void
feed_add(struct feed *f, uint64_t seq, uint64_t num, const char *name)
{
	if (f->len == f->cap) {
		f->cap = f->cap ? 2 * f->cap : 16;
		f->c = mem_resize(f->c, f->cap, sizeof(*f->c));
	}
	f->c[f->len++] = (struct change){ seq, num, mem_str(name) };
}

static int
by_seq(const void *a, const void *b)
{
	const struct change *x = a, *y = b;

	return (x->seq > y->seq) - (x->seq < y->seq);
}

static void
feed_sort(struct feed *f, size_t from)
{
	if (f->len > from)
		qsort(f->c + from, f->len - from, sizeof(*f->c), by_seq);
}

size_t
feed_after(const struct feed *f, uint64_t seq)
{
	size_t low = 0, high = f->len;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (f->c[mid].seq <= seq)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void
feed_fini(struct feed *f)
{
	while (f->len)
		free(f->c[--f->len].name);
	free(f->c);
	*f = (struct feed){ 0 };
}

/* ---- rows ---- */

struct rows *
rows_new(void)
{
	return mem_alloc(sizeof(struct rows));
}

/* Numbers for pointers: directories come and go with each state. */
static struct place
by_number(struct place p)
{
	return (struct place){ (struct dir *)(uintptr_t)(p.up ? p.up->num : 0), p.name };
}

static struct place
by_pointer(struct state *s, struct place p)
{
	return (struct place){ p.up ? state_dir_num(s, (uintptr_t)p.up) : NULL, p.name };
}

static void
put_reg(struct rows *x, const struct reg *r)
{
	struct reg_row *row;

	HASH_FIND(hh, x->regs, r->key, r->key_len, row);
	if (!row) {
		row = mem_alloc(sizeof(*row));
		row->key = mem_dup(r->key, r->key_len + 1);
		row->key_len = r->key_len;
		HASH_ADD_KEYPTR(hh, x->regs, row->key, row->key_len, row);
	}
	free(row->data);
	wire_pack_index_reg(r, &row->data, &row->len);
	row->seq = r->seq;
}

static void
put_dir(struct rows *x, const struct dir *d)
{
	struct dir_row *row;

	HASH_FIND(hh, x->dirs, &d->num, sizeof(d->num), row);
	if (!row) {
		row = mem_alloc(sizeof(*row));
		row->num = d->num;
		HASH_ADD(hh, x->dirs, num, sizeof(row->num), row);
	}
	free(row->birth.name);
	dirval_fini(&row->val);
	row->id = d->id;
	row->seq = d->seq;
	row->birth = by_number(d->birth);
	row->birth.name = mem_str(d->birth.name);
	row->k = d->birth_k;
	row->told = d->told;
	dirval_copy(&row->val, &d->val);
	for (uint32_t i = 0; i < row->val.moves_len; i++) {
		row->val.moves[i].to = by_number(row->val.moves[i].to);
		row->val.moves[i].from = by_number(row->val.moves[i].from);
	}
}

void
rows_commit(struct rows *x, struct state *s, struct feed *feed)
{
	size_t from = feed->len;
	/* What was only noted kept its number: it is in the feed already. */
	uint64_t before = from ? feed->c[from - 1].seq : 0;

	for (size_t i = 0; i < s->touched_regs.len; i++)
		s->touched_regs.r[i]->touched = false;
	for (size_t i = 0; i < s->touched_dirs.len; i++)
		s->touched_dirs.d[i]->touched = false;
	s->touched_regs.len = s->touched_dirs.len = 0;
	for (size_t i = 0; i < s->dirty_regs.len; i++) {
		struct reg *r = s->dirty_regs.r[i];

		r->dirty = false;
		if (r->seq > before)
			feed_add(feed, r->seq, r->dir->num, reg_name(r));
		if (x)
			put_reg(x, r);
	}
	for (size_t i = 0; i < s->dirty_dirs.len; i++) {
		struct dir *d = s->dirty_dirs.d[i];

		d->dirty = false;
		if (d->seq > before)
			feed_add(feed, d->seq, d->num, NULL);
		if (x)
			put_dir(x, d);
	}
	s->dirty_regs.len = s->dirty_dirs.len = 0;
	feed_sort(feed, from);
	if (!x)
		return;
	x->counter = s->counter;
	x->hlc = s->hlc;
	x->seq = s->seq;
	x->next_num = s->next_num;
	vv_fini(&x->know);
	x->know = vv_copy(&s->know);
	vv_fini(&x->forgot);
	x->forgot = vv_copy(&s->forgot);
}

static void
restore_dirs(const struct rows *x, struct state *s, struct feed *feed)
{
	for (struct dir_row *row = x->dirs; row; row = row->hh.next)
		if (!state_dir(s, &row->id))
			state_dir_load(s, &row->id, row->num);
	for (struct dir_row *row = x->dirs; row; row = row->hh.next) {
		struct dir *d = state_dir_num(s, row->num);

		d->seq = row->seq;
		d->told = row->told;
		d->birth = by_pointer(s, row->birth);
		d->birth.name = mem_str(row->birth.name);
		d->birth_k = row->k;
		dirval_fini(&d->val);
		dirval_copy(&d->val, &row->val);
		for (uint32_t i = 0; i < d->val.moves_len; i++) {
			d->val.moves[i].to = by_pointer(s, d->val.moves[i].to);
			d->val.moves[i].from = by_pointer(s, d->val.moves[i].from);
		}
		if (d != s->root)
			state_dir_loaded(s, d);
		feed_add(feed, d->seq, d->num, NULL);
	}
}

static void
restore_reg(struct state *s, const struct reg_row *row, struct feed *feed)
{
	const char *name = (const char *)row->key + 8;
	struct reg *r;
	uint64_t num;

	memcpy(&num, row->key, 8);
	r = state_reg(s, state_dir_num(s, num), name, true);
	if (wire_unpack_index_reg(row->data, row->len, r) < 0)
		abort();
	r->seq = row->seq;
	r->counted = r->shown.len > 0;
	r->dir->files += r->counted;
	feed_add(feed, r->seq, num, name);
}

struct state *
rows_restore(const struct rows *x, uint64_t self, const struct state_io *io, struct feed *feed)
{
	struct state *s = state_new(self, io);

	feed_fini(feed);
	restore_dirs(x, s, feed);
	for (struct reg_row *row = x->regs; row; row = row->hh.next)
		restore_reg(s, row, feed);
	feed_sort(feed, 0);
	s->counter = x->counter;
	s->hlc = x->hlc;
	s->seq = x->seq;
	if (x->next_num)
		s->next_num = x->next_num;
	s->know = vv_copy(&x->know);
	s->forgot = vv_copy(&x->forgot);
	state_rebuild(s);
	return s;
}

void
rows_set_cursor(struct rows *x, uint64_t peer, uint64_t seq)
{
	struct cursor *c;

	HASH_FIND(hh, x->cursors, &peer, sizeof(peer), c);
	if (!c) {
		c = mem_alloc(sizeof(*c));
		c->peer = peer;
		HASH_ADD(hh, x->cursors, peer, sizeof(c->peer), c);
	}
	c->seq = seq;
}

uint64_t
rows_cursor(const struct rows *x, uint64_t peer)
{
	struct cursor *c;

	HASH_FIND(hh, x->cursors, &peer, sizeof(peer), c);
	return c ? c->seq : 0;
}

static void
reg_row_free(struct reg_row *r)
{
	free(r->key);
	free(r->data);
	free(r);
}

static void
dir_row_free(struct dir_row *d)
{
	free(d->birth.name);
	dirval_fini(&d->val);
	free(d);
}

void
rows_forget(struct rows *x, struct state *s)
{
	struct reg_row *r, *rtmp;
	struct dir_row *d, *dtmp;
	struct reg *still;

	HASH_ITER(hh, x->regs, r, rtmp) {
		HASH_FIND(hh, s->regs, r->key, r->key_len, still);
		if (!still) {
			HASH_DEL(x->regs, r);
			reg_row_free(r);
		}
	}
	HASH_ITER(hh, x->dirs, d, dtmp)
		if (!state_dir_num(s, d->num)) {
			HASH_DEL(x->dirs, d);
			dir_row_free(d);
		}
}

const struct vv *
rows_know(const struct rows *x)
{
	return &x->know;
}

uint64_t
rows_counter(const struct rows *x)
{
	return x->counter;
}

void
rows_free(struct rows *x)
{
	struct reg_row *r, *rtmp;
	struct dir_row *d, *dtmp;
	struct cursor *c, *ctmp;

	if (!x)
		return;
	HASH_ITER(hh, x->regs, r, rtmp) {
		HASH_DEL(x->regs, r);
		reg_row_free(r);
	}
	HASH_ITER(hh, x->dirs, d, dtmp) {
		HASH_DEL(x->dirs, d);
		dir_row_free(d);
	}
	HASH_ITER(hh, x->cursors, c, ctmp) {
		HASH_DEL(x->cursors, c);
		free(c);
	}
	vv_fini(&x->know);
	vv_fini(&x->forgot);
	free(x);
}
