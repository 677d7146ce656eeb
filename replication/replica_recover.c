/*
 * After a stop that was not clean.  If only the daemon died, the journal names
 * what users touched since, and that alone is looked at.  If the machine went
 * down, or the view was being changed, the whole tree is compared with the
 * index: where they differ, a name that the journal has was touched by a user;
 * any other difference is a change of the view that was cut short, and done
 * again.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "replication/replica_recover_impl.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define JOURNAL_READ_MAX (256 << 20)

static void
read_journal(struct recovery *q)
{
	int fd = q->r->journal_fd;
	struct stat st;
	ssize_t n;

	q->text = mem_alloc(1);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0 || st.st_size > JOURNAL_READ_MAX)
		return;
	free(q->text);
	q->text = mem_alloc((size_t)st.st_size + 1);
	n = pread(fd, q->text, (size_t)st.st_size, 0);
	q->len = n > 0 ? (size_t)n : 0;
	for (const char *p = q->text; p < q->text + q->len; p += strlen(p) + 1) {
		struct journal_line *l;

		HASH_FIND_STR(q->lines, p, l);
		if (l)
			continue;
		l = mem_alloc(sizeof(*l));
		l->line = p;
		HASH_ADD_KEYPTR(hh, q->lines, l->line, strlen(l->line), l);
	}
}

bool
recover_in_journal(const struct recovery *q, ino_t dir, const char *name)
{
	struct journal_line *l;
	char line[300];

	snprintf(line, sizeof(line), "%llx %.255s", (unsigned long long)dir, name);
	HASH_FIND_STR(q->lines, line, l);
	return l != NULL;
}

static void
add_moving(void *arg, const char *name)
{
	struct recovery *q = arg;
	struct stat st;

	if (strlen(name) >= sizeof(q->moving->name) ||
	    fstatat(q->r->moving_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	q->moving = mem_resize(q->moving, q->moving_len + 1, sizeof(*q->moving));
	q->moving[q->moving_len].ino = st.st_ino;
	strcpy(q->moving[q->moving_len++].name, name);
}

struct moving *
recover_find_moving(const struct recovery *q, uint64_t ino)
{
	for (size_t i = 0; i < q->moving_len; i++)
		if (q->moving[i].ino == ino)
			return &q->moving[i];
	return NULL;
}

void
recover_stage_noted(struct replica *r, struct reg *reg, int dirfd, const char *name, const struct reg_file *f)
{
	struct hash h = f->hash;
	struct local_file now;
	struct name_group g;
	struct folder folder;
	struct obstack o;
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !local_stamp_same(&f->stamp, &st) &&
	    local_read_file(r, dirfd, name, &st, NULL, &now) == 0) {
		obstack_init(&o);
		display_folder(r->s, reg->dir, &o, &folder);
		display_group(r->s, &folder, reg_name(reg), &o, &g);
		for (size_t i = 0; i < g.len; i++)
			if (hash_compare(&g.files[i].hash, &h) == 0 && hash_compare(&now.hash, &h) != 0) {
				local_write(r->s, reg->dir, g.files[i].name, &now, NULL);
				break;
			}
		h = now.hash;
		attrs_fini(&now.attrs);
		group_fini(&g);
		obstack_free(&o, NULL);
	}
	content_take(r, dirfd, name, &h);
}

/* Before anything is taken for a user's doing: what was lifted stands where it
 * is noted, and what had come there already waits in its place.  Where a directory
 * came, it stays, unless it is empty and nobody knows of it yet, and what was lifted
 * is placed anew. */
