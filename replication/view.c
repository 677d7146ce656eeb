/*
 * The view: makes the names in the store what the state says.  Only what was
 * touched is looked at.
 *
 * Under the view lock, with every event handled, what is complete becomes
 * shown; then each touched directory and each touched name is compared with
 * what stands on disk.  What leaves its place is lifted into .sibfs/moving,
 * directories are placed, then files; what is left over goes to the trash.
 * The index learns of it afterwards: a crash in between leaves files that are
 * recognised by their content.
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

#include "replication/chunk.h"
#include "replication/display.h"
#include "replication/replica_impl.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

#define HOLD_TRIES 8

/* A file that left its place: it stands in moving/ under `temp`. */
struct lifted {
	struct reg *reg;
	struct hash hash;
	struct file_stamp stamp;
	char *name;
	char temp[32];
	bool placed;
};

/* What is to be seen as one directory, and where. */
struct plan {
	struct disk_dir *dd, *up;
	const char *name;
	struct folder f;
};

struct view {
	struct replica *r;
	struct obstack o;
	struct lifted *lifted;
	size_t lifted_len;
	struct dir_list dirs;		/* to be looked at, those above first */
	struct plan *plans;
	size_t plans_len;
	struct disk_dir **left;		/* that some directory showed in until now */
	size_t left_len;
};

/* ---- telling the mount ---- */

static void
note(struct replica *r, ino_t dir, const char *name)
{
	if (!r->view)
		return;
	r->notes = mem_resize(r->notes, r->notes_len + 1, sizeof(*r->notes));
	r->notes[r->notes_len++] = (struct note){ dir, mem_str(name) };
}

static void
tell_moved(struct replica *r, ino_t ino, ino_t dir, const char *name, ino_t dir2, const char *name2)
{
	if (!r->view)
		return;
	r->view->moved(r->view->ctx, ino, dir, name, dir2, name2);
	if (name)
		note(r, dir, name);
	if (name2)
		note(r, dir2, name2);
}

static void
send_notes(struct replica *r)
{
	for (size_t i = 0; i < r->notes_len; i++) {
		if (r->notes[i].name)
			r->view->entry_changed(r->view->ctx, r->notes[i].dir, r->notes[i].name);
		else
			r->view->inode_changed(r->view->ctx, r->notes[i].dir);
		free(r->notes[i].name);
	}
	free(r->notes);
	r->notes = NULL;
	r->notes_len = 0;
}

static bool
is_writing(const struct replica *r, ino_t ino)
{
	return r->view && ino && r->view->writing(r->view->ctx, ino);
}

/* ---- what is complete becomes shown ---- */

static bool
same_stamp(const struct file_stamp *f, const struct stat *st)
{
	return f->ino == st->st_ino && f->size == (uint64_t)st->st_size &&
	    f->mtime_ns == st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec;
}

/*
 * What a user wrote under the names of this register and we were not told of
 * yet becomes a version before anything else can take its place.  False: it is
 * still being written.
 */
