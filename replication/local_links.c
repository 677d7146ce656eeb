/*
 * Other names of a file.  What is done to a file by one name is done to all, and
 * the mount may know that one name only.  They are found by the content that they
 * are noted with: names of one inode are always noted with the same.
 */
#include "config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "replication/local_impl.h"

/* A note that is to be looked at again has no inode any more: the disk says. */
static bool
is_link(const struct links *q, const struct reg *reg, const struct reg_file *f)
{
	struct stat st;
	int fd;

	if (hash_compare(&f->hash, &q->hash) != 0 || (reg == q->but && strcmp(f->name, q->but_name) == 0))
		return false;
	if (f->stamp.ino)
		return f->stamp.ino == q->ino;
	fd = disk_fd(&q->r->disk, disk_of(reg->dir));
	return fd >= 0 && fstatat(fd, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == q->ino;
}

static void
add_links_of(struct links *q, const struct reg *reg)
{
	for (uint32_t i = 0; i < reg->files_len && disk_of(reg->dir); i++) {
		const struct reg_file *f = &reg->files[i];

		if (!is_link(q, reg, f))
			continue;
		q->l = mem_resize(q->l, q->len + 1, sizeof(*q->l));
		q->l[q->len++] = (struct link_name){ disk_of(reg->dir)->ino, mem_str(f->name) };
	}
}

static int
add_links_of_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct links *q = arg;
	struct reg *reg = state_reg_in(q->r->s, dir_num, name);

	(void)seq;
	if (reg && !reg->dirty)
		add_links_of(q, reg);
	return 0;
}

void
local_links_noted(struct replica *r, const struct reg *reg, const char *name, const struct hash *h, ino_t ino,
    struct links *q)
{
	*q = (struct links){ .r = r, .hash = *h, .ino = ino, .but = reg, .but_name = name };
	index_regs_with_content(r->x, &q->hash, SIZE_MAX, add_links_of_row, q);
	for (size_t i = 0; i < r->s->dirty_regs.len; i++)
		add_links_of(q, r->s->dirty_regs.r[i]);
}

void
local_links_find(struct replica *r, struct disk_dir *dd, const char *name, ino_t ino, struct links *q)
{
	int fd = disk_fd(&r->disk, dd);
	struct reg_file *known;
	struct reg *owner;
	struct seen seen;
	struct stat st;
	bool stands;

	*q = (struct links){ 0 };
	if (fd < 0 || !ino)
		return;
	stands = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == ino;
	if (stands && (st.st_nlink < 2 || S_ISDIR(st.st_mode)))
		return;
	local_seen_open(r, dd, name, &seen);
	known = local_seen_file(&seen, name, &owner);
	/* The name may have gone elsewhere since; the other names stand. */
	if (known && (stands || known->stamp.ino == ino))
		local_links_noted(r, owner, name, &known->hash, ino, q);
	local_seen_close(&seen);
}

void
local_links_free(struct links *q)
{
	for (size_t i = 0; i < q->len; i++)
		free(q->l[i].name);
	free(q->l);
}

static void
write_too(struct replica *r, struct disk_dir *dd, const char *name, const struct local_file *f, const struct stat *st)
{
	int fd = disk_fd(&r->disk, dd);
	struct local_file file = *f;
	struct stat now;
	struct reg *reg, *noting;
	struct seen q;

	if (fd < 0 || fstatat(fd, name, &now, AT_SYMLINK_NOFOLLOW) < 0 || now.st_ino != st->st_ino)
		return;
	local_seen_open(r, dd, name, &q);
	if ((noting = local_noting(r, &q, name))) {
		/* It shows no more, and is still to go. */
		local_note_file(r, noting, name, &f->hash, st);
		local_seen_close(&q);
		return;
	}
	disk_attrs_read(r, fd, name, st, q.e ? &q.e->attrs : NULL, &file.attrs);
	if (local_write_seen(r, dd, name, &q, NULL, &file, &reg) == 0) {
		local_forget_file(r, &q, name);
		local_note_file(r, reg, name, &file.hash, st);
	}
	attrs_fini(&file.attrs);
	local_seen_close(&q);
}

void
local_links_written(struct replica *r, const struct reg *reg, const char *name, const struct hash *before,
    const struct local_file *f, const struct stat *st)
{
	struct links q;

	if (st->st_nlink < 2)
		return;
	local_links_noted(r, reg, name, before, st->st_ino, &q);
	for (size_t i = 0; i < q.len; i++) {
		struct disk_dir *dd = disk_find(&r->disk, q.l[i].dir);

		if (dd && dd->ids_len)
			write_too(r, dd, q.l[i].name, f, st);
	}
	local_links_free(&q);
}
