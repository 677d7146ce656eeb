/*
 * Power cuts.  A daemon that is killed leaves all behind that it wrote; a machine
 * that goes down leaves what was synced, and of the rest what happened to reach the
 * disk.  Here that is every name, as of a file system that has just committed its
 * own journal, but of the content of files only what was synced, and sometimes a
 * first part of what was not; of the index what its last sync had; and of the
 * daemon's journal, which is never synced, any first part.
 *
 * Not simulated: names that go back to what they were.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <uthash.h>

#include "tests/lib/random.h"
#include "tests/sim/replica_sim.h"

/* A file with content that was not synced. */
struct unsynced {
	UT_hash_handle hh;
	ino_t ino;
	const struct host *of;
};

static struct unsynced *unsynced;

static bool
goes_by_us(void)
{
	return sim.power && sim.at && sim.doing != DOING_NOTHING;
}

void
power_wrote(int fd)
{
	struct unsynced *u;
	struct stat st;

	if (!goes_by_us() || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	HASH_FIND(hh, unsynced, &st.st_ino, sizeof(st.st_ino), u);
	if (u)
		return;
	u = mem_alloc(sizeof(*u));
	u->ino = st.st_ino;
	u->of = sim.at;
	HASH_ADD(hh, unsynced, ino, sizeof(u->ino), u);
}

void
power_synced(int fd)
{
	struct unsynced *u;
	struct stat st;

	if (!goes_by_us() || fstat(fd, &st) < 0)
		return;
	HASH_FIND(hh, unsynced, &st.st_ino, sizeof(st.st_ino), u);
	if (!u)
		return;
	HASH_DEL(unsynced, u);
	free(u);
}

void
power_synced_all(void)
{
	struct unsynced *u, *tmp;

	HASH_ITER(hh, unsynced, u, tmp)
		if (goes_by_us() && u->of == sim.at) {
			HASH_DEL(unsynced, u);
			free(u);
		}
}

/* ---- the index ---- */

/* Beside the store: what the disk has of a file of the index, which SQLite knows by
 * another path. */
static void
synced_path(const struct host *h, const char *path, char *out, size_t size)
{
	const char *slash = strrchr(path, '/');

	snprintf(out, size, "%s.disk-%.40s", h->store, slash ? slash + 1 : path);
}

static void
copy_file(const char *from, const char *to)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out;
	char buf[65536];
	ssize_t n;

	out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	while (in >= 0 && out >= 0 && (n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, (size_t)n) != n)
			sim_fail("no room for the simulator");
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
}

/* Our own calls must not come by the faults. */
void
power_db_synced(const char *path)
{
	enum doing was = sim.doing;
	char copy[300];

	if (!sim.power || !sim.at || !path)
		return;
	synced_path(sim.at, path, copy, sizeof(copy));
	sim.doing = DOING_NOTHING;
	copy_file(path, copy);
	sim.doing = was;
}

void
power_db_opened(const char *path)
{
	char copy[300];
	struct stat st;

	if (!sim.power || !sim.at || !path || (stat(path, &st) == 0 && st.st_size > 0))
		return;
	synced_path(sim.at, path, copy, sizeof(copy));
	unlink(copy);
}

static void
revert_index(const struct host *h)
{
	static const char *const files[] = { "index.db", "index.db-wal" };

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		char path[300], copy[300];

		snprintf(path, sizeof(path), "%s/.sibfs/%s", h->store, files[i]);
		synced_path(h, path, copy, sizeof(copy));
		if (access(copy, F_OK) == 0)
			copy_file(copy, path);
		else if (truncate(path, 0) < 0 && errno != ENOENT)
			sim_fail("the simulator cannot truncate: %s", strerror(errno));
	}
}

/* ---- files ---- */

static void
lose_content(int dirfd, const char *name, const struct stat *st)
{
	const struct timespec ts[2] = { st->st_atim, st->st_mtim };
	off_t left = random_chance(50) ? 0 : (off_t)random_below((size_t)st->st_size + 1);
	int fd = openat(dirfd, name, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	ledger_replaced(fd);
	if (ftruncate(fd, left) < 0)
		sim_fail("the simulator cannot truncate: %s", strerror(errno));
	futimens(fd, ts);
	close(fd);
	sim_say("  %s loses its content from byte %d on", name, (int)left);
}

static void
lose_below(int dirfd, const struct host *h)
{
	DIR *dir = fdopendir(dirfd);
	struct unsynced *u;
	struct dirent *de;

	while (dir && (de = readdir(dir))) {
		struct stat st;

		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
		    strncmp(de->d_name, "index.db", 8) == 0 || strcmp(de->d_name, "journal") == 0 ||
		    fstatat(dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			lose_below(openat(dirfd, de->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), h);
		HASH_FIND(hh, unsynced, &st.st_ino, sizeof(st.st_ino), u);
		if (u && S_ISREG(st.st_mode) && random_chance(60))
			lose_content(dirfd, de->d_name, &st);
		if (u) {
			HASH_DEL(unsynced, u);
			free(u);
		}
	}
	if (dir)
		closedir(dir);
}

/* ---- the machine ---- */

void
power_boot_path(const struct host *h, char *out, size_t size)
{
	snprintf(out, size, "%s.disk-boot", h->store);
}

void
power_cut(struct host *h)
{
	char path[300], boot[40];
	struct stat st;
	int fd;

	sim_say("%s: the power goes", h->name);
	power_boot_path(h, path, sizeof(path));
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	snprintf(boot, sizeof(boot), "boot-%016llx\n", (unsigned long long)random_number());
	if (fd < 0 || write(fd, boot, strlen(boot)) < 0)
		sim_fail("no room for the simulator");
	close(fd);
	revert_index(h);
	snprintf(path, sizeof(path), "%s/.sibfs/journal", h->store);
	if (stat(path, &st) == 0 && st.st_size && random_chance(70) &&
	    truncate(path, (off_t)random_below((size_t)st.st_size)) < 0)
		sim_fail("the simulator cannot truncate: %s", strerror(errno));
	lose_below(open(h->store, O_RDONLY | O_DIRECTORY | O_CLOEXEC), h);
}
