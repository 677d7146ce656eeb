/*
 * The inode table and write sessions, on real files, with a replica that only
 * writes down what it is told.
 */
#include "config.h"

#include "fs/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/closer.h"
#include "fs/echo.h"
#include "fs/fs.h"

/* ---- a disk that takes its time to free what nobody has any more ---- */

enum { SLOW_MS = 5000 };

static atomic_bool disk_waits;
static atomic_int freed;

int	 __real_close(int);
int	 __wrap_close(int);

int
__wrap_close(int fd)
{
	const struct timespec tick = { .tv_nsec = 1000000 };
	struct stat st;
	bool last = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 0;

	for (int ms = 0; last && ms < SLOW_MS && atomic_load(&disk_waits); ms++)
		nanosleep(&tick, NULL);
	if (last)
		atomic_fetch_add(&freed, 1);
	return __real_close(fd);
}

/* What the replica heard, "WRITE a; ..."; names are told by their text alone. */
static char told[4096];
static pthread_mutex_t told_lock = PTHREAD_MUTEX_INITIALIZER;

void
replica_tell(struct replica *r, const struct replica_event *e)
{
	static const char *const ops[] = {
		"WRITE", "UNLINK", "RENAME", "EXCHANGE", "MKDIR", "RMDIR", "ATTR", "LOOK", "IDLE",
	};
	size_t n;

	(void)r;
	assert_true(e->time_ns > 0);
	pthread_mutex_lock(&told_lock);
	n = strlen(told);
	snprintf(told + n, sizeof(told) - n, "%s%s%s; ", ops[e->op], e->name != NULL ? " " : "",
	    e->name != NULL ? e->name : "");
	pthread_mutex_unlock(&told_lock);
}

void
replica_touch(struct replica *r, ino_t dir, const char *name)
{
	size_t n;

	(void)r;
	(void)dir;
	pthread_mutex_lock(&told_lock);
	n = strlen(told);
	snprintf(told + n, sizeof(told) - n, "touch %s; ", name);
	pthread_mutex_unlock(&told_lock);
}

void
replica_view_lock(struct replica *r)
{
	(void)r;
}

void
replica_view_unlock(struct replica *r)
{
	(void)r;
}

/* Nobody watches. */
bool
echo_play(struct echo *e, const struct echo_step *step)
{
	(void)e;
	(void)step;
	return false;
}

void
echo_step_free(struct echo_step *step)
{
	(void)step;
}

struct fixture {
	struct fs fs;
	char path[32];
	int dir;
};

static int
setup_in(void **state, const char *path)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->path, path);
	assert_non_null(mkdtemp(f->path));
	f->dir = open(f->path, O_RDONLY | O_DIRECTORY);
	assert_true(f->dir >= 0);
	pthread_mutex_init(&f->fs.lock, NULL);
	assert_int_equal(inodes_init(&f->fs.inodes, f->dir), 0);
	names_init(&f->fs.names);
	f->fs.inodes.closer = closer_new(512);
	assert_int_equal(sessions_start(&f->fs), 0);
	told[0] = '\0';
	*state = f;
	return 0;
}

static int
setup(void **state)
{
	return setup_in(state, "inode-XXXXXX");
}