static bool
may_show(struct replica *r, struct reg *reg)
{
	struct disk_dir *dd = disk_of(reg->dir);
	const struct reg_file *f;
	struct stat st;
	int fd;

	if (!dd)
		return true;
	fd = disk_fd(&r->disk, dd);
	if (fd < 0)
		return fd == -ESTALE || fd == -ENOENT;
	for (uint32_t i = 0; i < reg->files_len; i++)
		if (fstatat(fd, reg->files[i].name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_writing(r, st.st_ino))
			return false;
	for (uint32_t i = reg->files_len; i-- > 0;) {
		f = &reg->files[i];
		if (fstatat(fd, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode) &&
		    !same_stamp(&f->stamp, &st))
			local_seal(r, dd, f->name);
		if (i > reg->files_len)
			i = reg->files_len;
	}
	if (reg_file_find(reg, reg_name(reg)) || fstatat(fd, reg_name(reg), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return true;
	if (is_writing(r, st.st_ino))
		return false;
	if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) {
		/* Another register's file may stand there: that one is known. */
		for (size_t i = 0; i < dd->ids_len; i++) {
			struct reg *other = state_reg(r->s, dd->ids[i], reg_name(reg), false);

			if (other && reg_file_find(other, reg_name(reg)))
				return true;
		}
		local_seal(r, dd, reg_name(reg));
	}
	return true;
}

void
view_defer(struct replica *r, struct reg *reg)
{
	if (reg->deferred)
		return;
	reg->deferred = true;
	state_touch_reg(r->s, reg);
	r->deferred.r = mem_resize(r->deferred.r, r->deferred.len + 1, sizeof(*r->deferred.r));
	r->deferred.r[r->deferred.len++] = reg;
}

static void
show_ready(struct replica *r)
{
	struct reg_list list = r->deferred;

	r->deferred = (struct reg_list){ 0 };
	for (size_t i = 0; i < list.len; i++) {
		struct reg *reg = list.r[i];

		reg->deferred = false;
		if (!reg->pending || !content_ready(r, reg, 0))
			continue;
		if (may_show(r, reg))
			state_reg_show(r->s, reg);
		else
			view_defer(r, reg);
	}
	free(list.r);
}

/* ---- directories ---- */

/*
 * First it is decided which directory on disk each one shows in, while all
 * still stand where they did; what must not stay in its place is lifted, all
 * of it, so that nothing is in the way of anything; then each is put where it
 * belongs, those above first.
 */

static void
add_dir(struct view *v, struct dir *d)
{
	if (d->listed)
		return;
	d->listed = true;
	v->dirs.d = mem_resize(v->dirs.d, v->dirs.len + 1, sizeof(*v->dirs.d));
	v->dirs.d[v->dirs.len++] = d;
}

static unsigned
depth_of(const struct dir *d)
{
	unsigned n = 0;

	for (; d->at.up; d = d->at.up)
		n++;
	return n;
}

static int
by_depth(const void *a, const void *b)
{
	unsigned x = depth_of(*(struct dir *const *)a), y = depth_of(*(struct dir *const *)b);

	return (x > y) - (x < y);
}

static void
lift_file(struct view *v, struct disk_dir *dd, struct reg *reg, const char *name)
{
	struct reg_file *f = reg_file_find(reg, name);
	struct lifted l = { .reg = reg, .hash = f->hash, .stamp = f->stamp };
	int fd = disk_fd(&v->r->disk, dd);

	snprintf(l.temp, sizeof(l.temp), "f-%" PRIx64, ++v->r->next_temp);
	l.name = mem_str(name);
	if (fd < 0 || renameat2(fd, name, v->r->moving_fd, l.temp, RENAME_NOREPLACE) < 0) {
		if (fd >= 0 && errno != ENOENT)
			log_warn("cannot move %s aside: %s", name, strerror(errno));
		free(l.name);
	} else {
		tell_moved(v->r, f->stamp.ino, dd->ino, l.name, 0, NULL);
		v->lifted = mem_resize(v->lifted, v->lifted_len + 1, sizeof(*v->lifted));
		v->lifted[v->lifted_len++] = l;
	}
	reg_file_forget(reg, name);
	state_reg_noted(v->r->s, reg);
}

struct names {
	char **n;
	size_t len;
};

static void
add_name(struct names *l, const char *name)
{
	l->n = mem_resize(l->n, l->len + 1, sizeof(*l->n));
	l->n[l->len++] = mem_str(name);
}

static int
collect_name(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	(void)dir_num;
	(void)seq;
	add_name(arg, name);
	return 0;
}

/* All names that d has registers for; some come twice. */
static void
names_in(struct replica *r, const struct dir *d, struct names *l)
{
	index_regs_in_dir(r->x, d->num, collect_name, l);
	for (size_t i = 0; i < r->s->dirty_regs.len; i++)
		if (r->s->dirty_regs.r[i]->dir == d)
			add_name(l, reg_name(r->s->dirty_regs.r[i]));
}

static void
names_fini(struct names *l)
{
	for (size_t i = 0; i < l->len; i++)
		free(l->n[i]);
	free(l->n);
}

/* Is the file of that name noted by any register that shows in dd? */
static bool
is_noted(struct replica *r, const struct disk_dir *dd, const char *name)
{
	for (size_t i = 0; i < dd->ids_len; i++) {
		struct reg *reg = state_reg(r->s, dd->ids[i], name, false);

		if (reg && reg_file_find(reg, name))
			return true;
	}
	return false;
}

static void
collect_base(void *arg, const char *base)
{
	add_name(arg, base);
}

/* The main names whose files may stand under `name` in dd. */
static void
bases_of(struct view *v, struct disk_dir *dd, const char *name, struct names *l)
{
	struct folder f;

	add_name(l, name);
	if (!strstr(name, STATE_SEP) || !dd->ids_len)
		return;
	display_folder(v->r->s, dd->ids[0], &v->o, &f);
	display_bases(v->r->s, &f, name, collect_base, l);
}

/* A directory comes to or leaves a name: files may show otherwise.  clear:
 * those that stand under that very name are lifted. */
static void
touch_name(struct view *v, struct disk_dir *up, const char *name, bool clear)
{
	struct names l = { 0 };

	if (!up)
		return;
	bases_of(v, up, name, &l);
	for (size_t i = 0; i < up->ids_len; i++)
		for (size_t j = 0; j < l.len; j++) {
			struct reg *reg = state_reg(v->r->s, up->ids[i], l.n[j], false);

			if (!reg)
				continue;
			if (clear && reg_file_find(reg, name))
				lift_file(v, up, reg, name);
			state_touch_reg(v->r->s, reg);
		}
	names_fini(&l);
}

/* What users made in dd and nobody told of yet becomes known. */
static void
seal_untold(struct view *v, struct disk_dir *dd)
{
	int fd = disk_fd(&v->r->disk, dd);
	DIR *dir = NULL;
	struct dirent *de;
	struct stat st;
	struct names l = { 0 };

	if (fd >= 0)
		fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || !(dir = fdopendir(fd))) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((de = readdir(dir)))
		if (fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)))
			add_name(&l, de->d_name);
	closedir(dir);
	for (size_t i = 0; i < l.len; i++) {
		struct names bases = { 0 };
		bool known = false;

		bases_of(v, dd, l.n[i], &bases);
		for (size_t j = 0; j < bases.len && !known; j++)
			for (size_t k = 0; k < dd->ids_len && !known; k++) {
				struct reg *reg = state_reg(v->r->s, dd->ids[k], bases.n[j], false);

				known = reg && reg_file_find(reg, l.n[i]);
			}
		names_fini(&bases);
		if (!known)
			local_seal_new(v->r, dd, l.n[i]);
	}
	names_fini(&l);
}

