/*
 * Locks: flock, fcntl, and those of open file descriptions.
 */
#include "config.h"

#include "tests/posix/posix.h"

#include <sys/file.h>
#include <sys/wait.h>

static struct flock
range(short type, off_t start, off_t length)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
}

static int
lock(int fd, int cmd, short type, off_t start, off_t length)
{
	struct flock l = range(type, start, length);

	return fcntl(fd, cmd, &l);
}

static int
try_lock(void *arg)
{
	const off_t *r = arg;
	int fd = open("l", O_RDWR);

	return lock(fd, F_SETLK, F_WRLCK, r[0], r[1]) < 0 ? errno : 0;
}

static int
other_can(off_t start, off_t length)
{
	return in_child(try_lock, (off_t[2]){ start, length });
}

static int
who_holds(void *arg)
{
	int fd = open("l", O_RDWR);
	struct flock l = range(F_WRLCK, 0, 0);

	must(fcntl(fd, F_GETLK, &l));
	return l.l_type == F_WRLCK && l.l_start == 10 && l.l_len == 10 && l.l_pid == *(pid_t *)arg ? 1 : 2;
}

static void
records(void)
{
	int fd = (int)must(open("l", O_RDWR | O_CREAT, 0644)), other;
	pid_t me = getpid();

	works(lock(fd, F_SETLK, F_WRLCK, 10, 10), "a range is locked");
	claim(other_can(15, 1) == EAGAIN, "it is locked for another process");
	claim(other_can(0, 10) == 0 && other_can(20, 0) == 0, "the rest is not");
	claim(in_child(who_holds, &me) == 1, "F_GETLK tells who has it");
	must(lock(fd, F_SETLK, F_UNLCK, 12, 2));
	claim(other_can(12, 2) == 0 && other_can(11, 1) == EAGAIN && other_can(14, 1) == EAGAIN, "a part is given back");
	other = (int)must(open("l", O_RDONLY));
	refused(lock(other, F_SETLK, F_WRLCK, 50, 1), EBADF, "a write lock needs a file open for writing");
	close(other);
	claim(other_can(10, 1) == 0, "close of any descriptor gives back the lock");
	works(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 10), "an open file description locks");
	other = (int)must(open("l", O_RDWR));
	refused(lock(other, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN, "against another of the same process");
	refused(lock(other, F_SETLK, F_WRLCK, 5, 1), EAGAIN, "and against the process");
	close((int)must(open("l", O_RDONLY)));
	refused(lock(other, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN, "and is not given back by another close");
	close(fd);
	works(lock(other, F_OFD_SETLK, F_WRLCK, 5, 1), "but by its own");
	close(other);
}

static void
whole_files(void)
{
	int fd = (int)must(open("f", O_RDONLY | O_CREAT, 0644)), other = (int)must(open("f", O_RDONLY)), copy;

	works(flock(fd, LOCK_SH | LOCK_NB), "flock shares");
	works(flock(other, LOCK_SH | LOCK_NB), "with others");
	refused(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK, "a shared lock excludes writers");
	must(flock(other, LOCK_UN));
	works(flock(fd, LOCK_EX | LOCK_NB), "it is raised");
	refused(flock(other, LOCK_SH | LOCK_NB), EWOULDBLOCK, "and excludes all");
	copy = (int)must(dup(fd));
	close(fd);
	refused(flock(other, LOCK_SH | LOCK_NB), EWOULDBLOCK, "a copy of the descriptor keeps it");
	close(copy);
	works(flock(other, LOCK_EX | LOCK_NB), "the last close gives it back");
	close(other);
}

static void
waiting(void)
{
	int fd = (int)must(open("wait", O_RDWR | O_CREAT, 0644)), status;
	pid_t pid;

	must(lock(fd, F_SETLK, F_WRLCK, 0, 0));
	pid = (pid_t)must(fork());
	if (pid == 0)
		_exit(lock(open("wait", O_RDWR), F_SETLKW, F_WRLCK, 0, 0) == 0 ? 3 : 4);
	usleep(100000);
	claim(waitpid(pid, NULL, WNOHANG) == 0, "F_SETLKW waits");
	must(lock(fd, F_SETLK, F_UNLCK, 0, 0));
	must(waitpid(pid, &status, 0));
	claim(WIFEXITED(status) && WEXITSTATUS(status) == 3, "until the lock is given back");
	close(fd);
}

void
group_locks(void)
{
	records();
	whole_files();
	waiting();
}
