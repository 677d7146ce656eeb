/*
 * From what users did to a file on disk to events in the state: written, removed,
 * renamed.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/local_impl.h"
#include "replication/view_impl.h"

/* What a hash job found, if that is still what stands there. */
static int
use_hash(struct replica *r, int dirfd, const char *name, const struct stat *st, const struct attrs *prev,
    const struct hash_job *j, struct local_file *out)
{
	struct file_stamp then = local_stamp_of(&j->st);

	if (j->rc < 0)
		return j->rc;
	if (!local_stamp_same(&then, st))
		return -EAGAIN;		/* told again when it is closed, or quiet */
	*out = (struct local_file){ KIND_FILE, j->hash, (uint64_t)st->st_size, { 0 } };
	disk_attrs_read(r, dirfd, name, st, prev, &out->attrs);
	return 0;
}

static void
hashed(struct replica *r, struct hash_job *j)
{
	struct disk_dir *dd = disk_find(&r->disk, j->dir);

	r->s->now = (uint64_t)j->time_ns;
	if (dd && dd->ids_len)
		local_write_at(r, dd, j->name, 0, j->unsure, j);
}

void
local_hash_now(struct replica *r, struct hash_job *j)
{
	struct disk_dir *dd = j->done == hashed ? disk_find(&r->disk, j->dir) : NULL;

	r->s->now = (uint64_t)j->time_ns;
	if (dd && dd->ids_len)
		local_write_at(r, dd, j->name, 0, true, NULL);
}

/* True: it is hashed elsewhere, and looked at again then. */
static bool
hash_later(struct replica *r, struct disk_dir *dd, int dirfd, const char *name, bool unsure, const struct stat *st,
    const struct reg_file *known)
{
	struct hash_job *j;
	int fd;

	if (!r->hasher || !S_ISREG(st->st_mode) || st->st_size <= HASHER_WORTH)
		return false;
	fd = disk_open_file(dirfd, name);
	if (fd < 0)
		return false;
	j = mem_alloc(sizeof(*j));
	j->fd = fd;
	j->sync = true;
	j->done = hashed;
	j->lists_fd = r->chunks_fd;
	j->has_before = known != NULL;
	if (known)
		j->before = known->hash;
	j->dir = dd->ino;
	j->name = mem_str(name);
	j->time_ns = (int64_t)r->s->now;
	j->unsure = unsure;
	hasher_add(r, j);
	return true;
}

/* A name of that inode went, after it was written or while it is open for that: its
 * other names stay. */
static void
others_written(struct replica *r, const struct reg *but, const char *but_name, const struct hash *noted, ino_t ino)
{
	struct links q;

	local_links_noted(r, but, but_name, noted, ino, &q);
	for (size_t i = 0; i < q.len; i++) {
		struct disk_dir *dd = disk_find(&r->disk, q.l[i].dir);

		if (dd && dd->ids_len)
			local_look_later(r, (struct look){ LOOK_AT_FILE, dd->ino, ino, q.l[i].name });
	}
	local_links_free(&q);
}

/* Is the file's time the one that peers are told?  What was looked at and had the same
 * content is noted with a time of which none of them has heard. */
static bool
is_time_told(const struct seen *q, const struct stat *st)
{
	const struct cell *c = q->e ? attrs_find(&q->e->attrs, "mtime") : NULL;
	int64_t ns = local_stamp_of(st).mtime_ns;

	return !c || !c->value || c->len > 24 || strtoll(c->value, NULL, 10) == ns;
}

/* The note of the file, if that is a sibling's that shows no more, also under no other
 * name, and is still to go. */
static struct reg_file *
to_go(struct replica *r, const struct seen *q, const char *name, const struct stat *st, struct reg **owner)
{
	struct reg_file *f;

	*owner = local_noting(r, q, name);
	f = *owner ? reg_file_find(*owner, name) : NULL;
	return f && f->stamp.ino == st->st_ino ? f : NULL;
}

/*
 * q is of another name, as name's content became equal to what that shows, while both
 * files stand still: the label by which what users write by this name stands beside what
 * the other file holds.  NULL: there is no such file.
 */
static const char *
label_beside(const struct seen *q, const char *name)
{
	char again[STATE_NAME_MAX + 1];
	const char *label = NULL;
	struct reg *owner;
	const struct reg_file *f = local_seen_file(q, q->e->name, &owner);

	if (!f || hash_compare(&f->hash, &q->e->hash) != 0)
		return NULL;
	for (const char *p = name; (p = strstr(p, STATE_SEP)); p = label)
		label = p + strlen(STATE_SEP);
	if (!label || !*label)
		return NULL;
	state_sibling(q->g.name, label, again);
	return strcmp(again, name) == 0 ? label : NULL;
}

