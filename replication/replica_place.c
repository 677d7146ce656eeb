/*
 * Where a store lies, and which opening was the last.
 */
#include "config.h"

#include "replication/replica_place.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "replication/open_impl.h"
#include "replication/replica_impl.h"

#define PLACE_MAX 256
#define OPENED "opened"
#define OPENED_NEW "opened.new"

/* Since Linux 6.9. */
#ifndef FS_IOC_GETFSUUID
struct fsuuid2 {
	__u8 len;
	__u8 uuid[16];
};
#define FS_IOC_GETFSUUID _IOR(0x15, 0, struct fsuuid2)
#endif

/* ---- the place ---- */

/* The file system's UUID, or what is made from it and as lasting; else "-". */
static void
fs_text(int fd, char *out, size_t size)
{
	struct fsuuid2 u = { 0 };
	struct statfs st;
	size_t at = 0;

	snprintf(out, size, "-");
	if (ioctl(fd, FS_IOC_GETFSUUID, &u) == 0 && u.len == sizeof(u.uuid)) {
		for (size_t i = 0; i < sizeof(u.uuid); i++)
			at += (size_t)snprintf(out + at, size - at, "%02x", u.uuid[i]);
	} else if (fstatfs(fd, &st) == 0 && (st.f_type == EXT4_SUPER_MAGIC || st.f_type == BTRFS_SUPER_MAGIC)) {
		snprintf(out, size, "%08x%08x", (unsigned)st.f_fsid.__val[0], (unsigned)st.f_fsid.__val[1]);
	}
}

static void
machine_text(char *out, size_t size)
{
	open_read_word("/etc/machine-id", out, size);
	if (!*out)
		snprintf(out, size, "-");
}

/* "UUID INODE GENERATION MACHINE". */
static void
here(struct replica *r, char *out, size_t size)
{
	char fs[40], machine[64], generation[16] = "-";
	unsigned n;

	fs_text(r->root_fd, fs, sizeof(fs));
	machine_text(machine, sizeof(machine));
	if (ioctl(r->root_fd, FS_IOC_GETVERSION, &n) == 0)
		snprintf(generation, sizeof(generation), "%u", n);
	snprintf(out, size, "%s %" PRIu64 " %s %s", fs, (uint64_t)r->ino, generation, machine);
}

/* Word by word; "-" is what could not be told. */
static bool
same_place(const char *a, const char *b)
{
	for (;;) {
		size_t n = strcspn(a, " "), m = strcspn(b, " ");

		if ((n != m || memcmp(a, b, n) != 0) && strncmp(a, "-", n) != 0 && strncmp(b, "-", m) != 0)
			return false;
		if (!a[n] || !b[m])
			return a[n] == b[m];
		a += n + 1;
		b += m + 1;
	}
}

/* ---- the last opening ---- */

struct opening {
	uint64_t now, before;	/* random numbers: of the last opening, and of the one before */
	uint64_t ino;		/* which inode the file is that has `now` */
};

/* Numbers of inodes are given again; with their generation they are not. */
static uint64_t
inode_identity(int fd, const struct stat *st)
{
	unsigned int generation = 0;

	if (ioctl(fd, FS_IOC_GETVERSION, &generation) < 0)
		generation = 0;
	return st->st_ino ^ (uint64_t)generation << 32;
}

