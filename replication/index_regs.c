/*
 * Rows of registers, tombstones among them.
 */
#include "config.h"

#include "replication/index_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"
#include "replication/wire.h"

static uint64_t
dir_num(const struct reg *r)
{
	uint64_t num;

	memcpy(&num, r->key, 8);
	return num;
}

static int64_t
content_key(const struct hash *h)
{
	int64_t key;

	memcpy(&key, h->b, sizeof(key));
	return key;
}

static void
bind_key(sqlite3_stmt *st, int at, const struct reg *r)
{
	sqlite3_bind_int64(st, at, (int64_t)dir_num(r));
	sqlite3_bind_blob(st, at + 1, reg_name(r), (int)(r->key_len - 8), SQLITE_STATIC);
}

/* The event that a tombstone waits for: any on it; more events of one replica
 * came later, mostly. */
static void
bind_wait(sqlite3_stmt *st, int at, const struct reg *r)
{
	struct dot wait = { 0, 0 };

	if (r->shown.len || r->pending) {
		sqlite3_bind_null(st, at);
		sqlite3_bind_null(st, at + 1);
		return;
	}
	for (uint32_t i = 0; i < r->shown.ctx.len; i++)
		if (r->shown.ctx.e[i].n > wait.n)
			wait = r->shown.ctx.e[i];
	sqlite3_bind_int64(st, at, (int64_t)wait.id);
	sqlite3_bind_int64(st, at + 1, (int64_t)wait.n);
}

static int
put_contents(struct index *x, const struct reg *r)
{
	sqlite3_stmt *st = x->st[SQL_DROP_CONTENTS];
	int rc;

	bind_key(st, 1, r);
	rc = index_change(x, st);
	for (uint32_t i = 0; i < r->files_len && rc == 0 && r->files_len > 1; i++) {
		st = x->st[SQL_PUT_CONTENT];
		sqlite3_bind_int64(st, 1, content_key(&r->files[i].hash));
		bind_key(st, 2, r);
		rc = index_change(x, st);
	}
	return rc;
}

int
index_put_reg(struct index *x, const struct reg *r, bool in_conflict)
{
	sqlite3_stmt *st = x->st[SQL_PUT_REG];
	uint8_t *data;
	size_t len;
	int rc;

	wire_pack_index_reg(r, &data, &len);
	bind_key(st, 1, r);
	sqlite3_bind_int64(st, 3, (int64_t)r->seq);
	sqlite3_bind_int(st, 4, r->shown.len > 0);
	sqlite3_bind_int(st, 5, (r->pending ? INDEX_PENDING : 0) | (in_conflict ? INDEX_CONFLICT : 0) |
	    (r->again ? INDEX_AGAIN : 0));
	if (r->files_len == 1)
		sqlite3_bind_int64(st, 6, content_key(&r->files[0].hash));
	else
		sqlite3_bind_null(st, 6);
	sqlite3_bind_blob64(st, 7, data, len, SQLITE_STATIC);
	bind_wait(st, 8, r);
	rc = index_change(x, st);
	free(data);
	return rc < 0 ? rc : put_contents(x, r);
}

int
index_get_reg(struct index *x, struct reg *r)
{
	sqlite3_stmt *st = x->st[SQL_GET_REG];
	int rc, bad = 0;

	bind_key(st, 1, r);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		r->seq = (uint64_t)sqlite3_column_int64(st, 0);
		r->in_conflict = sqlite3_column_int(st, 1) & INDEX_CONFLICT;
		r->again = sqlite3_column_int(st, 1) & INDEX_AGAIN;
		bad = wire_unpack_index_reg(sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2), r);
	}
	index_finish(st, rc);
	if (rc == SQLITE_ROW)
		return bad < 0 ? -EIO : 1;
	return rc == SQLITE_DONE ? 0 : index_error_of(rc);
}

int
index_delete_reg(struct index *x, const struct reg *r)
{
	sqlite3_stmt *st = x->st[SQL_DELETE_REG];
	int rc;

	bind_key(st, 1, r);
	rc = index_change(x, st);
	if (rc == 0) {
		bind_key(x->st[SQL_DROP_CONTENTS], 1, r);
		rc = index_change(x, x->st[SQL_DROP_CONTENTS]);
	}
	return rc;
}

struct found {
	uint64_t dir, seq;
	char *name;
};

