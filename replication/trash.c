/*
 * The trash: what a remote change replaced or removed, bounded by age and size.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "replication/replica_impl.h"

#define TRASH_BYTES (INT64_C(1) << 30)
#define TRASH_DAYS 30

struct trashed {
	char *name;
	int64_t at, bytes;
};

struct trash {
	struct replica *r;
	struct trashed *t;
	size_t len;
	int64_t bytes;
};

static void
collect_trash(void *arg, const char *name)
{
	struct trash *q = arg;
	struct stat st;

	if (fstatat(q->r->trash_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	q->t = mem_resize(q->t, q->len + 1, sizeof(*q->t));
	q->t[q->len++] = (struct trashed){ mem_str(name), strtoll(name, NULL, 10), st.st_blocks * INT64_C(512) };
	q->bytes += st.st_blocks * INT64_C(512);
}

static int	 remove_all(int dirfd, const char *name);

static void
remove_below(void *arg, const char *name)
{
	remove_all(*(int *)arg, name);
}

/* Removes a file, or a directory with all that is in it. */
static int
remove_all(int dirfd, const char *name)
{
	int fd;

	if (unlinkat(dirfd, name, 0) == 0)
		return 0;
	if (errno != EISDIR)
		return -errno;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	disk_each_entry(fd, remove_below, &fd);
	close(fd);
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

static int
oldest_first(const void *a, const void *b)
{
	const struct trashed *x = a, *y = b;

	return (x->at > y->at) - (x->at < y->at);
}

void
trash_prune(struct replica *r)
{
	struct trash q = { .r = r };
	int64_t now = (int64_t)time(NULL);

	disk_each_entry(r->trash_fd, collect_trash, &q);
	if (q.len)
		qsort(q.t, q.len, sizeof(*q.t), oldest_first);
	for (size_t i = 0; i < q.len; i++) {
		if ((q.bytes > TRASH_BYTES || now - q.t[i].at > TRASH_DAYS * INT64_C(86400)) &&
		    remove_all(r->trash_fd, q.t[i].name) == 0)
			q.bytes -= q.t[i].bytes;
		free(q.t[i].name);
	}
	free(q.t);
}

void
trash_take_as(struct replica *r, int dirfd, const char *name, const char *as, char *to)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(to, TRASH_NAME_MAX, "%" PRId64 ".%09ld-%.200s", (int64_t)now.tv_sec, now.tv_nsec, as);
	if (renameat2(dirfd, name, r->trash_fd, to, RENAME_NOREPLACE) == 0)
		return;
	if (errno != ENOENT)
		log_warn("%s: cannot be moved to the trash: %s", name, strerror(errno));
	*to = '\0';
}

void
trash_take(struct replica *r, int dirfd, const char *name, const char *as)
{
	char to[TRASH_NAME_MAX];

	trash_take_as(r, dirfd, name, as, to);
}
