/*
 * Histories of whole replicas, from seeds.  See replica_sim.h.
 *
 *	replica_sim [--seconds S] [--seed N] [--count N] [--steps N] [--only N,N,...] [--dir DIR]
 *		[--without kills,full,skew,between,cuts] [--failures N] [--verbose] [--no-shrink]
 *		[--power] [--busy] [--again] [--literal] [--few] [--stored FILE]
 *
 * With --power, or SIBFS_SIM_POWER in the environment, machines go down, too, and
 * lose what was not synced.
 * With --busy, or SIBFS_SIM_BUSY, users often do dozens of things before the replica
 * has a turn: what is told then lies far behind what is on disk.
 * With --again, or SIBFS_SIM_AGAIN, users also write once more what a file holds, and set
 * times; in the end files have the same times everywhere.
 * With --literal, or SIBFS_SIM_LITERAL, users also give files names that look like
 * those of siblings, and do all that can be done to names to these.
 * With --few, or SIBFS_SIM_FEW, nearly all that users do is to a few names of files in the
 * root, and to their siblings: these often get equal contents, and go again.
 * `--without` is full unless it is given: disks are never full.
 *
 * The first seed is SIBFS_SEED, or 1.  Each is one history: some replicas, some links between them, and steps,
 * each with a seed of its own, so that a failing history stays what it is when
 * steps are left out of it.  In the end faults cease, users stop, all is
 * synchronised, and the laws are checked.  A failing history is made shorter,
 * and told step by step.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <utlist.h>

#include "fs/view.h"
#include "replication/settings.h"
#include "tests/lib/random.h"
#include "tests/sim/replica_sim.h"

#define STEPS_MAX 2000
#define HISTORY_SECONDS 120	/* of real time: more is a loop without end */
#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

struct sim sim;

static const char *const host_names[HOSTS_MAX] = { "ada", "bob", "cyd", "dan", "eve" };
static bool verbose;
static bool steps_told;
static bool power;			/* machines go down */
static bool busy;			/* users do much at once */
static bool again;			/* users write what is there already, and set times */
static bool literal;			/* users give names that look like those of siblings */
static bool few;			/* users do nearly all to a few names */
static const char *top;			/* where stores are made */
/* Kinds of faults.  Full disks still find what is not mended: only when asked for
 * (--without none). */
static const char *without = "full";

/* What one history may hold. */
static struct {
	bool kills, full, skew, between, cuts;
} may;

