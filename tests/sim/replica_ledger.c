/*
 * The ledger of contents: what users wrote and closed, and what they replaced
 * or removed while they had it on show.  What is in the one list and not in the
 * other must be readable in the end.  Contents are all different, so it does
 * not matter under which name.
 *
 * One thing only is a little more lenient than the law: content that was renamed
 * away from a name where something else is written later counts as replaced, as
 * it is if someone else comes to have it there too (rule 2 of display).
 */
#include "config.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uthash.h>

#include "replication/chunk.h"
#include "tests/sim/replica_sim.h"

struct entry {
	UT_hash_handle hh;
	struct hash hash;
	bool acked, replaced, seen;
	char *left[8];		/* names that it was renamed from */
	size_t left_len;
	char text[40];
};

static struct entry *entries;

/* NULL: nothing in it. */
static struct entry *
entry_of(int fd)
{
	struct chunk_list l;
	struct entry *e;

	if (chunk_file(fd, false, &l) < 0 || l.size == 0)
		return NULL;
	HASH_FIND(hh, entries, &l.hash, sizeof(l.hash), e);
	if (!e) {
		ssize_t n;

		e = mem_alloc(sizeof(*e));
		e->hash = l.hash;
		n = pread(fd, e->text, sizeof(e->text) - 1, 0);
		e->text[n > 0 ? strcspn(e->text, "\n") : 0] = '\0';
		HASH_ADD(hh, entries, hash, sizeof(e->hash), e);
	}
	return e;
}

/* The descriptor may be one that cannot be read. */
static int
open_to_read(int fd)
{
	char path[64];
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

ssize_t
ledger_read(int fd, void *p, size_t size, off_t at)
{
	int again = open_to_read(fd);
	ssize_t n = again < 0 ? -1 : pread(again, p, size, at);

	if (again >= 0)
		close(again);
	return n;
}

static struct entry *
entry_of_any(int fd)
{
	int again = open_to_read(fd);
	struct entry *e = NULL;

	if (again >= 0) {
		e = entry_of(again);
		close(again);
	}
	return e;
}

/* How many names of the inode are in a directory of .sibfs, the trash say. */
static nlink_t
names_in(const char *store, const char *meta, ino_t ino)
{
	char path[200];
	nlink_t n = 0;
	struct dirent *de;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/.sibfs/%s", store, meta);
	dir = opendir(path);
	while (dir && (de = readdir(dir)))
		n += de->d_ino == ino;
	if (dir)
		closedir(dir);
	return n;
}

void
ledger_acked(const struct host *h, int fd)
{
	struct entry *e = entry_of_any(fd);
	struct stat st;

	/* What lost its last name at a user's hands is gone with it. */
	if (e && fstat(fd, &st) == 0 && st.st_nlink > names_in(h->store, "trash", st.st_ino) +
	    names_in(h->store, "moving", st.st_ino) + names_in(h->store, "staging", st.st_ino))
		e->acked = true;
}

void
ledger_replaced(int fd)
{
	struct entry *e = entry_of_any(fd);

	if (e)
		e->replaced = true;
}

void
ledger_replaced_at(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return;
	ledger_replaced(fd);
	close(fd);
}

void
ledger_renamed(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct entry *e = fd >= 0 ? entry_of_any(fd) : NULL;

	if (e && e->left_len < 8)
		e->left[e->left_len++] = mem_str(name);
	else if (e)
		e->replaced = true;
	if (fd >= 0)
		close(fd);
}

void
ledger_written(const char *name)
{
	struct entry *e, *tmp;

	HASH_ITER(hh, entries, e, tmp)
		for (size_t i = 0; i < e->left_len; i++)
			e->replaced |= strcmp(e->left[i], name) == 0;
}

static void
see(int dirfd, bool root)
{
	DIR *dir = fdopendir(dirfd);
	struct dirent *de;

	while (dir && (de = readdir(dir))) {
		struct stat st;
		int fd;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
		    (root && strcmp(de->d_name, ".sibfs") == 0) ||
		    fstatat(dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISLNK(st.st_mode))
			continue;
		fd = openat(dirfd, de->d_name, O_RDONLY | O_CLOEXEC);
		if (S_ISDIR(st.st_mode)) {
			see(fd, false);
		} else {
			struct entry *e = entry_of(fd);

			if (e)
				e->seen = true;
			close(fd);
		}
	}
	if (dir)
		closedir(dir);
}

void
ledger_check(const char *store)
{
	struct entry *e, *tmp;

	HASH_ITER(hh, entries, e, tmp)
		e->seen = false;
	see(open(store, O_RDONLY | O_DIRECTORY | O_CLOEXEC), true);
	HASH_ITER(hh, entries, e, tmp)
		if (e->acked && !e->replaced && !e->seen)
			sim_fail("lost: what was acknowledged and nobody replaced: \"%s\"", e->text);
}
