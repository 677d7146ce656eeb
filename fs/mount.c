/*
 * Start and stop of a mounted replica, top to bottom.
 *
 * The loop ends when the kernel has ended the connection: someone unmounted
 * us.  If we are to end, the stopper thread unmounts, lazily, so that the name
 * is gone at once while what is under way is still served; who stays in it for
 * longer than a moment is cut off.  Before that, our own threads must be out of
 * the mount: the kernel waits in them for answers by our workers.  If the
 * daemon is killed, the watchdog does what is left.
 */
#include "config.h"

#include "fs/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs/barrier.h"
#include "fs/channel.h"
#include "fs/closer.h"
#include "fs/echo.h"
#include "fs/notify.h"
#include "fs/ops.h"
#include "fs/view.h"
#include "fs/watchdog.h"
#include "fs/workers.h"
#include "replication/log.h"

enum { LINGER_MS = 2000 };	/* for those who are still in the mount when it ends */

struct mounted {
	struct fs fs;
	const struct mount_options *options;
	struct watchdog *watchdog;
	pthread_t stopper;
	sigset_t signals;
	dev_t dev;			/* of the mount */
	atomic_bool ended;		/* the loop has returned */
};

/* libfuse's messages, which may come in pieces; the last one is the reason
 * when something fails. */
static char last_message[256];
static bool last_message_whole = true;

static void
fuse_message(enum fuse_log_level level, const char *fmt, va_list ap)
{
	size_t n = last_message_whole ? 0 : strlen(last_message);

	vsnprintf(last_message + n, sizeof last_message - n, fmt, ap);
	n = strlen(last_message);
	last_message_whole = n > 0 && last_message[n - 1] == '\n';
	if (last_message_whole)
		last_message[n - 1] = '\0';
	if (level <= FUSE_LOG_ERR)
		log_debug("%s", last_message);
}

static int __attribute__((format(printf, 4, 5)))
fail(int rc, char *why, size_t why_size, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, why_size, fmt, ap);
	va_end(ap);
	return rc;
}

/* As an ordinary user, only fusermount3 may unmount. */
static int
unmount_lazily(const char *path)
{
	char *argv[] = { "fusermount3", "-u", "-q", "-z", "--", (char *)path, NULL };
	pid_t pid;
	int rc, status;

	if (geteuid() == 0)
		return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
	rc = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
	if (rc != 0)
		return -rc;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status == 0 ? 0 : -EPERM;
}

int
mount_clear_dead(const char *path)
{
	struct statvfs st;

	/* stat(2) may still be answered by the kernel, this never is. */
	if (statvfs(path, &st) == 0 || errno != ENOTCONN)
		return 0;
	return unmount_lazily(path);
}

/*
 * A mount point below the store, other than the store itself, would have the
 * daemon wait for itself.
 */
static bool
lies_inside(const char *mountpoint, const struct inode_key *root)
{
	struct stat st, above;
	int fd = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC), up;
	bool inside = false;

	if (fd < 0 || fstat(fd, &st) < 0 || (st.st_dev == root->dev && st.st_ino == root->ino))
		goto out;
	while ((up = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC)) >= 0) {
		close(fd);
		fd = up;
		if (fstat(fd, &above) < 0 || (above.st_dev == st.st_dev && above.st_ino == st.st_ino))
			break;
		st = above;
		if (st.st_dev == root->dev && st.st_ino == root->ino) {
			inside = true;
			break;
		}
	}
out:
	if (fd >= 0)
		close(fd);
	return inside;
}

static int
make_args(const struct mount_options *o, struct fuse_args *args)
{
	char *opts = NULL, *name = NULL;
	int rc = -1;

	/* A comma in the name would end the option. */
	if (asprintf(&name, "fsname=%s", o->fsname != NULL ? o->fsname : "sibfs") < 0)
		return -ENOMEM;
	if (fuse_opt_add_opt(&opts, "subtype=sibfs") == 0 &&
	    fuse_opt_add_opt_escaped(&opts, name) == 0 &&
	    fuse_opt_add_opt(&opts, "default_permissions") == 0 &&
	    (geteuid() != 0 || fuse_opt_add_opt(&opts, "allow_other") == 0) &&
	    fuse_opt_add_arg(args, "sibfs") == 0 &&
	    fuse_opt_add_arg(args, "-o") == 0 && fuse_opt_add_arg(args, opts) == 0 &&
	    (o->fuse_opts == NULL ||
	    (fuse_opt_add_arg(args, "-o") == 0 && fuse_opt_add_arg(args, o->fuse_opts) == 0)))
		rc = 0;
	free(opts);
	free(name);
	return rc == 0 ? 0 : -ENOMEM;
}

