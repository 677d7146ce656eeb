/*
 * The threads that serve requests, on a small mount of its own: one file,
 * whose extended attributes are the requests.  user.slow is answered when the
 * test says so, user.barrier when a barrier is passed, all others at once.
 */
#include "config.h"

#include "fs/workers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include <cmocka.h>

#include "replication/log.h"

enum {
	WORKERS = 16,		/* that there are at most */
	MANY = 40,
	SOON_MS = 5000,		/* what takes longer hangs */
};

static char dir[] = "/tmp/sibfs-workers.XXXXXX";
static char path[64];
static struct fuse_session *se;
static struct workers *workers;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static atomic_bool released;		/* slow requests are answered */
static int slow;		/* of them under way */
static atomic_int near;		/* requests served by who counts as idle */

/* ---- what fails when we say so ----------------------------------------- */

static atomic_bool no_threads;
static atomic_int refused, warnings;

static atomic_bool late;	/* a worker takes a while to come to read */

ssize_t	 __real_read(int, void *, size_t);
ssize_t	 __wrap_read(int, void *, size_t);
int	 __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int	 __wrap_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
void	 __wrap_log_line(enum log_level, const char *, ...);

int
__wrap_pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	if (atomic_load(&no_threads)) {
		atomic_fetch_add(&refused, 1);
		return EAGAIN;
	}
	return __real_pthread_create(t, attr, fn, arg);
}

/* What wakes it then is over when it reads. */
ssize_t
__wrap_read(int fd, void *buf, size_t size)
{
	const struct timespec a_while = { .tv_nsec = 5000000 };

	if (atomic_load(&late))
		nanosleep(&a_while, NULL);
	return __real_read(fd, buf, size);
}

void
__wrap_log_line(enum log_level level, const char *fmt, ...)
{
	(void)fmt;
	if (level == LOG_WARN)
		atomic_fetch_add(&warnings, 1);
}

/* ---- the file system --------------------------------------------------- */

static void
get_attr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	const struct stat st = { .st_ino = node, .st_mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0644, .st_nlink = 1 };

	(void)fi;
	fuse_reply_attr(req, &st, 1e9);
}

static void
look_up(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	const struct fuse_entry_param e = {
		.ino = 2,
		.attr = { .st_ino = 2, .st_mode = S_IFREG | 0644, .st_nlink = 1 },
		.attr_timeout = 1e9,
		.entry_timeout = 1e9,
	};

	(void)parent;
	if (strcmp(name, "file") == 0)
		fuse_reply_entry(req, &e);
	else
		fuse_reply_err(req, ENOENT);
}

static void
wait_for_release(void)
{
	pthread_mutex_lock(&lock);
	slow++;
	pthread_cond_broadcast(&changed);
	while (!released)
		pthread_cond_wait(&changed, &lock);
	slow--;
	pthread_mutex_unlock(&lock);
}

static void
get_xattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	(void)node, (void)size;
	if (sched_getscheduler(0) == SCHED_IDLE)
		atomic_fetch_add(&near, 1);
	if (strcmp(name, "user.slow") == 0)
		wait_for_release();
	else if (strcmp(name, "user.barrier") == 0)
		workers_barrier(workers);
	fuse_reply_xattr(req, 1);
}

static const struct fuse_lowlevel_ops table = {
	.lookup = look_up,
	.getattr = get_attr,
	.getxattr = get_xattr,
};

static ssize_t
hook_read(int fd, void *buf, size_t size, void *userdata)
{
	(void)userdata;
	return workers_read(workers, fd, buf, size);
}

static ssize_t
hook_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	(void)userdata;
	return writev(fd, iov, count);
}

/* ---- programs that use it ---------------------------------------------- */

struct asker {
	pthread_t thread;
	const char *name, *then;	/* then: asked once, last; or NULL */
	unsigned times;
	atomic_bool done;
	int rc;			/* the first failure */
	double longest_ms;
};

static struct asker askers[MANY + 5];	/* of this test */
static int askers_len;

