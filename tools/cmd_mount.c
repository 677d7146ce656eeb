/*
 * mount and umount: the life of a daemon.  All that may go wrong is found out
 * before the command returns; what holds the store already is asked to let go,
 * if it only serves peers.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <mntent.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs/mount.h"
#include "replication/child.h"
#include "replication/log.h"
#include "replication/mem.h"
#include "replication/replica.h"
#include "tools/cli.h"
#include "tools/client.h"
#include "tools/daemon.h"

enum {
	ASK_TIMEOUT_S = 30,
	TAKE_OVER_MS = 10000,
	END_TIMEOUT_MS = 30000,
	TICK_MS = 50,
};

struct request {
	char *store;
	char *mountpoint;
	char *fuse_opts;	/* NULL: none */
	bool foreground;
};

static void
tick(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = TICK_MS * 1000000L }, NULL);
}

/* ---- the daemon -------------------------------------------------------- */

/*
 * The store is held by another process.  CLI_DONE: one without a mount, which
 * was asked to end (or is starting, or ending).  CLI_BUSY: it is mounted.
 */
static int
ask_holder(const struct located *l, char *why, size_t why_size)
{
	json_t *reply = NULL;
	const char *mount;
	int rc, fd = client_connect(l);

	if (fd < 0)
		return CLI_DONE;
	rc = client_ask(fd, client_request("status"), ASK_TIMEOUT_S, &reply, why, why_size);
	mount = json_string_value(json_object_get(json_object_get(reply, "status"), "mount"));
	if (rc == CLI_DONE && mount != NULL && *mount != '\0') {
		snprintf(why, why_size, "already mounted at %s", mount);
		rc = CLI_BUSY;
	} else if (rc == CLI_DONE) {
		json_decref(reply);
		reply = NULL;
		client_ask(fd, client_request("quit"), ASK_TIMEOUT_S, &reply, why, why_size);
	}
	json_decref(reply);
	close(fd);
	return rc == CLI_BUSY ? CLI_BUSY : CLI_DONE;
}

/* Opens the store, taking it over from a process that only serves it. */
static int
open_store(const char *store, struct replica **out, char *why, size_t why_size)
{
	struct located l = { 0 };
	struct stat st;
	int rc;

	if (stat(store, &st) == 0) {
		l.dev = st.st_dev;
		l.ino = st.st_ino;
	}
	for (int waited = 0;; waited += TICK_MS) {
		rc = replica_open(store, out, why, why_size);
		if (rc != -EBUSY || waited >= TAKE_OVER_MS)
			return rc;
		if (ask_holder(&l, why, why_size) == CLI_BUSY)
			return -EBUSY;
		tick();
	}
}

