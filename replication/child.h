/*
 * Running another program without inheriting anything into it: descriptors
 * above 2 are closed, signals are as a shell would have them.  Waiting is
 * always bounded by a time and by a descriptor that cancels it.  Any thread;
 * nothing here touches children that others started.
 */
#ifndef SIBFS_CHILD_H
#define SIBFS_CHILD_H

#include <stddef.h>
#include <sys/types.h>

struct child {
	pid_t pid;
	int fd;			/* a pidfd: readable once it has ended */
};

/* Starts argv[0], found in PATH; fds are its stdin, stdout and stderr, -1 is
 * /dev/null.  0 or -errno (-ENOENT: no such program). */
int		 child_start(struct child *c, char *const argv[], const int fds[3]);

/* Waits for its end and frees c.  The exit status, or 128 + signal. */
int		 child_wait(struct child *c);

/* Ends it, by force if it takes more than a second, and frees c. */
void		 child_kill(struct child *c);

/*
 * Runs argv to its end.  What it writes to stdout goes, NUL-terminated, to out,
 * the last line of stderr to why.  Its exit status, or -errno: -ETIMEDOUT, or
 * -ECANCELED when cancel (a descriptor, or -1) became readable; then it was
 * killed.  -EFBIG: it wrote more than fits.
 */
int		 child_run(char *const argv[], int cancel, int timeout_ms,
		    char *out, size_t out_size, char *why, size_t why_size);

#endif
