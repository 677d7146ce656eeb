/*
 * The index in SQLite: the schema and all statements, opening, transactions, and
 * the small tables.  index_regs.c and index_dirs.c have the large ones.
 */
#include "config.h"

#include "replication/index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/index_impl.h"
#include "replication/mem.h"

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

static const char *const sql[SQL_STATEMENTS] = {
	[SQL_BEGIN] = "BEGIN IMMEDIATE",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ROLLBACK] = "ROLLBACK",
	[SQL_SET_VALUE] = "INSERT OR REPLACE INTO meta VALUES (?, ?)",
	[SQL_GET_VALUE] = "SELECT value FROM meta WHERE key = ?",
	[SQL_PUT_REG] = "INSERT INTO regs (dir, name, seq, live, flags, content, data, wait_id, wait_n)"
	    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq,"
	    " live = excluded.live, flags = excluded.flags, content = excluded.content, data = excluded.data,"
	    " wait_id = excluded.wait_id, wait_n = excluded.wait_n",
	[SQL_GET_REG] = "SELECT seq, flags, data FROM regs WHERE dir = ? AND name = ?",
	[SQL_DELETE_REG] = "DELETE FROM regs WHERE dir = ? AND name = ?",
	[SQL_REGS_SINCE] = "SELECT dir, name, seq FROM regs WHERE seq > ? ORDER BY seq LIMIT ?",
	[SQL_REGS_GONE] = "SELECT dir, name, seq FROM regs WHERE seq > ? AND seq <= ? AND (NOT live OR flags & 1)"
	    " ORDER BY seq LIMIT ?",
	[SQL_REGS_PENDING] = "SELECT dir, name, seq FROM regs WHERE flags != 0 AND flags & 5",
	[SQL_REGS_CONFLICT] = "SELECT dir, name, seq FROM regs WHERE flags != 0 AND flags & 2",
	[SQL_REGS_IN_DIR] = "SELECT dir, name, seq FROM regs WHERE dir = ?",
	[SQL_REGS_CONTENT] = "SELECT dir, name, seq FROM regs WHERE content = ?1 UNION ALL"
	    " SELECT dir, name, 0 FROM contents WHERE content = ?1 LIMIT ?2",
	[SQL_COUNT_FILES] = "SELECT dir, n FROM files WHERE n > 0",
	[SQL_TOMBSTONES] = "SELECT dir, name, seq FROM regs WHERE wait_id = ? AND wait_n <= ? AND wait_id IS NOT NULL LIMIT ?",
	[SQL_SET_WAIT] = "UPDATE regs SET wait_id = ?3, wait_n = ?4 WHERE dir = ?1 AND name = ?2",
	[SQL_COUNT_TOMBSTONES] = "SELECT count(*) FROM regs WHERE wait_id IS NOT NULL",
	[SQL_HAS_REGS] = "SELECT 1 FROM regs WHERE dir = ? LIMIT 1",
	[SQL_PUT_CONTENT] = "INSERT OR IGNORE INTO contents VALUES (?, ?, ?)",
	[SQL_DROP_CONTENTS] = "DELETE FROM contents WHERE dir = ? AND name = ?",
	[SQL_PUT_DIR] = "INSERT OR REPLACE INTO dirs VALUES (?, ?, ?, ?)",
	[SQL_LOAD_DIRS] = "SELECT num, seq, ino, data FROM dirs",
	[SQL_DELETE_DIR] = "DELETE FROM dirs WHERE num = ?",
	[SQL_DELETE_FILES] = "DELETE FROM files WHERE dir = ?",
	[SQL_PUT_MEMBER] = "INSERT OR REPLACE INTO members (id, node, data) VALUES (?, ?, ?)",
	[SQL_LOAD_MEMBERS] = "SELECT id, node, data FROM members",
	[SQL_PUT_PEER] = "INSERT OR REPLACE INTO peers VALUES (?, ?, ?, ?)",
	[SQL_LOAD_PEERS] = "SELECT id, node, epoch, seq FROM peers",
	[SQL_PUT_BLOCK] = "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?)",
	[SQL_LOAD_BLOCKS] = "SELECT token, parent, start, last, id FROM blocks ORDER BY n",
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

int
index_error_of(int rc)
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
	for (int i = 0; i < SQL_STATEMENTS; i++) {
		int rc = sqlite3_prepare_v3(x->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &x->st[i], NULL);

		if (rc != SQLITE_OK)
			return index_error_of(rc);
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
	return rc == SQLITE_ROW ? 0 : index_error_of(rc);
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
		return index_error_of(rc);
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
		rc = index_error_of(rc);
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
	for (int i = 0; i < SQL_STATEMENTS; i++)
		sqlite3_finalize(x->st[i]);
	sqlite3_close(x->db);
	close(x->dirfd);
	free(x);
}

/* ---- running statements ---- */

int
index_finish(sqlite3_stmt *st, int rc)
{
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return index_error_of(rc);
}

