/*
 * The index in SQLite.
 */
#include "config.h"

#include "replication/index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "replication/mem.h"
#include "replication/wire.h"

#define FLAG_PENDING 1
#define FLAG_CONFLICT 2
#define FLAG_TODO 4

static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;"
    "CREATE TABLE dirs (num INTEGER PRIMARY KEY, seq INTEGER, ino INTEGER, data BLOB);"
    "CREATE TABLE regs (dir INTEGER, name BLOB, seq INTEGER, live INTEGER, flags INTEGER, content INTEGER,"
    " data BLOB, PRIMARY KEY (dir, name)) WITHOUT ROWID;"
    "CREATE INDEX regs_seq ON regs (seq);"
    "CREATE INDEX regs_flags ON regs (flags) WHERE flags != 0;"
    "CREATE INDEX regs_content ON regs (content) WHERE content IS NOT NULL;"
    /* Registers that hold more than one content. */
    "CREATE TABLE contents (content INTEGER, dir INTEGER, name BLOB, PRIMARY KEY (content, dir, name))"
    " WITHOUT ROWID;"
    "CREATE INDEX contents_reg ON contents (dir, name);"
    /* How many registers of a directory are live, so that a start need not read
     * them all. */
    "CREATE TABLE files (dir INTEGER PRIMARY KEY, n INTEGER);"
    "CREATE TRIGGER regs_insert AFTER INSERT ON regs WHEN new.live BEGIN"
    " INSERT INTO files VALUES (new.dir, 1) ON CONFLICT DO UPDATE SET n = n + 1; END;"
    "CREATE TRIGGER regs_update AFTER UPDATE ON regs WHEN old.live != new.live BEGIN"
    " INSERT INTO files VALUES (new.dir, new.live - old.live)"
    " ON CONFLICT DO UPDATE SET n = n + new.live - old.live; END;"
    "CREATE TRIGGER regs_delete AFTER DELETE ON regs WHEN old.live BEGIN"
    " UPDATE files SET n = n - 1 WHERE dir = old.dir; END;"
    "CREATE TABLE members (id INTEGER PRIMARY KEY, node TEXT);"
    "CREATE TABLE peers (id INTEGER PRIMARY KEY, node TEXT, epoch INTEGER, seq INTEGER);"
    "PRAGMA user_version = 1;"
    "COMMIT";

/*
 * What came later, applied to stores that are older: the first makes version 2
 * of version 1, and so on.
 */
static const char *const upgrades[] = {
	/* A tombstone waits until all members have the events on it.  The row names
	 * one of these: as long as that one is missing somewhere the row need not be
	 * looked at.  Event 0 is one that everybody has. */
	"BEGIN IMMEDIATE;"
	"ALTER TABLE regs ADD COLUMN wait_id INTEGER;"
	"ALTER TABLE regs ADD COLUMN wait_n INTEGER;"
	"UPDATE regs SET wait_id = 0, wait_n = 0 WHERE NOT live AND NOT flags & 1;"
	"CREATE INDEX regs_wait ON regs (wait_id, wait_n) WHERE wait_id IS NOT NULL;"
	"ALTER TABLE members ADD COLUMN data BLOB;"
	"PRAGMA user_version = 2;"
	"COMMIT",
	/* Blocks of numbers, in the order in which they were learnt. */
	"BEGIN IMMEDIATE;"
	"CREATE TABLE blocks (n INTEGER PRIMARY KEY, token INTEGER, parent INTEGER, start INTEGER, last INTEGER,"
	" id INTEGER);"
	"PRAGMA user_version = 3;"
	"COMMIT",
	/* Rows of registers may be brief: an older program would find them damaged. */
	"PRAGMA user_version = 4;",
};

#define SCHEMA_VERSION (1 + (int)(sizeof(upgrades) / sizeof(*upgrades)))

enum statement {
	BEGIN, COMMIT, ROLLBACK,
	SET_VALUE, GET_VALUE,
	PUT_REG, GET_REG, DELETE_REG,
	REGS_SINCE, REGS_PENDING, REGS_CONFLICT, REGS_IN_DIR, REGS_CONTENT,
	COUNT_FILES, COUNT_SINCE,
	TOMBSTONES, SET_WAIT, COUNT_TOMBSTONES, HAS_REGS,
	PUT_CONTENT, DROP_CONTENTS,
	PUT_DIR, LOAD_DIRS, DELETE_DIR, DELETE_FILES,
	PUT_MEMBER, LOAD_MEMBERS, PUT_PEER, LOAD_PEERS,
	PUT_BLOCK, LOAD_BLOCKS,
	STATEMENTS,
};

