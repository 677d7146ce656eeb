/*
 * Large content by chunks, as the replica's thread sees it.  Step by step, each
 * when the one before is done:
 *
 *	prepare		job: the lists of similar contents that are here
 *	outline		of the peer: hashes of groups of chunks
 *	details		of the peer: the chunks of groups that no list here has
 *	assemble	job: the chunks that stand here go into HASH.part
 *	data		of the peer: the others, each checked as it comes
 *	finish		job: sync
 *
 * What is known survives a broken link; after a restart the file is read again
 * for what it has.  A content that stands here under another name needs no
 * peer: its own list says all.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/content_impl.h"

#define SOURCE_MIN CHUNK_MAX

/* ---- similar contents ---- */

static void
source_fini(struct source *s)
{
	if (s->fd >= 0)
		close(s->fd);
	chunk_list_fini(&s->list);
	outline_fini(&s->outline);
	free(s->have);
	s->fd = -1;
	s->have = NULL;
}

static void
add_source(struct replica *r, struct fetch *f, const struct hash *h)
{
	struct source *s = &f->src[f->src_len];
	uint64_t size;

	for (size_t i = 0; i < f->src_len; i++)
		if (hash_compare(&f->src[i].hash, h) == 0)
			return;
	if (f->src_len == SOURCES_MAX)
		return;
	*s = (struct source){ .fd = content_open(r, h, &size), .hash = *h };
	if (s->fd < 0)
		return;
	if (size < SOURCE_MIN)
		close(s->fd);
	else
		f->src_len++;
}

static bool
waits_for(const struct want *w, uint64_t dir_num, const char *name)
{
	for (size_t i = 0; i < w->waiters_len; i++)
		if (w->waiters[i].dir_num == dir_num && strcmp(w->waiters[i].name, name) == 0)
			return true;
	return false;
}

/* What was on its way for the same name, and is overtaken, is not lost. */
static void
add_overtaken(struct replica *r, struct fetch *f)
{
	struct fetch *g, *tmp;

	DL_FOREACH_SAFE(r->fetches, g, tmp) {
		struct source *s = &f->src[f->src_len];
		struct want *w = g->w;
		char part[CONTENT_NAME_MAX];
		bool same = false;

		if (!w || w == f->w || g->job || f->src_len == SOURCES_MAX)
			continue;
		for (size_t i = 0; i < f->w->waiters_len && !same; i++)
			same = waits_for(w, f->w->waiters[i].dir_num, f->w->waiters[i].name);
		if (!same || content_still_wanted(r, w))
			continue;
		lists_name(&w->hash, part);
		strcat(part, ".part");
		if (g->assembled) {
			*s = (struct source){ .fd = openat(r->staging_fd, part, O_RDONLY | O_CLOEXEC), .hash = w->hash,
				.list = g->list, .have = g->have };
			g->list = (struct chunk_list){ 0 };
			g->have = NULL;
			if (s->fd >= 0)
				f->src_len++;
			else
				source_fini(s);
		}
		unlinkat(r->staging_fd, part, 0);
		if (w->link)
			link_unwant(w->link, w);
		content_failed(r, w);
		fetch_drop(r, w);
		w->have = 0;
	}
}

static void
find_sources(struct replica *r, struct fetch *f)
{
	struct want *w = f->w;
	char part[CONTENT_NAME_MAX];

	/* The same content needs nothing else. */
	add_source(r, f, &w->hash);
	if (f->src_len)
		return;
	add_overtaken(r, f);
	lists_name(&w->hash, part);
	strcat(part, ".part");
	if (faccessat(r->staging_fd, part, F_OK, 0) < 0 && f->src_len < SOURCES_MAX &&
	    recycle_take(r, w, &f->src[f->src_len]))
		f->src_len++;
	for (size_t i = 0; i < w->waiters_len; i++) {
		struct reg *reg = state_reg_in(r->s, w->waiters[i].dir_num, w->waiters[i].name);

		for (uint32_t k = 0; reg && k < reg->files_len; k++)
			add_source(r, f, &reg->files[k].hash);
		for (uint32_t k = 0; reg && reg->pending && k < reg->pending->len; k++)
			if (reg->pending->v[k].has_base)
				add_source(r, f, &reg->pending->v[k].base);
	}
}

/* ---- jobs ---- */

/* The job's end: the want, if it is still there. */
static struct want *
job_over(struct hash_job *j)
{
	struct fetch_job *q = (struct fetch_job *)j;
	struct fetch *f = q->f;

	q->f = NULL;
	f->job = NULL;
	if (f->w)
		return f->w;
	fetch_free(f);
	return NULL;
}

static void
job_release(struct hash_job *j)
{
	struct fetch_job *q = (struct fetch_job *)j;

	/* The replica stopped before the job was run. */
	if (q->f)
		job_over(j);
	if (q->fd >= 0)
		close(q->fd);
}

