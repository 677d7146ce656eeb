/*
 * What changed goes to the index, in one transaction; and is synced, before peers
 * hear of it.  A commit that fails leaves all of it dirty: nothing is told, and
 * the next one tries again.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "replication/replica_impl.h"

int
replica_begin(struct replica *r)
{
	int rc = r->in_transaction ? 0 : index_begin(r->x);

	if (rc == 0)
		r->in_transaction = true;
	return rc;
}

static int
put_number(struct index *x, const char *key, uint64_t n)
{
	return index_set_value(x, key, &n, sizeof(n));
}

/* Who we are, and the blocks of numbers: all in the transaction of the first
 * event that uses them. */
static int
write_lineage(struct replica *r)
{
	struct state *s = r->s;
	int rc = put_number(r->x, "incarnation", s->self);

	if (rc == 0)
		rc = put_number(r->x, "block", s->block);
	for (const struct block *b = s->lineage.blocks; b && rc == 0; b = b->hh.next)
		if (b->dirty)
			rc = index_put_block(r->x, b);
	return rc;
}

static void
lineage_is_written(struct lineage *x)
{
	for (struct block *b = x->blocks; b && x->dirty; b = b->hh.next)
		b->dirty = false;
	x->dirty = false;
}

static int
write_dirty(struct replica *r)
{
	struct state *s = r->s;
	int rc = 0;

	if (vv_dominates(&s->know, &s->seen))
		vv_clear(&s->seen);
	for (size_t i = 0; i < s->dirty_dirs.len && rc == 0; i++) {
		const struct dir *d = s->dirty_dirs.d[i];

		rc = index_put_dir(r->x, d, disk_of(d) ? disk_of(d)->ino : 0);
	}
	for (size_t i = 0; i < s->dirty_regs.len && rc == 0; i++)
		rc = index_put_reg(r->x, s->dirty_regs.r[i], s->dirty_regs.r[i]->in_conflict);
	if (rc == 0)
		rc = put_number(r->x, "counter", s->counter);
	if (rc == 0)
		rc = put_number(r->x, "hlc", s->hlc);
	if (rc == 0)
		rc = put_number(r->x, "seq", s->seq);
	if (rc == 0)
		rc = index_set_value(r->x, "know", s->know.e, s->know.len * sizeof(*s->know.e));
	/* Mostly there is nothing beyond what we know. */
	if (rc == 0 && (s->seen.len || r->seen_saved))
		rc = index_set_value(r->x, "seen", s->seen.e, s->seen.len * sizeof(*s->seen.e));
	r->seen_saved = s->seen.len || rc < 0;
	if (rc == 0 && s->lineage.dirty)
		rc = write_lineage(r);
	if (rc == 0 && r->forgot_changed)
		rc = index_set_value(r->x, "forgot", s->forgot.e, s->forgot.len * sizeof(*s->forgot.e));
	return rc < 0 ? rc : members_save(r);
}

/* No event leaves before its content would survive a power cut too. */
static int
sync_content(struct replica *r)
{
	if (!r->unsynced || r->view_held)
		return 0;
	if (syncfs(r->root_fd) < 0)
		return -errno;
	r->unsynced = false;
	return 0;
}

static int
sync_index(struct replica *r)
{
	int rc = sync_content(r);

	if (rc == 0)
		rc = index_sync(r->x);
	if (rc == 0) {
		r->index_unsynced = false;
		vv_clear(&r->durable);
		vv_join(&r->durable, &r->committed);
	}
	return rc;
}

int
replica_commit(struct replica *r)
{
	struct state *s = r->s;
	int rc;

	if (!r->in_transaction && !s->dirty_dirs.len && !s->dirty_regs.len && !s->lineage.dirty)
		return r->index_unsynced && !r->view_held ? sync_index(r) : 0;
	if (r->index_broken)
		return -EIO;
	if ((rc = sync_content(r)) < 0)
		goto failed;
	if ((rc = replica_begin(r)) < 0)
		goto failed;
	rc = write_dirty(r);
	if (rc == 0)
		rc = index_commit_unsynced(r->x);
	if (rc < 0) {
		index_rollback(r->x);
		r->in_transaction = false;
		goto failed;
	}
	r->in_transaction = false;
	for (size_t i = 0; i < s->dirty_dirs.len; i++) {
		s->dirty_dirs.d[i]->dirty = false;
		s->dirty_dirs.d[i]->again |= s->dirty_dirs.d[i]->touched;	/* its row says so */
	}
	for (size_t i = 0; i < s->dirty_regs.len; i++)
		s->dirty_regs.r[i]->dirty = false;
	s->dirty_dirs.len = s->dirty_regs.len = 0;
	lineage_is_written(&s->lineage);
	r->forgot_changed = false;
	members_saved(r);
	vv_clear(&r->committed);
	vv_join(&r->committed, &s->know);
	r->index_unsynced = true;
	if (r->view_held || (rc = sync_index(r)) == 0)
		return 0;

failed:
	/* All stays dirty, and nothing leaves, until it can be written. */
	if (!r->index_failed)
		log_err("the index cannot be written: %s", strerror(-rc));
	r->index_failed = true;
	return rc;
}
