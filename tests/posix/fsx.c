/*
 * Random operations on one file, checked byte by byte against a copy in memory:
 * reads and writes by descriptor and by mapping, sizes up and down, holes,
 * ranges zeroed, moved, copied, O_DIRECT, O_APPEND, closing and opening again.
 *
 *	fsx FILE SEED OPERATIONS
 *
 * The same seed does the same.  On a difference the last operations are told.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	SIZE_MAX_BYTES = 512 * 1024,	/* no file gets longer */
	LENGTH_MAX = 96 * 1024,		/* nor one operation */
	BLOCK = 4096,
	REMEMBERED = 40,
};

static struct {
	const char *path;
	int fd;
	off_t size;
	unsigned char *want;		/* SIZE_MAX_BYTES */
	unsigned char *buf;		/* LENGTH_MAX + BLOCK, aligned */
	uint64_t seed;
	unsigned char next;
	bool direct;
	char told[REMEMBERED][96];
	unsigned long ops;
} f;

static uint64_t
random_below(uint64_t n)
{
	f.seed ^= f.seed << 13;
	f.seed ^= f.seed >> 7;
	f.seed ^= f.seed << 17;
	return (f.seed * UINT64_C(2685821657736338717) >> 16) % n;
}

static void __attribute__((noreturn, format(printf, 1, 2)))
give_up(const char *fmt, ...)
{
	unsigned long from = f.ops > REMEMBERED ? f.ops - REMEMBERED : 0;
	va_list ap;

	for (unsigned long i = from; i < f.ops; i++)
		printf("%lu: %s\n", i, f.told[i % REMEMBERED]);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	exit(1);
}

static void __attribute__((format(printf, 1, 2)))
tell(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f.told[f.ops++ % REMEMBERED], sizeof *f.told, fmt, ap);
	va_end(ap);
}

static void
check(const unsigned char *got, off_t from, size_t length, const char *how)
{
	for (size_t i = 0; i < length; i++)
		if (got[i] != f.want[from + (off_t)i])
			give_up("%s: byte %jd is %02x, should be %02x", how, (intmax_t)from + (intmax_t)i, got[i],
			    f.want[from + (off_t)i]);
}

static void
check_size(void)
{
	struct stat st;

	if (fstat(f.fd, &st) < 0 || st.st_size != f.size)
		give_up("fstat: the size is %jd, should be %jd", (intmax_t)st.st_size, (intmax_t)f.size);
	if (stat(f.path, &st) < 0 || st.st_size != f.size)
		give_up("stat: the size is %jd, should be %jd", (intmax_t)st.st_size, (intmax_t)f.size);
}

/* A range that may reach over the end. */
static void
choose(off_t *from, size_t *length, off_t within)
{
	*from = (off_t)random_below((uint64_t)within);
	*length = 1 + random_below(random_below(4) == 0 ? LENGTH_MAX : 9000);
	if (random_below(3) == 0) {
		*from -= *from % BLOCK;
		*length += BLOCK - 1 - (*length - 1) % BLOCK;
	}
	if (*length > LENGTH_MAX)
		*length = LENGTH_MAX;
	if (*from + (off_t)*length > SIZE_MAX_BYTES)
		*length = (size_t)(SIZE_MAX_BYTES - *from);
}

static void
fill(size_t length)
{
	f.next++;
	for (size_t i = 0; i < length; i++)
		f.buf[i] = (unsigned char)(f.next + i * 7 + (i >> 8));
}

/* What is beyond the size is kept zero. */
static void
set_size(off_t size)
{
	if (size < f.size)
		memset(f.want + size, 0, (size_t)(f.size - size));
	f.size = size;
}

static void
grow_to(off_t end)
{
	if (end > f.size)
		f.size = end;
}

static void
do_write(void)
{
	size_t length;
	off_t from;

	choose(&from, &length, SIZE_MAX_BYTES);
	if (f.direct) {
		from -= from % BLOCK;
		length -= length % BLOCK;
		if (length == 0)
			return;
	}
	tell("write %jd+%zu", (intmax_t)from, length);
	fill(length);
	if (pwrite(f.fd, f.buf, length, from) != (ssize_t)length)
		give_up("write: %s", strerror(errno));
	memcpy(f.want + from, f.buf, length);
	grow_to(from + (off_t)length);
}

