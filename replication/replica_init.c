/*
 * Making a store of a directory: what stands in it is taken in.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "replication/clock.h"
#include "replication/open_impl.h"
#include "replication/replica_impl.h"
#include "replication/replica_place.h"

#define FUSE_MAGIC 0x65735546

static bool
is_inside_store(const char *path)
{
	char *copy = mem_str(path), *slash;
	bool found = false;

	while ((slash = strrchr(copy, '/')) && !found) {
		char *probe;

		*slash = '\0';
		probe = mem_printf("%s/" META "/index.db", copy);
		found = access(probe, F_OK) == 0;
		free(probe);
	}
	free(copy);
	return found;
}

static int
check_target(struct replica *r, char *why, size_t size)
{
	struct statfs fs;
	struct stat st;
	int rc;

	r->root_fd = open(r->path, DIR_FLAGS);
	if (r->root_fd < 0)
		return open_say(why, size, -errno, errno == ENOTDIR ? "%s is not a directory" : "%s cannot be opened",
		    r->path);
	if (fstatat(r->root_fd, META "/index.db", &st, 0) == 0)
		return open_say(why, size, -EEXIST, "%s is a store already", r->path);
	if (fstatat(r->root_fd, META "/config", &st, 0) == 0)
		return open_say(why, size, -EEXIST, "%s is a store that lost its index: `sibfs doctor %s` makes it anew",
		    r->path, r->path);
	if (fgetxattr(r->root_fd, "user.sibfs.store", NULL, 0) > 0)
		return open_say(why, size, -EEXIST, "%s is in a mount of sibfs: it is replicated already", r->path);
	if (fstatfs(r->root_fd, &fs) == 0 && fs.f_type == FUSE_MAGIC)
		return open_say(why, size, -EINVAL, "%s is on a FUSE file system: use a directory on a disk", r->path);
	if (is_inside_store(r->path))
		return open_say(why, size, -EINVAL, "%s lies inside another store", r->path);
	if (faccessat(r->root_fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		return open_say(why, size, -EACCES, "%s is not writable", r->path);
	if (fsetxattr(r->root_fd, "user.sibfs.probe", "1", 1, 0) < 0) {
		rc = -errno;
		if (rc == -EROFS)
			return open_say(why, size, rc, "%s is not writable: read-only file system", r->path);
		return open_say(why, size, rc, "%s: this file system has no user extended attributes: ext4, XFS "
		    "and btrfs have them", r->path);
	}
	fremovexattr(r->root_fd, "user.sibfs.probe");
	return 0;
}

int
open_write_identity(struct replica *r, const char *node, const char *set)
{
	char random_set[33];
	uint64_t self = open_random_id(), zero = 0, token[2] = { open_random_id(), open_random_id() };

	if (!set) {
		snprintf(random_set, sizeof(random_set), "%016" PRIx64 "%016" PRIx64, token[0], token[1]);
		set = random_set;
	}
	r->epoch = open_random_id();
	r->s = open_new_state(r, self);
	snprintf(r->node, sizeof(r->node), "%s", node);
	snprintf(r->set, sizeof(r->set), "%s", set);
	if (replica_begin(r) < 0)
		return -EIO;
	if (index_set_value(r->x, "node", node, strlen(node)) < 0 ||
	    index_set_value(r->x, "set", set, strlen(set)) < 0 ||
	    index_set_value(r->x, "incarnation", &self, sizeof(self)) < 0 ||
	    index_set_value(r->x, "epoch", &r->epoch, sizeof(r->epoch)) < 0 ||
	    index_set_value(r->x, "counter", &zero, sizeof(zero)) < 0 ||
	    index_set_value(r->x, "hlc", &zero, sizeof(zero)) < 0 ||
	    index_set_value(r->x, "seq", &zero, sizeof(zero)) < 0 || index_set_value(r->x, "know", "", 0) < 0 ||
	    index_set_value(r->x, "clean", "0", 1) < 0)
		return -EIO;
	replica_add_member(r, self, node);
	return replica_commit(r);
}

static void
remove_list(void *arg, const char *name)
{
	unlinkat(((struct replica *)arg)->chunks_fd, name, 0);
}

static void
remove_meta(int root_fd)
{
	static const char *const names[] = { META "/staging", META "/chunks", META "/trash", META "/moving", META "/index.db",
		META "/index.db-wal", META "/index.db-shm", META "/index.db-journal", META "/lock", META "/journal",
		META "/config", META "/opened", META "/opened.new" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (unlinkat(root_fd, names[i], 0) < 0)
			unlinkat(root_fd, names[i], AT_REMOVEDIR);
	unlinkat(root_fd, META, AT_REMOVEDIR);
}

int
replica_init(const char *path, const char *node, const char *set,
    void (*progress)(void *arg, uint64_t files, uint64_t bytes), void *arg, char *why, size_t size)
{
	struct replica *r;
	bool made = mkdir(path, 0777) == 0;
	int rc;

	if (!made && errno != EEXIST)
		return open_say(why, size, -errno, "%s: cannot be made: %s", path, strerror(errno));
	r = open_new_replica();
	r->quit_conn_fd = -1;
	r->path = realpath(path, NULL);
	if (!r->path) {
		rc = open_say(why, size, -errno, "%s: %s", path, strerror(errno));
		goto out;
	}
	if ((rc = check_target(r, why, size)) < 0)
		goto out;
	open_close_fd(&r->root_fd);
	{
		char *meta = mem_printf("%s/" META, r->path);

		rc = mkdir(meta, 0700) < 0 && errno != EEXIST ? -errno : 0;
		free(meta);
	}
	if (rc < 0) {
		open_say(why, size, rc, "%s: %s", r->path, strerror(-rc));
		goto out;
	}
	if ((rc = open_files(r, why, size)) < 0)
		goto out;
	if ((rc = index_open(r->meta_fd, true, &r->x, why, size)) < 0)
		goto undo;
	if ((rc = open_write_identity(r, node, set)) < 0) {
		open_say(why, size, rc, "%s: the index cannot be written: %s", r->path, strerror(-rc));
		goto undo;
	}
	if ((rc = place_mark(r)) < 0) {
		open_say(why, size, rc, "%s: it cannot be marked as opened: %s", r->path, strerror(-rc));
		goto undo;
	}
	settings_set(r->meta_fd, "replica", "node", r->node);
	settings_set(r->meta_fd, "replica", "set", r->set);
	disk_assign(r->s->root, r->disk.root);
	r->s->now = (uint64_t)clock_wall_ns();
	ignore_load(r);
	local_reconcile(r, r->disk.root, progress, arg);
	ignore_catch_up(r);
	marks_dir(r, r->disk.root);
	marks_turn(r, true);
	if ((rc = replica_commit(r)) < 0) {
		open_say(why, size, rc, "%s: the index cannot be written: %s", r->path, strerror(-rc));
		goto undo;
	}
	r->opened = true;
	replica_close(r);
	return 0;

undo:
	index_close(r->x);
	r->x = NULL;
	disk_each_entry(r->chunks_fd, remove_list, r);
	remove_meta(r->root_fd);
out:
	replica_close(r);
	if (made)
		rmdir(path);
	return rc;
}
