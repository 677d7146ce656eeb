/*
 * The index: what is committed is there after a reopen, what is not is gone,
 * and a full disk is said and harms nothing.
 */
#include "config.h"

#include "replication/index.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "replication/mem.h"
#include "tests/lib/random.h"
#include "tests/lib/sim.h"

struct fixture {
	char dir[64];
	int fd;
	struct index *x;
	char why[200];
};

static void
open_index(struct fixture *f, bool create)
{
	int rc = index_open(f->fd, create, &f->x, f->why, sizeof(f->why));

	if (rc < 0)
		fail_msg("%d: %s", rc, f->why);
}

static void
reopen(struct fixture *f)
{
	index_close(f->x);
	open_index(f, false);
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/test_index-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	open_index(f, true);
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	struct dirent *e;
	DIR *d;

	index_close(f->x);
	d = fdopendir(f->fd);
	while ((e = readdir(d)))
		unlinkat(f->fd, e->d_name, 0);
	closedir(d);
	rmdir(f->dir);
	free(f);
	return 0;
}

/* ---- values ---- */

static void
assert_value(struct index *x, const char *key, const void *value, size_t len)
{
	void *p;
	size_t n;

	assert_int_equal(index_get_value(x, key, &p, &n), 0);
	assert_int_equal(n, len);
	if (len)
		assert_memory_equal(p, value, len);
	free(p);
}

static void
test_values_are_bytes_and_the_last_one_counts(void **state)
{
	struct fixture *f = *state;
	size_t n;
	void *p;

	assert_int_equal(index_get_value(f->x, "k", &p, &n), -ENOENT);
	assert_int_equal(index_begin(f->x), 0);
	assert_int_equal(index_set_value(f->x, "k", "a\0b", 3), 0);
	assert_int_equal(index_set_value(f->x, "k", "c\0\xff", 3), 0);
	assert_int_equal(index_set_value(f->x, "empty", NULL, 0), 0);
	assert_int_equal(index_commit(f->x), 0);
	reopen(f);
	assert_value(f->x, "k", "c\0\xff", 3);
	assert_value(f->x, "empty", "", 0);
}

static void
test_what_is_rolled_back_is_gone(void **state)
{
	struct fixture *f = *state;
	size_t n;
	void *p;

	assert_int_equal(index_begin(f->x), 0);
	assert_int_equal(index_set_value(f->x, "k", "v", 1), 0);
	index_rollback(f->x);
	assert_int_equal(index_get_value(f->x, "k", &p, &n), -ENOENT);
	index_rollback(f->x);
	assert_int_equal(index_begin(f->x), 0);
	assert_int_equal(index_commit(f->x), 0);
}

static void
test_what_was_not_committed_is_gone_after_a_reopen(void **state)
{
	struct fixture *f = *state;
	size_t n;
	void *p;

	assert_int_equal(index_begin(f->x), 0);
	assert_int_equal(index_set_value(f->x, "k", "v", 1), 0);
	reopen(f);
	assert_int_equal(index_get_value(f->x, "k", &p, &n), -ENOENT);
}

/* ---- opening ---- */

static void
test_a_missing_index_is_not_made_unless_asked_for(void **state)
{
	struct fixture *f = *state;
	struct index *x = NULL;

	index_close(f->x);
	f->x = NULL;
	unlinkat(f->fd, "index.db", 0);
	assert_int_equal(index_open(f->fd, false, &x, f->why, sizeof(f->why)), -ENOENT);
	assert_null(x);
	assert_true(f->why[0]);
	assert_int_equal(faccessat(f->fd, "index.db", F_OK, 0), -1);
}

static void
test_a_newer_schema_is_refused_and_left_alone(void **state)
{
	struct fixture *f = *state;
	struct index *x = NULL;
	char path[100];
	sqlite3 *db;

	index_close(f->x);
	f->x = NULL;
	snprintf(path, sizeof(path), "%s/index.db", f->dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 1000", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	assert_int_equal(index_open(f->fd, false, &x, f->why, sizeof(f->why)), -EPROTO);
	assert_non_null(strstr(f->why, "newer"));
	assert_int_equal(index_open(f->fd, true, &x, f->why, sizeof(f->why)), -EPROTO);
	assert_null(x);
}

static void
test_what_is_no_database_is_an_io_error(void **state)
{
	struct fixture *f = *state;
	struct index *x = NULL;
	char junk[8192];
	int fd;

	index_close(f->x);
	f->x = NULL;
	memset(junk, 'j', sizeof(junk));
	fd = openat(f->fd, "index.db", O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, junk, sizeof(junk)), sizeof(junk));
	close(fd);
	assert_int_equal(index_open(f->fd, false, &x, f->why, sizeof(f->why)), -EIO);
	assert_null(x);
	assert_true(f->why[0]);
}

