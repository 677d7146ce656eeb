/*
 * Names that stay local: those that .sibfsignore in the root covers, and that
 * file itself.
 *
 * What users do under such names makes no versions.  What peers know of them is
 * taken in and passed on as all else, but waits (pending) for as long as the
 * rule stands: neither is its content fetched, nor does it show.  A directory
 * that only peers have is not made; one that stands here already goes where it
 * is moved.  When the rules change, what they cover no longer is looked at as if
 * it had been written just now.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/clock.h"
#include "replication/local_impl.h"
#include "replication/take.h"

#define IGNORE_FILE ".sibfsignore"
#define IGNORE_MAX_BYTES (1 << 20)

/* ---- the rules ---- */

/* The file's text, allocated; empty if there is none. */
static char *
read_text(struct replica *r, size_t *len)
{
	struct stat st;
	char *text = NULL;
	ssize_t n = 0;
	int fd = openat(r->root_fd, IGNORE_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= IGNORE_MAX_BYTES) {
		text = mem_alloc((size_t)st.st_size + 1);
		n = pread(fd, text, (size_t)st.st_size, 0);
	} else if (fd >= 0) {
		log_warn(IGNORE_FILE " is not a file of at most 1 MiB: nothing is ignored");
	}
	if (fd >= 0)
		close(fd);
	*len = n > 0 ? (size_t)n : 0;
	return text ? text : mem_str("");
}

/* The index remembers the rules, as they may change while no one looks. */
static struct ignore *
read_rules(struct replica *r)
{
	struct ignore *ig;
	size_t len;
	char *text = read_text(r, &len);

	ig = len ? ignore_parse(text, len) : NULL;
	replica_begin(r);
	index_set_value(r->x, "ignore", text, len);
	free(text);
	return ig;
}

void
ignore_load(struct replica *r)
{
	size_t len, old_len = 0;
	char *text = read_text(r, &len);
	void *old = NULL;

	if (index_get_value(r->x, "ignore", &old, &old_len) < 0)
		old_len = 0;
	ignore_free(r->ignore);
	r->ignore = len ? ignore_parse(text, len) : NULL;
	if (old_len != len || memcmp(old ? old : "", text, len) != 0)
		r->ignored_before = ignore_parse(old ? old : "", old_len);
	free(old);
	free(text);
}

static bool
is_rules(const struct replica *r, const struct disk_dir *dd, const char *name)
{
	return dd == r->disk.root && strcmp(name, IGNORE_FILE) == 0;
}

/* ---- what they cover ---- */

static char *
disk_path(const struct disk_dir *dd, const char *name)
{
	char *up, *out;

	if (!dd->up)
		return mem_str(name);
	up = disk_path(dd->up, dd->name);
	out = mem_printf("%s/%s", up, name);
	free(up);
	return out;
}

bool
ignore_covers_at(const struct ignore *ig, const struct disk_dir *dd, const char *name, bool is_dir)
{
	char *path;
	bool yes;

	if (!ig)
		return false;
	path = disk_path(dd, name);
	yes = ignore_covers(ig, path, is_dir);
	free(path);
	return yes;
}

bool
ignore_at(const struct replica *r, const struct disk_dir *dd, const char *name, bool is_dir)
{
	return is_rules(r, dd, name) || ignore_covers_at(r->ignore, dd, name, is_dir);
}

bool
ignore_dir(const struct replica *r, const struct dir *d)
{
	char *path;
	bool yes;

	if (!r->ignore || !d->at.up)
		return false;
	path = dir_path(d);
	yes = ignore_covers(r->ignore, path, true);
	free(path);
	return yes;
}

bool
ignore_reg(const struct replica *r, const struct reg *reg)
{
	char *up, *path;
	bool yes;

	if (!reg->dir->at.up && strcmp(reg_name(reg), IGNORE_FILE) == 0)
		return true;
	if (!r->ignore)
		return false;
	up = dir_path(reg->dir);
	path = mem_printf("%s%s%s", up, *up ? "/" : "", reg_name(reg));
	yes = ignore_covers(r->ignore, path, false);
	free(up);
	free(path);
	return yes;
}

/* ---- changed rules ---- */

static int
wake_pending(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct replica *r = arg;
	struct reg *reg = state_reg_in(r->s, dir_num, name);

	(void)seq;
	if (reg && reg->pending)
		view_defer(r, reg);
	return 0;
}

static void
look_again(struct replica *r, struct ignore *before)
{
	struct dir *d, *tmp;

	log_info(IGNORE_FILE " changed: looking at what it covers no longer");
	local_reconcile_ignored(r, before);
	ignore_free(before);
	/* What peers have of it shows now, if its content is here, or is fetched. */
	replica_commit(r);
	index_regs_pending(r->x, wake_pending, r);
	HASH_ITER(hh, r->s->dirs, d, tmp)
		if (state_stands(d) && !disk_of(d))
			state_touch_dir(r->s, d);
}