/* Options that are ours, and not libfuse's. */
static int
take_own_options(struct fs *fs, struct fuse_args *args)
{
	struct own {
		int passthrough;
	} own = { .passthrough = 1 };
	static const struct fuse_opt known[] = {
		{ "passthrough=no", offsetof(struct own, passthrough), 0 },
		{ "passthrough=auto", offsetof(struct own, passthrough), 1 },
		FUSE_OPT_END
	};

	if (fuse_opt_parse(args, &own, known, NULL) != 0)
		return -EINVAL;
	fs->handshake.want_passthrough = own.passthrough != 0;
	atomic_store(&fs->backing.on, own.passthrough != 0);
	return 0;
}

/* Are we still what is mounted there?  Unmounting what is not ours would take
 * away what lies below. */
static bool
is_mounted(const struct mounted *m)
{
	return watchdog_device(m->options->mountpoint) == m->dev;
}

/* What a program wrote to fd becomes the reason, without its name before it. */
static void
take_message(int fd, const char *program)
{
	char text[sizeof last_message];
	ssize_t n = pread(fd, text, sizeof text - 1, 0);
	const char *from = text;

	if (n <= 0)
		return;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (strncmp(text, program, strlen(program)) == 0)
		from += strlen(program);
	snprintf(last_message, sizeof last_message, "%s", from);
}

/*
 * For an ordinary user fusermount3 mounts.  Why it does not it says on standard
 * error, which must be ours alone.
 */
static int
mount_session(struct fuse_session *se, const char *mountpoint)
{
	int said = geteuid() != 0 ? memfd_create("said", MFD_CLOEXEC) : -1;
	int ours = said >= 0 ? fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3) : -1;
	int rc;

	if (ours >= 0)
		dup2(said, STDERR_FILENO);
	rc = fuse_session_mount(se, mountpoint);
	if (ours >= 0) {
		dup2(ours, STDERR_FILENO);
		close(ours);
		if (rc != 0)
			take_message(said, "fusermount3: ");
	}
	if (said >= 0)
		close(said);
	return rc;
}

static int
open_channel(struct fs *fs)
{
	int rc = workers_new(fs->se, &fs->workers);

	if (rc == 0)
		rc = channel_open(fs->se, fs->workers, &fs->handshake);
	return rc;
}

static int
open_session(struct mounted *m, char *why, size_t why_size)
{
	const struct mount_options *o = m->options;
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fs *fs = &m->fs;
	int rc;

	fuse_set_log_func(fuse_message);
	last_message[0] = '\0';
	rc = make_args(o, &args);
	if (rc == 0)
		rc = take_own_options(fs, &args);
	if (rc == 0) {
		fs->se = fuse_session_new(&args, &ops_table, sizeof ops_table, fs);
		if (fs->se == NULL)
			rc = fail(-EINVAL, why, why_size, "-o %s: %s", o->fuse_opts != NULL ? o->fuse_opts : "",
			    last_message);
	}
	fuse_opt_free_args(&args);
	if (rc < 0)
		return rc;
	if (access("/dev/fuse", F_OK) < 0) {
		rc = fail(-ENODEV, why, why_size, "/dev/fuse is missing: load the kernel's fuse module");
	} else if (mount_session(fs->se, o->mountpoint) != 0) {
		rc = fail(-EPERM, why, why_size, "cannot mount on %s: %s", o->mountpoint, last_message);
	} else {
		m->dev = watchdog_device(o->mountpoint);
		watchdog_watch(m->watchdog, m->dev);
		rc = open_channel(fs);
		if (rc == 0)
			return 0;
		fail(rc, why, why_size, "cannot serve %s: %s", o->mountpoint, strerror(-rc));
		fuse_session_unmount(fs->se);
	}
	fuse_session_destroy(fs->se);
	channel_close();
	workers_free(fs->workers);
	return rc;
}

/* Has the kernel ended the connection? */
static bool
connection_dead(struct mounted *m)
{
	struct pollfd p = { .fd = fuse_session_fd(m->fs.se) };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLERR) != 0;
}

static void
close_session(struct mounted *m)
{
	if (connection_dead(m) || is_mounted(m))
		fuse_session_unmount(m->fs.se);
	fuse_session_destroy(m->fs.se);
	channel_close();
	workers_free(m->fs.workers);
}

static bool
wait_for_end(struct mounted *m, int ms)
{
	const struct timespec tick = { .tv_nsec = 5000000 };

	for (int waited = 0; waited < ms && !atomic_load(&m->ended); waited += 5)
		nanosleep(&tick, NULL);
	return atomic_load(&m->ended);
}