/* An init that was killed. */
static void
test_an_empty_index_is_damage_to_open_and_made_anew_by_init(void **state)
{
	struct fixture *f = *state;
	struct index *x = NULL;

	index_close(f->x);
	f->x = NULL;
	close(openat(f->fd, "index.db", O_WRONLY | O_TRUNC | O_CLOEXEC));
	assert_int_equal(index_open(f->fd, false, &x, f->why, sizeof(f->why)), -EIO);
	open_index(f, true);
	assert_int_equal(index_set_value(f->x, "k", "v", 1), 0);
}

static void
test_no_second_connection_gets_in(void **state)
{
	struct fixture *f = *state;
	char path[100];
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/index.db", f->dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_not_equal(sqlite3_exec(db, "SELECT * FROM meta", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	assert_int_equal(faccessat(f->fd, "index.db-shm", F_OK, 0), -1);
	/* Its closing has taken our process's locks along, as POSIX has it: only
	 * what follows from here would notice. */
	assert_int_equal(index_set_value(f->x, "k", "v", 1), 0);
}

static void
test_the_index_is_reached_under_a_mount_over_its_place(void **state)
{
	struct fixture *f = *state;

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		skip();
	mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL);
	index_close(f->x);
	f->x = NULL;
	if (mount("none", f->dir, "tmpfs", 0, "size=64k") < 0)
		skip();
	open_index(f, false);
	assert_int_equal(index_begin(f->x), 0);
	assert_int_equal(index_set_value(f->x, "k", "v", 1), 0);
	assert_int_equal(index_commit(f->x), 0);
	reopen(f);
	assert_value(f->x, "k", "v", 1);
	index_close(f->x);
	f->x = NULL;
	umount(f->dir);
	open_index(f, false);
	assert_value(f->x, "k", "v", 1);
}

static void
test_the_callers_descriptor_may_be_closed(void **state)
{
	struct fixture *f = *state;
	int other;

	index_close(f->x);
	f->x = NULL;
	other = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(index_open(other, false, &f->x, f->why, sizeof(f->why)), 0);
	/* Its number now leads elsewhere. */
	assert_int_equal(dup2(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), other), other);
	assert_int_equal(index_begin(f->x), 0);
	assert_int_equal(index_set_value(f->x, "k", "v", 1), 0);
	assert_int_equal(index_commit(f->x), 0);
	index_close(f->x);
	f->x = NULL;
	close(other);
	assert_int_equal(faccessat(f->fd, "index.db-wal", F_OK, 0), -1);
	open_index(f, false);
	assert_value(f->x, "k", "v", 1);
}

/* ---- registers ---- */

static struct dir dirs[3] = { { .num = 1 }, { .num = 2 }, { .num = UINT64_C(1) << 40 } };

static struct reg *
make_reg(struct dir *d, const char *name, uint64_t seq)
{
	struct reg *r = reg_new(d, d->num, name);

	r->seq = seq;
	r->shown = random_regval();
	return r;
}

static void
add_file(struct reg *r, const char *name, uint8_t fill)
{
	struct file_stamp stamp = { 1, 2, 3 };
	struct hash h;

	memset(h.b, fill, sizeof(h.b));
	reg_file_set(r, name, &h, &stamp);
}

struct seen {
	char text[4000];
	uint64_t seq;
	bool sorted;
	size_t stop_after, n;
};

static int
see(void *arg, uint64_t num, const char *name, uint64_t seq)
{
	struct seen *q = arg;

	snprintf(q->text + strlen(q->text), sizeof(q->text) - strlen(q->text), "%llu/%s ", (unsigned long long)num, name);
	q->sorted &= seq >= q->seq;
	q->seq = seq;
	q->n++;
	return q->stop_after && q->n == q->stop_after ? 42 : 0;
}

#define SEEN (struct seen){ .sorted = true }