/*
 * dir/name holds new content; ino 0: whatever stands there.  unsure: maybe not;
 * then contents are compared.  job: its hash, if that is known already.
 */
void
local_write_at(struct replica *r, struct disk_dir *dd, const char *name, ino_t ino, bool unsure, const struct hash_job *job)
{
	int fd = disk_fd(&r->disk, dd), rc;
	struct local_file file;
	struct reg *reg, *owner, *going;
	struct reg_file *known, *f;
	struct file_stamp stamp;
	struct hash before;
	struct seen q;
	struct stat st;
	const char *beside = NULL;
	ino_t was = 0;

	if (fd < 0)
		return;
	local_seen_open(r, dd, name, &q);
	known = local_seen_file(&q, name, &owner);
	if (!known && (known = local_seen_alias(r, dd, name, &q, &owner)))
		beside = label_beside(&q, name);
	if (known)
		before = known->hash;
	rc = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	if (rc < 0 || (ino && st.st_ino != ino)) {
		/* It went elsewhere since; its note cannot be trusted any more. */
		if (known)
			known->stamp.ino = 0;
		if (known && ino)
			others_written(r, owner, name, &before, ino);
		goto out;
	}
	/* What stood here may have been written, and its other names are not told of it. */
	if (known && !ino && known->stamp.ino != st.st_ino)
		was = known->stamp.ino;
	/* Two writes can leave one stamp: clocks of inodes may be coarse, and of a
	 * mapping not every store moves them. */
	stamp = local_stamp_of(&st);
	if (known && local_stamp_same(&known->stamp, &st)) {
		if (!ino && !job)
			goto out;
		unsure |= is_time_told(&q, &st);
	}
	if (job)
		rc = use_hash(r, fd, name, &st, q.e ? &q.e->attrs : NULL, job, &file);
	else if (ino && hash_later(r, dd, fd, name, unsure, &st, known))
		goto out;
	else
		rc = local_read_file(r, fd, name, &st, q.e ? &q.e->attrs : NULL, &file);
	if (rc < 0) {
		if (rc != -EINVAL && rc != -ENOENT && rc != -EAGAIN)
			log_warn("%s: cannot be read: %s", name, strerror(-rc));
		goto out;
	}
	if (ino && st.st_ino != ino) {
		/* While it was being read. */
		attrs_fini(&file.attrs);
		if (known)
			known->stamp.ino = 0;
		if (known)
			others_written(r, owner, name, &before, ino);
		goto out;
	}
	if (unsure && known && hash_compare(&known->hash, &file.hash) == 0) {
		/* What was written since this was told, or while it was being read, is
		 * told, too: with the stamp of that noted, its time would pass for known. */
		if (local_stamp_same(&stamp, &st) && ((!ino && !job) || known->stamp.mtime_ns == stamp.mtime_ns))
			local_note_file(r, owner, name, &file.hash, &st);
		attrs_fini(&file.attrs);
		goto out;
	}
	f = unsure && !known ? to_go(r, &q, name, &st, &going) : NULL;
	if (f && hash_compare(&f->hash, &file.hash) == 0) {
		/* Nobody wrote it: what it holds was replaced or removed as it showed elsewhere. */
		local_note_file(r, going, name, &file.hash, &st);
		state_touch_reg(r->s, going);
		attrs_fini(&file.attrs);
		goto out;
	}
	if (beside)
		reg = local_write_beside(r->s, dd->ids[0], q.g.name, beside, &file);
	else
		rc = local_write_seen(r, dd, name, &q, known, &file, &reg);
	if (rc < 0) {
		log_warn("%s: cannot be noted: %s", name, strerror(-rc));
	} else {
		local_forget_file(r, &q, name);
		local_note_file(r, reg, name, &file.hash, &st);
		if (known)
			local_links_written(r, reg, name, &before, &file, &st);
		else if (st.st_nlink > 1)
			/* By its other names it may be written before all of them are noted
			 * with the same content. */
			local_look_later(r, (struct look){ LOOK_AT_LINK, dd->ino, st.st_ino, (char *)(uintptr_t)name });
	}
	attrs_fini(&file.attrs);
out:
	local_seen_close(&q);
	if (was)
		others_written(r, owner, name, &before, was);
}

void
local_seal(struct replica *r, struct disk_dir *dd, const char *name)
{
	char *copy = mem_str(name);	/* it may be that of the note */
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	r->s->now = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (!ignore_at(r, dd, copy, false))
		local_write_at(r, dd, copy, 0, true, NULL);
	free(copy);
}

struct looking {
	struct replica *r;
	const struct hash *h;
	struct link_name *l;
	size_t len;
};