static double
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void *
ask(void *arg)
{
	struct asker *a = arg;

	for (unsigned i = 0; i < a->times; i++) {
		double from = now_ms(), took;

		if (getxattr(path, a->name, NULL, 0) < 0 && a->rc == 0)
			a->rc = -errno;
		took = now_ms() - from;
		if (took > a->longest_ms)
			a->longest_ms = took;
	}
	if (a->then != NULL && getxattr(path, a->then, NULL, 0) < 0 && a->rc == 0)
		a->rc = -errno;
	atomic_store(&a->done, true);
	return NULL;
}

static struct asker *
asker_start_then(const char *name, unsigned times, const char *then)
{
	struct asker *a = &askers[askers_len++];

	*a = (struct asker){ .name = name, .times = times, .then = then };
	assert_int_equal(__real_pthread_create(&a->thread, NULL, ask, a), 0);
	return a;
}

static struct asker *
asker_start(const char *name, unsigned times)
{
	return asker_start_then(name, times, NULL);
}

static bool
is_done_within(struct asker *a, double ms)
{
	const struct timespec tick = { .tv_nsec = 1000000 };
	double end = now_ms() + ms;

	while (!atomic_load(&a->done) && now_ms() < end)
		nanosleep(&tick, NULL);
	return atomic_load(&a->done);
}