/* d shows in no directory on disk for the moment: its files are lifted. */
static void
leave(struct view *v, struct dir *d)
{
	struct disk_dir *from = disk_of(d);
	struct names l = { 0 };

	if (!from)
		return;
	if (from->ids_len == 1)
		seal_untold(v, from);
	names_in(v->r, d, &l);
	for (size_t i = 0; i < l.len; i++) {
		struct reg *reg = state_reg(v->r->s, d, l.n[i], false);

		if (!reg)
			continue;
		while (reg->files_len)
			lift_file(v, from, reg, reg->files[0].name);
		state_touch_reg(v->r->s, reg);
		/* It may have stood for versions of those that stay, too. */
		for (size_t j = 0; j < from->ids_len; j++)
			if ((reg = state_reg(v->r->s, from->ids[j], l.n[i], false)))
				state_touch_reg(v->r->s, reg);
	}
	names_fini(&l);
	disk_assign(d, NULL);
	state_dir_noted(v->r->s, d);
	for (size_t i = 0; i < v->left_len; i++)
		if (v->left[i] == from)
			return;
	v->left = mem_resize(v->left, v->left_len + 1, sizeof(*v->left));
	v->left[v->left_len++] = from;
}

/* Others that must be looked at with d: those that it stands with or comes to
 * stand with, and what is below it if it may change its directory on disk. */
static void
add_related(struct view *v, struct dir *d)
{
	struct disk_dir *dd = disk_of(d);
	bool alone = dd && dd->ids_len == 1;
	struct folder f;

	if (!d->at.up)
		return;
	if (dd && alone && !state_stands(d))
		seal_untold(v, dd);
	for (size_t i = 0; dd && i < dd->ids_len; i++)
		add_dir(v, dd->ids[i]);
	if (state_stands(d)) {
		display_folder(v->r->s, d, &v->o, &f);
		for (size_t i = 0; i < f.len; i++)
			add_dir(v, f.ids[i]);
		alone &= f.len == 1;
		if (!disk_of(d->at.up))
			add_dir(v, d->at.up);
	} else {
		alone = false;
	}
	for (struct dir *c = alone ? NULL : d->children; c; c = c->next)
		if (state_stands(c) || disk_of(c))
			add_dir(v, c);
}

static void
collect(struct view *v)
{
	struct state *s = v->r->s;
	size_t seen = 0;

	while (seen < v->dirs.len || s->touched_dirs.len) {
		while (s->touched_dirs.len) {
			struct dir *d = s->touched_dirs.d[--s->touched_dirs.len];

			d->touched = false;
			add_dir(v, d);
			add_related(v, d);	/* once more, if it was listed before */
		}
		while (seen < v->dirs.len)
			add_related(v, v->dirs.d[seen++]);
	}
	for (size_t i = 0; i < v->dirs.len; i++)
		v->dirs.d[i]->listed = false;
	if (v->dirs.len > 1)
		qsort(v->dirs.d, v->dirs.len, sizeof(*v->dirs.d), by_depth);
}

/* Of the directories on disk that a folder's members stand in, the one to keep. */
static struct disk_dir *
choose(const struct folder *f, const struct disk_dir *up, const char *name)
{
	struct disk_dir *dd;

	for (size_t i = 0; i < f->len; i++)
		if ((dd = disk_of(f->ids[i])) && dd->ids[0] == f->ids[i] && dd->up == up && !dd->lifted &&
		    strcmp(dd->name, name) == 0)
			return dd;
	for (size_t i = 0; i < f->len; i++)
		if ((dd = disk_of(f->ids[i])) && dd->ids[0] == f->ids[i])
			return dd;
	return NULL;
}