static void
do_append(void)
{
	size_t length = 1 + random_below(5000);
	int fd;

	if (f.size + (off_t)length > SIZE_MAX_BYTES)
		return;
	tell("append %zu at %jd", length, (intmax_t)f.size);
	fill(length);
	fd = open(f.path, O_WRONLY | O_APPEND);
	if (fd < 0 || write(fd, f.buf, length) != (ssize_t)length)
		give_up("append: %s", strerror(errno));
	close(fd);
	memcpy(f.want + f.size, f.buf, length);
	f.size += (off_t)length;
}

static void
do_read(void)
{
	size_t length, whole;
	off_t from;

	choose(&from, &length, SIZE_MAX_BYTES);
	if (f.direct) {
		from -= from % BLOCK;
		length += BLOCK - 1 - (length - 1) % BLOCK;
	}
	tell("read %jd+%zu", (intmax_t)from, length);
	whole = from >= f.size ? 0 : from + (off_t)length > f.size ? (size_t)(f.size - from) : length;
	if (pread(f.fd, f.buf, length, from) != (ssize_t)whole)
		give_up("read: not %zu bytes: %s", whole, strerror(errno));
	check(f.buf, from, whole, "read");
}

static void
do_map(bool writes)
{
	size_t length;
	off_t from, start;
	unsigned char *p;

	if (f.size == 0)
		return;
	choose(&from, &length, f.size);
	if (from + (off_t)length > f.size)
		length = (size_t)(f.size - from);
	start = from - from % BLOCK;
	tell("map %s %jd+%zu", writes ? "write" : "read", (intmax_t)from, length);
	p = mmap(NULL, length + (size_t)(from - start), writes ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, f.fd, start);
	if (p == MAP_FAILED)
		give_up("mmap: %s", strerror(errno));
	if (writes) {
		fill(length);
		memcpy(p + (from - start), f.buf, length);
		memcpy(f.want + from, f.buf, length);
		if (random_below(2) == 0 && msync(p, length + (size_t)(from - start), MS_SYNC) < 0)
			give_up("msync: %s", strerror(errno));
	} else {
		check(p + (from - start), from, length, "mapping");
	}
	munmap(p, length + (size_t)(from - start));
}

static void
do_truncate(void)
{
	off_t size = (off_t)random_below(SIZE_MAX_BYTES);

	tell("truncate %jd to %jd", (intmax_t)f.size, (intmax_t)size);
	if ((random_below(2) ? ftruncate(f.fd, size) : truncate(f.path, size)) < 0)
		give_up("truncate: %s", strerror(errno));
	set_size(size);
}

/* What the file system does not know is not asked again. */
static bool
allocate(int mode, const char *name, off_t from, size_t length)
{
	static uint64_t unknown;		/* modes, by bit: they are below 64 */

	if ((unknown & UINT64_C(1) << mode) != 0)
		return false;
	tell("%s %jd+%zu", name, (intmax_t)from, length);
	if (fallocate(f.fd, mode, from, (off_t)length) == 0)
		return true;
	if (errno != EOPNOTSUPP)
		give_up("%s: %s", name, strerror(errno));
	unknown |= UINT64_C(1) << mode;
	printf("# %s is not known here\n", name);
	return false;
}

static void
do_allocate(void)
{
	bool keep = random_below(2) == 0;
	size_t length;
	off_t from;

	choose(&from, &length, SIZE_MAX_BYTES);
	switch (random_below(5)) {
	case 0:
		if (allocate(keep ? FALLOC_FL_KEEP_SIZE : 0, "fallocate", from, length) && !keep)
			grow_to(from + (off_t)length);
		break;
	case 1:
		if (allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, "punch", from, length))
			memset(f.want + from, 0, length);
		break;
	case 2:
		if (!allocate(FALLOC_FL_ZERO_RANGE | (keep ? FALLOC_FL_KEEP_SIZE : 0), "zero", from, length))
			break;
		memset(f.want + from, 0, length);
		if (!keep)
			grow_to(from + (off_t)length);
		break;
	case 3:
		from -= from % BLOCK;
		length += BLOCK - 1 - (length - 1) % BLOCK;
		if (from + (off_t)length >= f.size || !allocate(FALLOC_FL_COLLAPSE_RANGE, "collapse", from, length))
			break;
		memmove(f.want + from, f.want + from + length, (size_t)(f.size - from) - length);
		set_size(f.size - (off_t)length);
		break;
	case 4:
		from -= from % BLOCK;
		length += BLOCK - 1 - (length - 1) % BLOCK;
		if (from >= f.size || f.size + (off_t)length > SIZE_MAX_BYTES ||
		    !allocate(FALLOC_FL_INSERT_RANGE, "insert", from, length))
			break;
		memmove(f.want + from + length, f.want + from, (size_t)(f.size - from));
		memset(f.want + from, 0, length);
		f.size += (off_t)length;
		break;
	}
}

