/*
 * From the attributes of files and directories on disk to events in the state.
 */
#include "config.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "replication/local_impl.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

/* Was it set by hand?  Then it counts as the last word even if it says the same. */
static bool
was_set(const char *key, unsigned set)
{
	return (set & REPLICA_ATTR_MODE && strcmp(key, "mode") == 0) ||
	    (set & REPLICA_ATTR_OWNER && (strcmp(key, "owner") == 0 || strcmp(key, "group") == 0));
}

/* The cells of now that say something else than before, or were set.  partly: what
 * is not among them cannot be had there, and was not removed. */
static struct attrs
changed_attrs(const struct attrs *now, const struct attrs *before, unsigned set, bool partly)
{
	struct attrs out = { 0 };

	for (uint32_t i = 0; i < now->len; i++)
		if (was_set(now->c[i].key, set) ||
		    !cell_same_value(&now->c[i], attrs_find(before, now->c[i].key)))
			attrs_set(&out, now->c[i].key, now->c[i].value, now->c[i].len, now->c[i].at);
	for (uint32_t i = 0; i < before->len && !partly; i++)
		if (before->c[i].value && !attrs_find(now, before->c[i].key))
			attrs_set(&out, before->c[i].key, NULL, 0, before->c[i].at);
	return out;
}

void
local_dir_attrs(struct replica *r, struct disk_dir *dd, unsigned which)
{
	struct attrs now, before, set;
	struct obstack o;
	struct folder f;
	struct stat st;
	int fd = disk_fd(&r->disk, dd);

	if (fd < 0 || !dd->ids_len || fstat(fd, &st) < 0)
		return;
	obstack_init(&o);
	display_folder(r->s, dd->ids[0], &o, &f);
	before = attrs_copy(&f.ids[0]->val.attrs);
	if (dd->up)
		attrs_set_mode(&before, display_folder_mode(&f), (struct stamp){ 0, 0 });
	disk_attrs_read(r, fd, ".", &st, &before, &now);
	set = changed_attrs(&now, &before, which, false);
	if (set.len)
		local_set_dir_attrs(r->s, &f, &set);
	attrs_fini(&set);
	attrs_fini(&now);
	attrs_fini(&before);
	obstack_free(&o, NULL);
}

/*
 * The note of a file whose time was set goes along, so that the file still counts as
 * what was noted.  By what was told and not by the disk, which may be ahead: a write
 * between the two is told, too, and finds the note as it was left here.
 */
static void
follow_time(struct reg_file *known, const struct event *e)
{
	if (e->mtime_from != e->mtime_to && known->stamp.ino == e->ino && known->stamp.mtime_ns == e->mtime_from)
		known->stamp.mtime_ns = e->mtime_to;
}

void
local_file_attrs(struct replica *r, struct disk_dir *dd, const char *name, const struct event *e)
{
	struct reg_file *known;
	struct attrs now, set;
	struct reg *owner;
	struct seen q;
	struct stat st;
	int fd = disk_fd(&r->disk, dd);

	local_seen_open(r, dd, name, &q);
	if (fd < 0 || !q.e || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (e && st.st_ino != e->ino))
		goto out;
	known = local_seen_file(&q, name, &owner);
	if (known && e && !local_stamp_same(&known->stamp, &st)) {
		follow_time(known, e);
		state_reg_noted(r->s, owner);
	}
	/* Another kind took its place, and has attributes of its own. */
	if (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode) != (q.e->kind == KIND_SYMLINK))
		goto out;
	disk_attrs_read(r, fd, name, &st, &q.e->attrs, &now);
	/* A symbolic link has no mode; its name may have one, of a file before it. */
	set = changed_attrs(&now, &q.e->attrs, e ? e->attrs : 0, S_ISLNK(st.st_mode));
	if (set.len)
		local_set_attrs(r->s, dd->ids[0], q.e->name, &set);
	attrs_fini(&set);
	attrs_fini(&now);
out:
	local_seen_close(&q);
}

void
local_attrs_at(struct replica *r, struct disk_dir *dd, const char *name)
{
	int fd = disk_fd(&r->disk, dd);
	struct disk_dir *sub;
	struct seen q;
	struct stat st;
	bool shown;

	if (fd < 0 || fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (S_ISDIR(st.st_mode)) {
		sub = disk_find(&r->disk, st.st_ino);
		shown = sub && sub->ids_len && sub->up == dd;
		for (size_t i = 0; shown && i < sub->ids_len; i++)
			shown = !sub->ids[i]->again && !sub->ids[i]->touched;
		if (shown)
			local_dir_attrs(r, sub, 0);
		return;
	}
	local_seen_open(r, dd, name, &q);
	shown = q.e != NULL;
	for (size_t i = 0; shown && i < q.e->refs_len; i++) {
		const struct reg *reg = q.e->refs[i].reg;

		shown = !reg->pending && !reg->again && !reg->touched;
	}
	local_seen_close(&q);
	if (shown)
		local_file_attrs(r, dd, name, NULL);
}
