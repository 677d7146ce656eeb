/*
 * Large files in the trash as the ground for what comes next under their name.
 * Where the file system cannot share blocks, each change of a large file would
 * write all of it anew.  Instead the version before last, which is in the trash,
 * is brought up to date where it differs, so that only differences are written.
 *
 * A file is only taken if nobody else has it open (a lease says so): who reads an
 * old version goes on reading it.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/content_impl.h"

#define RECYCLED_MAX 64
#define RECYCLE_WORTH (16u << 20)

static void
forget(struct replica *r, struct recycled *x)
{
	DL_DELETE(r->recycled, x);
	free(x->name);
	free(x->trash);
	free(x);
}

void
recycle_note(struct replica *r, const struct reg *reg, const struct hash *h, const char *trash)
{
	struct recycled *x, *tmp;
	struct stat st;
	unsigned n = 0;

	if (fstatat(r->trash_fd, trash, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_size < RECYCLE_WORTH || st.st_nlink > 1)
		return;
	/* The last one of each name, and not too many. */
	DL_FOREACH_SAFE(r->recycled, x, tmp)
		if (++n >= RECYCLED_MAX || (x->dir_num == reg->dir->num && strcmp(x->name, reg_name(reg)) == 0))
			forget(r, x);
	x = mem_alloc(sizeof(*x));
	x->hash = *h;
	x->dir_num = reg->dir->num;
	x->name = mem_str(reg_name(reg));
	x->trash = mem_str(trash);
	x->stamp = (struct file_stamp){ st.st_ino, (uint64_t)st.st_size,
		st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec };
	DL_PREPEND(r->recycled, x);
}

bool
recycle_has(const struct replica *r, const struct hash *h)
{
	const struct recycled *x;

	DL_FOREACH(r->recycled, x)
		if (hash_compare(&x->hash, h) == 0)
			return true;
	return false;
}

/* Opens it for us alone. */
static int
open_alone(struct replica *r, const struct recycled *x)
{
	int fd = openat(r->trash_fd, x->trash, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && st.st_ino == x->stamp.ino && (uint64_t)st.st_size == x->stamp.size &&
	    st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec == x->stamp.mtime_ns &&
	    st.st_nlink == 1 && fcntl(fd, F_SETLEASE, F_WRLCK) == 0) {
		fcntl(fd, F_SETLEASE, F_UNLCK);
		return fd;
	}
	close(fd);
	return -1;
}

static int
remove_xattrs(int fd)
{
	char names[4096];
	ssize_t len = flistxattr(fd, names, sizeof(names));

	for (const char *p = names; len > 0 && p < names + len; p += strlen(p) + 1)
		if (fremovexattr(fd, p) < 0)
			return -errno;
	return len < 0 ? -errno : 0;
}

static bool
take(struct replica *r, const struct want *w, const struct recycled *x, struct source *out)
{
	char part[CONTENT_NAME_MAX];
	int fd = open_alone(r, x);

	if (fd < 0)
		return false;
	lists_name(&w->hash, part);
	strcat(part, ".part");
	/* As a new file would be, whatever it was. */
	if (fchmod(fd, 0600) < 0 || fchown(fd, geteuid(), getegid()) < 0 || remove_xattrs(fd) < 0 ||
	    renameat2(r->trash_fd, x->trash, r->staging_fd, part, RENAME_NOREPLACE) < 0) {
		close(fd);
		return false;
	}
	*out = (struct source){ .fd = fd, .hash = x->hash, .in_place = true };
	return true;
}

bool
recycle_take(struct replica *r, const struct want *w, struct source *out)
{
	struct recycled *x, *tmp;

	DL_FOREACH_SAFE(r->recycled, x, tmp)
		for (size_t i = 0; i < w->waiters_len; i++)
			if (x->dir_num == w->waiters[i].dir_num && strcmp(x->name, w->waiters[i].name) == 0) {
				bool taken = take(r, w, x, out);

				forget(r, x);
				return taken;
			}
	return false;
}

void
recycle_free(struct replica *r)
{
	while (r->recycled)
		forget(r, r->recycled);
}