void
sim_fail(const char *fmt, ...)
{
	va_list ap;

	printf("# ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	for (unsigned i = 0; verbose && i < sim.len; i++)
		check_tell(&sim.hosts[i]);
	fflush(stdout);
	_exit(1);
}

void
sim_say(const char *fmt, ...)
{
	va_list ap;

	if (!verbose)
		return;
	printf("# %10.6f ", (double)sim.now_ns / SECOND);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

void __wrap_log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void
__wrap_log_line(enum log_level level, const char *fmt, ...)
{
	char text[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	sim_say("  %s %s: %s", sim.at ? sim.at->name : "-", level == LOG_ERROR ? "ERROR" : "log", text);
	if (level == LOG_ERROR && !sim.room_failed)
		sim_fail("%s logs an error: %s", sim.at ? sim.at->name : "-", text);
}

void __wrap_replica_tell(struct replica *r, const struct replica_event *e);
void __real_replica_tell(struct replica *r, const struct replica_event *e);

void
__wrap_replica_tell(struct replica *r, const struct replica_event *e)
{
	static const char *const ops[] = { "write", "unlink", "rename", "exchange", "mkdir", "rmdir", "attr",
		"look", "idle" };

	sim_say("  %s is told: %s %llu: %llu/%s %llu/%s", r->node, ops[e->op], (unsigned long long)e->ino,
	    (unsigned long long)e->dir, e->name ? e->name : "", (unsigned long long)e->dir2, e->name2 ? e->name2 : "");
	__real_replica_tell(r, e);
}

/* ---- hosts ---- */

static void
start_host(struct host *h)
{
	char why[512];
	int pair[2];

	sim.at = h;
	sim.doing = DOING_START;
	h->r = NULL;
	if (replica_open(h->store, &h->r, why, sizeof(why)) < 0) {
		if (!h->full)
			sim_fail("%s does not start: %s", h->name, why);
		sim.doing = DOING_NOTHING;
		return;
	}
	if (sim.forgetful)
		h->r->cache_regs = 2;
	h->fs = mem_alloc(sizeof(*h->fs));
	h->fs->replica = h->r;
	h->fs->uid = geteuid();
	h->fs->gid = getegid();
	pthread_mutex_init(&h->fs->lock, NULL);
	pthread_cond_init(&h->fs->sessions.changed, NULL);
	if (inodes_init(&h->fs->inodes, replica_root_fd(h->r)) < 0 || socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
		sim_fail("%s cannot be mounted", h->name);
	names_init(&h->fs->names);
	h->kernel = kernel_new(h->fs);
	h->fs->notify = (struct notify *)h->kernel;
	h->fs->barrier = (struct barrier *)h->kernel;
	h->view = view_of(h->fs);
	replica_attach(h->r, &h->view, "simulated");
	h->r->listen_fd = pair[0];
	h->calls_fd = pair[1];
	h->up = true;
	sim.doing = DOING_NOTHING;
	sim_say("%s is up", h->name);
}

static void
turn(struct host *h)
{
	sim.at = h;
	sim.doing = DOING_USER;
	sessions_tell_due(h->fs, sim.now_ns / MS);
	sim.doing = DOING_TURN;
	replica_turn(h->r, 0);
	sim.doing = DOING_NOTHING;
}

static void
close_handles(struct host *h)
{
	int i;

	while ((i = kernel_any_handle(h->kernel)) >= 0)
		kernel_close(h->kernel, i);
	while (kernel_work(h->kernel, 1000))
		continue;
}

static void
stop_host(struct host *h)
{
	close_handles(h);
	sim.at = h;
	sim.doing = DOING_USER;
	sessions_tell_due(h->fs, INT64_MAX);
	sim.doing = DOING_START;
	replica_turn(h->r, 0);
	replica_detach(h->r);
	close(h->r->listen_fd);
	close(h->calls_fd);
	h->r->listen_fd = -1;
	inodes_fini(h->fs);
	names_fini(&h->fs->names);
	kernel_free(h->kernel);
	replica_close(h->r);
	free(h->fs);
	h->up = false;
	sim.doing = DOING_NOTHING;
	net_host_down(h);
	sim_say("%s is down", h->name);
}

/* Of one that was killed while it opened its store nothing is known to us. */
static void
close_lock(const struct host *h)
{
	char link[64], target[300], lock[200];

	snprintf(lock, sizeof(lock), "%s/.sibfs/lock", h->store);
	for (int fd = 3; fd < 4096; fd++) {
		ssize_t n;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		if (strcmp(target, lock) == 0)
			close(fd);
	}
}

/* Its memory is lost, not freed: like all that the process had. */
static void
host_killed(struct host *h)
{
	struct link *l;

	bool cut = h->cut;

	sim.doing = DOING_NOTHING;
	sim_say("%s is killed", h->name);
	h->up = h->cut = false;
	if (cut)
		power_cut(h);
	if (!h->r) {
		close_lock(h);
		return;
	}
	for (l = h->r->links; l; l = link_next(l))
		close(link_fd(l));
	for (struct control_conn *c = h->r->conns; c; c = control_next(c))
		close(control_fd(c));
	if (h->r->listen_fd >= 0) {
		close(h->r->listen_fd);
		close(h->calls_fd);
	}
	close(h->r->lock_fd);
	net_host_down(h);
}

/* ---- asking by the control socket ---- */

struct asking {
	struct host *h;
	int fd;
	char answer[65536];
	size_t len;
};

static void
asking_begin(struct asking *c, struct host *h, const char *request)
{
	int pair[2];
	int64_t number;

	c->h = h;
	c->len = 0;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		sim_fail("no more descriptors");
	c->fd = pair[0];
	number = pair[1];
	(void)!send(h->calls_fd, &number, sizeof(number), 0);
	(void)!send(c->fd, request, strlen(request), 0);
}

/* NULL: not answered yet. */
static json_t *
asking_answer(struct asking *c)
{
	ssize_t n = recv(c->fd, c->answer + c->len, sizeof(c->answer) - 1 - c->len, MSG_DONTWAIT);
	json_t *out;

	if (n > 0)
		c->len += (size_t)n;
	c->answer[c->len] = '\0';
	if (!strchr(c->answer, '\n'))
		return NULL;
	close(c->fd);
	out = json_loads(c->answer, 0, NULL);
	if (!out)
		sim_fail("%s answers: %s", c->h->name, c->answer);
	return out;
}

/* ---- users ---- */

static const char *const dirs[] = { "d1", "d2", "x" };
static const char *const files[] = { "a", "b", "x", "n.txt", "back~" };
#define ANY(list) (list)[random_below(sizeof(list) / sizeof(*(list)))]

static void
any_dir(const struct host *h, char *out, size_t size)
{
	unsigned depth = (unsigned)random_below(4);

	*out = '\0';
	while (depth--) {
		char path[400];
		struct stat st;
		const char *name = ANY(dirs);

		snprintf(path, sizeof(path), "%s/%s%s", h->store, out, name);
		if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode))
			return;
		strncat(out, name, size - strlen(out) - 1);
		strncat(out, "/", size - strlen(out) - 1);
	}
}

static void
any_file(const struct host *h, char *out, size_t size)
{
	any_dir(h, out, size);
	strncat(out, ANY(files), size - strlen(out) - 1);
}

/* One that stands, siblings too, if there is one. */
static void
any_there(const struct host *h, char *out, size_t size)
{
	char names[32][256], path[400];
	size_t n = 0;
	struct dirent *de;
	DIR *dir;

	any_dir(h, out, size);
	snprintf(path, sizeof(path), "%s/%s", h->store, out);
	dir = opendir(path);
	while (dir && (de = readdir(dir)) && n < 32)
		if (de->d_type != DT_DIR)
			snprintf(names[n++], sizeof(names[0]), "%s", de->d_name);
	if (dir)
		closedir(dir);
	strncat(out, n ? names[random_below(n)] : ANY(files), size - strlen(out) - 1);
}

static const char *
new_text(const struct host *h)
{
	static char text[3000 * 48];
	static unsigned count;
	size_t size = random_chance(85) ? 1 : random_chance(70) ? 300 : 3000, n;

	n = (size_t)snprintf(text, sizeof(text), "%s writes %u %08x\n", h->name, ++count, (unsigned)random_number());
	for (size_t i = 1; i < size; i++)
		memcpy(text + i * n, text, n);
	text[n * size] = '\0';
	sim_say("  %.*s, %u times:", (int)n - 1, text, (unsigned)size);
	return text;
}

static int
write_file(struct host *h, const char *path, int flags, bool keep_open)
{
	int i = kernel_open(h->kernel, path, flags | O_WRONLY, 0644), rc;

	if (i < 0)
		return i;
	rc = kernel_write(h->kernel, i, new_text(h), (flags & O_APPEND) != 0);
	if (rc == 0 && random_chance(20))
		rc = kernel_write(h->kernel, i, new_text(h), true);
	if (rc == 0 && sim.power && random_chance(30))
		rc = kernel_fsync(h->kernel, i);
	if (!keep_open)
		kernel_close(h->kernel, i);
	return rc;
}

static int
save(struct host *h, const char *path)
{
	char new[300];
	int rc;

	snprintf(new, sizeof(new), "%s.new%u", path, (unsigned)random_below(1000));
	rc = write_file(h, new, O_CREAT | O_EXCL, false);
	if (rc < 0)
		return rc;
	rc = kernel_rename(h->kernel, new, path, 0);
	if (rc < 0)
		kernel_unlink(h->kernel, new);
	return rc;
}

static void
remove_tree(struct host *h, const char *path)
{
	char full[400], sub[700];
	struct dirent *de;
	DIR *dir;

	snprintf(full, sizeof(full), "%s/%s", h->store, path);
	dir = opendir(full);
	while (dir && (de = readdir(dir))) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		snprintf(sub, sizeof(sub), "%s/%s", path, de->d_name);
		if (strlen(sub) > 200)
			continue;
		if (de->d_type == DT_DIR)
			remove_tree(h, sub);
		else
			kernel_unlink(h->kernel, sub);
	}
	if (dir)
		closedir(dir);
	kernel_rmdir(h->kernel, path);
}

static int
touch_sibling(struct host *h, const char *path)
{
	char base[300], *mark;

	snprintf(base, sizeof(base), "%s", path);
	mark = strstr(base, STATE_SEP);
	if (!mark)
		return -ENOENT;
	*mark = '\0';
	switch (random_below(3)) {
	case 0:
		return write_file(h, path, O_TRUNC, false);
	case 1:
		return kernel_unlink(h->kernel, path);
	default:
		return kernel_rename(h->kernel, path, base, 0);
	}
}

static int
write_again(struct host *h, const char *path)
{
	int i = random_chance(20) ? kernel_any_handle(h->kernel) : -1, rc;
	bool held = i >= 0;

	if (!held && (i = kernel_open(h->kernel, path, O_RDWR, 0)) < 0)
		return i;
	rc = kernel_write_again(h->kernel, i);
	if (!held && random_chance(80))
		kernel_close(h->kernel, i);
	return rc;
}

/* By hand: to the present, as touch does, or to some time past, as cp -p does. */
static int
set_time(struct host *h, const char *path)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (random_chance(50))
		t = (struct timespec){ .tv_sec = 1000000000 + (time_t)random_below(1000000) };
	return kernel_set_time(h->kernel, path, t);
}

