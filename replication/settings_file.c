/*
 * The config file as lines.  An edit must leave every other line as the person
 * wrote it, so reading and editing share this one idea of what a line is.
 * (libinih cuts lines at 200 bytes as it is commonly built, which is less than a
 * path may need, and it cannot write.)
 *
 * A line is `[section]`, `key = value`, a comment (`;` or `#` first) or blank.
 * A `;` after white space begins a comment too.
 */
#include "config.h"

#include "replication/settings_impl.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/mem.h"

enum { CONFIG_MAX_BYTES = 1 << 20 };

#define CONFIG_NAME "config"
#define CONFIG_NEW "config.new"

/* ---- lines ------------------------------------------------------------- */

static char *
trim(char *s)
{
	char *end = s + strlen(s);

	while (end > s && isspace((unsigned char)end[-1]))
		*--end = '\0';
	while (isspace((unsigned char)*s))
		s++;
	return s;
}

static void
cut_comment(char *s)
{
	for (char *p = s; *p != '\0'; p++)
		if (*p == ';' && p > s && isspace((unsigned char)p[-1])) {
			*p = '\0';
			return;
		}
}

struct line
settings_parse_line(char *text)
{
	struct line line = { LINE_BAD, NULL, NULL };
	char *s, *end;

	s = trim(text);
	if (*s == '\0' || *s == ';' || *s == '#') {
		line.kind = LINE_BLANK;
		return line;
	}
	cut_comment(s);
	s = trim(s);
	if (*s == '[') {
		if ((end = strchr(s, ']')) == NULL || end[1] != '\0')
			return line;
		*end = '\0';
		line.kind = LINE_SECTION;
		line.key = trim(s + 1);
		return line;
	}
	if ((end = strchr(s, '=')) == NULL || end == s)
		return line;
	*end = '\0';
	line.kind = LINE_KEY;
	line.key = trim(s);
	line.value = trim(end + 1);
	return line;
}

const char *
settings_line_end(const char *p)
{
	const char *nl = strchr(p, '\n');

	return nl != NULL ? nl + 1 : p + strlen(p);
}

/* ---- the file ---------------------------------------------------------- */

static int
read_all(int fd, char *text, size_t size)
{
	size_t n = 0;
	ssize_t got;

	while (n < size && (got = read(fd, text + n, size - n)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		n += (size_t)got;
	}
	return 0;
}

int
settings_read_file(int dirfd, char **out)
{
	struct stat st;
	char *text;
	int rc, fd = openat(dirfd, CONFIG_NAME, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		if (errno != ENOENT)
			return -errno;
		*out = mem_str("");
		return 0;
	}
	if (fstat(fd, &st) < 0) {
		rc = -errno;
		goto err_fd;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > CONFIG_MAX_BYTES) {
		rc = -EFBIG;
		goto err_fd;
	}
	text = mem_alloc((size_t)st.st_size + 1);
	if ((rc = read_all(fd, text, (size_t)st.st_size)) < 0)
		goto err_text;
	close(fd);
	*out = text;
	return 0;

err_text:
	free(text);
err_fd:
	close(fd);
	return rc;
}

static int
write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t put = write(fd, p, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		p += put;
		n -= (size_t)put;
	}
	return 0;
}

int
settings_write_file(int dirfd, int lock, const char *text)
{
	int rc, fd = openat(dirfd, CONFIG_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	rc = write_all(fd, text, strlen(text));
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	close(fd);
	if (rc == 0 && renameat(dirfd, CONFIG_NEW, dirfd, CONFIG_NAME) < 0)
		rc = -errno;
	if (rc == 0 && fsync(lock) < 0)
		rc = -errno;
	if (rc < 0)
		unlinkat(dirfd, CONFIG_NEW, 0);
	return rc;
}
