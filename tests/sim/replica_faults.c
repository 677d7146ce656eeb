/*
 * The system calls of the code under test, by the linker's --wrap.  Each comes
 * by `point`, which may fail it for want of room, end the daemon there, or let
 * the code of the other side come between.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>

#include "tests/lib/random.h"
#include "tests/sim/replica_sim.h"

#define CLOCK_START INT64_C(1750000000000000000)

sigjmp_buf faults_killed;

static struct host *killing;
static unsigned kill_after;
static unsigned between_for;
static bool between_now;

void
faults_kill_after(struct host *h, unsigned calls)
{
	killing = h;
	kill_after = calls;
}

void
faults_between(unsigned calls)
{
	between_for = calls;
}

/* Are the locks free that the other side would need? */
static bool
may_come_between(struct host *h)
{
	struct replica *r = h->r;
	bool free = false;

	if (!r || !h->fs || pthread_mutex_trylock(&r->queue_lock) != 0)
		return false;
	pthread_mutex_unlock(&r->queue_lock);
	if (pthread_mutex_trylock(&h->fs->lock) != 0)
		return false;
	pthread_mutex_unlock(&h->fs->lock);
	if (sim.doing == DOING_TURN) {
		if (pthread_rwlock_tryrdlock(&r->view_lock) == 0) {
			pthread_rwlock_unlock(&r->view_lock);
			free = true;
		}
	} else if (pthread_rwlock_trywrlock(&r->view_lock) == 0) {
		pthread_rwlock_unlock(&r->view_lock);
		free = true;
	}
	return free;
}

static void
come_between(void)
{
	struct host *h = sim.at;
	enum doing was = sim.doing;
	int saved = errno;

	if (between_now || !between_for || !h || !h->up || was == DOING_START || was == DOING_NOTHING ||
	    !random_chance(15))
		return;
	between_for--;
	if (!may_come_between(h))
		return;
	between_now = true;
	if (was == DOING_TURN)
		sim_user_comes_between(h);
	else
		sim_turn_comes_between(h);
	between_now = false;
	sim.at = h;
	sim.doing = was;
	errno = saved;
}

/* room: it takes some.  0, or -1 with errno. */
static int
point(bool room)
{
	if (!sim.at || sim.doing == DOING_NOTHING)
		return 0;
	sim.now_ns += 1000;
	if (killing == sim.at && kill_after && --kill_after == 0) {
		between_now = false;
		between_for = 0;
		siglongjmp(faults_killed, 1);
	}
	come_between();
	if (room && sim.at->full && random_chance(80)) {
		sim.room_failed = true;
		errno = ENOSPC;
		return -1;
	}
	return 0;
}

static bool
is_user(void)
{
	return sim.doing == DOING_USER;
}

/* What is written gets our time, not that of this machine. */
static void
stamp(int fd)
{
	struct timespec ts[2] = { { 0, UTIME_OMIT }, { 0, 0 } };
	int64_t now = CLOCK_START + (sim.now_ns += 1000) + (sim.at ? sim.at->skew_ns : 0);

	if (sim.doing == DOING_NOTHING)
		return;
	ts[1].tv_sec = now / 1000000000;
	ts[1].tv_nsec = now % 1000000000;
	futimens(fd, ts);
}

/* ---- time and chance ---- */

int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
time_t __wrap_time(time_t *out);
ssize_t __wrap_getrandom(void *p, size_t size, unsigned flags);
long __wrap_random(void);

int
__wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	int64_t now = sim.now_ns += 1000;

	if (id == CLOCK_REALTIME)
		now += CLOCK_START + (sim.at ? sim.at->skew_ns : 0);
	ts->tv_sec = now / 1000000000;
	ts->tv_nsec = now % 1000000000;
	return 0;
}

int64_t
faults_real_ms(void)
{
	struct timespec ts;

	__real_clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

time_t
__wrap_time(time_t *out)
{
	struct timespec ts;

	__wrap_clock_gettime(CLOCK_REALTIME, &ts);
	if (out)
		*out = ts.tv_sec;
	return ts.tv_sec;
}

ssize_t
__wrap_getrandom(void *p, size_t size, unsigned flags)
{
	(void)flags;
	random_bytes(p, size);
	return (ssize_t)size;
}

long
__wrap_random(void)
{
	return (long)(random_number() >> 33);
}

/* ---- files ---- */

int __real_openat(int dirfd, const char *name, int flags, ...);
int __wrap_openat(int dirfd, const char *name, int flags, ...);
int __real_open(const char *name, int flags, ...);
int __wrap_open(const char *name, int flags, ...);

static int
open_by(int dirfd, const char *name, int flags, mode_t mode)
{
	bool new = (flags & O_CREAT) && faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0;
	char boot[300];
	int fd;

	if (sim.power && sim.at && strcmp(name, "/proc/sys/kernel/random/boot_id") == 0) {
		power_boot_path(sim.at, boot, sizeof(boot));
		if (access(boot, F_OK) == 0)
			name = boot;
	}

	if (point(new) < 0)
		return -1;
	if (is_user() && new)
		ledger_written(name);
	if (is_user() && (flags & O_TRUNC)) {
		fd = __real_openat(dirfd, name, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			ledger_replaced(fd);
			close(fd);
		}
	}
	fd = __real_openat(dirfd, name, flags, mode);
	if (fd >= 0 && !new && (flags & O_TRUNC))
		power_wrote(fd);
	if (fd >= 0 && (new || (flags & O_TRUNC)) && !(flags & O_PATH))
		stamp(fd);
	return fd;
}

int
__wrap_openat(int dirfd, const char *name, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	return open_by(dirfd, name, flags, mode);
}

int
__wrap_open(const char *name, int flags, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, flags);
	mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	return open_by(AT_FDCWD, name, flags, mode);
}