static const char *const sql[STATEMENTS] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[SET_VALUE] = "INSERT OR REPLACE INTO meta VALUES (?, ?)",
	[GET_VALUE] = "SELECT value FROM meta WHERE key = ?",
	[PUT_REG] = "INSERT INTO regs (dir, name, seq, live, flags, content, data, wait_id, wait_n)"
	    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq,"
	    " live = excluded.live, flags = excluded.flags, content = excluded.content, data = excluded.data,"
	    " wait_id = excluded.wait_id, wait_n = excluded.wait_n",
	[GET_REG] = "SELECT seq, flags, data FROM regs WHERE dir = ? AND name = ?",
	[DELETE_REG] = "DELETE FROM regs WHERE dir = ? AND name = ?",
	[REGS_SINCE] = "SELECT dir, name, seq FROM regs WHERE seq > ? ORDER BY seq LIMIT ?",
	[REGS_PENDING] = "SELECT dir, name, seq FROM regs WHERE flags != 0 AND flags & 5",
	[REGS_CONFLICT] = "SELECT dir, name, seq FROM regs WHERE flags != 0 AND flags & 2",
	[REGS_IN_DIR] = "SELECT dir, name, seq FROM regs WHERE dir = ?",
	[REGS_CONTENT] = "SELECT dir, name, seq FROM regs WHERE content = ?1 UNION ALL"
	    " SELECT dir, name, 0 FROM contents WHERE content = ?1",
	[COUNT_FILES] = "SELECT dir, n FROM files WHERE n > 0",
	[COUNT_SINCE] = "SELECT count(*) FROM regs WHERE seq > ?",
	[TOMBSTONES] = "SELECT dir, name, seq FROM regs WHERE wait_id = ? AND wait_n <= ? AND wait_id IS NOT NULL LIMIT ?",
	[SET_WAIT] = "UPDATE regs SET wait_id = ?3, wait_n = ?4 WHERE dir = ?1 AND name = ?2",
	[COUNT_TOMBSTONES] = "SELECT count(*) FROM regs WHERE wait_id IS NOT NULL",
	[HAS_REGS] = "SELECT 1 FROM regs WHERE dir = ? LIMIT 1",
	[PUT_CONTENT] = "INSERT OR IGNORE INTO contents VALUES (?, ?, ?)",
	[DROP_CONTENTS] = "DELETE FROM contents WHERE dir = ? AND name = ?",
	[PUT_DIR] = "INSERT OR REPLACE INTO dirs VALUES (?, ?, ?, ?)",
	[LOAD_DIRS] = "SELECT num, seq, ino, data FROM dirs",
	[DELETE_DIR] = "DELETE FROM dirs WHERE num = ?",
	[DELETE_FILES] = "DELETE FROM files WHERE dir = ?",
	[PUT_MEMBER] = "INSERT OR REPLACE INTO members (id, node, data) VALUES (?, ?, ?)",
	[LOAD_MEMBERS] = "SELECT id, node, data FROM members",
	[PUT_PEER] = "INSERT OR REPLACE INTO peers VALUES (?, ?, ?, ?)",
	[LOAD_PEERS] = "SELECT id, node, epoch, seq FROM peers",
	[PUT_BLOCK] = "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?)",
	[LOAD_BLOCKS] = "SELECT token, parent, start, last, id FROM blocks ORDER BY n",
};

struct index {
	sqlite3 *db;
	sqlite3_stmt *st[STATEMENTS];
	int dirfd;		/* our own: the path of the database leads through it */
	bool begun;
	int failed;		/* what the transaction under way failed by */
};

/* ---- opening ---- */

static int
plain_path(sqlite3_vfs *vfs, const char *name, int size, char *out)
{
	(void)vfs;
	return snprintf(out, (size_t)size, "%s", name) < size ? SQLITE_OK : SQLITE_CANTOPEN;
}

/*
 * The default file system layer, but paths stay as given: what stands behind
 * /proc/self/fd/N must not be looked up by name, something may be mounted there.
 */