static void
release_slow(void)
{
	pthread_mutex_lock(&lock);
	released = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* It is answered, in the end. */
static void
assert_answered(struct asker *a)
{
	assert_true(is_done_within(a, SOON_MS));
	assert_int_equal(a->rc, 0);
}

static void
assert_all_answered(void)
{
	for (int i = 0; i < askers_len; i++)
		assert_answered(&askers[i]);
}

static int
slow_under_way(void)
{
	int n;

	pthread_mutex_lock(&lock);
	n = slow;
	pthread_mutex_unlock(&lock);
	return n;
}

static void
forget_askers(void)
{
	for (int i = 0; i < askers_len; i++)
		pthread_join(askers[i].thread, NULL);
	askers_len = 0;
}

/* Waits until so many slow requests are under way. */
static void
assert_under_way(int n)
{
	const struct timespec tick = { .tv_nsec = 1000000 };
	double end = now_ms() + SOON_MS;

	while (slow_under_way() < n && now_ms() < end)
		nanosleep(&tick, NULL);
	assert_int_equal(slow_under_way(), n);
}

/* Starts n of them, for which there are so many workers. */
static struct asker *
start_slow(int n, int under_way)
{
	struct asker *first = &askers[askers_len];

	for (int i = 0; i < n; i++)
		asker_start("user.slow", 1);
	assert_under_way(under_way);
	return first;
}

/* More than there are threads for: no other can be made. */
static void
start_slow_without_threads(void)
{
	const struct timespec tick = { .tv_nsec = 1000000 };
	double end = now_ms() + SOON_MS;

	atomic_store(&no_threads, true);
	for (int i = 0; i < WORKERS / 2; i++)
		asker_start("user.slow", 1);
	while (atomic_load(&refused) < 20 && now_ms() < end)
		nanosleep(&tick, NULL);
	assert_in_range(slow_under_way(), 1, WORKERS / 2 - 1);
}

/* ---- start and end ----------------------------------------------------- */

static pthread_t server;
static atomic_bool served;
static int served_rc;
static bool serves;		/* server is to be joined */

static void *
serve(void *arg)
{
	(void)arg;
	served_rc = workers_run(workers);
	atomic_store(&served, true);
	return NULL;
}

static bool
has_served_within(double ms)
{
	const struct timespec tick = { .tv_nsec = 1000000 };
	double end = now_ms() + ms;

	while (!atomic_load(&served) && now_ms() < end)
		nanosleep(&tick, NULL);
	return atomic_load(&served);
}

static int
mount_it(void **state)
{
	const struct fuse_custom_io io = { .read = hook_read, .writev = hook_writev };
	char *argv[] = { "test", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);

	(void)state;
	released = false;
	slow = askers_len = 0;
	atomic_store(&served, false);
	se = fuse_session_new(&args, &table, sizeof table, NULL);
	fuse_opt_free_args(&args);
	if (se == NULL || fuse_session_mount(se, dir) != 0 || workers_new(se, &workers) < 0 ||
	    fuse_session_custom_io(se, &io, fuse_session_fd(se)) != 0)
		return -1;
	serves = __real_pthread_create(&server, NULL, serve, NULL) == 0;
	atomic_store(&refused, 0);
	atomic_store(&warnings, 0);
	return serves && getxattr(path, "user.quick", NULL, 0) == 1 ? 0 : -1;
}

static int
unmount_it(void **state)
{
	(void)state;
	release_slow();
	atomic_store(&no_threads, false);
	atomic_store(&late, false);
	umount2(dir, MNT_FORCE | MNT_DETACH);
	forget_askers();
	if (serves)
		pthread_join(server, NULL);
	fuse_session_unmount(se);
	fuse_session_destroy(se);
	workers_free(workers);
	return 0;
}

/* ---- the tests --------------------------------------------------------- */

/* Within milliseconds, but for what else the machine does. */
static void
test_others_are_served_while_one_takes_long(void **state)
{
	double quickest = SOON_MS;

	(void)state;
	for (int i = 0; i < 10; i++) {
		struct asker *one, *others;

		released = false;
		one = start_slow(1, 1);
		others = asker_start("user.quick", 50);
		assert_true(is_done_within(others, SOON_MS));
		if (others->longest_ms < quickest)
			quickest = others->longest_ms;
		assert_false(atomic_load(&one->done));
		release_slow();
		assert_all_answered();
		forget_askers();
	}
	assert_true(quickest < 50);
}

static void
test_the_last_worker_serves_while_all_others_take_long(void **state)
{
	(void)state;
	start_slow(WORKERS - 1, WORKERS - 1);
	assert_true(is_done_within(asker_start("user.quick", 500), SOON_MS));
	release_slow();
	assert_all_answered();
}

static void
test_more_long_ones_than_workers_wait_their_turn(void **state)
{
	(void)state;
	start_slow(MANY, WORKERS);
	assert_false(is_done_within(asker_start("user.quick", 1), 30));
	release_slow();
	assert_all_answered();
}

static void
test_where_no_thread_can_be_made_requests_wait_and_are_served(void **state)
{
	(void)state;
	start_slow_without_threads();
	assert_false(is_done_within(asker_start("user.quick", 1), 50));
	release_slow();
	assert_all_answered();
}

static void
test_a_thread_is_made_as_soon_as_one_can_be(void **state)
{
	(void)state;
	start_slow_without_threads();
	atomic_store(&no_threads, false);
	assert_true(is_done_within(asker_start("user.quick", 1), SOON_MS));
	assert_under_way(WORKERS / 2);
	release_slow();
	assert_all_answered();
}

static void
test_that_no_thread_can_be_made_is_said_once(void **state)
{
	(void)state;
	start_slow_without_threads();
	assert_int_equal(atomic_load(&warnings), 1);
}

static void
test_the_end_waits_for_a_long_one_and_answers_it(void **state)
{
	(void)state;
	start_slow(1, 1);
	workers_stop(workers);
	assert_false(has_served_within(50));
	release_slow();
	assert_all_answered();
	assert_true(has_served_within(SOON_MS));
	assert_int_equal(served_rc, 0);
}

static void
test_an_unmount_ends_it_while_one_takes_long(void **state)
{
	struct asker *one = start_slow(1, 1);

	(void)state;
	assert_int_equal(umount2(dir, MNT_DETACH), 0);
	release_slow();
	assert_true(is_done_within(one, SOON_MS));
	assert_true(has_served_within(SOON_MS));
	assert_int_equal(served_rc, 0);
}

/* Whoever is about to read when it is told to end is woken once it does. */
static void
test_told_once_to_end_it_ends(void **state)
{
	for (int i = 0; i < 50; i++) {
		atomic_store(&late, i % 2 == 0);
		for (int j = i % 4; j > 0; j--)
			asker_start("user.quick", (unsigned)i % 3 + 1);
		assert_all_answered();
		workers_stop(workers);
		assert_true(has_served_within(SOON_MS));
		unmount_it(state);
		assert_int_equal(mount_it(state), 0);
	}
}

static void
test_a_barrier_waits_for_what_was_read_before_it(void **state)
{
	(void)state;
	start_slow(1, 1);
	assert_false(is_done_within(asker_start("user.barrier", 1), 50));
	release_slow();
	assert_all_answered();
}

/* So many are done while a request waits for one that is late that several read. */
static void
test_a_barrier_passes_workers_that_rest_or_read(void **state)
{
	struct asker *others;

	(void)state;
	for (int i = 0; i < 10; i++) {
		released = false;
		start_slow(4, 4);
		atomic_store(&late, true);
		others = asker_start("user.quick", 6);
		is_done_within(others, 8);
		release_slow();
		assert_all_answered();
		atomic_store(&late, i % 2 == 0);
		asker_start("user.barrier", 1);
		assert_all_answered();
		atomic_store(&late, false);
		forget_askers();
	}
}

/* Of the threads of this process, those that count as idle. */
static int
idle_threads(void)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *de;
	int n = 0;

	assert_non_null(tasks);
	while ((de = readdir(tasks)) != NULL)
		n += de->d_name[0] != '.' && sched_getscheduler(atoi(de->d_name)) == SCHED_IDLE;
	closedir(tasks);
	return n;
}

