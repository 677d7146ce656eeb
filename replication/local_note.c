/*
 * What shows under a name on disk, the note that says which version its file holds,
 * and how a file is read to find out.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "replication/lists.h"
#include "replication/local_impl.h"

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

/* Does a note of dd say that its file of that name is this one? */
static bool
has_entry(const struct disk_dir *dd, const struct shown *e, const char *name)
{
	for (size_t i = 0; i < e->refs_len; i++) {
		struct reg *reg = e->refs[i].reg;
		const struct reg_file *f = disk_of(reg->dir) == dd ? reg_file_find(reg, name) : NULL;

		if (f && hash_compare(&f->hash, &e->hash) == 0)
			return true;
	}
	return false;
}

/* Is what the name stands for, or would if it is new, of another directory on disk? */
static bool
is_elsewhere(const struct seen *q, const struct disk_dir *dd)
{
	if (!q->e)
		return disk_of(q->f.ids[0]) != dd;
	for (size_t i = 0; i < q->e->refs_len; i++)
		if (disk_of(q->e->refs[i].reg->dir) == dd)
			return false;
	return true;
}

void
local_seen_open(struct replica *r, struct disk_dir *dd, const char *name, struct seen *q)
{
	memset(q, 0, sizeof(*q));
	q->dd = dd;
	obstack_init(&q->o);
	display_folder(r->s, dd->ids[0], &q->o, &q->f);
	display_find(r->s, &q->f, name, &q->o, &q->g, &q->e);
	if (q->g.dirs.len || !(q->elsewhere = is_elsewhere(q, dd)))
		return;
	q->e = NULL;
	for (size_t i = 0; i < q->g.len && !q->e; i++)
		if (has_entry(dd, &q->g.files[i], name))
			q->e = &q->g.files[i];
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
			struct reg_file *f = disk_of(reg->dir) == q->dd ? reg_file_find(reg, name) : NULL;

			if (f) {
				*owner = reg;
				return f;
			}
		}
	return NULL;
}

const char *
local_seen_as(const struct seen *q, const char *name, const struct reg_file *known)
{
	for (size_t i = 0; !q->e && known && i < q->g.len; i++)
		if (hash_compare(&q->g.files[i].hash, &known->hash) == 0)
			return q->g.files[i].name;
	return q->e ? q->e->name : name;
}

int
local_write_seen(struct replica *r, struct disk_dir *dd, const char *name, const struct seen *q,
    const struct reg_file *known, const struct local_file *f, struct reg **out)
{
	if (q->e || !q->elsewhere)
		return local_write(r->s, dd->ids[0], local_seen_as(q, name, known), f, out);
	*out = local_found(r->s, dd->ids[0], name, f);
	return 0;
}

struct alias {
	struct replica *r;
	const struct seen *q;
	const char *name;
	struct reg *owner;
};

static void
look_in_base(void *arg, const char *base)
{
	struct alias *a = arg;

	for (size_t i = 0; i < a->q->f.len && !a->owner; i++) {
		struct reg *reg = state_reg(a->r->s, a->q->f.ids[i], base, false);

		if (reg && reg_file_find(reg, a->name))
			a->owner = reg;
	}
}

struct reg *
local_noting(struct replica *r, const struct seen *q, const char *name)
{
	struct alias a = { r, q, name, NULL };

	if (!q->e && !q->g.dirs.len)
		display_bases(r->s, &q->f, name, look_in_base, &a);
	return a.owner;
}

struct reg_file *
local_seen_alias(struct replica *r, struct disk_dir *dd, const char *name, struct seen *q, struct reg **owner)
{
	struct reg *noting = local_noting(r, q, name);
	struct reg_file *f;
	struct seen main;

	if (!noting)
		return NULL;
	f = reg_file_find(noting, name);
	local_seen_open(r, dd, reg_name(noting), &main);
	for (size_t i = 0; i < main.g.len; i++)
		if (hash_compare(&main.g.files[i].hash, &f->hash) == 0) {
			local_seen_close(q);
			*q = main;
			q->e = &q->g.files[i];
			*owner = noting;
			return f;
		}
	local_seen_close(&main);
	return NULL;
}

struct unnoting {
	struct replica *r;
	const struct seen *q;
	const char *name;
};

static void
forget_in_base(void *arg, const char *base)
{
	struct unnoting *a = arg;

	for (size_t i = 0; i < a->q->dd->ids_len; i++) {
		struct reg *reg = state_reg(a->r->s, a->q->dd->ids[i], base, false);

		if (!reg || !reg_file_find(reg, a->name))
			continue;
		reg_file_forget(reg, a->name);
		state_reg_noted(a->r->s, reg);
	}
}

void
local_forget_file(struct replica *r, const struct seen *q, const char *name)
{
	struct unnoting a = { r, q, name };
	struct reg *owner;

	while (local_seen_file(q, name, &owner)) {
		reg_file_forget(owner, name);
		state_reg_noted(r->s, owner);
	}
	forget_in_base(&a, name);
	display_bases(r->s, &q->f, name, forget_in_base, &a);
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
	const struct stat named = *st;
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
	/* The name may go while it is read: its other names stay. */
	if (rc == 0 && st->st_ino == named.st_ino && st->st_nlink < named.st_nlink)
		st->st_nlink = named.st_nlink;
	/* One file by itself; where many were told at once, all of them together. */
	if (rc == 0 && (r->walking || r->unsynced || r->taken_len > SYNC_EACH || fdatasync(fd) < 0))
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