static void
test_registers_come_back_as_they_were(void **state)
{
	static const char *const names[] = { "a", "\xff\x01", "a b", "é", ".conflict-" };
	struct fixture *f = *state;
	struct reg *all[5];

	assert_int_equal(index_begin(f->x), 0);
	for (size_t i = 0; i < 5; i++) {
		all[i] = make_reg(&dirs[i % 3], names[i], i + 1);
		assert_int_equal(index_put_reg(f->x, all[i], i == 3), 0);
	}
	assert_int_equal(index_commit(f->x), 0);
	reopen(f);
	for (size_t i = 0; i < 5; i++) {
		struct reg *r = reg_new(all[i]->dir, all[i]->dir->num, names[i]);

		assert_int_equal(index_get_reg(f->x, r), 1);
		assert_true(regval_equal(&r->shown, &all[i]->shown));
		assert_int_equal(r->seq, i + 1);
		assert_int_equal(r->in_conflict, i == 3);
		reg_free(r);
		r = reg_new(&dirs[0], 77, names[i]);
		assert_int_equal(index_get_reg(f->x, r), 0);
		reg_free(r);
		reg_free(all[i]);
	}
}

static void
test_changes_are_listed_in_order_from_any_point(void **state)
{
	struct fixture *f = *state;
	struct seen q = SEEN;

	assert_int_equal(index_begin(f->x), 0);
	for (size_t i = 0; i < 10; i++) {
		char name[] = { (char)('a' + i), '\0' };
		struct reg *r = make_reg(&dirs[0], name, 100 - i);

		assert_int_equal(index_put_reg(f->x, r, false), 0);
		if (i == 0) {
			r->seq = 200;	/* changed again */
			assert_int_equal(index_put_reg(f->x, r, false), 0);
		}
		reg_free(r);
	}
	assert_int_equal(index_commit(f->x), 0);
	assert_int_equal(index_regs_since(f->x, 96, SIZE_MAX, see, &q), 0);
	assert_string_equal(q.text, "1/d 1/c 1/b 1/a ");
	assert_true(q.sorted);
	assert_int_equal(q.seq, 200);
	q = SEEN;
	assert_int_equal(index_regs_since(f->x, 0, 2, see, &q), 0);
	assert_string_equal(q.text, "1/j 1/i ");
	q = SEEN;
	q.stop_after = 3;
	assert_int_equal(index_regs_since(f->x, 0, SIZE_MAX, see, &q), 42);
	assert_int_equal(q.n, 3);
}

struct nested {
	struct index *x;
	size_t n;
};

static int
read_within(void *arg, uint64_t num, const char *name, uint64_t seq)
{
	struct nested *q = arg;
	struct reg *r = reg_new(&dirs[0], num, name);
	struct seen inner = SEEN;

	(void)seq;
	assert_int_equal(index_get_reg(q->x, r), 1);
	assert_int_equal(index_regs_since(q->x, 0, SIZE_MAX, see, &inner), 0);
	assert_int_equal(inner.n, 3);
	assert_string_equal(reg_name(r), name);
	reg_free(r);
	q->n++;
	return 0;
}

static void
test_the_index_may_be_read_from_within_a_listing(void **state)
{
	struct fixture *f = *state;
	struct nested q = { f->x, 0 };

	for (uint64_t i = 0; i < 3; i++) {
		char name[] = { (char)('a' + i), '\0' };
		struct reg *r = make_reg(&dirs[0], name, i + 1);

		assert_int_equal(index_put_reg(f->x, r, false), 0);
		reg_free(r);
	}
	assert_int_equal(index_regs_since(f->x, 0, SIZE_MAX, read_within, &q), 0);
	assert_int_equal(q.n, 3);
}