/* Waits for a signal; the first means that we are to end, or have ended. */
static void *
stopper_run(void *arg)
{
	struct mounted *m = arg;
	int signo, rc = 0;

	pthread_setname_np(pthread_self(), "sibfs-stopper");
	while (sigwait(&m->signals, &signo) != 0)
		continue;
	if (atomic_load(&m->ended))
		return NULL;
	barrier_mute(m->fs.barrier);
	notify_mute(m->fs.notify);
	if (is_mounted(m))
		rc = unmount_lazily(m->options->mountpoint);
	if (rc < 0 && !atomic_load(&m->ended))
		log_warn("cannot unmount %s: %s", m->options->mountpoint, strerror(-rc));
	if (!wait_for_end(m, LINGER_MS))
		log_info("%s is still in use; ending it", m->options->mountpoint);
	workers_stop(m->fs.workers);
	return NULL;
}

static void
stop(void *arg)
{
	struct mounted *m = arg;

	pthread_kill(m->stopper, SIGTERM);
}

static int
serve(struct mounted *m)
{
	if (m->options->ready != NULL)
		m->options->ready(m->options->arg);
	return workers_run(m->fs.workers);
}

/* With the mount standing: the threads, the replica, the loop. */
static int
run_threads(struct mounted *m, char *why, size_t why_size)
{
	struct fs *fs = &m->fs;
	struct replica_view view = view_of(fs);
	int rc;

	rc = notify_start(fs, &fs->notify);
	if (rc < 0)
		return fail(rc, why, why_size, "cannot start a thread: %s", strerror(-rc));
	fs->echo = echo_new(fs, m->options->mountpoint);
	rc = barrier_start(m->options->mountpoint, &fs->barrier);
	if (rc < 0)
		goto err_notify;
	rc = sessions_start(fs);
	if (rc < 0)
		goto err_barrier;
	rc = -pthread_create(&m->stopper, NULL, stopper_run, m);
	if (rc < 0)
		goto err_sessions;
	rc = replica_start(fs->replica, &view, m->options->mountpoint);
	if (rc < 0)
		goto err_stopper;
	replica_on_quit(fs->replica, stop, m);

	rc = serve(m);
	if (rc < 0)
		fail(rc, why, why_size, "serving %s failed: %s", m->options->mountpoint, strerror(-rc));
	atomic_store(&m->ended, true);
	sessions_stop(fs);
	replica_stop(fs->replica);
	stop(m);
	pthread_join(m->stopper, NULL);
	barrier_stop(fs->barrier);
	notify_stop(fs->notify);
	echo_free(fs->echo);
	return rc;

err_stopper:
	atomic_store(&m->ended, true);
	stop(m);
	pthread_join(m->stopper, NULL);
err_sessions:
	sessions_stop(fs);
err_barrier:
	barrier_stop(fs->barrier);
err_notify:
	notify_stop(fs->notify);
	echo_free(fs->echo);
	return fail(rc, why, why_size, "cannot start: %s", strerror(-rc));
}

static int
run(struct mounted *m, char *why, size_t why_size)
{
	struct fs *fs = &m->fs;
	int rc;

	rc = inodes_init(&fs->inodes, replica_root_fd(fs->replica));
	if (rc < 0)
		return fail(rc, why, why_size, "cannot read the store: %s", strerror(-rc));
	names_init(&fs->names);
	fs->inodes.closer = closer_new(fs->inodes.fds_max);
	if (lies_inside(m->options->mountpoint, &fs->inodes.root.key))
		rc = fail(-EINVAL, why, why_size, "%s lies inside the store: mount over the store itself, or elsewhere",
		    m->options->mountpoint);
	else
		rc = open_session(m, why, why_size);
	if (rc == 0) {
		rc = run_threads(m, why, why_size);
		close_session(m);
	}
	inodes_fini(fs);
	names_fini(&fs->names);
	closer_free(fs->inodes.closer);
	return rc;
}

int
mount_run(struct replica *r, const struct mount_options *o, char *why, size_t why_size)
{
	struct mounted *m = calloc(1, sizeof *m);
	int rc;

	if (m == NULL)
		return fail(-ENOMEM, why, why_size, "out of memory");
	m->options = o;
	m->fs.replica = r;
	m->fs.uid = geteuid();
	m->fs.gid = getegid();
	m->fs.lock = (pthread_mutex_t)PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
	sigemptyset(&m->signals);
	sigaddset(&m->signals, SIGTERM);
	sigaddset(&m->signals, SIGINT);
	sigaddset(&m->signals, SIGHUP);
	/* All threads inherit this, so that the stopper alone has them. */
	pthread_sigmask(SIG_BLOCK, &m->signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGIO, SIG_IGN);		/* see backing_has_writers */

	mount_clear_dead(o->mountpoint);
	rc = watchdog_start(o->mountpoint, &m->watchdog);
	if (rc < 0)
		fail(rc, why, why_size, "cannot start a process: %s", strerror(-rc));
	else
		rc = run(m, why, why_size);
	watchdog_stop(m->watchdog);
	pthread_mutex_destroy(&m->fs.lock);
	free(m);
	return rc;
}
