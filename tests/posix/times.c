/*
 * Which operation moves which time of what, and times that are set.
 */
#include "config.h"

#include "tests/posix/posix.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/xattr.h>

static bool
later(struct timespec a, struct timespec b)
{
	return b.tv_sec > a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec > a.tv_nsec);
}

static bool
equal(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Which of mtime and ctime have moved since, as "m", "c", "mc" or "". */
static const char *
moved(const struct stat *before, const char *path)
{
	struct stat now = stat_of(path);
	bool m = !equal(before->st_mtim, now.st_mtim), c = later(before->st_ctim, now.st_ctim);

	return m && c ? "mc" : m ? "m" : c ? "c" : "";
}

/* What the call moves of `path` and of the directory it stands in. */
#define moves(call, what, path, of_path, of_dir) do {					\
	struct stat b1, b2;								\
	const char *m1, *m2;								\
	tick();										\
	b1 = stat_of(path);								\
	b2 = stat_of("d");								\
	tick();										\
	must(call);									\
	m1 = moved(&b1, path);								\
	m2 = moved(&b2, "d");								\
	claim(strcmp(m1, of_path) == 0, "%s moves %s of %s", what, *of_path ? of_path : "nothing", path);	\
	claim(strcmp(m2, of_dir) == 0, "%s moves %s of the directory", what, *of_dir ? of_dir : "nothing");	\
} while (0)

static int
write_to(const char *path)
{
	int fd = open(path, O_WRONLY);
	int rc = (int)pwrite(fd, "xyz", 3, 0);

	close(fd);
	return rc;
}

static int
truncate_open(const char *path, off_t size)
{
	int fd = open(path, O_WRONLY);
	int rc = ftruncate(fd, size);

	close(fd);
	return rc;
}

static int
map_and_write(const char *path)
{
	int fd = open(path, O_RDWR), rc;
	char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	p[1]++;
	rc = msync(p, 4096, MS_SYNC);
	munmap(p, 4096);
	close(fd);
	return rc;
}

static int
fallocate_in(const char *path, int mode)
{
	int fd = open(path, O_WRONLY);
	int rc = fallocate(fd, mode, 0, 20000);

	close(fd);
	return rc;
}

static void
by_operation(void)
{
	must(mkdir("d", 0755));
	put("d/f", "text", 0644);
	moves(write_to("d/f"), "write", "d/f", "mc", "");
	moves(truncate("d/f", 2), "truncate", "d/f", "mc", "");
	moves(truncate_open("d/f", 1), "ftruncate", "d/f", "mc", "");
	moves(truncate_open("d/f", 10000), "ftruncate upwards", "d/f", "mc", "");
	moves(truncate_open("d/f", 10000), "ftruncate to the same size", "d/f", "mc", "");
	moves(close(open("d/f", O_WRONLY)), "open without writing", "d/f", "", "");
	moves(close(open("d/f", O_WRONLY | O_TRUNC)), "O_TRUNC", "d/f", "mc", "");
	moves(close(open("d/f", O_WRONLY | O_TRUNC)), "O_TRUNC of an empty file", "d/f", "mc", "");
	moves(fallocate_in("d/f", 0), "fallocate", "d/f", "mc", "");
	moves(fallocate_in("d/f", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), "punching a hole", "d/f", "mc", "");
	moves(map_and_write("d/f"), "a mapping", "d/f", "mc", "");
	moves(chmod("d/f", 0600), "chmod", "d/f", "c", "");
	moves(chmod("d/f", 0600), "chmod to the same", "d/f", "c", "");
	moves(chown("d/f", geteuid(), getegid()), "chown", "d/f", "c", "");
	moves(setxattr("d/f", "user.a", "1", 1, 0), "setxattr", "d/f", "c", "");
	moves(removexattr("d/f", "user.a"), "removexattr", "d/f", "c", "");
	moves(link("d/f", "d/l"), "link", "d/f", "c", "mc");
	moves(unlink("d/l"), "unlink of another name", "d/f", "c", "mc");
	moves(rename("d/f", "d/g"), "rename", "d", "mc", "mc");
	moves(rename("d/g", "d/f"), "rename back", "d", "mc", "mc");
	put("d/h", "text", 0644);
	moves(rename("d/h", "d/i"), "rename of another", "d/f", "", "mc");
	moves(renameat2(AT_FDCWD, "d/i", AT_FDCWD, "d/f", RENAME_EXCHANGE), "RENAME_EXCHANGE", "d", "mc", "mc");
	moves(rename("d/i", "d/f"), "a rename over it", "d", "mc", "mc");
	moves(close(open("d/new", O_CREAT | O_RDWR, 0644)), "open(O_CREAT)", "d/f", "", "mc");
	moves(mkdir("d/e", 0755), "mkdir", "d/f", "", "mc");
	moves(rmdir("d/e"), "rmdir", "d/f", "", "mc");
	moves(mkfifo("d/fifo", 0644), "mkfifo", "d/f", "", "mc");
	moves(symlink("x", "d/s"), "symlink", "d/f", "", "mc");
	moves(unlink("d/s"), "unlink", "d/f", "", "mc");
	moves(chmod("d", 0700), "chmod of it", "d/f", "", "c");
	moves(mkdir("d", 0755) + 1, "what fails", "d/f", "", "");
	moves(open("d/f", O_CREAT | O_EXCL, 0644) + 1, "open(O_EXCL)", "d/f", "", "");
}

