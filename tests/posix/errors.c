/*
 * What is refused, and with which error.
 */
#include "config.h"

#include "tests/posix/posix.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>

/* Every call that takes a path. */
static long
call_open(const char *p) { return open(p, O_RDONLY); }
static long
call_create(const char *p) { return open(p, O_RDWR | O_CREAT, 0644); }
static long
call_stat(const char *p) { struct stat st; return stat(p, &st); }
static long
call_mkdir(const char *p) { return mkdir(p, 0755); }
static long
call_mkfifo(const char *p) { return mkfifo(p, 0644); }
static long
call_symlink(const char *p) { return symlink("x", p); }
static long
call_link_from(const char *p) { return linkat(AT_FDCWD, p, AT_FDCWD, "new", AT_SYMLINK_FOLLOW); }
static long
call_link_to(const char *p) { return link("file", p); }
static long
call_rename_from(const char *p) { return rename(p, "new"); }
static long
call_rename_to(const char *p) { return rename("file", p); }
static long
call_unlink(const char *p) { return unlink(p); }
static long
call_rmdir(const char *p) { return rmdir(p); }
static long
call_chmod(const char *p) { return chmod(p, 0644); }
static long
call_chown(const char *p) { return chown(p, geteuid(), getegid()); }
static long
call_truncate(const char *p) { return truncate(p, 3); }
static long
call_utimes(const char *p) { return utimensat(AT_FDCWD, p, NULL, 0); }
static long
call_readlink(const char *p) { char b[9]; return readlink(p, b, sizeof b); }
static long
call_setxattr(const char *p) { return setxattr(p, "user.a", "1", 1, 0); }
static long
call_getxattr(const char *p) { char b[9]; return getxattr(p, "user.a", b, sizeof b); }
static long
call_access(const char *p) { return access(p, F_OK); }

static const struct call {
	const char *name;
	long (*run)(const char *path);
	bool makes;		/* the last name need not exist */
	bool follows;		/* a symbolic link as the last name */
} calls[] = {
	{ "open", call_open, false, true },
	{ "open(O_CREAT)", call_create, true, true },
	{ "stat", call_stat, false, true },
	{ "mkdir", call_mkdir, true, false },
	{ "mkfifo", call_mkfifo, true, false },
	{ "symlink", call_symlink, true, false },
	{ "link from", call_link_from, false, true },
	{ "link to", call_link_to, true, false },
	{ "rename from", call_rename_from, false, false },
	{ "rename to", call_rename_to, true, false },
	{ "unlink", call_unlink, false, false },
	{ "rmdir", call_rmdir, false, false },
	{ "chmod", call_chmod, false, true },
	{ "chown", call_chown, false, true },
	{ "truncate", call_truncate, false, true },
	{ "utimensat", call_utimes, false, true },
	{ "readlink", call_readlink, false, false },
	{ "setxattr", call_setxattr, false, true },
	{ "getxattr", call_getxattr, false, true },
	{ "access", call_access, false, true },
};

static void
bad_paths(void)
{
	char longest[257], path[4201] = "", below[300];

	memset(longest, 'n', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	for (int i = 0; i < 2100; i++)
		strcat(path, "./");
	snprintf(below, sizeof below, "%s/x", longest);
	put("file", "file", 0644);
	must(symlink("loop2", "loop1"));
	must(symlink("loop1", "loop2"));
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		const struct call *c = &calls[i];

		refused(c->run(longest), ENAMETOOLONG, "%s: a name of 256 bytes is too long", c->name);
		refused(c->run(below), ENAMETOOLONG, "%s: also as a directory", c->name);
		refused(c->run(path), ENAMETOOLONG, "%s: a path of 4200 bytes is too long", c->name);
		refused(c->run("file/x"), ENOTDIR, "%s: a file is no directory", c->name);
		refused(c->run("missing/x"), ENOENT, "%s: a missing directory", c->name);
		refused(c->run("loop1/x"), ELOOP, "%s: a loop of symbolic links", c->name);
		refused(c->run(""), ENOENT, "%s: an empty path", c->name);
		if (!c->makes)
			refused(c->run("missing"), ENOENT, "%s: a missing name", c->name);
		if (c->follows)
			refused(c->run("loop1"), ELOOP, "%s: a loop as the last name", c->name);
	}
	longest[255] = '\0';
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (calls[i].makes && calls[i].run != call_rename_to) {
			works(calls[i].run(longest), "%s: a name of 255 bytes is fine", calls[i].name);
			remove(longest);
		}
	unlink("loop1");
	unlink("loop2");
}

