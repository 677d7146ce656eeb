/*
 * What files hold: writes, sizes, holes, copies.
 */
#include "config.h"

#include "tests/posix/posix.h"

#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>

static bool
is_zero(int fd, off_t from, size_t length)
{
	char *buf = malloc(length);
	bool zero = pread(fd, buf, length, from) == (ssize_t)length;

	for (size_t i = 0; zero && i < length; i++)
		zero = buf[i] == 0;
	free(buf);
	return zero;
}

static off_t
size_at(int fd)
{
	struct stat st;

	must(fstat(fd, &st));
	return st.st_size;
}

static void
writes(void)
{
	int fd = (int)must(open("w", O_RDWR | O_CREAT, 0644)), app;
	struct iovec v[2] = { { (void *)"ab", 2 }, { (void *)"cd", 2 } };
	char buf[16] = "";

	claim(pwrite(fd, "end", 3, 100000) == 3 && size_at(fd) == 100003, "a write far out makes the file long");
	claim(size_of("w") == 100003, "by its name, too");
	claim(is_zero(fd, 0, 100000), "and zero before");
	must(ftruncate(fd, 0));
	claim(writev(fd, v, 2) == 4 && lseek(fd, 0, SEEK_CUR) == 4 && holds("w", "abcd"), "writev");
	app = (int)must(open("w", O_WRONLY | O_APPEND));
	must(pwrite(fd, "XY", 2, 4));
	claim(write(app, "ef", 2) == 2 && lseek(app, 0, SEEK_CUR) == 8, "O_APPEND writes at the end as it is then");
	claim(pwrite(app, "g", 1, 0) == 1 && holds("w", "abcdXYefg"), "pwrite with O_APPEND, too");
	must(ftruncate(fd, 2));
	claim(write(app, "h", 1) == 1 && holds("w", "abh"), "and after it was cut");
	close(app);
	must(fcntl(fd, F_SETFL, O_APPEND));
	must(lseek(fd, 0, SEEK_SET));
	claim(write(fd, "i", 1) == 1 && holds("w", "abhi"), "O_APPEND may be set later");
	must(fcntl(fd, F_SETFL, 0));
	claim(pwrite(fd, "A", 1, 0) == 1 && holds("w", "Abhi"), "and be taken away");
	claim(pread(fd, buf, 10, 2) == 2 && pread(fd, buf, 10, 4) == 0 && pread(fd, buf, 10, 99) == 0, "reads end at the end");
	claim(fsync(fd) == 0 && fdatasync(fd) == 0, "fsync, fdatasync");
	close(fd);
	fd = (int)must(open("w", O_WRONLY | O_TRUNC | O_APPEND));
	claim(size_of("w") == 0 && write(fd, "new", 3) == 3 && holds("w", "new"), "O_TRUNC empties");
	close(fd);
	fd = (int)must(open("w", O_RDWR | O_SYNC));
	claim(write(fd, "old", 3) == 3 && holds("w", "old"), "O_SYNC");
	close(fd);
}

struct appender {
	char letter;
	int rounds;
};

static int
append_lines(void *arg)
{
	const struct appender *a = arg;
	char line[64];
	int fd = open("lines", O_WRONLY | O_APPEND);

	memset(line, a->letter, sizeof line);
	line[63] = '\n';
	for (int i = 0; i < a->rounds; i++)
		if (write(fd, line, sizeof line) != sizeof line)
			return 1;
	close(fd);
	return 0;
}

static void
appending_together(void)
{
	struct appender a = { 'a', 500 }, b = { 'b', 500 };
	char line[64];
	int fd = (int)must(open("lines", O_RDONLY | O_CREAT, 0644)), whole = 0;
	pid_t pid = (pid_t)must(fork());

	if (pid == 0)
		_exit(append_lines(&b));
	append_lines(&a);
	must(waitpid(pid, NULL, 0));
	while (read(fd, line, sizeof line) == sizeof line)
		whole += line[63] == '\n' && memchr(line, line[0] == 'a' ? 'b' : 'a', 63) == NULL;
	claim(whole == 1000 && size_at(fd) == 64000, "two processes that append lose nothing");
	close(fd);
}

static void
sizes(void)
{
	int fd = (int)must(open("t", O_RDWR | O_CREAT, 0644));
	char buf[9000];

	memset(buf, 'x', sizeof buf);
	must(write(fd, buf, sizeof buf));
	must(ftruncate(fd, 5000));
	must(ftruncate(fd, 9000));
	claim(is_zero(fd, 5000, 4000), "what was cut off comes back as zeros");
	must(truncate("t", 4097));
	claim(size_at(fd) == 4097, "truncate by name shows in a descriptor");
	must(truncate("t", 1 << 20));
	claim(size_at(fd) == 1 << 20 && is_zero(fd, 4097, 60000), "upwards, with zeros");
	must(ftruncate(fd, INT64_C(1) << 40));
	claim(size_at(fd) == INT64_C(1) << 40, "a file of a terabyte takes no room");
	claim(pwrite(fd, "e", 1, (INT64_C(1) << 40) - 1) == 1 && pread(fd, buf, 2, (INT64_C(1) << 40) - 1) == 1,
	    "and is written at its end");
	must(ftruncate(fd, 0));
	claim(size_of("t") == 0, "truncated to nothing");
	close(fd);
}

