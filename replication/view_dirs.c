/*
 * The view's directories: which directory on disk each one shows in, and where
 * that stands.
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
#include "replication/view_impl.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

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

static int
by_depth(const void *a, const void *b)
{
	unsigned x = dir_depth(*(struct dir *const *)a), y = dir_depth(*(struct dir *const *)b);

	return (x > y) - (x < y);
}

void
view_lift_file(struct view *v, struct disk_dir *dd, struct reg *reg, const char *name)
{
	struct reg_file *f = reg_file_find(reg, name);
	struct lifted l = { .reg = reg, .hash = f->hash, .stamp = f->stamp };
	int fd = disk_fd(&v->r->disk, dd);
	struct stat st;

	snprintf(l.temp, sizeof(l.temp), "f-%" PRIx64, ++v->r->next_temp);
	l.name = mem_str(name);
	/* What is noted as a file and is a directory by now is no file of ours. */
	if (fd >= 0 && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
		free(l.name);
	} else if (fd < 0 || renameat2(fd, name, v->r->moving_fd, l.temp, RENAME_NOREPLACE) < 0) {
		if (fd >= 0 && errno != ENOENT)
			log_warn("cannot move %s aside: %s", name, strerror(errno));
		free(l.name);
	} else {
		view_tell_moved(v->r, f->stamp.ino, dd->ino, l.name, 0, NULL);
		v->lifted = mem_resize(v->lifted, v->lifted_len + 1, sizeof(*v->lifted));
		v->lifted[v->lifted_len++] = mem_dup(&l, sizeof(l));
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

bool
view_is_noted(struct view *v, struct disk_dir *dd, const char *name)
{
	struct names bases = { 0 };
	bool known = false;

	bases_of(v, dd, name, &bases);
	for (size_t j = 0; j < bases.len && !known; j++)
		for (size_t k = 0; k < dd->ids_len && !known; k++) {
			struct reg *reg = state_reg(v->r->s, dd->ids[k], bases.n[j], false);

			known = reg && reg_file_find(reg, name);
		}
	names_fini(&bases);
	return known;
}

void
view_clear_name(struct view *v, struct disk_dir *dd, const char *name)
{
	struct names l = { 0 };

	bases_of(v, dd, name, &l);
	for (size_t i = 0; i < dd->ids_len; i++)
		for (size_t j = 0; j < l.len; j++) {
			struct reg *reg = state_reg(v->r->s, dd->ids[i], l.n[j], false);

			if (!reg || !reg_file_find(reg, name))
				continue;
			view_lift_file(v, dd, reg, name);
			state_touch_reg(v->r->s, reg);
		}
	names_fini(&l);
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
				view_lift_file(v, up, reg, name);
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
	for (size_t i = 0; i < l.len; i++)
		if (!view_is_noted(v, dd, l.n[i]))
			local_seal_new(v->r, dd, l.n[i]);
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
		while (reg->files_len && ignore_reg(v->r, reg))
			reg_file_forget(reg, reg->files[0].name);	/* it stays where it is */
		while (reg->files_len)
			view_lift_file(v, from, reg, reg->files[0].name);
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
			view_not_again(v->r, d, NULL);
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
		unlinkat(v->r->moving_fd, temp, AT_REMOVEDIR);
		return NULL;
	}
	dd = disk_add(&v->r->disk, st.st_ino, up, name);
	disk_lifted_name(dd, lifted, sizeof(lifted));
	renameat(v->r->moving_fd, temp, v->r->moving_fd, lifted);
	dd->lifted = true;
	return dd;
}

/* One that stands there and is not replicated (any more, as it held what is
 * not), or NULL. */
static struct disk_dir *
adopt_dir(struct view *v, struct disk_dir *up, const char *name)
{
	int fd = up->lifted ? -ENOENT : disk_fd(&v->r->disk, up);
	struct stat st;

	if (fd < 0 || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) ||
	    st.st_dev != v->r->dev || disk_find(&v->r->disk, st.st_ino))
		return NULL;
	return disk_add(&v->r->disk, st.st_ino, up, name);
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
		if (!p.dd && ignore_dir(v->r, d))
			continue;
		if (!p.dd && !(p.dd = adopt_dir(v, p.up, p.name)) && !(p.dd = make_dir(v, p.up, p.name))) {
			if (view_again(v->r, d, NULL))
				log_err("cannot make directory %s: %s", p.name, strerror(errno));
			continue;
		}
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
	view_tell_moved(v->r, dd->ino, dd->up->ino, dd->name, 0, NULL);
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
	view_tell_moved(v->r, dd->ino, lifted ? 0 : dd->up->ino, lifted ? NULL : dd->name, up->ino, name);
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
	if ((S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) && !view_is_noted(v, up, name))
		local_seal_new(v->r, up, name);	/* a sibling beside the directory */
	touch_name(v, up, name, true);
	fd = disk_fd(&v->r->disk, up);
	if (fd < 0 || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	log_info("%s: a directory takes its place: it goes to the trash", name);
	view_tell_moved(v->r, st.st_ino, up->ino, name, 0, NULL);
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
		view_note(v->r, dd->ino, NULL);
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
			if (view_again(v->r, p->f.ids[0], NULL))
				log_err("cannot move directory %s: %s", p->name, strerror(-rc));
			continue;
		}
		apply_dir_attrs(v, p->dd, &p->f);
		marks_dir(v->r, p->dd);
	}
}

void
view_update_dirs(struct view *v)
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
