/*
 * FIFOs, sockets, devices, symbolic links, and the file system as a whole.
 */
#include "config.h"

#include "tests/posix/posix.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

static void
fifos(void)
{
	char buf[8] = "";
	int fd;
	pid_t pid;

	must(mkfifo("fifo", 0640));
	claim(S_ISFIFO(stat_of("fifo").st_mode) && mode_of("fifo") == 0640, "a FIFO is one");
	pid = (pid_t)must(fork());
	if (pid == 0) {
		fd = open("fifo", O_WRONLY);
		_exit(write(fd, "through", 7) != 7);
	}
	fd = (int)must(open("fifo", O_RDONLY));
	claim(read(fd, buf, 7) == 7 && memcmp(buf, "through", 7) == 0, "and passes on what is written");
	close(fd);
	waitpid(pid, NULL, 0);
	must(rename("fifo", "fifo2"));
	claim(S_ISFIFO(stat_of("fifo2").st_mode), "and is renamed");
	works(unlink("fifo2"), "and removed");
}

static void
sockets(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "socket" };
	int a = (int)must(socket(AF_UNIX, SOCK_STREAM, 0)), b = (int)must(socket(AF_UNIX, SOCK_STREAM, 0)), c;

	works(bind(a, (struct sockaddr *)&address, sizeof address), "a socket is bound");
	claim(S_ISSOCK(stat_of("socket").st_mode), "and shows as one");
	must(listen(a, 1));
	works(connect(b, (struct sockaddr *)&address, sizeof address), "and connected to");
	c = (int)must(accept(a, NULL, NULL));
	claim(write(b, "x", 1) == 1 && read(c, &address, 1) == 1, "and speaks");
	close(a);
	close(b);
	close(c);
	address = (struct sockaddr_un){ .sun_family = AF_UNIX, .sun_path = "socket" };
	b = (int)must(socket(AF_UNIX, SOCK_STREAM, 0));
	refused(connect(b, (struct sockaddr *)&address, sizeof address), ECONNREFUSED, "closed, it refuses");
	works(unlink("socket"), "and is removed");
	refused(connect(b, (struct sockaddr *)&address, sizeof address), ENOENT, "and is not there");
	close(b);
}

static void
symlinks(void)
{
	char target[4096], buf[5000];

	memset(target, 't', sizeof target - 1);
	for (int i = 100; i < 4095; i += 100)
		target[i] = '/';
	target[4095] = '\0';
	works(symlink(target, "long"), "a link of 4095 bytes");
	claim(readlink("long", buf, sizeof buf) == 4095 && memcmp(buf, target, 4095) == 0, "is read whole");
	claim(readlink("long", buf, 10) == 10, "or as much of it as there is room for");
	claim(size_of("long") == 4095, "and has its length for a size");
	refused(symlink("", "empty"), ENOENT, "an empty link");
	must(symlink("dir/../file", "relative"));
	must(mkdir("dir", 0755));
	put("file", "x", 0644);
	claim(holds("relative", "x"), "links are followed");
	must(unlink("relative"));
	must(symlink("file", "relative"));
	claim(readlink("relative", buf, 10) == 4, "one of the same name is another");
}

static void
devices(void)
{
	struct stat st;

	must(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
	st = stat_of("null");
	claim(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3), "a character device has its number");
	must(mknod("block", S_IFBLK | 0600, makedev(300, 70000)));
	st = stat_of("block");
	claim(S_ISBLK(st.st_mode) && st.st_rdev == makedev(300, 70000), "a block device, too");
	must(mknod("socket-node", S_IFSOCK | 0600, 0));
	claim(S_ISSOCK(stat_of("socket-node").st_mode), "a socket is made by mknod");
}

static void
paths(void)
{
	char cwd[PATH_MAX], name[200];
	int depth = 0;

	memset(name, 'p', sizeof name - 1);
	name[sizeof name - 1] = '\0';
	while (depth < 25 && mkdir(name, 0755) == 0 && chdir(name) == 0)
		depth++;
	claim(depth == 25, "directories may be deeper than a path is long");
	put("deep", "deep", 0644);
	claim(holds("deep", "deep"), "and hold files");
	refused(getcwd(cwd, sizeof cwd) ? 0 : -1, ERANGE, "though they have no path");
	must(unlink("deep"));
	while (depth-- > 0) {
		must(chdir(".."));
		must(rmdir(name));
	}
}

static void
the_file_system(void)
{
	struct statvfs st;

	works(statvfs(".", &st), "statvfs");
	claim(st.f_namemax == 255, "names have up to 255 bytes");
	claim(st.f_blocks > 0 && st.f_bavail <= st.f_bfree && st.f_files > 0, "room is told");
	claim(pathconf(".", _PC_NAME_MAX) == 255, "pathconf");
}

void
group_special(void)
{
	fifos();
	sockets();
	symlinks();
	if (is_root)
		devices();
	paths();
	the_file_system();
}
