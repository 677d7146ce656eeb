/*
 * Attributes between the disk and cells: mode, owner, group, mtime, extended
 * attributes.
 *
 * Owners travel by name, with the number for hosts that do not know the name,
 * and count only where the daemon runs as root.  Set-id bits travel, and come
 * onto a disk only where the settings say so.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "replication/mark.h"
#include "replication/replica_impl.h"

#define XATTR_LIST_MAX 65536
#define XATTR_VALUE_MAX 65536
#define ACL_XATTR "system.posix_acl_access"
#define DEFAULT_ACL_XATTR "system.posix_acl_default"

static void
proc_path(int dirfd, const char *name, char *out, size_t size)
{
	snprintf(out, size, "/proc/self/fd/%d/%s", dirfd, name);
}

/* ---- owners ---- */

struct known_id {
	uint32_t id;
	bool valid;
	char name[64];
};

/* Looking a name up may ask a directory server: remember the last ones. */
static const char *
name_of(uint32_t id, bool group)
{
	static struct known_id known[2][16];
	struct known_id *k = &known[group][id % 16];

	if (!k->valid || k->id != id) {
		struct passwd *pw = group ? NULL : getpwuid(id);
		struct group *gr = group ? getgrgid(id) : NULL;

		k->id = id;
		k->valid = true;
		snprintf(k->name, sizeof(k->name), "%s", pw ? pw->pw_name : gr ? gr->gr_name : "");
	}
	return k->name;
}

/* The local number for "name:number"; by_number: whatever the name. */
static int
id_of(const struct cell *c, bool group, bool by_number, uint32_t *out)
{
	char text[128], *colon;

	if (!c || !c->value || c->len >= sizeof(text))
		return -ENOENT;
	memcpy(text, c->value, c->len);
	text[c->len] = '\0';
	colon = strrchr(text, ':');
	if (!colon)
		return -EBADMSG;
	*colon = '\0';
	*out = (uint32_t)strtoul(colon + 1, NULL, 10);
	if (!*text || by_number || strcmp(name_of(*out, group), text) == 0)
		return 0;
	if (group) {
		struct group *gr = getgrnam(text);

		if (gr)
			*out = gr->gr_gid;
	} else {
		struct passwd *pw = getpwnam(text);

		if (pw)
			*out = pw->pw_uid;
	}
	return 0;
}

static void
read_owner(const struct replica *r, const struct attrs *prev, const char *key, uint32_t id, bool group,
    struct attrs *out)
{
	const struct cell *old = prev ? attrs_find(prev, key) : NULL;
	char text[128];
	uint32_t was;
	int len;

	if (id_of(old, group, r->settings.owners == OWNERS_BY_NUMBER, &was) == 0 && was == id) {
		attrs_set(out, key, old->value, old->len, (struct stamp){ 0, 0 });
		return;
	}
	len = snprintf(text, sizeof(text), "%s:%u", name_of(id, group), id);
	attrs_set(out, key, text, (uint32_t)len, (struct stamp){ 0, 0 });
}

/* ---- reading ---- */

static bool
travels(const char *name)
{
	return (strncmp(name, "user.", 5) == 0 && strncmp(name, MARK_XATTR, strlen(MARK_XATTR)) != 0) ||
	    strcmp(name, ACL_XATTR) == 0 || strcmp(name, DEFAULT_ACL_XATTR) == 0;
}

static void
read_xattrs(const char *path, struct attrs *out)
{
	static char list[XATTR_LIST_MAX], value[XATTR_VALUE_MAX];
	ssize_t n = llistxattr(path, list, sizeof(list)), len;

	for (char *p = list; n > 0 && p < list + n; p += strlen(p) + 1) {
		char key[300];

		if (!travels(p) || (len = lgetxattr(path, p, value, sizeof(value))) < 0)
			continue;
		snprintf(key, sizeof(key), "x.%.255s", p);
		attrs_set(out, key, value, (uint32_t)len, (struct stamp){ 0, 0 });
	}
}

static int64_t
mtime_of(const struct stat *st)
{
	return st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec;
}

/* Set-id bits that came from a peer are not on disk, and were not taken away by a user. */
static uint32_t
read_mode(const struct replica *r, const struct stat *st, const struct attrs *prev)
{
	uint32_t mode = st->st_mode & 07777, was = prev ? attrs_mode(prev, mode) : mode;

	if (!S_ISDIR(st->st_mode) && !r->settings.setuid && ((mode ^ was) & 01777) == 0 && (mode & ~was & 06000) == 0)
		return was;
	return mode;
}

static bool
keeps_owners(const struct replica *r)
{
	return r->as_root && r->settings.owners != OWNERS_NOT;
}

void
disk_attrs_read(struct replica *r, int dirfd, const char *name, const struct stat *st, const struct attrs *prev,
    struct attrs *out)
{
	char path[300], text[32];

	*out = (struct attrs){ 0 };
	if (!S_ISLNK(st->st_mode)) {
		attrs_set_mode(out, read_mode(r, st, prev), (struct stamp){ 0, 0 });
		proc_path(dirfd, name, path, sizeof(path));
		read_xattrs(path, out);
	}
	if (!S_ISDIR(st->st_mode)) {
		int len = snprintf(text, sizeof(text), "%" PRId64, mtime_of(st));

		attrs_set(out, "mtime", text, (uint32_t)len, (struct stamp){ 0, 0 });
	}
	if (keeps_owners(r)) {
		read_owner(r, prev, "owner", st->st_uid, false, out);
		read_owner(r, prev, "group", st->st_gid, true, out);
	} else if (prev) {
		const char *const keys[] = { "owner", "group" };

		for (int i = 0; i < 2; i++) {
			const struct cell *c = attrs_find(prev, keys[i]);

			if (c && c->value)
				attrs_set(out, c->key, c->value, c->len, (struct stamp){ 0, 0 });
		}
	}
}