static void
test_pending_conflicting_and_standing_ones_are_found(void **state)
{
	struct fixture *f = *state;
	struct reg *plain = make_reg(&dirs[0], "plain", 1), *waiting = make_reg(&dirs[0], "waiting", 2);
	struct reg *both = make_reg(&dirs[1], "both", 3);
	struct seen q = SEEN;

	waiting->pending = mem_alloc(sizeof(*waiting->pending));
	both->pending = mem_alloc(sizeof(*both->pending));
	index_put_reg(f->x, plain, true);
	index_put_reg(f->x, plain, false);
	index_put_reg(f->x, waiting, false);
	index_put_reg(f->x, both, true);
	assert_int_equal(index_regs_pending(f->x, see, &q), 0);
	assert_string_equal(q.text, "1/waiting 2/both ");
	q = SEEN;
	assert_int_equal(index_regs_in_conflict(f->x, see, &q), 0);
	assert_string_equal(q.text, "2/both ");
	q = SEEN;
	assert_int_equal(index_regs_in_dir(f->x, 1, see, &q), 0);
	assert_string_equal(q.text, "1/plain 1/waiting ");
	assert_int_equal(index_delete_reg(f->x, waiting), 0);
	assert_int_equal(index_delete_reg(f->x, both), 0);
	q = SEEN;
	assert_int_equal(index_regs_pending(f->x, see, &q), 0);
	assert_int_equal(index_regs_in_conflict(f->x, see, &q), 0);
	assert_int_equal(q.n, 0);
	reg_free(plain);
	reg_free(waiting);
	reg_free(both);
}

/* What shows nothing, and what waits for something that may be nothing. */
static void
test_changes_that_may_be_removals_are_listed_alone(void **state)
{
	struct fixture *f = *state;
	struct seen q = SEEN;

	for (unsigned i = 0; i < 8; i++) {
		char name[] = { (char)('a' + i), '\0' };
		struct reg *r = make_reg(&dirs[0], name, 8 - i);

		while (i % 4 && !r->shown.len) {
			regval_fini(&r->shown);
			r->shown = random_regval();
		}
		if (i % 4 == 0) {
			regval_fini(&r->shown);
			r->shown = (struct regval){ 0 };
		}
		if (i % 4 == 1)
			r->pending = mem_alloc(sizeof(*r->pending));
		assert_int_equal(index_put_reg(f->x, r, i % 2), 0);
		reg_free(r);
	}
	assert_int_equal(index_regs_gone(f->x, 0, 8, SIZE_MAX, see, &q), 0);
	assert_string_equal(q.text, "1/f 1/e 1/b 1/a ");
	assert_true(q.sorted);
	q = SEEN;
	assert_int_equal(index_regs_gone(f->x, 3, 7, SIZE_MAX, see, &q), 0);
	assert_string_equal(q.text, "1/e 1/b ");
	q = SEEN;
	assert_int_equal(index_regs_gone(f->x, 0, 8, 3, see, &q), 0);
	assert_string_equal(q.text, "1/f 1/e 1/b ");
}

static size_t
count_some_content(struct index *x, uint8_t fill, size_t limit)
{
	struct seen q = SEEN;
	struct hash h;

	memset(h.b, fill, sizeof(h.b));
	assert_int_equal(index_regs_with_content(x, &h, limit, see, &q), 0);
	return q.n;
}

static size_t
count_content(struct index *x, uint8_t fill)
{
	return count_some_content(x, fill, SIZE_MAX);
}

static void
test_content_is_found_under_each_of_its_names(void **state)
{
	struct fixture *f = *state;
	struct reg *a = make_reg(&dirs[0], "a", 1), *b = make_reg(&dirs[1], "b", 2);

	add_file(a, "a", 1);
	add_file(b, "b", 1);
	add_file(b, "b.conflict-laptop", 2);
	index_put_reg(f->x, a, false);
	index_put_reg(f->x, b, true);
	assert_int_equal(count_content(f->x, 1), 2);
	assert_int_equal(count_content(f->x, 2), 1);
	assert_int_equal(count_content(f->x, 3), 0);
	reg_file_forget(b, "b");
	index_put_reg(f->x, b, false);
	assert_int_equal(count_content(f->x, 1), 1);
	assert_int_equal(count_content(f->x, 2), 1);
	add_file(b, "b", 3);
	index_put_reg(f->x, b, true);
	assert_int_equal(count_content(f->x, 3), 1);
	index_delete_reg(f->x, b);
	assert_int_equal(count_content(f->x, 2), 0);
	assert_int_equal(count_content(f->x, 3), 0);
	reg_free(a);
	reg_free(b);
}

