/*
 * From what stands on disk to events in the state: for `init`, for directories
 * that come from outside, and after a crash.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/local_impl.h"
#include "replication/replica_rebuild.h"

struct walk {
	struct replica *r;
	local_touched_fn *touched;	/* NULL: all that differs is a user's doing */
	void *touched_arg;
	bool changed_only;		/* what `before` covered, and the rules of now do not */
	const struct ignore *before;
	void (*progress)(void *arg, uint64_t files, uint64_t bytes);
	void *arg;
	uint64_t files, bytes;
	struct aside {
		uint64_t dir, ino;	/* inodes */
		char *name, *as;
	} *aside;			/* directories that the state knows by another name for now */
	size_t aside_len;
};

struct cut_short {
	struct replica *r;
	struct disk_dir *dd;
	const struct hash *h;
	struct reg *found;
};

static void
look_at_base(void *arg, const char *base)
{
	struct cut_short *q = arg;

	for (size_t i = 0; i < q->dd->ids_len && !q->found; i++) {
		struct reg *reg = state_reg(q->r->s, q->dd->ids[i], base, false);

		if (reg && reg->pending && (regval_has(&reg->shown, q->h) || regval_has(reg->pending, q->h)))
			q->found = reg;
	}
}

/*
 * A register that was about to show other versions when the daemon was killed,
 * and one of them has that content: then no user wrote it there.
 */
static struct reg *
view_cut_short(struct replica *r, struct disk_dir *dd, const char *name, const struct seen *seen, const struct hash *h)
{
	struct cut_short q = { r, dd, h, NULL };

	look_at_base(&q, name);
	if (!q.found)
		display_bases(r->s, &seen->f, name, look_at_base, &q);
	return q.found;
}

/* Is it the file of a sibling that does not show any more, as the view that was cut
 * short had not come to it? */
static bool
is_to_go(struct replica *r, const struct seen *q, const char *name, const struct stat *st)
{
	struct reg *noting = local_noting(r, q, name);

	if (!noting)
		return false;
	state_touch_reg(r->s, noting);
	if (local_stamp_same(&reg_file_find(noting, name)->stamp, st))
		return true;
	/* A user wrote there since. */
	reg_file_forget(noting, name);
	state_reg_noted(r->s, noting);
	return false;
}

static void
reconcile_file(struct walk *w, struct disk_dir *dd, const char *name, const struct stat *st)
{
	struct state *s = w->r->s;
	struct reg *owner, *reg;
	struct reg_file *known;
	struct local_file file;
	struct hash before;
	struct seen q;
	struct stat now;
	bool is_new;
	int fd;

	local_seen_open(w->r, dd, name, &q);
	known = local_seen_file(&q, name, &owner);
	if (known && local_stamp_same(&known->stamp, st))
		goto out;
	if (!known && is_to_go(w->r, &q, name, st))
		goto out;
	if (known)
		before = known->hash;
	fd = disk_fd(&w->r->disk, dd);
	if (fd < 0 || local_read_file(w->r, fd, name, &now, q.e ? &q.e->attrs : NULL, &file) < 0)
		goto out;
	reg = state_reg(s, dd->ids[0], name, false);
	is_new = !q.e && !known && !reg;
	if (q.e && hash_compare(&q.e->hash, &file.hash) == 0) {
		local_forget_file(w->r, &q, name);
		local_note_file(w->r, q.e->leader_reg, name, &file.hash, &now);
	} else if (reg && reg->pending && reg->pending->len == 1 &&
	    hash_compare(&reg->pending->v[0].hash, &file.hash) == 0) {
		/* It was put in place, and the index did not hear of it any more. */
		state_reg_show(s, reg);
		local_note_file(w->r, reg, name, &file.hash, &now);
	} else if ((reg = view_cut_short(w->r, dd, name, &q, &file.hash))) {
		local_forget_file(w->r, &q, name);
		local_note_file(w->r, reg, name, &file.hash, &now);
		state_touch_reg(s, reg);
	} else if (w->r->rebuilding && rebuild_file(w->r, dd, fd, name, &now, &file)) {
		/* It is what its mark says. */
	} else {
		/* Between copies made beforehand the main name goes to what was
		 * edited last; no time from the future.  Where something stood before,
		 * this comes after what was set on that. */
		uint64_t mtime = (uint64_t)now.st_mtim.tv_sec * 1000000000u + (uint64_t)now.st_mtim.tv_nsec;
		uint64_t real = s->now, hlc = s->hlc;

		if (is_new && now.st_mtim.tv_sec > 0 && mtime < real) {
			s->now = mtime;
			s->hlc = 0;
		}
		if (local_write_seen(w->r, dd, name, &q, known, &file, &reg) == 0) {
			local_forget_file(w->r, &q, name);
			local_note_file(w->r, reg, name, &file.hash, &now);
			if (known)
				local_links_written(w->r, reg, name, &before, &file, &now);
		}
		s->now = real;
		state_saw(s, hlc);
	}
	attrs_fini(&file.attrs);
	w->files++;
	w->bytes += (uint64_t)now.st_size;
	if (w->progress)
		w->progress(w->arg, w->files, w->bytes);
	if (w->files % 1000 == 0)
		replica_commit(w->r);
out:
	local_seen_close(&q);
}