static void
does_again(struct host *h)
{
	char a[300];
	bool writes = random_chance(70);
	int rc;

	any_there(h, a, sizeof(a));
	rc = writes ? write_again(h, a) : set_time(h, a);
	sim_say("%s %s %s: %s", h->name, writes ? "writes again" : "sets the time of", a, rc < 0 ? strerror(-rc) : "done");
}

/* Like that of a sibling of some file, which may be there or not. */
static void
any_literal(const struct host *h, char *out, size_t size)
{
	size_t len, n = random_below(5);

	if (random_chance(50))
		*out = '\0';
	else
		any_dir(h, out, size);
	len = strlen(out);
	snprintf(out + len, size - len, random_chance(50) ? "a" STATE_SEP "%s" : "back~" STATE_SEP "%s",
	    sim.hosts[random_below(sim.len)].name);
	if (n > 2) {
		len = strlen(out);
		snprintf(out + len, size - len, "-%u", (unsigned)n - 1);
	}
}

/* What it stands for if it is a sibling's, beside it. */
static void
base_of(const char *path, char *out, size_t size)
{
	char *mark;

	snprintf(out, size, "%s", path);
	mark = strstr(out, STATE_SEP);
	if (mark)
		*mark = '\0';
}

static void
does_literally(struct host *h)
{
	struct kernel *k = h->kernel;
	char name[300], base[300], other[300];
	const char *what;
	int rc;

	any_literal(h, name, sizeof(name));
	base_of(name, base, sizeof(base));
	if (random_chance(50))
		any_there(h, other, sizeof(other));
	else if (random_chance(50))
		any_literal(h, other, sizeof(other));
	else
		snprintf(other, sizeof(other), "%s", base);
	switch (random_below(12)) {
	case 0: case 1: what = "creates"; rc = write_file(h, name, O_CREAT | O_TRUNC, random_chance(30)); break;
	case 2: what = "appends to"; rc = write_file(h, name, O_APPEND, random_chance(30)); break;
	case 3: what = "saves"; rc = save(h, name); break;
	case 4: case 5: what = "renames to"; rc = kernel_rename(k, other, name, 0); break;
	case 6: what = "renames"; rc = kernel_rename(k, name, other, 0); break;
	case 7: what = "links to"; rc = kernel_link(k, other, name); break;
	case 8: what = "links"; rc = kernel_link(k, name, other); break;
	case 9: what = "truncates"; rc = kernel_truncate(k, name, 0); break;
	case 10: what = "exchanges"; rc = kernel_rename(k, name, other, RENAME_EXCHANGE); break;
	default: what = "unlinks"; rc = kernel_unlink(k, name); break;
	}
	sim_say("%s %s literal %s, %s: %s", h->name, what, name, other, rc < 0 ? strerror(-rc) : "done");
}