/* Where file handles may be longer. */
static int
setup_in_memory(void **state)
{
	return setup_in(state, access("/dev/shm", W_OK) == 0 ? "/dev/shm/inode-XXXXXX" : "inode-XXXXXX");
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	char command[64];

	sessions_stop(&f->fs);
	inodes_fini(&f->fs);
	names_fini(&f->fs.names);
	closer_free(f->fs.inodes.closer);
	close(f->dir);
	snprintf(command, sizeof(command), "rm -r %s", f->path);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

static void
make_file(struct fixture *f, const char *name)
{
	int fd = openat(f->dir, name, O_CREAT | O_WRONLY | O_EXCL, 0644);

	assert_true(fd >= 0);
	close(fd);
}

/* As a lookup does. */
static struct inode *
enter(struct fixture *f, const char *name)
{
	struct inode *i;
	struct stat st;
	int fd = openat(f->dir, name, O_PATH | O_NOFOLLOW);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	pthread_mutex_lock(&f->fs.lock);
	i = inode_enter(&f->fs, fd, &st);
	names_add(&f->fs.names, &i->names, f->fs.inodes.root.key.ino, name);
	pthread_mutex_unlock(&f->fs.lock);
	return i;
}

static struct inode *
enter_new(struct fixture *f, const char *name)
{
	make_file(f, name);
	return enter(f, name);
}

static void
assert_told(const char *expected)
{
	char heard[sizeof(told)];

	pthread_mutex_lock(&told_lock);
	strcpy(heard, told);
	told[0] = '\0';
	pthread_mutex_unlock(&told_lock);
	assert_string_equal(heard, expected);
}

static void
test_a_file_is_one_inode_until_it_is_forgotten(void **state)
{
	struct fixture *f = *state;
	struct inode *i;
	ino_t ino;

	i = enter_new(f, "a");
	ino = i->key.ino;
	assert_ptr_equal(enter(f, "a"), i);
	assert_ptr_equal(inode_of(&f->fs, inode_node(&f->fs, i)), i);
	inode_forget(&f->fs, i, 1);
	assert_ptr_equal(inode_find(&f->fs, ino), i);
	inode_forget(&f->fs, i, 1);
	assert_null(inode_find(&f->fs, ino));
	assert_int_equal(f->fs.names.table.len, 0);
	assert_int_equal(f->fs.inodes.fds, 0);
}

static int
open_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Nothing else holds the file. */
static void
remove_and_forget(struct fixture *f, struct inode *i, const char *name)
{
	assert_int_equal(unlinkat(f->dir, name, 0), 0);
	names_remove(&f->fs.names, i->names.first);
	inode_forget(&f->fs, i, 1);
}

/* That may take seconds: others must not wait. */
static void
test_whoever_forgets_a_removed_file_does_not_wait_until_it_is_freed(void **state)
{
	struct fixture *f = *state;
	int before = open_descriptors();
	char name[16];

	atomic_store(&freed, 0);
	atomic_store(&disk_waits, true);
	for (int k = 0; k < 100; k++) {
		snprintf(name, sizeof(name), "f%d", k);
		remove_and_forget(f, enter_new(f, name), name);
		assert_int_equal(atomic_load(&freed), 0);
	}
	atomic_store(&disk_waits, false);
	for (int ms = 0; ms < SLOW_MS && open_descriptors() > before; ms++)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	assert_int_equal(open_descriptors(), before);
	assert_int_equal(atomic_load(&freed), 100);
}

/* Descriptors are few: as many wait as can be spared. */
static void
test_of_many_removed_files_all_are_freed_in_the_end(void **state)
{
	struct fixture *f = *state;
	char name[16];

	atomic_store(&freed, 0);
	for (int k = 0; k < 2000; k++) {
		snprintf(name, sizeof(name), "f%d", k);
		remove_and_forget(f, enter_new(f, name), name);
	}
	closer_free(f->fs.inodes.closer);
	assert_int_equal(atomic_load(&freed), 2000);
	f->fs.inodes.closer = closer_new(512);
}

static void
assert_opens(struct fixture *f, struct inode *i)
{
	struct stat st;
	int fd = inode_fd_get(&f->fs, i);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_ino, i->key.ino);
	inode_fd_put(&f->fs, i);
}

static void
test_descriptors_stay_few(void **state)
{
	struct fixture *f = *state;
	struct inode *i[8];
	char name[2] = "a";

	if (!f->fs.inodes.handles_work)
		skip();
	f->fs.inodes.fds_max = 3;
	for (int k = 0; k < 8; k++, name[0]++) {
		i[k] = enter_new(f, name);
		assert_true(f->fs.inodes.fds <= 3);
	}
	for (int k = 0; k < 8; k++) {
		assert_opens(f, i[k]);
		assert_true(f->fs.inodes.fds <= 3);
	}
}

