/*
 * Closing the last descriptor of a file without a name frees its blocks.  That waits
 * for the disk, and for a large file takes seconds, so it is left to a thread.
 */
#ifndef SIBFS_CLOSER_H
#define SIBFS_CLOSER_H

struct closer;

/* most: that may wait, while as many are being closed: descriptors are few.  NULL: no
 * thread can be had. */
struct closer	*closer_new(unsigned most);

/* Returns once all is closed.  NULL is ignored. */
void		 closer_free(struct closer *c);

/* Any thread, any locks.  fd is taken over.  Waits for the file only if so many wait
 * already. */
void		 closer_close(struct closer *c, int fd);

#endif