/* ---- applying ---- */

static int
apply_owner(struct replica *r, int dirfd, const char *name, const struct stat *st, const struct attrs *a)
{
	bool by_number = r->settings.owners == OWNERS_BY_NUMBER;
	uint32_t uid = st->st_uid, gid = st->st_gid;

	if (!keeps_owners(r))
		return 0;
	id_of(attrs_find(a, "owner"), false, by_number, &uid);
	id_of(attrs_find(a, "group"), true, by_number, &gid);
	if (uid == st->st_uid && gid == st->st_gid)
		return 0;
	return fchownat(dirfd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 1;
}

static int
apply_mode(struct replica *r, int dirfd, const char *name, const struct stat *st, const struct attrs *a)
{
	uint32_t now = st->st_mode & 07777, mode = attrs_mode(a, now);
	uint32_t mask = S_ISDIR(st->st_mode) || r->settings.setuid ? 07777 : 01777;
	char path[300];

	if (S_ISLNK(st->st_mode) || ((mode ^ now) & mask) == 0)
		return 0;
	/* Not through a symbolic link: the name was looked at, and nobody changes it now. */
	proc_path(dirfd, name, path, sizeof(path));
	return chmod(path, mode & mask) < 0 ? -errno : 1;
}

/* What stood under that name before had them: nobody set them on this. */
static int
remove_others(const char *path, const struct attrs *a)
{
	static char list[XATTR_LIST_MAX];
	ssize_t len = llistxattr(path, list, sizeof(list));
	int n = 0;

	for (char *p = list; len > 0 && p < list + len; p += strlen(p) + 1) {
		char key[300];

		snprintf(key, sizeof(key), "x.%.255s", p);
		if (travels(p) && !attrs_find(a, key) && lremovexattr(path, p) == 0)
			n++;
	}
	return n;
}

static int
apply_xattrs(int dirfd, const char *name, const struct stat *st, const struct attrs *a)
{
	static char value[XATTR_VALUE_MAX];
	char path[300];
	int n = 0;

	if (S_ISLNK(st->st_mode))
		return 0;
	proc_path(dirfd, name, path, sizeof(path));
	for (uint32_t i = 0; i < a->len; i++) {
		const struct cell *c = &a->c[i];
		ssize_t len;

		if (!cell_is_extended(c) || !travels(c->key + 2))
			continue;
		len = lgetxattr(path, c->key + 2, value, sizeof(value));
		if (!c->value) {
			if (len >= 0 && lremovexattr(path, c->key + 2) == 0)
				n++;
		} else if (len != (ssize_t)c->len || memcmp(value, c->value, c->len) != 0) {
			if (lsetxattr(path, c->key + 2, c->value, c->len, 0) == 0)
				n++;
		}
	}
	/* Those of the root stay local. */
	return strcmp(name, ".") == 0 ? n : n + remove_others(path, a);
}

static int
apply_mtime(int dirfd, const char *name, const struct stat *st, const struct attrs *a)
{
	const struct cell *c = attrs_find(a, "mtime");
	struct timespec ts[2] = { { 0, UTIME_OMIT }, { 0, 0 } };
	int64_t ns;

	if (!c || !c->value || c->len > 24 || S_ISDIR(st->st_mode))
		return 0;
	ns = strtoll(c->value, NULL, 10);
	if (ns == mtime_of(st))
		return 0;
	ts[1].tv_sec = ns / 1000000000;
	ts[1].tv_nsec = ns % 1000000000;
	if (ts[1].tv_nsec < 0) {
		ts[1].tv_nsec += 1000000000;
		ts[1].tv_sec--;
	}
	return utimensat(dirfd, name, ts, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 1;
}

int
disk_attrs_apply(struct replica *r, int dirfd, const char *name, const struct stat *st, const struct attrs *a)
{
	int steps[4], n = 0;

	steps[0] = apply_owner(r, dirfd, name, st, a);
	steps[1] = apply_mode(r, dirfd, name, st, a);
	steps[2] = apply_xattrs(dirfd, name, st, a);
	steps[3] = apply_mtime(dirfd, name, st, a);
	for (int i = 0; i < 4; i++) {
		if (steps[i] < 0)
			return steps[i];
		n += steps[i];
	}
	return n;
}

bool
disk_attrs_differ(struct replica *r, int dirfd, const char *name, const struct stat *st, const struct attrs *a)
{
	struct attrs now;
	bool differ = false;

	disk_attrs_read(r, dirfd, name, st, a, &now);
	for (uint32_t i = 0; i < now.len && !differ; i++)
		differ = !cell_same_value(&now.c[i], attrs_find(a, now.c[i].key));
	for (uint32_t i = 0; i < a->len && !differ; i++)
		differ = a->c[i].value && cell_is_extended(&a->c[i]) && !attrs_find(&now, a->c[i].key);
	attrs_fini(&now);
	return differ;
}
