/*
 * Content in staging/: how it gets there, and from there into place.
 *
 * staging/HASH is complete content; staging/HASH.part has come up to its length.
 * What is put in place from there is synced before the index says so.  Content is
 * shared by hash, and copied when more than one name waits for it.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "replication/content_impl.h"

/* ---- staged content ---- */

struct staged *
content_staged_of(struct replica *r, const struct hash *h)
{
	struct staged *s;

	HASH_FIND(hh, r->staged, h, sizeof(*h), s);
	return s;
}

struct staged *
content_staged_add(struct replica *r, const struct hash *h)
{
	struct staged *s = content_staged_of(r, h);

	if (!s) {
		s = mem_alloc(sizeof(*s));
		s->hash = *h;
		HASH_ADD(hh, r->staged, hash, sizeof(s->hash), s);
	}
	return s;
}

int
content_write(int fd, const uint8_t *p, size_t len, uint64_t offset)
{
	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

#define RESERVE_PERCENT 1
#define RESERVE_MAX (UINT64_C(1) << 30)

static uint64_t
reserve(const struct replica *r, uint64_t size)
{
	const struct reserve *m = &r->settings.min_free;
	uint64_t usual = size / 100 * RESERVE_PERCENT;

	if (m->set)
		return m->percent ? size / 100 * m->percent : m->bytes;
	return usual < RESERVE_MAX ? usual : RESERVE_MAX;
}

bool
content_fits(struct replica *r, uint64_t bytes)
{
	struct statvfs fs;
	uint64_t left;

	if (fstatvfs(r->staging_fd, &fs) < 0)
		return true;
	left = (r->as_root ? fs.f_bfree : fs.f_bavail) * fs.f_frsize;
	return left >= bytes && left - bytes >= reserve(r, fs.f_blocks * fs.f_frsize);
}

int
content_stage_bytes(struct replica *r, const struct hash *h, uint8_t kind, const void *p, size_t len)
{
	char name[LISTS_NAME_MAX], part[CONTENT_NAME_MAX];
	struct hash got;
	int fd, rc;

	if (kind == KIND_SYMLINK)
		chunk_link_hash(p, len, &got);
	else
		chunk_content_hash(p, len, &got);
	if (hash_compare(&got, h) != 0)
		return -EBADMSG;
	if (content_staged_of(r, h))
		return 0;
	if (len && !content_fits(r, len))
		return -ENOSPC;
	lists_name(h, name);
	snprintf(part, sizeof(part), "%s.part", name);
	fd = openat(r->staging_fd, part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = content_write(fd, p, len, 0);
	close(fd);
	if (rc == 0 && renameat(r->staging_fd, part, r->staging_fd, name) < 0)
		rc = -errno;
	if (rc < 0) {
		unlinkat(r->staging_fd, part, 0);
		return rc;
	}
	content_staged_add(r, h);
	return 0;
}

/* ---- copies ---- */

static int
copy_range(int from, int to, uint64_t size)
{
	static uint8_t buf[1 << 20];
	off_t in = 0, out = 0;

	while ((uint64_t)in < size) {
		ssize_t n = copy_file_range(from, &in, to, &out, size - (uint64_t)in, 0);

		if (n > 0)
			continue;
		if (n == 0)
			return -EIO;
		if (errno != EXDEV && errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS)
			return -errno;
		n = pread(from, buf, sizeof(buf), in);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		if (content_write(to, buf, (size_t)n, (uint64_t)out) < 0)
			return -ENOSPC;
		in += n;
		out += n;
	}
	return 0;
}

/* A copy in staging/ of what `from` holds. */
static bool
stage_copy(struct replica *r, const struct hash *h, int from, uint64_t size)
{
	char name[LISTS_NAME_MAX], part[CONTENT_NAME_MAX];
	int to, rc;

	lists_name(h, name);
	snprintf(part, sizeof(part), "%s.copy", name);
	to = openat(r->staging_fd, part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	rc = to < 0 ? -errno : copy_range(from, to, size);
	if (to >= 0)
		close(to);
	if (rc == 0 && renameat(r->staging_fd, part, r->staging_fd, name) < 0)
		rc = -errno;
	if (rc < 0) {
		unlinkat(r->staging_fd, part, 0);
		return false;
	}
	content_staged_add(r, h);
	return true;
}

/* Equal content from elsewhere in the store; at most `max` bytes. */
static bool
stage_from_here(struct replica *r, const struct hash *h, uint64_t max)
{
	uint64_t size;
	int from = content_open(r, h, &size);
	bool staged = from >= 0 && size <= max && stage_copy(r, h, from, size);

	if (from >= 0)
		close(from);
	return staged;
}

/* The same from what was put in its place since the last commit. */
static bool
stage_from_dirty(struct replica *r, const struct hash *h)
{
	uint64_t size;
	int from = content_open_dirty(r, h, &size);
	bool staged = from >= 0 && stage_copy(r, h, from, size);

	if (from >= 0)
		close(from);
	return staged;
}

/* ---- what leaves the tree ---- */

void
content_keep(struct replica *r, int dirfd, const char *name, const struct hash *h)
{
	char target[4097], hex[LISTS_NAME_MAX], part[CONTENT_NAME_MAX];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target));
	struct stat st;
	int from, to;

	if (n >= 0 && n < (ssize_t)sizeof(target)) {
		if (content_stage_bytes(r, h, KIND_SYMLINK, target, (size_t)n) == 0)
			content_staged_add(r, h)->kept = true;
		return;
	}
	if (content_staged_of(r, h)) {
		content_staged_of(r, h)->kept = true;
		return;
	}
	if ((from = disk_open_file(dirfd, name)) < 0)
		return;
	lists_name(h, hex);
	snprintf(part, sizeof(part), "%s.copy", hex);
	/* A copy: it may have other names, and programs that hold it open. */
	to = openat(r->staging_fd, part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (to >= 0 && fstat(from, &st) == 0 && copy_range(from, to, (uint64_t)st.st_size) == 0 &&
	    renameat(r->staging_fd, part, r->staging_fd, hex) == 0)
		content_staged_add(r, h)->kept = true;
	else
		unlinkat(r->staging_fd, part, 0);
	/* No room: then the file itself is kept, which takes none. */
	if (!content_staged_of(r, h) && renameat2(dirfd, name, r->staging_fd, hex, RENAME_NOREPLACE) == 0)
		content_staged_add(r, h)->kept = true;
	close(from);
	if (to >= 0)
		close(to);
}

void
content_take(struct replica *r, int dirfd, const char *name, const struct hash *h)
{
	char hex[LISTS_NAME_MAX];
	struct stat st;

	/* It may have other names, which must not come along.  Symbolic links are
	 * staged as the text they hold. */
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) || st.st_nlink > 1 ||
	    content_staged_of(r, h)) {
		content_keep(r, dirfd, name, h);
		trash_take(r, dirfd, name, name);
		return;
	}
	lists_name(h, hex);
	if (renameat2(dirfd, name, r->staging_fd, hex, RENAME_NOREPLACE) < 0) {
		if (errno != EEXIST)
			log_warn("%s cannot be moved aside: %s", name, strerror(errno));
		else
			trash_take(r, dirfd, name, name);
	}
	content_staged_add(r, h)->kept = true;
}