/* .sibfs of the store, opened before anything is mounted over it. */
static int
open_own_dir(const struct replica *r)
{
	return openat(replica_root_fd(r), ".sibfs", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
write_pid(int own)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	int fd = openat(own, "pid", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, text, (size_t)n) != n)
		log_warn("cannot write .sibfs/pid: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void
say_ready(void *arg)
{
	const struct request *q = arg;

	daemon_ready();
	log_info("mounted %s at %s", q->store, q->mountpoint);
}

static int
serve_mount(struct request *q, struct replica *r, int own)
{
	const struct mount_options options = {
		.mountpoint = q->mountpoint,
		.fsname = q->store,
		.fuse_opts = q->fuse_opts,
		.ready = say_ready,
		.arg = q,
	};
	char why[CLI_LINE_MAX] = "", log_path[64];
	int rc;

	if (!q->foreground) {
		/* By descriptor: the name may soon lead into the mount. */
		snprintf(log_path, sizeof(log_path), "/proc/self/fd/%d/log", own);
		log_open(log_path);
	}
	write_pid(own);
	rc = mount_run(r, &options, why, sizeof(why));
	if (rc < 0) {
		log_err("%s", why);
		if (!q->foreground)
			daemon_failed(CLI_FAILED, why);
	}
	unlinkat(own, "pid", 0);
	return rc < 0 ? CLI_FAILED : CLI_DONE;
}

static int
run(struct request *q)
{
	char why[CLI_LINE_MAX] = "";
	struct replica *r;
	int own, status, rc = open_store(q->store, &r, why, sizeof(why));

	if (rc < 0) {
		daemon_failed(cli_exit_of(rc), why);
		return cli_exit_of(rc);
	}
	own = open_own_dir(r);
	if (own < 0) {
		snprintf(why, sizeof(why), "cannot open %s/.sibfs: %s", q->store, strerror(errno));
		daemon_failed(CLI_FAILED, why);
		status = CLI_FAILED;
	} else {
		status = serve_mount(q, r, own);
		close(own);
	}
	replica_close(r);
	return status;
}

/* ---- mount ------------------------------------------------------------- */

static void
add_opts(struct request *q, const char *opts)
{
	char *all = q->fuse_opts != NULL ? mem_printf("%s,%s", q->fuse_opts, opts) : mem_str(opts);

	free(q->fuse_opts);
	q->fuse_opts = all;
}

/* An absolute path without symbolic links; dead mounts on it are cleared.  NULL
 * with the exit status in *status; missing is that of no such directory. */
static char *
resolve_directory(const char *path, enum cli_exit missing, int *status)
{
	struct stat st;
	char *real;
	int rc = mount_clear_dead(path);

	if (rc < 0) {
		*status = cli_fail(CLI_FAILED, "a dead mount on %s cannot be cleared: %s", path, strerror(-rc));
		return NULL;
	}
	real = realpath(path, NULL);
	if (real != NULL && stat(real, &st) == 0 && S_ISDIR(st.st_mode))
		return real;
	*status = real == NULL ?
	    cli_fail(missing, "cannot open %s: %s", path, strerror(errno)) :
	    cli_fail(missing, "%s is not a directory", path);
	free(real);
	return NULL;
}

/* Is one of ours mounted right on dir? */
static bool
is_mounted(const char *dir)
{
	char why[CLI_LINE_MAX];
	struct located l, above;
	char *up;
	bool is = false;

	if (locate(dir, &l, why, sizeof(why)) < 0)
		return false;
	if (l.mount != NULL) {
		up = mem_printf("%s/..", dir);
		is = locate(up, &above, why, sizeof(why)) < 0;
		if (!is) {
			is = above.mount == NULL || above.dev != l.dev || above.ino != l.ino;
			located_fini(&above);
		}
		free(up);
	}
	located_fini(&l);
	return is;
}

static int
check(const struct request *q)
{
	if (is_mounted(q->store))
		return cli_fail(CLI_BUSY, "already mounted at %s", q->store);
	if (is_mounted(q->mountpoint))
		return cli_fail(CLI_BUSY, "a store is already mounted at %s", q->mountpoint);
	if (access("/dev/fuse", F_OK) < 0)
		return cli_fail(CLI_FAILED, "/dev/fuse is missing: load the fuse module (modprobe fuse), "
		    "or give the container the device");
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		return cli_fail(CLI_FAILED, "/dev/fuse cannot be opened: %s", strerror(errno));
	return CLI_DONE;
}

static int
mount_request(struct request *q)
{
	int rc = check(q);

	if (rc != CLI_DONE)
		return rc;
	if (!q->foreground && (rc = daemon_start()) >= 0)
		return rc;
	if (q->foreground && chdir("/") < 0)
		return cli_fail(CLI_FAILED, "cannot enter /: %s", strerror(errno));
	return run(q);
}

int
cmd_mount(int argc, char **argv)
{
	struct request q = { 0 };
	int c, rc = CLI_DONE;

	opterr = 0;
	while ((c = getopt(argc, argv, "fo:")) != -1) {
		if (c == 'f') {
			q.foreground = true;
		} else if (c == 'o') {
			add_opts(&q, optarg);
		} else {
			free(q.fuse_opts);
			return cli_usage("mount", "%s is not an option of mount, or lacks its value", argv[optind - 1]);
		}
	}
	if (argc - optind < 1 || argc - optind > 2) {
		free(q.fuse_opts);
		return cli_usage("mount", "mount takes a STORE and perhaps a MOUNTPOINT");
	}
	q.store = resolve_directory(argv[optind], CLI_NO_STORE, &rc);
	if (q.store != NULL)
		q.mountpoint = resolve_directory(argv[argc - 1], CLI_FAILED, &rc);
	if (q.mountpoint != NULL)
		rc = mount_request(&q);
	free(q.store);
	free(q.mountpoint);
	free(q.fuse_opts);
	return rc;
}

/* ---- umount ------------------------------------------------------------ */

/* Waits until the daemon has gone: its process, or, where that cannot be told
 * (another pid namespace), its end of the socket. */
static bool
wait_for_end(int fd, int pidfd)
{
	struct pollfd p = { .fd = pidfd >= 0 ? pidfd : fd, .events = pidfd >= 0 ? POLLIN : POLLRDHUP };
	int n;

	while ((n = poll(&p, 1, END_TIMEOUT_MS)) < 0 && errno == EINTR)
		;
	return n > 0;
}

static int
end_daemon(int fd, const char *path)
{
	char why[CLI_LINE_MAX];
	json_t *reply = NULL;
	const char *mount;
	pid_t pid = client_daemon_pid(fd);
	int rc, pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;

	rc = client_ask(fd, client_request("status"), ASK_TIMEOUT_S, &reply, why, sizeof(why));
	mount = json_string_value(json_object_get(json_object_get(reply, "status"), "mount"));
	if (rc == CLI_DONE && (mount == NULL || *mount == '\0')) {
		json_decref(reply);
		rc = cli_fail(CLI_FAILED, "%s is not mounted", path);
		goto out;
	}
	json_decref(reply);
	reply = NULL;
	rc = client_ask(fd, client_request("quit"), ASK_TIMEOUT_S, &reply, why, sizeof(why));
	json_decref(reply);
	if (rc != CLI_DONE)
		cli_fail(rc, "%s", why);
	else if (!wait_for_end(fd, pidfd))
		rc = cli_fail(CLI_TIMEOUT, "the daemon (pid %d) was asked to end and has not for %d s: umount -l detaches it",
		    (int)pid, END_TIMEOUT_MS / 1000);
out:
	if (pidfd >= 0)
		close(pidfd);
	return rc;
}

/* Without a daemon that answers: as any FUSE mount. */
static int
unmount_plainly(const char *path, bool lazy)
{
	char *argv[] = { "fusermount3", "-u", lazy ? "-z" : "--", lazy ? "--" : (char *)path,
		lazy ? (char *)path : NULL, NULL };
	char out[256], why[256];
	int rc;

	if (umount2(path, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return CLI_DONE;
	if (errno == EBUSY)
		return cli_fail(CLI_BUSY, "%s is in use: leave it (fuser -vm %s shows who), or use -l", path, path);
	if (errno != EPERM)
		return cli_fail(CLI_FAILED, "cannot unmount %s: %s", path, strerror(errno));
	rc = child_run(argv, -1, ASK_TIMEOUT_S * 1000, out, sizeof(out), why, sizeof(why));
	return rc == 0 ? CLI_DONE : cli_fail(CLI_FAILED, "cannot unmount %s: %s", path,
	    rc < 0 ? strerror(-rc) : why);
}

/* Is there a mount on path that only answers ENOTCONN? */
static bool
is_dead(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 && errno == ENOTCONN;
}

/* A dead mount elsewhere that shows the store as its source; NULL if none. */
static char *
find_dead_mount(const char *store)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	char *found = NULL;

	while (f != NULL && found == NULL && (m = getmntent(f)) != NULL)
		if (strcmp(m->mnt_type, "fuse.sibfs") == 0 && strcmp(m->mnt_fsname, store) == 0 &&
		    is_dead(m->mnt_dir))
			found = mem_str(m->mnt_dir);
	if (f != NULL)
		endmntent(f);
	return found;
}

static int
clear_dead(const char *path)
{
	int rc = mount_clear_dead(path);

	return rc == 0 ? CLI_DONE :
	    cli_fail(CLI_FAILED, "a dead mount on %s cannot be cleared: %s", path, strerror(-rc));
}

/* The store is given, and nothing serves it. */
static int
umount_unserved(const char *path, const char *store)
{
	char *dead = find_dead_mount(store);
	int rc;

	if (dead == NULL)
		return cli_fail(CLI_FAILED, "%s is not mounted", path);
	rc = clear_dead(dead);
	free(dead);
	return rc;
}

static int
umount_live(const char *path, bool lazy)
{
	char why[CLI_LINE_MAX];
	struct located l;
	int fd, rc = locate(path, &l, why, sizeof(why));

	if (rc < 0)
		return cli_fail(rc == -EACCES ? CLI_FAILED : CLI_NO_STORE, "%s", why);
	fd = client_connect(&l);
	if (fd >= 0) {
		rc = end_daemon(fd, path);
		close(fd);
	} else if (l.mount != NULL) {
		rc = unmount_plainly(l.mount, lazy);
	} else {
		rc = umount_unserved(path, l.store);
	}
	located_fini(&l);
	return rc;
}

int
cmd_umount(int argc, char **argv)
{
	bool lazy = false;
	int c;

	opterr = 0;
	while ((c = getopt(argc, argv, "l")) != -1) {
		if (c != 'l')
			return cli_usage("umount", "%s is not an option of umount", argv[optind - 1]);
		lazy = true;
	}
	if (argc - optind != 1)
		return cli_usage("umount", "umount takes one PATH");
	return is_dead(argv[optind]) ? clear_dead(argv[optind]) : umount_live(argv[optind], lazy);
}
