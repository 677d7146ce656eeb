/*
 * Content on its way in: what is staged, and where equal content stands already.
 *
 * staging/HASH is complete content; staging/HASH.part has come up to its length.
 * What is put in place from there is synced before the index says so.  Content is shared by hash, and
 * copied when more than one name waits for it.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "replication/content_impl.h"

#define KEEP_DAYS 30
#define SWEEP_AGE_S 3600
#define SWEEP_STEP 50
#define PLACES_FIRST 8	/* of a content, that are tried before all of them */

/* ---- staged content ---- */

static struct staged *
staged_of(struct replica *r, const struct hash *h)
{
	struct staged *s;

	HASH_FIND(hh, r->staged, h, sizeof(*h), s);
	return s;
}

struct staged *
content_staged_add(struct replica *r, const struct hash *h)
{
	struct staged *s = staged_of(r, h);

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
	if (staged_of(r, h))
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

/* ---- content that stands here under some name ---- */

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

	if (staged_of(r, h)) {
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

/* The same in what the index does not know of yet. */
static int
open_dirty(struct replica *r, const struct hash *h, uint64_t *size)
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
		fd = open_dirty(r, h, &size);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

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
	int from = open_dirty(r, h, &size);
	bool staged = from >= 0 && stage_copy(r, h, from, size);

	if (from >= 0)
		close(from);
	return staged;
}

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
	if (staged_of(r, h)) {
		staged_of(r, h)->kept = true;
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
	if (!staged_of(r, h) && renameat2(dirfd, name, r->staging_fd, hex, RENAME_NOREPLACE) == 0)
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
	    staged_of(r, h)) {
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
content_stands(const struct reg *reg, const struct hash *h)
{
	for (uint32_t i = 0; i < reg->files_len; i++)
		if (hash_compare(&reg->files[i].hash, h) == 0)
			return true;
	return false;
}

bool
content_ready(struct replica *r, struct reg *reg, uint64_t from)
{
	uint64_t max = r->hasher ? LISTS_WORTH : UINT64_MAX;
	bool ready = true;

	if (ignore_reg(r, reg))
		return false;

	for (uint32_t i = 0; i < reg->pending->len; i++) {
		const struct version *v = &reg->pending->v[i];

		if (content_stands(reg, &v->hash) || staged_of(r, &v->hash) || stage_from_here(r, &v->hash, max))
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
	struct staged *s = staged_of(r, h);
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
	s = staged_of(r, h);
	HASH_DEL(r->staged, s);
	free(s);
	return 0;
}

/* ---- at the start ---- */

static void
clean_staged(void *arg, const char *name)
{
	struct replica *r = arg;
	struct stat st;
	struct hash h;
	char hex[CONTENT_NAME_MAX];

	for (const struct staged *s = r->staged; s; s = s->hh.next) {
		lists_name(&s->hash, hex);
		if (strcmp(name, hex) == 0)
			return;
	}
	/* What a link was cut off in goes on from there. */
	if (strlen(name) == 64 + 5 && strcmp(name + 64, ".part") == 0 &&
	    fstatat(r->staging_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    time(NULL) - st.st_mtim.tv_sec < KEEP_DAYS * INT64_C(86400))
		return;
	/* What was kept by content_keep stays for as long as the trash does. */
	if (lists_hash(name, &h) == 0 && fstatat(r->staging_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    time(NULL) - st.st_ctim.tv_sec < KEEP_DAYS * INT64_C(86400)) {
		content_staged_add(r, &h)->kept = true;
		return;
	}
	unlinkat(r->staging_fd, name, 0);
}

/*
 * Content that came for versions which were replaced before they showed.  Only
 * while nothing waits is it certain that nobody needs it.
 */
void
content_clean(struct replica *r)
{
	struct staged *s, *tmp;
	char hex[CONTENT_NAME_MAX];

	HASH_ITER(hh, r->staged, s, tmp) {
		if (s->kept)
			continue;
		lists_name(&s->hash, hex);
		unlinkat(r->staging_fd, hex, 0);
		HASH_DEL(r->staged, s);
		free(s);
	}
}

void
content_put_back(struct replica *r, const struct hash *h, const char *name)
{
	char hex[LISTS_NAME_MAX];

	lists_name(h, hex);
	if (!staged_of(r, h) && renameat2(r->staging_fd, name, r->staging_fd, hex, RENAME_NOREPLACE) == 0)
		content_staged_add(r, h);
	else
		unlinkat(r->staging_fd, name, 0);
}

static int
load_pending(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct replica *r = arg;
	struct reg *reg = state_reg_in(r->s, dir_num, name);

	(void)seq;
	if (reg && (reg->pending || reg->again))
		state_touch_reg(r->s, reg);
	return 0;
}

/* What is staged is not synced: after a power cut it may be less than its name says. */
static void
drop_torn(void *arg, const char *name)
{
	struct replica *r = arg;
	struct chunk_list l;
	struct hash h, link;
	char target[4096];
	ssize_t n;
	int fd;

	if (lists_hash(name, &h) < 0 || (fd = openat(r->staging_fd, name, O_RDONLY | O_CLOEXEC)) < 0)
		return;
	n = pread(fd, target, sizeof(target), 0);
	chunk_link_hash(target, n > 0 ? (size_t)n : 0, &link);
	if (hash_compare(&link, &h) != 0 && (chunk_file(fd, false, &l) < 0 || hash_compare(&l.hash, &h) != 0)) {
		log_info("what had come did not survive the power cut: fetched again");
		unlinkat(r->staging_fd, name, 0);
	}
	close(fd);
}

/* At the start: what is staged, and who waits for content. */
void
content_load(struct replica *r)
{
	if (!r->same_boot)
		disk_each_entry(r->staging_fd, drop_torn, r);
	index_regs_pending(r->x, load_pending, r);
	for (size_t i = 0; i < r->s->touched_regs.len; i++) {
		struct reg *reg = r->s->touched_regs.r[i];

		if (!reg->pending)
			continue;
		for (uint32_t v = 0; v < reg->pending->len; v++) {
			char name[CONTENT_NAME_MAX];

			lists_name(&reg->pending->v[v].hash, name);
			if (faccessat(r->staging_fd, name, F_OK, 0) == 0)
				content_staged_add(r, &reg->pending->v[v].hash);
		}
		view_defer(r, reg);
	}
	disk_each_entry(r->staging_fd, clean_staged, r);
}

/* ---- lists of chunks ---- */

static int
found(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	(void)dir_num;
	(void)name;
	(void)seq;
	*(bool *)arg = true;
	return 1;
}

static void
sweep_one(struct replica *r, const char *name)
{
	bool used = false;
	struct stat st;
	struct hash h;

	if (fstatat(r->chunks_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
	    time(NULL) - st.st_mtim.tv_sec < SWEEP_AGE_S)
		return;
	if (lists_hash(name, &h) == 0) {
		index_regs_with_content(r->x, &h, SIZE_MAX, found, &used);
		if (used || content_want(r, &h) || staged_of(r, &h) || recycle_has(r, &h))
			return;
	}
	unlinkat(r->chunks_fd, name, 0);
}

void
content_sweep(struct replica *r)
{
	struct dirent *de = NULL;
	int fd;

	if (!r->sweep) {
		fd = openat(r->chunks_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r->sweep = fd >= 0 ? fdopendir(fd) : NULL;
		if (!r->sweep && fd >= 0)
			close(fd);
	}
	for (int i = 0; i < SWEEP_STEP && r->sweep && (de = readdir(r->sweep)); i++)
		sweep_one(r, de->d_name);
	if (de)
		return;
	if (r->sweep)
		closedir(r->sweep);
	r->sweep = NULL;
	r->sweep_due = false;
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
