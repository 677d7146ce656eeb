/*
 * Marks that hide that they were set.  At the end stand, as varints, ctime as it
 * was shown before, in nanoseconds after mtime (zigzag), and the time of
 * setting, in milliseconds after that ctime (zigzag); last a byte that says how
 * long these two are.
 */
#include "config.h"

#include "replication/mark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

/* A mark that was set at T leaves a ctime in [T, T + MARK_WINDOW]. */
#define MARK_WINDOW (20 * MS)

/* The clock of inodes is behind ours by less than that. */
#define COARSE (12 * MS)

enum { TRIES = 3 };

static int64_t
ns_of(struct timespec t)
{
	return t.tv_sec * SECOND + t.tv_nsec;
}

static struct timespec
time_of(int64_t ns)
{
	return (struct timespec){ .tv_sec = ns / SECOND, .tv_nsec = ns % SECOND };
}

static int64_t
clock_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return ns_of(t);
}

static uint64_t
zigzag(int64_t n)
{
	return (uint64_t)n << 1 ^ (uint64_t)(n >> 63);
}

static int64_t
unzigzag(uint64_t n)
{
	return (int64_t)(n >> 1) ^ -(int64_t)(n & 1);
}

void
mark_fixed(struct mark *m, uint64_t n)
{
	for (int i = 0; i < 8 && m->len < sizeof(m->p); i++)
		m->p[m->len++] = (uint8_t)(n >> (8 * i));
}

void
mark_varint(struct mark *m, uint64_t n)
{
	for (; n >= 0x80 && m->len < sizeof(m->p); n >>= 7)
		m->p[m->len++] = (uint8_t)(n | 0x80);
	if (m->len < sizeof(m->p))
		m->p[m->len++] = (uint8_t)n;
}

static bool
read_varint(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
	uint64_t n = 0;

	for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
		uint8_t b = *(*p)++;

		n |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80)) {
			*out = n;
			return true;
		}
	}
	return false;
}

static void
add_times(struct mark *m, const struct stat *shown, int64_t now)
{
	int64_t ctime = ns_of(shown->st_ctim);
	size_t before = m->len;

	mark_varint(m, zigzag(ctime - ns_of(shown->st_mtim)));
	mark_varint(m, zigzag(now / MS - ctime / MS));
	m->p[m->len] = (uint8_t)(m->len - before);
	m->len++;
}

bool
mark_is_set(const struct mark *body, const char *path)
{
	uint8_t now[MARK_MAX];
	ssize_t n = lgetxattr(path, MARK_XATTR, now, sizeof(now));

	return n > (ssize_t)body->len && n == (ssize_t)body->len + now[n - 1] + 1 && memcmp(now, body->p, body->len) == 0;
}

int
mark_set(const struct mark *body, const char *path, const struct stat *shown)
{
	struct stat st;

	if (body->len + MARK_TAIL > sizeof(body->p)) {
		lremovexattr(path, MARK_XATTR);	/* half a vector is worse than none */
		return -E2BIG;
	}
	for (int i = 0; i < TRIES; i++) {
		int64_t now = clock_ns(CLOCK_REALTIME_COARSE) / MS * MS, is;
		struct mark m = *body;

		add_times(&m, shown, now);
		if (lsetxattr(path, MARK_XATTR, m.p, m.len, 0) < 0 || lstat(path, &st) < 0)
			return -errno;
		is = ns_of(st.st_ctim);
		if (is >= now && is <= now + MARK_WINDOW)
			return 0;
	}
	lremovexattr(path, MARK_XATTR);
	return -EAGAIN;
}

/* getxattr(2) of an O_PATH descriptor. */
static ssize_t
read_mark(int fd, uint8_t *out, size_t size)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return getxattr(path, MARK_XATTR, out, size);
}

/* When the mark was set, and the ctime that it hides.  False: it hides none. */
static bool
read_times(int fd, const struct stat *st, int64_t *set, int64_t *hidden)
{
	uint8_t value[MARK_MAX];
	const uint8_t *p, *end;
	uint64_t after_mtime, ms;
	ssize_t n = read_mark(fd, value, sizeof(value));

	if (n < 2 || (value[0] != MARK_FILE && value[0] != MARK_DIR) || value[n - 1] > n - 2)
		return false;
	end = value + n - 1;
	p = end - value[n - 1];
	if (!read_varint(&p, end, &after_mtime) || !read_varint(&p, end, &ms))
		return false;
	if (__builtin_add_overflow(ns_of(st->st_mtim), unzigzag(after_mtime), hidden) ||
	    __builtin_add_overflow(*hidden / MS, unzigzag(ms), set) || __builtin_mul_overflow(*set, MS, set))
		return false;
	return true;
}

static bool
may_be_marked(const struct stat *st)
{
	/* What was just written has equal times; a mark comes later. */
	return (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)) && ns_of(st->st_ctim) != ns_of(st->st_mtim);
}

void
mark_show(int fd, struct stat *st)
{
	int64_t set, hidden, is = ns_of(st->st_ctim);

	if (!may_be_marked(st) || !read_times(fd, st, &set, &hidden))
		return;
	if (is < set || is - set > MARK_WINDOW || hidden < 0)
		return;
	st->st_ctim = time_of(hidden);
}

static bool
is_recent(const struct stat *st)
{
	return may_be_marked(st) && clock_ns(CLOCK_REALTIME) - ns_of(st->st_ctim) < 2 * MARK_WINDOW;
}

void
mark_wait(int fd)
{
	int64_t set, hidden, left;
	struct timespec pause;
	struct stat st;

	if (fstatat(fd, "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 || !is_recent(&st) ||
	    !read_times(fd, &st, &set, &hidden))
		return;
	left = set + MARK_WINDOW + COARSE - clock_ns(CLOCK_REALTIME);
	if (left <= 0 || left > 2 * MARK_WINDOW)
		return;
	pause = time_of(left);
	nanosleep(&pause, NULL);
}

void
mark_drop_recent(int dirfd, const char *name, const struct stat *before)
{
	char path[32];
	int fd;

	if (!is_recent(before) || (fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	removexattr(path, MARK_XATTR);
	close(fd);
}

uint64_t
mark_stamp(const struct stat *st)
{
	uint64_t v[3] = { st->st_ino, (uint64_t)st->st_size, (uint64_t)ns_of(st->st_mtim) };

	return XXH3_64bits(v, sizeof(v));
}

static uint64_t
fixed_at(const uint8_t *p)
{
	uint64_t n = 0;

	for (int i = 0; i < 8; i++)
		n |= (uint64_t)p[i] << (8 * i);
	return n;
}

bool
mark_holds(int fd)
{
	uint8_t p[MARK_MAX];
	struct stat st;
	ssize_t n = read_mark(fd, p, sizeof(p));

	if (n < 17 || fstat(fd, &st) < 0)
		return false;
	if (S_ISDIR(st.st_mode))
		return (p[0] == MARK_DIR || p[0] == 2) && fixed_at(p + 1) == st.st_ino;
	/* The register's key comes first. */
	return S_ISREG(st.st_mode) && (p[0] == MARK_FILE || p[0] == 1) && fixed_at(p + 9) == mark_stamp(&st);
}