static const char *
vfs_name(void)
{
	static sqlite3_vfs vfs;

	if (!vfs.zName) {
		vfs = *sqlite3_vfs_find(NULL);
		vfs.zName = "sibfs";
		vfs.xFullPathname = plain_path;
		sqlite3_vfs_register(&vfs, 0);
	}
	return vfs.zName;
}

static int
error_of(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_DONE:
	case SQLITE_ROW:
		return 0;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

static int
prepare(struct index *x)
{
	for (int i = 0; i < STATEMENTS; i++) {
		int rc = sqlite3_prepare_v3(x->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &x->st[i], NULL);

		if (rc != SQLITE_OK)
			return error_of(rc);
	}
	return 0;
}

static int
read_version(sqlite3 *db, int *out)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &st, NULL);

	if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW)
		*out = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? 0 : error_of(rc);
}

static int
set_up(struct index *x, bool create, char *why, size_t why_size)
{
	int version = 0, rc;

	rc = sqlite3_exec(x->db, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
	    "PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint=4000; PRAGMA journal_size_limit=33554432;"
	    "PRAGMA cache_size=-16384;", NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = read_version(x->db, &version) == 0 ? SQLITE_OK : SQLITE_IOERR;
	if (rc == SQLITE_OK && version == 0 && create) {
		rc = sqlite3_exec(x->db, schema, NULL, NULL, NULL);
		version = 1;
	} else if (rc == SQLITE_OK && version > SCHEMA_VERSION) {
		snprintf(why, why_size, "the store was written by a newer sibfs (index version %d): use that one", version);
		return -EPROTO;
	} else if (rc == SQLITE_OK && version < 1) {
		snprintf(why, why_size, "the index is damaged: it has no version");
		return -EIO;
	}
	for (; rc == SQLITE_OK && version < SCHEMA_VERSION; version++)
		rc = sqlite3_exec(x->db, upgrades[version - 1], NULL, NULL, NULL);
	if (rc != SQLITE_OK) {
		snprintf(why, why_size, "the index: %s", sqlite3_errmsg(x->db));
		return error_of(rc);
	}
	return prepare(x);
}

int
index_open(int dirfd, bool create, struct index **out, char *why, size_t why_size)
{
	struct index *x = mem_alloc(sizeof(*x));
	char path[64];
	int rc;

	if (!create && faccessat(dirfd, "index.db", F_OK, 0) < 0) {
		rc = -errno;
		snprintf(why, why_size, "the index: %s", strerror(errno));
		free(x);
		return rc;
	}
	x->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
	if (x->dirfd < 0) {
		rc = -errno;
		snprintf(why, why_size, "the index: %s", strerror(errno));
		free(x);
		return rc;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d/index.db", x->dirfd);
	rc = sqlite3_open_v2(path, &x->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0),
	    vfs_name());
	if (rc != SQLITE_OK) {
		snprintf(why, why_size, "the index: %s", x->db ? sqlite3_errmsg(x->db) : "no memory");
		rc = error_of(rc);
	} else {
		rc = set_up(x, create, why, why_size);
	}
	if (rc < 0) {
		index_close(x);
		return rc;
	}
	*out = x;
	return 0;
}

void
index_close(struct index *x)
{
	if (!x)
		return;
	for (int i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(x->st[i]);
	sqlite3_close(x->db);
	close(x->dirfd);
	free(x);
}

/* ---- running statements ---- */

static int
finish(sqlite3_stmt *st, int rc)
{
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return error_of(rc);
}

static int
run(sqlite3_stmt *st)
{
	return finish(st, sqlite3_step(st));
}

/*
 * A change.  SQLite may end a transaction by itself when the disk is full; what
 * follows would be committed one by one then, and half of it would stand.
 */
static int
change(struct index *x, sqlite3_stmt *st)
{
	int rc = x->failed;

	if (rc == 0)
		rc = run(st);
	else
		finish(st, SQLITE_OK);
	if (rc < 0 && x->begun)
		x->failed = rc;
	return rc;
}

int
index_begin(struct index *x)
{
	int rc = run(x->st[BEGIN]);

	if (rc == 0)
		x->begun = true;
	return rc;
}

int
index_commit_unsynced(struct index *x)
{
	int rc = x->failed ? x->failed : run(x->st[COMMIT]);

	if (rc < 0)
		x->failed = rc;
	else
		x->begun = false;
	return rc;
}

int
index_sync(struct index *x)
{
	sqlite3_file *wal = NULL;
	int rc = sqlite3_file_control(x->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);

	if (rc == SQLITE_OK && wal && wal->pMethods)
		rc = wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
	return error_of(rc);
}

int
index_commit(struct index *x)
{
	int rc = index_commit_unsynced(x);

	return rc < 0 ? rc : index_sync(x);
}

void
index_rollback(struct index *x)
{
	if (!sqlite3_get_autocommit(x->db))
		run(x->st[ROLLBACK]);
	x->begun = false;
	x->failed = 0;
}

int
index_set_value(struct index *x, const char *key, const void *value, size_t len)
{
	sqlite3_stmt *st = x->st[SET_VALUE];

	sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
	sqlite3_bind_blob64(st, 2, len ? value : "", len, SQLITE_STATIC);
	return change(x, st);
}

static void *
column_bytes(sqlite3_stmt *st, int i, size_t *len)
{
	const void *p = sqlite3_column_blob(st, i);
	char *copy;

	*len = (size_t)sqlite3_column_bytes(st, i);
	copy = mem_alloc(*len + 1);
	if (*len)
		memcpy(copy, p, *len);
	return copy;
}

int
index_get_value(struct index *x, const char *key, void **out, size_t *len)
{
	sqlite3_stmt *st = x->st[GET_VALUE];
	int rc;

	sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*out = column_bytes(st, 0, len);
	finish(st, rc);
	return rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? -ENOENT : error_of(rc);
}

/* ---- registers ---- */

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
	sqlite3_stmt *st = x->st[DROP_CONTENTS];
	int rc;

	bind_key(st, 1, r);
	rc = change(x, st);
	for (uint32_t i = 0; i < r->files_len && rc == 0 && r->files_len > 1; i++) {
		st = x->st[PUT_CONTENT];
		sqlite3_bind_int64(st, 1, content_key(&r->files[i].hash));
		bind_key(st, 2, r);
		rc = change(x, st);
	}
	return rc;
}

int
index_put_reg(struct index *x, const struct reg *r, bool in_conflict)
{
	sqlite3_stmt *st = x->st[PUT_REG];
	uint8_t *data;
	size_t len;
	int rc;

	wire_pack_index_reg(r, &data, &len);
	bind_key(st, 1, r);
	sqlite3_bind_int64(st, 3, (int64_t)r->seq);
	sqlite3_bind_int(st, 4, r->shown.len > 0);
	sqlite3_bind_int(st, 5, (r->pending ? FLAG_PENDING : 0) | (in_conflict ? FLAG_CONFLICT : 0) |
	    (r->again ? FLAG_TODO : 0));
	if (r->files_len == 1)
		sqlite3_bind_int64(st, 6, content_key(&r->files[0].hash));
	else
		sqlite3_bind_null(st, 6);
	sqlite3_bind_blob64(st, 7, data, len, SQLITE_STATIC);
	bind_wait(st, 8, r);
	rc = change(x, st);
	free(data);
	return rc < 0 ? rc : put_contents(x, r);
}

int
index_get_reg(struct index *x, struct reg *r)
{
	sqlite3_stmt *st = x->st[GET_REG];
	int rc, bad = 0;

	bind_key(st, 1, r);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		r->seq = (uint64_t)sqlite3_column_int64(st, 0);
		r->in_conflict = sqlite3_column_int(st, 1) & FLAG_CONFLICT;
		r->again = sqlite3_column_int(st, 1) & FLAG_TODO;
		bad = wire_unpack_index_reg(sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2), r);
	}
	finish(st, rc);
	if (rc == SQLITE_ROW)
		return bad < 0 ? -EIO : 1;
	return rc == SQLITE_DONE ? 0 : error_of(rc);
}