static void
holes(void)
{
	int fd = (int)must(open("h", O_RDWR | O_CREAT, 0644));
	char buf[65536];
	blkcnt_t blocks;
	struct stat st;

	memset(buf, 'x', sizeof buf);
	must(pwrite(fd, buf, sizeof buf, 1 << 20));
	claim(lseek(fd, 0, SEEK_DATA) == 1 << 20, "SEEK_DATA finds data");
	claim(lseek(fd, 0, SEEK_HOLE) == 0, "SEEK_HOLE a hole");
	claim(lseek(fd, 1 << 20, SEEK_HOLE) == (1 << 20) + 65536, "and the end");
	refused(lseek(fd, (1 << 20) + 65536, SEEK_DATA), ENXIO, "at the end there is no data");
	refused(lseek(fd, (1 << 20) + 65536, SEEK_HOLE), ENXIO, "nor a hole");
	must(fstat(fd, &st));
	claim(st.st_blocks * 512 <= 65536 + 8192, "holes take no room");
	works(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (1 << 20) + 4096, 8192), "a hole is punched");
	claim(is_zero(fd, (1 << 20) + 4096, 8192) && size_at(fd) == (1 << 20) + 65536, "and reads as zeros");
	claim(lseek(fd, 1 << 20, SEEK_HOLE) == (1 << 20) + 4096, "and is found");
	works(fallocate(fd, FALLOC_FL_ZERO_RANGE, (1 << 20) + 20000, 10), "a range is zeroed");
	claim(is_zero(fd, (1 << 20) + 20000, 10) && pread(fd, buf, 1, (1 << 20) + 20010) == 1 && buf[0] == 'x', "and no more");
	works(fallocate(fd, FALLOC_FL_ZERO_RANGE, (1 << 20) + 65530, 100), "beyond the end");
	claim(size_at(fd) == (1 << 20) + 65630, "which moves it");
	must(fstat(fd, &st));
	blocks = st.st_blocks;
	works(fallocate(fd, FALLOC_FL_KEEP_SIZE, 2 << 20, 1 << 20), "room is set aside");
	must(fstat(fd, &st));
	claim(st.st_size == (1 << 20) + 65630 && st.st_blocks > blocks, "without a new size");
	works(fallocate(fd, 0, 0, 4 << 20), "fallocate");
	claim(size_at(fd) == 4 << 20 && is_zero(fd, 3 << 20, 1 << 20), "makes a file long, of zeros");
	works(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) ? -1 : 0, "posix_fadvise");
	close(fd);
}

static void
copies(void)
{
	int a = (int)must(open("ca", O_RDWR | O_CREAT, 0644)), b = (int)must(open("cb", O_RDWR | O_CREAT, 0644));
	off_t from = 2, to = 5;
	int p[2];
	char buf[32] = "";

	must(write(a, "0123456789", 10));
	claim(copy_file_range(a, &from, b, &to, 4, 0) == 4 && from == 6 && to == 9, "copy_file_range");
	claim(size_at(b) == 9 && pread(b, buf, 9, 0) == 9 && memcmp(buf, "\0\0\0\0\0002345", 9) == 0, "copies what was asked");
	from = 10, to = 0;
	claim(copy_file_range(a, &from, b, &to, 4, 0) == 0, "nothing at the end");
	from = 0, to = 20;
	claim(copy_file_range(a, &from, a, &to, 10, 0) == 10 && size_at(a) == 30, "within a file");
	from = 0, to = 5;
	refused(copy_file_range(a, &from, a, &to, 10, 0), EINVAL, "not over itself");
	refused(copy_file_range(a, NULL, b, NULL, 4, 1), EINVAL, "flags are refused");
	from = 0;
	must(ftruncate(b, 0));
	must(lseek(b, 0, SEEK_SET));
	claim(sendfile(b, a, &from, 10) == 10 && holds("cb", "0123456789"), "sendfile");
	must(pipe(p));
	from = 3;
	claim(splice(a, &from, p[1], NULL, 4, 0) == 4 && read(p[0], buf, 10) == 4 && memcmp(buf, "3456", 4) == 0, "splice out");
	must(write(p[1], "spliced", 7));
	to = 0;
	claim(splice(p[0], NULL, b, &to, 7, 0) == 7 && holds("cb", "spliced789"), "splice in");
	close(a);
	close(b);
}

static void
direct(void)
{
	int fd = open("direct", O_RDWR | O_CREAT | O_DIRECT, 0644), fd2;
	void *p = NULL;
	char *buf;

	claim(fd >= 0, "O_DIRECT opens");
	if (fd < 0 || posix_memalign(&p, 4096, 65536) != 0)
		return;
	buf = p;
	memset(buf, 'd', 65536);
	works(pwrite(fd, buf, 65536, 0), "O_DIRECT writes 64 KiB");
	memset(buf, 'e', 4096);
	works(pwrite(fd, buf, 4096, 8192), "and 4 KiB within");
	works(pwrite(fd, buf, 512, 512), "and 512 bytes");
	fd2 = (int)must(open("direct", O_RDWR));
	claim(pread(fd2, buf, 16384, 0) == 16384 && buf[0] == 'd' && buf[512] == 'e' && buf[1024] == 'd' &&
	    buf[8192] == 'e' && buf[12288] == 'd', "a plain read sees them");
	must(pwrite(fd2, "plain", 5, 100));
	claim(pread(fd, buf, 4096, 0) == 4096 && memcmp(buf + 100, "plain", 5) == 0, "and sees plain writes");
	claim(pread(fd, buf, 65536, 61440) == 4096, "a read ends at the end");
	works(pwrite(fd, buf, 4096, 1 << 20), "a hole is left");
	claim(size_of("direct") == (1 << 20) + 4096, "and the size is right");
	close(fd2);
	works(fcntl(fd, F_SETFL, 0), "O_DIRECT is taken away");
	works(pwrite(fd, buf, 4096, 0), "and it is written");
	works(fcntl(fd, F_SETFL, O_DIRECT), "and set");
	close(fd);
	free(p);
}

void
group_data(void)
{
	writes();
	appending_together();
	sizes();
	holes();
	copies();
	direct();
}
