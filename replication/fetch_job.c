/*
 * Large content by chunks: what takes long, on a thread of its own.  While a job
 * runs the fetch is its alone.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/content_impl.h"
#include "replication/mem.h"

/* Of the largest chunk there is, all zeros: what holes are cut into. */
static struct hash zero_hash;
static struct fingerprint zero_print;
static pthread_once_t zero_once = PTHREAD_ONCE_INIT;

/* ---- prepare ---- */

void
fetch_run_prepare(struct hash_job *j)
{
	struct fetch *f = ((struct fetch_job *)j)->f;

	for (size_t i = 0; i < f->src_len; i++) {
		struct source *s = &f->src[i];

		if (!s->list.c && lists_of(f->lists_fd, &s->hash, s->fd, &s->list) < 0)
			s->list = (struct chunk_list){ 0 };
		outline_of(&s->list, &s->outline);
	}
}

/* ---- assemble ---- */

/* A chunk of a source; sorted by hash, then by where it is. */
struct spot {
	const struct chunk *c;
	const struct source *s;
};

static int
by_hash(const void *a, const void *b)
{
	const struct spot *x = a, *y = b;
	int cmp = hash_compare(&x->c->hash, &y->c->hash);

	if (cmp != 0)
		return cmp;
	return (x->c->offset > y->c->offset) - (x->c->offset < y->c->offset);
}

struct spot_list {
	struct spot *p;
	size_t len;
};

static void
collect(const struct fetch *f, bool in_place, struct spot_list *out)
{
	size_t n = 0;

	for (size_t i = 0; i < f->src_len; i++)
		n += f->src[i].list.len;
	*out = (struct spot_list){ mem_resize(NULL, n + 1, sizeof(*out->p)), 0 };
	for (size_t i = 0; i < f->src_len; i++) {
		const struct source *s = &f->src[i];

		for (size_t k = 0; k < s->list.len && s->in_place == in_place; k++)
			if (!s->have || s->have[k])
				out->p[out->len++] = (struct spot){ &s->list.c[k], s };
	}
	if (out->len)
		qsort(out->p, out->len, sizeof(*out->p), by_hash);
}

/* A place of the chunk's bytes: the one at its own offset, else any. */
static const struct spot *
find(const struct spot_list *q, const struct chunk *c, bool same_offset)
{
	size_t lo = 0, hi = q->len;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		struct spot key = { c, NULL };

		if (by_hash(&q->p[mid], &key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < q->len && hash_compare(&q->p[lo].c->hash, &c->hash) == 0 && q->p[lo].c->offset == c->offset)
		return &q->p[lo];
	if (same_offset)
		return NULL;
	if (lo < q->len && hash_compare(&q->p[lo].c->hash, &c->hash) == 0)
		return &q->p[lo];
	if (lo > 0 && hash_compare(&q->p[lo - 1].c->hash, &c->hash) == 0)
		return &q->p[lo - 1];
	return NULL;
}

/* Reads the bytes of c at an offset of fd; true if they are what they should be. */
static bool
read_chunk(int fd, uint64_t offset, const struct chunk *c, const struct fingerprint *print, uint8_t *buf)
{
	struct fingerprint now;
	struct hash h;
	size_t n = 0;

	while (n < c->size) {
		ssize_t got = pread(fd, buf + n, c->size - n, (off_t)(offset + n));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		n += (size_t)got;
	}
	if (print) {
		chunk_bytes_print(buf, c->size, &now);
		return memcmp(&now, print, sizeof(now)) == 0;
	}
	chunk_bytes_hash(buf, c->size, &h);
	return hash_compare(&h, &c->hash) == 0;
}

/* The source that has most chunks where they are to be. */
static struct source *
best_base(struct fetch *f, const struct spot_list *q)
{
	struct source *best = NULL;
	size_t most = 0;

	for (size_t i = 0; i < f->src_len; i++) {
		size_t n = 0;

		for (size_t k = 0; k < f->list.len; k++) {
			const struct spot *p = find(q, &f->list.c[k], true);

			n += p && p->s == &f->src[i];
		}
		if (n > most) {
			most = n;
			best = &f->src[i];
		}
	}
	return best;
}

static bool
is_zero(const uint8_t *p, size_t len)
{
	return len && !p[0] && memcmp(p, p + 1, len - 1) == 0;
}

/* The file's own chunks: those that stand where they are to be, in a clone or in
 * an older version, or came before a restart. */
static void
keep_own(struct fetch *f, int fd, const struct spot_list *own, uint8_t *buf)
{
	for (size_t i = 0; i < f->list.len; i++) {
		struct chunk *c = &f->list.c[i];
		const struct spot *p = find(own, c, true);

		if (own->len && !p)
			continue;
		f->have[i] = read_chunk(fd, c->offset, c, p ? &p->c->print : NULL, buf);
		if (f->have[i])
			chunk_bytes_print(buf, c->size, &c->print);
	}
}

static int
copy_rest(struct fetch *f, int fd, const struct spot_list *q, bool fresh, uint8_t *buf)
{
	for (size_t i = 0; i < f->list.len; i++) {
		struct chunk *c = &f->list.c[i];
		const struct spot *p = f->have[i] ? NULL : find(q, c, false);
		int rc;

		if (!p || !read_chunk(p->s->fd, p->c->offset, c, p->s->have ? NULL : &p->c->print, buf))
			continue;
		if (!(fresh && is_zero(buf, c->size)) && (rc = content_write(fd, buf, c->size, c->offset)) < 0)
			return rc;
		chunk_bytes_print(buf, c->size, &c->print);
		f->have[i] = 1;
	}
	return 0;
}

static void
find_zero_hash(void)
{
	uint8_t *zeros = mem_alloc(CHUNK_MAX);

	chunk_bytes_hash(zeros, CHUNK_MAX, &zero_hash);
	chunk_bytes_print(zeros, CHUNK_MAX, &zero_print);
	free(zeros);
}

/* A hole, where there may be something else now. */
static int
make_hole(int fd, const struct chunk *c)
{
	uint8_t *zeros;
	int rc;

	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)c->offset, c->size) == 0)
		return 0;
	zeros = mem_alloc(c->size);
	rc = content_write(fd, zeros, c->size, c->offset);
	free(zeros);
	return rc;
}

