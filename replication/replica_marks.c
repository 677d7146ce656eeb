/*
 * `user.sibfs` of files and directories: what the index says, repeated where it
 * belongs: for tools, for making a lost index anew, and to notice what was changed
 * behind the mount.  All of these do without, so it is set when there is nothing
 * else to do, and on what has rested for a moment: what is gone, renamed or
 * written again within that is not marked for nothing.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <utlist.h>
#include <xxhash.h>

#include "replication/local_impl.h"
#include "replication/mark.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

enum {
	REST_MS = 1500,
	WAITING_MAX = 20000,		/* more are marked at once: a stop marks all */
	AT_ONCE = 8,			/* while operations are held up */
	EACH_TURN = 256,
};

struct unmarked {
	struct unmarked *next, *prev;
	int64_t due_ms;
	ino_t dir;			/* of the file, or the directory itself */
	char name[];			/* empty: the directory itself */
};

static void
proc_path(int dirfd, const char *name, char *out, size_t size)
{
	snprintf(out, size, "/proc/self/fd/%d/%s", dirfd, name);
}

static void
add(struct replica *r, ino_t dir, const char *name)
{
	size_t size = strlen(name) + 1;
	struct unmarked *u = mem_alloc(sizeof(*u) + size);

	u->due_ms = replica_now_ms() + REST_MS;
	u->dir = dir;
	memcpy(u->name, name, size);
	DL_APPEND(r->unmarked, u);
	r->unmarked_len++;
}

void
marks_file(struct replica *r, const struct reg *reg, const char *name)
{
	const struct disk_dir *dd = disk_of(reg->dir);

	if (dd)
		add(r, dd->ino, name);
}

void
marks_dir(struct replica *r, const struct disk_dir *dd)
{
	/* What it says is still needed then. */
	if (!r->rebuilding)
		add(r, dd->ino, "");
}

/* ---- what stands in them ---- */

static void
put_vv(struct mark *m, const struct vv *v)
{
	mark_varint(m, v->len);
	for (uint32_t i = 0; i < v->len; i++) {
		mark_fixed(m, v->e[i].id);
		mark_varint(m, v->e[i].n);
	}
}

uint64_t
disk_mark_key(const struct identity *dir, const char *name)
{
	XXH3_state_t *x = XXH3_createState();
	uint64_t key;

	if (!x)
		return 0;
	XXH3_64bits_reset(x);
	XXH3_64bits_update(x, dir->b, sizeof(dir->b));
	XXH3_64bits_update(x, name, strlen(name));
	key = XXH3_64bits_digest(x);
	XXH3_freeState(x);
	return key;
}

/* What one stat of a file is shown as; 0 or -errno. */
static int
stat_shown(int dirfd, const char *name, struct stat *st)
{
	int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), rc;

	if (fd < 0)
		return -errno;
	rc = fstatat(fd, "", st, AT_EMPTY_PATH) < 0 ? -errno : 0;
	if (rc == 0)
		mark_show(fd, st);
	close(fd);
	return rc;
}

static const struct version *
version_of(const struct reg *reg, const struct hash *h)
{
	for (uint32_t i = reg->shown.len; i-- > 0;)
		if (hash_compare(&reg->shown.v[i].hash, h) == 0)
			return &reg->shown.v[i];
	return NULL;
}

static void
set(const struct mark *m, const char *path, const char *name, const struct stat *shown)
{
	int rc = mark_is_set(m, path) ? 0 : mark_set(m, path, shown);

	/* The index has it all; what cannot carry it is as good. */
	if (rc < 0)
		log_debug("%s: cannot set %s: %s", name, MARK_XATTR, strerror(-rc));
}

