/*
 * From what users did on disk to events in the state, one told event at a time.
 *
 * The disk may be ahead of the event in hand: what is not there any more, or is
 * another inode by now, is explained by an event that follows.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/lists.h"
#include "replication/local_impl.h"
#include "replication/take.h"
#include "replication/view_impl.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

#define HASH_TRIES 3
#define SYNC_EACH 3

struct file_stamp
local_stamp_of(const struct stat *st)
{
	return (struct file_stamp){ st->st_ino, (uint64_t)st->st_size,
		st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec };
}

bool
local_stamp_same(const struct file_stamp *a, const struct stat *st)
{
	struct file_stamp b = local_stamp_of(st);

	return a->ino && a->ino == b.ino && a->size == b.size && a->mtime_ns == b.mtime_ns;
}

/* ---- what shows under a name, for the notes about files ---- */

void
local_seen_open(struct replica *r, struct disk_dir *dd, const char *name, struct seen *q)
{
	memset(q, 0, sizeof(*q));
	obstack_init(&q->o);
	display_folder(r->s, dd->ids[0], &q->o, &q->f);
	display_find(r->s, &q->f, name, &q->o, &q->g, &q->e);
}

void
local_seen_close(struct seen *q)
{
	group_fini(&q->g);
	obstack_free(&q->o, NULL);
}

/* The register that notes the file of that name, and the note. */
struct reg_file *
local_seen_file(const struct seen *q, const char *name, struct reg **owner)
{
	for (size_t i = 0; i < q->g.len; i++)
		for (size_t j = 0; j < q->g.files[i].refs_len; j++) {
			struct reg *reg = q->g.files[i].refs[j].reg;
			struct reg_file *f = reg_file_find(reg, name);

			if (f) {
				*owner = reg;
				return f;
			}
		}
	return NULL;
}

void
local_forget_file(struct replica *r, const struct seen *q, const char *name)
{
	struct reg *owner;

	while (local_seen_file(q, name, &owner)) {
		reg_file_forget(owner, name);
		state_reg_noted(r->s, owner);
	}
}

void
local_note_file(struct replica *r, struct reg *reg, const char *name, const struct hash *h, const struct stat *st)
{
	struct file_stamp stamp = local_stamp_of(st);

	reg_file_set(reg, name, h, &stamp);
	state_reg_noted(r->s, reg);
	marks_file(r, reg, name);
}

/* ---- reading a file ---- */

static int
read_link(int dirfd, const char *name, struct local_file *out)
{
	char target[4096];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target));

	if (n < 0)
		return errno == EINVAL ? -ENOENT : -errno;
	out->kind = KIND_SYMLINK;
	out->size = (uint64_t)n;
	chunk_link_hash(target, (size_t)n, &out->hash);
	return 0;
}

/* A large one's list of chunks is kept. */
static int
hash_content(struct replica *r, int fd, off_t size, struct chunk_list *out)
{
	int rc = chunk_file(fd, size > LISTS_WORTH, out);

	if (rc == 0 && out->c)
		lists_save(r->chunks_fd, out);
	return rc;
}

static int
read_content(struct replica *r, int dirfd, const char *name, struct stat *st, struct local_file *out)
{
	struct chunk_list l;
	int fd = disk_open_file(dirfd, name), rc = 0;

	if (fd < 0)
		return errno == ELOOP ? -ENOENT : -errno;
	for (int i = 0; i < HASH_TRIES && rc == 0; i++) {
		struct stat before;

		if (fstat(fd, &before) < 0 || (rc = hash_content(r, fd, before.st_size, &l)) < 0) {
			rc = rc ? rc : -errno;
			break;
		}
		out->kind = KIND_FILE;
		out->hash = l.hash;
		out->size = l.size;
		chunk_list_fini(&l);
		if (fstat(fd, st) < 0)
			rc = -errno;
		else if (before.st_size == st->st_size && before.st_mtim.tv_sec == st->st_mtim.tv_sec &&
		    before.st_mtim.tv_nsec == st->st_mtim.tv_nsec)
			break;
	}
	/* One file by itself; where many were told at once, all of them together. */
	if (rc == 0 && (r->walking || r->queued > SYNC_EACH || fdatasync(fd) < 0))
		r->unsynced = true;
	close(fd);
	return rc;
}