static void walk_dir(struct walk *w, struct disk_dir *dd);

void
local_file_made_way(struct replica *r, struct disk_dir *dd, const char *name)
{
	struct event e = { .op = REPLICA_UNLINK, .dir = dd->ino, .time_ns = (int64_t)r->s->now };
	struct reg *owner;
	struct seen q;
	bool noted;

	local_seen_open(r, dd, name, &q);
	noted = local_seen_file(&q, name, &owner) != NULL;
	local_seen_close(&q);
	if (!noted)
		return;
	e.name = mem_str(name);
	local_event(r, &e);
	free(e.name);
}

/* Does the state show a directory there that stands on disk, as far as we know? */
static bool
shows_another(struct replica *r, struct disk_dir *dd, const char *name)
{
	struct seen q;
	bool yes;

	local_seen_open(r, dd, name, &q);
	yes = !q.e && q.g.dirs.len && disk_of(q.g.dirs.ids[0]);
	local_seen_close(&q);
	return yes;
}

/*
 * A user made dd/name, and what stood there before was moved, maybe into it.  So it
 * is known by another name until all was looked at; nobody hears of that one.
 */
static void
take_aside(struct walk *w, struct disk_dir *dd, const char *name, ino_t ino)
{
	char *as = mem_printf(".moving-%" PRIx64, (uint64_t)ino);

	local_new_dir_as(w->r, dd, name, as, ino, DIR_MADE_HERE);
	w->aside = mem_resize(w->aside, w->aside_len + 1, sizeof(*w->aside));
	w->aside[w->aside_len++] = (struct aside){ dd->ino, ino, mem_str(name), as };
}

static void
put_aside_back(struct walk *w)
{
	for (size_t i = 0; i < w->aside_len; i++) {
		struct aside *a = &w->aside[i];
		struct event e = { .op = REPLICA_RENAME, .ino = a->ino, .dir = a->dir, .dir2 = a->dir, .name = a->as,
			.name2 = a->name, .is_dir = true };
		struct disk_dir *dd = disk_find(&w->r->disk, a->dir), *sub = disk_find(&w->r->disk, a->ino);

		if (dd && dd->ids_len && sub && sub->ids_len)
			local_rename_dir(w->r, &e, dd, dd);
		free(a->name);
		free(a->as);
	}
	free(w->aside);
}