static void
test_of_many_places_of_a_content_some_are_read(void **state)
{
	struct fixture *f = *state;
	char name[8];

	for (int i = 0; i < 50; i++) {
		struct reg *r;

		snprintf(name, sizeof(name), "f%d", i);
		r = make_reg(&dirs[0], name, 1);
		add_file(r, name, 1);
		if (i % 2)
			add_file(r, "other", 2);
		index_put_reg(f->x, r, false);
		reg_free(r);
	}
	assert_int_equal(count_some_content(f->x, 1, 3), 3);
	assert_int_equal(count_some_content(f->x, 2, 7), 7);
	assert_int_equal(count_content(f->x, 1), 50);
	assert_int_equal(count_content(f->x, 2), 25);
}

struct counts {
	uint32_t of[4];
};

static void
count_dir(void *arg, uint64_t num, uint32_t files)
{
	assert_true(num < 4);
	((struct counts *)arg)->of[num] = files;
}

static void
assert_counts(struct index *x, uint32_t one, uint32_t two)
{
	struct counts c = { { 0 } };

	assert_int_equal(index_count_files(x, count_dir, &c), 0);
	assert_int_equal(c.of[1], one);
	assert_int_equal(c.of[2], two);
}

static void
make_live(struct reg *r)
{
	struct version v = { .dot = { 1, 1 }, .kind = KIND_FILE, .slot = mem_str("") };

	regval_fini(&r->shown);
	vv_raise(&r->shown.ctx, v.dot);
	regval_add(&r->shown, &v);
}

static void
test_files_are_counted_as_they_come_and_go(void **state)
{
	struct fixture *f = *state;
	struct reg *r[4] = { make_reg(&dirs[0], "a", 1), make_reg(&dirs[0], "b", 2), make_reg(&dirs[0], "c", 3),
		make_reg(&dirs[1], "d", 4) };

	for (size_t i = 0; i < 4; i++) {
		make_live(r[i]);
		assert_int_equal(index_put_reg(f->x, r[i], false), 0);
	}
	assert_counts(f->x, 3, 1);
	index_put_reg(f->x, r[0], true);	/* changed, still there */
	assert_counts(f->x, 3, 1);
	regval_remove(&r[0]->shown, (struct dot){ 1, 1 });
	index_put_reg(f->x, r[0], false);
	index_delete_reg(f->x, r[1]);
	index_delete_reg(f->x, r[3]);
	assert_counts(f->x, 1, 0);
	make_live(r[0]);
	index_put_reg(f->x, r[0], false);
	index_begin(f->x);
	index_delete_reg(f->x, r[2]);
	index_rollback(f->x);
	reopen(f);
	assert_counts(f->x, 2, 0);
	for (size_t i = 0; i < 4; i++)
		reg_free(r[i]);
}

/* ---- directories ---- */

static const char *
nobody(void *ctx, uint64_t id)
{
	(void)ctx;
	(void)id;
	return "nobody";
}

static void
check_ino(void *arg, struct dir *d, uint64_t ino)
{
	(void)arg;
	assert_int_equal(ino, d->num * 10);
}

static void
put_dirs(struct index *x, struct state *s)
{
	assert_int_equal(index_begin(x), 0);
	for (struct dir *d = s->dirs; d; d = d->hh.next)
		assert_int_equal(index_put_dir(x, d, d->num * 10), 0);
	assert_int_equal(index_commit(x), 0);
}

/* Only what says it changed, as the replica does. */
static void
put_dirty(struct index *x, struct state *s)
{
	assert_int_equal(index_begin(x), 0);
	for (size_t i = 0; i < s->dirty_dirs.len; i++) {
		assert_int_equal(index_put_dir(x, s->dirty_dirs.d[i], s->dirty_dirs.d[i]->num * 10), 0);
		s->dirty_dirs.d[i]->dirty = false;
	}
	s->dirty_dirs.len = 0;
	assert_int_equal(index_commit(x), 0);
}

static struct state *
load_dirs(struct index *x)
{
	struct state_io io = { .node_name = nobody };
	struct state *s = state_new(1, &io);

	assert_int_equal(index_load_dirs(x, s, check_ino, NULL), 0);
	state_rebuild(s);
	return s;
}