/* 0, or -errno; -EINVAL: not a thing that is replicated; -ENOENT: not there, or
 * another kind took its place meanwhile. */
int
local_read_file(struct replica *r, int dirfd, const char *name, struct stat *st, const struct attrs *prev,
    struct local_file *out)
{
	int rc;

	memset(out, 0, sizeof(*out));
	if (fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (st->st_dev != r->dev)
		return -EINVAL;
	if (S_ISLNK(st->st_mode))
		rc = read_link(dirfd, name, out);
	else
		rc = S_ISREG(st->st_mode) ? read_content(r, dirfd, name, st, out) : -EINVAL;
	if (rc == 0)
		disk_attrs_read(r, dirfd, name, st, prev, &out->attrs);
	return rc;
}

/* ---- files ---- */

static void	 write_at(struct replica *r, struct disk_dir *dd, const char *name, ino_t ino, bool unsure,
    const struct hash_job *job);

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
		write_at(r, dd, j->name, 0, j->unsure, j);
}

void
local_hash_now(struct replica *r, struct hash_job *j)
{
	struct disk_dir *dd = j->done == hashed ? disk_find(&r->disk, j->dir) : NULL;

	r->s->now = (uint64_t)j->time_ns;
	if (dd && dd->ids_len)
		write_at(r, dd, j->name, 0, true, NULL);
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

/*
 * dir/name holds new content; ino 0: whatever stands there.  unsure: maybe not;
 * then contents are compared.  job: its hash, if that is known already.
 */
static void
write_at(struct replica *r, struct disk_dir *dd, const char *name, ino_t ino, bool unsure, const struct hash_job *job)
{
	int fd = disk_fd(&r->disk, dd), rc;
	struct local_file file;
	struct reg *reg, *owner;
	struct reg_file *known;
	struct seen q;
	struct stat st;

	if (fd < 0)
		return;
	local_seen_open(r, dd, name, &q);
	known = local_seen_file(&q, name, &owner);
	rc = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	if (rc < 0 || (ino && st.st_ino != ino)) {
		/* It went elsewhere since; its note cannot be trusted any more. */
		if (known)
			known->stamp.ino = 0;
		goto out;
	}
	/* Two writes can leave one stamp: clocks of inodes may be coarse, and of a
	 * mapping not every store moves them. */
	if (known && local_stamp_same(&known->stamp, &st)) {
		if (!ino && !job)
			goto out;
		unsure = true;
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
		goto out;
	}
	if (unsure && known && hash_compare(&known->hash, &file.hash) == 0) {
		local_note_file(r, owner, name, &file.hash, &st);
		attrs_fini(&file.attrs);
		goto out;
	}
	rc = local_write(r->s, dd->ids[0], name, &file, &reg);
	if (rc < 0) {
		log_warn("%s: cannot be noted: %s", name, strerror(-rc));
	} else {
		local_forget_file(r, &q, name);
		local_note_file(r, reg, name, &file.hash, &st);
	}
	attrs_fini(&file.attrs);
out:
	local_seen_close(&q);
}

void
local_seal(struct replica *r, struct disk_dir *dd, const char *name)
{
	char *copy = mem_str(name);	/* it may be that of the note */
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	r->s->now = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	if (!ignore_at(r, dd, copy, false))
		write_at(r, dd, copy, 0, true, NULL);
	free(copy);
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

static void
unlink_at(struct replica *r, struct disk_dir *dd, const char *name)
{
	struct seen q;

	local_seen_open(r, dd, name, &q);
	if (q.e && local_unlink(r->s, dd->ids[0], name) == 0)
		local_forget_file(r, &q, name);
	local_seen_close(&q);
}

static void
rename_file(struct replica *r, const struct event *e, struct disk_dir *from, struct disk_dir *to)
{
	int fd = disk_fd(&r->disk, to), rc;
	struct seen a, b;
	struct reg *owner, *reg;
	struct reg_file *known;
	struct local_file file = { 0 };
	struct stat st;
	struct hash h;
	bool changed;

	local_seen_open(r, from, e->name, &a);
	local_seen_open(r, to, e->name2, &b);
	known = local_seen_file(&a, e->name, &owner);
	if (!a.e) {
		write_at(r, to, e->name2, e->ino, false, NULL);
		goto out;
	}
	if (fd < 0 || fstatat(fd, e->name2, &st, AT_SYMLINK_NOFOLLOW) < 0 || (e->ino && st.st_ino != e->ino))
		goto went_on;
	changed = !known || !local_stamp_same(&known->stamp, &st);
	if (changed && (rc = local_read_file(r, fd, e->name2, &st, &a.e->attrs, &file)) < 0) {
		if (rc == -ENOENT)
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

/* ---- directories ---- */

/* A directory that is not where it was: the mode it has, if it can be found. */
static void
stat_elsewhere(struct replica *r, ino_t ino, struct stat *st)
{
	int fd = r->disk.open_dir ? r->disk.open_dir(r->disk.open_ctx, ino) : -1;
	struct stat found;

	*st = (struct stat){ .st_mode = S_IFDIR | 0755, .st_ino = ino };
	if (fd < 0)
		return;
	if (fstat(fd, &found) == 0 && found.st_ino == ino)
		st->st_mode = found.st_mode;
	close(fd);
}

/* A directory that only peers had, for as long as it was ignored, is this one. */
static bool
comes_to_stand(struct replica *r, struct disk_dir *up, const char *name, ino_t ino)
{
	struct disk_dir *dd;
	struct seen q;
	bool is;

	local_seen_open(r, up, name, &q);
	is = !q.e && q.g.dirs.len && !disk_of(q.g.dirs.ids[0]);
	if (is) {
		dd = disk_add(&r->disk, ino, up, name);
		for (size_t i = 0; i < q.g.dirs.len; i++) {
			disk_assign(q.g.dirs.ids[i], dd);
			state_dir_noted(r->s, q.g.dirs.ids[i]);
			state_touch_dir(r->s, q.g.dirs.ids[i]);
		}
	}
	local_seen_close(&q);
	return is;
}

void
local_new_dir(struct replica *r, struct disk_dir *up, const char *name, ino_t ino, enum dir_told told)
{
	int fd = disk_fd(&r->disk, up), rc;
	struct attrs a;
	struct disk_dir *dd;
	struct stat st;
	struct dir *d;

	if (fd < 0)
		return;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != ino) {
		/* Moved or removed since: made all the same, the rest follows. */
		stat_elsewhere(r, ino, &st);
	} else if (st.st_dev != r->dev) {
		return;
	}
	rc = local_mkdir(r->s, up->ids[0], name, st.st_mode & 07777, told, &d);
	if (rc == -EEXIST && comes_to_stand(r, up, name, ino))
		return;
	if (rc < 0) {
		log_warn("%s: made, but something shows there: %s", name, strerror(-rc));
		return;
	}
	dd = disk_add(&r->disk, ino, up, name);
	disk_assign(d, dd);
	fd = disk_fd(&r->disk, up);
	if (st.st_nlink && fd >= 0) {
		disk_attrs_read(r, fd, name, &st, NULL, &a);
		for (uint32_t i = 0; i < a.len; i++)
			if (strcmp(a.c[i].key, "mode") != 0)
				attrs_set(&d->val.attrs, a.c[i].key, a.c[i].value, a.c[i].len, state_stamp(r->s));
		attrs_fini(&a);
	}
	marks_dir(r, dd);
}

/* It stands nowhere on disk any more, whatever the state says. */
static void
forget_dir(struct replica *r, struct disk_dir *dd)
{
	for (size_t i = 0; i < dd->ids_len; i++)
		state_touch_dir(r->s, dd->ids[i]);
	disk_forget(&r->disk, dd);
}

struct noted {
	struct replica *r;
	char **names;
	size_t len;
};

static int
collect_noted(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct noted *q = arg;
	struct dir *d = state_dir_num(q->r->s, dir_num);
	struct reg *reg = d ? state_reg(q->r->s, d, name, false) : NULL;

	(void)seq;
	for (uint32_t i = 0; reg && i < reg->files_len; i++) {
		q->names = mem_resize(q->names, q->len + 1, sizeof(*q->names));
		q->names[q->len++] = mem_str(reg->files[i].name);
	}
	return 0;
}

void
local_forget_files(struct replica *r, struct disk_dir *dd)
{
	struct noted q = { .r = r };

	for (size_t i = 0; i < dd->ids_len; i++)
		index_regs_in_dir(r->x, dd->ids[i]->num, collect_noted, &q);
	for (size_t i = 0; i < q.len; i++) {
		unlink_at(r, dd, q.names[i]);
		free(q.names[i]);
	}
	free(q.names);
}

/* Does the state show dd under that name? */
static bool
shows_dir(struct replica *r, struct disk_dir *up, const char *name, const struct disk_dir *dd)
{
	struct seen q;
	bool yes;

	local_seen_open(r, up, name, &q);
	yes = q.g.dirs.len && !q.e && disk_of(q.g.dirs.ids[0]) == dd;
	local_seen_close(&q);
	return yes;
}

static void
remove_dir(struct replica *r, struct disk_dir *up, const char *name)
{
	struct disk_dir *dd = disk_at(&r->disk, up, name);

	if (!dd)
		return;
	if (shows_dir(r, up, name, dd))
		local_rmdir(r->s, up->ids[0], name);
	forget_dir(r, dd);
}

void
local_rename_dir(struct replica *r, const struct event *e, struct disk_dir *from, struct disk_dir *to)
{
	struct disk_dir *dd = disk_find(&r->disk, e->ino), *old;
	int rc;

	if (!dd || dd == r->disk.root) {
		local_new_dir(r, to, e->name2, e->ino, DIR_MADE_HERE);
		dd = disk_find(&r->disk, e->ino);
		if (dd)
			local_reconcile(r, dd, NULL, NULL);
		return;
	}
	old = disk_at(&r->disk, to, e->name2);
	rc = shows_dir(r, from, e->name, dd) ?
	    local_move(r->s, from->ids[0], e->name, to->ids[0], e->name2) : -ENOENT;
	if (old && old != dd)
		forget_dir(r, old);
	disk_place(dd, to, e->name2);
	if (rc < 0) {
		/* Back it goes, to where it shows. */
		log_warn("%s: moved to %s, but: %s", e->name, e->name2, strerror(-rc));
		for (size_t i = 0; i < dd->ids_len; i++)
			state_touch_dir(r->s, dd->ids[i]);
		return;
	}
	marks_dir(r, dd);
}

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
		rename_file(r, e, from, to);
	else if (a->g.dirs.len)
		local_rename_dir(r, e, from, to);
	else if (b->e)
		rename_file(r, &back, to, from);
	else if (db)
		local_rename_dir(r, &back, to, from);
	if (!a->e && !a->g.dirs.len)
		write_at(r, to, e->name2, e->ino, false, NULL);
	if (!b->e && !b->g.dirs.len)
		write_at(r, from, e->name, 0, true, NULL);
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
	local_seen_close(&a);
	local_seen_close(&b);
	local_seen_open(r, from, e->name, &a);
	local_seen_open(r, to, e->name2, &b);
	if (a.e && fb)
		reg_file_set(a.e->leader_reg, e->name, &kb.hash, &kb.stamp);
	if (b.e && fa)
		reg_file_set(b.e->leader_reg, e->name2, &ka.hash, &ka.stamp);
	/* What was written before, and not told, is told by this. */
	if (a.e)
		write_at(r, from, e->name, 0, true, NULL);
	if (b.e)
		write_at(r, to, e->name2, 0, true, NULL);
out:
	local_seen_close(&a);
	local_seen_close(&b);
}

/* ---- attributes ---- */

/* Was it set by hand?  Then it counts as the last word even if it says the same. */
static bool
was_set(const char *key, unsigned set)
{
	return (set & REPLICA_ATTR_MODE && strcmp(key, "mode") == 0) ||
	    (set & REPLICA_ATTR_OWNER && (strcmp(key, "owner") == 0 || strcmp(key, "group") == 0));
}

/* The cells of now that say something else than before, or were set. */
static struct attrs
changed_attrs(const struct attrs *now, const struct attrs *before, unsigned set)
{
	struct attrs out = { 0 };

	for (uint32_t i = 0; i < now->len; i++)
		if (was_set(now->c[i].key, set) ||
		    !cell_same_value(&now->c[i], attrs_find(before, now->c[i].key)))
			attrs_set(&out, now->c[i].key, now->c[i].value, now->c[i].len, now->c[i].at);
	for (uint32_t i = 0; i < before->len; i++)
		if (before->c[i].value && !attrs_find(now, before->c[i].key))
			attrs_set(&out, before->c[i].key, NULL, 0, before->c[i].at);
	return out;
}

static void
dir_attrs_changed(struct replica *r, struct disk_dir *dd, unsigned which)
{
	struct attrs now, before, set;
	struct obstack o;
	struct folder f;
	struct stat st;
	int fd = disk_fd(&r->disk, dd);

	if (fd < 0 || !dd->ids_len || fstat(fd, &st) < 0)
		return;
	obstack_init(&o);
	display_folder(r->s, dd->ids[0], &o, &f);
	before = attrs_copy(&f.ids[0]->val.attrs);
	if (dd->up)
		attrs_set_mode(&before, display_folder_mode(&f), (struct stamp){ 0, 0 });
	disk_attrs_read(r, fd, ".", &st, &before, &now);
	set = changed_attrs(&now, &before, which);
	if (set.len)
		local_set_dir_attrs(r->s, &f, &set);
	attrs_fini(&set);
	attrs_fini(&now);
	attrs_fini(&before);
	obstack_free(&o, NULL);
}

static void
file_attrs_changed(struct replica *r, struct disk_dir *dd, const char *name, ino_t ino, unsigned which)
{
	struct reg_file *known;
	struct attrs now, set;
	struct reg *owner;
	struct seen q;
	struct stat st;
	int fd = disk_fd(&r->disk, dd);

	local_seen_open(r, dd, name, &q);
	if (fd < 0 || !q.e || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (ino && st.st_ino != ino))
		goto out;
	known = local_seen_file(&q, name, &owner);
	/* A time set by hand and content not told of yet look alike: look again
	 * when it is told. */
	if (known && !local_stamp_same(&known->stamp, &st)) {
		known->stamp.ino = 0;
		state_reg_noted(r->s, owner);
	}
	disk_attrs_read(r, fd, name, &st, &q.e->attrs, &now);
	set = changed_attrs(&now, &q.e->attrs, which);
	if (set.len)
		local_set_attrs(r->s, dd->ids[0], name, &set);
	attrs_fini(&set);
	attrs_fini(&now);
out:
	local_seen_close(&q);
}

static void
attrs_changed(struct replica *r, const struct event *e, struct disk_dir *at)
{
	struct disk_dir *dd = e->dir == 0 ? r->disk.root : e->is_dir ? disk_find(&r->disk, e->ino) : NULL;

	if (dd)
		dir_attrs_changed(r, dd, e->attrs);
	else if (!e->is_dir && at)
		file_attrs_changed(r, at, e->name, e->ino, e->attrs);
}

void
local_attrs_at(struct replica *r, struct disk_dir *dd, const char *name)
{
	int fd = disk_fd(&r->disk, dd);
	struct disk_dir *sub;
	struct seen q;
	struct stat st;
	bool shown;

	if (fd < 0 || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (S_ISDIR(st.st_mode)) {
		sub = disk_find(&r->disk, st.st_ino);
		shown = sub && sub->ids_len && sub->up == dd;
		for (size_t i = 0; shown && i < sub->ids_len; i++)
			shown = !sub->ids[i]->again && !sub->ids[i]->touched;
		if (shown)
			dir_attrs_changed(r, sub, 0);
		return;
	}
	local_seen_open(r, dd, name, &q);
	shown = q.e != NULL;
	for (size_t i = 0; shown && i < q.e->refs_len; i++) {
		const struct reg *reg = q.e->refs[i].reg;

		shown = !reg->pending && !reg->again && !reg->touched;
	}
	local_seen_close(&q);
	if (shown)
		file_attrs_changed(r, dd, name, st.st_ino, 0);
}

/* ---- other names of a file ---- */

/* Noted names of one inode, but for the one that an event is about: what is done
 * to a file by one name is done to all, and the mount may not know them. */
struct links {
	struct replica *r;
	struct hash hash;
	ino_t ino;
	const struct reg *but;
	const char *but_name;
	struct link_name {
		uint64_t dir;
		char *name;
	} *l;
	size_t len;
};

static void
add_links_of(struct links *q, const struct reg *reg)
{
	for (uint32_t i = 0; i < reg->files_len && disk_of(reg->dir); i++) {
		const struct reg_file *f = &reg->files[i];

		if (f->stamp.ino != q->ino || hash_compare(&f->hash, &q->hash) != 0 ||
		    (reg == q->but && strcmp(f->name, q->but_name) == 0))
			continue;
		q->l = mem_resize(q->l, q->len + 1, sizeof(*q->l));
		q->l[q->len++] = (struct link_name){ disk_of(reg->dir)->ino, mem_str(f->name) };
	}
}

static int
add_links_of_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct links *q = arg;
	struct dir *d = state_dir_num(q->r->s, dir_num);
	struct reg *reg = d ? state_reg(q->r->s, d, name, false) : NULL;

	(void)seq;
	if (reg && !reg->dirty)
		add_links_of(q, reg);
	return 0;
}

static void
links_find(struct replica *r, struct disk_dir *dd, const struct event *e, struct links *q)
{
	int fd = disk_fd(&r->disk, dd);
	struct reg_file *known;
	struct reg *owner;
	struct seen seen;
	struct stat st;

	*q = (struct links){ .r = r, .ino = e->ino, .but_name = e->name };
	if (fd < 0 || !e->ino || fstatat(fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != e->ino ||
	    st.st_nlink < 2 || S_ISDIR(st.st_mode))
		return;
	local_seen_open(r, dd, e->name, &seen);
	known = local_seen_file(&seen, e->name, &owner);
	if (known) {
		q->hash = known->hash;
		q->but = owner;
		index_regs_with_content(r->x, &q->hash, add_links_of_row, q);
		for (size_t i = 0; i < r->s->dirty_regs.len; i++)
			add_links_of(q, r->s->dirty_regs.r[i]);
	}
	local_seen_close(&seen);
}

static void
links_free(struct links *q)
{
	for (size_t i = 0; i < q->len; i++)
		free(q->l[i].name);
	free(q->l);
}

static void
written(struct replica *r, const struct event *e, struct disk_dir *at)
{
	struct links q;

	links_find(r, at, e, &q);
	write_at(r, at, e->name, e->ino, e->unsure, NULL);
	for (size_t i = 0; i < q.len; i++) {
		struct disk_dir *dd = disk_find(&r->disk, q.l[i].dir);

		if (dd && dd->ids_len)
			write_at(r, dd, q.l[i].name, e->ino, true, NULL);
	}
	links_free(&q);
}

static void
attrs_set_by(struct replica *r, const struct event *e, struct disk_dir *at)
{
	struct links q = { .len = 0 };

	if (e->dir != 0 && !e->is_dir && at)
		links_find(r, at, e, &q);
	attrs_changed(r, e, at);
	for (size_t i = 0; i < q.len; i++) {
		struct disk_dir *dd = disk_find(&r->disk, q.l[i].dir);

		if (dd && dd->ids_len)
			file_attrs_changed(r, dd, q.l[i].name, e->ino, e->attrs);
	}
	links_free(&q);
}

/* ---- one event ---- */

/* What is being written is told when it is closed. */
static void
look_at(struct replica *r, struct disk_dir *dd, const struct event *e)
{
	struct stat st;
	int fd = disk_fd(&r->disk, dd);

	if (fd >= 0 && fstatat(fd, e->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == e->ino &&
	    (S_ISDIR(st.st_mode) || !view_is_writing(r, st.st_ino)))
		local_reconcile_name(r, dd, e->name);
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
	switch (e->op) {
	case REPLICA_WRITE:
		written(r, e, at);
		break;
	case REPLICA_UNLINK:
		unlink_at(r, at, e->name);
		break;
	case REPLICA_RENAME:
		if (e->is_dir)
			local_rename_dir(r, e, at, to);
		else
			rename_file(r, e, at, to);
		break;
	case REPLICA_EXCHANGE:
		exchange(r, e, at, to);
		break;
	case REPLICA_MKDIR:
		local_new_dir(r, at, e->name, e->ino, DIR_MADE_HERE);
		break;
	case REPLICA_RMDIR:
		remove_dir(r, at, e->name);
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