int
index_delete_reg(struct index *x, const struct reg *r)
{
	sqlite3_stmt *st = x->st[DELETE_REG];
	int rc;

	bind_key(st, 1, r);
	rc = change(x, st);
	if (rc == 0) {
		bind_key(x->st[DROP_CONTENTS], 1, r);
		rc = change(x, x->st[DROP_CONTENTS]);
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
		rows[n].name = column_bytes(st, 1, &len);
		rows[n++].seq = (uint64_t)sqlite3_column_int64(st, 2);
	}
	out = finish(st, rc);
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
	sqlite3_stmt *st = x->st[REGS_SINCE];

	sqlite3_bind_int64(st, 1, (int64_t)seq);
	sqlite3_bind_int64(st, 2, limit > INT64_MAX ? -1 : (int64_t)limit);
	return each(st, fn, arg);
}

int
index_regs_pending(struct index *x, index_reg_fn *fn, void *arg)
{
	return each(x->st[REGS_PENDING], fn, arg);
}

int
index_regs_in_conflict(struct index *x, index_reg_fn *fn, void *arg)
{
	return each(x->st[REGS_CONFLICT], fn, arg);
}

int
index_regs_in_dir(struct index *x, uint64_t num, index_reg_fn *fn, void *arg)
{
	sqlite3_bind_int64(x->st[REGS_IN_DIR], 1, (int64_t)num);
	return each(x->st[REGS_IN_DIR], fn, arg);
}

