/*
 * An index from what files say of themselves.
 */
#include "config.h"

#include "replication/replica_rebuild.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/clock.h"
#include "replication/local_impl.h"
#include "replication/open_impl.h"
#include "replication/replica_fork.h"
#include "replication/replica_place.h"

#define IDS_MAX 32

/* ---- one file ---- */

static bool
key_fits(const struct identity *ids, size_t n, const char *name, uint64_t key)
{
	for (size_t i = 0; i < n; i++)
		if (disk_mark_key(&ids[i], name) == key)
			return true;
	return false;
}

/* The name of the register that the file is of: its own, or the one that it is a
 * sibling of.  To free; NULL: it is of another place. */
static char *
register_of(struct replica *r, struct disk_dir *dd, const char *name, uint64_t key)
{
	struct identity ids[IDS_MAX + 1];
	size_t n = disk_mark_dirs(r, dd, ids, IDS_MAX);
	char *base = mem_str(name);

	ids[n++] = dd->ids[0]->id;
	if (key_fits(ids, n, base, key))
		return base;
	for (char *at = strstr(base, STATE_SEP); at; at = strstr(at + 1, STATE_SEP)) {
		*at = '\0';
		if (*base && key_fits(ids, n, base, key))
			return base;
		*at = STATE_SEP[0];
	}
	free(base);
	return NULL;
}

static uint64_t
time_of(const struct replica *r, const struct stat *st)
{
	uint64_t t = st->st_mtim.tv_sec > 0 ?
	    (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec : 0;

	return t < r->s->now ? t : r->s->now;
}

bool
rebuild_file(struct replica *r, struct disk_dir *dd, int fd, const char *name, const struct stat *st,
    struct local_file *file)
{
	struct version v = { .kind = file->kind, .hash = file->hash, .size = file->size };
	struct disk_mark m;
	struct reg *reg;
	char *base;

	if (disk_mark_read(fd, name, st, &m) < 0)
		return false;
	base = register_of(r, dd, name, m.key);
	reg = base ? state_reg(r->s, dd->ids[0], base, true) : NULL;
	if (!reg || regval_find(&reg->shown, m.dot)) {
		free(base);
		vv_fini(&m.ctx);
		return false;
	}
	v.dot = m.dot;
	v.hlc = time_of(r, st);
	v.slot = mem_str(strcmp(base, name) == 0 ? "" : name + strlen(base) + strlen(STATE_SEP));
	v.attrs = attrs_copy(&file->attrs);
	regval_add(&reg->shown, &v);
	vv_join(&reg->shown.ctx, &m.ctx);
	vv_join(&r->s->seen, &m.ctx);
	state_saw(r->s, v.hlc);
	state_reg_changed(r->s, reg);
	local_note_file(r, reg, name, &file->hash, st);
	r->rebuilt++;
	vv_fini(&m.ctx);
	free(base);
	return true;
}

/* ---- the whole store ---- */

static void
put_aside(struct replica *r)
{
	static const char *const names[][2] = {
		{ "index.db", "index.db.old" },
		{ "index.db-wal", "index.db.old-wal" },
		{ "index.db-shm", "index.db.old-shm" },
	};

	for (int i = 0; i < 3; i++) {
		unlinkat(r->meta_fd, names[i][1], 0);
		renameat(r->meta_fd, names[i][0], r->meta_fd, names[i][1]);
	}
}

static int
read_names(struct replica *r, const char *node, char *why, size_t size)
{
	int rc = settings_load(r->meta_fd, &r->settings, why, size);

	if (rc < 0)
		return rc;
	if (!node)
		node = r->settings.node;
	if (!node || !settings_node_valid(node))
		return open_say(why, size, -EINVAL, "%s: its config does not say its node name: give it with --node",
		    r->path);
	if (!r->settings.set)
		return open_say(why, size, -EINVAL, "%s: its config does not say its set: write `set = ID` under [replica]",
		    r->path);
	snprintf(r->node, sizeof(r->node), "%s", node);
	return 0;
}

static void
count_files(void *arg, uint64_t files, uint64_t bytes)
{
	(void)bytes;
	((struct rebuilt *)arg)->files = files;
}

static void
look_at_all(struct replica *r, struct rebuilt *out)
{
	r->s->now = (uint64_t)clock_wall_ns();
	disk_assign(r->s->root, r->disk.root);
	ignore_load(r);
	r->rebuilding = true;
	local_reconcile(r, r->disk.root, count_files, out);
	r->rebuilding = false;
	for (struct disk_dir *dd = r->disk.dirs; dd; dd = dd->hh.next)
		marks_dir(r, dd);
	out->marked = r->rebuilt;
}

/* The index is there; half of it is worse than none. */
static int
fill(struct replica *r, const char *node, struct rebuilt *out)
{
	uint64_t before = place_last_self(r);
	char *text, *set = mem_str(r->settings.set);
	int rc = open_write_identity(r, node, set);

	free(set);
	if (rc < 0)
		return rc;
	if (before)
		replica_add_member(r, before, r->node);
	look_at_all(r, out);
	text = mem_printf("the index of this store was lost and made anew from %llu files, %llu of them with their history: "
	    "it goes on as a new incarnation", (unsigned long long)out->files, (unsigned long long)out->marked);
	fork_note(r, text);
	free(text);
	if ((rc = replica_commit(r)) < 0)
		return rc;
	return place_mark(r);
}

int
replica_rebuild(const char *path, const char *node, bool force, struct rebuilt *out, char *why, size_t size)
{
	struct replica *r = open_new_replica();
	char name[SETTINGS_NODE_MAX + 1];
	int rc;

	*out = (struct rebuilt){ 0 };
	r->quit_conn_fd = -1;
	r->path = realpath(path, NULL);
	if (!r->path) {
		rc = open_say(why, size, -errno, "%s: %s", path, strerror(errno));
		goto out;
	}
	if ((rc = open_files(r, why, size)) < 0 || (rc = read_names(r, node, why, size)) < 0)
		goto out;
	if (!force && faccessat(r->meta_fd, "index.db", F_OK, 0) == 0) {
		rc = open_say(why, size, -EEXIST, "%s has an index: --rebuild puts it aside and makes it anew", r->path);
		goto out;
	}
	put_aside(r);
	if ((rc = index_open(r->meta_fd, true, &r->x, why, size)) < 0)
		goto out;
	snprintf(name, sizeof(name), "%s", r->node);
	rc = fill(r, name, out);
	if (rc < 0) {
		open_say(why, size, rc, "%s: the index cannot be written: %s", r->path, strerror(-rc));
		index_close(r->x);
		r->x = NULL;
		unlinkat(r->meta_fd, "index.db", 0);
		unlinkat(r->meta_fd, "index.db-wal", 0);
		unlinkat(r->meta_fd, "index.db-shm", 0);
	}
	r->opened = rc == 0;
out:
	replica_close(r);
	return rc;
}
