/*
 * What must hold once all have heard of all and nothing is left to do.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/content_impl.h"
#include "replication/display.h"
#include "replication/wire.h"
#include "tests/sim/replica_sim.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

#define SECOND_NS INT64_C(1000000000)

struct lines {
	char **line;
	size_t len;
};

static void
add_line(struct lines *l, char *line)
{
	l->line = mem_resize(l->line, l->len + 1, sizeof(*l->line));
	l->line[l->len++] = line;
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
sort_lines(struct lines *l)
{
	if (l->len)
		qsort(l->line, l->len, sizeof(*l->line), by_text);
}

static void
free_lines(struct lines *l)
{
	for (size_t i = 0; i < l->len; i++)
		free(l->line[i]);
	free(l->line);
}

static char *
describe(const char *path, const struct hash *h, uint32_t mode, const char *what)
{
	if (!h)
		return mem_printf("%s\t%s\t%o", path, what, mode);
	return mem_printf("%s\t%02x%02x%02x%02x%02x%02x\t%o %s", path, h->b[0], h->b[1], h->b[2], h->b[3], h->b[4], h->b[5],
	    mode, what);
}

/* ---- what stands on disk ---- */

static void
list_disk(int dirfd, const char *path, struct lines *l)
{
	DIR *dir = fdopendir(dirfd);
	struct dirent *de;

	while (dir && (de = readdir(dir))) {
		char *sub;
		struct stat st;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
		    (!*path && strcmp(de->d_name, ".sibfs") == 0) ||
		    fstatat(dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		sub = mem_printf("%s%s%s", path, *path ? "/" : "", de->d_name);
		if (S_ISDIR(st.st_mode)) {
			add_line(l, describe(sub, NULL, st.st_mode & 07777, "dir"));
			list_disk(openat(dirfd, de->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), sub, l);
		} else if (S_ISLNK(st.st_mode)) {
			char target[256];
			ssize_t n = readlinkat(dirfd, de->d_name, target, sizeof(target));
			struct hash h;

			chunk_link_hash(target, n > 0 ? (size_t)n : 0, &h);
			add_line(l, describe(sub, &h, 0, "link"));
		} else {
			int fd = openat(dirfd, de->d_name, O_RDONLY | O_CLOEXEC);
			struct chunk_list c = { 0 };

			chunk_file(fd, false, &c);
			close(fd);
			add_line(l, describe(sub, &c.hash, st.st_mode & 07777, "file"));
		}
		free(sub);
	}
	if (dir)
		closedir(dir);
}

static struct lines
lines_of_disk(const struct host *h)
{
	struct lines l = { 0 };

	list_disk(open(h->store, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "", &l);
	sort_lines(&l);
	return l;
}

/* ---- what the state shows ---- */

static bool telling;		/* a failure is being told already */

static int
load_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct replica *r = arg;
	struct dir *d = state_dir_num(r->s, dir_num);

	(void)seq;
	if (d)
		state_reg(r->s, d, name, false);
	return 0;
}

static void
list_folder(struct state *s, const struct folder *f, const char *path, struct obstack *o, struct lines *l)
{
	struct lines names = { 0 };
	struct reg *r, *tmp;

	for (size_t i = 0; i < f->len; i++) {
		HASH_ITER(hh, s->regs, r, tmp)
			if (r->dir == f->ids[i])
				add_line(&names, mem_str(reg_name(r)));
		for (struct dir *c = f->ids[i]->children; c; c = c->next)
			add_line(&names, mem_str(c->at.name));
	}
	sort_lines(&names);
	for (size_t i = 0; i < names.len; i++) {
		struct name_group g;
		char *sub;

		if (i && strcmp(names.line[i], names.line[i - 1]) == 0)
			continue;
		display_group(s, f, names.line[i], o, &g);
		sub = mem_printf("%s%s%s", path, *path ? "/" : "", names.line[i]);
		if (g.dirs.len) {
			add_line(l, describe(sub, NULL, display_folder_mode(&g.dirs), "dir"));
			list_folder(s, &g.dirs, sub, o, l);
		}
		free(sub);
		for (size_t j = 0; j < g.len; j++) {
			const struct shown *e = &g.files[j];

			sub = mem_printf("%s%s%s", path, *path ? "/" : "", e->name);
			add_line(l, describe(sub, &e->hash, e->kind == KIND_SYMLINK ? 0 : attrs_mode(&e->attrs, 0),
			    e->kind == KIND_SYMLINK ? "link" : "file"));
			free(sub);
			for (size_t k = 0; k < e->refs_len; k++)
				if (e->refs[k].reg->in_conflict != group_in_conflict(&g) && !telling)
					sim_fail("%s: its register is %smarked as in conflict", e->name,
					    e->refs[k].reg->in_conflict ? "" : "not ");
		}
		group_fini(&g);
	}
	free_lines(&names);
}

static struct lines
lines_of_state(struct replica *r)
{
	struct folder root = { &r->s->root, 1 };
	struct lines l = { 0 };
	struct obstack o;

	index_regs_since(r->x, 0, SIZE_MAX, load_row, r);
	obstack_init(&o);
	list_folder(r->s, &root, "", &o, &l);
	obstack_free(&o, NULL);
	sort_lines(&l);
	return l;
}

/* ---- comparing ---- */

/* The first line in which they differ. */
static bool
same_lines(const struct lines *a, const char *of_a, const struct lines *b, const char *of_b, char *why, size_t size)
{
	for (size_t i = 0; i < a->len || i < b->len; i++) {
		const char *x = i < a->len ? a->line[i] : "nothing more", *y = i < b->len ? b->line[i] : "nothing more";

		if (i < a->len && i < b->len && strcmp(x, y) == 0)
			continue;
		snprintf(why, size, "%s has: %s; %s has: %s", of_a, x, of_b, y);
		return false;
	}
	return true;
}

bool
check_is_equal(const struct host *a, const struct host *b, char *why, size_t size)
{
	struct lines x = lines_of_disk(a), y = lines_of_disk(b);
	bool same = same_lines(&x, a->name, &y, b->name, why, size);

	free_lines(&x);
	free_lines(&y);
	return same;
}

/* A time is that of all names of an inode: files of several names may differ. */
static void
check_times(const struct host *a, const struct host *b, const struct lines *l)
{
	for (size_t i = 0; i < l->len; i++) {
		char path[2][700];
		struct stat x, y;
		int64_t ns;

		l->line[i][strcspn(l->line[i], "\t")] = '\0';
		snprintf(path[0], sizeof(path[0]), "%s/%s", a->store, l->line[i]);
		snprintf(path[1], sizeof(path[1]), "%s/%s", b->store, l->line[i]);
		if (lstat(path[0], &x) < 0 || lstat(path[1], &y) < 0 || !S_ISREG(x.st_mode) || x.st_nlink > 1 ||
		    y.st_nlink > 1)
			continue;
		ns = (x.st_mtim.tv_sec - y.st_mtim.tv_sec) * SECOND_NS + x.st_mtim.tv_nsec - y.st_mtim.tv_nsec;
		if (ns)
			sim_fail("times differ: %s has %s written %lld us %s %s", a->name, l->line[i],
			    (long long)(ns < 0 ? -ns : ns) / 1000, ns < 0 ? "before" : "after", b->name);
	}
}

void
check_equal(void)
{
	char why[1200];

	for (unsigned i = 1; i < sim.len; i++)
		if (!check_is_equal(&sim.hosts[0], &sim.hosts[i], why, sizeof(why)))
			sim_fail("stores differ: %s", why);
	for (unsigned i = 1; i < sim.len && sim.again; i++) {
		struct lines l = lines_of_disk(&sim.hosts[0]);

		check_times(&sim.hosts[0], &sim.hosts[i], &l);
		free_lines(&l);
	}
}

void
check_tell(const struct host *h)
{
	struct lines disk = lines_of_disk(h), state = { 0 };

	telling = true;
	sim.doing = DOING_NOTHING;
	if (h->up && h->r)
		state = lines_of_state(h->r);
	for (size_t i = 0; i < state.len; i++)
		printf("# %s's state: %s\n", h->name, state.line[i]);
	for (struct reg *r = h->r ? h->r->s->regs : NULL; r; r = r->hh.next)
		if (r->pending)
			printf("# %s: %s waits, %sdeferred\n", h->name, reg_name(r), r->deferred ? "" : "not ");
	for (struct want *w = h->r ? h->r->wants : NULL; w; w = w->hh.next)
		printf("# %s wants %02x%02x%02x, %d of %d, %s%s%s\n", h->name, w->hash.b[0], w->hash.b[1], w->hash.b[2],
		    (int)w->have, (int)w->size, w->link ? "asked for" : "not asked for", w->failed ? ", failed" : "",
		    w->full ? ", no room" : "");
	for (size_t i = 0; i < disk.len; i++)
		printf("# %s's disk:  %s\n", h->name, disk.line[i]);
	free_lines(&disk);
	free_lines(&state);
	if (h->r) {
		struct lines trash = { 0 };

		list_disk(openat(h->r->meta_fd, "trash", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "", &trash);
		for (size_t i = 0; i < trash.len; i++)
			printf("# %s's trash: %s\n", h->name, trash.line[i]);
		free_lines(&trash);
	}
}

/* ---- one replica by itself ---- */

static void
check_view(struct host *h)
{
	struct lines disk = lines_of_disk(h), state = lines_of_state(h->r);
	char why[1200];

	if (!same_lines(&state, "the state", &disk, "the disk", why, sizeof(why)))
		sim_fail("%s: %s", h->name, why);
	for (size_t i = 0; i < disk.len; i++) {
		char *path = disk.line[i], *slash, *mark;

		path[strcspn(path, "\t")] = '\0';
		slash = strrchr(path, '/');
		mark = strstr(slash ? slash : path, STATE_SEP);
		/* What a power cut leaves of a sibling's file may be taken for a user's. */
		if (mark && strstr(mark + 1, STATE_SEP) && !sim.power && !sim.literal)
			sim_fail("%s: %s is a sibling's sibling", h->name, path);
	}
	free_lines(&disk);
	free_lines(&state);
}

/* Rows say what memory says, and notes what stands on disk. */
static void
check_regs(struct host *h)
{
	struct replica *r = h->r;
	struct reg *reg, *tmp;

	HASH_ITER(hh, r->s->regs, reg, tmp) {
		struct reg *row = reg_new(reg->dir, reg->dir->num, reg_name(reg));
		struct disk_dir *dd = disk_of(reg->dir);
		uint8_t *a, *b;
		size_t an, bn;
		int fd = dd ? disk_fd(&r->disk, dd) : -1;

		if (reg->pending)
			sim_fail("%s: %s still waits for something", h->name, reg_name(reg));
		if (!vv_dominates(&r->s->know, &reg->shown.ctx))
			sim_fail("%s: %s is ahead of what is known", h->name, reg_name(reg));
		if (index_get_reg(r->x, row) != 1 && (reg->shown.ctx.len || reg->files_len))
			sim_fail("%s: %s has no row", h->name, reg_name(reg));
		wire_pack_index_reg(reg, &a, &an);
		wire_pack_index_reg(row, &b, &bn);
		if ((reg->shown.ctx.len || reg->files_len) && (an != bn || memcmp(a, b, an) != 0))
			sim_fail("%s: the row of %s is not what is in memory", h->name, reg_name(reg));
		free(a);
		free(b);
		reg_free(row);
		for (uint32_t i = 0; i < reg->files_len; i++) {
			const struct reg_file *f = &reg->files[i];
			struct stat st;

			if (fd < 0 || fstatat(fd, f->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
				sim_fail("%s: %s is noted, and not there", h->name, f->name);
			if (f->stamp.ino != st.st_ino || f->stamp.size != (uint64_t)st.st_size)
				sim_fail("%s: %s is not the file that is noted (%d %d; %d %d)", h->name, f->name,
				    (int)f->stamp.ino, (int)f->stamp.size, (int)st.st_ino, (int)st.st_size);
		}
	}
}

static void
check_dirs(struct host *h)
{
	struct dir *d, *tmp;

	HASH_ITER(hh, h->r->s->dirs, d, tmp) {
		struct disk_dir *dd = disk_of(d);

		if (d == h->r->s->root)
			continue;
		if (state_stands(d) != (dd != NULL))
			sim_fail("%s: directory %s %s", h->name, d->at.name, dd ? "is on disk and should not" :
			    "is not on disk");
		if (dd && (dd->lifted || disk_fd(&h->r->disk, dd) < 0))
			sim_fail("%s: directory %s cannot be opened", h->name, d->at.name);
	}
}

static void
check_empty(struct host *h, int dirfd, const char *what)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);
	struct dirent *de;

	while (dir && (de = readdir(dir))) {
		struct staged *s;
		bool kept = strstr(de->d_name, ".part") != NULL;	/* may be gone on with */

		if (de->d_name[0] == '.')
			continue;
		for (s = h->r->staged; s; s = s->hh.next) {
			char hex[2 * sizeof(s->hash.b) + 1];

			for (size_t i = 0; i < sizeof(s->hash.b); i++)
				sprintf(hex + 2 * i, "%02x", s->hash.b[i]);
			kept |= s->kept && strcmp(hex, de->d_name) == 0;
		}
		if (!kept)
			sim_fail("%s: %s is left in %s", h->name, de->d_name, what);
	}
	if (dir)
		closedir(dir);
}

void
check_host(struct host *h)
{
	struct replica *r = h->r;

	if (r->first || r->calls || r->deferred.len || r->in_transaction || r->s->dirty_regs.len || r->s->dirty_dirs.len ||
	    r->view_held)
		sim_fail("%s: has still something to do", h->name);
	if (r->wants)
		sim_fail("%s: still wants content", h->name);
	check_view(h);
	check_regs(h);
	check_dirs(h);
	check_empty(h, r->moving_fd, "moving");
	check_empty(h, r->staging_fd, "staging");
}