static bool
read_opened(struct replica *r, uint64_t *token, uint64_t *ino, uint64_t *self)
{
	int fd = openat(r->meta_fd, OPENED, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char text[64] = "", *end;
	struct stat st;
	bool ok;

	if (fd < 0)
		return false;
	ok = read(fd, text, sizeof(text) - 1) > 0 && fstat(fd, &st) == 0;
	if (ok)
		*ino = inode_identity(fd, &st);
	close(fd);
	if (!ok)
		return false;
	*token = strtoull(text, &end, 16);
	*self = strtoull(end, NULL, 16);
	return end != text;
}

uint64_t
place_last_self(struct replica *r)
{
	uint64_t token, ino, self;

	return read_opened(r, &token, &ino, &self) ? self : 0;
}

static bool
read_index(struct replica *r, struct opening *out)
{
	size_t len;
	void *p;
	bool ok;

	if (index_get_value(r->x, "opened", &p, &len) < 0)
		return false;
	ok = len == sizeof(*out);
	if (ok)
		memcpy(out, p, sizeof(*out));
	free(p);
	return ok;
}

enum place_verdict
place_check(struct replica *r)
{
	char now[PLACE_MAX], *was;
	struct opening o;
	uint64_t token, ino, self;
	size_t len;
	void *p;
	bool same;

	/* Of a version that left no marks. */
	if (!read_index(r, &o) || index_get_value(r->x, "place", &p, &len) < 0)
		return PLACE_SAME;
	was = p;		/* with a NUL after its end */
	here(r, now, sizeof(now));
	same = same_place(now, was);
	free(was);
	if (!same)
		return PLACE_COPIED;
	if (!read_opened(r, &token, &ino, &self))
		return PLACE_ROLLED_BACK;
	if (token == o.now)
		return ino == o.ino ? PLACE_SAME : PLACE_RESTORED;
	/* The last one came no further than the index. */
	return token == o.before ? PLACE_SAME : PLACE_ROLLED_BACK;
}

const char *
place_text(enum place_verdict v)
{
	switch (v) {
	case PLACE_COPIED:
		return "this store was copied or moved here from another place";
	case PLACE_RESTORED:
		return "this store was restored from a copy";
	case PLACE_ROLLED_BACK:
		return "the index of this store is an old one, or of another store";
	case PLACE_SAME:
		break;
	}
	return NULL;
}

/* The file under its new name, and which inode it is.  It says who we are, too, for
 * when the index is lost. */
static int
write_opened(struct replica *r, uint64_t token, uint64_t *ino)
{
	char text[64];
	struct stat st;
	int n = snprintf(text, sizeof(text), "%016" PRIx64 " %016" PRIx64 "\n", token, r->s->self), fd, rc = 0;

	unlinkat(r->meta_fd, OPENED_NEW, 0);
	fd = openat(r->meta_fd, OPENED_NEW, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, text, (size_t)n) != n || fdatasync(fd) < 0 || fstat(fd, &st) < 0)
		rc = errno ? -errno : -EIO;
	if (rc == 0)
		*ino = inode_identity(fd, &st);
	close(fd);
	return rc;
}

static int
put_epochs(struct replica *r)
{
	if (r->epochs_len == PLACE_EPOCHS) {
		memmove(r->epochs, r->epochs + 1, (PLACE_EPOCHS - 1) * sizeof(*r->epochs));
		r->epochs_len--;
	}
	r->epoch = open_random_id();
	r->epochs[r->epochs_len++] = (struct epoch){ r->epoch, r->s->seq };
	return index_set_value(r->x, "epochs", r->epochs, r->epochs_len * sizeof(*r->epochs));
}

int
place_mark(struct replica *r)
{
	struct opening o = { .now = open_random_id() };
	char place[PLACE_MAX];
	uint64_t ino, self;
	bool marked;
	int rc;

	if (!read_opened(r, &o.before, &ino, &self))
		o.before = 0;
	marked = write_opened(r, o.now, &o.ino) == 0;
	here(r, place, sizeof(place));
	if ((rc = replica_begin(r)) < 0 || (rc = put_epochs(r)) < 0 ||
	    (marked && (rc = index_set_value(r->x, "opened", &o, sizeof(o))) < 0) ||
	    (marked && (rc = index_set_value(r->x, "place", place, strlen(place))) < 0) ||
	    (rc = replica_commit(r)) < 0)
		return rc;
	/* On a full disk the marks stay as they were: they are right as well. */
	if (!marked)
		return 0;
	return renameat(r->meta_fd, OPENED_NEW, r->meta_fd, OPENED) < 0 ? -errno : 0;
}

uint64_t
place_cursor(const struct replica *r, uint64_t epoch, uint64_t seq)
{
	for (size_t i = 0; i < r->epochs_len; i++) {
		uint64_t end = i + 1 < r->epochs_len ? r->epochs[i + 1].start : r->s->seq;

		if (r->epochs[i].token == epoch)
			return seq < end ? seq : end;
	}
	return 0;
}
