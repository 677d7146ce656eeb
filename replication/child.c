/*
 * Programs as children: posix_spawn, because the daemon has many threads, and
 * pidfds, because a thread can then wait for an end along with other things.
 */
#include "config.h"

#include "replication/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "replication/clock.h"
#include "replication/lastline.h"

extern char **environ;

/*
 * Descriptors are first moved out of the way, above 2, so that none of the
 * three is overwritten before it was used.
 */
static int
plan_fds(posix_spawn_file_actions_t *fa, const int fds[3], int moved[3])
{
	int rc = 0;

	for (int i = 0; i < 3; i++) {
		moved[i] = fds[i] >= 0 ? fcntl(fds[i], F_DUPFD_CLOEXEC, 3) :
		    open("/dev/null", (i == 0 ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
		if (moved[i] < 0)
			return -errno;
	}
	for (int i = 0; i < 3 && rc == 0; i++)
		rc = posix_spawn_file_actions_adddup2(fa, moved[i], i);
	if (rc == 0)
		rc = posix_spawn_file_actions_addclosefrom_np(fa, 3);
	return -rc;
}

static int
plan_signals(posix_spawnattr_t *attr)
{
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	rc = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (rc == 0)
		rc = posix_spawnattr_setsigmask(attr, &none);
	if (rc == 0)
		rc = posix_spawnattr_setsigdefault(attr, &all);
	return -rc;
}

int
child_start(struct child *c, char *const argv[], const int fds[3])
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int moved[3] = { -1, -1, -1 };
	int rc;

	if ((rc = posix_spawn_file_actions_init(&fa)) != 0)
		return -rc;
	if ((rc = posix_spawnattr_init(&attr)) != 0) {
		rc = -rc;
		goto out_fa;
	}
	if ((rc = plan_fds(&fa, fds, moved)) < 0 || (rc = plan_signals(&attr)) < 0)
		goto out_attr;
	rc = -posix_spawnp(&c->pid, argv[0], &fa, &attr, argv, environ);
	if (rc < 0)
		goto out_attr;
	c->fd = pidfd_open(c->pid, 0);
	if (c->fd < 0) {
		rc = -errno;
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
	}
out_attr:
	for (int i = 0; i < 3; i++)
		if (moved[i] >= 0)
			close(moved[i]);
	posix_spawnattr_destroy(&attr);
out_fa:
	posix_spawn_file_actions_destroy(&fa);
	return rc;
}

int
child_wait(struct child *c)
{
	int status = 0;
	pid_t got;

	while ((got = waitpid(c->pid, &status, 0)) < 0 && errno == EINTR)
		;
	close(c->fd);
	if (got < 0)
		return 255;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void
child_kill(struct child *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };

	kill(c->pid, SIGTERM);
	if (poll(&p, 1, 1000) <= 0)
		kill(c->pid, SIGKILL);
	child_wait(c);
}

static int
ms_left(int64_t until_ms)
{
	int64_t left = until_ms - clock_ms();

	return left > 0 ? (int)left : 0;
}

/* What a run has said so far. */
struct capture {
	int out_fd, err_fd;	/* -1: at its end */
	char *out;
	size_t len, size;
	struct lastline err;
};

static int
take_out(struct capture *cap)
{
	ssize_t n = read(cap->out_fd, cap->out + cap->len, cap->size - 1 - cap->len);

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (n == 0 && cap->len == cap->size - 1)
		return -EFBIG;
	if (n == 0)
		cap->out_fd = -1;
	cap->len += (size_t)n;
	return 0;
}

static int
take_err(struct capture *cap)
{
	char buf[512];
	ssize_t n = read(cap->err_fd, buf, sizeof(buf));

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (n == 0)
		cap->err_fd = -1;
	lastline_feed(&cap->err, buf, (size_t)n);
	return 0;
}

/* Until the child has ended and said all. */
static int
attend(struct child *c, struct capture *cap, int cancel, int timeout_ms)
{
	int64_t until_ms = clock_ms() + timeout_ms;
	bool ended = false;
	int rc = 0;

	while (rc == 0 && !(ended && cap->out_fd < 0 && cap->err_fd < 0)) {
		struct pollfd p[] = {
			{ .fd = cancel, .events = POLLIN },
			{ .fd = cap->out_fd, .events = POLLIN },
			{ .fd = cap->err_fd, .events = POLLIN },
			{ .fd = ended ? -1 : c->fd, .events = POLLIN },
		};
		int n = poll(p, 4, ms_left(until_ms));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return ended ? 0 : -ETIMEDOUT;
		if (n > 0 && p[0].revents)
			return -ECANCELED;
		if (n > 0 && p[1].revents)
			rc = take_out(cap);
		if (rc == 0 && n > 0 && p[2].revents)
			rc = take_err(cap);
		ended = ended || (n > 0 && p[3].revents);
	}
	return rc;
}

int
child_run(char *const argv[], int cancel, int timeout_ms,
    char *out, size_t out_size, char *why, size_t why_size)
{
	struct capture cap = { .out = out, .size = out_size };
	struct child c;
	int o[2], e[2], rc;

	if (pipe2(o, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(e, O_CLOEXEC) < 0) {
		rc = -errno;
		goto out_o;
	}
	rc = child_start(&c, argv, (int[]){ -1, o[1], e[1] });
	close(o[1]);
	close(e[1]);
	o[1] = -1;
	if (rc == 0) {
		cap.out_fd = o[0];
		cap.err_fd = e[0];
		rc = attend(&c, &cap, cancel, timeout_ms);
		out[cap.len] = '\0';
		snprintf(why, why_size, "%s", lastline_get(&cap.err));
		if (rc < 0)
			child_kill(&c);
		else
			rc = child_wait(&c);
	}
	close(e[0]);
out_o:
	close(o[0]);
	if (o[1] >= 0)
		close(o[1]);
	return rc;
}