static void
mark_file(struct replica *r, struct disk_dir *dd, const char *name)
{
	int fd = disk_fd(&r->disk, dd);
	struct mark m = { .p = { MARK_FILE }, .len = 1 };
	const struct version *v = NULL;
	struct reg_file *f;
	struct reg *reg;
	struct stat st;
	struct seen q;
	char path[300];

	if (fd < 0 || !dd->ids_len || stat_shown(fd, name, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink > 1 ||
	    (!r->as_root && (st.st_uid != geteuid() || !(st.st_mode & 0200))))
		return;
	local_seen_open(r, dd, name, &q);
	f = local_seen_file(&q, name, &reg);
	/* Else it was written since, and comes again. */
	if (f && local_stamp_same(&f->stamp, &st))
		v = version_of(reg, &f->hash);
	if (v) {
		mark_fixed(&m, disk_mark_key(&reg->dir->id, reg_name(reg)));
		mark_fixed(&m, mark_stamp(&st));
		mark_fixed(&m, v->dot.id);
		mark_varint(&m, v->dot.n);
		put_vv(&m, &reg->shown.ctx);
		proc_path(fd, name, path, sizeof(path));
		set(&m, path, name, &st);
	}
	local_seen_close(&q);
}

static void
mark_dir(struct replica *r, struct disk_dir *dd)
{
	struct mark m = { .p = { MARK_DIR }, .len = 1 };
	int fd = disk_fd(&r->disk, dd);
	struct stat st;
	char path[300];

	if (fd < 0 || stat_shown(fd, ".", &st) < 0)
		return;
	mark_fixed(&m, dd->ino);
	mark_varint(&m, dd->ids_len);
	for (size_t i = 0; i < dd->ids_len && m.len + 16 + MARK_TAIL < sizeof(m.p); i++) {
		memcpy(m.p + m.len, dd->ids[i]->id.b, 16);
		m.len += 16;
	}
	if (dd->ids_len)
		put_vv(&m, &dd->ids[0]->val.ctx);
	proc_path(fd, ".", path, sizeof(path));
	set(&m, path, dd->name, &st);
}

/* ---- when ---- */

static void
mark_first(struct replica *r)
{
	struct unmarked *u = r->unmarked;
	struct disk_dir *dd = disk_find(&r->disk, u->dir);

	DL_DELETE(r->unmarked, u);
	r->unmarked_len--;
	if (dd && *u->name)
		mark_file(r, dd, u->name);
	else if (dd)
		mark_dir(r, dd);
	free(u);
}

bool
marks_due(const struct replica *r)
{
	return r->unmarked && (r->unmarked_len > WAITING_MAX || r->unmarked->due_ms <= replica_now_ms());
}

/* An operation between our look at ctime and the mark would not show: none
 * is under way meanwhile. */
void
marks_turn(struct replica *r, bool all)
{
	unsigned n = 0;

	while (all ? r->unmarked != NULL : marks_due(r) && (n < EACH_TURN || r->unmarked_len > WAITING_MAX)) {
		pthread_rwlock_wrlock(&r->view_lock);
		for (int i = 0; i < AT_ONCE && (all ? r->unmarked != NULL : marks_due(r)); i++, n++)
			mark_first(r);
		pthread_rwlock_unlock(&r->view_lock);
	}
}

void
marks_free(struct replica *r)
{
	struct unmarked *u, *next;

	DL_FOREACH_SAFE(r->unmarked, u, next)
		free(u);
	r->unmarked = NULL;
	r->unmarked_len = 0;
}

/* ---- reading it back; 1 and 2 are of a version before ---- */

struct reader {
	const uint8_t *p, *end;
	bool bad;
};

static uint64_t
read_fixed(struct reader *q)
{
	uint64_t n = 0;

	if (q->end - q->p < 8) {
		q->bad = true;
		return 0;
	}
	for (int i = 0; i < 8; i++)
		n |= (uint64_t)*q->p++ << (8 * i);
	return n;
}

static uint64_t
read_varint(struct reader *q)
{
	uint64_t n = 0;

	for (int i = 0; i < 64 && q->p < q->end; i += 7) {
		uint8_t b = *q->p++;

		n |= (uint64_t)(b & 0x7f) << i;
		if (!(b & 0x80))
			return n;
	}
	q->bad = true;
	return 0;
}

int
disk_mark_read(int dirfd, const char *name, const struct stat *st, struct disk_mark *out)
{
	uint8_t bytes[MARK_MAX];
	char path[300];
	struct reader q;
	uint64_t stamp, entries;
	ssize_t n;

	proc_path(dirfd, name, path, sizeof(path));
	n = lgetxattr(path, MARK_XATTR, bytes, sizeof(bytes));
	if (n <= 0)
		return n < 0 && errno != ENODATA ? -ESTALE : -ENODATA;
	q = (struct reader){ bytes + 1, bytes + n, bytes[0] != MARK_FILE && bytes[0] != 1 };
	*out = (struct disk_mark){ .key = read_fixed(&q) };
	stamp = read_fixed(&q);
	out->dot.id = read_fixed(&q);
	out->dot.n = read_varint(&q);
	entries = read_varint(&q);
	for (uint64_t i = 0; i < entries && !q.bad; i++) {
		struct dot d = { .id = read_fixed(&q) };

		d.n = read_varint(&q);
		if (d.id && d.n <= INT64_MAX)
			vv_raise(&out->ctx, d);
	}
	if (!q.bad && stamp == mark_stamp(st) && out->dot.id && out->dot.n && vv_covers(&out->ctx, out->dot))
		return 0;
	vv_fini(&out->ctx);
	return -ESTALE;
}

size_t
disk_mark_dirs(struct replica *r, struct disk_dir *dd, struct identity *out, size_t max)
{
	uint8_t bytes[MARK_MAX];
	char path[300];
	struct reader q;
	uint64_t len;
	size_t n = 0;
	ssize_t got;
	int fd = disk_fd(&r->disk, dd);

	if (fd < 0)
		return 0;
	proc_path(fd, "", path, sizeof(path));
	got = getxattr(path, MARK_XATTR, bytes, sizeof(bytes));
	if (got <= 0)
		return 0;
	q = (struct reader){ bytes + 1, bytes + got, bytes[0] != MARK_DIR && bytes[0] != 2 };
	if (read_fixed(&q) != dd->ino)
		return 0;
	for (len = read_varint(&q); n < len && n < max && !q.bad && q.end - q.p >= 16; n++, q.p += 16)
		memcpy(out[n].b, q.p, 16);
	return q.bad ? 0 : n;
}