/* One program's requests have their worker go to it. */
static void
start_near(void)
{
	double end = now_ms() + SOON_MS;

	atomic_store(&near, 0);
	while (atomic_load(&near) == 0 && now_ms() < end) {
		asker_start("user.quick", 200);
		assert_all_answered();
		forget_askers();
	}
	assert_true(atomic_load(&near) > 0);
}

static bool
nobody_is_idle_within(double ms)
{
	const struct timespec tick = { .tv_nsec = 1000000 };
	double end = now_ms() + ms;

	while (idle_threads() > 0 && now_ms() < end)
		nanosleep(&tick, NULL);
	return idle_threads() == 0;
}

static void
test_who_serves_one_program_counts_as_idle_no_longer_than_that(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		start_near();
		assert_true(nobody_is_idle_within(SOON_MS));
	}
}

static void
test_it_does_not_while_a_request_takes_long(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		released = false;
		asker_start_then("user.quick", 200, "user.slow");
		assert_under_way(1);
		assert_true(nobody_is_idle_within(SOON_MS));
		release_slow();
		assert_all_answered();
		forget_askers();
	}
}

#define test(name) cmocka_unit_test_setup_teardown(name, mount_it, unmount_it)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_others_are_served_while_one_takes_long),
		test(test_the_last_worker_serves_while_all_others_take_long),
		test(test_more_long_ones_than_workers_wait_their_turn),
		test(test_where_no_thread_can_be_made_requests_wait_and_are_served),
		test(test_a_thread_is_made_as_soon_as_one_can_be),
		test(test_that_no_thread_can_be_made_is_said_once),
		test(test_the_end_waits_for_a_long_one_and_answers_it),
		test(test_an_unmount_ends_it_while_one_takes_long),
		test(test_told_once_to_end_it_ends),
		test(test_a_barrier_waits_for_what_was_read_before_it),
		test(test_a_barrier_passes_workers_that_rest_or_read),
		test(test_who_serves_one_program_counts_as_idle_no_longer_than_that),
		test(test_it_does_not_while_a_request_takes_long),
	};
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), rc;

	if (fd < 0 || geteuid() != 0) {
		printf("1..0 # SKIP only root can mount, and where there is /dev/fuse\n");
		return 0;
	}
	close(fd);
	if (mkdtemp(dir) == NULL)
		return 1;
	snprintf(path, sizeof path, "%s/file", dir);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return rc;
}
