/*
 * Finding the store.
 */
#include "config.h"

#include "tools/locate.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "replication/mem.h"

/* Cuts a path to its parent directory; false at the root. */
static bool
go_up(char *path)
{
	char *slash = strrchr(path, '/');

	if (strcmp(path, "/") == 0)
		return false;
	slash[slash == path ? 1 : 0] = '\0';
	return true;
}

/* Asks a mount whose it is.  Only a FUSE mount is believed. */
static bool
ask_mount(const char *dir, struct located *l)
{
	struct statfs fs;
	char value[64];
	uintmax_t dev, ino;
	ssize_t n;

	if (statfs(dir, &fs) < 0 || fs.f_type != FUSE_SUPER_MAGIC)
		return false;
	n = getxattr(dir, "user.sibfs.store", value, sizeof(value) - 1);
	if (n <= 0)
		return false;
	value[n] = '\0';
	if (sscanf(value, "%jx-%jx", &dev, &ino) != 2)
		return false;
	l->dev = (dev_t)dev;
	l->ino = (ino_t)ino;
	l->mount = mem_str(dir);
	return true;
}

/* Is dir the root of a store? */
static bool
is_root(const char *dir, struct located *l)
{
	char *own = mem_printf("%s/.sibfs", strcmp(dir, "/") == 0 ? "" : dir);
	struct stat st;
	bool is = lstat(own, &st) == 0 && S_ISDIR(st.st_mode) && stat(dir, &st) == 0;

	free(own);
	if (!is)
		return false;
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	l->store = mem_str(dir);
	return true;
}

int
locate(const char *path, struct located *out, char *why, size_t why_size)
{
	struct located l = { 0 };
	struct stat st;
	char *dir;
	int rc = 0;

	if ((dir = realpath(path, NULL)) == NULL || stat(dir, &st) < 0) {
		rc = -errno;
		if (rc == -ENOTCONN)
			snprintf(why, why_size, "%s is a dead mount: sibfs mount or sibfs umount clears it", path);
		else
			snprintf(why, why_size, "no store at %s: %s", path, strerror(errno));
		free(dir);
		return rc;
	}
	if (!S_ISDIR(st.st_mode))
		go_up(dir);
	if (!ask_mount(dir, &l)) {
		while (!is_root(dir, &l) && go_up(dir))
			;
		if (l.store == NULL) {
			snprintf(why, why_size, "no store at %s", path);
			rc = -ENOENT;
		}
	}
	free(dir);
	if (rc == 0)
		*out = l;
	return rc;
}

void
located_fini(struct located *l)
{
	free(l->store);
	free(l->mount);
	memset(l, 0, sizeof(*l));
}