int
index_regs_with_content(struct index *x, const struct hash *h, index_reg_fn *fn, void *arg)
{
	sqlite3_bind_int64(x->st[REGS_CONTENT], 1, content_key(h));
	return each(x->st[REGS_CONTENT], fn, arg);
}

int
index_count_files(struct index *x, void (*fn)(void *arg, uint64_t num, uint32_t files), void *arg)
{
	sqlite3_stmt *st = x->st[COUNT_FILES];
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW)
		fn(arg, (uint64_t)sqlite3_column_int64(st, 0), (uint32_t)sqlite3_column_int64(st, 1));
	return finish(st, rc);
}

int
index_count_since(struct index *x, uint64_t seq, uint64_t *rows)
{
	sqlite3_stmt *st = x->st[COUNT_SINCE];
	int rc;

	sqlite3_bind_int64(st, 1, (int64_t)seq);
	if ((rc = sqlite3_step(st)) == SQLITE_ROW)
		*rows = (uint64_t)sqlite3_column_int64(st, 0);
	return finish(st, rc);
}

/* ---- tombstones ---- */

static int
tombstones_of(struct index *x, struct dot upto, size_t limit, index_reg_fn *fn, void *arg)
{
	sqlite3_stmt *st = x->st[TOMBSTONES];

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
	sqlite3_stmt *st = x->st[SET_WAIT];

	bind_key(st, 1, r);
	sqlite3_bind_int64(st, 3, (int64_t)d.id);
	sqlite3_bind_int64(st, 4, (int64_t)d.n);
	return change(x, st);
}

int
index_count_tombstones(struct index *x, uint64_t *rows)
{
	sqlite3_stmt *st = x->st[COUNT_TOMBSTONES];
	int rc;

	if ((rc = sqlite3_step(st)) == SQLITE_ROW)
		*rows = (uint64_t)sqlite3_column_int64(st, 0);
	return finish(st, rc);
}

bool
index_has_regs(struct index *x, uint64_t num)
{
	sqlite3_stmt *st = x->st[HAS_REGS];
	int rc;

	sqlite3_bind_int64(st, 1, (int64_t)num);
	rc = sqlite3_step(st);
	finish(st, rc);
	return rc != SQLITE_DONE;
}

/* ---- directories ---- */

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
	sqlite3_stmt *st = x->st[PUT_DIR];
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
	m.todo = d->touched || d->again;
	len = sibfs__wire__index_directory__get_packed_size(&m);
	data = mem_alloc(len);
	sibfs__wire__index_directory__pack(&m, data);
	sqlite3_bind_int64(st, 1, (int64_t)d->num);
	sqlite3_bind_int64(st, 2, (int64_t)d->seq);
	sqlite3_bind_int64(st, 3, (int64_t)ino);
	sqlite3_bind_blob64(st, 4, data, len, SQLITE_STATIC);
	rc = change(x, st);
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
	out->d->again = out->m->todo;
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