static int
is_changed(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct looking *q = arg;
	struct reg *reg = state_reg_in(q->r->s, dir_num, name);
	struct disk_dir *dd = reg ? disk_of(reg->dir) : NULL;
	int fd = dd ? disk_fd(&q->r->disk, dd) : -1;

	(void)seq;
	for (uint32_t i = 0; fd >= 0 && i < reg->files_len; i++) {
		const struct reg_file *f = &reg->files[i];
		struct stat st;

		if (hash_compare(&f->hash, q->h) != 0 || fstatat(fd, f->name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    local_stamp_same(&f->stamp, &st) || view_is_writing(q->r, st.st_ino))
			continue;
		q->l = mem_resize(q->l, q->len + 1, sizeof(*q->l));
		q->l[q->len++] = (struct link_name){ dd->ino, mem_str(f->name) };
	}
	return 0;
}

void
local_look_for(struct replica *r, const struct hash *h)
{
	struct looking q = { .r = r, .h = h };

	index_regs_with_content(r->x, h, SIZE_MAX, is_changed, &q);
	for (size_t i = 0; i < q.len; i++) {
		struct disk_dir *dd = disk_find(&r->disk, q.l[i].dir);

		if (dd && dd->ids_len)
			local_seal(r, dd, q.l[i].name);
		free(q.l[i].name);
	}
	free(q.l);
}

void
local_seal_new(struct replica *r, struct disk_dir *dd, const char *name)
{
	int fd = disk_fd(&r->disk, dd);
	struct local_file file;
	struct timespec now;
	struct stat st;

	clock_gettime(CLOCK_REALTIME, &now);
	r->s->now = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (fd < 0 || !dd->ids_len || ignore_at(r, dd, name, false) ||
	    local_read_file(r, fd, name, &st, NULL, &file) < 0)
		return;
	local_note_file(r, local_found(r->s, dd->ids[0], name, &file), name, &file.hash, &st);
	attrs_fini(&file.attrs);
}

void
local_unlink_at(struct replica *r, struct disk_dir *dd, const char *name)
{
	struct seen q;

	local_seen_open(r, dd, name, &q);
	if (q.e && local_unlink(r->s, dd->ids[0], q.e->name) == 0)
		local_forget_file(r, &q, name);
	local_seen_close(&q);
}

void
local_rename_file(struct replica *r, const struct event *e, struct disk_dir *from, struct disk_dir *to)
{
	int fd = disk_fd(&r->disk, to), rc;
	struct seen a, b;
	struct reg *owner, *reg;
	struct reg_file *known;
	struct local_file file = { 0 };
	struct stat st;
	struct hash h, before;
	bool changed;

	local_seen_open(r, from, e->name, &a);
	local_seen_open(r, to, e->name2, &b);
	known = local_seen_file(&a, e->name, &owner);
	if (known)
		before = known->hash;
	if (!a.e) {
		local_write_at(r, to, e->name2, e->ino, false, NULL);
		goto out;
	}
	if (fd < 0 || fstatat(fd, e->name2, &st, AT_SYMLINK_NOFOLLOW) < 0 || (e->ino && st.st_ino != e->ino))
		goto went_on;
	changed = !known || !local_stamp_same(&known->stamp, &st);
	if (changed && (rc = local_read_file(r, fd, e->name2, &st, &a.e->attrs, &file)) < 0) {
		/* Something that is no file may have its number by now. */
		if (rc == -ENOENT || rc == -EINVAL)
			goto went_on;
		log_warn("%s: cannot be read: %s", e->name2, strerror(-rc));
		goto out;
	}
	if (changed && e->ino && st.st_ino != e->ino)
		goto went_on;
	h = changed ? file.hash : a.e->hash;
	rc = local_rename(r->s, from->ids[0], e->name, to->ids[0], e->name2, changed ? &file : NULL, &reg);
	if (rc == 0) {
		local_forget_file(r, &a, e->name);
		local_forget_file(r, &b, e->name2);
		local_note_file(r, reg, e->name2, &h, &st);
		if (changed && known)
			local_links_written(r, reg, e->name2, &before, &file, &st);
		/* They were told under the old name, where they were not found. */
		if (!changed)
			local_file_attrs(r, to, e->name2, NULL);
	} else {
		log_warn("%s: renamed to %s, but: %s", e->name, e->name2, strerror(-rc));
	}
	goto out;

went_on:
	/* What it replaced is gone, the rest follows. */
	if (b.e && local_unlink(r->s, to->ids[0], e->name2) == 0)
		local_forget_file(r, &b, e->name2);
	if (local_unlink(r->s, from->ids[0], e->name) == 0)
		local_forget_file(r, &a, e->name);
out:
	attrs_fini(&file.attrs);
	local_seen_close(&a);
	local_seen_close(&b);
}