static int
run(sqlite3_stmt *st)
{
	return index_finish(st, sqlite3_step(st));
}

/*
 * SQLite may end a transaction by itself when the disk is full; what
 * follows would be committed one by one then, and half of it would stand.
 */
int
index_change(struct index *x, sqlite3_stmt *st)
{
	int rc = x->failed;

	if (rc == 0)
		rc = run(st);
	else
		index_finish(st, SQLITE_OK);
	if (rc < 0 && x->begun)
		x->failed = rc;
	return rc;
}

int
index_begin(struct index *x)
{
	int rc = run(x->st[SQL_BEGIN]);

	if (rc == 0)
		x->begun = true;
	return rc;
}

int
index_commit_unsynced(struct index *x)
{
	int rc = x->failed ? x->failed : run(x->st[SQL_COMMIT]);

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
	return index_error_of(rc);
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
		run(x->st[SQL_ROLLBACK]);
	x->begun = false;
	x->failed = 0;
}

int
index_set_value(struct index *x, const char *key, const void *value, size_t len)
{
	sqlite3_stmt *st = x->st[SQL_SET_VALUE];

	sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
	sqlite3_bind_blob64(st, 2, len ? value : "", len, SQLITE_STATIC);
	return index_change(x, st);
}

void *
index_column_bytes(sqlite3_stmt *st, int i, size_t *len)
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
	sqlite3_stmt *st = x->st[SQL_GET_VALUE];
	int rc;

	sqlite3_bind_text(st, 1, key, -1, SQLITE_STATIC);
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*out = index_column_bytes(st, 0, len);
	index_finish(st, rc);
	return rc == SQLITE_ROW ? 0 : rc == SQLITE_DONE ? -ENOENT : index_error_of(rc);
}

/* ---- members and peers ---- */

int
index_put_member(struct index *x, uint64_t id, const char *node, const void *data, size_t len)
{
	sqlite3_stmt *st = x->st[SQL_PUT_MEMBER];

	sqlite3_bind_int64(st, 1, (int64_t)id);
	sqlite3_bind_text(st, 2, node, -1, SQLITE_STATIC);
	sqlite3_bind_blob64(st, 3, len ? data : "", len, SQLITE_STATIC);
	return index_change(x, st);
}

int
index_load_members(struct index *x, index_member_fn *fn, void *arg)
{
	sqlite3_stmt *st = x->st[SQL_LOAD_MEMBERS];
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW)
		fn(arg, (uint64_t)sqlite3_column_int64(st, 0), (const char *)sqlite3_column_text(st, 1),
		    sqlite3_column_blob(st, 2), (size_t)sqlite3_column_bytes(st, 2));
	return index_finish(st, rc);
}

int
index_put_peer(struct index *x, const char *node, uint64_t id, uint64_t epoch, uint64_t seq)
{
	sqlite3_stmt *st = x->st[SQL_PUT_PEER];

	sqlite3_bind_int64(st, 1, (int64_t)id);
	sqlite3_bind_text(st, 2, node, -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 3, (int64_t)epoch);
	sqlite3_bind_int64(st, 4, (int64_t)seq);
	return index_change(x, st);
}

int
index_load_peers(struct index *x,
    void (*fn)(void *arg, const char *node, uint64_t id, uint64_t epoch, uint64_t seq), void *arg)
{
	sqlite3_stmt *st = x->st[SQL_LOAD_PEERS];
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW)
		fn(arg, (const char *)sqlite3_column_text(st, 1), (uint64_t)sqlite3_column_int64(st, 0),
		    (uint64_t)sqlite3_column_int64(st, 2), (uint64_t)sqlite3_column_int64(st, 3));
	return index_finish(st, rc);
}

int
index_put_block(struct index *x, const struct block *b)
{
	sqlite3_stmt *st = x->st[SQL_PUT_BLOCK];

	sqlite3_bind_int64(st, 1, (int64_t)b->order);
	sqlite3_bind_int64(st, 2, (int64_t)b->token);
	sqlite3_bind_int64(st, 3, (int64_t)b->parent);
	sqlite3_bind_int64(st, 4, (int64_t)b->start);
	sqlite3_bind_int64(st, 5, (int64_t)b->last);
	sqlite3_bind_int64(st, 6, (int64_t)b->id);
	return index_change(x, st);
}

int
index_load_blocks(struct index *x, struct lineage *out)
{
	sqlite3_stmt *st = x->st[SQL_LOAD_BLOCKS];
	int rc, bad = 0;

	while (bad == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW)
		if (lineage_load(out, (uint64_t)sqlite3_column_int64(st, 0), (uint64_t)sqlite3_column_int64(st, 1),
		    (uint64_t)sqlite3_column_int64(st, 2), (uint64_t)sqlite3_column_int64(st, 3),
		    (uint64_t)sqlite3_column_int64(st, 4)) < 0)
			bad = -EIO;
	rc = index_finish(st, rc);
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
	return index_error_of(rc);
}
