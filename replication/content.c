/*
 * Content on its way in: what is staged, what is wanted, where equal content
 * stands already; and what leaves the tree, to the trash.
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
#include <time.h>
#include <unistd.h>

#include "replication/chunk.h"
#include "replication/replica_impl.h"

#define WANTS_IN_FLIGHT 64
#define KEEP_DAYS 30

static void
hex_of(const struct hash *h, char *out)
{
	for (size_t i = 0; i < sizeof(h->b); i++)
		sprintf(out + 2 * i, "%02x", h->b[i]);
}

static int
hash_of_hex(const char *hex, struct hash *h)
{
	if (strlen(hex) != 2 * sizeof(h->b) || strspn(hex, "0123456789abcdef") != 2 * sizeof(h->b))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(h->b); i++)
		sscanf(hex + 2 * i, "%2hhx", &h->b[i]);
	return 0;
}

/* ---- staged content ---- */

static struct staged *
staged_find(struct replica *r, const struct hash *h)
{
	struct staged *s;

	HASH_FIND(hh, r->staged, h, sizeof(*h), s);
	return s;
}

static struct staged *
staged_add(struct replica *r, const struct hash *h)
{
	struct staged *s = staged_find(r, h);

	if (!s) {
		s = mem_alloc(sizeof(*s));
		s->hash = *h;
		HASH_ADD(hh, r->staged, hash, sizeof(s->hash), s);
	}
	return s;
}

static int
write_all(int fd, const uint8_t *p, size_t len, uint64_t offset)
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

