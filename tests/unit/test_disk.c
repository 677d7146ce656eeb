/*
 * Files of the store as they are opened to be read: whatever took their place.
 */
#include "config.h"

#include "replication/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/test-disk.XXXXXX";
static const char *const names[] = { "file", "dir", "fifo", "link", "to-dir" };

static int
setup(void **state)
{
	int fd;

	(void)state;
	if (!mkdtemp(path) || chdir(path) < 0 || (fd = open("file", O_CREAT | O_WRONLY, 0600)) < 0)
		return -1;
	close(fd);
	return mkdir("dir", 0700) || mkfifo("fifo", 0600) || symlink("file", "link") || symlink("dir", "to-dir");
}

static int
teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (unlink(names[i]) < 0)
			rmdir(names[i]);
	return rmdir(path);
}

static void
test_a_regular_file_is_opened(void **state)
{
	int fd = disk_open_file(AT_FDCWD, "file");
	char c;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(read(fd, &c, 1), 0);
	close(fd);
}

static void
expect_refused(const char *name, int err)
{
	errno = 0;
	assert_int_equal(disk_open_file(AT_FDCWD, name), -1);
	assert_int_equal(errno, err);
}

static void
test_what_took_its_place_is_not(void **state)
{
	(void)state;
	expect_refused("dir", ENOENT);
	expect_refused("fifo", ENOENT);
	expect_refused("none", ENOENT);
	expect_refused("link", ELOOP);
	expect_refused("to-dir", ELOOP);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_regular_file_is_opened),
		cmocka_unit_test(test_what_took_its_place_is_not),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