static void
walk_entry(struct walk *w, struct disk_dir *dd, int fd, const char *name)
{
	struct disk_dir *sub;
	struct stat st;

	if (dd == w->r->disk.root && strcmp(name, ".sibfs") == 0)
		return;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (st.st_dev != w->r->dev) {
		log_info("%s: another file system is mounted here: left alone", name);
		return;
	}
	if (ignore_at(w->r, dd, name, S_ISDIR(st.st_mode)))
		return;
	if (w->changed_only && !ignore_covers_at(w->before, dd, name, S_ISDIR(st.st_mode))) {
		sub = S_ISDIR(st.st_mode) ? disk_find(&w->r->disk, st.st_ino) : NULL;
		if (sub && sub->ids_len)
			walk_dir(w, sub);
		return;
	}
	if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) {
		reconcile_file(w, dd, name, &st);
		return;
	}
	if (!S_ISDIR(st.st_mode))
		return;
	sub = disk_find(&w->r->disk, st.st_ino);
	if (!sub || sub->up != dd || strcmp(sub->name, name) != 0)
		local_file_made_way(w->r, dd, name);
	if (!sub) {
		if (shows_another(w->r, dd, name) && (!w->touched || w->touched(w->touched_arg, dd->ino, name)))
			take_aside(w, dd, name, st.st_ino);
		else
			local_new_dir(w->r, dd, name, st.st_ino, DIR_TAKEN_IN);
		sub = disk_find(&w->r->disk, st.st_ino);
	} else if ((sub->up != dd || strcmp(sub->name, name) != 0) && w->touched &&
	    !w->touched(w->touched_arg, dd->ino, name)) {
		/* A move that came from a peer did not reach the disk any more. */
		disk_place(sub, dd, name);
		for (size_t i = 0; i < sub->ids_len; i++)
			state_touch_dir(w->r->s, sub->ids[i]);
	} else if (sub->up != dd || strcmp(sub->name, name) != 0) {
		struct event e = { .op = REPLICA_RENAME, .ino = st.st_ino, .dir = sub->up ? sub->up->ino : 0,
			.dir2 = dd->ino, .name = mem_str(sub->name), .name2 = mem_str(name), .is_dir = true };

		local_rename_dir(w->r, &e, sub->up ? sub->up : dd, dd);
		free(e.name);
		free(e.name2);
	}
	if (sub && sub->ids_len)
		walk_dir(w, sub);
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
walk_dir(struct walk *w, struct disk_dir *dd)
{
	int fd = disk_fd(&w->r->disk, dd);
	char **names = NULL;
	size_t n = 0;
	struct dirent *de;
	DIR *dir;

	if (fd < 0)
		return;
	fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || !(dir = fdopendir(fd))) {
		log_warn("%s: cannot be listed: %s", dd->name, strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((de = readdir(dir))) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		names = mem_resize(names, n + 1, sizeof(*names));
		names[n++] = mem_str(de->d_name);
	}
	if (n)
		qsort(names, n, sizeof(*names), by_text);
	for (size_t i = 0; i < n; i++) {
		walk_entry(w, dd, fd, names[i]);
		free(names[i]);
	}
	free(names);
	closedir(dir);
}

void
local_reconcile(struct replica *r, struct disk_dir *dd, void (*progress)(void *arg, uint64_t files, uint64_t bytes),
    void *arg)
{
	struct walk w = { .r = r, .progress = progress, .arg = arg };

	r->walking = true;
	walk_dir(&w, dd);
	put_aside_back(&w);
	r->walking = false;
}

void
local_reconcile_touched(struct replica *r, struct disk_dir *dd, local_touched_fn *touched, void *arg)
{
	struct walk w = { .r = r, .touched = touched, .touched_arg = arg };

	r->walking = true;
	walk_dir(&w, dd);
	put_aside_back(&w);
	r->walking = false;
}

void
local_reconcile_ignored(struct replica *r, const struct ignore *before)
{
	struct walk w = { .r = r, .changed_only = true, .before = before };

	r->walking = true;
	walk_dir(&w, r->disk.root);
	put_aside_back(&w);
	r->walking = false;
}

void
local_reconcile_name(struct replica *r, struct disk_dir *dd, const char *name)
{
	struct walk w = { .r = r };
	int fd = disk_fd(&r->disk, dd);

	if (fd < 0 || (fd = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
		return;
	walk_entry(&w, dd, fd, name);
	put_aside_back(&w);
	close(fd);
}

void
local_gone(struct replica *r, struct disk_dir *dd, const char *name)
{
	struct event e = { .dir = dd->ino, .time_ns = (int64_t)r->s->now };
	struct disk_dir *shown = NULL;
	bool file;
	struct seen q;

	local_seen_open(r, dd, name, &q);
	file = q.e != NULL;
	if (!file && q.g.dirs.len)
		shown = disk_of(q.g.dirs.ids[0]);
	local_seen_close(&q);
	e.name = mem_str(name);
	e.op = file ? REPLICA_UNLINK : REPLICA_RMDIR;
	/* A directory that was found elsewhere was moved. */
	if (file || (shown && !shown->lifted && shown->up == dd && strcmp(shown->name, name) == 0))
		local_event(r, &e);
	free(e.name);
}
