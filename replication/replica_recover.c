/*
 * After a stop that was not clean: what was lifted goes back to its place, what
 * users changed since the last commit is looked at again.  Names that the
 * journal has were touched by users; any other difference between the index and
 * the disk is a change of the view that was cut short.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "replication/replica_impl.h"

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

/* Names that users touched since the last clean stop. */
struct journal {
	char *text;
	size_t len;
};

static void
read_journal(struct replica *r, struct journal *j)
{
	struct stat st;
	ssize_t n;

	*j = (struct journal){ 0 };
	if (r->journal_fd < 0 || fstat(r->journal_fd, &st) < 0 || st.st_size == 0 || st.st_size > (256 << 20))
		return;
	j->text = mem_alloc((size_t)st.st_size + 1);
	n = pread(r->journal_fd, j->text, (size_t)st.st_size, 0);
	j->len = n > 0 ? (size_t)n : 0;
}

static bool
in_journal(const struct journal *j, ino_t dir, const char *name)
{
	char line[300];
	int n = snprintf(line, sizeof(line), "%llx %s", (unsigned long long)dir, name);

	if (n < 0 || (size_t)n >= sizeof(line))
		return true;
	for (const char *p = j->text; p && p < j->text + j->len; p += strlen(p) + 1)
		if (strcmp(p, line) == 0)
			return true;
	return false;
}

/* What was lifted when the daemon died stands in moving/: back it goes. */
struct moving {
	uint64_t ino;
	char name[64];
};

struct recovery {
	struct replica *r;
	struct journal j;
	struct moving *moving;
	size_t moving_len;
	bool again;
};

static void
list_moving(struct recovery *q)
{
	int fd = openat(q->r->moving_fd, ".", DIR_FLAGS);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;
	struct stat st;

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((de = readdir(dir))) {
		if (de->d_name[0] == '.' || strlen(de->d_name) >= sizeof(q->moving->name) ||
		    fstatat(q->r->moving_fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		q->moving = mem_resize(q->moving, q->moving_len + 1, sizeof(*q->moving));
		q->moving[q->moving_len].ino = st.st_ino;
		strcpy(q->moving[q->moving_len++].name, de->d_name);
	}
	closedir(dir);
}

static const struct moving *
find_moving(const struct recovery *q, uint64_t ino)
{
	for (size_t i = 0; i < q->moving_len; i++)
		if (q->moving[i].ino == ino)
			return &q->moving[i];
	return NULL;
}

static void
check_dirs(struct recovery *q)
{
	struct disk_dir *dd, *tmp;

	HASH_ITER(hh, q->r->disk.dirs, dd, tmp) {
		const struct moving *m = find_moving(q, dd->ino);

		if (!m)
			continue;
		dd->lifted = true;
		for (size_t i = 0; i < dd->ids_len; i++)
			state_touch_dir(q->r->s, dd->ids[i]);
	}
}

/* A file that the index notes is not where it was. */
static int
check_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct recovery *q = arg;
	struct dir *d = state_dir_num(q->r->s, dir_num);
	struct reg *reg = d ? state_reg(q->r->s, d, name, false) : NULL;
	struct disk_dir *dd = d ? disk_of(d) : NULL;
	int fd = dd ? disk_fd(&q->r->disk, dd) : -1;
	struct stat st;

	(void)seq;
	if (!reg || fd < 0)
		return 0;
	for (uint32_t i = 0; i < reg->files_len; i++) {
		struct reg_file *f = &reg->files[i];
		const struct moving *m;

		if (fstatat(fd, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		m = find_moving(q, f->stamp.ino);
		if (m && renameat2(q->r->moving_fd, m->name, fd, f->name, RENAME_NOREPLACE) == 0) {
			state_touch_reg(q->r->s, reg);
			continue;
		}
		if (!reg->pending && (in_journal(&q->j, dd->ino, f->name) || !state_stands(d)))
			q->r->s->now = q->r->s->hlc;
		if (!reg->pending) {
			/* Removed by a user, as far as can be known. */
			char *gone = mem_str(f->name);
			struct event e = { .op = REPLICA_UNLINK, .dir = dd->ino, .name = gone };
			struct timespec now;

			clock_gettime(CLOCK_REALTIME, &now);
			e.time_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
			local_event(q->r, &e);
			free(gone);
			q->again = true;
			return 0;
		}
		reg_file_forget(reg, f->name);
		state_reg_noted(q->r->s, reg);
		i--;
	}
	return 0;
}

static void
check_missing_dirs(struct recovery *q)
{
	struct disk_dir *dd, *tmp;

	HASH_ITER(hh, q->r->disk.dirs, dd, tmp) {
		struct stat st;
		int fd;

		if (!dd->up || dd->lifted)
			continue;
		fd = disk_fd(&q->r->disk, dd->up);
		if (fd >= 0 && fstatat(fd, dd->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == dd->ino)
			continue;
		if (in_journal(&q->j, dd->up->ino, dd->name)) {
			struct event e = { .op = REPLICA_RMDIR, .dir = dd->up->ino, .name = mem_str(dd->name) };

			e.time_ns = (int64_t)q->r->s->hlc;
			local_event(q->r, &e);
			free(e.name);
		} else {
			/* Not made yet when the daemon died. */
			while (dd->ids_len) {
				struct dir *d = dd->ids[0];

				disk_assign(d, NULL);
				state_touch_dir(q->r->s, d);
			}
		}
	}
}

void
replica_recover(struct replica *r)
{
	struct recovery q = { .r = r };
	struct timespec now;

	log_info("the last stop was not clean: looking at what changed since");
	clock_gettime(CLOCK_REALTIME, &now);
	r->s->now = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	read_journal(r, &q.j);
	list_moving(&q);
	check_dirs(&q);
	local_reconcile(r, r->disk.root, NULL, NULL);
	index_regs_since(r->x, 0, SIZE_MAX, check_row, &q);
	check_missing_dirs(&q);
	free(q.j.text);
	free(q.moving);
	replica_commit(r);
}
