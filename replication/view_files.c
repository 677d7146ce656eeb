/*
 * The view's files: the names of each touched group, and what stands under them.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/chunk.h"
#include "replication/view_impl.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

#define SEAL_TRIES 32

/* A place in a group where a file is to stand. */
struct slot {
	struct shown *e;
	struct reg *about;		/* whose group it is */
	struct reg *from_reg;		/* the record it stands by already */
	bool in_place;
	ino_t replaces;			/* a file of ours whose note is gone already */
	struct hash was;		/* what that held */
	bool keep;			/* of a version that is live still, and shows nowhere */
	struct lifted *lifted;
};

/* Does a lifted file still hold what its note says? */
bool
view_lifted_is_as_noted(struct view *v, const struct lifted *l)
{
	struct stat st;

	return fstatat(v->r->moving_fd, l->temp, &st, AT_SYMLINK_NOFOLLOW) == 0 && view_same_stamp(&l->stamp, &st) &&
	    !view_is_writing(v->r, st.st_ino);
}

/* A lifted file with that content: of this group, even if it is being written,
 * else any that is certain to hold it. */
static struct lifted *
find_lifted(struct view *v, const struct name_group *g, const struct folder *f, const struct hash *h)
{
	for (size_t i = 0; i < v->lifted_len; i++) {
		struct lifted *l = v->lifted[i];

		if (l->placed || hash_compare(&l->hash, h) != 0 || strcmp(reg_name(l->reg), g->name) != 0)
			continue;
		for (size_t j = 0; j < f->len; j++)
			if (l->reg->dir == f->ids[j])
				return l;
	}
	for (size_t i = 0; i < v->lifted_len; i++) {
		struct lifted *l = v->lifted[i];

		if (!l->placed && hash_compare(&l->hash, h) == 0 && view_lifted_is_as_noted(v, l))
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
	view_lift_file(v, dd, reg, name);
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
record(struct view *v, struct shown *e, const struct stat *st)
{
	struct file_stamp stamp = { st->st_ino, (uint64_t)st->st_size,
		st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec };

	reg_file_set(e->leader_reg, e->name, &e->hash, &stamp);
	state_reg_noted(v->r->s, e->leader_reg);
	marks_file(v->r, e->leader_reg, e->name);
}

/* Puts the file `temp` of directory `from` under a name where another may stand. */
static int
put_in_place(struct view *v, struct disk_dir *dd, int from, const char *temp, const struct slot *p)
{
	const char *name = p->e->name;
	int fd = disk_fd(&v->r->disk, dd);
	char trash[TRASH_NAME_MAX];
	struct stat old;

	if (fd < 0)
		return fd;
	if (renameat2(from, temp, fd, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	/* A sibling of another name, say, that is to step aside. */
	view_clear_name(v, dd, name);
	if ((fd = disk_fd(&v->r->disk, dd)) < 0 || renameat2(from, temp, fd, name, RENAME_NOREPLACE) == 0)
		return fd < 0 ? fd : 0;
	if (fstatat(fd, name, &old, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(old.st_mode))
		return -EISDIR;
	if (renameat2(from, temp, fd, name, RENAME_EXCHANGE) < 0)
		return -errno;
	if (v->r->view) {
		v->r->view->replaced(v->r->view->ctx, old.st_ino);
		v->r->view->moved(v->r->view->ctx, old.st_ino, dd->ino, name, 0, NULL);
	}
	if (p->keep && old.st_ino == p->replaces)
		content_keep(v->r, from, temp, &p->was);
	trash_take_as(v->r, from, temp, name, trash);
	if (*trash && old.st_ino == p->replaces)
		recycle_note(v->r, p->e->leader_reg, &p->was, trash);
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
	view_tell_moved(v->r, st.st_ino, dd->ino, p->e->name, 0, NULL);
	if (p->keep)
		content_keep(v->r, fd, p->e->name, &p->was);
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
		written = !view_lifted_is_as_noted(v, p->lifted);
	} else {
		from = v->r->staging_fd;
		rc = content_source(v->r, &e->hash, e->kind, temp, sizeof(temp));
		if (rc == -ENOENT) {
			log_info("content of %s went elsewhere meanwhile: fetched again", e->name);
			if (leader_of(e))
				content_fetch(v->r, e->leader_reg, leader_of(e));
			remove_replaced(v, dd, p);
			return;
		}
		if (rc < 0) {
			if (view_again(v->r, p->about->dir, p->about))
				log_err("content of %s is not here: %s", e->name, strerror(-rc));
			return;
		}
	}
	if (fstatat(from, temp, &st, AT_SYMLINK_NOFOLLOW) == 0)
		apply_attrs(v, from, temp, &st, &e->attrs, written);
	rc = put_in_place(v, dd, from, temp, p);
	if (rc < 0) {
		/* A directory that was made before the daemon was killed is known once
		 * what stands in it is. */
		if (view_again(v->r, p->about->dir, p->about))
			log_line(rc == -EISDIR ? LOG_WARN : LOG_ERROR, "cannot put %s in place: %s", e->name,
			    strerror(-rc));
		if (!p->lifted)
			content_put_back(v->r, &e->hash, temp);
		return;
	}
	fd = disk_fd(&v->r->disk, dd);
	if (fd < 0 || fstatat(fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (p->lifted)
		p->lifted->placed = true;
	else
		v->r->unsynced = true;
	view_tell_moved(v->r, st.st_ino, 0, NULL, dd->ino, e->name);
	record(v, e, &st);
	/* What is being written there is told when it is closed, if it changed. */
	if (written)
		reg_file_find(e->leader_reg, e->name)->stamp = p->lifted->stamp;
}

/*
 * Of directories that stand as one each may have a register of that name.  Where
 * the file stood for one of which nothing shows any more, it stands for the other.
 */
static void
hand_over(struct view *v, struct slot *p)
{
	const struct shown *e = p->e;
	struct file_stamp stamp;

	for (size_t i = 0; i < e->refs_len; i++)
		if (e->refs[i].reg == p->from_reg)
			return;
	stamp = reg_file_find(p->from_reg, e->name)->stamp;
	reg_file_set(e->leader_reg, e->name, &e->hash, &stamp);
	state_reg_noted(v->r->s, e->leader_reg);
	marks_file(v->r, e->leader_reg, e->name);
	reg_file_forget(p->from_reg, e->name);
	state_reg_noted(v->r->s, p->from_reg);
	p->from_reg = e->leader_reg;
}

/* The attributes of a file that stays where it is. */
static void
refresh_attrs(struct view *v, struct disk_dir *dd, struct slot *p)
{
	const struct shown *e = p->e;
	int fd = disk_fd(&v->r->disk, dd);
	struct reg_file *f;
	struct stat st;
	bool written;

	hand_over(v, p);
	f = reg_file_find(p->from_reg, e->name);
	if (fd < 0 || fstatat(fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	written = !view_same_stamp(&f->stamp, &st) || view_is_writing(v->r, st.st_ino);
	if (apply_attrs(v, fd, e->name, &st, &e->attrs, written) <= 0)
		return;
	view_note(v->r, st.st_ino, NULL);
	if (written || fstatat(fd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	f->stamp.mtime_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
	state_reg_noted(v->r->s, p->from_reg);
}

/*
 * Other names share its attributes: it becomes a file of its own before it is
 * given others, as it would if its content changed; when nobody writes it.
 */
enum parting { PARTING_NOT, PARTING_NOW, PARTING_LATER };

static enum parting
must_part(struct view *v, struct disk_dir *dd, const struct slot *p)
{
	const struct reg_file *rec = reg_file_find(p->from_reg, p->e->name);
	int fd = disk_fd(&v->r->disk, dd);
	struct stat st;

	if (fd < 0 || fstatat(fd, p->e->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_nlink < 2 || S_ISDIR(st.st_mode) ||
	    !disk_attrs_differ(v->r, fd, p->e->name, &st, &p->e->attrs))
		return PARTING_NOT;
	if (view_same_stamp(&rec->stamp, &st) && !view_is_writing(v->r, st.st_ino))
		return PARTING_NOW;
	view_again(v->r, p->about->dir, p->about);
	return PARTING_LATER;
}

/* The same for a file that was lifted: another name of it stays, and is copied. */
static bool
is_shared(struct view *v, const struct slot *p)
{
	struct stat st;

	return fstatat(v->r->moving_fd, p->lifted->temp, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_nlink > 1 &&
	    view_lifted_is_as_noted(v, p->lifted) &&
	    disk_attrs_differ(v->r, v->r->moving_fd, p->lifted->temp, &st, &p->e->attrs) &&
	    content_stands_beside(v->r, &p->e->hash);
}

static void
match(struct view *v, struct reg *about, const struct folder *f, const struct name_group *g, struct slot *slots)
{
	for (size_t i = 0; i < g->len; i++) {
		struct slot *p = &slots[i];

		*p = (struct slot){ .e = &g->files[i], .about = about };
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

/* Is the noted file what the note says, and nobody writes it? */
static bool
is_as_noted(struct view *v, struct disk_dir *dd, const struct reg_file *rec)
{
	int fd = disk_fd(&v->r->disk, dd);
	struct stat st;

	return fd < 0 || fstatat(fd, rec->name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (view_same_stamp(&rec->stamp, &st) && !view_is_writing(v->r, st.st_ino));
}

static bool
stands_untold(struct view *v, struct disk_dir *dd, const char *name)
{
	int fd = disk_fd(&v->r->disk, dd);
	struct stat st;

	return fd >= 0 && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) && !view_is_noted(v, dd, name);
}

/*
 * What is about to be replaced or removed, and users wrote without its being
 * told yet, becomes a version of its own first: directories that came to stand
 * together brought it into the way.  True: the group is another one now.
 */
static bool
seal_in_the_way(struct view *v, struct disk_dir *dd, const struct folder *f, const struct name_group *g,
    const struct slot *slots)
{
	for (size_t i = 0; i < g->len; i++)
		if (!slots[i].in_place && stands_untold(v, dd, slots[i].e->name)) {
			local_seal_new(v->r, dd, slots[i].e->name);
			return true;
		}
	for (size_t j = 0; j < f->len; j++) {
		struct reg *reg = state_reg(v->r->s, f->ids[j], g->name, false);

		for (uint32_t i = 0; reg && i < reg->files_len; i++) {
			struct reg_file *rec = &reg->files[i];
			bool wanted = slot_stands(slots, g->len, reg, rec->name);

			for (size_t k = 0; k < g->len; k++)
				wanted |= !slots[k].in_place && hash_compare(&slots[k].e->hash, &rec->hash) == 0;
			if (wanted || is_as_noted(v, dd, rec))
				continue;
			char *name = mem_str(rec->name);

			reg_file_forget(reg, name);
			state_reg_noted(v->r->s, reg);
			local_seal_new(v->r, dd, name);
			free(name);
			return true;
		}
	}
	return false;
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
				view_lift_file(v, dd, reg, rec->name);
			} else if ((p = slot_at(slots, g->len, rec->name))) {
				/* Replaced in one step by what comes. */
				p->replaces = rec->stamp.ino;
				p->was = rec->hash;
				p->keep = is_as_noted(v, dd, rec) && view_is_live(v, reg, &rec->hash);
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
	if (!dd || ignore_reg(v->r, reg))
		return;
	display_folder(v->r->s, reg->dir, &v->o, &f);
	for (unsigned tries = 0;; tries++) {
		display_group(v->r->s, &f, reg_name(reg), &v->o, &g);
		slots = mem_resize(NULL, g.len + 1, sizeof(*slots));
		match(v, reg, &f, &g, slots);
		if (tries == SEAL_TRIES || !seal_in_the_way(v, dd, &f, &g, slots))
			break;
		free(slots);
		group_fini(&g);
	}
	clear_group(v, dd, &f, &g, slots);
	for (size_t i = 0; i < g.len; i++) {
		enum parting parting = slots[i].in_place ? must_part(v, dd, &slots[i]) : PARTING_NOW;

		if (parting == PARTING_NOT)
			refresh_attrs(v, dd, &slots[i]);
		if (parting != PARTING_NOW)
			continue;
		slots[i].lifted = find_lifted(v, &g, &f, &slots[i].e->hash);
		if (slots[i].lifted && is_shared(v, &slots[i]))
			slots[i].lifted = NULL;
		place_file(v, dd, &slots[i]);
		if (slots[i].in_place && slots[i].from_reg != slots[i].e->leader_reg &&
		    reg_file_find(slots[i].e->leader_reg, slots[i].e->name)) {
			reg_file_forget(slots[i].from_reg, slots[i].e->name);
			state_reg_noted(v->r->s, slots[i].from_reg);
		}
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

void
view_update_files(struct view *v)
{
	struct state *s = v->r->s;

	for (size_t i = 0; i < s->touched_regs.len; i++)
		touch_bases(v, s->touched_regs.r[i]);
	for (size_t i = 0; i < s->touched_regs.len; i++) {
		struct reg *reg = s->touched_regs.r[i];

		reg->touched = false;
		view_not_again(v->r, reg->dir, reg);
		update_group(v, reg);
	}
	s->touched_regs.len = 0;
}

/* Is there anything on disk that is not as the state says?  Most local
 * operations leave nothing to do, and need no lock. */
bool
view_name_is_as_shown(struct replica *r, struct reg *reg, struct obstack *o)
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
	match(&v, reg, &f, &g, slots);
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
