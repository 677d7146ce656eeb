/*
 * What a program may expect of a file system, as claims: each group is run in
 * an empty directory of its own and prints one line a claim, "ok - CLAIM" or
 * "not ok - CLAIM: what was seen".  The same program runs on the file system
 * below the store first, so a claim that is wrong shows there.
 */
#ifndef SIBFS_POSIX_H
#define SIBFS_POSIX_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Run by root on behalf of others: two users who share no group. */
enum { ALICE = 12001, BOB = 12002, SHARED_GROUP = 12100 };

extern bool is_root;

void		 claim(bool holds, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Holds if rc is -1 and errno is wanted; the call stands before it in the
 * argument list, so errno is its own. */
#define refused(call, wanted, ...) refused_with((errno = 0, (long)(call)), wanted, __VA_ARGS__)
void		 refused_with(long rc, int wanted, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Holds if the call succeeds. */
#define works(call, ...) works_with((errno = 0, (long)(call)), __VA_ARGS__)
void		 works_with(long rc, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A step without which the rest makes no sense. */
#define must(call) must_with((errno = 0, (long)(call)), #call, __FILE__, __LINE__)
long		 must_with(long rc, const char *call, const char *file, int line);

/* A file with that text; mode as given, whatever the umask. */
void		 put(const char *path, const char *text, mode_t mode);
bool		 holds(const char *path, const char *text);

mode_t		 mode_of(const char *path);
nlink_t		 links_of(const char *path);
off_t		 size_of(const char *path);
struct stat	 stat_of(const char *path);

/* As long as a time stamp needs to differ. */
void		 tick(void);

/*
 * Runs fn in a process of its own, with these ids and no other groups (extra:
 * one more, or 0); what it claims counts.  Waits for it.
 */
void		 as_user(uid_t uid, gid_t gid, gid_t extra, void (*fn)(void));

/* Runs fn in another process; its return value. */
int		 in_child(int (*fn)(void *arg), void *arg);

void group_data(void);
void group_dirs(void);
void group_errors(void);
void group_links(void);
void group_locks(void);
void group_maps(void);
void group_owners(void);
void group_special(void);
void group_times(void);
void group_xattrs(void);

#endif