/* Rows are collected first: fn may read the index, by the same statement too. */
static int
each(sqlite3_stmt *st, index_reg_fn *fn, void *arg)
{
	struct found *rows = NULL;
	size_t n = 0, len;
	int rc, out;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
		if ((n & (n - 1)) == 0)
			rows = mem_resize(rows, n ? 2 * n : 1, sizeof(*rows));
		rows[n].dir = (uint64_t)sqlite3_column_int64(st, 0);
		rows[n].name = index_column_bytes(st, 1, &len);
		rows[n++].seq = (uint64_t)sqlite3_column_int64(st, 2);
	}
	out = index_finish(st, rc);
	for (size_t i = 0; i < n; i++) {
		if (out == 0)
			out = fn(arg, rows[i].dir, rows[i].name, rows[i].seq);
		free(rows[i].name);
	}
	free(rows);
	return out;
}

int
index_regs_since(struct index *x, uint64_t seq, size_t limit, index_reg_fn *fn, void *arg)
{
	sqlite3_stmt *st = x->st[SQL_REGS_SINCE];

	sqlite3_bind_int64(st, 1, (int64_t)seq);
	sqlite3_bind_int64(st, 2, limit > INT64_MAX ? -1 : (int64_t)limit);
	return each(st, fn, arg);
}

int
index_regs_gone(struct index *x, uint64_t seq, uint64_t upto, size_t limit, index_reg_fn *fn, void *arg)
{
	sqlite3_stmt *st = x->st[SQL_REGS_GONE];

	sqlite3_bind_int64(st, 1, (int64_t)seq);
	sqlite3_bind_int64(st, 2, (int64_t)upto);
	sqlite3_bind_int64(st, 3, limit > INT64_MAX ? -1 : (int64_t)limit);
	return each(st, fn, arg);
}

int
index_regs_pending(struct index *x, index_reg_fn *fn, void *arg)
{
	return each(x->st[SQL_REGS_PENDING], fn, arg);
}

int
index_regs_in_conflict(struct index *x, index_reg_fn *fn, void *arg)
{
	return each(x->st[SQL_REGS_CONFLICT], fn, arg);
}

int
index_regs_in_dir(struct index *x, uint64_t num, index_reg_fn *fn, void *arg)
{
	sqlite3_bind_int64(x->st[SQL_REGS_IN_DIR], 1, (int64_t)num);
	return each(x->st[SQL_REGS_IN_DIR], fn, arg);
}

int
index_regs_with_content(struct index *x, const struct hash *h, size_t limit, index_reg_fn *fn, void *arg)
{
	sqlite3_bind_int64(x->st[SQL_REGS_CONTENT], 1, content_key(h));
	sqlite3_bind_int64(x->st[SQL_REGS_CONTENT], 2, (int64_t)limit);
	return each(x->st[SQL_REGS_CONTENT], fn, arg);
}

int
index_count_files(struct index *x, void (*fn)(void *arg, uint64_t num, uint32_t files), void *arg)
{
	sqlite3_stmt *st = x->st[SQL_COUNT_FILES];
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW)
		fn(arg, (uint64_t)sqlite3_column_int64(st, 0), (uint32_t)sqlite3_column_int64(st, 1));
	return index_finish(st, rc);
}

/* ---- tombstones ---- */

static int
tombstones_of(struct index *x, struct dot upto, size_t limit, index_reg_fn *fn, void *arg)
{
	sqlite3_stmt *st = x->st[SQL_TOMBSTONES];

	sqlite3_bind_int64(st, 1, (int64_t)upto.id);
	sqlite3_bind_int64(st, 2, (int64_t)upto.n);
	sqlite3_bind_int64(st, 3, (int64_t)limit);
	return each(st, fn, arg);
}

int
index_tombstones(struct index *x, const struct vv *stable, size_t limit, index_reg_fn *fn, void *arg)
{
	int rc = tombstones_of(x, (struct dot){ 0, 0 }, limit, fn, arg);

	for (uint32_t i = 0; i < stable->len && rc == 0; i++)
		rc = tombstones_of(x, stable->e[i], limit, fn, arg);
	return rc;
}

int
index_set_wait(struct index *x, const struct reg *r, struct dot d)
{
	sqlite3_stmt *st = x->st[SQL_SET_WAIT];

	bind_key(st, 1, r);
	sqlite3_bind_int64(st, 3, (int64_t)d.id);
	sqlite3_bind_int64(st, 4, (int64_t)d.n);
	return index_change(x, st);
}

int
index_count_tombstones(struct index *x, uint64_t *rows)
{
	sqlite3_stmt *st = x->st[SQL_COUNT_TOMBSTONES];
	int rc;

	if ((rc = sqlite3_step(st)) == SQLITE_ROW)
		*rows = (uint64_t)sqlite3_column_int64(st, 0);
	return index_finish(st, rc);
}

bool
index_has_regs(struct index *x, uint64_t num)
{
	sqlite3_stmt *st = x->st[SQL_HAS_REGS];
	int rc;

	sqlite3_bind_int64(st, 1, (int64_t)num);
	rc = sqlite3_step(st);
	index_finish(st, rc);
	return rc != SQLITE_DONE;
}
