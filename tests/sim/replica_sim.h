/*
 * Whole replicas in one process: the real ones, on real directories, each under
 * the real operations of fs/, which are asked by a kernel of ours.  Their
 * threads are not started; the simulator takes their turns.  Clocks, random
 * numbers and links are ours, too, and every system call of the code under test
 * comes by us: it may fail there, be the last one before the daemon is killed,
 * or have a user's operation come first.
 *
 * All is decided by one seed.  One thread; a history is a process of its own.
 */
#ifndef SIBFS_TEST_REPLICA_SIM_H
#define SIBFS_TEST_REPLICA_SIM_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "fs/fs.h"
#include "replication/replica_impl.h"

#define HOSTS_MAX 5

/* Whose code runs. */
enum doing {
	DOING_NOTHING,		/* the simulator's own */
	DOING_TURN,		/* the replica's thread */
	DOING_USER,		/* an operation of a user, or what its mount does for it */
	DOING_START,		/* opening or closing the store */
};

struct kernel;

struct host {
	char name[8];
	char store[100];
	bool up;			/* its daemon runs */
	bool cut;			/* when it is killed, the power goes as well */
	bool full;			/* its disk */
	int64_t skew_ns;		/* of its clock */
	struct replica *r;
	struct fs *fs;
	struct kernel *kernel;
	struct replica_view view;
	int calls_fd;			/* readable when someone calls its control socket */
};

struct sim {
	struct host hosts[HOSTS_MAX];
	unsigned len;
	int64_t now_ns;			/* monotonic, of all */
	struct host *at;		/* whose code runs */
	enum doing doing;
	bool quiet;			/* no more faults */
	bool forgetful;			/* replicas keep hardly anything in memory */
	bool room_failed;		/* a disk was full at some time */
	bool power;			/* machines go down */
	bool again;			/* users write what is there already, and set times */
	bool literal;			/* users give names that look like those of siblings */
	bool few;			/* users do nearly all to a few names */
};
extern struct sim sim;

/* A law is broken: prints it and ends the process. */
void		 sim_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/* What happens, with --verbose. */
void		 sim_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- replica_sim.c ---- */

/* A user's operation at the host whose replica is in the middle of a turn. */
void		 sim_user_comes_between(struct host *h);
/* The replica's turn in the middle of a user's operation. */
void		 sim_turn_comes_between(struct host *h);

/* ---- replica_faults.c ---- */

void		 faults_init(void);
/* After that many system calls of h its daemon is killed; 0: not any more. */
void		 faults_kill_after(struct host *h, unsigned calls);
/* Before the next so many calls the other side's code comes between. */
void		 faults_between(unsigned calls);
extern sigjmp_buf faults_killed;
int64_t		 faults_real_ms(void);		/* the time of this machine */

/* ---- replica_power.c ---- */

/* Content was written, or synced: of one file, or of all of this host's. */
void		 power_wrote(int fd);
void		 power_synced(int fd);
void		 power_synced_all(void);
void		 power_db_opened(const char *path);
void		 power_db_synced(const char *path);
/* The file that tells one start of the machine from another, once the power went. */
void		 power_boot_path(const struct host *h, char *out, size_t size);
/* The daemon of h is dead: so is its machine. */
void		 power_cut(struct host *h);

/* ---- replica_kernel.c: what lies between users and fs/ ---- */

struct kernel	*kernel_new(struct fs *fs);
/* Daemon and mount are gone. */
void		 kernel_free(struct kernel *k);

/* By path from the mount's root; 0 or -errno.  Opening: a handle, 0 and up. */
int		 kernel_open(struct kernel *k, const char *path, int flags, mode_t mode);
int		 kernel_write(struct kernel *k, int handle, const char *text, bool append);
/* Writes what stands there. */
int		 kernel_write_again(struct kernel *k, int handle);
int		 kernel_fsync(struct kernel *k, int handle);
int		 kernel_close(struct kernel *k, int handle);
int		 kernel_any_handle(struct kernel *k);	/* -1: none */
int		 kernel_unlink(struct kernel *k, const char *path);
int		 kernel_mkdir(struct kernel *k, const char *path, mode_t mode);
int		 kernel_rmdir(struct kernel *k, const char *path);
int		 kernel_symlink(struct kernel *k, const char *target, const char *path);
int		 kernel_link(struct kernel *k, const char *path, const char *to);
int		 kernel_rename(struct kernel *k, const char *path, const char *to, unsigned flags);
int		 kernel_chmod(struct kernel *k, const char *path, mode_t mode);
int		 kernel_truncate(struct kernel *k, const char *path, off_t size);
int		 kernel_set_time(struct kernel *k, const char *path, struct timespec t);
int		 kernel_setxattr(struct kernel *k, const char *path, const char *name, const char *value);
int		 kernel_stat(struct kernel *k, const char *path);

/* Files that were closed are released, and what the replica reported comes in:
 * at most so many steps.  Returns whether there is more. */
bool		 kernel_work(struct kernel *k, unsigned steps);
/* Memory is short: what is not in use is forgotten. */
void		 kernel_shrink(struct kernel *k);

/* ---- replica_net.c: links ---- */

void		 net_carry(unsigned cables);		/* some bytes on so many of them */
bool		 net_carry_all(void);			/* returns whether any moved */
void		 net_cut(void);				/* one of them, somewhere in the stream */
void		 net_freeze(void);			/* one direction of one */
void		 net_split(unsigned a, unsigned b, bool apart);
void		 net_heal(void);
void		 net_host_down(struct host *h);

/* ---- replica_ledger.c: what must not be lost ---- */

/* What stands in fd, a file of h, is acknowledged; or a user replaced or removed it, having
 * it on show. */
void		 ledger_acked(const struct host *h, int fd);
void		 ledger_replaced(int fd);
/* What stands in fd, however it was opened. */
ssize_t		 ledger_read(int fd, void *p, size_t size, off_t at);
void		 ledger_replaced_at(int dirfd, const char *name);
/* A user renames dirfd/name; something new comes to stand under a name. */
void		 ledger_renamed(int dirfd, const char *name);
void		 ledger_written(const char *name);
/* All that must be there is below the directory. */
void		 ledger_check(const char *store);

/* ---- replica_checks.c ---- */

/* What must hold for each replica by itself once it has nothing to do. */
void		 check_host(struct host *h);
/* Prints what its state and its disk show. */
void		 check_tell(const struct host *h);
/* All stores show the same. */
void		 check_equal(void);
bool		 check_is_equal(const struct host *a, const struct host *b, char *why, size_t size);

#endif
