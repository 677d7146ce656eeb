/*
 * The daemon's first report travels through a pipe: a byte with the exit
 * status, then the line for the user, if any.
 */
#include "config.h"

#include "tools/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/cli.h"

enum { REPORT_FD = 3 };		/* the one descriptor that the daemon starts with */

static bool in_background;
static bool reported;

static ssize_t
read_report(int fd, char *out, size_t size)
{
	size_t n = 0;
	ssize_t got;

	while (n < size && (got = read(fd, out + n, size - n)) != 0) {
		if (got < 0 && errno != EINTR)
			return -errno;
		n += got > 0 ? (size_t)got : 0;
	}
	return (ssize_t)n;
}

static int
await_report(int fd, pid_t pid)
{
	char report[CLI_LINE_MAX + 1];
	ssize_t n = read_report(fd, report, sizeof(report) - 1);
	int status;

	close(fd);
	if (n <= 0) {
		waitpid(pid, &status, 0);
		return cli_fail(CLI_FAILED, "the daemon ended before it could serve; see .sibfs/log in the store");
	}
	report[n] = '\0';
	return report[0] == CLI_DONE ? CLI_DONE : cli_fail(report[0], "%s", report + 1);
}

/* Leaves everything of the caller behind. */
static void
detach(int report)
{
	int null;

	setsid();
	if (report != REPORT_FD)
		dup2(report, REPORT_FD);
	fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
	close_range(REPORT_FD + 1, ~0U, 0);
	null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	if (chdir("/") < 0)
		_exit(CLI_FAILED);
	in_background = true;
}

int
daemon_start(void)
{
	int p[2];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return cli_fail(CLI_FAILED, "no pipe: %s", strerror(errno));
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		close(p[0]);
		close(p[1]);
		return cli_fail(CLI_FAILED, "cannot fork: %s", strerror(errno));
	}
	if (pid > 0) {
		close(p[1]);
		return await_report(p[0], pid);
	}
	detach(p[1]);
	return -1;
}

static void
report(int status, const char *why)
{
	char text[CLI_LINE_MAX];
	int n;

	if (reported)
		return;
	reported = true;
	if (!in_background) {
		if (status != CLI_DONE)
			cli_fail(status, "%s", why);
		return;
	}
	n = snprintf(text, sizeof(text), "%c%s", status, why);
	if (n >= (int)sizeof(text))
		n = (int)sizeof(text) - 1;
	if (write(REPORT_FD, text, (size_t)(n > 0 ? n : 1)) < 0)
		_exit(CLI_FAILED);	/* whoever asked for us has gone */
	close(REPORT_FD);
}

void
daemon_ready(void)
{
	report(CLI_DONE, "");
}

void
daemon_failed(int status, const char *why)
{
	report(status, why);
}