static void
does_to_few(struct host *h)
{
	static const char *const few_files[] = { "a", "b", "back~" };
	struct kernel *k = h->kernel;
	const char *b = ANY(few_files), *what = "";
	char a[300];
	int rc = 0, i;

	for (unsigned tries = 0; tries < 20; tries++) {
		any_there(h, a, sizeof(a));
		if (!strchr(a, '/'))
			break;
	}
	switch (random_below(10)) {
	case 0: case 1: what = "creates"; rc = write_file(h, b, O_CREAT | O_TRUNC, random_chance(30)); break;
	case 2: what = "writes"; rc = write_file(h, a, random_chance(50) ? O_TRUNC : O_APPEND, random_chance(30)); break;
	case 3: what = "truncates"; rc = kernel_truncate(k, a, 0); break;
	case 4: what = "links"; rc = kernel_link(k, a, b); break;
	case 5: what = "renames"; rc = kernel_rename(k, a, b, 0); break;
	case 6: what = "unlinks"; rc = kernel_unlink(k, a); break;
	case 7: what = "does to a sibling"; rc = touch_sibling(h, a); break;
	case 8: what = "writes what it holds"; if ((i = kernel_any_handle(k)) >= 0) rc = kernel_write(k, i, new_text(h), random_chance(50)); break;
	default: what = "closes"; if ((i = kernel_any_handle(k)) >= 0) rc = kernel_close(k, i); break;
	}
	sim_say("%s %s %s, %s: %s", h->name, what, a, b, rc < 0 ? strerror(-rc) : "done");
}

static void
user_does(struct host *h)
{
	static const mode_t file_modes[] = { 0644, 0600, 0755, 0700 }, dir_modes[] = { 0755, 0700 };
	struct kernel *k = h->kernel;
	char a[300], b[300], ad[300], bd[300];
	const char *what = "";
	int i, rc = 0;

	if (sim.again && random_chance(30)) {
		does_again(h);
		return;
	}
	if (sim.literal && random_chance(35)) {
		does_literally(h);
		return;
	}
	if (sim.few && random_chance(90)) {
		does_to_few(h);
		return;
	}
	any_there(h, a, sizeof(a));
	any_file(h, b, sizeof(b));
	any_dir(h, ad, sizeof(ad) - 10);
	strcat(ad, ANY(dirs));
	any_dir(h, bd, sizeof(bd) - 10);
	strcat(bd, ANY(dirs));
	switch (random_below(22)) {
	case 0: case 1: what = "creates"; rc = write_file(h, b, O_CREAT | O_TRUNC, random_chance(30)); break;
	case 2: what = "appends to"; rc = write_file(h, a, O_APPEND, random_chance(30)); break;
	case 3: what = "overwrites"; rc = write_file(h, a, O_TRUNC, random_chance(30)); break;
	case 4: what = "truncates"; rc = kernel_truncate(k, a, (off_t)(random_chance(50) ? 0 : random_below(100))); break;
	case 5: case 6: what = "saves"; rc = save(h, b); break;
	case 7: case 8: what = "renames"; rc = kernel_rename(k, a, b, 0); break;
	case 9: case 10: what = "renames directory"; rc = kernel_rename(k, ad, bd, 0); break;
	case 11: what = "unlinks"; rc = kernel_unlink(k, a); break;
	case 12: what = "removes directory"; if (random_chance(40)) remove_tree(h, ad); else rc = kernel_rmdir(k, ad); break;
	case 13: case 14: what = "makes directory"; rc = kernel_mkdir(k, ad, ANY(dir_modes)); break;
	case 15: what = "links"; rc = random_chance(50) ? kernel_symlink(k, ANY(files), b) : kernel_link(k, a, b); break;
	case 16: what = "chmods"; rc = random_chance(60) ? kernel_chmod(k, a, ANY(file_modes)) : kernel_chmod(k, ad, ANY(dir_modes)); break;
	case 17: what = "holds"; rc = kernel_open(k, a, O_RDWR, 0); break;
	case 18: what = "writes what it holds"; if ((i = kernel_any_handle(k)) >= 0) rc = kernel_write(k, i, new_text(h), random_chance(50)); break;
	case 19: what = "closes"; if ((i = kernel_any_handle(k)) >= 0) rc = kernel_close(k, i); break;
	case 20: what = "does to a sibling"; rc = touch_sibling(h, a); break;
	default: what = "exchanges"; rc = kernel_rename(k, ad, random_chance(50) ? bd : b, RENAME_EXCHANGE); break;
	}
	sim_say("%s %s %s, %s, %s, %s: %s", h->name, what, a, b, ad, bd, rc < 0 ? strerror(-rc) : "done");
}

void
sim_user_comes_between(struct host *h)
{
	sim_say("  in between:");
	if (random_chance(80))
		user_does(h);
	else
		kernel_work(h->kernel, 2);
}

void
sim_turn_comes_between(struct host *h)
{
	sim_say("  in between: a turn");
	turn(h);
}

/* So fast that the replica does not come to anything meanwhile. */
static void
user_is_busy(struct host *h)
{
	for (size_t n = 10 + random_below(60); n && h->up; n--) {
		user_does(h);
		if (random_chance(20))
			kernel_work(h->kernel, 2);
	}
}

/* ---- steps ---- */

static void
bring_up(struct host *h)
{
	if (!h->up)
		start_host(h);
}