int
content_stage_bytes(struct replica *r, const struct hash *h, uint8_t kind, const void *p, size_t len)
{
	char name[80], part[90];
	struct hash got;
	int fd, rc;

	if (kind == KIND_SYMLINK)
		chunk_link_hash(p, len, &got);
	else
		chunk_content_hash(p, len, &got);
	if (hash_compare(&got, h) != 0)
		return -EBADMSG;
	if (staged_find(r, h))
		return 0;
	hex_of(h, name);
	snprintf(part, sizeof(part), "%s.part", name);
	fd = openat(r->staging_fd, part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = write_all(fd, p, len, 0);
	close(fd);
	if (rc == 0 && renameat(r->staging_fd, part, r->staging_fd, name) < 0)
		rc = -errno;
	if (rc < 0) {
		unlinkat(r->staging_fd, part, 0);
		return rc;
	}
	staged_add(r, h);
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

	if (fd >= 0 && write_all(fd, (const uint8_t *)target, (size_t)n, 0) < 0) {
		close(fd);
		return -1;
	}
	*size = (uint64_t)n;
	return fd;
}

static int
try_register(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct finder *q = arg;
	struct dir *d = state_dir_num(q->r->s, dir_num);
	struct reg *reg = d ? state_reg(q->r->s, d, name, false) : NULL;
	int dirfd;

	(void)seq;
	if (!reg || !disk_of(reg->dir) || (dirfd = disk_fd(&q->r->disk, disk_of(reg->dir))) < 0)
		return 0;
	for (uint32_t i = 0; i < reg->files_len; i++) {
		const struct reg_file *f = &reg->files[i];
		struct stat st;
		int fd;

		if (hash_compare(&f->hash, q->h) != 0)
			continue;
		fd = openat(dirfd, f->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
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

int
content_open(struct replica *r, const struct hash *h, uint64_t *size)
{
	struct finder q = { r, h, -1, 0 };
	struct stat st;
	char name[80];

	if (staged_find(r, h)) {
		hex_of(h, name);
		q.fd = openat(r->staging_fd, name, O_RDONLY | O_CLOEXEC);
		if (q.fd >= 0 && fstat(q.fd, &st) == 0) {
			*size = (uint64_t)st.st_size;
			return q.fd;
		}
	}
	index_regs_with_content(r->x, h, try_register, &q);
	if (q.fd < 0)
		return -ENOENT;
	*size = q.size;
	return q.fd;
}

bool
content_here(struct replica *r, const struct hash *h)
{
	return staged_find(r, h) != NULL;
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
		if (write_all(to, buf, (size_t)n, (uint64_t)out) < 0)
			return -ENOSPC;
		in += n;
		out += n;
	}
	return 0;
}

/* Equal content from elsewhere in the store. */
static bool
stage_from_here(struct replica *r, const struct hash *h)
{
	char name[80], part[90];
	uint64_t size;
	int from = content_open(r, h, &size), to, rc;

	if (from < 0)
		return false;
	hex_of(h, name);
	snprintf(part, sizeof(part), "%s.copy", name);
	to = openat(r->staging_fd, part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	rc = to < 0 ? -errno : copy_range(from, to, size);
	close(from);
	if (to >= 0)
		close(to);
	if (rc == 0 && renameat(r->staging_fd, part, r->staging_fd, name) < 0)
		rc = -errno;
	if (rc < 0) {
		unlinkat(r->staging_fd, part, 0);
		return false;
	}
	staged_add(r, h);
	return true;
}

void
content_keep(struct replica *r, int dirfd, const char *name, const struct hash *h)
{
	char target[4097], hex[80], part[90];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target));
	struct stat st;
	int from, to;

	if (n >= 0 && n < (ssize_t)sizeof(target)) {
		if (content_stage_bytes(r, h, KIND_SYMLINK, target, (size_t)n) == 0)
			staged_add(r, h)->kept = true;
		return;
	}
	if (staged_find(r, h)) {
		staged_find(r, h)->kept = true;
		return;
	}
	if ((from = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)) < 0)
		return;
	hex_of(h, hex);
	snprintf(part, sizeof(part), "%s.copy", hex);
	/* A copy: it may have other names, and programs that hold it open. */
	to = openat(r->staging_fd, part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (to >= 0 && fstat(from, &st) == 0 && copy_range(from, to, (uint64_t)st.st_size) == 0 &&
	    renameat(r->staging_fd, part, r->staging_fd, hex) == 0)
		staged_add(r, h)->kept = true;
	else
		unlinkat(r->staging_fd, part, 0);
	close(from);
	if (to >= 0)
		close(to);
}

/* ---- wants ---- */

static struct want *
want_find(struct replica *r, const struct hash *h)
{
	struct want *w;

	HASH_FIND(hh, r->wants, h, sizeof(*h), w);
	return w;
}

static void
add_waiter(struct want *w, const struct reg *reg)
{
	for (size_t i = 0; i < w->waiters_len; i++)
		if (w->waiters[i].dir_num == reg->dir->num && strcmp(w->waiters[i].name, reg_name(reg)) == 0)
			return;
	w->waiters = mem_resize(w->waiters, w->waiters_len + 1, sizeof(*w->waiters));
	w->waiters[w->waiters_len++] = (struct waiter){ reg->dir->num, mem_str(reg_name(reg)) };
}

static void
want_add(struct replica *r, const struct reg *reg, const struct version *v, uint64_t from)
{
	struct want *w = want_find(r, &v->hash);
	char name[80], part[90];
	struct stat st;

	if (!w) {
		w = mem_alloc(sizeof(*w));
		w->hash = v->hash;
		w->size = v->size;
		w->fd = -1;
		hex_of(&v->hash, name);
		snprintf(part, sizeof(part), "%s.part", name);
		if (fstatat(r->staging_fd, part, &st, 0) == 0)
			w->have = (uint64_t)st.st_size;
		HASH_ADD(hh, r->wants, hash, sizeof(w->hash), w);
		r->wants_sorted = false;
	}
	add_waiter(w, reg);
	if (from) {
		w->from = from;
		w->failed = false;
	}
}

static void
want_free(struct replica *r, struct want *w)
{
	if (w->fd >= 0)
		close(w->fd);
	for (size_t i = 0; i < w->waiters_len; i++)
		free(w->waiters[i].name);
	free(w->waiters);
	HASH_DEL(r->wants, w);
	free(w);
}

void
content_fetch(struct replica *r, const struct reg *reg, const struct version *v)
{
	want_add(r, reg, v, v->dot.id);
}

/* Those who waited may show now, if they wait for nothing else. */
static void
wake_waiters(struct replica *r, struct want *w)
{
	for (size_t i = 0; i < w->waiters_len; i++) {
		struct dir *d = state_dir_num(r->s, w->waiters[i].dir_num);
		struct reg *reg = d ? state_reg(r->s, d, w->waiters[i].name, false) : NULL;

		if (reg && reg->pending)
			view_defer(r, reg);
		else if (reg)
			state_touch_reg(r->s, reg);
	}
}

/* Does the register show a file of that content already? */
static bool
stands_in(const struct reg *reg, const struct hash *h)
{
	for (uint32_t i = 0; i < reg->files_len; i++)
		if (hash_compare(&reg->files[i].hash, h) == 0)
			return true;
	return false;
}

bool
content_ready(struct replica *r, struct reg *reg, uint64_t from)
{
	bool ready = true;

	for (uint32_t i = 0; i < reg->pending->len; i++) {
		const struct version *v = &reg->pending->v[i];

		if (stands_in(reg, &v->hash) || staged_find(r, &v->hash) || stage_from_here(r, &v->hash))
			continue;
		want_add(r, reg, v, from);
		ready = false;
	}
	return ready;
}

int
content_source(struct replica *r, const struct hash *h, uint8_t kind, char *name, size_t size)
{
	struct staged *s = staged_find(r, h);
	char hex[80], target[4097];
	ssize_t n;
	int fd;

	if (!s && !stage_from_here(r, h))
		return -ENOENT;
	hex_of(h, hex);
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
	s = staged_find(r, h);
	HASH_DEL(r->staged, s);
	free(s);
	return 0;
}

/* It has all come: rc says whether it is what was announced. */
static void
settle_want(struct replica *r, struct want *w, int rc)
{
	char name[80], part[90];
	struct hash h = w->hash;

	hex_of(&h, name);
	snprintf(part, sizeof(part), "%s.part", name);
	w->checking = false;
	if (rc == 0 && renameat(r->staging_fd, part, r->staging_fd, name) < 0)
		rc = -errno;
	if (rc < 0) {
		log_warn("content that came is not what was announced (%s): fetched again", strerror(-rc));
		unlinkat(r->staging_fd, part, 0);
		content_failed(r, w);
		w->have = 0;
		return;
	}
	staged_add(r, &h);
	wake_waiters(r, w);
	want_free(r, w);
}

static void
checked(struct replica *r, struct hash_job *j)
{
	struct want *w = want_find(r, &j->expected);

	if (w && w->checking)
		settle_want(r, w, j->rc < 0 ? j->rc : hash_compare(&j->hash, &j->expected) == 0 ? 0 : -EBADMSG);
}

static bool
is_link(int fd, const struct hash *h)
{
	char target[4096];
	ssize_t n = pread(fd, target, sizeof(target), 0);
	struct hash link;

	if (n < 0)
		return false;
	chunk_link_hash(target, (size_t)n, &link);
	return hash_compare(&link, h) == 0;
}

static void
complete(struct replica *r, struct want *w)
{
	struct chunk_list l;
	int rc;

	w->link = NULL;
	if (r->hasher && w->have > HASHER_WORTH) {
		struct hash_job *j = mem_alloc(sizeof(*j));

		j->fd = w->fd;
		w->fd = -1;
		j->sync = true;
		j->done = checked;
		j->expected = w->hash;
		w->checking = true;
		hasher_add(r, j);
		return;
	}
	rc = fdatasync(w->fd) < 0 ? -errno : chunk_file(w->fd, false, &l);
	if (rc == 0 && hash_compare(&l.hash, &w->hash) != 0 && !is_link(w->fd, &w->hash))
		rc = -EBADMSG;
	settle_want(r, w, rc);
}

void
content_received(struct replica *r, struct want *w, uint64_t offset, const void *p, size_t len, bool last)
{
	char name[80], part[90];
	int rc = 0;

	if (w->fd < 0) {
		hex_of(&w->hash, name);
		snprintf(part, sizeof(part), "%s.part", name);
		w->fd = openat(r->staging_fd, part, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (w->fd < 0)
			rc = -errno;
	}
	if (rc == 0 && offset != w->have)
		rc = -EBADMSG;
	if (rc == 0)
		rc = write_all(w->fd, p, len, offset);
	if (rc < 0) {
		if (rc == -ENOSPC || rc == -EDQUOT) {
			if (!r->receiver_full)
				log_err("no room for what peers send: it goes on when there is");
			r->receiver_full = true;
			w->full = true;
			r->retry_wants_ms = replica_now_ms() + 2000;
		}
		if (w->link)
			link_unwant(w->link, w);
		content_failed(r, w);
		return;
	}
	w->have += len;
	if (last)
		complete(r, w);
}

void
content_failed(struct replica *r, struct want *w)
{
	(void)r;
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
	w->link = NULL;
	w->failed = true;
}

void
content_drop_link(struct replica *r, struct link *l)
{
	struct want *w, *tmp;

	HASH_ITER(hh, r->wants, w, tmp)
		if (w->link == l) {
			if (w->fd >= 0)
				close(w->fd);
			w->fd = -1;
			w->link = NULL;
		}
}

static int
by_size(struct want *a, struct want *b)
{
	return (a->size > b->size) - (a->size < b->size);
}

/* Asks for what is wanted, small ones first, of the peer that told of it. */
void
content_request(struct replica *r)
{
	struct want *w, *tmp;
	unsigned busy = 0;

	HASH_ITER(hh, r->wants, w, tmp)
		busy += w->link != NULL || w->checking;
	if (busy >= WANTS_IN_FLIGHT || busy == HASH_COUNT(r->wants))
		return;
	if (!r->wants_sorted)
		HASH_SORT(r->wants, by_size);
	r->wants_sorted = true;
	HASH_ITER(hh, r->wants, w, tmp) {
		if (busy >= WANTS_IN_FLIGHT)
			return;
		if (w->link || w->failed || w->checking)
			continue;
		for (struct peer *p = r->peers; p && !w->link; p = p->next)
			if (p->link && link_is_up(p->link) && link_peer_id(p->link) == w->from &&
			    link_want(p->link, w))
				w->link = p->link;
		for (struct peer *p = r->peers; p && !w->link; p = p->next)
			if (p->link && link_is_up(p->link) && link_want(p->link, w))
				w->link = p->link;
		busy += w->link != NULL;
	}
}

/* Does any register that asked for it still need it? */
static bool
still_wanted(struct replica *r, const struct want *w)
{
	for (size_t i = 0; i < w->waiters_len; i++) {
		struct dir *d = state_dir_num(r->s, w->waiters[i].dir_num);
		struct reg *reg = d ? state_reg(r->s, d, w->waiters[i].name, false) : NULL;

		if (reg && reg->pending && regval_has(reg->pending, &w->hash))
			return true;
	}
	return false;
}

void
content_retry(struct replica *r, bool all)
{
	struct want *w, *tmp;

	HASH_ITER(hh, r->wants, w, tmp) {
		if (!w->failed)
			continue;
		if (!still_wanted(r, w)) {
			/* Newer content took its place; what names still show of
			 * it, and have not, they ask for again. */
			if (all)
				wake_waiters(r, w);
			want_free(r, w);
		} else if (all) {
			w->failed = w->full = false;
		}
	}
}

uint64_t
content_wanted(struct replica *r, uint64_t *bytes)
{
	struct want *w, *tmp;
	uint64_t n = 0;

	*bytes = 0;
	HASH_ITER(hh, r->wants, w, tmp) {
		n++;
		*bytes += w->size > w->have ? w->size - w->have : 0;
	}
	return n;
}

/* ---- at the start ---- */

static void
clean_staged(void *arg, const char *name)
{
	struct replica *r = arg;
	struct stat st;
	struct hash h;
	char hex[80];

	for (const struct staged *s = r->staged; s; s = s->hh.next) {
		hex_of(&s->hash, hex);
		if (strcmp(name, hex) == 0)
			return;
	}
	/* What a link was cut off in goes on from there. */
	if (strlen(name) == 64 + 5 && strcmp(name + 64, ".part") == 0)
		return;
	/* What was kept by content_keep stays for as long as the trash does. */
	if (hash_of_hex(name, &h) == 0 && fstatat(r->staging_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    time(NULL) - st.st_ctim.tv_sec < KEEP_DAYS * INT64_C(86400)) {
		staged_add(r, &h)->kept = true;
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
	char hex[80];

	HASH_ITER(hh, r->staged, s, tmp) {
		if (s->kept)
			continue;
		hex_of(&s->hash, hex);
		unlinkat(r->staging_fd, hex, 0);
		HASH_DEL(r->staged, s);
		free(s);
	}
}

static int
load_pending(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct replica *r = arg;
	struct dir *d = state_dir_num(r->s, dir_num);
	struct reg *reg = d ? state_reg(r->s, d, name, false) : NULL;

	(void)seq;
	if (reg && reg->pending)
		state_touch_reg(r->s, reg);
	return 0;
}

/* At the start: what is staged, and who waits for content. */
void
content_load(struct replica *r)
{
	index_regs_pending(r->x, load_pending, r);
	for (size_t i = 0; i < r->s->touched_regs.len; i++) {
		struct reg *reg = r->s->touched_regs.r[i];

		if (!reg->pending)
			continue;
		for (uint32_t v = 0; v < reg->pending->len; v++) {
			char name[80];

			hex_of(&reg->pending->v[v].hash, name);
			if (faccessat(r->staging_fd, name, F_OK, 0) == 0)
				staged_add(r, &reg->pending->v[v].hash);
		}
		view_defer(r, reg);
	}
	trash_each_entry(r->staging_fd, clean_staged, r);
}