static void
assert_same_dirs(const struct state *a, struct state *b)
{
	char *ta = sim_tree((struct state *)(uintptr_t)a), *tb = sim_tree(b);

	assert_string_equal(ta, tb);
	free(ta);
	free(tb);
	assert_int_equal(HASH_COUNT(a->dirs), HASH_COUNT(b->dirs));
	for (const struct dir *d = a->dirs; d; d = d->hh.next) {
		struct dir *e = state_dir(b, &d->id);

		assert_non_null(e);
		assert_int_equal(d->num, e->num);
		assert_int_equal(d->seq, e->seq);
		assert_int_equal(d->told, e->told);
		assert_int_equal(d->birth_k, e->birth_k);
		assert_true(dirval_equal(&d->val, &e->val));
		assert_ptr_equal(e, state_dir_num(b, d->num));
	}
	for (const struct dir *d = a->by_seq, *e = b->by_seq; d || e; d = d->seq_next, e = e->seq_next)
		assert_true(d && e && d->num == e->num);
	assert_int_equal(a->next_num, b->next_num);
}

static const char *const nodes[] = { "laptop", "server" };

static void
test_directories_come_back_where_they_were(void **state)
{
	struct fixture *f = *state;
	struct state *s, *got;
	struct sim sim;

	sim_init(&sim, nodes, 2);
	s = sim.s[0];
	s->now = 1000;
	assert_int_equal(sim_mkdir(s, "a", 0700, DIR_MADE_HERE), 0);
	assert_int_equal(sim_mkdir(s, "a/b", 0750, DIR_MADE_HERE), 0);
	assert_int_equal(sim_mkdir(s, "x", 0755, DIR_MADE_HERE), 0);
	take_told(s);
	assert_int_equal(sim_rename(s, "a", "x/a"), 0);
	assert_int_equal(sim_mkdir(s, "x/a/b/new", 0711, DIR_MADE_HERE), 0);
	assert_int_equal(sim_mkdir(s, "taken", 0755, DIR_TAKEN_IN), 0);
	assert_int_equal(sim_rename(s, "taken", "taken2"), 0);
	put_dirs(f->x, s);
	reopen(f);
	got = load_dirs(f->x);
	assert_same_dirs(s, got);
	assert_string_equal(got->untold->birth.name, "new");
	assert_string_equal(got->untold->new_next->birth.name, "taken");
	assert_null(got->untold->new_next->new_next);
	assert_true(got->untold_moved);
	state_free(got);
	sim_fini(&sim);
}

static void
test_the_roots_attributes_come_back(void **state)
{
	struct stamp at = { 9, 1 };
	struct fixture *f = *state;
	struct state *got;
	struct sim sim;

	sim_init(&sim, nodes, 2);
	attrs_set_mode(&sim.s[0]->root->val.attrs, 0710, at);
	vv_raise(&sim.s[0]->root->val.ctx, (struct dot){ 1, 5 });
	put_dirs(f->x, sim.s[0]);
	got = load_dirs(f->x);
	assert_int_equal(attrs_mode(&got->root->val.attrs, 0), 0710);
	assert_int_equal(vv_get(&got->root->val.ctx, 1), 5);
	state_free(got);
	sim_fini(&sim);
}

/* One that peers know, moved into one that nobody has heard of, which then
 * takes another identity: the row of the first is not written again. */
static void
test_a_place_in_a_directory_of_another_identity_is_found(void **state)
{
	struct fixture *f = *state;
	struct state *s, *got;
	struct sim sim;

	sim_init(&sim, nodes, 2);
	s = sim.s[0];
	s->now = 1000;
	assert_int_equal(sim_mkdir(s, "known", 0755, DIR_MADE_HERE), 0);
	take_told(s);
	assert_int_equal(sim_mkdir(s, "fresh", 0755, DIR_MADE_HERE), 0);
	assert_int_equal(sim_rename(s, "known", "fresh/known"), 0);
	put_dirty(f->x, s);
	assert_int_equal(sim_rename(s, "fresh", "renamed"), 0);
	put_dirty(f->x, s);
	got = load_dirs(f->x);
	assert_same_dirs(s, got);
	state_free(got);
	sim_fini(&sim);
}

/* ---- members and peers ---- */

static void
see_member(void *arg, uint64_t id, const char *node, const void *data, size_t len)
{
	assert_true(id == UINT64_MAX || id == 1);
	assert_string_equal(node, id == 1 ? "laptop" : "server");
	assert_int_equal(len, id == 1 ? 0 : 4);
	if (len)
		assert_memory_equal(data, "data", len);
	++*(int *)arg;
}

