/*
 * Hashing large files off the replica's thread, at low priority, so that small
 * changes are not held up by large ones, nor users by either.  One thread does
 * what users wrote, another what comes from peers or goes to them.
 */
#ifndef SIBFS_HASHER_H
#define SIBFS_HASHER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "replication/reg.h"

/* Files up to this size are hashed where they stand: it takes milliseconds. */
#define HASHER_WORTH (4u << 20)

struct replica;
struct hasher;

struct hash_job {
	struct hash_job *next;
	int fd;			/* to read; owned by the job */
	bool sync;		/* fdatasync first */
	/* Does something else in place of hashing; on the hasher's thread. */
	void (*run)(struct hash_job *j);
	/* Called on the replica's thread; the job is freed after it. */
	void (*done)(struct replica *r, struct hash_job *j);
	/* Frees what a longer job, of which this is the start, has beside; or NULL. */
	void (*release)(struct hash_job *j);

	/* Where lists of chunks are kept (-1: nowhere), and the content that fd
	 * held before, if that is known: then only what changed is hashed. */
	int lists_fd;
	bool has_before;
	struct hash before;

	/* The result: 0, or -errno; st is how the file looked before and after,
	 * if that was the same, else st.st_ino is 0. */
	int rc;
	struct hash hash;
	struct stat st;

	/* Whose it is: for `done`. */
	uint64_t dir;
	char *name;
	int64_t time_ns;
	bool unsure;		/* if it is as it was, nothing happened */
	struct hash expected;
};

int		 hasher_start(struct replica *r);

/* Ends the thread; what it has done is among the replica's calls then. */
void		 hasher_stop(struct replica *r);

/* After that: jobs not begun are given to `drop` instead of `done`. */
void		 hasher_free(struct replica *r, void (*drop)(struct replica *r, struct hash_job *j));

void		 hasher_add(struct replica *r, struct hash_job *j);
void		 hasher_add_exchange(struct replica *r, struct hash_job *j);

/*
 * True: jobs of hasher_add are under way, and fn(r, arg) will be called on the replica's
 * thread when these are done, whatever has been added meanwhile.  False: there
 * are none.
 */
bool		 hasher_wait(struct replica *r, void (*fn)(struct replica *r, void *arg), void *arg);

#endif
