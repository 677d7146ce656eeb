/*
 * After a stop that was not clean: the directories.  Those that were being taken
 * apart are parted, and those that are nowhere any more are explained.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/replica_recover_impl.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

/* ---- directories that were to part ---- */

/* Those that are noted in one directory on disk, and show at more than one place:
 * the view was taking them apart. */
struct parting {
	struct recovery *q;
	struct disk_dir *dd;
	struct dir *d;		/* the one that leaves it */
};

static bool
stands_where_shown(struct replica *r, const struct dir *d, uint64_t ino)
{
	struct disk_dir *up = d->at.up ? disk_of(d->at.up) : NULL;
	int fd = up ? disk_fd(&r->disk, up) : -1;
	struct stat st;

	return fd >= 0 && fstatat(fd, d->at.name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == ino;
}

static bool
same_place(const struct dir *a, const struct dir *b)
{
	return a->at.up && b->at.up && disk_of(a->at.up) == disk_of(b->at.up) && strcmp(a->at.name, b->at.name) == 0;
}

/* A file of the one that leaves, to be put in its place by the view. */
static void
part_file(struct parting *p, struct reg *reg, int dirfd, const struct reg_file *f)
{
	struct replica *r = p->q->r;
	struct moving *m = recover_find_moving(p->q, f->stamp.ino);
	struct stat st;

	if (m) {
		recover_stage_noted(r, reg, r->moving_fd, m->name, f);
		m->ino = 0;
	} else if (fstatat(dirfd, f->name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (recover_in_journal(p->q, p->dd->ino, f->name))
			local_unlink(r->s, p->d, f->name);
	} else if (local_stamp_same(&f->stamp, &st) || recover_in_journal(p->q, p->dd->ino, f->name)) {
		recover_stage_noted(r, reg, dirfd, f->name, f);
	}
}

static int
part_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct parting *p = arg;
	struct replica *r = p->q->r;
	struct reg *reg = state_reg(r->s, p->d, name, false);
	int fd = disk_fd(&r->disk, p->dd);

	(void)dir_num;
	(void)seq;
	while (reg && fd >= 0 && reg->files_len) {
		struct reg_file f = reg->files[0];

		f.name = mem_str(f.name);
		part_file(p, reg, fd, &f);
		reg_file_forget(reg, f.name);
		state_reg_noted(r->s, reg);
		state_touch_reg(r->s, reg);
		free(f.name);
	}
	return 0;
}

void
recover_part_dirs(struct recovery *q)
{
	struct disk_dir *dd, *tmp;

	HASH_ITER(hh, q->r->disk.dirs, dd, tmp) {
		struct dir *stays = NULL;

		if (dd->ids_len < 2)
			continue;
		for (size_t i = 0; i < dd->ids_len && !stays; i++)
			if (stands_where_shown(q->r, dd->ids[i], dd->ino))
				stays = dd->ids[i];
		if (stays)
			disk_place(dd, disk_of(stays->at.up), stays->at.name);
		else
			stays = dd->ids[0];
		for (size_t i = dd->ids_len; i-- > 0;) {
			struct parting p = { q, dd, dd->ids[i] };

			if (p.d == stays || same_place(p.d, stays))
				continue;
			index_regs_in_dir(q->r->x, p.d->num, part_row, &p);
			disk_assign(p.d, NULL);
			state_dir_noted(q->r->s, p.d);
			state_touch_dir(q->r->s, p.d);
			q->parted = true;
		}
	}
}

/* Does it stand where it is noted, or wait in moving/? */
static bool
stands(struct replica *r, const struct disk_dir *dd)
{
	struct stat st;
	int fd;

	if (!dd->up || dd->lifted)
		return true;
	fd = disk_fd(&r->disk, dd->up);
	return fd >= 0 && fstatat(fd, dd->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == dd->ino;
}

/* ---- directories that were to be one ---- */

/* Directories that show as one may stand as one by now, or be about to: the one
 * that has the file of d which is noted in another.  NULL: none has. */
static struct disk_dir *
stands_beside(struct replica *r, struct dir *d, const struct disk_dir *but, const struct reg_file *f)
{
	struct disk_dir *dd, *found = NULL;
	struct obstack o;
	struct folder folder;
	struct stat st;
	int fd;

	obstack_init(&o);
	display_folder(r->s, d, &o, &folder);
	for (size_t i = 0; i < folder.len && !found; i++)
		if ((dd = disk_of(folder.ids[i])) && dd != but && (fd = disk_fd(&r->disk, dd)) >= 0 &&
		    fstatat(fd, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == f->stamp.ino)
			found = dd;
	obstack_free(&o, NULL);
	return found;
}

/* One that waits in moving/, while its files are brought to another. */
struct uniting {
	struct recovery *q;
	struct disk_dir *dd;
	struct dir *d;
};

/* The view puts in its place again what it had moved already. */
static void
unite_file(struct uniting *u, struct reg *reg, const struct reg_file *f)
{
	struct replica *r = u->q->r;
	struct disk_dir *beside = stands_beside(r, u->d, u->dd, f);

	if (!beside && recover_in_journal(u->q, u->dd->ino, f->name))
		return;		/* a user may have removed it */
	if (beside)
		recover_stage_noted(r, reg, disk_fd(&r->disk, beside), f->name, f);
	reg_file_forget(reg, f->name);
	state_reg_noted(r->s, reg);
	state_touch_reg(r->s, reg);
}

static int
unite_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct uniting *u = arg;
	struct reg *reg = state_reg(u->q->r->s, u->d, name, false);
	int fd = disk_fd(&u->q->r->disk, u->dd);
	struct stat st;

	(void)dir_num;
	(void)seq;
	for (uint32_t i = reg && fd >= 0 ? reg->files_len : 0; i-- > 0;) {
		struct reg_file f;

		if (i >= reg->files_len)
			continue;
		f = reg->files[i];
		if (fstatat(fd, f.name, &st, AT_SYMLINK_NOFOLLOW) == 0 || recover_find_moving(u->q, f.stamp.ino))
			continue;
		f.name = mem_str(f.name);
		unite_file(u, reg, &f);
		free(f.name);
	}
	return 0;
}

void
recover_unite_dirs(struct recovery *q)
{
	struct disk_dir *dd, *tmp;

	HASH_ITER(hh, q->r->disk.dirs, dd, tmp)
		for (size_t i = 0; dd->lifted && i < dd->ids_len; i++) {
			struct uniting u = { q, dd, dd->ids[i] };

			index_regs_in_dir(q->r->x, u.d->num, unite_row, &u);
		}
}

/* ---- directories that are nowhere ---- */

struct missing {
	struct recovery *q;
	struct disk_dir *dd;
	struct dir *d;
	bool by_user;		/* who removed it */
};

/* What users had removed from it is removed; of the rest nothing stands any more, and
 * what the state has of it is put there again. */
static int
missing_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct missing *m = arg;
	struct replica *r = m->q->r;
	struct reg *reg = state_reg(r->s, m->d, name, false);

	(void)dir_num;
	(void)seq;
	for (uint32_t i = reg ? reg->files_len : 0; i-- > 0;) {
		char *gone = mem_str(reg->files[i].name);

		if (m->by_user && recover_in_journal(m->q, m->dd->ino, gone))
			local_gone(r, m->dd, gone);
		if (i < reg->files_len && strcmp(reg->files[i].name, gone) == 0 &&
		    !stands_beside(r, m->d, m->dd, &reg->files[i])) {
			reg_file_forget(reg, gone);
			state_reg_noted(r->s, reg);
			state_touch_reg(r->s, reg);
		}
		free(gone);
		if (i > reg->files_len)
			i = reg->files_len;
	}
	return 0;
}

/* Did users touch the name, where the state has the directory still? */
static bool
removed_by_user(struct recovery *q, struct disk_dir *dd)
{
	struct seen seen;
	bool shows;

	if (q->r->restored || !dd->ids_len || !dd->up->ids_len || !recover_in_journal(q, dd->up->ino, dd->name))
		return false;
	local_seen_open(q->r, dd->up, dd->name, &seen);
	shows = !seen.e && seen.g.dirs.len && disk_of(seen.g.dirs.ids[0]) == dd;
	local_seen_close(&seen);
	return shows;
}

static void
drop_missing_dir(struct recovery *q, struct disk_dir *dd)
{
	struct missing m = { .q = q, .dd = dd, .by_user = removed_by_user(q, dd) };
	uint64_t ino = dd->ino;

	for (size_t i = 0; i < dd->ids_len; i++) {
		m.d = dd->ids[i];
		index_regs_in_dir(q->r->x, m.d->num, missing_row, &m);
	}
	if (m.by_user) {
		char *gone = mem_str(dd->name);

		local_gone(q->r, dd->up, gone);
		free(gone);
		dd = disk_find(&q->r->disk, ino);
	}
	for (size_t i = 0; dd && i < dd->ids_len; i++)
		state_touch_dir(q->r->s, dd->ids[i]);
	if (dd)
		disk_forget(&q->r->disk, dd);
}

struct lost {
	uint64_t ino;
	unsigned depth;
};

static int
deepest_first(const void *a, const void *b)
{
	unsigned x = ((const struct lost *)a)->depth, y = ((const struct lost *)b)->depth;

	return (x < y) - (x > y);
}

/* ---- where they stand by now ---- */

/* A directory on disk. */
struct found {
	UT_hash_handle hh;
	uint64_t ino, up;
	char *name;
	enum { FOUND, PLACING, PLACED } stage;
};

struct settling {
	struct recovery *q;
	struct found *found;
	bool by_users;		/* all that differs is their doing */
};

static struct found *
find_found(const struct settling *t, uint64_t ino)
{
	struct found *f;

	HASH_FIND(hh, t->found, &ino, sizeof(ino), f);
	return f;
}

static void
add_found(struct settling *t, int dirfd, uint64_t up)
{
	struct dirent *de;
	struct stat st;
	DIR *dir = fdopendir(dirfd);

	if (!dir) {
		close(dirfd);
		return;
	}
	while ((de = readdir(dir))) {
		struct found *f;
		int fd;

		if ((de->d_type != DT_DIR && de->d_type != DT_UNKNOWN) || strcmp(de->d_name, ".") == 0 ||
		    strcmp(de->d_name, "..") == 0 || (up == t->q->r->disk.root->ino && strcmp(de->d_name, ".sibfs") == 0))
			continue;
		fd = openat(dirfd, de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0 || st.st_dev != t->q->r->dev || find_found(t, st.st_ino)) {
			if (fd >= 0)
				close(fd);
			continue;
		}
		f = mem_alloc(sizeof(*f));
		*f = (struct found){ .ino = st.st_ino, .up = up, .name = mem_str(de->d_name) };
		HASH_ADD(hh, t->found, ino, sizeof(f->ino), f);
		add_found(t, fd, f->ino);
	}
	closedir(dir);
}

static void
free_found(struct settling *t)
{
	struct found *f, *tmp;

	HASH_ITER(hh, t->found, f, tmp) {
		HASH_DEL(t->found, f);
		free(f->name);
		free(f);
	}
}

static void	 place(struct settling *t, struct found *f);

/* Those that are nowhere, below `top` (NULL: all), once all that were in them stand
 * where they went; those below first, as they were removed. */
static void
drop_missing(struct settling *t, const struct disk_dir *top)
{
	struct disk_dir *dd, *tmp;
	struct lost *lost = NULL;
	uint64_t *moved = NULL;
	size_t n = 0, moved_len = 0;

	HASH_ITER(hh, t->q->r->disk.dirs, dd, tmp) {
		if ((top && !disk_is_in(dd, top)) || stands(t->q->r, dd))
			continue;
		if (find_found(t, dd->ino)) {
			moved = mem_resize(moved, moved_len + 1, sizeof(*moved));
			moved[moved_len++] = dd->ino;
			continue;
		}
		lost = mem_resize(lost, n + 1, sizeof(*lost));
		lost[n] = (struct lost){ .ino = dd->ino };
		for (const struct disk_dir *up = dd; up; up = up->up)
			lost[n].depth++;
		n++;
	}
	for (size_t i = 0; i < moved_len; i++)
		place(t, find_found(t, moved[i]));
	if (n)
		qsort(lost, n, sizeof(*lost), deepest_first);
	for (size_t i = 0; i < n; i++)
		if ((dd = disk_find(&t->q->r->disk, lost[i].ino))) {
			t->by_users &= removed_by_user(t->q, dd);
			drop_missing_dir(t->q, dd);
		}
	free(moved);
	free(lost);
}

static bool
is_at(const struct disk_dir *dd, const struct disk_dir *up, const char *name)
{
	return dd->up == up && strcmp(dd->name, name) == 0;
}

/* What is noted where dd was moved to goes first: to where it is by now, or to dd's
 * place if that is where dd waits for it.  True: so both are placed. */
static bool
make_way(struct settling *t, struct disk_dir *dd, struct disk_dir *up, const char *name)
{
	struct disk_dir *old = disk_at(&t->q->r->disk, up, name);
	struct found *f = old ? find_found(t, old->ino) : NULL;

	if (!old || old == dd)
		return false;
	if (!f) {
		drop_missing(t, old);
		return false;
	}
	place(t, f);
	return disk_at(&t->q->r->disk, up, name) == old;
}

/* Was the file that is noted there lifted out of the way?  Then the view moved what
 * stands there by now, though a user may have touched the name shortly before. */
static bool
file_was_lifted(const struct settling *t, struct disk_dir *up, const char *name)
{
	const struct reg_file *f;
	struct reg *owner;
	struct seen q;
	bool lifted;

	local_seen_open(t->q->r, up, name, &q);
	f = local_seen_file(&q, name, &owner);
	lifted = f && f->stamp.ino && recover_find_moving(t->q, f->stamp.ino);
	local_seen_close(&q);
	return lifted;
}

/* A move by users becomes an event; the place of another is noted, and the view looks
 * at it.  Those above are placed first. */
static void
place(struct settling *t, struct found *f)
{
	struct replica *r = t->q->r;
	struct disk_dir *dd = disk_find(&r->disk, f->ino), *up;
	struct found *above = find_found(t, f->up);
	struct event e = { .ino = f->ino, .is_dir = true, .time_ns = (int64_t)r->s->now };

	if (f->stage != FOUND || !dd || dd->lifted)
		return;
	f->stage = PLACING;
	if (above)
		place(t, above);
	up = disk_find(&r->disk, f->up);
	if (!up || !up->ids_len || up->lifted || is_at(dd, up, f->name))
		goto out;
	if (disk_is_in(up, dd)) {
		/* That could not be placed, and is noted below it still. */
		t->by_users = false;
		for (size_t i = 0; i < dd->ids_len; i++)
			state_touch_dir(r->s, dd->ids[i]);
		goto out;
	}
	if (!r->restored && (!recover_in_journal(t->q, f->up, f->name) || file_was_lifted(t, up, f->name))) {
		t->by_users = false;
		disk_place(dd, up, f->name);
		for (size_t i = 0; i < dd->ids_len; i++)
			state_touch_dir(r->s, dd->ids[i]);
		goto out;
	}
	e.op = make_way(t, dd, up, f->name) ? REPLICA_EXCHANGE : REPLICA_RENAME;
	dd = disk_find(&r->disk, f->ino);
	if (!dd || is_at(dd, up, f->name))
		goto out;
	if (e.op == REPLICA_RENAME)
		local_file_made_way(r, up, f->name);
	e.dir = dd->up->ino;
	e.dir2 = f->up;
	e.name = mem_str(dd->name);
	e.name2 = mem_str(f->name);
	local_event(r, &e);
	free(e.name);
	free(e.name2);
out:
	f->stage = PLACED;
}

bool
recover_settle_dirs(struct recovery *q)
{
	struct settling t = { .q = q, .by_users = true };
	struct disk_dir *dd, *tmp;
	bool all = true;
	struct found *f;

	HASH_ITER(hh, q->r->disk.dirs, dd, tmp)
		all &= stands(q->r, dd);
	if (all)
		return true;
	add_found(&t, openat(q->r->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), q->r->disk.root->ino);
	for (f = t.found; f; f = f->hh.next)
		place(&t, f);
	drop_missing(&t, NULL);
	free_found(&t);
	return t.by_users;
}
