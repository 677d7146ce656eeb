/*
 * Where the control socket stands, and making or reaching it.  The daemon and
 * the command line may see different environments (a login, a command run by
 * sshd), so both walk the same list of places: the daemon takes the first that
 * it can use, the client asks at each.
 */
#include "config.h"

#include "replication/control.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { PLACES = 4 };

/* The i-th directory that may hold our sockets; false: there is none. */
static bool
place(int i, char *out, size_t size)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	int n = -1;

	switch (i) {
	case 0:
		n = snprintf(out, size, "/run/sibfs");
		break;
	case 1:
		if (run != NULL && run[0] == '/')
			n = snprintf(out, size, "%s/sibfs", run);
		break;
	case 2:
		n = snprintf(out, size, "/run/user/%u/sibfs", geteuid());
		break;
	case 3:
		n = snprintf(out, size, "/tmp/sibfs-%u", geteuid());
		break;
	}
	return n >= 0 && (size_t)n < size;
}

/* A directory of ours that no one else can put anything into. */
static bool
is_private(const char *dir)
{
	struct stat st;

	return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) &&
	    st.st_uid == geteuid() && (st.st_mode & 022) == 0;
}

static int
socket_address(int i, dev_t dev, ino_t ino, struct sockaddr_un *out)
{
	char dir[sizeof(out->sun_path)];
	int n;

	if (!place(i, dir, sizeof(dir)))
		return -ENOENT;
	memset(out, 0, sizeof(*out));
	out->sun_family = AF_UNIX;
	n = snprintf(out->sun_path, sizeof(out->sun_path), "%s/%jx-%jx/control",
	    dir, (uintmax_t)dev, (uintmax_t)ino);
	return n < (int)sizeof(out->sun_path) ? 0 : -ENAMETOOLONG;
}

/* The address at the first place that we can use; makes it. */
static int
usable_address(dev_t dev, ino_t ino, struct sockaddr_un *out)
{
	char dir[sizeof(out->sun_path)];

	for (int i = 0; i < PLACES; i++) {
		if (socket_address(i, dev, ino, out) < 0 ||
		    !place(i, dir, sizeof(dir)))
			continue;
		mkdir(dir, 0700);
		if (is_private(dir))
			return 0;
	}
	return -EACCES;
}

/* Cuts the path of a socket to that of its directory. */
static void
cut_name(char *path)
{
	*strrchr(path, '/') = '\0';
}

int
control_listen(dev_t dev, ino_t ino)
{
	struct sockaddr_un a;
	char dir[sizeof(a.sun_path)];
	int fd, rc = usable_address(dev, ino, &a);

	if (rc < 0)
		return rc;
	memcpy(dir, a.sun_path, sizeof(dir));
	cut_name(dir);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (!is_private(dir))
		return -EACCES;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* The caller holds the store's lock: what stands here is stale. */
	unlink(a.sun_path);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    chmod(a.sun_path, 0600) < 0 || listen(fd, 64) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

void
control_unlink(dev_t dev, ino_t ino)
{
	struct sockaddr_un a;

	if (usable_address(dev, ino, &a) < 0)
		return;
	unlink(a.sun_path);
	cut_name(a.sun_path);
	rmdir(a.sun_path);
}

int
control_connect(dev_t dev, ino_t ino)
{
	struct sockaddr_un a;
	int fd, rc = -ENOENT;

	for (int i = 0; i < PLACES; i++) {
		if (socket_address(i, dev, ino, &a) < 0)
			continue;
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return -errno;
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			return fd;
		/* Places of other users say nothing about this store. */
		if (errno != ENOENT && errno != EACCES)
			rc = -errno;
		close(fd);
	}
	return rc;
}
