/*
 * Content that stands here already, whole: in staging/, or in the tree under some
 * name, if nobody has written to that since.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/content_impl.h"

#define PLACES_FIRST 8	/* of a content, that are tried before all of them */

bool
content_stands(const struct reg *reg, const struct hash *h)
{
	for (uint32_t i = 0; i < reg->files_len; i++)
		if (hash_compare(&reg->files[i].hash, h) == 0)
			return true;
	return false;
}

struct finder {
	struct replica *r;
	const struct hash *h;
	int fd;
	uint64_t size;
};

/* A symbolic link's target as a file, to be read like any content. */
static int
open_link(int dirfd, const char *name, uint64_t *size)
{
	char target[4096];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target));
	int fd = n < 0 ? -1 : memfd_create("link", MFD_CLOEXEC);

	if (fd >= 0 && content_write(fd, (const uint8_t *)target, (size_t)n, 0) < 0) {
		close(fd);
		return -1;
	}
	*size = (uint64_t)n;
	return fd;
}

static int
try_register(struct finder *q, struct reg *reg)
{
	int dirfd;

	if (!reg || !disk_of(reg->dir) || (dirfd = disk_fd(&q->r->disk, disk_of(reg->dir))) < 0)
		return 0;
	for (uint32_t i = 0; i < reg->files_len; i++) {
		const struct reg_file *f = &reg->files[i];
		struct stat st;
		int fd;

		if (hash_compare(&f->hash, q->h) != 0)
			continue;
		fd = disk_open_file(dirfd, f->name);
		if (fd < 0 && errno == ELOOP && (fd = open_link(dirfd, f->name, &q->size)) >= 0) {
			q->fd = fd;
			return 1;
		}
		if (fd < 0)
			continue;
		/* What was written since is another content. */
		if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == f->stamp.size &&
		    st.st_ino == f->stamp.ino &&
		    st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec == f->stamp.mtime_ns) {
			q->fd = fd;
			q->size = f->stamp.size;
			return 1;
		}
		close(fd);
	}
	return 0;
}

static int
try_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct finder *q = arg;

	(void)seq;
	return try_register(q, state_reg_in(q->r->s, dir_num, name));
}

int
content_open(struct replica *r, const struct hash *h, uint64_t *size)
{
	struct finder q = { r, h, -1, 0 };
	struct stat st;
	char name[CONTENT_NAME_MAX];

	if (content_staged_of(r, h)) {
		lists_name(h, name);
		q.fd = openat(r->staging_fd, name, O_RDONLY | O_CLOEXEC);
		if (q.fd >= 0 && fstat(q.fd, &st) == 0) {
			*size = (uint64_t)st.st_size;
			return q.fd;
		}
	}
	/* There may be thousands, and mostly each will do. */
	index_regs_with_content(r->x, h, PLACES_FIRST, try_row, &q);
	if (q.fd < 0)
		index_regs_with_content(r->x, h, SIZE_MAX, try_row, &q);
	if (q.fd < 0)
		return -ENOENT;
	*size = q.size;
	return q.fd;
}

int
content_open_dirty(struct replica *r, const struct hash *h, uint64_t *size)
{
	struct finder q = { r, h, -1, 0 };

	for (size_t i = 0; i < r->s->dirty_regs.len && q.fd < 0; i++)
		try_register(&q, r->s->dirty_regs.r[i]);
	*size = q.size;
	return q.fd < 0 ? -ENOENT : q.fd;
}

bool
content_stands_beside(struct replica *r, const struct hash *h)
{
	uint64_t size;
	int fd = content_open(r, h, &size);

	if (fd < 0)
		fd = content_open_dirty(r, h, &size);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}
