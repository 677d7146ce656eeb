/*
 * Comparing a store with its index, name by name.
 */
#include "config.h"

#include "replication/replica_doctor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "replication/clock.h"
#include "replication/local_impl.h"
#include "replication/take.h"

#define PATHS_MAX 1000

/* A name that is gone: to be taken in after all that was found, what stood in a
 * directory before the directory. */
struct gone {
	uint64_t dir;		/* inode */
	unsigned depth;		/* of the directory that is gone; files go first */
	char *name;
};

struct findings {
	struct replica *r;
	json_t *changed, *missing, *unknown;
	uint64_t changed_n, missing_n, unknown_n;
	uint64_t registers, files, directories, unreadable, marks, pending;
	struct gone *gone;
	size_t gone_len;
};

/* ---- saying where ---- */

static char *
path_of(const struct disk_dir *dd, const char *name)
{
	char *path = mem_str(name);

	for (; dd && dd->up; dd = dd->up) {
		char *longer = mem_printf("%s/%s", dd->name, path);

		free(path);
		path = longer;
	}
	return path;
}

static void
found(json_t *list, uint64_t *n, const struct disk_dir *dd, const char *name)
{
	json_t *text;
	char *path;

	if ((*n)++ >= PATHS_MAX)
		return;
	path = path_of(dd, name);
	text = json_string(path);
	/* JSON is UTF-8; other bytes are not told. */
	for (char *p = path; !text && *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	json_array_append_new(list, text ? text : json_string(path));
	free(path);
}

/* ---- what stands on disk ---- */

static void
check_mark(struct findings *q, const struct reg *reg, int fd, const char *name, const struct stat *st,
    const struct hash *h)
{
	struct disk_mark m;
	bool same = false;
	int rc = S_ISREG(st->st_mode) ? disk_mark_read(fd, name, st, &m) : -ENODATA;

	if (rc == -ENODATA)
		return;		/* one that cannot carry it */
	for (uint32_t i = 0; rc == 0 && i < reg->shown.len; i++)
		same |= dot_equal(reg->shown.v[i].dot, m.dot) && hash_compare(&reg->shown.v[i].hash, h) == 0;
	q->marks += !same;
	if (rc == 0)
		vv_fini(&m.ctx);
}

static void
check_file(struct findings *q, struct disk_dir *dd, int fd, const char *name, const struct stat *st)
{
	struct reg_file *known;
	struct reg *owner;
	struct seen seen;

	q->files++;
	local_seen_open(q->r, dd, name, &seen);
	known = local_seen_file(&seen, name, &owner);
	if (!known)
		found(q->unknown, &q->unknown_n, dd, name);
	else if (!local_stamp_same(&known->stamp, st))
		found(q->changed, &q->changed_n, dd, name);
	else
		check_mark(q, owner, fd, name, st, &known->hash);
	local_seen_close(&seen);
}

static void	 check_dir(struct findings *q, struct disk_dir *dd);

static void
check_entry(struct findings *q, struct disk_dir *dd, int fd, const char *name)
{
	struct disk_dir *sub;
	struct stat st;

	if ((dd == q->r->disk.root && strcmp(name, ".sibfs") == 0) ||
	    fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != q->r->dev ||
	    ignore_at(q->r, dd, name, S_ISDIR(st.st_mode)))
		return;
	if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) {
		check_file(q, dd, fd, name, &st);
		return;
	}
	if (!S_ISDIR(st.st_mode))
		return;
	q->directories++;
	sub = disk_find(&q->r->disk, st.st_ino);
	if (!sub || !sub->ids_len)
		found(q->unknown, &q->unknown_n, dd, name);
	else if (sub->up != dd || strcmp(sub->name, name) != 0)
		found(q->changed, &q->changed_n, dd, name);
	else
		check_dir(q, sub);
}