int
fetch_make_holes(struct fetch *f, int fd, bool fresh)
{
	pthread_once(&zero_once, find_zero_hash);
	for (size_t i = 0; i < f->list.len; i++) {
		struct chunk *c = &f->list.c[i];
		int rc;

		if (f->have[i] || c->size != CHUNK_MAX || hash_compare(&c->hash, &zero_hash) != 0)
			continue;
		if (!fresh && (rc = make_hole(fd, c)) < 0)
			return rc;
		c->print = zero_print;
		f->have[i] = 1;
	}
	return 0;
}

/* Few chunks are missing: what stands in their places in the version that is most
 * like it may be like them. */
static int
fill_similar(struct fetch *f, int fd, const struct source *base, uint8_t *buf)
{
	size_t missing = 0;

	for (size_t i = 0; i < f->list.len; i++)
		missing += !f->have[i];
	if (missing > BLOCKS_CHUNKS_MAX)
		return 0;
	for (size_t i = 0; i < f->list.len; i++) {
		const struct chunk *c = &f->list.c[i];
		ssize_t n = f->have[i] ? 0 : pread(base->fd, buf, c->size, (off_t)c->offset);
		int rc;

		if (n > 0 && (rc = content_write(fd, buf, (size_t)n, c->offset)) < 0)
			return rc;
	}
	f->fresh = false;
	f->similar = true;
	return 0;
}

static int
assemble(struct fetch *f, int fd, bool existed)
{
	struct spot_list own, others;
	struct source *base = NULL;
	uint8_t *buf = mem_alloc(CHUNK_MAX);
	bool fresh = !existed;
	int rc = 0;

	collect(f, true, &own);
	collect(f, false, &others);
	if (!existed && (base = best_base(f, &others)) && ioctl(fd, FICLONE, base->fd) == 0) {
		free(own.p);
		base->in_place = true;
		collect(f, true, &own);
		base->in_place = false;
		fresh = false;
	}
	if (existed || own.len)
		keep_own(f, fd, &own, buf);
	if (ftruncate(fd, (off_t)f->list.size) < 0)
		rc = -errno;
	if (rc == 0)
		rc = fetch_make_holes(f, fd, fresh);
	if (rc == 0)
		rc = copy_rest(f, fd, &others, fresh, buf);
	f->fresh = fresh;
	f->similar = existed || own.len;
	if (rc == 0 && !f->similar && base)
		rc = fill_similar(f, fd, base, buf);
	free(own.p);
	free(others.p);
	free(buf);
	return rc;
}

static int
open_part(const struct fetch *f, const struct hash *h, bool *existed)
{
	char part[CONTENT_NAME_MAX];
	int fd;

	lists_name(h, part);
	strcat(part, ".part");
	fd = openat(f->staging_fd, part, O_RDWR | O_CLOEXEC);
	*existed = fd >= 0;
	if (fd < 0)
		fd = openat(f->staging_fd, part, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

void
fetch_run_assemble(struct hash_job *j)
{
	struct fetch_job *q = (struct fetch_job *)j;
	bool existed;

	q->fd = open_part(q->f, &j->expected, &existed);
	j->rc = q->fd < 0 ? q->fd : assemble(q->f, q->fd, existed);
}

/* ---- finish ---- */

void
fetch_run_finish(struct hash_job *j)
{
	struct fetch_job *q = (struct fetch_job *)j;
	bool existed;

	q->fd = open_part(q->f, &j->expected, &existed);
	j->rc = q->fd < 0 ? q->fd : !existed ? -ENOENT : fdatasync(q->fd) < 0 ? -errno : 0;
	if (j->rc == 0)
		lists_save(q->f->lists_fd, &q->f->list);
}
