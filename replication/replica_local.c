/*
 * From what users did on disk to events in the state, one told event at a time.
 *
 * The disk may be ahead of the event in hand: what is not there any more, or is
 * another inode by now, is explained by an event that follows.
 */
#include "config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "replication/local_impl.h"
#include "replication/view_impl.h"

/* ---- two names change places ---- */

/*
 * One of the two is not known: it was told of when it had changed places already,
 * so it was not found.  The other comes first, so that its old name is free; then
 * the new one is looked at where it is now.
 */
static void
exchange_unknown(struct replica *r, const struct event *e, struct disk_dir *from, struct disk_dir *to,
    const struct seen *a, const struct seen *b)
{
	struct disk_dir *db = !b->e && b->g.dirs.len ? disk_of(b->g.dirs.ids[0]) : NULL;
	const struct event back = { .op = REPLICA_RENAME, .ino = db ? db->ino : 0, .dir = e->dir2, .dir2 = e->dir,
		.name = e->name2, .name2 = e->name, .is_dir = db != NULL };

	if (a->e)
		local_rename_file(r, e, from, to);
	else if (a->g.dirs.len)
		local_rename_dir(r, e, from, to);
	else if (b->e)
		local_rename_file(r, &back, to, from);
	else if (db)
		local_rename_dir(r, &back, to, from);
	if (!a->e && !a->g.dirs.len)
		local_write_at(r, to, e->name2, e->ino, false, NULL);
	if (!b->e && !b->g.dirs.len)
		local_write_at(r, from, e->name, 0, true, NULL);
}

/* What was written before, and not told, is told by this; and attributes, that were
 * told under the other name, where they were not found. */
static void
look_after_exchange(struct replica *r, struct disk_dir *dd, const char *name)
{
	local_write_at(r, dd, name, 0, true, NULL);
	local_file_attrs(r, dd, name, NULL);
}

static void
exchange(struct replica *r, const struct event *e, struct disk_dir *from, struct disk_dir *to)
{
	struct reg_file *fa, *fb, ka = { 0 }, kb = { 0 };
	struct disk_dir *da = NULL, *db = NULL;
	struct seen a, b;
	struct reg *owner;

	local_seen_open(r, from, e->name, &a);
	local_seen_open(r, to, e->name2, &b);
	if ((!a.e && !a.g.dirs.len) || (!b.e && !b.g.dirs.len)) {
		exchange_unknown(r, e, from, to, &a, &b);
		goto out;
	}
	if ((fa = local_seen_file(&a, e->name, &owner)))
		ka = *fa;
	if ((fb = local_seen_file(&b, e->name2, &owner)))
		kb = *fb;
	if (!a.e && a.g.dirs.len)
		da = disk_of(a.g.dirs.ids[0]);
	if (!b.e && b.g.dirs.len)
		db = disk_of(b.g.dirs.ids[0]);
	if (local_exchange(r->s, from->ids[0], e->name, to->ids[0], e->name2) < 0) {
		log_warn("%s and %s changed places, but may not", e->name, e->name2);
		goto out;
	}
	local_forget_file(r, &a, e->name);
	local_forget_file(r, &b, e->name2);
	if (da)
		disk_place(da, to, e->name2);
	if (db)
		disk_place(db, from, e->name);
	if (da)
		marks_dir(r, da);
	if (db)
		marks_dir(r, db);
	local_seen_close(&a);
	local_seen_close(&b);
	local_seen_open(r, from, e->name, &a);
	local_seen_open(r, to, e->name2, &b);
	if (a.e && fb) {
		reg_file_set(a.e->leader_reg, e->name, &kb.hash, &kb.stamp);
		marks_file(r, a.e->leader_reg, e->name);
	}
	if (b.e && fa) {
		reg_file_set(b.e->leader_reg, e->name2, &ka.hash, &ka.stamp);
		marks_file(r, b.e->leader_reg, e->name2);
	}
	if (a.e)
		look_after_exchange(r, from, e->name);
	if (b.e)
		look_after_exchange(r, to, e->name2);
out:
	local_seen_close(&a);
	local_seen_close(&b);
}

/* ---- attributes ---- */

static void
attrs_changed(struct replica *r, const struct event *e, struct disk_dir *at)
{
	struct disk_dir *dd = e->dir == 0 ? r->disk.root : e->is_dir ? disk_find(&r->disk, e->ino) : NULL;

	if (dd)
		local_dir_attrs(r, dd, e->attrs);
	else if (!e->is_dir && at)
		local_file_attrs(r, at, e->name, e);
}

static void
attrs_set_by(struct replica *r, const struct event *e, struct disk_dir *at)
{
	struct links q = { .len = 0 };

	if (e->dir != 0 && !e->is_dir && at)
		local_links_find(r, at, e->name, e->ino, &q);
	attrs_changed(r, e, at);
	for (size_t i = 0; i < q.len; i++) {
		struct disk_dir *dd = disk_find(&r->disk, q.l[i].dir);

		if (dd && dd->ids_len)
			local_file_attrs(r, dd, q.l[i].name, e);
	}
	local_links_free(&q);
}

/* ---- one event ---- */

/* A directory that stands where it should: what is in it is looked at by itself. */
static bool
is_in_place(struct replica *r, const struct disk_dir *up, const char *name, ino_t ino)
{
	const struct disk_dir *dd = disk_find(&r->disk, ino);

	return dd && dd->ids_len && dd->up == up && strcmp(dd->name, name) == 0;
}