static void
job_add(struct replica *r, struct want *w, void (*run)(struct hash_job *), void (*done)(struct replica *,
    struct hash_job *))
{
	struct fetch_job *q = mem_alloc(sizeof(*q));

	q->job.fd = q->fd = -1;
	q->job.run = run;
	q->job.done = done;
	q->job.release = job_release;
	q->job.expected = w->hash;
	q->f = w->fetch;
	w->fetch->job = &q->job;
	if (r->hasher) {
		hasher_add_exchange(r, &q->job);
		return;
	}
	run(&q->job);
	done(r, &q->job);
	job_release(&q->job);
	free(q);
}

static void
prepared(struct replica *r, struct hash_job *j)
{
	struct want *w = job_over(j);

	if (!w)
		return;
	w->fetch->prepared = true;
	fetch_advance(r, w);
}

static void
forget_sources(struct fetch *f)
{
	while (f->src_len)
		source_fini(&f->src[--f->src_len]);
}

/* How much of it is here? */
static void
count_missing(struct want *w)
{
	struct fetch *f = w->fetch;

	f->assembled = true;
	f->missing = 0;
	w->have = 0;
	for (size_t i = 0; i < f->list.len; i++) {
		f->missing += !f->have[i];
		w->have += f->have[i] ? f->list.c[i].size : 0;
	}
}

static void
assembled(struct replica *r, struct hash_job *j)
{
	struct want *w = job_over(j);

	if (!w)
		return;
	forget_sources(w->fetch);
	if (j->rc < 0) {
		content_unwritable(r, w, j->rc);
		return;
	}
	count_missing(w);
	fetch_advance(r, w);
}

static void
finished(struct replica *r, struct hash_job *j)
{
	struct want *w = job_over(j);

	if (!w)
		return;
	w->checking = false;
	if (j->rc == -ENOSPC || j->rc == -EDQUOT)
		content_unwritable(r, w, j->rc);
	else
		content_settle(r, w, j->rc);
}

/* ---- the list ---- */

/* One group is known: its chunks go into the list. */
static void
set_group(struct fetch *f, size_t g, const struct chunk *c)
{
	memcpy(&f->list.c[f->outline.g[g].first], c, f->outline.g[g].len * sizeof(*c));
}

static int
by_hash(const void *a, const void *b)
{
	return hash_compare(&(*(const struct group *const *)a)->hash, &(*(const struct group *const *)b)->hash);
}

/* Takes groups of the outline from the sources' lists. */
static void
match_groups(struct fetch *f)
{
	f->groups_missing = f->outline.len;
	for (size_t i = 0; i < f->src_len; i++) {
		const struct source *s = &f->src[i];
		const struct group **index = mem_resize(NULL, s->outline.len + 1, sizeof(*index));

		for (size_t k = 0; k < s->outline.len; k++)
			index[k] = &s->outline.g[k];
		if (s->outline.len)
			qsort(index, s->outline.len, sizeof(*index), by_hash);
		for (size_t k = 0; k < f->outline.len; k++) {
			const struct group *want = &f->outline.g[k], **found;

			if (f->list.c[want->first].size || !s->outline.len)
				continue;
			found = bsearch(&want, index, s->outline.len, sizeof(*index), by_hash);
			if (!found || (*found)->len != want->len)
				continue;
			set_group(f, k, &s->list.c[(*found)->first]);
			f->groups_missing--;
		}
		free(index);
	}
}

/* The list is whole: is it that of the content? */
static void
list_known(struct replica *r, struct want *w)
{
	struct fetch *f = w->fetch;
	uint64_t at = 0;

	for (size_t i = 0; i < f->list.len; i++) {
		f->list.c[i].offset = at;
		at += f->list.c[i].size;
	}
	f->list.size = at;
	chunk_list_hash(&f->list, &f->list.hash);
	if (hash_compare(&f->list.hash, &w->hash) != 0) {
		log_warn("the list of chunks that came is not that of the content: fetched whole");
		link_unwant(w->link, w);
		content_release(r, w);
		fetch_drop(r, w);
		w->whole = true;
		return;
	}
	w->size = at;
	f->have = mem_alloc(f->list.len + 1);
	f->listed = true;
	fetch_advance(r, w);
}

static void
ask_details(struct want *w)
{
	struct fetch *f = w->fetch;
	uint32_t *missing = mem_resize(NULL, f->groups_missing + 1, sizeof(*missing));
	size_t n = 0;

	for (size_t i = 0; i < f->outline.len; i++)
		if (!f->list.c[f->outline.g[i].first].size)
			missing[n++] = (uint32_t)i;
	link_ask_details(w->link, w, missing, n);
	free(missing);
}