int
index_load_dirs(struct index *x, struct state *s, void (*fn)(void *arg, struct dir *d, uint64_t ino), void *arg)
{
	sqlite3_stmt *st = x->st[LOAD_DIRS];
	struct loaded *l = NULL;
	size_t n = 0;
	int rc, bad = 0;

	while (bad == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		if ((n & (n - 1)) == 0)
			l = mem_resize(l, n ? 2 * n : 1, sizeof(*l));
		bad = load_first(s, st, &l[n++]);
	}
	rc = finish(st, rc);
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

	sqlite3_bind_int64(x->st[DELETE_DIR], 1, (int64_t)num);
	rc = change(x, x->st[DELETE_DIR]);
	if (rc == 0) {
		sqlite3_bind_int64(x->st[DELETE_FILES], 1, (int64_t)num);
		rc = change(x, x->st[DELETE_FILES]);
	}
	return rc;
}

/* ---- members and peers ---- */

int
index_put_member(struct index *x, uint64_t id, const char *node, const void *data, size_t len)
{
	sqlite3_stmt *st = x->st[PUT_MEMBER];

	sqlite3_bind_int64(st, 1, (int64_t)id);
	sqlite3_bind_text(st, 2, node, -1, SQLITE_STATIC);
	sqlite3_bind_blob64(st, 3, len ? data : "", len, SQLITE_STATIC);
	return change(x, st);
}

int
index_load_members(struct index *x, index_member_fn *fn, void *arg)
{
	sqlite3_stmt *st = x->st[LOAD_MEMBERS];
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW)
		fn(arg, (uint64_t)sqlite3_column_int64(st, 0), (const char *)sqlite3_column_text(st, 1),
		    sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2));
	return finish(st, rc);
}

int
index_put_peer(struct index *x, const char *node, uint64_t id, uint64_t epoch, uint64_t seq)
{
	sqlite3_stmt *st = x->st[PUT_PEER];

	sqlite3_bind_int64(st, 1, (int64_t)id);
	sqlite3_bind_text(st, 2, node, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 3, (int64_t)epoch);
	sqlite3_bind_int64(st, 4, (int64_t)seq);
	return change(x, st);
}

int
index_load_peers(struct index *x,
    void (*fn)(void *arg, const char *node, uint64_t id, uint64_t epoch, uint64_t seq), void *arg)
{
	sqlite3_stmt *st = x->st[LOAD_PEERS];
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW)
		fn(arg, (const char *)sqlite3_column_text(st, 1), (uint64_t)sqlite3_column_int64(st, 0),
		    (uint64_t)sqlite3_column_int64(st, 2), (uint64_t)sqlite3_column_int64(st, 3));
	return finish(st, rc);
}

int
index_put_block(struct index *x, const struct block *b)
{
	sqlite3_stmt *st = x->st[PUT_BLOCK];

	sqlite3_bind_int64(st, 1, (int64_t)b->order);
	sqlite3_bind_int64(st, 2, (int64_t)b->token);
	sqlite3_bind_int64(st, 3, (int64_t)b->parent);
	sqlite3_bind_int64(st, 4, (int64_t)b->start);
	sqlite3_bind_int64(st, 5, (int64_t)b->last);
	sqlite3_bind_int64(st, 6, (int64_t)b->id);
	return change(x, st);
}

int
index_load_blocks(struct index *x, struct lineage *out)
{
	sqlite3_stmt *st = x->st[LOAD_BLOCKS];
	int rc, bad = 0;

	while (bad == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW)
		if (lineage_load(out, (uint64_t)sqlite3_column_int64(st, 0), (uint64_t)sqlite3_column_int64(st, 1),
		    (uint64_t)sqlite3_column_int64(st, 2), (uint64_t)sqlite3_column_int64(st, 3),
		    (uint64_t)sqlite3_column_int64(st, 4)) < 0)
			bad = -EIO;
	rc = finish(st, rc);
	return bad < 0 ? bad : rc;
}

int
index_check(struct index *x, char *why, size_t why_size)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(x->db, "PRAGMA integrity_check(1)", -1, &st, NULL);
	const char *text;

	if (rc == SQLITE_OK && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		text = (const char *)sqlite3_column_text(st, 0);
		rc = text && strcmp(text, "ok") == 0 ? SQLITE_OK : SQLITE_CORRUPT;
		snprintf(why, why_size, "%s", text ? text : "no answer");
	} else {
		snprintf(why, why_size, "%s", sqlite3_errmsg(x->db));
		rc = SQLITE_CORRUPT;
	}
	sqlite3_finalize(st);
	return error_of(rc);
}