static void
of_two_directories(void)
{
	struct stat a, b, sub;

	must(mkdir("a", 0755));
	must(mkdir("b", 0755));
	must(mkdir("a/sub", 0755));
	a = stat_of("a"), b = stat_of("b"), sub = stat_of("a/sub");
	tick();
	must(rename("a/sub", "b/sub"));
	claim(strcmp(moved(&a, "a"), "mc") == 0 && strcmp(moved(&b, "b"), "mc") == 0, "a move moves both directories' times");
	claim(later(sub.st_ctim, stat_of("b/sub").st_ctim), "and what was moved has a new ctime");
}

static bool
has_mtime(const char *path, long sec, long nsec)
{
	struct stat st = stat_of(path);

	return st.st_mtim.tv_sec == sec && st.st_mtim.tv_nsec == nsec;
}

static bool
has_atime(const char *path, long sec, long nsec)
{
	struct stat st = stat_of(path);

	return st.st_atim.tv_sec == sec && st.st_atim.tv_nsec == nsec;
}

static void
set_times(const char *path, int flags)
{
	struct timespec t[2] = { { 1000000001, 123456789 }, { 1000000002, 987654321 } };
	struct stat st;

	works(utimensat(AT_FDCWD, path, t, flags), "times of %s are set", path);
	claim(has_atime(path, 1000000001, 123456789) && has_mtime(path, 1000000002, 987654321),
	    "to the nanosecond, of %s", path);
	t[0].tv_nsec = UTIME_OMIT;
	t[1] = (struct timespec){ 1000000003, 1 };
	must(utimensat(AT_FDCWD, path, t, flags));
	claim(has_atime(path, 1000000001, 123456789) && has_mtime(path, 1000000003, 1), "UTIME_OMIT keeps atime of %s", path);
	t[0] = (struct timespec){ 1000000004, 4 };
	t[1].tv_nsec = UTIME_OMIT;
	must(utimensat(AT_FDCWD, path, t, flags));
	claim(has_atime(path, 1000000004, 4) && has_mtime(path, 1000000003, 1), "UTIME_OMIT keeps mtime of %s", path);
	t[0].tv_nsec = UTIME_OMIT;
	st = stat_of(path);
	tick();
	must(utimensat(AT_FDCWD, path, t, flags));
	claim(equal(st.st_mtim, stat_of(path).st_mtim) && equal(st.st_atim, stat_of(path).st_atim),
	    "both omitted change nothing of %s", path);
	t[0].tv_nsec = t[1].tv_nsec = UTIME_NOW;
	must(utimensat(AT_FDCWD, path, t, flags));
	claim(later(st.st_ctim, stat_of(path).st_mtim), "UTIME_NOW is now, for %s", path);
	t[0] = t[1] = (struct timespec){ -5, 0 };
	must(utimensat(AT_FDCWD, path, t, flags));
	claim(has_mtime(path, -5, 0), "%s may be older than 1970", path);
	t[0] = t[1] = (struct timespec){ INT64_C(5000000000), 999999999 };
	must(utimensat(AT_FDCWD, path, t, flags));
	claim(has_mtime(path, 5000000000, 999999999), "%s may be newer than 2038", path);
	t[1].tv_nsec = 1000000000;
	refused(utimensat(AT_FDCWD, path, t, flags), EINVAL, "more nanoseconds than there are, for %s", path);
}

static void
times_stay(void)
{
	struct timespec t[2] = { { 1234567890, 5 }, { 1234567890, 5 } };
	int fd = (int)must(open("stay", O_RDWR | O_CREAT, 0644));
	struct stat st;

	must(write(fd, "x", 1));
	must(futimens(fd, t));
	must(fstat(fd, &st));
	claim(st.st_mtim.tv_sec == 1234567890 && st.st_mtim.tv_nsec == 5, "a time set while writing shows at once");
	close(fd);
	claim(has_mtime("stay", 1234567890, 5), "and after the file is closed");
	fd = (int)must(open("stay", O_RDONLY));
	must(read(fd, &st, 1));
	close(fd);
	claim(has_mtime("stay", 1234567890, 5), "reading does not move mtime");
	must(rename("stay", "stay2"));
	claim(has_mtime("stay2", 1234567890, 5), "nor does a rename");
}

void
group_times(void)
{
	by_operation();
	of_two_directories();
	put("file", "x", 0644);
	must(mkdir("dir", 0755));
	must(symlink("file", "link"));
	must(mkfifo("fifo", 0644));
	set_times("file", 0);
	set_times("dir", 0);
	set_times("link", AT_SYMLINK_NOFOLLOW);
	set_times("fifo", 0);
	times_stay();
}