static void
fault(struct host *h)
{
	if (sim.power && h->up && random_chance(30)) {
		h->cut = true;
		faults_kill_after(h, 1 + (unsigned)random_below(400));
		return;
	}
	switch (random_below(8)) {
	case 0: if (may.cuts) net_cut(); break;
	case 1: if (may.cuts) net_freeze(); break;
	case 2: if (may.cuts) net_split((unsigned)random_below(sim.len), (unsigned)random_below(sim.len), random_chance(60)); break;
	case 3: if (may.kills && h->up) faults_kill_after(h, 1 + (unsigned)random_below(400)); break;
	case 4: if (h->up && may.kills) stop_host(h); break;
	case 5: if (may.full) { h->full = random_chance(40); sim_say("%s: the disk is %sfull", h->name, h->full ? "" : "not "); } break;
	case 6: if (may.skew) h->skew_ns += ((int64_t)random_below(7200) - 3600) * SECOND; break;
	default: if (h->up) kernel_shrink(h->kernel); break;
	}
}

static void
step(void)
{
	struct host *h = &sim.hosts[random_below(sim.len)];
	size_t what = random_below(100);

	sim.now_ns += (int64_t)random_below(3000) * 1000;
	faults_between(may.between ? 1 + (unsigned)random_below(3) : 0);
	if (what >= 92) {
		fault(h);
	} else if (what >= 85) {
		sim.now_ns += random_chance(80) ? (int64_t)random_below(1500) * MS : (int64_t)random_below(40) * SECOND;
		bring_up(h);
	} else if (what >= 70) {
		net_carry(1 + (unsigned)random_below(6));
	} else if (!h->up) {
		if (random_chance(20))
			bring_up(h);
	} else if (what >= 62) {
		kernel_work(h->kernel, 1 + (unsigned)random_below(4));
	} else if (what >= 35) {
		for (size_t n = 1 + random_below(3); n && h->up; n--)
			turn(h);
	} else if (what >= 30) {
		/* All go on for a while. */
		for (size_t n = random_below(12); n; n--) {
			for (unsigned i = 0; i < sim.len; i++)
				if (sim.hosts[i].up) {
					kernel_work(sim.hosts[i].kernel, 3);
					turn(&sim.hosts[i]);
				}
			net_carry_all();
			sim.now_ns += 5 * MS;
		}
	} else if (busy && random_chance(30)) {
		user_is_busy(h);
	} else {
		user_does(h);
	}
	faults_between(0);
}

/* Runs fn(arg); a host that is killed meanwhile is down after it. */
static void
survive(void (*fn)(void *arg), void *arg)
{
	if (sigsetjmp(faults_killed, 0) == 0)
		fn(arg);
	else
		host_killed(sim.at);
	sim.doing = DOING_NOTHING;
}

static void
step_of(void *seed)
{
	random_reset(*(uint64_t *)seed);
	step();
}

/* ---- the end ---- */

/* Everyone does what there is to do; returns whether anything moved. */
static bool
all_go_on(void)
{
	bool moved = false;

	for (unsigned i = 0; i < sim.len; i++) {
		struct host *h = &sim.hosts[i];

		moved |= kernel_work(h->kernel, 100);
		moved |= h->r->first != NULL || h->r->calls != NULL;
		turn(h);
	}
	moved |= net_carry_all();
	sim.now_ns += moved ? MS : 50 * MS;
	return moved;
}

static json_t *
ask(struct host *h, const char *request, int64_t seconds)
{
	int64_t until = sim.now_ns + seconds * SECOND;
	struct asking c;
	json_t *answer;

	asking_begin(&c, h, request);
	while (!(answer = asking_answer(&c))) {
		if (sim.now_ns > until)
			sim_fail("%s does not answer %s", h->name, request);
		all_go_on();
	}
	return answer;
}

/* False: it has nobody to do that with. */
static bool
sync_host(struct host *h)
{
	bool ok;
	json_t *answer = ask(h, "{\"cmd\": \"sync\", \"timeout\": 300}\n", 400);

	ok = json_is_true(json_object_get(answer, "ok"));
	sim_say("%s has synchronised: %s", h->name, ok ? "ok" : "no");
	/* One whom nobody has called yet may have no peers. */
	if (!ok && !strstr(json_string_value(json_object_get(answer, "error")), "there are no peers"))
		sim_fail("%s: sync: %s", h->name, json_string_value(json_object_get(answer, "error")));
	json_decref(answer);
	return ok;
}

/* status has nothing to say. */
static void
check_status(struct host *h, const char *when)
{
	json_t *answer, *status, *peer;
	size_t i;
	struct asking c;

	asking_begin(&c, h, "{\"cmd\": \"status\"}\n");
	turn(h);
	if (!(answer = asking_answer(&c))) {
		turn(h);
		answer = asking_answer(&c);
	}
	if (!answer)
		sim_fail("%s: no status", h->name);
	status = json_object_get(answer, "status");
	if (json_integer_value(json_object_get(status, "wanted")))
		sim_fail("%s: %s: status wants content", h->name, when);
	json_array_foreach(json_object_get(status, "peers"), i, peer) {
		json_int_t out = json_integer_value(json_object_get(json_object_get(peer, "to_send"), "versions"));
		json_int_t in = json_integer_value(json_object_get(json_object_get(peer, "to_receive"), "versions"));

		if (out || in)
			sim_fail("%s: %s: status: %d to send to %s, %d to receive", h->name, when, (int)out,
			    json_string_value(json_object_get(peer, "name")), (int)in);
	}
	json_decref(answer);
}

static void
heal(void)
{
	sim.quiet = true;
	faults_kill_after(NULL, 0);
	faults_between(0);
	net_heal();
	for (unsigned i = 0; i < sim.len; i++) {
		struct host *h = &sim.hosts[i];

		h->full = false;
		bring_up(h);
		if (random_chance(50))
			close_handles(h);
		else
			for (int f; (f = kernel_any_handle(h->kernel)) >= 0;)
				kernel_close(h->kernel, f);
	}
	sim_say("all faults cease");
}