static void
see_peer(void *arg, const char *node, uint64_t id, uint64_t epoch, uint64_t seq)
{
	assert_string_equal(node, "server");
	assert_true(id == UINT64_MAX && epoch == UINT64_MAX - 1 && seq == 12);
	++*(int *)arg;
}

static void
test_members_and_peers_come_back(void **state)
{
	struct fixture *f = *state;
	int n = 0;

	assert_int_equal(index_put_member(f->x, 1, "laptop", NULL, 0), 0);
	assert_int_equal(index_put_member(f->x, UINT64_MAX, "server", "data", 4), 0);
	assert_int_equal(index_put_peer(f->x, "server", UINT64_MAX, 3, 4), 0);
	assert_int_equal(index_put_peer(f->x, "server", UINT64_MAX, UINT64_MAX - 1, 12), 0);
	reopen(f);
	assert_int_equal(index_load_members(f->x, see_member, &n), 0);
	assert_int_equal(n, 2);
	n = 0;
	assert_int_equal(index_load_peers(f->x, see_peer, &n), 0);
	assert_int_equal(n, 1);
}

/* ---- tombstones ---- */

static int
see_tombstone(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	(void)dir_num;
	(void)seq;
	strcat(arg, name);
	return 0;
}

static void
assert_tombstones(struct index *x, const struct vv *stable, const char *names)
{
	char got[64] = "";

	assert_int_equal(index_tombstones(x, stable, 10, see_tombstone, got), 0);
	assert_string_equal(got, names);
}

static struct reg *
removed_reg(struct state *s, const char *name, struct dot a, struct dot b)
{
	struct reg *r = state_reg(s, s->root, name, true);

	vv_raise(&r->shown.ctx, a);
	vv_raise(&r->shown.ctx, b);
	state_reg_changed(s, r);
	return r;
}

static void
test_a_tombstone_is_found_once_what_it_waits_for_is_covered(void **state)
{
	struct fixture *f = *state;
	const char *const names[] = { "laptop" };
	struct vv stable = { 0 };
	struct sim sim;
	struct reg *a, *b;
	uint64_t n = 0;

	sim_init(&sim, names, 1);
	a = removed_reg(sim.s[0], "a", (struct dot){ 1, 5 }, (struct dot){ 2, 9 });
	b = removed_reg(sim.s[0], "b", (struct dot){ UINT64_MAX, 3 }, (struct dot){ 2, 1 });
	assert_int_equal(index_put_reg(f->x, a, false), 0);
	assert_int_equal(index_put_reg(f->x, b, false), 0);
	reopen(f);
	assert_int_equal(index_count_tombstones(f->x, &n), 0);
	assert_int_equal(n, 2);
	vv_raise(&stable, (struct dot){ 2, 8 });
	assert_tombstones(f->x, &stable, "");
	vv_raise(&stable, (struct dot){ 2, 9 });
	assert_tombstones(f->x, &stable, "a");
	vv_raise(&stable, (struct dot){ UINT64_MAX, 3 });
	assert_tombstones(f->x, &stable, "ab");
	/* It waits for another event now. */
	assert_int_equal(index_set_wait(f->x, a, (struct dot){ 1, 5 }), 0);
	assert_tombstones(f->x, &stable, "b");
	assert_int_equal(index_delete_reg(f->x, b), 0);
	assert_tombstones(f->x, &stable, "");
	assert_int_equal(index_count_tombstones(f->x, &n), 0);
	assert_int_equal(n, 1);
	vv_fini(&stable);
	sim_fini(&sim);
}

/* What version 1 wrote: its tombstones wait for nothing that it could name. */
static void
test_a_store_of_the_first_version_is_upgraded(void **state)
{
	struct fixture *f = *state;
	const char *const names[] = { "laptop" };
	struct vv stable = { 0 };
	struct sim sim;
	sqlite3 *db;
	char path[100];
	int n = 0;

	sim_init(&sim, names, 1);
	assert_int_equal(index_put_reg(f->x, removed_reg(sim.s[0], "a", (struct dot){ 1, 5 }, (struct dot){ 2, 9 }),
	    false), 0);
	sim_write(sim.s[0], "b", "x");
	assert_int_equal(index_put_reg(f->x, state_reg(sim.s[0], sim.s[0]->root, "b", false), false), 0);
	assert_int_equal(index_put_member(f->x, 1, "laptop", NULL, 0), 0);
	index_close(f->x);
	f->x = NULL;
	snprintf(path, sizeof(path), "%s/index.db", f->dir);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "DROP INDEX regs_wait; ALTER TABLE regs DROP COLUMN wait_id;"
	    "ALTER TABLE regs DROP COLUMN wait_n; ALTER TABLE members DROP COLUMN data; DROP TABLE blocks; PRAGMA user_version = 1", NULL,
	    NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	open_index(f, false);
	assert_tombstones(f->x, &stable, "a");
	assert_int_equal(index_load_members(f->x, see_member, &n), 0);
	assert_int_equal(n, 1);
	sim_fini(&sim);
}