static void
test_a_deleted_file_without_descriptor_is_stale(void **state)
{
	struct fixture *f = *state;
	struct inode *a, *b;

	if (!f->fs.inodes.handles_work)
		skip();
	f->fs.inodes.fds_max = 1;
	a = enter_new(f, "a");
	b = enter_new(f, "b");
	assert_false(a->has_descriptor);
	unlinkat(f->dir, "a", 0);
	assert_int_equal(inode_fd_get(&f->fs, a), -ESTALE);
	assert_opens(f, b);
}

/* As for ordinary users, who may not open by handle. */
static void
test_descriptors_stay_few_without_handles(void **state)
{
	struct fixture *f = *state;
	struct inode *i[8];
	char name[2] = "a";

	if (!f->fs.inodes.births_known)
		skip();
	f->fs.inodes.handles_work = false;
	f->fs.inodes.fds_max = 3;
	for (int k = 0; k < 8; k++, name[0]++) {
		i[k] = enter_new(f, name);
		if (k == 0)	/* is open from now on: keeps its own */
			inode_hold(i[k]);
	}
	assert_true(i[0]->has_descriptor);
	/* The one that was entered last had no name yet. */
	assert_true(f->fs.inodes.fds <= 4);
	for (int k = 1; k < 8; k++) {
		assert_opens(f, i[k]);
		assert_true(f->fs.inodes.fds <= 3);
	}
	assert_true(i[0]->has_descriptor);
	inode_drop(&f->fs, i[0]);
}

/* Enters dir/a and makes it forget both descriptors. */
static struct inode *
enter_below(struct fixture *f, struct inode **dir)
{
	struct inode *i;
	struct stat st;
	int fd;

	f->fs.inodes.handles_work = false;
	f->fs.inodes.fds_max = 0;
	assert_int_equal(mkdirat(f->dir, "dir", 0700), 0);
	make_file(f, "dir/a");
	*dir = enter(f, "dir");
	fd = openat(f->dir, "dir/a", O_PATH);
	assert_int_equal(fstat(fd, &st), 0);
	i = inode_enter(&f->fs, fd, &st);
	names_add(&f->fs.names, &i->names, (*dir)->key.ino, "a");
	enter_new(f, "b");
	assert_false((*dir)->has_descriptor);
	assert_false(i->has_descriptor);
	return i;
}

static void
test_without_handles_a_file_is_found_where_it_was_moved_to(void **state)
{
	struct fixture *f = *state;
	ino_t root = f->fs.inodes.root.key.ino;
	struct inode *dir, *i;

	if (!f->fs.inodes.births_known)
		skip();
	i = enter_below(f, &dir);
	assert_int_equal(renameat(f->dir, "dir", f->dir, "moved"), 0);
	assert_int_equal(inode_fd_get(&f->fs, i), -ESTALE);
	names_remove(&f->fs.names, dir->names.first);
	names_add(&f->fs.names, &dir->names, root, "moved");
	assert_opens(f, i);
}

static void
test_without_handles_what_stands_at_the_name_now_is_told_apart(void **state)
{
	struct fixture *f = *state;
	struct inode *dir, *i;

	if (!f->fs.inodes.births_known)
		skip();
	i = enter_below(f, &dir);
	assert_int_equal(renameat(f->dir, "b", f->dir, "dir/a"), 0);
	assert_int_equal(inode_fd_get(&f->fs, i), -ESTALE);
	/* Its number may come back. */
	assert_int_equal(unlinkat(f->dir, "dir/a", 0), 0);
	assert_int_equal(inode_fd_get(&f->fs, i), -ESTALE);
	make_file(f, "dir/a");
	assert_int_equal(inode_fd_get(&f->fs, i), -ESTALE);
}