static void
end(void *arg)
{
	char why[1200];

	(void)arg;
	heal();
	for (size_t n = random_below(40); n; n--)
		all_go_on();
	for (unsigned round = 0; round < sim.len; round++)
		for (unsigned i = 0; i < sim.len; i++) {
			if (sync_host(&sim.hosts[i]) && sim.len == 2) {
				if (!check_is_equal(&sim.hosts[0], &sim.hosts[1], why, sizeof(why)))
					sim_fail("after a round: %s", why);
				check_status(&sim.hosts[0], "after a round");
				check_status(&sim.hosts[1], "after a round");
			}
		}
	check_equal();
	for (int64_t until = sim.now_ns + 10 * SECOND; sim.now_ns < until;)
		all_go_on();
	sim.doing = DOING_NOTHING;
	for (unsigned i = 0; i < sim.len; i++) {
		check_status(&sim.hosts[i], "in the end");
		check_host(&sim.hosts[i]);
	}
	check_equal();
	ledger_check(sim.hosts[0].store);
	/* What is in memory is what was written down. */
	for (unsigned i = 0; i < sim.len; i++) {
		stop_host(&sim.hosts[i]);
		start_host(&sim.hosts[i]);
		sim.doing = DOING_NOTHING;
		check_host(&sim.hosts[i]);
	}
	check_equal();
}

/* ---- the beginning ---- */

static void
make_peer(struct host *h, const struct host *peer)
{
	char section[40], url[60], path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/.sibfs", h->store);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(section, sizeof(section), "peer %s", peer->name);
	snprintf(url, sizeof(url), "ssh://%s/store", peer->name);
	settings_set(fd, section, "url", url);
	close(fd);
}

static void
connect_hosts(unsigned a, unsigned b)
{
	size_t how = random_below(3);

	if (how != 0)
		make_peer(&sim.hosts[a], &sim.hosts[b]);
	if (how != 1)
		make_peer(&sim.hosts[b], &sim.hosts[a]);
}

static void
topology(void)
{
	size_t how = random_below(3);

	for (unsigned i = 1; i < sim.len; i++) {
		if (how == 0)
			connect_hosts(0, i);		/* a star */
		else if (how == 1)
			connect_hosts(i - 1, i);	/* a line */
		else
			for (unsigned j = 0; j < i; j++)
				connect_hosts(j, i);
	}
	if (how == 1 && sim.len > 2 && random_chance(50))
		connect_hosts(0, sim.len - 1);		/* a ring */
}

/* Files that stood there before. */
static void
found_files(const struct host *h)
{
	for (size_t n = random_below(5); n; n--) {
		char path[300];
		const char *text = new_text(h);
		int fd;

		snprintf(path, sizeof(path), "%s/%s", h->store, ANY(dirs));
		if (random_chance(60)) {
			mkdir(path, 0755);
			strcat(path, "/");
			strcat(path, ANY(files));
		}
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (fd < 0)
			continue;
		(void)!write(fd, text, strlen(text));
		close(fd);
	}
}