static int
restore_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct recovery *q = arg;
	struct reg *reg = state_reg_in(q->r->s, dir_num, name);
	struct disk_dir *dd = reg ? disk_of(reg->dir) : NULL;
	int fd = dd ? disk_fd(&q->r->disk, dd) : -1;
	struct stat st;

	(void)seq;
	for (uint32_t i = 0; fd >= 0 && i < reg->files_len; i++) {
		struct reg_file *f = &reg->files[i];
		struct moving *m = recover_find_moving(q, f->stamp.ino);

		if (!m)
			continue;
		state_touch_reg(q->r->s, reg);
		if (fstatat(fd, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
		    (disk_find(&q->r->disk, st.st_ino) || unlinkat(fd, f->name, AT_REMOVEDIR) < 0)) {
			recover_stage_noted(q->r, reg, q->r->moving_fd, m->name, f);
			m->ino = 0;
			reg_file_forget(reg, f->name);
			state_reg_noted(q->r->s, reg);
			i--;
		} else if (renameat2(q->r->moving_fd, m->name, fd, f->name, RENAME_NOREPLACE) == 0) {
			m->ino = 0;
		} else if (fstatat(fd, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    renameat2(q->r->moving_fd, m->name, fd, f->name, RENAME_EXCHANGE) == 0) {
			m->ino = st.st_ino;
		}
	}
	return 0;
}

static void
check_dirs(struct recovery *q)
{
	struct disk_dir *dd, *tmp;

	HASH_ITER(hh, q->r->disk.dirs, dd, tmp) {
		const struct moving *m = recover_find_moving(q, dd->ino);

		if (!m)
			continue;
		dd->lifted = true;
		for (size_t i = 0; i < dd->ids_len; i++)
			state_touch_dir(q->r->s, dd->ids[i]);
	}
}

/* Known, and not here: nothing of it shows until its content comes. */
static void
unshow(struct replica *r, struct reg *reg)
{
	reg->pending = mem_alloc(sizeof(*reg->pending));
	*reg->pending = reg->shown;
	reg->shown = (struct regval){ 0 };
	while (reg->files_len)
		reg_file_forget(reg, reg->files[0].name);
	state_reg_changed(r->s, reg);
	if (content_ready(r, reg, 0))
		view_defer(r, reg);
}

/* A name, and those that its siblings have, as far as they stand on disk. */
static void
reconcile_name_and_siblings(struct replica *r, struct disk_dir *dd, const char *name)
{
	int fd = disk_fd(&r->disk, dd);
	size_t len = strlen(name), n = 0;
	char **names = NULL;
	struct dirent *de;
	DIR *dir;

	local_reconcile_name(r, dd, name);
	fd = fd < 0 ? fd : openat(fd, ".", DIR_FLAGS);
	if (fd < 0 || !(dir = fdopendir(fd)))
		return;
	while ((de = readdir(dir)))
		if (strncmp(de->d_name, name, len) == 0 &&
		    strncmp(de->d_name + len, STATE_SEP, strlen(STATE_SEP)) == 0) {
			names = mem_resize(names, n + 1, sizeof(*names));
			names[n++] = mem_str(de->d_name);
		}
	closedir(dir);
	for (size_t i = 0; i < n; i++) {
		local_reconcile_name(r, dd, names[i]);
		free(names[i]);
	}
	free(names);
}

static int
check_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct recovery *q = arg;
	struct reg *reg = state_reg_in(q->r->s, dir_num, name);
	struct disk_dir *dd = reg ? disk_of(reg->dir) : NULL;
	int fd = dd ? disk_fd(&q->r->disk, dd) : -1;
	struct stat st;

	(void)seq;
	if (!reg || fd < 0)
		return 0;
	if (reg->pending)
		reconcile_name_and_siblings(q->r, dd, reg_name(reg));
	for (uint32_t i = 0; i < reg->files_len; i++) {
		struct reg_file *f = &reg->files[i];
		const struct moving *m;
		bool stands = fstatat(fd, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0;

		if (stands && !S_ISDIR(st.st_mode))
			continue;
		m = recover_find_moving(q, f->stamp.ino);
		if (m && renameat2(q->r->moving_fd, m->name, fd, f->name, RENAME_NOREPLACE) == 0) {
			state_touch_reg(q->r->s, reg);
		} else if (q->r->restored && !reg->pending && reg->files_len == 1) {
			unshow(q->r, reg);
			return 0;
		} else if (q->r->restored) {
			reg_file_forget(reg, f->name);
			state_reg_noted(q->r->s, reg);
			state_touch_reg(q->r->s, reg);
			i--;
		} else if (reg->pending) {
			/* It made way for what is pending. */
			reg_file_forget(reg, f->name);
			state_reg_noted(q->r->s, reg);
			i--;
		} else {
			/* Removed by a user, as far as can be known. */
			char *gone = mem_str(f->name);

			if (!stands)
				local_gone(q->r, dd, gone);
			if (reg_file_find(reg, gone)) {
				/* It shows under another name by now. */
				reg_file_forget(reg, gone);
				state_reg_noted(q->r->s, reg);
				state_touch_reg(q->r->s, reg);
				reconcile_name_and_siblings(q->r, dd, reg_name(reg));
			}
			free(gone);
			return 0;
		}
	}
	return 0;
}

/* ---- looking at what the journal names ---- */

static struct disk_dir *
entry_dir(struct recovery *q, const char *line, const char **name)
{
	char *end;
	ino_t dir = (ino_t)strtoull(line, &end, 16);
	struct disk_dir *dd = *end == ' ' ? disk_find(&q->r->disk, dir) : NULL;

	*name = end + 1;
	return dd && dd->ids_len && !dd->lifted ? dd : NULL;
}

/* A directory goes with what is in it, once all are known that went. */
static bool
shows_dir(struct replica *r, struct disk_dir *dd, const char *name)
{
	struct seen q;
	bool shows;

	local_seen_open(r, dd, name, &q);
	shows = !q.e && q.g.dirs.len;
	local_seen_close(&q);
	return shows;
}

/* What was written by a name that stands for it no more, and was not told, stands under
 * its other names, which the mount may not have known. */
static void
look_at_links(struct replica *r, struct disk_dir *dd, const char *name, ino_t now)
{
	struct links q = { .len = 0 };
	const struct reg_file *known;
	struct reg *owner;
	struct seen seen;

	local_seen_open(r, dd, name, &seen);
	known = local_seen_file(&seen, name, &owner);
	if (known && known->stamp.ino && known->stamp.ino != now)
		local_links_noted(r, owner, name, &known->hash, known->stamp.ino, &q);
	local_seen_close(&seen);
	for (size_t i = 0; i < q.len; i++) {
		struct disk_dir *other = disk_find(&r->disk, q.l[i].dir);

		if (!other || !other->ids_len)
			continue;
		local_reconcile_name(r, other, q.l[i].name);
		local_attrs_at(r, other, q.l[i].name);
	}
	local_links_free(&q);
}

enum entry { ENTRY_DIR, ENTRY_OTHER, ENTRY_GONE };

static void
each_entry(struct recovery *q, enum entry which)
{
	for (const char *p = q->text; p < q->text + q->len; p += strlen(p) + 1) {
		const char *name;
		struct disk_dir *dd = entry_dir(q, p, &name);
		int fd = dd && *name ? disk_fd(&q->r->disk, dd) : -1;
		struct stat st;
		enum entry is;

		if (fd < 0)
			continue;
		is = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? ENTRY_GONE :
		    S_ISDIR(st.st_mode) ? ENTRY_DIR : ENTRY_OTHER;
		if (is != which)
			continue;
		look_at_links(q->r, dd, name, is == ENTRY_GONE ? 0 : st.st_ino);
		if (is != ENTRY_GONE)
			local_reconcile_name(q->r, dd, name);
		else if (!shows_dir(q->r, dd, name))
			local_gone(q->r, dd, name);
	}
}

/* Is nothing amiss but what users did since the last commit? */
static bool
journal_suffices(const struct recovery *q)
{
	return q->r->same_boot && !q->r->restored && !q->moving_len && !q->parted && !q->r->s->touched_dirs.len &&
	    !(q->len && strcmp(q->text, JOURNAL_CUT) == 0);
}

static void
follow_journal(struct recovery *q)
{
	/* Directories first, as files may stand where they did; what was moved is
	 * found at its new place before it is missed at the old. */
	each_entry(q, ENTRY_DIR);
	each_entry(q, ENTRY_OTHER);
	each_entry(q, ENTRY_GONE);
	index_regs_pending(q->r->x, check_row, q);
	index_regs_in_conflict(q->r->x, check_row, q);
}

static int
compare_attrs_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct recovery *q = arg;
	struct reg *reg = state_reg_in(q->r->s, dir_num, name);

	(void)seq;
	for (uint32_t i = 0; reg && disk_of(reg->dir) && i < reg->files_len; i++) {
		char *file = mem_str(reg->files[i].name);

		local_attrs_at(q->r, disk_of(reg->dir), file);
		free(file);
	}
	return 0;
}