/* A new one, lifted as yet. */
static struct disk_dir *
make_dir(struct view *v, struct disk_dir *up, const char *name)
{
	struct disk_dir *dd;
	char temp[40], lifted[40];
	struct stat st;

	snprintf(temp, sizeof(temp), "n-%" PRIx64, ++v->r->next_temp);
	if (mkdirat(v->r->moving_fd, temp, 0700) < 0 ||
	    fstatat(v->r->moving_fd, temp, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		log_err("cannot make directory %s: %s", name, strerror(errno));
		return NULL;
	}
	dd = disk_add(&v->r->disk, st.st_ino, up, name);
	disk_lifted_name(dd, lifted, sizeof(lifted));
	renameat(v->r->moving_fd, temp, v->r->moving_fd, lifted);
	dd->lifted = true;
	return dd;
}

static void
come_to(struct view *v, struct dir *d, struct disk_dir *dd)
{
	struct names l = { 0 };

	if (disk_of(d) == dd)
		return;
	leave(v, d);
	disk_assign(d, dd);
	state_dir_noted(v->r->s, d);
	names_in(v->r, d, &l);
	for (size_t i = 0; i < l.len; i++) {
		struct reg *reg = state_reg(v->r->s, d, l.n[i], false);

		if (reg)
			state_touch_reg(v->r->s, reg);
	}
	names_fini(&l);
}

/* Is it where we think?  A user may have removed it before it came to stand for
 * something again. */
static bool
is_there(struct view *v, const struct disk_dir *dd)
{
	char temp[40];
	int fd = dd->lifted ? v->r->moving_fd : disk_fd(&v->r->disk, dd->up);
	struct stat st;

	disk_lifted_name(dd, temp, sizeof(temp));
	return fd >= 0 && fstatat(fd, dd->lifted ? temp : dd->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_ino == dd->ino;
}

/* Decides where all listed ones show from now on. */
static void
assign(struct view *v)
{
	for (size_t i = 0; i < v->dirs.len; i++)
		if (!state_stands(v->dirs.d[i]))
			leave(v, v->dirs.d[i]);
	for (size_t i = 0; i < v->dirs.len; i++) {
		struct dir *d = v->dirs.d[i];
		struct plan p = { .name = d->at.name };

		if (!d->at.up || !state_stands(d))
			continue;
		display_folder(v->r->s, d, &v->o, &p.f);
		if (p.f.ids[0] != d || !(p.up = disk_of(d->at.up)))
			continue;
		p.dd = choose(&p.f, p.up, p.name);
		if (p.dd && !is_there(v, p.dd))
			p.dd = NULL;
		if (!p.dd && !(p.dd = make_dir(v, p.up, p.name)))
			continue;
		for (size_t j = 0; j < p.f.len; j++)
			come_to(v, p.f.ids[j], p.dd);
		v->plans = mem_resize(v->plans, v->plans_len + 1, sizeof(*v->plans));
		v->plans[v->plans_len++] = p;
	}
}

static bool
is_placed(const struct plan *p)
{
	return !p->dd->lifted && p->dd->up == p->up && strcmp(p->dd->name, p->name) == 0;
}

static int
lift_dir(struct view *v, struct disk_dir *dd)
{
	char temp[40];
	int fd;

	if (dd->lifted)
		return 0;
	if (!is_there(v, dd))
		return -ENOENT;
	fd = disk_fd(&v->r->disk, dd->up);
	disk_lifted_name(dd, temp, sizeof(temp));
	if (fd < 0 || renameat2(fd, dd->name, v->r->moving_fd, temp, RENAME_NOREPLACE) < 0) {
		fd = fd < 0 ? fd : -errno;
		log_warn("cannot move directory %s aside: %s", dd->name, strerror(-fd));
		return fd;
	}
	tell_moved(v->r, dd->ino, dd->up->ino, dd->name, 0, NULL);
	touch_name(v, dd->up, dd->name, false);
	dd->lifted = true;
	return 0;
}

static int
place_dir(struct view *v, struct disk_dir *dd, struct disk_dir *up, const char *name)
{
	bool lifted = dd->lifted;
	int to = disk_fd(&v->r->disk, up), from, rc = 0;
	char temp[40];

	if (to < 0)
		return to;
	to = fcntl(to, F_DUPFD_CLOEXEC, 3);	/* the next disk_fd may close ours */
	disk_lifted_name(dd, temp, sizeof(temp));
	from = lifted ? v->r->moving_fd : disk_fd(&v->r->disk, dd->up);
	if (from < 0)
		rc = from;
	else if (renameat2(from, lifted ? temp : dd->name, to, name, RENAME_NOREPLACE) < 0)
		rc = -errno;
	close(to);
	if (rc < 0)
		return rc;
	tell_moved(v->r, dd->ino, lifted ? 0 : dd->up->ino, lifted ? NULL : dd->name, up->ino, name);
	if (!lifted)
		touch_name(v, dd->up, dd->name, false);
	disk_place(dd, up, name);
	return 0;
}

/* Something that is not known stands where a directory belongs. */
static void
make_way(struct view *v, struct disk_dir *up, const char *name)
{
	int fd = disk_fd(&v->r->disk, up);
	struct stat st;

	if (fd < 0 || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if ((S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) && !is_noted(v->r, up, name))
		local_seal_new(v->r, up, name);	/* a sibling beside the directory */
	touch_name(v, up, name, true);
	fd = disk_fd(&v->r->disk, up);
	if (fd < 0 || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	log_info("%s: a directory takes its place: it goes to the trash", name);
	tell_moved(v->r, st.st_ino, up->ino, name, 0, NULL);
	trash_take(v->r, fd, name, name);
}

/* Lifts what is not in its place, and what nothing shows in any more. */
static void
lift_dirs(struct view *v)
{
	size_t movers = 0, orphans = 0;

	for (size_t i = 0; i < v->left_len; i++)
		orphans += v->left[i]->ids_len == 0;
	for (size_t i = 0; i < v->plans_len; i++)
		movers += !is_placed(&v->plans[i]);
	/* A plain move is one step. */
	for (size_t i = 0; i < v->plans_len && movers == 1 && !orphans; i++) {
		struct plan *p = &v->plans[i];

		if (is_placed(p) || p->dd->lifted)
			continue;
		touch_name(v, p->up, p->name, true);
		if (place_dir(v, p->dd, p->up, p->name) == 0)
			return;
	}
	for (size_t i = 0; i < v->left_len; i++)
		if (v->left[i]->ids_len == 0)
			lift_dir(v, v->left[i]);
	for (size_t i = 0; i < v->plans_len; i++)
		if (!is_placed(&v->plans[i]))
			lift_dir(v, v->plans[i].dd);
}

static void
apply_dir_attrs(struct view *v, struct disk_dir *dd, const struct folder *f)
{
	struct attrs a = attrs_copy(&f->ids[0]->val.attrs);
	struct stat st;
	int fd;

	if (dd->up) {
		attrs_set_mode(&a, display_folder_mode(f), (struct stamp){ 0, 0 });
		fd = disk_fd(&v->r->disk, dd->up);
	} else {
		fd = v->r->root_fd;
	}
	if (fd >= 0 && fstatat(fd, dd->up ? dd->name : ".", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    disk_attrs_apply(v->r, fd, dd->up ? dd->name : ".", &st, &a) > 0)
		note(v->r, dd->ino, NULL);
	attrs_fini(&a);
}

static void
place_dirs(struct view *v)
{
	for (size_t i = 0; i < v->plans_len; i++) {
		struct plan *p = &v->plans[i];
		int rc = 0;

		if (!is_placed(p)) {
			touch_name(v, p->up, p->name, true);
			rc = place_dir(v, p->dd, p->up, p->name);
		}
		if (rc == -EEXIST) {
			make_way(v, p->up, p->name);
			rc = place_dir(v, p->dd, p->up, p->name);
		}
		if (rc < 0) {
			log_err("cannot move directory %s: %s", p->name, strerror(-rc));
			continue;
		}
		apply_dir_attrs(v, p->dd, &p->f);
		disk_mark_dir(v->r, p->dd);
	}
}

static void
update_dirs(struct view *v)
{
	struct folder root;

	collect(v);
	if (!v->dirs.len)
		return;
	assign(v);
	lift_dirs(v);
	place_dirs(v);
	for (size_t i = 0; i < v->dirs.len; i++) {
		struct dir *d = v->dirs.d[i];

		if (d->at.up) {
			touch_name(v, disk_of(d->at.up), d->at.name, false);
			continue;
		}
		display_folder(v->r->s, d, &v->o, &root);
		apply_dir_attrs(v, v->r->disk.root, &root);
	}
}

/* ---- files ---- */

/* A place in a group where a file is to stand. */
struct slot {
	struct shown *e;
	struct reg *from_reg;		/* the record it stands by already */
	bool in_place;
	ino_t replaces;			/* a file of ours whose note is gone already */
	struct lifted *lifted;
};

/* Does a lifted file still hold what its note says? */
static bool
lifted_is_as_noted(struct view *v, const struct lifted *l)
{
	struct stat st;

	return fstatat(v->r->moving_fd, l->temp, &st, AT_SYMLINK_NOFOLLOW) == 0 && same_stamp(&l->stamp, &st) &&
	    !is_writing(v->r, st.st_ino);
}

/* A lifted file with that content: of this group, even if it is being written,
 * else any that is certain to hold it. */
static struct lifted *
find_lifted(struct view *v, const struct name_group *g, const struct folder *f, const struct hash *h)
{
	for (size_t i = 0; i < v->lifted_len; i++) {
		struct lifted *l = &v->lifted[i];

		if (l->placed || hash_compare(&l->hash, h) != 0 || strcmp(reg_name(l->reg), g->name) != 0)
			continue;
		for (size_t j = 0; j < f->len; j++)
			if (l->reg->dir == f->ids[j])
				return l;
	}
	for (size_t i = 0; i < v->lifted_len; i++) {
		struct lifted *l = &v->lifted[i];

		if (!l->placed && hash_compare(&l->hash, h) == 0 && lifted_is_as_noted(v, l))
			return l;
	}
	return NULL;
}

static bool
slot_stands(const struct slot *slots, size_t n, const struct reg *reg, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (slots[i].in_place && slots[i].from_reg == reg && strcmp(slots[i].e->name, name) == 0)
			return true;
	return false;
}

/* The slot that a file is to come to under that name. */
static struct slot *
slot_at(struct slot *slots, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (!slots[i].in_place && strcmp(slots[i].e->name, name) == 0)
			return &slots[i];
	return NULL;
}

/* It goes to the trash in the end, unless its content is wanted elsewhere. */
static void
remove_file(struct view *v, struct disk_dir *dd, struct reg *reg, const char *name)
{
	if (v->r->view)
		v->r->view->replaced(v->r->view->ctx, reg_file_find(reg, name)->stamp.ino);
	lift_file(v, dd, reg, name);
}

/* A file that is being written keeps its own time. */
static int
apply_attrs(struct view *v, int dirfd, const char *name, const struct stat *st, const struct attrs *a, bool written)
{
	struct attrs but_time = { 0 };
	int rc;

	if (!written)
		return disk_attrs_apply(v->r, dirfd, name, st, a);
	for (uint32_t i = 0; i < a->len; i++)
		if (strcmp(a->c[i].key, "mtime") != 0)
			attrs_merge_cell(&but_time, &a->c[i]);
	rc = disk_attrs_apply(v->r, dirfd, name, st, &but_time);
	attrs_fini(&but_time);
	return rc;
}

static const struct version *
leader_of(const struct shown *e)
{
	return regval_find(&e->leader_reg->shown, e->leader);
}

static void
record(struct view *v, struct shown *e, const struct stat *st, int fd)
{
	struct file_stamp stamp = { st->st_ino, (uint64_t)st->st_size,
		st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec };

	reg_file_set(e->leader_reg, e->name, &e->hash, &stamp);
	state_reg_noted(v->r->s, e->leader_reg);
	if (leader_of(e))
		disk_mark_file(v->r, fd, e->name, e->leader_reg, e->leader, st);
}

/* Puts the file `temp` of directory `from` under a name where another may stand. */
static int
put_in_place(struct view *v, struct disk_dir *dd, int from, const char *temp, const char *name)
{
	int fd = disk_fd(&v->r->disk, dd);
	struct stat old;

	if (fd < 0)
		return fd;
	if (renameat2(from, temp, fd, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (fstatat(fd, name, &old, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(old.st_mode))
		return -EISDIR;
	if (renameat2(from, temp, fd, name, RENAME_EXCHANGE) < 0)
		return -errno;
	if (v->r->view) {
		v->r->view->replaced(v->r->view->ctx, old.st_ino);
		v->r->view->moved(v->r->view->ctx, old.st_ino, dd->ino, name, 0, NULL);
	}
	trash_take(v->r, from, temp, name);
	return 0;
}

/* What was to take the place of a file did not come: the file goes even so. */
static void
remove_replaced(struct view *v, struct disk_dir *dd, const struct slot *p)
{
	int fd = disk_fd(&v->r->disk, dd);
	struct stat st;

	if (!p->replaces || fd < 0 || fstatat(fd, p->e->name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    st.st_ino != p->replaces)
		return;
	if (v->r->view)
		v->r->view->replaced(v->r->view->ctx, st.st_ino);
	tell_moved(v->r, st.st_ino, dd->ino, p->e->name, 0, NULL);
	trash_take(v->r, fd, p->e->name, p->e->name);
}

static void
place_file(struct view *v, struct disk_dir *dd, struct slot *p)
{
	struct shown *e = p->e;
	bool written = false;
	char temp[80];
	int from, fd, rc;
	struct stat st;

	if (p->lifted) {
		from = v->r->moving_fd;
		snprintf(temp, sizeof(temp), "%s", p->lifted->temp);
		written = !lifted_is_as_noted(v, p->lifted);
	} else {
		from = v->r->staging_fd;
		rc = content_source(v->r, &e->hash, e->kind, temp, sizeof(temp));
		if (rc == -ENOENT) {
			/* Another name took it a moment ago: the index finds it there. */
			replica_commit(v->r);
			rc = content_source(v->r, &e->hash, e->kind, temp, sizeof(temp));
		}
		if (rc == -ENOENT) {
			log_info("content of %s went elsewhere meanwhile: fetched again", e->name);
			if (leader_of(e))
				content_fetch(v->r, e->leader_reg, leader_of(e));
			remove_replaced(v, dd, p);
			return;
		}
		if (rc < 0) {
			log_err("content of %s is not here: %s", e->name, strerror(-rc));
			return;
		}
	}
	if (fstatat(from, temp, &st, AT_SYMLINK_NOFOLLOW) == 0)
		apply_attrs(v, from, temp, &st, &e->attrs, written);
	rc = put_in_place(v, dd, from, temp, e->name);
	if (rc < 0) {
		log_err("cannot put %s in place: %s", e->name, strerror(-rc));
		return;
	}
	fd = disk_fd(&v->r->disk, dd);
	if (fd < 0 || fstatat(fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (p->lifted)
		p->lifted->placed = true;
	else
		v->r->unsynced = true;
	tell_moved(v->r, st.st_ino, 0, NULL, dd->ino, e->name);
	record(v, e, &st, fd);
	/* What is being written there is told when it is closed. */
	if (written)
		reg_file_find(e->leader_reg, e->name)->stamp = (struct file_stamp){ 0 };
}

/* The attributes of a file that stays where it is. */
static void
refresh_attrs(struct view *v, struct disk_dir *dd, struct shown *e)
{
	int fd = disk_fd(&v->r->disk, dd);
	struct reg_file *f = NULL;
	struct reg *owner = NULL;
	struct stat st;
	bool written;

	for (size_t i = 0; i < e->refs_len && !f; i++)
		if ((f = reg_file_find(e->refs[i].reg, e->name)))
			owner = e->refs[i].reg;
	if (!f || fd < 0 || fstatat(fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	written = !same_stamp(&f->stamp, &st) || is_writing(v->r, st.st_ino);
	if (apply_attrs(v, fd, e->name, &st, &e->attrs, written) <= 0)
		return;
	note(v->r, st.st_ino, NULL);
	if (written || fstatat(fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	f->stamp.mtime_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
	state_reg_noted(v->r->s, owner);
}

static void
match(struct view *v, const struct folder *f, const struct name_group *g, struct slot *slots)
{
	for (size_t i = 0; i < g->len; i++) {
		struct slot *p = &slots[i];

		*p = (struct slot){ .e = &g->files[i] };
		for (size_t j = 0; j < f->len && !p->in_place; j++) {
			struct reg *reg = state_reg(v->r->s, f->ids[j], g->name, false);
			struct reg_file *rec = reg ? reg_file_find(reg, p->e->name) : NULL;

			if (rec && hash_compare(&rec->hash, &p->e->hash) == 0) {
				p->in_place = true;
				p->from_reg = reg;
			}
		}
	}
}

/* Files of the group that do not stand where they should: lifted if they are
 * still wanted, removed if not. */
static void
clear_group(struct view *v, struct disk_dir *dd, const struct folder *f, const struct name_group *g, struct slot *slots)
{
	for (size_t j = 0; j < f->len; j++) {
		struct reg *reg = state_reg(v->r->s, f->ids[j], g->name, false);

		for (uint32_t i = 0; reg && i < reg->files_len;) {
			struct reg_file *rec = &reg->files[i];
			struct slot *p;
			bool wanted = false;

			if (slot_stands(slots, g->len, reg, rec->name)) {
				i++;
				continue;
			}
			for (size_t k = 0; k < g->len; k++)
				wanted |= !slots[k].in_place && hash_compare(&slots[k].e->hash, &rec->hash) == 0;
			if (wanted) {
				lift_file(v, dd, reg, rec->name);
			} else if ((p = slot_at(slots, g->len, rec->name))) {
				/* Replaced in one step by what comes. */
				p->replaces = rec->stamp.ino;
				reg_file_forget(reg, rec->name);
				state_reg_noted(v->r->s, reg);
			} else {
				remove_file(v, dd, reg, rec->name);
			}
		}
	}
}

static void
refresh_conflict(struct replica *r, const struct name_group *g)
{
	bool conflict = group_in_conflict(g);

	for (size_t i = 0; i < g->len; i++)
		for (size_t j = 0; j < g->files[i].refs_len; j++) {
			struct reg *reg = g->files[i].refs[j].reg;

			if (reg->in_conflict == conflict)
				continue;
			reg->in_conflict = conflict;
			state_reg_noted(r->s, reg);
		}
}

static void
update_group(struct view *v, struct reg *reg)
{
	struct disk_dir *dd = disk_of(reg->dir);
	struct folder f;
	struct name_group g;
	struct slot *slots;

	if (!reg->shown.len && reg->in_conflict) {
		reg->in_conflict = false;
		state_reg_noted(v->r->s, reg);
	}
	if (!dd)
		return;
	display_folder(v->r->s, reg->dir, &v->o, &f);
	display_group(v->r->s, &f, reg_name(reg), &v->o, &g);
	slots = mem_resize(NULL, g.len + 1, sizeof(*slots));
	match(v, &f, &g, slots);
	clear_group(v, dd, &f, &g, slots);
	for (size_t i = 0; i < g.len; i++) {
		if (slots[i].in_place) {
			refresh_attrs(v, dd, slots[i].e);
			continue;
		}
		slots[i].lifted = find_lifted(v, &g, &f, &slots[i].e->hash);
		place_file(v, dd, &slots[i]);
	}
	refresh_conflict(v->r, &g);
	free(slots);
	group_fini(&g);
}

static void
touch_base(void *arg, const char *base)
{
	struct reg *reg = ((struct reg **)arg)[0];
	struct state *s = ((struct state **)arg)[1];
	struct reg *other = state_reg(s, reg->dir, base, false);

	if (other)
		state_touch_reg(s, other);
}

/* Siblings of another name may have to step aside for what is called like them. */
static void
touch_bases(struct view *v, struct reg *reg)
{
	struct folder f;
	void *arg[2] = { reg, v->r->s };

	if (!strstr(reg_name(reg), STATE_SEP))
		return;
	display_folder(v->r->s, reg->dir, &v->o, &f);
	display_bases(v->r->s, &f, reg_name(reg), touch_base, arg);
}

static void
update_files(struct view *v)
{
	struct state *s = v->r->s;

	for (size_t i = 0; i < s->touched_regs.len; i++)
		touch_bases(v, s->touched_regs.r[i]);
	for (size_t i = 0; i < s->touched_regs.len; i++) {
		struct reg *reg = s->touched_regs.r[i];

		reg->touched = false;
		update_group(v, reg);
	}
	s->touched_regs.len = 0;
}

/* ---- all of it ---- */

/* A directory that shows no more.  One that still holds what is not replicated
 * stays where it was. */
static void
remove_orphan(struct view *v, struct disk_dir *dd)
{
	char temp[40];
	int up;

	disk_lifted_name(dd, temp, sizeof(temp));
	if (v->r->view)
		v->r->view->replaced(v->r->view->ctx, dd->ino);
	if (!dd->lifted || unlinkat(v->r->moving_fd, temp, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return;
	up = dd->up->ids_len ? disk_fd(&v->r->disk, dd->up) : -ENOENT;
	log_info("%s stays on disk: it holds files that are not replicated", dd->name);
	if (up >= 0 && renameat2(v->r->moving_fd, temp, up, dd->name, RENAME_NOREPLACE) == 0)
		note(v->r, dd->up->ino, dd->name);
	else
		trash_take(v->r, v->r->moving_fd, temp, dd->name);
}

/* Do versions that show as others', or not yet, still have that content? */
static bool
is_still_known(struct view *v, const struct lifted *l)
{
	struct folder f;

	display_folder(v->r->s, l->reg->dir, &v->o, &f);
	for (size_t i = 0; i < f.len; i++) {
		struct reg *reg = state_reg(v->r->s, f.ids[i], reg_name(l->reg), false);

		if (reg && (regval_has(&reg->shown, &l->hash) || regval_has(reg_known(reg), &l->hash)))
			return true;
	}
	return false;
}

static void
finish(struct view *v)
{
	for (size_t i = 0; i < v->lifted_len; i++) {
		struct lifted *l = &v->lifted[i];

		if (!l->placed && is_still_known(v, l) && lifted_is_as_noted(v, l))
			content_keep(v->r, v->r->moving_fd, l->temp, &l->hash);
		if (!l->placed)
			trash_take(v->r, v->r->moving_fd, l->temp, l->name);
		free(l->name);
	}
	free(v->lifted);
	for (size_t i = 0; i < v->left_len; i++)
		if (!v->left[i]->ids_len)
			remove_orphan(v, v->left[i]);
	for (size_t i = 0; i < v->left_len; i++)
		if (!v->left[i]->ids_len)
			disk_forget(&v->r->disk, v->left[i]);
	free(v->left);
	free(v->plans);
	free(v->dirs.d);
}

/* Is there anything on disk that is not as the state says?  Most local
 * operations leave nothing to do, and need no lock. */
static bool
name_is_as_shown(struct replica *r, struct reg *reg, struct obstack *o)
{
	struct disk_dir *dd = disk_of(reg->dir);
	struct view v = { .r = r };
	bool same = dd != NULL;
	struct folder f;
	struct name_group g;
	struct slot *slots;
	uint32_t files = 0;
	int fd;

	if (!dd || reg->in_conflict || strstr(reg_name(reg), STATE_SEP))
		return false;
	display_folder(r->s, reg->dir, o, &f);
	display_group(r->s, &f, reg_name(reg), o, &g);
	slots = mem_resize(NULL, g.len + 1, sizeof(*slots));
	match(&v, &f, &g, slots);
	fd = disk_fd(&r->disk, dd);
	for (size_t i = 0; i < g.len && same; i++) {
		struct attrs now = { 0 };
		struct stat st;

		same = slots[i].in_place && g.len == 1 && fd >= 0 &&
		    fstatat(fd, g.files[i].name, &st, AT_SYMLINK_NOFOLLOW) == 0;
		if (same && attrs_find(&g.files[i].attrs, "mode"))
			same = S_ISLNK(st.st_mode) ||
			    attrs_mode(&g.files[i].attrs, 0) == (st.st_mode & 07777);
		attrs_fini(&now);
	}
	for (size_t j = 0; j < f.len; j++) {
		struct reg *x = state_reg(r->s, f.ids[j], g.name, false);

		files += x ? x->files_len : 0;
	}
	same &= files == g.len && !group_in_conflict(&g);
	free(slots);
	group_fini(&g);
	return same;
}

static bool
dir_is_as_shown(struct replica *r, struct dir *d, struct obstack *o)
{
	struct disk_dir *dd = disk_of(d);
	struct folder f;

	if (!d->at.up)
		return true;
	if (!state_stands(d))
		return !dd;
	if (!dd || !dd->up || dd->up != disk_of(d->at.up) || strcmp(dd->name, d->at.name) != 0)
		return false;
	display_folder(r->s, d, o, &f);
	return f.len == 1 && dd->ids_len == 1;
}

/* Takes from the lists what is as it should be. */
static bool
nothing_to_do(struct replica *r)
{
	struct state *s = r->s;
	struct obstack o;
	size_t n = 0;

	obstack_init(&o);
	for (size_t i = 0; i < s->touched_dirs.len; i++) {
		struct dir *d = s->touched_dirs.d[i];

		if (d->told != DIR_TOLD && dir_is_as_shown(r, d, &o))
			d->touched = false;
		else if (!d->at.up || !dir_is_as_shown(r, d, &o) || d->touched)
			s->touched_dirs.d[n++] = d;
	}
	s->touched_dirs.len = n;
	n = 0;
	for (size_t i = 0; i < s->touched_regs.len; i++) {
		struct reg *reg = s->touched_regs.r[i];

		if (!reg->pending && name_is_as_shown(r, reg, &o))
			reg->touched = false;
		else
			s->touched_regs.r[n++] = reg;
	}
	s->touched_regs.len = n;
	obstack_free(&o, NULL);
	return !s->touched_dirs.len && !s->touched_regs.len;
}

/* From here on nobody changes a name or opens for writing; what was done before
 * is known. */
static void
lock_view(struct replica *r)
{
	for (unsigned tries = 0; !r->view_held; tries++) {
		pthread_rwlock_wrlock(&r->view_lock);
		pthread_mutex_lock(&r->queue_lock);
		/* Users who never pause wait for once. */
		r->view_held = !r->first || tries >= HOLD_TRIES;
		pthread_mutex_unlock(&r->queue_lock);
		if (!r->view_held)
			pthread_rwlock_unlock(&r->view_lock);
		replica_settle_events(r);
	}
}

void
view_hold(struct replica *r)
{
	lock_view(r);
	if (r->view)
		r->view->tell_waiting(r->view->ctx);
	replica_settle_events(r);
}

void
view_update(struct replica *r)
{
	struct view v = { .r = r };

	if (!r->view_held && nothing_to_do(r) && !r->deferred.len)
		return;
	lock_view(r);
	obstack_init(&v.o);
	show_ready(r);
	update_dirs(&v);
	update_files(&v);
	finish(&v);
	obstack_free(&v.o, NULL);
	r->view_held = false;
	pthread_rwlock_unlock(&r->view_lock);
	send_notes(r);
}
