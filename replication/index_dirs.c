/*
 * Rows of directories.
 */
#include "config.h"

#include "replication/index_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"
#include "replication/wire.h"

/*
 * In rows, what a place is in goes by its local number: a directory that no
 * peer has heard of may take another identity, and those that were moved into
 * it are not written again for that.
 */
static void
place_by_number(Sibfs__Wire__Place *m, const struct dir *up)
{
	memcpy(m->up.data, &up->num, sizeof(up->num));
	m->up.len = sizeof(up->num);
}

static int
place_by_identity(struct state *s, Sibfs__Wire__Place *m)
{
	struct dir *up;
	uint64_t num;

	if (!m || m->up.len != sizeof(num))
		return -EIO;
	memcpy(&num, m->up.data, sizeof(num));
	if (!(up = state_dir_num(s, num)))
		return -EIO;
	free(m->up.data);
	m->up.data = mem_dup(up->id.b, sizeof(up->id.b));
	m->up.len = sizeof(up->id.b);
	return 0;
}

static int
places_by_identity(struct state *s, Sibfs__Wire__Directory *m)
{
	int rc = place_by_identity(s, m->birth);

	for (size_t i = 0; i < m->n_moves && rc == 0; i++) {
		rc = place_by_identity(s, m->moves[i]->to);
		if (rc == 0)
			rc = place_by_identity(s, m->moves[i]->from);
	}
	return rc;
}

int
index_put_dir(struct index *x, const struct dir *d, uint64_t ino)
{
	Sibfs__Wire__IndexDirectory m = SIBFS__WIRE__INDEX_DIRECTORY__INIT;
	sqlite3_stmt *st = x->st[SQL_PUT_DIR];
	size_t len;
	uint8_t *data;
	int rc;

	m.dir = wire_directory(d);
	if (d->birth.up)
		place_by_number(m.dir->birth, d->birth.up);
	for (uint32_t i = 0; i < d->val.moves_len; i++) {
		place_by_number(m.dir->moves[i]->to, d->val.moves[i].to.up);
		place_by_number(m.dir->moves[i]->from, d->val.moves[i].from.up);
	}
	m.told = d->told;
	m.ino = ino;
	m.again = d->touched || d->again;
	len = sibfs__wire__index_directory__get_packed_size(&m);
	data = mem_alloc(len);
	sibfs__wire__index_directory__pack(&m, data);
	sqlite3_bind_int64(st, 1, (int64_t)d->num);
	sqlite3_bind_int64(st, 2, (int64_t)d->seq);
	sqlite3_bind_int64(st, 3, (int64_t)ino);
	sqlite3_bind_blob64(st, 4, data, len, SQLITE_STATIC);
	rc = index_change(x, st);
	free(data);
	sibfs__wire__directory__free_unpacked(m.dir, NULL);
	return rc;
}

struct loaded {
	struct dir *d;
	Sibfs__Wire__IndexDirectory *m;
};

static int
load_first(struct state *s, sqlite3_stmt *st, struct loaded *out)
{
	struct identity id;

	out->m = sibfs__wire__index_directory__unpack(NULL, (size_t)sqlite3_column_bytes(st, 3),
	    sqlite3_column_blob(st, 3));
	if (!out->m || !out->m->dir || wire_get_identity(&out->m->dir->id, &id) < 0)
		return -EIO;
	out->d = state_dir(s, &id);
	if (!out->d)
		out->d = state_dir_load(s, &id, (uint64_t)sqlite3_column_int64(st, 0));
	out->d->seq = (uint64_t)sqlite3_column_int64(st, 1);
	out->d->told = out->m->told <= DIR_TAKEN_IN ? (enum dir_told)out->m->told : DIR_TOLD;
	out->d->again = out->m->again;
	return 0;
}

static int
load_second(struct state *s, const struct loaded *l)
{
	struct place birth;
	struct dirval val;
	uint32_t k;

	if (l->d == s->root) {
		if (wire_get_dots(l->m->dir->ctx, l->m->dir->n_ctx, &l->d->val.ctx) < 0)
			return -EIO;
		return wire_get_attrs(l->m->dir->attrs, l->m->dir->n_attrs, &l->d->val.attrs) < 0 ? -EIO : 0;
	}
	if (places_by_identity(s, l->m->dir) < 0 || wire_get_directory(s, l->m->dir, &birth, &k, &val) < 0)
		return -EIO;
	l->d->birth = birth;
	l->d->birth_k = k;
	l->d->val = val;
	state_dir_loaded(s, l->d);
	return 0;
}

static int
by_seq(const void *a, const void *b)
{
	const struct loaded *x = a, *y = b;

	return (x->d->seq > y->d->seq) - (x->d->seq < y->d->seq);
}

int
index_load_dirs(struct index *x, struct state *s, void (*fn)(void *arg, struct dir *d, uint64_t ino), void *arg)
{
	sqlite3_stmt *st = x->st[SQL_LOAD_DIRS];
	struct loaded *l = NULL;
	size_t n = 0;
	int rc, bad = 0;

	while (bad == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		if ((n & (n - 1)) == 0)
			l = mem_resize(l, n ? 2 * n : 1, sizeof(*l));
		bad = load_first(s, st, &l[n++]);
	}
	rc = index_finish(st, rc);
	if (bad == 0 && n)
		qsort(l, n, sizeof(*l), by_seq);
	for (size_t i = 0; i < n; i++) {
		if (bad == 0)
			bad = load_second(s, &l[i]);
		if (bad == 0)
			fn(arg, l[i].d, l[i].m->ino);
		if (l[i].m)
			sibfs__wire__index_directory__free_unpacked(l[i].m, NULL);
	}
	free(l);
	return bad < 0 ? bad : rc;
}

int
index_delete_dir(struct index *x, uint64_t num)
{
	int rc;

	sqlite3_bind_int64(x->st[SQL_DELETE_DIR], 1, (int64_t)num);
	rc = index_change(x, x->st[SQL_DELETE_DIR]);
	if (rc == 0) {
		sqlite3_bind_int64(x->st[SQL_DELETE_FILES], 1, (int64_t)num);
		rc = index_change(x, x->st[SQL_DELETE_FILES]);
	}
	return rc;
}