/* The journal may have lost its end together with the machine. */
static void
compare_all_attrs(struct recovery *q)
{
	struct disk_dir *dd, *tmp;

	index_regs_since(q->r->x, 0, SIZE_MAX, compare_attrs_row, q);
	HASH_ITER(hh, q->r->disk.dirs, dd, tmp)
		if (dd->up && dd->ids_len && dd->up->ids_len)
			local_attrs_at(q->r, dd->up, dd->name);
}

static bool
was_touched(void *arg, ino_t dir, const char *name)
{
	return recover_in_journal(arg, dir, name);
}

static void
look_at_all(struct recovery *q)
{
	log_info("looking at the whole tree");
	if (q->moving_len)
		index_regs_since(q->r->x, 0, SIZE_MAX, restore_row, q);
	/* What the journal says may be of another time than the index. */
	local_reconcile_touched(q->r, q->r->disk.root, q->r->restored ? NULL : was_touched, q);
	index_regs_since(q->r->x, 0, SIZE_MAX, check_row, q);
}

/* What users set there is in the journal, too, and moves nothing that is noted. */
static void
compare_attrs(struct recovery *q)
{
	for (const char *p = q->text; p < q->text + q->len; p += strlen(p) + 1) {
		const char *name;
		struct disk_dir *dd = entry_dir(q, p, &name);

		if (dd && *name)
			local_attrs_at(q->r, dd, name);
	}
}