static void
test_without_handles_names_that_go_round_end(void **state)
{
	struct fixture *f = *state;
	struct inode *dir, *i;

	if (!f->fs.inodes.births_known)
		skip();
	i = enter_below(f, &dir);
	names_remove(&f->fs.names, dir->names.first);
	names_add(&f->fs.names, &dir->names, dir->key.ino, "dir");
	assert_int_equal(inode_fd_get(&f->fs, i), -ESTALE);
}

static void
test_a_written_file_is_told_when_it_is_closed(void **state)
{
	struct fixture *f = *state;
	struct inode *i = enter_new(f, "a");

	assert_int_equal(session_open(&f->fs, i), 0);
	session_wrote(&f->fs, i);
	session_wrote(&f->fs, i);
	assert_told("touch a; ");
	session_close(&f->fs, i, true);
	assert_told("WRITE a; ");
}

static void
test_a_file_that_was_not_written_is_only_idle(void **state)
{
	struct fixture *f = *state;
	struct inode *i = enter_new(f, "a");

	session_open(&f->fs, i);
	session_open(&f->fs, i);
	session_close(&f->fs, i, false);
	assert_told("touch a; ");
	session_close(&f->fs, i, false);
	assert_told("IDLE; ");
}

static void
test_every_name_of_a_file_is_told(void **state)
{
	struct fixture *f = *state;
	struct inode *i = enter_new(f, "a");

	assert_int_equal(linkat(f->dir, "a", f->dir, "b", 0), 0);
	assert_ptr_equal(enter(f, "b"), i);
	session_open(&f->fs, i);
	session_wrote(&f->fs, i);
	told[0] = '\0';
	session_close(&f->fs, i, true);
	assert_told("WRITE b; WRITE a; ");
}

static void
test_a_passing_name_waits(void **state)
{
	struct fixture *f = *state;
	struct inode *i = enter_new(f, "a~");

	session_name_new(&f->fs, i->names.first, true);
	session_open(&f->fs, i);
	session_wrote(&f->fs, i);
	told[0] = '\0';
	session_close(&f->fs, i, true);
	assert_told("IDLE; ");
	usleep(1600000);
	assert_told("WRITE a~; ");
}

/* It may be written by the new one, and the other forgotten, before the replica looks. */
static void
test_of_a_new_link_the_other_name_is_told_too(void **state)
{
	struct fixture *f = *state;
	struct inode *i = enter_new(f, "a");

	assert_int_equal(linkat(f->dir, "a", f->dir, "b", 0), 0);
	assert_ptr_equal(enter(f, "b"), i);
	pthread_mutex_lock(&f->fs.lock);
	session_name_new(&f->fs, i->names.first, false);
	pthread_mutex_unlock(&f->fs.lock);
	assert_told("WRITE b; WRITE a; ");
}

/* Its name goes before it is written; that it has another one only the replica knows. */
static void
test_what_is_open_for_writing_gets_the_name_that_is_left(void **state)
{
	struct fixture *f = *state;
	ino_t dir = f->fs.inodes.root.key.ino;
	struct inode *i = enter_new(f, "a");

	assert_int_equal(linkat(f->dir, "a", f->dir, "b", 0), 0);
	session_open(&f->fs, i);
	assert_int_equal(unlinkat(f->dir, "a", 0), 0);
	told[0] = '\0';
	pthread_mutex_lock(&f->fs.lock);
	session_name_unlinked(&f->fs, i->names.first);
	names_remove(&f->fs.names, i->names.first);
	pthread_mutex_unlock(&f->fs.lock);
	assert_told("WRITE a; ");
	session_name_found(&f->fs, i->key.ino, dir, "b");
	session_name_found(&f->fs, i->key.ino, dir, "b");
	assert_told("touch b; ");
	session_wrote(&f->fs, i);
	session_close(&f->fs, i, true);
	assert_told("WRITE b; ");
	/* Nobody writes it any more: it is told by what it is looked up by. */
	session_name_found(&f->fs, i->key.ino, dir, "c");
	assert_null(names_find(&f->fs.names, dir, "c"));
}

