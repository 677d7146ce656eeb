/*
 * The log's one sink: stderr, or a file that is kept small by putting the old
 * one aside.  A line is built whole and written by one call, so lines of
 * threads (and of processes that append to one file) never mix.
 */
#include "config.h"

#include "replication/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	LINE_MAX_BYTES = 2048,
	FILE_MAX_BYTES = 4 << 20,	/* then it becomes PATH.old */
};

static const char *const level_names[] = { "error", "warn", "note", "trace" };

/* Guards the sink below. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = STDERR_FILENO;
static char *log_path;
static off_t log_size;

static pthread_once_t level_once = PTHREAD_ONCE_INIT;
static enum log_level shown = LOG_NOTE;

static void
read_level(void)
{
	const char *want = getenv("SIBFS_LOG");

	for (enum log_level i = LOG_ERROR; want != NULL && i <= LOG_TRACE; i++)
		if (strcmp(want, level_names[i]) == 0)
			shown = i;
}

/* Opens path for appending as the sink, and as stderr, for what the C library says of
 * a failed assertion, and others of theirs; the lock is held. */
static int
open_sink(const char *path)
{
	struct stat st;
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);

	if (fd < 0)
		return -errno;
	log_size = fstat(fd, &st) == 0 ? st.st_size : 0;
	if (log_fd != STDERR_FILENO)
		close(log_fd);
	log_fd = fd;
	dup2(fd, STDERR_FILENO);
	return 0;
}

int
log_open(const char *path)
{
	char *copy = NULL;
	int rc = 0;

	if (path != NULL && (copy = strdup(path)) == NULL)
		return -ENOMEM;
	pthread_mutex_lock(&log_lock);
	if (path != NULL) {
		rc = open_sink(path);
	} else if (log_fd != STDERR_FILENO) {
		close(log_fd);
		log_fd = STDERR_FILENO;
	}
	if (rc == 0) {
		free(log_path);
		log_path = copy;
	} else {
		free(copy);
	}
	pthread_mutex_unlock(&log_lock);
	return rc;
}

void
log_quiet(void)
{
	shown = LOG_WARN;
}

/* Puts a full file aside; if that fails the log goes on in the old one. */
static void
rotate(void)
{
	char old[4096];

	if (snprintf(old, sizeof(old), "%s.old", log_path) < (int)sizeof(old) &&
	    rename(log_path, old) == 0)
		open_sink(log_path);
	else
		log_size = 0;
}

static size_t
put_prefix(char *line, size_t size, enum log_level level)
{
	struct timespec now;
	struct tm tm;
	size_t n;

	if (log_path == NULL)
		return (size_t)snprintf(line, size, "sibfs: %s", level == LOG_WARN ? "warning: " : "");
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	n = strftime(line, size, "%Y-%m-%d %H:%M:%S", &tm);
	return n + (size_t)snprintf(line + n, size - n, ".%03d %-5s ",
	    (int)(now.tv_nsec / 1000000), level_names[level]);
}

void
log_line(enum log_level level, const char *fmt, ...)
{
	char line[LINE_MAX_BYTES];
	size_t start, n;
	va_list ap;
	int put, saved = errno;

	pthread_once(&level_once, read_level);
	if (level > shown)
		return;
	pthread_mutex_lock(&log_lock);
	start = put_prefix(line, sizeof(line), level);
	va_start(ap, fmt);
	put = vsnprintf(line + start, sizeof(line) - start, fmt, ap);
	va_end(ap);
	n = put < 0 ? start : start + (size_t)put;
	if (n > sizeof(line) - 1)
		n = sizeof(line) - 1;
	/* Names may hold anything: one event stays one line. */
	for (size_t i = start; i < n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[n++] = '\n';
	if (write(log_fd, line, n) > 0)
		log_size += (off_t)n;
	if (log_path != NULL && log_size > FILE_MAX_BYTES)
		rotate();
	pthread_mutex_unlock(&log_lock);
	errno = saved;
}
