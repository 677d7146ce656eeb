/*
 * From what users did to a directory on disk to events in the state: made, removed,
 * moved.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/local_impl.h"

/* A directory that is not where it was: the mode it has, or will be seen to have
 * once it is known where it is. */
static void
stat_elsewhere(struct replica *r, ino_t ino, struct stat *st)
{
	int fd = r->disk.open_dir ? r->disk.open_dir(r->disk.open_ctx, ino) : -1;
	struct stat found;
	bool is = fd >= 0 && fstat(fd, &found) == 0 && found.st_ino == ino;

	*st = (struct stat){ .st_mode = is ? found.st_mode : S_IFDIR | 0755, .st_ino = ino };
	if (fd >= 0)
		close(fd);
	if (!is)
		local_look_later(r, (struct look){ .what = LOOK_AT_ATTRS, .ino = ino });
}

/* It stands nowhere on disk any more, whatever the state says. */
static void
forget_dir(struct replica *r, struct disk_dir *dd)
{
	for (size_t i = 0; i < dd->ids_len; i++) {
		state_dir_noted(r->s, dd->ids[i]);
		state_touch_dir(r->s, dd->ids[i]);
	}
	disk_forget(&r->disk, dd);
}

/* The number of one that is gone may come back. */
static struct disk_dir *
know_dir(struct replica *r, ino_t ino, struct disk_dir *up, const char *name)
{
	struct disk_dir *old = disk_find(&r->disk, ino);

	if (old && old != r->disk.root)
		forget_dir(r, old);
	return disk_add(&r->disk, ino, up, name);
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
		dd = know_dir(r, ino, up, name);
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
	local_new_dir_as(r, up, name, name, ino, told);
}

void
local_new_dir_as(struct replica *r, struct disk_dir *up, const char *name, const char *as, ino_t ino,
    enum dir_told told)
{
	int fd = disk_fd(&r->disk, up), rc;
	struct attrs a;
	struct disk_dir *dd;
	struct stat st;
	struct dir *d;

	if (fd < 0 || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != ino || !S_ISDIR(st.st_mode)) {
		/* Moved or removed since, or what it was made in: made all the same,
		 * the rest follows. */
		stat_elsewhere(r, ino, &st);
	} else if (st.st_dev != r->dev) {
		return;
	}
	rc = local_mkdir(r->s, up->ids[0], as, st.st_mode & 07777, told, &d);
	if (rc == -EEXIST && comes_to_stand(r, up, name, ino))
		return;
	if (rc < 0) {
		log_warn("%s: made, but something shows there: %s", name, strerror(-rc));
		return;
	}
	dd = know_dir(r, ino, up, name);
	disk_assign(d, dd);
	fd = disk_fd(&r->disk, up);
	if (st.st_nlink && fd >= 0) {
		disk_attrs_read(r, fd, name, &st, NULL, &a);
		/* One that was removed and stands again had others. */
		attrs_without_others(&a, &d->val.attrs, (struct stamp){ 0, 0 });
		for (uint32_t i = 0; i < a.len; i++)
			if (strcmp(a.c[i].key, "mode") != 0)
				attrs_set(&d->val.attrs, a.c[i].key, a.c[i].value, a.c[i].len, state_stamp(r->s));
		attrs_fini(&a);
	}
	marks_dir(r, dd);
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
	struct reg *reg = state_reg_in(q->r->s, dir_num, name);

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
		local_unlink_at(r, dd, q.names[i]);
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

void
local_remove_dir(struct replica *r, struct disk_dir *up, const char *name)
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
	if (disk_is_in(to, dd)) {
		log_warn("%s: moved to %s, which is noted in it: moved back", e->name, e->name2);
		for (size_t i = 0; i < dd->ids_len; i++)
			state_touch_dir(r->s, dd->ids[i]);
		return;
	}
	old = disk_at(&r->disk, to, e->name2);
	rc = shows_dir(r, from, e->name, dd) ?
	    local_move(r->s, from->ids[0], e->name, to->ids[0], e->name2) : -ENOENT;
	if (old && old != dd)
		forget_dir(r, old);
	disk_place(dd, to, e->name2);
	marks_dir(r, dd);
	if (rc < 0) {
		/* Back it goes, to where it shows. */
		log_warn("%s: moved to %s, but: %s", e->name, e->name2, strerror(-rc));
		for (size_t i = 0; i < dd->ids_len; i++)
			state_touch_dir(r->s, dd->ids[i]);
	}
}