/* ---- what a register waits for ---- */

bool
content_ready(struct replica *r, struct reg *reg, uint64_t from)
{
	uint64_t max = r->hasher ? LISTS_WORTH : UINT64_MAX;
	bool ready = true;

	if (ignore_reg(r, reg))
		return false;

	for (uint32_t i = 0; i < reg->pending->len; i++) {
		const struct version *v = &reg->pending->v[i];

		if (content_stands(reg, &v->hash) || content_staged_of(r, &v->hash) || stage_from_here(r, &v->hash, max))
			continue;
		content_want_add(r, reg, v, from);
		/* If it stands here, large, it is copied aside. */
		if (v->size > LISTS_WORTH)
			fetch_start(r, content_want(r, &v->hash));
		ready = false;
	}
	return ready;
}

int
content_source(struct replica *r, const struct hash *h, uint8_t kind, char *name, size_t size)
{
	struct staged *s = content_staged_of(r, h);
	char hex[CONTENT_NAME_MAX], target[4097];
	ssize_t n;
	int fd;

	if (!s && !stage_from_here(r, h, UINT64_MAX) && !stage_from_dirty(r, h))
		return -ENOENT;
	lists_name(h, hex);
	snprintf(name, size, "p-%" PRIx64, ++r->next_temp);
	fd = openat(r->staging_fd, hex, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (kind == KIND_SYMLINK) {
		n = read(fd, target, sizeof(target) - 1);
		close(fd);
		if (n < 0)
			return -errno;
		target[n] = '\0';
		return symlinkat(target, r->staging_fd, name) < 0 ? -errno : 0;
	}
	close(fd);
	/* Whoever else waits for it copies it from its place in the tree. */
	if (renameat(r->staging_fd, hex, r->staging_fd, name) < 0)
		return -errno;
	s = content_staged_of(r, h);
	HASH_DEL(r->staged, s);
	free(s);
	return 0;
}

void
content_put_back(struct replica *r, const struct hash *h, const char *name)
{
	char hex[LISTS_NAME_MAX];

	lists_name(h, hex);
	if (!content_staged_of(r, h) && renameat2(r->staging_fd, name, r->staging_fd, hex, RENAME_NOREPLACE) == 0)
		content_staged_add(r, h);
	else
		unlinkat(r->staging_fd, name, 0);
}

void
content_free(struct replica *r)
{
	struct staged *s, *stmp;
	struct want *w, *wtmp;

	HASH_ITER(hh, r->wants, w, wtmp)
		content_want_free(r, w);
	HASH_ITER(hh, r->staged, s, stmp) {
		HASH_DEL(r->staged, s);
		free(s);
	}
	if (r->sweep)
		closedir(r->sweep);
	recycle_free(r);
}