static void
check_dir(struct findings *q, struct disk_dir *dd)
{
	int fd = disk_fd(&q->r->disk, dd);
	struct dirent *de;
	DIR *dir;

	fd = fd >= 0 ? openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((de = readdir(dir)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			check_entry(q, dd, dirfd(dir), de->d_name);
	closedir(dir);
}

/* ---- what the index has ---- */

static void
missing(struct findings *q, struct disk_dir *dd, const char *name, bool is_dir)
{
	unsigned depth = 0;

	found(q->missing, &q->missing_n, dd, name);
	for (const struct disk_dir *x = dd; x; x = x->up)
		depth++;
	q->gone = mem_resize(q->gone, q->gone_len + 1, sizeof(*q->gone));
	q->gone[q->gone_len++] = (struct gone){ dd->ino, is_dir ? depth : UINT_MAX, mem_str(name) };
}

static int
deepest_first(const void *a, const void *b)
{
	unsigned x = ((const struct gone *)a)->depth, y = ((const struct gone *)b)->depth;

	return (x < y) - (x > y);
}

static int
check_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct findings *q = arg;
	struct reg *reg = state_reg_in(q->r->s, dir_num, name);
	struct disk_dir *dd = reg ? disk_of(reg->dir) : NULL;
	int fd = dd ? disk_fd(&q->r->disk, dd) : -1;
	struct stat st;

	(void)seq;
	q->registers++;
	if (!reg) {
		q->unreadable++;
		return 0;
	}
	q->pending += reg->pending != NULL;
	for (uint32_t i = 0; i < reg->files_len && dd; i++)
		if (fd < 0 || fstatat(fd, reg->files[i].name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			missing(q, dd, reg->files[i].name, false);
	if (q->registers % 1000 == 0)
		state_trim(q->r->s, 50000);
	return 0;
}

static void
check_missing_dirs(struct findings *q)
{
	for (struct disk_dir *dd = q->r->disk.dirs; dd; dd = dd->hh.next) {
		int fd = dd->up ? disk_fd(&q->r->disk, dd->up) : -1;
		struct stat st;

		if (dd->up && (fd < 0 || fstatat(fd, dd->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != dd->ino))
			missing(q, dd->up, dd->name, true);
	}
}

/* ---- leftovers ---- */

struct heap {
	int dirfd;
	json_int_t files, bytes;
};

static void
count_entry(void *arg, const char *name)
{
	struct heap *h = arg;
	struct stat st;

	if (fstatat(h->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	h->files++;
	h->bytes += S_ISREG(st.st_mode) ? st.st_size : 0;
}

static json_t *
heap_of(int dirfd)
{
	struct heap h = { .dirfd = dirfd };

	disk_each_entry(dirfd, count_entry, &h);
	return json_pack("{s:I,s:I}", "files", h.files, "bytes", h.bytes);
}

/* ---- taking it in ---- */

static void
adopt_all(struct findings *q)
{
	struct replica *r = q->r;

	r->s->now = (uint64_t)clock_wall_ns();
	/* What was moved is found at its new place before it is missed at the old. */
	local_reconcile(r, r->disk.root, NULL, NULL);
	if (q->gone_len)
		qsort(q->gone, q->gone_len, sizeof(*q->gone), deepest_first);
	for (size_t i = 0; i < q->gone_len; i++) {
		const struct gone *g = &q->gone[i];
		struct disk_dir *dd = disk_find(&r->disk, g->dir);
		int fd = dd && dd->ids_len ? disk_fd(&r->disk, dd) : -1;
		struct stat st;

		if (dd && dd->ids_len && (fd < 0 || fstatat(fd, g->name, &st, AT_SYMLINK_NOFOLLOW) < 0))
			local_gone(r, dd, g->name);
	}
	replica_commit(r);
	view_update(r);
	replica_commit(r);
}

/* ---- all of it ---- */

static json_t *
report(struct findings *q, const char *index, bool adopt)
{
	struct replica *r = q->r;
	uint64_t amiss = q->changed_n + q->missing_n + q->unknown_n, bytes;
	json_t *conflicts = report_conflicts(r), *out;
	bool healthy = strcmp(index, "ok") == 0 && !q->unreadable && (adopt || !amiss);

	out = json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:O,s:O,s:O,s:I,s:I,s:I,s:I,s:I,s:b}", "store", r->path, "node",
	    r->node, "index", index, "unreadable", (json_int_t)q->unreadable, "registers", (json_int_t)q->registers,
	    "files", (json_int_t)q->files, "directories", (json_int_t)q->directories, "changed", q->changed, "missing",
	    q->missing, "unknown", q->unknown, "marks", (json_int_t)q->marks, "pending", (json_int_t)q->pending,
	    "wanted", (json_int_t)content_wanted(r, &bytes), "conflicts", (json_int_t)json_array_size(conflicts),
	    "adopted", (json_int_t)(adopt ? amiss : 0), "healthy", healthy);
	json_object_set_new(out, "staging", heap_of(r->staging_fd));
	json_object_set_new(out, "moving", heap_of(r->moving_fd));
	json_object_set_new(out, "trash", heap_of(r->trash_fd));
	json_decref(conflicts);
	return out;
}

char *
replica_doctor(struct replica *r, bool adopt)
{
	struct findings q = { .r = r, .changed = json_array(), .missing = json_array(), .unknown = json_array() };
	char index[256] = "";
	json_t *out;
	char *text;

	index_check(r->x, index, sizeof(index));
	index_regs_since(r->x, 0, SIZE_MAX, check_row, &q);
	check_missing_dirs(&q);
	check_dir(&q, r->disk.root);
	if (adopt)
		adopt_all(&q);
	out = report(&q, index, adopt);
	text = json_dumps(out, JSON_COMPACT);
	json_decref(out);
	json_decref(q.changed);
	json_decref(q.missing);
	json_decref(q.unknown);
	for (size_t i = 0; i < q.gone_len; i++)
		free(q.gone[i].name);
	free(q.gone);
	return text;
}