/* ---- a full disk ---- */

/* Values until one fails; the transaction must then fail as a whole. */
static int
fill(struct index *x, const void *block, size_t size)
{
	int rc = index_begin(x), first = 0;

	assert_int_equal(rc, 0);
	for (int i = 0; i < 64; i++) {
		char key[16];

		snprintf(key, sizeof(key), "k%d", i);
		rc = index_set_value(x, key, block, size);
		if (rc < 0 && first == 0)
			first = rc;
	}
	/* Whoever overlooks the failure does not commit half of it. */
	rc = index_commit(x);
	assert_true(first == 0 || rc < 0);
	if (rc < 0)
		index_rollback(x);
	return rc;
}

static void
test_a_full_disk_is_said_and_leaves_all_as_it_was(void **state)
{
	struct fixture *f = *state;
	size_t size = 100000, n;
	void *block, *p;

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		skip();
	mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL);
	index_close(f->x);
	f->x = NULL;
	if (mount("none", f->dir, "tmpfs", 0, "size=1m") < 0)
		skip();
	close(f->fd);
	f->fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	open_index(f, true);
	assert_int_equal(index_set_value(f->x, "before", "v", 1), 0);
	block = malloc(size);
	random_bytes(block, size);
	assert_int_equal(fill(f->x, block, size), -ENOSPC);
	assert_value(f->x, "before", "v", 1);
	for (int i = 0; i < 64; i++) {
		char key[16];

		snprintf(key, sizeof(key), "k%d", i);
		assert_int_equal(index_get_value(f->x, key, &p, &n), -ENOENT);
	}
	reopen(f);
	assert_value(f->x, "before", "v", 1);
	/* With room again it goes on. */
	assert_int_equal(mount("none", f->dir, "tmpfs", MS_REMOUNT, "size=32m"), 0);
	assert_int_equal(fill(f->x, block, size), 0);
	reopen(f);
	assert_value(f->x, "k63", block, size);
	index_close(f->x);
	f->x = NULL;
	close(f->fd);
	umount(f->dir);
	f->fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	open_index(f, true);
	free(block);
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_values_are_bytes_and_the_last_one_counts),
		TEST(test_what_is_rolled_back_is_gone),
		TEST(test_what_was_not_committed_is_gone_after_a_reopen),
		TEST(test_a_missing_index_is_not_made_unless_asked_for),
		TEST(test_a_newer_schema_is_refused_and_left_alone),
		TEST(test_what_is_no_database_is_an_io_error),
		TEST(test_an_empty_index_is_damage_to_open_and_made_anew_by_init),
		TEST(test_no_second_connection_gets_in),
		TEST(test_the_index_is_reached_under_a_mount_over_its_place),
		TEST(test_the_callers_descriptor_may_be_closed),
		TEST(test_registers_come_back_as_they_were),
		TEST(test_changes_are_listed_in_order_from_any_point),
		TEST(test_the_index_may_be_read_from_within_a_listing),
		TEST(test_pending_conflicting_and_standing_ones_are_found),
		TEST(test_changes_that_may_be_removals_are_listed_alone),
		TEST(test_content_is_found_under_each_of_its_names),
		TEST(test_of_many_places_of_a_content_some_are_read),
		TEST(test_files_are_counted_as_they_come_and_go),
		TEST(test_directories_come_back_where_they_were),
		TEST(test_the_roots_attributes_come_back),
		TEST(test_a_place_in_a_directory_of_another_identity_is_found),
		TEST(test_members_and_peers_come_back),
		TEST(test_a_tombstone_is_found_once_what_it_waits_for_is_covered),
		TEST(test_a_store_of_the_first_version_is_upgraded),
		TEST(test_a_full_disk_is_said_and_leaves_all_as_it_was),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
