/*
 * The frame: groups, claims, and what they are made with.
 */
#include "config.h"

#include "tests/posix/posix.h"

#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

bool is_root;

static void
say(bool holds, int err, const char *fmt, va_list ap)
{
	printf("%s - ", holds ? "ok" : "not ok");
	vprintf(fmt, ap);
	if (!holds)
		printf(": %s", err ? strerror(err) : "no");
	putchar('\n');
	fflush(stdout);
}

void
claim(bool holds, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(holds, 0, fmt, ap);
	va_end(ap);
}

void
refused_with(long rc, int wanted, const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	va_start(ap, fmt);
	say(rc == -1 && err == wanted, rc == -1 ? err : 0, fmt, ap);
	va_end(ap);
}

void
works_with(long rc, const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	va_start(ap, fmt);
	say(rc != -1, err, fmt, ap);
	va_end(ap);
}

long
must_with(long rc, const char *call, const char *file, int line)
{
	if (rc == -1) {
		printf("not ok - %s:%d: %s: %s\n", strrchr(file, '/') + 1, line, call, strerror(errno));
		fflush(stdout);
		_exit(1);
	}
	return rc;
}

void
put(const char *path, const char *text, mode_t mode)
{
	int fd = (int)must(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600));

	must(write(fd, text, strlen(text)));
	must(fchmod(fd, mode));
	close(fd);
}

bool
holds(const char *path, const char *text)
{
	size_t want = strlen(text);
	char *buf = calloc(1, want + 2);
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, want + 1);
	bool same = n == (ssize_t)want && memcmp(buf, text, want) == 0;

	if (fd >= 0)
		close(fd);
	free(buf);
	return same;
}

struct stat
stat_of(const char *path)
{
	struct stat st;

	must(lstat(path, &st));
	return st;
}

mode_t
mode_of(const char *path)
{
	return stat_of(path).st_mode & 07777;
}

nlink_t
links_of(const char *path)
{
	return stat_of(path).st_nlink;
}

off_t
size_of(const char *path)
{
	return stat_of(path).st_size;
}

void
tick(void)
{
	const struct timespec t = { .tv_nsec = 15000000 };

	nanosleep(&t, NULL);
}

int
in_child(int (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = (pid_t)must(fork());
	if (pid == 0)
		_exit(fn(arg));
	must(waitpid(pid, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

struct user {
	uid_t uid;
	gid_t gid, extra;
	void (*fn)(void);
};

static int
become(void *arg)
{
	const struct user *u = arg;

	must(setgroups(u->extra ? 1 : 0, &u->extra));
	must(setresgid(u->gid, u->gid, u->gid));
	must(setresuid(u->uid, u->uid, u->uid));
	u->fn();
	return 0;
}

void
as_user(uid_t uid, gid_t gid, gid_t extra, void (*fn)(void))
{
	struct user u = { uid, gid, extra, fn };
	int rc = in_child(become, &u);

	if (rc != 0)
		claim(false, "the part of user %u ends well (it ends with %d)", uid, rc);
}

static const struct group_of_claims {
	const char *name;
	void (*run)(void);
} groups[] = {
	{ "data", group_data },
	{ "dirs", group_dirs },
	{ "errors", group_errors },
	{ "links", group_links },
	{ "locks", group_locks },
	{ "maps", group_maps },
	{ "owners", group_owners },
	{ "special", group_special },
	{ "times", group_times },
	{ "xattrs", group_xattrs },
};

static int
run_group(void *arg)
{
	const struct group_of_claims *g = arg;

	must(mkdir(g->name, 0755));
	must(chdir(g->name));
	/* Users of the tests may do all they like in it. */
	must(chmod(".", 0777));
	umask(022);
	g->run();
	return 0;
}

int
main(int argc, char **argv)
{
	int failed = 0;

	is_root = geteuid() == 0;
	for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
		bool wanted = argc == 1;

		for (int a = 1; a < argc; a++)
			wanted |= strcmp(argv[a], groups[i].name) == 0;
		if (wanted && in_child(run_group, (void *)&groups[i]) != 0) {
			claim(false, "the group %s comes to its end", groups[i].name);
			failed = 1;
		}
	}
	return failed;
}
