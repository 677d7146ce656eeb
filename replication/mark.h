/*
 * The end of the attribute `user.sibfs`, which hides that it was set.  Setting
 * it moves the file's ctime, which users see; so it says what ctime was before,
 * and when it was set.  While ctime is what setting it made it, the one before
 * is shown; after anything else that moved ctime, the real one.  Nothing needs
 * to be remembered elsewhere, neither in memory nor in the index.
 *
 * What moves ctime within MARK_WINDOW after the attribute was set could not be
 * told from it: so it is set only on files that rest, and operations by users
 * wait that long (mark_wait) or take it away (mark_drop_recent).  Any thread.
 */
#ifndef SIBFS_MARK_H
#define SIBFS_MARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define MARK_XATTR "user.sibfs"

enum {
	MARK_FILE = 3,			/* the first byte: of what kind */
	MARK_DIR = 4,
	MARK_MAX = 512,
	MARK_TAIL = 10 + 10 + 1,	/* for what mark_set adds */
};

struct mark {
	uint8_t p[MARK_MAX];
	size_t len;
};

/* Appends; what does not fit fills it up, and mark_set refuses it. */
void		 mark_fixed(struct mark *m, uint64_t n);
void		 mark_varint(struct mark *m, uint64_t n);

/* Does path carry it already? */
bool		 mark_is_set(const struct mark *m, const char *path);

/* Sets it now on path, which looks so with its ctime as it is shown, and makes
 * sure that it hides itself; else removes it.  -errno. */
int		 mark_set(const struct mark *m, const char *path, const struct stat *shown);

/* Makes st, of the file behind an O_PATH descriptor, what users are to see. */
void		 mark_show(int fd, struct stat *st);

/* Before a user's operation that moves the ctime of the file behind fd: waits
 * until the kernel's clock tells it from the mark, some milliseconds at most. */
void		 mark_wait(int fd);

/* After one that moved the ctime of dirfd/name, which looked so before: where the
 * kernel's clock may not tell it from the mark, the mark goes, to be set anew. */
void		 mark_drop_recent(int dirfd, const char *name, const struct stat *before);

/* So that a mark which was copied or moved elsewhere is not believed. */
uint64_t	 mark_stamp(const struct stat *st);

/*
 * Is the file or directory behind an O_PATH descriptor as it was when it was
 * marked?  If not, it may have been changed below the mount, or while there was
 * none; or it is new, or cannot carry a mark.
 */
bool		 mark_holds(int fd);

#endif