static void
test_a_passing_name_that_goes_in_time_is_never_told(void **state)
{
	struct fixture *f = *state;
	struct inode *i = enter_new(f, "a~");

	pthread_mutex_lock(&f->fs.lock);
	session_name_new(&f->fs, i->names.first, false);
	session_name_gone(&f->fs, i->names.first);
	names_remove(&f->fs.names, i->names.first);
	pthread_mutex_unlock(&f->fs.lock);
	assert_told("");
}

/* As when a remote change moves it, and the kernel forgets it at once. */
static void
test_a_file_whose_name_was_taken_is_told_when_it_is_forgotten(void **state)
{
	struct fixture *f = *state;
	struct inode *i = enter_new(f, "a~");

	pthread_mutex_lock(&f->fs.lock);
	session_name_new(&f->fs, i->names.first, false);
	session_name_taken(&f->fs, i->names.first);
	names_remove(&f->fs.names, i->names.first);
	names_add(&f->fs.names, &i->names, f->fs.inodes.root.key.ino, "b");
	pthread_mutex_unlock(&f->fs.lock);
	assert_told("");
	inode_forget(&f->fs, i, 1);
	assert_told("WRITE b; ");
}

static void
test_nothing_stays_of_a_session_that_is_over(void **state)
{
	struct fixture *f = *state;
	struct inode *i = enter_new(f, "a");

	session_open(&f->fs, i);
	session_open(&f->fs, i);
	session_wrote(&f->fs, i);
	session_close(&f->fs, i, true);
	assert_non_null(i->session);
	session_wrote(&f->fs, i);
	session_close(&f->fs, i, true);
	assert_told("touch a; WRITE a; WRITE a; ");
	assert_null(i->session);
}

static void
test_a_replaced_file_is_not_opened_for_writing(void **state)
{
	struct fixture *f = *state;
	struct inode *i;

	make_file(f, "a");
	make_file(f, "new");
	i = enter(f, "a");
	i->replaced = true;
	/* It still stands there, whatever was said. */
	assert_int_equal(session_open(&f->fs, i), 0);
	session_close(&f->fs, i, false);
	assert_int_equal(renameat(f->dir, "new", f->dir, "a"), 0);
	assert_int_equal(session_open(&f->fs, i), -ESTALE);
	assert_int_equal(session_may_change(&f->fs, i), -ESTALE);
	assert_int_equal(atomic_load(&i->writers), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_file_is_one_inode_until_it_is_forgotten, setup, teardown),
		cmocka_unit_test_setup_teardown(test_whoever_forgets_a_removed_file_does_not_wait_until_it_is_freed, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_of_many_removed_files_all_are_freed_in_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_descriptors_stay_few, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_deleted_file_without_descriptor_is_stale, setup, teardown),
		cmocka_unit_test_setup_teardown(test_descriptors_stay_few, setup_in_memory, teardown),
		cmocka_unit_test_setup_teardown(test_a_deleted_file_without_descriptor_is_stale, setup_in_memory,
		    teardown),
		cmocka_unit_test_setup_teardown(test_descriptors_stay_few_without_handles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_handles_a_file_is_found_where_it_was_moved_to, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_without_handles_what_stands_at_the_name_now_is_told_apart, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_without_handles_names_that_go_round_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_written_file_is_told_when_it_is_closed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_file_that_was_not_written_is_only_idle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_name_of_a_file_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_passing_name_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_of_a_new_link_the_other_name_is_told_too, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_open_for_writing_gets_the_name_that_is_left, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_passing_name_that_goes_in_time_is_never_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_file_whose_name_was_taken_is_told_when_it_is_forgotten, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_nothing_stays_of_a_session_that_is_over, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_replaced_file_is_not_opened_for_writing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