static void
what_exists(void)
{
	static const char *const kinds[] = { "a file", "a directory", "a link", "a dangling link", "a FIFO" };
	static const char *const names[] = { "file", "dir", "link", "dangling", "fifo" };

	must(mkdir("dir", 0755));
	must(symlink("file", "link"));
	must(symlink("nowhere", "dangling"));
	must(mkfifo("fifo", 0644));
	for (int i = 0; i < 5; i++) {
		refused(mkdir(names[i], 0755), EEXIST, "mkdir over %s", kinds[i]);
		refused(mkfifo(names[i], 0644), EEXIST, "mkfifo over %s", kinds[i]);
		refused(mknod(names[i], S_IFREG | 0644, 0), EEXIST, "mknod over %s", kinds[i]);
		refused(symlink("x", names[i]), EEXIST, "symlink over %s", kinds[i]);
		refused(link("file", names[i]), EEXIST, "link over %s", kinds[i]);
		refused(open(names[i], O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST, "O_EXCL over %s", kinds[i]);
		refused(renameat2(AT_FDCWD, "file", AT_FDCWD, names[i], RENAME_NOREPLACE), EEXIST,
		    "RENAME_NOREPLACE over %s", kinds[i]);
	}
	refused(link("dir", "new"), EPERM, "a directory has no second name");
	refused(unlink("dir"), EISDIR, "unlink of a directory");
	refused(rmdir("file"), ENOTDIR, "rmdir of a file");
	refused(rmdir("link"), ENOTDIR, "rmdir of a symbolic link");
	refused(rmdir("dir/."), EINVAL, "rmdir of .");
	refused(rmdir("dir/.."), ENOTEMPTY, "rmdir of ..");
	refused(rename("file", "dir"), EISDIR, "rename of a file over a directory");
	refused(rename("dir", "file"), ENOTDIR, "rename of a directory over a file");
	refused(rename("dir", "dir/below"), EINVAL, "rename of a directory into itself");
	refused(rename("dir/.", "new"), EBUSY, "rename of .");
	must(mkdir("full", 0755));
	put("full/x", "x", 0644);
	refused(rmdir("full"), ENOTEMPTY, "rmdir of what is not empty");
	refused(rename("dir", "full"), ENOTEMPTY, "rename over what is not empty");
	refused(renameat2(AT_FDCWD, "file", AT_FDCWD, "missing", RENAME_EXCHANGE), ENOENT,
	    "RENAME_EXCHANGE with what is missing");
	refused(renameat2(AT_FDCWD, "dir", AT_FDCWD, "full", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL,
	    "RENAME_EXCHANGE without replacing");
	refused(renameat2(AT_FDCWD, "full", AT_FDCWD, "full/x", RENAME_EXCHANGE), EINVAL,
	    "RENAME_EXCHANGE with what is in it");
	refused(open("dir", O_WRONLY), EISDIR, "a directory is not written");
	refused(open("dir", O_RDONLY | O_CREAT, 0644), EISDIR, "nor made by open");
	refused(open("dir", O_RDWR | O_TRUNC), EISDIR, "nor truncated by open");
	refused(truncate("dir", 0), EISDIR, "nor by truncate");
	refused(open("file", O_RDONLY | O_DIRECTORY), ENOTDIR, "O_DIRECTORY on a file");
	refused(open("link", O_RDONLY | O_NOFOLLOW), ELOOP, "O_NOFOLLOW on a link");
	refused(open("dangling", O_RDONLY), ENOENT, "a dangling link leads nowhere");
	refused(open("file/", O_RDONLY), ENOTDIR, "a file with a slash");
	refused(open("missing/", O_CREAT | O_RDWR, 0644), EISDIR, "O_CREAT with a slash");
	refused(truncate("file", -1), EINVAL, "a negative size");
	refused(readlink("file", (char[9]){ 0 }, 9), EINVAL, "readlink of a file");
	refused(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO, "a FIFO that nobody reads");
	works(close((int)open("dangling", O_CREAT | O_RDWR, 0644)), "O_CREAT through a dangling link");
	works(access("nowhere", F_OK), "makes what it points to");
}

static void
descriptors(void)
{
	int fd = (int)must(open("file", O_RDONLY)), dir = (int)must(open("dir", O_RDONLY));
	char c = 0;

	refused(ftruncate(fd, 0), EINVAL, "ftruncate of what is open for reading");
	refused(write(fd, "x", 1), EBADF, "write to it");
	refused(fallocate(fd, 0, 0, 10), EBADF, "fallocate of it");
	refused(read(dir, &c, 1), EISDIR, "read of a directory");
	refused(lseek(fd, -1, SEEK_SET), EINVAL, "a negative offset");
	refused(pread(fd, &c, 1, -1), EINVAL, "pread there");
	refused(openat(fd, "x", O_RDONLY), ENOTDIR, "openat below a file");
	close(fd);
	fd = (int)must(open("file", O_WRONLY));
	refused(read(fd, &c, 1), EBADF, "read of what is open for writing");
	refused(fallocate(fd, 0, 0, 0), EINVAL, "fallocate of nothing");
	refused(fallocate(fd, 0, -1, 10), EINVAL, "fallocate at a negative offset");
	refused(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP, "a hole without FALLOC_FL_KEEP_SIZE");
	refused(pwrite(fd, "x", 1, INT64_C(1) << 62), EFBIG, "pwrite beyond what a file can hold");
	refused(ftruncate(fd, INT64_C(1) << 62), EFBIG, "ftruncate beyond it");
	close(fd);
	close(dir);
}

/* The limit is for what the claims are written to as well: they come when it is
 * lifted. */
static void
limit(rlim_t bytes)
{
	struct rlimit l;

	must(getrlimit(RLIMIT_FSIZE, &l));
	l.rlim_cur = bytes;
	must(setrlimit(RLIMIT_FSIZE, &l));
}

static int
beyond_the_limit(void *arg)
{
	int fd = (int)must(open("limited", O_RDWR | O_CREAT, 0644)), errors[4] = { 0 };
	char buf[20000] = "";
	ssize_t n;

	(void)arg;
	signal(SIGXFSZ, SIG_IGN);
	limit(10000);
	n = write(fd, buf, sizeof buf);
	errors[0] = write(fd, buf, 1) < 0 ? errno : 0;
	errors[1] = ftruncate(fd, 10001) < 0 ? errno : 0;
	errors[2] = truncate("limited", 10001) < 0 ? errno : 0;
	errors[3] = fallocate(fd, 0, 0, 10001) < 0 ? errno : 0;
	limit(RLIM_INFINITY);
	claim(n == 10000 && size_of("limited") == 10000, "a write ends at RLIMIT_FSIZE");
	claim(errors[0] == EFBIG, "write beyond RLIMIT_FSIZE is refused");
	claim(errors[1] == EFBIG, "ftruncate, too");
	claim(errors[2] == EFBIG, "and truncate");
	claim(errors[3] == EFBIG, "and fallocate");
	return 0;
}

static int
sleep_by_copy(void *arg)
{
	(void)arg;
	execl("./sleep", "sleep", "30", NULL);
	return errno;
}

/* Waits until the copy of sleep(1) has begun: then its command line is its own. */
static void
wait_for_program(pid_t pid)
{
	char path[64], line[16];
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
	for (int i = 0; i < 200 && n != 9; i++) {
		tick();
		fd = open(path, O_RDONLY);
		n = read(fd, line, sizeof line);
		close(fd);
	}
}

static void
busy_programs(void)
{
	pid_t pid;
	int fd;

	if (system("cp /bin/sleep sleep") != 0)
		claim(false, "a program is copied");
	fd = (int)must(open("sleep", O_RDWR));
	claim(in_child(sleep_by_copy, NULL) == ETXTBSY, "what is open for writing is not executed");
	close(fd);
	pid = (pid_t)must(fork());
	if (pid == 0)
		_exit(sleep_by_copy(NULL));
	wait_for_program(pid);
	refused(open("sleep", O_WRONLY), ETXTBSY, "what is executed is not opened for writing");
	refused(truncate("sleep", 0), ETXTBSY, "nor truncated");
	works(unlink("sleep"), "but removed");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* As ALICE, in what belongs to root or BOB. */
static void
without_permission(void)
{
	refused(open("private/x", O_RDONLY), EACCES, "another's directory is not searched");
	refused(open("unreadable", O_RDONLY), EACCES, "another's private file is not read");
	refused(open("readable", O_WRONLY), EACCES, "a readable one not written");
	refused(truncate("readable", 0), EACCES, "nor truncated");
	refused(open("shut/new", O_CREAT | O_RDWR, 0644), EACCES, "nothing is made in what is shut");
	refused(mkdir("shut/new", 0755), EACCES, "no directory either");
	refused(mkfifo("shut/new", 0644), EACCES, "nor FIFO");
	refused(symlink("x", "shut/new"), EACCES, "nor symbolic link");
	refused(unlink("shut/x"), EACCES, "nothing is removed from it");
	refused(rename("shut/x", "x"), EACCES, "nor moved out");
	refused(rename("readable", "shut/readable"), EACCES, "nor moved in");
	refused(chmod("readable", 0777), EPERM, "another's mode stays");
	refused(chown("readable", ALICE, (gid_t)-1), EPERM, "its owner, too");
	refused(utimensat(AT_FDCWD, "readable", (struct timespec[2]){ { .tv_sec = 1 }, { .tv_sec = 1 } }, 0), EPERM,
	    "its time is not set");
	refused(utimensat(AT_FDCWD, "readable", NULL, 0), EACCES, "not even to now");
	works(utimensat(AT_FDCWD, "writable", NULL, 0), "to now it is, where one may write");
	refused(open("readable", O_RDONLY | O_NOATIME), EPERM, "O_NOATIME is for the owner");
	refused(setxattr("readable", "user.a", "1", 1, 0), EACCES, "its attributes are not set");
	refused(mknod("device", S_IFCHR | 0644, makedev(1, 3)), EPERM, "devices are root's to make");
	refused(access("readable", W_OK), EACCES, "access(2) knows");
	refused(open("unlistable", O_RDONLY | O_DIRECTORY), EACCES, "what is not readable is not listed");
	refused(unlink("sticky/bobs"), EPERM, "in a sticky directory others' files stay");
	refused(rename("sticky/bobs", "sticky/new"), EPERM, "under their names");
	refused(rename("sticky/alices", "sticky/bobs"), EPERM, "and are not replaced");
	refused(rmdir("sticky/bobdir"), EPERM, "directories, too");
	works(rename("sticky/alices", "sticky/mine"), "one's own are renamed");
	works(unlink("sticky/mine"), "and removed");
}

void
group_errors(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "socket" };
	int fd;

	bad_paths();
	what_exists();
	descriptors();
	in_child(beyond_the_limit, NULL);
	busy_programs();
	fd = (int)must(socket(AF_UNIX, SOCK_STREAM, 0));
	must(bind(fd, (struct sockaddr *)&address, sizeof address));
	refused(open("socket", O_RDWR), ENXIO, "a socket is not opened");
	close(fd);
	fd = (int)must(socket(AF_UNIX, SOCK_STREAM, 0));
	refused(bind(fd, (struct sockaddr *)&address, sizeof address), EADDRINUSE, "nor bound twice");
	close(fd);
	if (!is_root)
		return;
	must(mkdir("private", 0700));
	put("private/x", "x", 0644);
	put("unreadable", "x", 0600);
	put("readable", "x", 0644);
	put("writable", "x", 0666);
	must(mkdir("shut", 0755));
	put("shut/x", "x", 0666);
	must(mkdir("unlistable", 0711));
	must(mkdir("sticky", 0777));
	must(chmod("sticky", 01777));
	put("sticky/bobs", "x", 0666);
	must(chown("sticky/bobs", BOB, BOB));
	put("sticky/alices", "x", 0666);
	must(chown("sticky/alices", ALICE, ALICE));
	must(mkdir("sticky/bobdir", 0777));
	must(chown("sticky/bobdir", BOB, BOB));
	as_user(ALICE, ALICE, 0, without_permission);
}
