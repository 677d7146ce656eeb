/*
 * The child waits for the signal that it gets when its parent's main thread
 * has ended.  It has no descriptors, above all not that of /dev/fuse, and what
 * it must know lies in a page shared with its parent.
 */
#include "config.h"

#include "fs/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

struct watchdog {
	pid_t child;
	_Atomic dev_t dev;
};

dev_t
watchdog_device(const char *path)
{
	struct statx st;

	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return 0;
	return makedev(st.stx_dev_major, st.stx_dev_minor);
}

/* By the control file system, where that is mounted: the owner may. */
static int
abort_by_control(dev_t dev)
{
	char path[64];
	int fd;
	ssize_t n;

	snprintf(path, sizeof path, "/sys/fs/fuse/connections/%u/abort", minor(dev));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, "1", 1);
	close(fd);
	return n == 1 ? 0 : -EIO;
}

/*
 * By an unmount that is forced, for root.  A descriptor in it keeps the mount
 * itself where it is: whoever worked there gets errors, rather than the bare
 * directory below.
 */
static void
abort_by_force(const char *mountpoint)
{
	int fd = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		umount2(mountpoint, MNT_FORCE | UMOUNT_NOFOLLOW);
		close(fd);
	}
}

static void
cut_off(const char *mountpoint, dev_t dev)
{
	if (dev == 0 || watchdog_device(mountpoint) != dev)
		return;
	if (abort_by_control(dev) < 0)
		abort_by_force(mountpoint);
}

static void __attribute__((noreturn))
watch(const struct watchdog *w, const char *mountpoint, pid_t parent)
{
	sigset_t signals;
	int signo;

	sigfillset(&signals);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	close_range(0, ~0U, 0);
	prctl(PR_SET_NAME, "sibfs-watchdog");
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	if (prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0) {
		/* The parent may have died before that. */
		if (getppid() == parent)
			sigwait(&signals, &signo);
		cut_off(mountpoint, atomic_load(&w->dev));
	}
	_exit(0);
}

int
watchdog_start(const char *mountpoint, struct watchdog **out)
{
	struct watchdog *w;
	pid_t parent = getpid(), child;

	w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (w == MAP_FAILED)
		return -errno;
	child = fork();
	if (child < 0) {
		int rc = -errno;

		munmap(w, sizeof *w);
		return rc;
	}
	if (child == 0)
		watch(w, mountpoint, parent);
	w->child = child;
	*out = w;
	return 0;
}

void
watchdog_watch(struct watchdog *w, dev_t dev)
{
	atomic_store(&w->dev, dev);
}

void
watchdog_stop(struct watchdog *w)
{
	if (w == NULL)
		return;
	kill(w->child, SIGKILL);
	while (waitpid(w->child, NULL, 0) < 0 && errno == EINTR)
		continue;
	munmap(w, sizeof *w);
}
