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
#include "replication/view_impl.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

#define HOLD_TRIES 8
#define AGAIN_MS 1000

/* ---- telling the mount ---- */

void
view_note(struct replica *r, ino_t dir, const char *name)
{
	if (!r->view)
		return;
	r->notes = mem_resize(r->notes, r->notes_len + 1, sizeof(*r->notes));
	r->notes[r->notes_len++] = (struct note){ dir, mem_str(name) };
}

void
view_tell_moved(struct replica *r, ino_t ino, ino_t dir, const char *name, ino_t dir2, const char *name2)
{
	if (!r->view)
		return;
	r->view->moved(r->view->ctx, ino, dir, name, dir2, name2);
	if (name)
		view_note(r, dir, name);
	if (name2)
		view_note(r, dir2, name2);
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

bool
view_is_writing(const struct replica *r, ino_t ino)
{
	return r->view && ino && r->view->writing(r->view->ctx, ino);
}

/* ---- what could not be shown ---- */

bool
view_again(struct replica *r, struct dir *d, struct reg *reg)
{
	bool news = reg ? !reg->again : !d->again;

	if (!news)
		for (size_t i = 0; i < r->again_len; i++)
			if (r->again[i].dir_num == d->num && (reg ? r->again[i].name &&
			    strcmp(r->again[i].name, reg_name(reg)) == 0 : !r->again[i].name))
				return false;
	r->again = mem_resize(r->again, r->again_len + 1, sizeof(*r->again));
	r->again[r->again_len++] = (struct again){ d->num, reg ? mem_str(reg_name(reg)) : NULL };
	if (r->again_len == 1)
		r->again_at_ms = replica_now_ms() + AGAIN_MS;
	if (reg) {
		reg->again = true;
		state_reg_noted(r->s, reg);
	} else {
		d->again = true;
		state_dir_noted(r->s, d);
	}
	return news;
}

void
view_retry(struct replica *r, bool all)
{
	struct again *list = r->again;
	size_t n = r->again_len;

	if (!n || (!all && replica_now_ms() < r->again_at_ms))
		return;
	r->again = NULL;
	r->again_len = 0;
	for (size_t i = 0; i < n; i++) {
		struct dir *d = state_dir_num(r->s, list[i].dir_num);
		struct reg *reg = d && list[i].name ? state_reg(r->s, d, list[i].name, false) : NULL;

		if (reg)
			state_touch_reg(r->s, reg);
		else if (d && !list[i].name)
			state_touch_dir(r->s, d);
		free(list[i].name);
	}
	free(list);
}

/* What was put off is as it should be, as far as is known: the update that is
 * under way says so if not. */
void
view_not_again(struct replica *r, struct dir *d, struct reg *reg)
{
	if (reg && reg->again) {
		reg->again = false;
		state_reg_noted(r->s, reg);
	} else if (!reg && d->again) {
		d->again = false;
		state_dir_noted(r->s, d);
	}
}

/* ---- what is complete becomes shown ---- */

bool
view_same_stamp(const struct file_stamp *f, const struct stat *st)
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
may_show(struct view *v, struct reg *reg)
{
	struct replica *r = v->r;
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
		if (fstatat(fd, reg->files[i].name, &st, AT_SYMLINK_NOFOLLOW) == 0 && view_is_writing(r, st.st_ino))
			return false;
	for (uint32_t i = reg->files_len; i-- > 0;) {
		f = &reg->files[i];
		if (fstatat(fd, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode) &&
		    !view_same_stamp(&f->stamp, &st))
			local_seal(r, dd, f->name);
		if (i > reg->files_len)
			i = reg->files_len;
	}
	if (reg_file_find(reg, reg_name(reg)) || fstatat(fd, reg_name(reg), &st, AT_SYMLINK_NOFOLLOW) < 0)
		return true;
	if (view_is_writing(r, st.st_ino))
		return false;
	/* Another register's file may stand there, a sibling say: that one is known. */
	if ((S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) && !view_is_noted(v, dd, reg_name(reg)))
		local_seal(r, dd, reg_name(reg));
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
show_ready(struct view *v)
{
	struct replica *r = v->r;
	struct reg_list list = r->deferred;

	r->deferred = (struct reg_list){ 0 };
	for (size_t i = 0; i < list.len; i++) {
		struct reg *reg = list.r[i];

		reg->deferred = false;
		if (!reg->pending || !content_ready(r, reg, 0))
			continue;
		if (may_show(v, reg))
			state_reg_show(r->s, reg);
		else
			view_defer(r, reg);
	}
	free(list.r);
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
		view_note(v->r, dd->up->ino, dd->name);
	else
		trash_take(v->r, v->r->moving_fd, temp, dd->name);
}

bool
view_is_live(struct view *v, struct reg *about, const struct hash *h)
{
	struct folder f;

	display_folder(v->r->s, about->dir, &v->o, &f);
	for (size_t i = 0; i < f.len; i++) {
		struct reg *reg = state_reg(v->r->s, f.ids[i], reg_name(about), false);

		if (reg && (regval_has(&reg->shown, h) || regval_has(reg_known(reg), h)))
			return true;
	}
	return false;
}

static void
finish(struct view *v)
{
	for (size_t i = 0; i < v->lifted_len; i++) {
		struct lifted *l = v->lifted[i];

		if (!l->placed && view_is_live(v, l->reg, &l->hash) && view_lifted_is_as_noted(v, l))
			content_keep(v->r, v->r->moving_fd, l->temp, &l->hash);
		if (!l->placed)
			trash_take(v->r, v->r->moving_fd, l->temp, l->name);
		free(l->name);
		free(l);
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
			d->touched = false, view_not_again(r, d, NULL);
		else if (!d->at.up || !dir_is_as_shown(r, d, &o) || d->touched)
			s->touched_dirs.d[n++] = d;
	}
	s->touched_dirs.len = n;
	n = 0;
	for (size_t i = 0; i < s->touched_regs.len; i++) {
		struct reg *reg = s->touched_regs.r[i];

		if (!reg->pending && view_name_is_as_shown(r, reg, &o))
			reg->touched = false, view_not_again(r, reg->dir, reg);
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
		if (r->view)
			r->view->tell_moved(r->view->ctx);
		pthread_mutex_lock(&r->queue_lock);
		/* Users who never pause wait for once. */
		r->view_held = (!r->first && !r->taken) || tries >= HOLD_TRIES;
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
	show_ready(&v);
	view_update_dirs(&v);
	view_update_files(&v);
	finish(&v);
	obstack_free(&v.o, NULL);
	r->view_held = false;
	pthread_rwlock_unlock(&r->view_lock);
	send_notes(r);
}
