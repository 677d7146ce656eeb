/*
 * The index: STORE/.sibfs/index.db (SQLite in WAL mode).  Every SQL statement
 * stands in index.c.  Rows of registers are keyed by (local directory number,
 * name), never by path: a moved directory is one row.
 *
 * One thread.  Changes belong to a transaction that the caller begins and
 * commits; what is committed and synced survives a power cut.  Errors are -EIO
 * (damaged or unreadable), -ENOSPC, -ENOMEM.
 */
#ifndef SIBFS_INDEX_H
#define SIBFS_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/state.h"

struct index;

/*
 * Opens the database in the directory dirfd, which the caller may close
 * afterwards (through /proc/self/fd, so that it
 * works when something is mounted over the store); create: makes it with its
 * schema, else -ENOENT.  A newer schema is -EPROTO with a line in why.  The
 * connection holds the database alone (locking_mode=EXCLUSIVE).
 */
int		 index_open(int dirfd, bool create, struct index **out, char *why, size_t why_size);
void		 index_close(struct index *x);

/* Reads all of it: 0, or -EIO and what is wrong in why. */
int		 index_check(struct index *x, char *why, size_t why_size);

/*
 * A transaction in which a change failed cannot be committed, whether or not
 * the caller looked at that change: index_commit returns the same error.  Then
 * index_rollback is due.
 */
int		 index_begin(struct index *x);
int		 index_commit(struct index *x);
/* The same in two steps: what was committed survives the end of the process,
 * what was synced that of the machine, too. */
int		 index_commit_unsynced(struct index *x);
int		 index_sync(struct index *x);
void		 index_rollback(struct index *x);

/* Small values by name.  index_get_value: *out allocated; -ENOENT. */
int		 index_set_value(struct index *x, const char *key, const void *value, size_t len);
int		 index_get_value(struct index *x, const char *key, void **out, size_t *len);

/* ---- registers ---- */

int		 index_put_reg(struct index *x, const struct reg *r, bool in_conflict);
/* Fills r, whose key is set: 1, or 0 if there is none, or -errno. */
int		 index_get_reg(struct index *x, struct reg *r);
int		 index_delete_reg(struct index *x, const struct reg *r);

/* Calls fn for each row until it returns nonzero, which is then returned.  The
 * name is borrowed during the call.  fn must not change the index. */
typedef int	 index_reg_fn(void *arg, uint64_t dir_num, const char *name, uint64_t seq);

int		 index_regs_since(struct index *x, uint64_t seq, size_t limit, index_reg_fn *fn, void *arg);
/* The same of those changes after `seq`, up to `upto`, that may be removals: of
 * what shows nothing, or waits to show something else. */
int		 index_regs_gone(struct index *x, uint64_t seq, uint64_t upto, size_t limit, index_reg_fn *fn, void *arg);
/* Those that wait for content, or that the disk does not show yet. */
int		 index_regs_pending(struct index *x, index_reg_fn *fn, void *arg);
int		 index_regs_in_conflict(struct index *x, index_reg_fn *fn, void *arg);
int		 index_regs_in_dir(struct index *x, uint64_t dir_num, index_reg_fn *fn, void *arg);
/* Those with a file in the store of that content (by 64 bits of the hash), at most so
 * many (SIZE_MAX: all). */
int		 index_regs_with_content(struct index *x, const struct hash *h, size_t limit, index_reg_fn *fn,
		    void *arg);
/* The number of registers with a live version, by directory. */
int		 index_count_files(struct index *x, void (*fn)(void *arg, uint64_t dir_num, uint32_t files), void *arg);

/* ---- tombstones: registers that show nothing and wait for nothing ---- */

/*
 * Those of which `stable` may cover all events: one event that each waits for
 * is covered.  Who looks closer either deletes the row or names another event
 * to wait for, else it is found again.
 */
int		 index_tombstones(struct index *x, const struct vv *stable, size_t limit, index_reg_fn *fn, void *arg);
int		 index_set_wait(struct index *x, const struct reg *r, struct dot d);
int		 index_count_tombstones(struct index *x, uint64_t *rows);
/* Is there any row for that directory?  Where that cannot be read: yes. */
bool		 index_has_regs(struct index *x, uint64_t dir_num);

/* ---- directories ---- */

/* ino: where it is in the store, 0 if nowhere. */
int		 index_put_dir(struct index *x, const struct dir *d, uint64_t ino);
int		 index_delete_dir(struct index *x, uint64_t num);
/* Loads all of them into s (then state_rebuild is due); calls fn with each one's inode. */
int		 index_load_dirs(struct index *x, struct state *s, void (*fn)(void *arg, struct dir *d, uint64_t ino),
		    void *arg);

/* ---- members: incarnations that ever exchanged in the set ---- */

/* data: a packed IndexMember, or nothing. */
typedef void	 index_member_fn(void *arg, uint64_t id, const char *node, const void *data, size_t len);

int		 index_put_member(struct index *x, uint64_t id, const char *node, const void *data, size_t len);
int		 index_load_members(struct index *x, index_member_fn *fn, void *arg);

/* ---- peers: how far we are in their changes ---- */

int		 index_put_peer(struct index *x, const char *node, uint64_t id, uint64_t epoch, uint64_t seq);
int		 index_load_peers(struct index *x,
		    void (*fn)(void *arg, const char *node, uint64_t id, uint64_t epoch, uint64_t seq), void *arg);

/* ---- blocks of numbers ---- */

int		 index_put_block(struct index *x, const struct block *b);
int		 index_load_blocks(struct index *x, struct lineage *out);

#endif
