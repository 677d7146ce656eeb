/*
 * The insides of the index, shared by index.c (which has all SQL), index_regs.c
 * and index_dirs.c.  Statements are prepared once; one is bound, stepped, and
 * given back by index_finish.
 */
#ifndef SIBFS_INDEX_IMPL_H
#define SIBFS_INDEX_IMPL_H

#include <stdbool.h>
#include <stddef.h>

#include <sqlite3.h>

#include "replication/index.h"

/* regs.flags; the statements name them as numbers. */
#define INDEX_PENDING 1
#define INDEX_CONFLICT 2
#define INDEX_AGAIN 4

enum index_statement {
	SQL_BEGIN, SQL_COMMIT, SQL_ROLLBACK,
	SQL_SET_VALUE, SQL_GET_VALUE,
	SQL_PUT_REG, SQL_GET_REG, SQL_DELETE_REG,
	SQL_REGS_SINCE, SQL_REGS_GONE, SQL_REGS_PENDING, SQL_REGS_CONFLICT, SQL_REGS_IN_DIR, SQL_REGS_CONTENT,
	SQL_COUNT_FILES,
	SQL_TOMBSTONES, SQL_SET_WAIT, SQL_COUNT_TOMBSTONES, SQL_HAS_REGS,
	SQL_PUT_CONTENT, SQL_DROP_CONTENTS,
	SQL_PUT_DIR, SQL_LOAD_DIRS, SQL_DELETE_DIR, SQL_DELETE_FILES,
	SQL_PUT_MEMBER, SQL_LOAD_MEMBERS, SQL_PUT_PEER, SQL_LOAD_PEERS,
	SQL_PUT_BLOCK, SQL_LOAD_BLOCKS,
	SQL_STATEMENTS,
};

struct index {
	sqlite3 *db;
	sqlite3_stmt *st[SQL_STATEMENTS];
	int dirfd;		/* our own: the path of the database leads through it */
	bool begun;
	int failed;		/* what the transaction under way failed by */
};

/* What SQLite says as -errno; 0 for a row and for the end of rows, too. */
int		 index_error_of(int rc);

/* After the last step, which returned rc. */
int		 index_finish(sqlite3_stmt *st, int rc);

/* Steps and finishes one that changes something; fails if one before it in this
 * transaction did. */
int		 index_change(struct index *x, sqlite3_stmt *st);

/* A copy with a NUL behind it, to free. */
void		*index_column_bytes(sqlite3_stmt *st, int i, size_t *len);

#endif
