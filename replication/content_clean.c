/*
 * Keeping staging/ and the lists of chunks in order: at the start it is found out
 * what is staged, is whole, and is waited for; what nobody needs any more is removed
 * then and later on.
 */
#include "config.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "replication/content_impl.h"

#define KEEP_DAYS 30
#define SWEEP_AGE_S 3600
#define SWEEP_STEP 50

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

/* ---- once nothing waits ---- */

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
		if (used || content_want(r, &h) || content_staged_of(r, &h) || recycle_has(r, &h))
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