static void
do_copy(void)
{
	size_t length;
	off_t from, to;
	ssize_t n;

	if (f.size == 0 || f.direct)
		return;
	choose(&from, &length, f.size);
	to = (off_t)random_below(SIZE_MAX_BYTES);
	if (from + (off_t)length > f.size)
		length = (size_t)(f.size - from);
	if (to + (off_t)length > SIZE_MAX_BYTES || (from < to + (off_t)length && to < from + (off_t)length))
		return;
	tell("copy %jd+%zu to %jd", (intmax_t)from, length, (intmax_t)to);
	n = copy_file_range(f.fd, &(off_t){ from }, f.fd, &(off_t){ to }, length, 0);
	if (n <= 0)
		give_up("copy_file_range: %s", strerror(errno));
	memmove(f.want + to, f.want + from, (size_t)n);
	grow_to(to + n);
}

/* Data and holes: what is said to be a hole must be zero. */
static void
do_seek(void)
{
	off_t from = f.size ? (off_t)random_below((uint64_t)f.size) : 0, data;

	tell("seek %jd", (intmax_t)from);
	fsync(f.fd);	/* what is mapped may be unknown below until then */
	data = lseek(f.fd, from, SEEK_DATA);
	if (data < 0 && errno != ENXIO)
		give_up("SEEK_DATA: %s", strerror(errno));
	if (data < 0)
		data = f.size;
	for (off_t i = from; i < data && i < f.size; i++)
		if (f.want[i] != 0)
			give_up("SEEK_DATA from %jd finds %jd, but %jd is data", (intmax_t)from, (intmax_t)data, (intmax_t)i);
}

static void
do_reopen(void)
{
	f.direct = random_below(6) == 0;
	tell("open again%s", f.direct ? " with O_DIRECT" : "");
	close(f.fd);
	f.fd = open(f.path, O_RDWR | (f.direct ? O_DIRECT : 0));
	if (f.fd < 0)
		give_up("open: %s", strerror(errno));
}

static void
do_sync(void)
{
	tell("sync");
	if (random_below(2) ? fsync(f.fd) : fdatasync(f.fd))
		give_up("fsync: %s", strerror(errno));
	if (random_below(2))
		posix_fadvise(f.fd, 0, 0, POSIX_FADV_DONTNEED);
}

static void
step(void)
{
	switch (random_below(20)) {
	case 0: case 1: case 2: case 3: do_write(); break;
	case 4: case 5: case 6: do_read(); break;
	case 7: case 8: do_map(false); break;
	case 9: case 10: do_map(true); break;
	case 11: do_truncate(); break;
	case 12: case 13: case 14: do_allocate(); break;
	case 15: do_copy(); break;
	case 16: do_append(); break;
	case 17: do_seek(); break;
	case 18: do_reopen(); break;
	case 19: do_sync(); break;
	}
	check_size();
}

int
main(int argc, char **argv)
{
	unsigned char *all;
	void *p = NULL;
	int fd;

	if (argc != 4) {
		fprintf(stderr, "usage: fsx FILE SEED OPERATIONS\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	f.path = argv[1];
	f.seed = strtoull(argv[2], NULL, 10) * UINT64_C(0x9e3779b97f4a7c15) | 1;
	f.want = calloc(1, SIZE_MAX_BYTES);
	all = malloc(SIZE_MAX_BYTES);
	if (f.want == NULL || all == NULL || posix_memalign(&p, BLOCK, LENGTH_MAX + BLOCK) != 0)
		return 1;
	f.buf = p;
	f.fd = open(f.path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (f.fd < 0)
		give_up("open: %s", strerror(errno));
	for (unsigned long n = strtoul(argv[3], NULL, 10); n > 0; n--)
		step();
	close(f.fd);
	fd = open(f.path, O_RDONLY);
	if (fd < 0 || read(fd, all, SIZE_MAX_BYTES) != f.size)
		give_up("the whole file is not read");
	check(all, 0, (size_t)f.size, "the whole file");
	printf("%lu operations, %jd bytes\n", f.ops, (intmax_t)f.size);
	free(f.want);
	free(f.buf);
	free(all);
	return 0;
}