void
fetch_got_outline(struct replica *r, struct want *w, const uint8_t *hashes, size_t n, const uint32_t *chunks)
{
	struct fetch *f = w->fetch;
	const struct group *last;

	if (!f || !f->prepared || f->outlined || f->job)
		return;
	if (outline_take(hashes, chunks, n, w->size, &f->outline) < 0) {
		content_unwritable(r, w, -EBADMSG);
		return;
	}
	last = &f->outline.g[n - 1];
	f->list.len = last->first + last->len;
	f->list.c = mem_alloc(f->list.len * sizeof(*f->list.c));
	f->outlined = true;
	match_groups(f);
	if (f->groups_missing)
		ask_details(w);
	else
		list_known(r, w);
}

void
fetch_got_chunks(struct replica *r, struct want *w, uint32_t group, const uint8_t *hashes, const uint32_t *sizes,
    size_t n)
{
	struct fetch *f = w->fetch;
	struct chunk c[GROUP_MAX];

	if (!f || !f->outlined || f->listed || group >= f->outline.len ||
	    f->list.c[f->outline.g[group].first].size)
		return;
	if (outline_take_group(&f->outline.g[group], hashes, sizes, n, c) < 0) {
		content_unwritable(r, w, -EBADMSG);
		return;
	}
	set_group(f, group, c);
	if (--f->groups_missing == 0)
		list_known(r, w);
}

/* ---- one step after another ---- */

/* The list of a content that is here is all that there is to know. */
static void
use_own_list(struct fetch *f)
{
	for (size_t i = 0; i < f->src_len; i++) {
		struct source *s = &f->src[i];

		if (!s->list.c || s->have || s->in_place || hash_compare(&s->hash, &f->w->hash) != 0)
			continue;
		f->list = s->list;
		f->list.c = mem_dup(s->list.c, s->list.len * sizeof(*s->list.c));
		f->have = mem_alloc(f->list.len + 1);
		f->listed = f->outlined = true;
		f->w->size = f->list.size;
		return;
	}
}

static bool
has_part(struct replica *r, const struct want *w)
{
	char part[CONTENT_NAME_MAX];

	lists_name(&w->hash, part);
	strcat(part, ".part");
	return faccessat(r->staging_fd, part, F_OK, 0) == 0;
}

static void
start_fresh(struct replica *r, struct want *w)
{
	struct fetch *f = w->fetch;
	int rc = fetch_open_part(r, w);

	if (rc == 0 && ftruncate(w->fd, (off_t)f->list.size) < 0)
		rc = -errno;
	if (rc == 0)
		rc = fetch_make_holes(f, w->fd, true);
	if (rc < 0) {
		content_unwritable(r, w, rc);
		return;
	}
	f->fresh = true;
	count_missing(w);
}

void
fetch_advance(struct replica *r, struct want *w)
{
	struct fetch *f = w->fetch;

	if (f->job)
		return;
	if (!f->prepared) {
		find_sources(r, f);
		if (f->src_len) {
			job_add(r, w, fetch_run_prepare, prepared);
			return;
		}
		f->prepared = true;
	}
	if (!f->listed)
		use_own_list(f);
	if (!f->listed) {
		if (w->link && !f->serving)
			f->serving = link_want(w->link, w, LINK_WANT_OUTLINE);
		return;
	}
	if (!f->assembled && !f->src_len && !has_part(r, w))
		start_fresh(r, w);
	if (!f->assembled) {
		job_add(r, w, fetch_run_assemble, assembled);
		return;
	}
	if (f->missing) {
		if (w->link && !f->serving)
			f->serving = link_want(w->link, w, LINK_WANT_RANGES);
		if (w->link && f->serving)
			fetch_more(r, w);
		return;
	}
	if (w->link && f->serving)
		link_unwant(w->link, w);
	w->checking = true;
	content_release(r, w);
	job_add(r, w, fetch_run_finish, finished);
}

void
fetch_start(struct replica *r, struct want *w)
{
	if (!w->fetch) {
		w->fetch = mem_alloc(sizeof(*w->fetch));
		w->fetch->w = w;
		w->fetch->lists_fd = r->chunks_fd;
		w->fetch->staging_fd = r->staging_fd;
		DL_APPEND(r->fetches, w->fetch);
	}
	fetch_advance(r, w);
}

void
fetch_stop(struct replica *r, struct want *w)
{
	struct fetch *f = w->fetch;

	(void)r;
	f->serving = false;
	f->asked_len = f->filled = 0;
	f->next_chunk = 0;
	fetch_forget_blocks(f);
	if (f->outlined && !f->listed) {
		/* Another peer may cut in other groups. */
		f->outlined = false;
		outline_fini(&f->outline);
		chunk_list_fini(&f->list);
	}
}

void
fetch_drop(struct replica *r, struct want *w)
{
	struct fetch *f = w->fetch;

	w->fetch = NULL;
	f->w = NULL;
	DL_DELETE(r->fetches, f);
	if (!f->job)
		fetch_free(f);
}

void
fetch_free(struct fetch *f)
{
	forget_sources(f);
	outline_fini(&f->outline);
	chunk_list_fini(&f->list);
	free(f->have);
	fetch_forget_blocks(f);
	free(f->asked);
	free(f->buf);
	free(f);
}