static void
drop_moving(void *arg, const char *name)
{
	struct replica *r = arg;
	struct disk_dir *dd, *tmp;
	struct stat st;

	if (fstatat(r->moving_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	dd = S_ISDIR(st.st_mode) ? disk_find(&r->disk, st.st_ino) : NULL;
	if (dd && dd->lifted)
		return;
	if (S_ISDIR(st.st_mode) && unlinkat(r->moving_fd, name, AT_REMOVEDIR) == 0)
		return;
	HASH_ITER(hh, r->disk.dirs, dd, tmp)
		if (dd->lifted)
			return;		/* it may belong there */
	trash_take(r, r->moving_fd, name, name);
}

void
replica_recovered(struct replica *r)
{
	disk_each_entry(r->moving_fd, drop_moving, r);
}

void
replica_recover(struct replica *r)
{
	struct recovery q = { .r = r };
	struct timespec now;
	bool journal;

	if (!r->restored)
		log_info("the last stop was not clean: looking at what changed since");
	clock_gettime(CLOCK_REALTIME, &now);
	r->s->now = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	read_journal(&q);
	disk_each_entry(r->moving_fd, add_moving, &q);
	recover_part_dirs(&q);
	check_dirs(&q);
	recover_unite_dirs(&q);
	journal = journal_suffices(&q);
	if (recover_settle_dirs(&q) && journal)
		follow_journal(&q);
	else
		look_at_all(&q);
	if (!r->restored && r->same_boot)
		compare_attrs(&q);
	else if (!r->restored)
		compare_all_attrs(&q);
	for (struct journal_line *l = q.lines, *next; l; l = next) {
		next = l->hh.next;
		HASH_DEL(q.lines, l);
		free(l);
	}
	free(q.text);
	free(q.moving);
	replica_commit(r);
}