void
local_look_later(struct replica *r, struct look l)
{
	r->looks = mem_resize(r->looks, r->looks_len + 1, sizeof(*r->looks));
	l.name = mem_str(l.name);
	r->looks[r->looks_len++] = l;
}

/* Does dir/name still stand for that inode?  *st is filled in. */
static bool
stands_for(struct replica *r, struct disk_dir *dd, const char *name, ino_t ino, struct stat *st)
{
	int fd = disk_fd(&r->disk, dd);

	return fd >= 0 && fstatat(fd, name, st, AT_SYMLINK_NOFOLLOW) == 0 && st->st_ino == ino;
}

/*
 * What is being written is told when it is closed.  A directory that is new, or
 * elsewhere, may be so by something that is told next: it waits until all was.
 */
static void
look_at(struct replica *r, struct disk_dir *dd, const struct event *e)
{
	struct stat st;

	if (!stands_for(r, dd, e->name, e->ino, &st))
		return;
	if (!S_ISDIR(st.st_mode)) {
		if (!view_is_writing(r, st.st_ino))
			local_reconcile_name(r, dd, e->name);
	} else if (!is_in_place(r, dd, e->name, e->ino)) {
		local_look_later(r, (struct look){ LOOK_AT_DIR, dd->ino, e->ino, e->name });
	}
}

/* What was told when its directory stood elsewhere already, or by a name that went. */
static void
look_at_file(struct replica *r, struct disk_dir *dd, const struct look *l)
{
	struct stat st;

	if (!stands_for(r, dd, l->name, l->ino, &st))
		return;
	/* First: what is written from now on is told by this name. */
	if (r->view)
		r->view->named(r->view->ctx, st.st_ino, dd->ino, l->name);
	local_write_at(r, dd, l->name, 0, true, NULL);
	local_file_attrs(r, dd, l->name, NULL);
}

/* Contents are read while users need not wait for it: under the view lock most of them
 * are known then. */
static void
read_first(struct replica *r, const struct look *l)
{
	bool file = l->what == LOOK_AT_FILE || l->what == LOOK_AT_LINK;
	struct disk_dir *dd = file ? disk_find(&r->disk, l->dir) : NULL;
	struct stat st;

	if (dd && dd->ids_len && stands_for(r, dd, l->name, l->ino, &st))
		local_write_at(r, dd, l->name, 0, true, NULL);
}

static void
look(struct replica *r, const struct look *l)
{
	struct disk_dir *dd = disk_find(&r->disk, l->what == LOOK_AT_ATTRS ? l->ino : l->dir);

	if (!dd || !dd->ids_len)
		return;
	if (l->what == LOOK_AT_ATTRS)
		local_dir_attrs(r, dd, 0);
	else if (l->what == LOOK_AT_FILE)
		look_at_file(r, dd, l);
	else if (l->what == LOOK_AT_DIR && !is_in_place(r, dd, l->name, l->ino))
		local_reconcile_name(r, dd, l->name);
}

void
local_look_when_told(struct replica *r)
{
	struct look *l = r->looks;
	size_t n = r->looks_len;
	bool hold = false;

	if (n == 0)
		return;
	r->looks = NULL;	/* what is found may call for another look */
	r->looks_len = 0;
	for (size_t i = 0; i < n; i++) {
		read_first(r, &l[i]);
		hold |= l[i].what != LOOK_AT_LINK;
	}
	if (hold)
		view_hold(r);
	for (size_t i = 0; i < n; i++) {
		look(r, &l[i]);
		free(l[i].name);
	}
	free(l);
}

void
local_event(struct replica *r, struct event *e)
{
	struct disk_dir *at = disk_find(&r->disk, e->dir), *to = e->name2 ? disk_find(&r->disk, e->dir2) : NULL;

	r->s->now = (uint64_t)e->time_ns;
	if (e->op == REPLICA_IDLE || ignore_event(r, e, at, to))
		return;
	if (!at || !at->ids_len || (e->name2 && (!to || !to->ids_len))) {
		log_debug("%s: in a directory that is not replicated", e->name ? e->name : "?");
		return;
	}
	if ((e->op == REPLICA_WRITE || e->op == REPLICA_ATTR) && !e->is_dir && e->ino && disk_fd(&r->disk, at) < 0) {
		local_look_later(r, (struct look){ LOOK_AT_FILE, at->ino, e->ino, e->name });
		return;
	}
	switch (e->op) {
	case REPLICA_WRITE:
		local_write_at(r, at, e->name, e->ino, e->unsure, NULL);
		break;
	case REPLICA_UNLINK:
		local_unlink_at(r, at, e->name);
		break;
	case REPLICA_RENAME:
		if (e->is_dir)
			local_rename_dir(r, e, at, to);
		else
			local_rename_file(r, e, at, to);
		break;
	case REPLICA_EXCHANGE:
		exchange(r, e, at, to);
		break;
	case REPLICA_MKDIR:
		local_new_dir(r, at, e->name, e->ino, DIR_MADE_HERE);
		break;
	case REPLICA_RMDIR:
		local_remove_dir(r, at, e->name);
		break;
	case REPLICA_ATTR:
		attrs_set_by(r, e, at);
		break;
	case REPLICA_LOOK:
		look_at(r, at, e);
		break;
	case REPLICA_IDLE:
		break;
	}
}