/* Users replace nothing by what stands there already. */
static bool
writes_again(int fd, const void *p, size_t size, off_t at)
{
	char there[100];

	return sim.again && size <= sizeof(there) && ledger_read(fd, there, size, at) == (ssize_t)size &&
	    memcmp(p, there, size) == 0;
}

ssize_t __real_pwrite(int fd, const void *p, size_t size, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t size, off_t at);

ssize_t
__wrap_pwrite(int fd, const void *p, size_t size, off_t at)
{
	ssize_t n;

	if (is_user() && !writes_again(fd, p, size, at))
		ledger_replaced(fd);
	if (point(true) < 0)
		return -1;
	n = __real_pwrite(fd, p, size, at);
	power_wrote(fd);
	stamp(fd);
	return n;
}

ssize_t __real_write(int fd, const void *p, size_t size);
ssize_t __wrap_write(int fd, const void *p, size_t size);

ssize_t
__wrap_write(int fd, const void *p, size_t size)
{
	struct stat st;
	bool file = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);

	if (file && point(true) < 0)
		return -1;
	if (file)
		power_wrote(fd);
	return __real_write(fd, p, size);
}

ssize_t __real_copy_file_range(int in, off_t *at_in, int out, off_t *at_out, size_t size, unsigned flags);
ssize_t __wrap_copy_file_range(int in, off_t *at_in, int out, off_t *at_out, size_t size, unsigned flags);

ssize_t
__wrap_copy_file_range(int in, off_t *at_in, int out, off_t *at_out, size_t size, unsigned flags)
{
	if (point(true) < 0)
		return -1;
	power_wrote(out);
	return __real_copy_file_range(in, at_in, out, at_out, size, flags);
}

int __real_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size);
int __real_truncate(const char *path, off_t size);
int __wrap_truncate(const char *path, off_t size);

int
__wrap_ftruncate(int fd, off_t size)
{
	int rc;

	if (is_user())
		ledger_replaced(fd);
	if (point(false) < 0)
		return -1;
	rc = __real_ftruncate(fd, size);
	power_wrote(fd);
	if (is_user())
		stamp(fd);
	return rc;
}

