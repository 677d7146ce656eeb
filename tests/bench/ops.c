/*
 * One row of the benchmark: does one kind of operation in a directory, many
 * times, and prints the seconds that it took.  What it needs it makes first,
 * outside the time; what it made it leaves, except where removing is the row.
 *
 *	ops ROW DIRECTORY [MEBIBYTES [FILES]]
 */
#include "config.h"

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { KIB = 1024, MIB = 1024 * 1024, SMALL = 4 * KIB, RANDOM = 20000, PASSES = 4 };

static size_t size = 64 * (size_t)MIB;
static int files = 2000;
static char block[MIB];

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
check(bool ok, const char *what)
{
	if (!ok)
		err(1, "%s", what);
}

static int
big(int flags)
{
	int fd = open("big", flags | O_CREAT, 0644);

	check(fd >= 0, "big");
	return fd;
}

static void
fill(size_t step)
{
	int fd = big(O_WRONLY);

	for (size_t at = 0; at < size; at += step)
		check(write(fd, block, step) == (ssize_t)step, "write");
	check(close(fd) == 0, "close");
}

static void
make_big(void)
{
	struct stat st;

	if (stat("big", &st) < 0 || (size_t)st.st_size != size)
		fill(MIB);
}

static void
drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);

	sync();
	check(fd >= 0 && write(fd, "1", 1) == 1, "drop_caches");
	close(fd);
}

static void
read_all(size_t step)
{
	int fd = big(O_RDONLY);

	while (read(fd, block, step) > 0)
		continue;
	close(fd);
}

static off_t
any_block(unsigned *seed)
{
	return (off_t)((size_t)rand_r(seed) % (size / SMALL) * SMALL);
}

static void
read_random(void)
{
	unsigned seed = 1;
	int fd = big(O_RDONLY);

	for (int i = 0; i < RANDOM; i++)
		check(pread(fd, block, SMALL, any_block(&seed)) == SMALL, "pread");
	close(fd);
}

static void
write_random(void)
{
	unsigned seed = 2;
	int fd = big(O_WRONLY);

	for (int i = 0; i < RANDOM; i++)
		check(pwrite(fd, block, SMALL, any_block(&seed)) == SMALL, "pwrite");
	check(close(fd) == 0, "close");
}

static void
read_mapped(void)
{
	int fd = big(O_RDONLY);
	volatile uint64_t sum = 0;
	const char *p = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

	check(p != MAP_FAILED, "mmap");
	for (size_t at = 0; at < size; at += KIB)
		sum += (uint64_t)p[at];
	munmap((void *)p, size);
	close(fd);
}

static const char *
numbered(const char *what, int i)
{
	static char name[64];

	snprintf(name, sizeof name, "%s%05d", what, i);
	return name;
}

/* Opens, reads or writes, and closes each small file. */
static void
each_small(int flags, size_t n)
{
	for (int i = 0; i < files; i++) {
		int fd = open(numbered("small", i), flags, 0644);

		check(fd >= 0, "open");
		if ((flags & O_ACCMODE) == O_RDONLY)
			check(read(fd, block, n) >= 0, "read");
		else
			check(write(fd, block, n) == (ssize_t)n, "write");
		check(close(fd) == 0, "close");
	}
}

static void
make_small(void)
{
	if (access("small00000", F_OK) < 0)
		each_small(O_WRONLY | O_CREAT, SMALL);
}

static void
stat_small(const char *prefix)
{
	struct stat st;

	for (int i = 0; i < files; i++)
		stat(numbered(prefix, i), &st);
}

static int
list(bool and_stat)
{
	DIR *d = opendir(".");
	struct dirent *e;
	struct stat st;
	int n = 0;

	check(d != NULL, "opendir");
	while ((e = readdir(d)) != NULL) {
		n++;
		if (and_stat)
			lstat(e->d_name, &st);
	}
	closedir(d);
	return n;
}

static void
rename_small(void)
{
	char to[64];

	for (int i = 0; i < files; i++) {
		snprintf(to, sizeof to, "moved%05d", i);
		check(rename(numbered("small", i), to) == 0, "rename");
	}
}

static void
unlink_small(void)
{
	for (int i = 0; i < files; i++)
		check(unlink(numbered("moved", i)) == 0, "unlink");
}

static void
make_moved(void)
{
	if (access("moved00000", F_OK) < 0) {
		make_small();
		rename_small();
	}
}

/* Each row: what is made before, and what is timed. */
static void nothing(void) { }
static void drop_big(void) { make_big(); drop_caches(); }
static void warm_big(void) { make_big(); read_all(MIB); }
static void no_big(void) { unlink("big"); }
static void warm_small(void) { make_small(); stat_small("small"); }
static void warm_list(void) { make_small(); list(true); list(false); }

static void seqr1m(void) { read_all(MIB); }
static void seqr4k(void) { read_all(SMALL); }
static void seqw1m(void) { fill(MIB); }
static void seqw4k(void) { fill(SMALL); }
static void create(void) { each_small(O_WRONLY | O_CREAT | O_EXCL, SMALL); }
static void open_read(void) { each_small(O_RDONLY, SMALL); }
static void open_write(void) { each_small(O_WRONLY, 100); }
static void stat_once(void) { stat_small("small"); }
static void stat_warm(void) { for (int i = 0; i < PASSES; i++) stat_small("small"); }
static void stat_none(void) { for (int i = 0; i < PASSES; i++) stat_small("none"); }
static void readdir_warm(void) { for (int i = 0; i < PASSES; i++) list(false); }
static void ls_l(void) { list(true); }

static const struct row {
	const char *name;
	void (*before)(void), (*timed)(void);
} rows[] = {
	{ "seqw1M", no_big, seqw1m },
	{ "overw1M", make_big, seqw1m },
	{ "seqw4K", no_big, seqw4k },
	{ "randw4K", warm_big, write_random },
	{ "seqr1M", warm_big, seqr1m },
	{ "seqr1M-drop", drop_big, seqr1m },
	{ "seqr4K", warm_big, seqr4k },
	{ "randr4K", warm_big, read_random },
	{ "mmapr", warm_big, read_mapped },
	{ "create4K", nothing, create },
	{ "stat-first", make_small, stat_once },
	{ "openread", warm_small, open_read },
	{ "openwr100", warm_small, open_write },
	{ "stat-warm", warm_small, stat_warm },
	{ "stat-none", nothing, stat_none },
	{ "ls-l", make_small, ls_l },
	{ "readdir", warm_list, readdir_warm },
	{ "rename", warm_small, rename_small },
	{ "unlink", make_moved, unlink_small },
};

int
main(int argc, char **argv)
{
	double start;

	if (argc < 3)
		errx(1, "usage: ops ROW DIRECTORY [MEBIBYTES [FILES]]");
	if (argc > 3)
		size = strtoul(argv[3], NULL, 10) * MIB;
	if (argc > 4)
		files = atoi(argv[4]);
	for (size_t i = 0; i < sizeof block; i++)
		block[i] = (char)(i * 131 + i / 251);
	check(chdir(argv[2]) == 0, argv[2]);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (strcmp(rows[i].name, argv[1]) != 0)
			continue;
		rows[i].before();
		start = now();
		rows[i].timed();
		printf("%.6f\n", now() - start);
		return 0;
	}
	errx(1, "no row %s", argv[1]);
}