static void
begin(const char *dir)
{
	char why[512];

	sim.now_ns = SECOND;
	sim.power = power;
	sim.again = again;
	sim.literal = literal;
	sim.few = few;
	sim.len = random_chance(60) ? 2 : 3 + (unsigned)random_below(HOSTS_MAX - 2);
	may.kills = random_chance(50);
	may.full = random_chance(25);
	may.skew = random_chance(30);
	may.between = random_chance(60);
	may.cuts = random_chance(70);
	may.kills &= !strstr(without, "kills");
	may.full &= !strstr(without, "full");
	may.skew &= !strstr(without, "skew");
	may.between &= !strstr(without, "between");
	may.cuts &= !strstr(without, "cuts");
	for (unsigned i = 0; i < sim.len; i++) {
		struct host *h = &sim.hosts[i];

		snprintf(h->name, sizeof(h->name), "%s", host_names[i]);
		snprintf(h->store, sizeof(h->store), "%s/%s", dir, host_names[i]);
		mkdir(h->store, 0755);
		if (random_chance(20))
			found_files(h);
		sim.at = h;
		if (replica_init(h->store, h->name, "simulated", NULL, NULL, why, sizeof(why)) < 0)
			sim_fail("init: %s", why);
	}
	topology();
	for (unsigned i = 0; i < sim.len; i++)
		start_host(&sim.hosts[i]);
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void
history(uint64_t seed, unsigned steps, const bool *left_out)
{
	struct rlimit lim;
	uint64_t seeds[STEPS_MAX], end_seed;
	char dir[80];

	alarm(HISTORY_SECONDS);
	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	signal(SIGPIPE, SIG_IGN);
	faults_init();
	snprintf(dir, sizeof(dir), "%s/%d", top, (int)getpid());
	mkdir(dir, 0700);
	random_reset(seed);
	sim.forgetful = seed % 2;
	begin(dir);
	for (unsigned i = 0; i < steps; i++)
		seeds[i] = random_number();
	end_seed = random_number();
	for (unsigned i = 0; i < steps; i++) {
		if (left_out && left_out[i])
			continue;
		if (steps_told)
			sim_say("step %u", i);
		survive(step_of, &seeds[i]);
	}
	random_reset(end_seed);
	survive(end, NULL);
}

/* ---- running and shrinking ---- */

struct outcome {
	bool failed;
	char said[2000];
};

static void
remove_dir(int pid)
{
	char dir[80];

	snprintf(dir, sizeof(dir), "%s/%d", top, pid);
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* In a process of its own. */
static struct outcome
try(uint64_t seed, unsigned steps, const bool *left_out, bool tell)
{
	struct outcome out = { 0 };
	int fds[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	fflush(stdout);
	if (!tell && pipe(fds) < 0)
		abort();
	pid = fork();
	if (pid == 0) {
		if (!tell) {
			dup2(fds[1], 1);
			dup2(fds[1], 2);
			close(fds[0]);
			close(fds[1]);
		}
		verbose = steps_told = tell;
		history(seed, steps, left_out);
		fflush(stdout);
		_exit(0);
	}
	if (!tell) {
		close(fds[1]);
		while ((n = read(fds[0], out.said + len, sizeof(out.said) - 1 - len)) > 0)
			len += (size_t)n;
		close(fds[0]);
		out.said[len] = '\0';
	}
	waitpid(pid, &status, 0);
	out.failed = status != 0;
	if (WIFSIGNALED(status))
		snprintf(out.said + len, sizeof(out.said) - len, "# ended by signal %d\n", WTERMSIG(status));
	remove_dir(pid);
	return out;
}

/*
 * What kind of failure is it?  What it says, without names and numbers; of two
 * lines that differ, in what they do.
 */
static void
kind_of(const struct outcome *o, char *out, size_t size)
{
	static const char space[] = " \t\n";
	char text[sizeof(o->said)], *rest = text, *word, *entry[2][3] = { { "" } };
	int entries = -1, column = 0;
	size_t n = 0;

	snprintf(text, sizeof(text), "%s", o->said);
	while ((word = strtok_r(rest, space, &rest)) && n < size - 80) {
		bool name = strpbrk(word, "0123456789/~.") != NULL;

		for (unsigned i = 0; i < HOSTS_MAX; i++)
			name |= strncmp(word, host_names[i], 3) == 0;
		if (strcmp(word, "has:") == 0 && entries < 1) {
			entries++;
			column = 0;
		} else if (entries >= 0 && column < 3) {
			entry[entries][column++] = word;
		} else if (!name && entries < 0) {
			n += (size_t)snprintf(out + n, size - n, "%s ", word);
		}
	}
	for (int i = 0; i < 3 && entries == 1; i++)
		n += (size_t)snprintf(out + n, size - n, "%d", entry[0][i] && entry[1][i] && strcmp(entry[0][i], entry[1][i]) == 0);
	out[n] = '\0';
}

static bool
same_failure(const struct outcome *a, const struct outcome *b)
{
	char x[sizeof(a->said) + 100], y[sizeof(a->said) + 100];

	if (!b->failed)
		return false;
	kind_of(a, x, sizeof(x));
	kind_of(b, y, sizeof(y));
	return strcmp(x, y) == 0;
}

/* Leaves out as many steps as possible, larger pieces first. */
static unsigned
shrink(uint64_t seed, unsigned steps, bool *left_out, const struct outcome *first)
{
	unsigned left = steps;

	for (unsigned piece = steps / 2; piece; piece /= 2)
		for (unsigned at = 0; at < steps; at += piece) {
			bool before[STEPS_MAX];
			unsigned n = 0;
			struct outcome o;

			memcpy(before, left_out, sizeof(before));
			for (unsigned i = at; i < at + piece && i < steps; i++) {
				n += !left_out[i];
				left_out[i] = true;
			}
			if (!n)
				continue;
			o = try(seed, steps, left_out, false);
			if (same_failure(first, &o))
				left -= n;
			else
				memcpy(left_out, before, sizeof(before));
		}
	return left;
}

static void
report(uint64_t seed, unsigned steps, const struct outcome *o, bool shorter)
{
	static bool left_out[STEPS_MAX];
	unsigned left = steps;

	printf("# seed %llu, %u steps:\n%s", (unsigned long long)seed, steps, o->said);
	memset(left_out, 0, sizeof(left_out));
	if (shorter)
		left = shrink(seed, steps, left_out, o);
	if (!shorter)
		return;
	printf("# shortened to %u steps: --seed %llu --count 1 --steps %u --only ", left, (unsigned long long)seed, steps);
	for (unsigned i = 0, n = 0; i < steps; i++)
		if (!left_out[i])
			printf("%s%u", n++ ? "," : "", i);
	printf("\n");
	try(seed, steps, left_out, true);
}

/* All but the steps that are listed: numbers with commas between them. */
static void
leave_out_others(const char *list, bool *left_out)
{
	char *end;

	memset(left_out, true, STEPS_MAX * sizeof(*left_out));
	for (const char *p = list; *p; p = *end ? end + 1 : end) {
		unsigned long n = strtoul(p, &end, 10);

		if (end == p)
			break;
		if (n < STEPS_MAX)
			left_out[n] = false;
	}
}

/* " (seed N, N)" of those that failed, for the claim. */
static char failed_seeds[200];

static void
note_seed(uint64_t seed)
{
	size_t n = strlen(failed_seeds);

	if (n < sizeof(failed_seeds) - 30)
		snprintf(failed_seeds + n - (n > 0), sizeof(failed_seeds) - n, "%s%llu)", n ? ", " : " (seed ",
		    (unsigned long long)seed);
}

/*
 * Histories that failed once: a line each, with the seed, the number of steps,
 * and the steps that it was shortened to, or "all"; and "power" for --power, "busy"
 * for --busy, "again" for --again, "literal" for --literal, "few" for
 * --few, "unkilled" for --without kills,full, with commas between them.
 * Returns how many fail.
 */
static unsigned
replay_stored(const char *path, uint64_t *done, bool tell)
{
	static bool left_out[STEPS_MAX];
	FILE *f = fopen(path, "r");
	unsigned failed = 0, steps;
	unsigned long long seed;
	char line[4000], list[3000], mode[40];

	if (!f) {
		printf("# %s: %s\n", path, strerror(errno));
		return 1;
	}
	while (fgets(line, sizeof(line), f)) {
		struct outcome o;
		bool all;
		int n = sscanf(line, "%llu %u %2999s %39s", &seed, &steps, list, mode);

		if (n < 3 || steps > STEPS_MAX)
			continue;
		power = n > 3 && strstr(mode, "power");
		busy = n > 3 && strstr(mode, "busy");
		again = n > 3 && strstr(mode, "again");
		literal = n > 3 && strstr(mode, "literal");
		few = n > 3 && strstr(mode, "few");
		without = n > 3 && strstr(mode, "unkilled") ? "kills,full" : "full";
		all = strcmp(list, "all") == 0;
		if (!all)
			leave_out_others(list, left_out);
		o = try(seed, steps, all ? NULL : left_out, tell);
		++*done;
		if (!o.failed)
			continue;
		failed++;
		note_seed(seed);
		printf("# stored: --seed %llu --count 1 --steps %u%s%s%s%s%s%s%s%s:\n%s", seed, steps, power ? " --power" : "",
		    busy ? " --busy" : "", again ? " --again" : "", literal ? " --literal" : "", few ? " --few" : "",
		    strstr(without, "kills") ? " --without kills,full" : "", all ? "" : " --only ", all ? "" : list, o.said);
	}
	fclose(f);
	return failed;
}

static const char *
make_top(const char *dir)
{
	static char path[60];

	snprintf(path, sizeof(path), "%s/sibfs-sim.XXXXXX", dir);
	if (!mkdtemp(path) || setxattr(path, "user.probe", "1", 1, 0) < 0) {
		rmdir(path);
		return NULL;
	}
	return path;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 't' }, { "seed", required_argument, NULL, 's' },
		{ "count", required_argument, NULL, 'c' }, { "steps", required_argument, NULL, 'n' },
		{ "dir", required_argument, NULL, 'd' }, { "verbose", no_argument, NULL, 'v' },
		{ "no-shrink", no_argument, NULL, 'x' }, { "failures", required_argument, NULL, 'f' },
		{ "without", required_argument, NULL, 'w' }, { "only", required_argument, NULL, 'o' },
		{ "stored", required_argument, NULL, 'r' }, { "power", no_argument, NULL, 'p' },
		{ "busy", no_argument, NULL, 'b' }, { "again", no_argument, NULL, 'a' },
		{ "literal", no_argument, NULL, 'l' }, { "few", no_argument, NULL, 'm' }, { 0 },
	};
	const char *given = getenv("SIBFS_SIM_SECONDS"), *from = getenv("SIBFS_SEED"), *dir = NULL, *stored = NULL;
	static bool left_out[STEPS_MAX];
	unsigned seconds = given ? (unsigned)atoi(given) : 60, steps = 0, failed = 0, failures = 3;
	uint64_t seed, first, count = 0, done = 0;
	bool shorter = true, tell = false;
	int64_t end;
	int c;

	power = getenv("SIBFS_SIM_POWER") != NULL;
	busy = getenv("SIBFS_SIM_BUSY") != NULL;
	again = getenv("SIBFS_SIM_AGAIN") != NULL;
	literal = getenv("SIBFS_SIM_LITERAL") != NULL;
	few = getenv("SIBFS_SIM_FEW") != NULL;
	seed = from ? strtoull(from, NULL, 0) : 1;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 't': seconds = (unsigned)atoi(optarg); break;
		case 's': seed = strtoull(optarg, NULL, 0); break;
		case 'c': count = strtoull(optarg, NULL, 0); break;
		case 'n': steps = (unsigned)atoi(optarg); break;
		case 'd': dir = optarg; break;
		case 'v': tell = true; break;
		case 'x': shorter = false; break;
		case 'w': without = optarg; break;
		case 'o': leave_out_others(optarg, left_out); break;
		case 'r': stored = optarg; break;
		case 'p': power = true; break;
		case 'b': busy = true; break;
		case 'a': again = true; break;
		case 'l': literal = true; break;
		case 'm': few = true; break;
		case 'f': failures = (unsigned)atoi(optarg); break;
		default: return 2;
		}
	setenv("SIBFS_LOG", "trace", 1);
	top = make_top(dir ? dir : "/dev/shm");
	if (!top && !dir)
		top = make_top("/tmp");
	if (!top) {
		printf("1..0 # SKIP no directory with user attributes\n");
		return 0;
	}
	first = seed;
	end = faults_real_ms() + seconds * INT64_C(1000);
	if (stored)
		failed = replay_stored(stored, &done, tell);
	for (; !stored; seed++, done++) {
		unsigned n = steps ? steps : 30 + (unsigned)(seed * 7919 % 200);
		struct outcome o;

		if (count ? done >= count : faults_real_ms() >= end)
			break;
		if (n > STEPS_MAX)
			n = STEPS_MAX;
		o = try(seed, n, left_out, tell);
		if (!o.failed)
			continue;
		failed++;
		note_seed(seed);
		if (!tell)
			report(seed, n, &o, shorter);
		if (failed >= failures)
			break;
	}
	rmdir(top);
	if (stored)
		printf("1..1\n%sok 1 - %llu histories that failed once hold%s\n", failed ? "not " : "", (unsigned long long)done,
		    failed_seeds);
	else
		printf("1..1\n%sok 1 - %llu histories, seeds from %llu%s\n", failed ? "not " : "", (unsigned long long)done,
		    (unsigned long long)first, failed_seeds);
	return failed != 0;
}