int
__wrap_truncate(const char *path, off_t size)
{
	int fd = __real_open(path, O_WRONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return -1;
	rc = __wrap_ftruncate(fd, size);
	if (rc == 0 && is_user())
		ledger_acked(sim.at, fd);
	close(fd);
	return rc;
}

/* ---- names ---- */

/* So that the order of what is declared does not matter to the compiler's warnings. */
#define CALL(name, params)								\
	int __real_##name params;							\
	int __wrap_##name params;							\
	int __wrap_##name params

CALL(unlinkat, (int dirfd, const char *name, int flags))
{
	if (point(false) < 0)
		return -1;
	if (is_user() && !(flags & AT_REMOVEDIR))
		ledger_replaced_at(dirfd, name);
	return __real_unlinkat(dirfd, name, flags);
}

CALL(renameat2, (int from, const char *name, int to, const char *name2, unsigned flags))
{
	if (point(false) < 0)
		return -1;
	if (is_user() && !flags)
		ledger_replaced_at(to, name2);
	if (is_user()) {
		ledger_written(name2);
		ledger_renamed(from, name);
	}
	if (is_user() && (flags & RENAME_EXCHANGE)) {
		ledger_written(name);
		ledger_renamed(to, name2);
	}
	return __real_renameat2(from, name, to, name2, flags);
}

CALL(renameat, (int from, const char *name, int to, const char *name2))
{
	return point(false) < 0 ? -1 : __real_renameat(from, name, to, name2);
}

CALL(mkdirat, (int dirfd, const char *name, mode_t mode))
{
	return point(true) < 0 ? -1 : __real_mkdirat(dirfd, name, mode);
}

CALL(symlinkat, (const char *target, int dirfd, const char *name))
{
	if (is_user())
		ledger_written(name);
	return point(true) < 0 ? -1 : __real_symlinkat(target, dirfd, name);
}

CALL(linkat, (int from, const char *name, int to, const char *name2, int flags))
{
	if (is_user())
		ledger_written(name2);
	return point(true) < 0 ? -1 : __real_linkat(from, name, to, name2, flags);
}

CALL(fstatat, (int dirfd, const char *name, struct stat *st, int flags))
{
	return point(false) < 0 ? -1 : __real_fstatat(dirfd, name, st, flags);
}

/* ---- attributes ---- */

CALL(chmod, (const char *path, mode_t mode))
{
	return point(false) < 0 ? -1 : __real_chmod(path, mode);
}

CALL(utimensat, (int dirfd, const char *name, const struct timespec ts[2], int flags))
{
	return point(false) < 0 ? -1 : __real_utimensat(dirfd, name, ts, flags);
}

CALL(setxattr, (const char *path, const char *name, const void *value, size_t size, int flags))
{
	return point(true) < 0 ? -1 : __real_setxattr(path, name, value, size, flags);
}

CALL(lsetxattr, (const char *path, const char *name, const void *value, size_t size, int flags))
{
	return point(true) < 0 ? -1 : __real_lsetxattr(path, name, value, size, flags);
}

/* ---- to the disk ---- */

CALL(fsync, (int fd))
{
	if (point(false) < 0)
		return -1;
	power_synced(fd);
	return 0;
}

CALL(fdatasync, (int fd))
{
	if (point(false) < 0)
		return -1;
	power_synced(fd);
	return 0;
}

CALL(syncfs, (int fd))
{
	(void)fd;
	if (point(false) < 0)
		return -1;
	power_synced_all();
	return 0;
}

/* ---- the control socket ---- */

CALL(accept4, (int fd, struct sockaddr *addr, socklen_t *len, int flags))
{
	int64_t conn = -1;

	(void)addr;
	(void)len;
	(void)flags;
	return recv(fd, &conn, sizeof(conn), MSG_DONTWAIT) == sizeof(conn) ? (int)conn : -1;
}

/* ---- SQLite ---- */

/* SQLite's own file system layer without its locks, which know of processes
 * only, and with our points before what it writes. */
struct db_file {
	sqlite3_file base;
	sqlite3_file *real;
	const char *path;	/* SQLite's; NULL: of a passing file */
};

static sqlite3_vfs *real_vfs;

static sqlite3_file *
real_file(sqlite3_file *f)
{
	return ((struct db_file *)f)->real;
}

static int
db_close(sqlite3_file *f)
{
	return real_file(f)->pMethods->xClose(real_file(f));
}

static int
db_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	return real_file(f)->pMethods->xRead(real_file(f), p, n, at);
}

static int
db_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	if (point(true) < 0)
		return SQLITE_FULL;
	return real_file(f)->pMethods->xWrite(real_file(f), p, n, at);
}

static int
db_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	return real_file(f)->pMethods->xTruncate(real_file(f), size);
}

static int
db_sync(sqlite3_file *f, int flags)
{
	(void)flags;
	if (point(false) < 0)
		return SQLITE_IOERR_FSYNC;
	power_db_synced(((struct db_file *)f)->path);
	return SQLITE_OK;
}

static int
db_size(sqlite3_file *f, sqlite3_int64 *size)
{
	return real_file(f)->pMethods->xFileSize(real_file(f), size);
}

static int
db_lock(sqlite3_file *f, int level)
{
	(void)f;
	(void)level;
	return SQLITE_OK;
}

static int
db_reserved(sqlite3_file *f, int *out)
{
	(void)f;
	*out = 0;
	return SQLITE_OK;
}

static int
db_control(sqlite3_file *f, int op, void *arg)
{
	(void)f;
	(void)op;
	(void)arg;
	return SQLITE_NOTFOUND;
}

static int
db_sector(sqlite3_file *f)
{
	(void)f;
	return 4096;
}

static int
db_device(sqlite3_file *f)
{
	(void)f;
	return 0;
}

static const sqlite3_io_methods db_methods = {
	.iVersion = 1,
	.xClose = db_close,
	.xRead = db_read,
	.xWrite = db_write,
	.xTruncate = db_truncate,
	.xSync = db_sync,
	.xFileSize = db_size,
	.xLock = db_lock,
	.xUnlock = db_lock,
	.xCheckReservedLock = db_reserved,
	.xFileControl = db_control,
	.xSectorSize = db_sector,
	.xDeviceCharacteristics = db_device,
};

static int
db_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out_flags)
{
	struct db_file *d = (struct db_file *)f;
	int rc;

	(void)vfs;
	d->real = (sqlite3_file *)(d + 1);
	d->path = name;
	power_db_opened(name);
	rc = real_vfs->xOpen(real_vfs, name, d->real, flags, out_flags);
	d->base.pMethods = rc == SQLITE_OK ? &db_methods : NULL;
	return rc;
}

void
faults_init(void)
{
	static sqlite3_vfs vfs;

	sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
	sqlite3_initialize();
	real_vfs = sqlite3_vfs_find("unix-none");
	vfs = *real_vfs;
	vfs.zName = "sim";
	vfs.szOsFile = (int)sizeof(struct db_file) + real_vfs->szOsFile;
	vfs.xOpen = db_open;
	sqlite3_vfs_register(&vfs, 1);
}
