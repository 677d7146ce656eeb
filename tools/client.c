/*
 * One JSON object a line each way.
 */
#include "config.h"

#include "tools/client.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/clock.h"
#include "replication/control.h"
#include "replication/mem.h"
#include "tools/cli.h"

enum { REPLY_MAX_BYTES = 256 << 20 };

int
client_connect(const struct located *l)
{
	return control_connect(l->dev, l->ino);
}

bool
client_is_absent(int rc)
{
	return rc == -ENOENT || rc == -ECONNREFUSED;
}

int
client_open(const char *path, struct located *l, int *fd, char *why, size_t why_size)
{
	int rc = locate(path, l, why, why_size);

	if (rc < 0)
		return rc == -EACCES || rc == -ENOTCONN ? CLI_FAILED : CLI_NO_STORE;
	rc = client_connect(l);
	if (rc >= 0) {
		*fd = rc;
		return CLI_DONE;
	}
	*fd = -1;
	if (client_is_absent(rc) && l->store != NULL)
		return CLI_DONE;
	if (client_is_absent(rc))
		snprintf(why, why_size, "no daemon of yours serves %s", path);
	else
		snprintf(why, why_size, "cannot reach the daemon of %s: %s", path, strerror(-rc));
	located_fini(l);
	return CLI_FAILED;
}

void
client_close(struct located *l, int fd)
{
	located_fini(l);
	if (fd >= 0)
		close(fd);
}

json_t *
client_request(const char *cmd)
{
	return json_pack("{s:s}", "cmd", cmd);
}

static int
send_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t put = send(fd, p, n, MSG_NOSIGNAL);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		p += put;
		n -= (size_t)put;
	}
	return 0;
}

static int
send_request(int fd, json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	int rc;

	if (text == NULL)
		return -ENOMEM;
	rc = send_all(fd, text, strlen(text));
	if (rc == 0)
		rc = send_all(fd, "\n", 1);
	free(text);
	return rc;
}

/* Waits until there is something to read.  0, -ETIMEDOUT or -errno. */
static int
wait_readable(int fd, int64_t until)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n;

	do {
		int64_t left = until - clock_ms();

		n = poll(&p, 1, left > 0 ? (int)left : 0);
	} while (n < 0 && errno == EINTR);
	return n > 0 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

/* A line without its newline, allocated.  What follows it stays in the socket:
 * after `serve` that belongs to the peer. */
static int
receive_line(int fd, int timeout_s, char **out)
{
	int64_t until = clock_ms() + (int64_t)timeout_s * 1000;
	char *line = NULL;
	size_t len = 0, take;
	char buf[16384], *newline;
	ssize_t n;
	int rc;

	for (;;) {
		if ((rc = wait_readable(fd, until)) < 0)
			goto err;
		n = recv(fd, buf, sizeof(buf), MSG_PEEK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			rc = n < 0 ? -errno : -ECONNRESET;
			goto err;
		}
		newline = memchr(buf, '\n', (size_t)n);
		take = newline != NULL ? (size_t)(newline - buf) + 1 : (size_t)n;
		if (len + take > REPLY_MAX_BYTES) {
			rc = -EMSGSIZE;
			goto err;
		}
		n = recv(fd, buf, take, 0);
		if (n != (ssize_t)take) {
			rc = -EIO;
			goto err;
		}
		line = mem_resize(line, len + take + 1, 1);
		memcpy(line + len, buf, take);
		len += take;
		if (newline != NULL)
			break;
	}
	line[len - 1] = '\0';
	*out = line;
	return 0;

err:
	free(line);
	return rc;
}

static int
read_reply(const char *line, json_t **out, char *why, size_t why_size)
{
	json_t *reply = json_loads(line, 0, NULL);
	const char *error;
	int status;

	if (json_is_true(json_object_get(reply, "ok"))) {
		*out = reply;
		return 0;
	}
	error = json_string_value(json_object_get(reply, "error"));
	status = (int)json_integer_value(json_object_get(reply, "exit"));
	snprintf(why, why_size, "%s", error != NULL ? error : "the daemon gave no answer that we understand");
	json_decref(reply);
	return status >= CLI_FAILED && status < 128 ? status : CLI_FAILED;
}

int
client_send(int fd, json_t *request, char *why, size_t why_size)
{
	int rc = request != NULL ? send_request(fd, request) : -ENOMEM;

	json_decref(request);
	if (rc == 0)
		return CLI_DONE;
	snprintf(why, why_size, "lost the daemon while asking it: %s", strerror(-rc));
	return CLI_FAILED;
}

int
client_receive(int fd, int timeout_s, json_t **reply, char *why, size_t why_size)
{
	char *line;
	int rc = receive_line(fd, timeout_s, &line);

	if (rc == -ETIMEDOUT) {
		snprintf(why, why_size, "the daemon has not answered for %d s", timeout_s);
		return CLI_TIMEOUT;
	}
	if (rc < 0) {
		snprintf(why, why_size, "lost the daemon while asking it: %s", strerror(-rc));
		return CLI_FAILED;
	}
	rc = read_reply(line, reply, why, why_size);
	free(line);
	return rc;
}

int
client_ask(int fd, json_t *request, int timeout_s, json_t **reply, char *why, size_t why_size)
{
	int rc = client_send(fd, request, why, why_size);

	return rc == CLI_DONE ? client_receive(fd, timeout_s, reply, why, why_size) : rc;
}

pid_t
client_daemon_pid(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 ? peer.pid : 0;
}

/* Opens .sibfs through a descriptor of the store's root that the daemon has. */
static int
open_through(pid_t pid, const struct located *l)
{
	char path[64], own[80];
	struct dirent *e;
	struct stat st;
	DIR *fds;
	int fd = -ENOENT;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	if ((fds = opendir(path)) == NULL)
		return -errno;
	while (fd < 0 && (e = readdir(fds)) != NULL) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%.20s", (int)pid, e->d_name);
		if (e->d_name[0] == '.' || stat(path, &st) < 0 ||
		    st.st_dev != l->dev || st.st_ino != l->ino)
			continue;
		snprintf(own, sizeof(own), "%s/.sibfs", path);
		fd = open(own, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
	}
	closedir(fds);
	return fd;
}

int
client_open_own_dir(const struct located *l, int fd)
{
	char *path;
	int dir;

	if (l->store == NULL) {
		pid_t pid = fd >= 0 ? client_daemon_pid(fd) : 0;

		return pid > 0 ? open_through(pid, l) : -ENOENT;
	}
	path = mem_printf("%s/.sibfs", l->store);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		dir = -errno;
	free(path);
	return dir;
}