static void
rules_changed(struct replica *r)
{
	struct ignore *before = r->ignore;

	r->ignore = read_rules(r);
	look_again(r, before);
}

void
ignore_catch_up(struct replica *r)
{
	struct ignore *before = r->ignored_before;

	if (!before)
		return;
	r->ignored_before = NULL;
	ignore_free(r->ignore);
	r->ignore = read_rules(r);
	r->s->now = (uint64_t)clock_wall_ns();
	look_again(r, before);
}

/* ---- what users do with such names ---- */

/* It stands for nothing on disk any more; what it holds went along. */
static void
forget_tree(struct replica *r, struct disk_dir *dd, bool removed)
{
	struct disk_dir **below = NULL, *c, *tmp;
	size_t n = 0;

	HASH_ITER(hh, r->disk.dirs, c, tmp)
		if (c->up == dd) {
			below = mem_resize(below, n + 1, sizeof(*below));
			below[n++] = c;
		}
	for (size_t i = 0; i < n; i++)
		forget_tree(r, below[i], removed);
	free(below);
	if (removed) {
		local_forget_files(r, dd);
		if (dd->up->ids_len)
			local_rmdir(r->s, dd->up->ids[0], dd->name);
	}
	while (dd->ids_len) {
		struct dir *d = dd->ids[0];

		disk_assign(d, NULL);
		state_dir_noted(r->s, d);
	}
	disk_forget(&r->disk, dd);
}

/* Out of what is replicated: gone, for the others. */
static bool
moved_out(struct replica *r, const struct event *e, struct disk_dir *at, struct disk_dir *to)
{
	struct disk_dir *dd = e->is_dir ? disk_find(&r->disk, e->ino) : NULL;
	struct event gone = { .op = REPLICA_UNLINK, .dir = at->ino, .name = e->name, .time_ns = e->time_ns };

	if (e->is_dir && to)
		return false;		/* it is known where it went */
	if (!e->is_dir) {
		local_event(r, &gone);
	} else if (dd) {
		replica_commit(r);
		forget_tree(r, dd, true);
	}
	return true;
}

/* From where nothing is replicated: new here. */
static bool
moved_in(struct replica *r, const struct event *e, struct disk_dir *at, struct disk_dir *to)
{
	struct event made = { .op = REPLICA_WRITE, .ino = e->ino, .dir = to->ino, .name = e->name2,
		.time_ns = e->time_ns };

	if (e->is_dir && at && disk_find(&r->disk, e->ino))
		return false;
	if (e->is_dir)
		local_reconcile_name(r, to, e->name2);
	else
		local_event(r, &made);
	return true;
}

static bool
two_names(struct replica *r, const struct event *e, struct disk_dir *at, struct disk_dir *to)
{
	bool from_here = at && !ignore_at(r, at, e->name, e->is_dir);
	bool to_here = to && !ignore_at(r, to, e->name2, e->is_dir);
	struct disk_dir *dd;

	if (from_here && to_here)
		return false;
	if (e->op == REPLICA_EXCHANGE) {
		if (from_here)
			local_reconcile_name(r, at, e->name);
		if (to_here)
			local_reconcile_name(r, to, e->name2);
		return true;
	}
	if (from_here)
		return moved_out(r, e, at, to);
	if (to_here)
		return moved_in(r, e, at, to);
	dd = e->is_dir ? disk_find(&r->disk, e->ino) : NULL;
	if (dd && to)
		disk_place(dd, to, e->name2);
	else if (dd)
		forget_tree(r, dd, false);
	return true;
}

static bool
one_name(struct replica *r, const struct event *e, struct disk_dir *at)
{
	bool is_dir = e->is_dir || e->op == REPLICA_MKDIR || e->op == REPLICA_RMDIR;
	struct disk_dir *dd;

	if (!at || !e->name || !ignore_at(r, at, e->name, is_dir))
		return false;
	if (e->op == REPLICA_RMDIR && (dd = disk_at(&r->disk, at, e->name)))
		forget_tree(r, dd, false);
	return true;
}

bool
ignore_event(struct replica *r, const struct event *e, struct disk_dir *at, struct disk_dir *to)
{
	bool rules = (at && e->name && is_rules(r, at, e->name)) || (to && is_rules(r, to, e->name2));
	bool done;

	at = at && at->ids_len ? at : NULL;
	to = to && to->ids_len ? to : NULL;
	done = e->name2 ? two_names(r, e, at, to) : one_name(r, e, at);
	if (rules)
		rules_changed(r);
	return done;
}
