/*
 * Extended attributes and access control lists.
 */
#include "config.h"

#include "tests/posix/posix.h"

#include <endian.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#define ACCESS	"system.posix_acl_access"
#define DEFAULT	"system.posix_acl_default"

static bool
has(const char *path, const char *name, const char *value)
{
	char buf[8192];
	ssize_t n = lgetxattr(path, name, buf, sizeof buf);

	return n == (ssize_t)strlen(value) && memcmp(buf, value, (size_t)n) == 0;
}

static bool
lists(const char *path, const char *name)
{
	char buf[8192];
	ssize_t n = llistxattr(path, buf, sizeof buf);

	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(buf + at) + 1)
		if (strcmp(buf + at, name) == 0)
			return true;
	return false;
}

static void
users(void)
{
	char big[3000], buf[16], name[300] = "user.";

	put("f", "x", 0644);
	must(mkdir("d", 0755));
	works(setxattr("f", "user.a", "value", 5, 0), "an attribute is set");
	claim(has("f", "user.a", "value") && lists("f", "user.a"), "and read and listed");
	works(setxattr("d", "user.d", "dir", 3, 0), "and of a directory");
	claim(has("d", "user.d", "dir"), "and read");
	refused(setxattr("f", "user.a", "x", 1, XATTR_CREATE), EEXIST, "XATTR_CREATE of what is there");
	refused(setxattr("f", "user.b", "x", 1, XATTR_REPLACE), ENODATA, "XATTR_REPLACE of what is not");
	works(setxattr("f", "user.a", "other", 5, XATTR_REPLACE), "XATTR_REPLACE");
	works(setxattr("f", "user.empty", "", 0, XATTR_CREATE), "an empty value");
	claim(has("f", "user.empty", ""), "is one");
	refused(getxattr("f", "user.none", buf, sizeof buf), ENODATA, "what is not there");
	refused(removexattr("f", "user.none"), ENODATA, "is not removed");
	claim(getxattr("f", "user.a", NULL, 0) == 5, "the size is told");
	refused(getxattr("f", "user.a", buf, 2), ERANGE, "too little room");
	refused(listxattr("f", buf, 2), ERANGE, "for a list, too");
	memset(big, 'b', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	works(setxattr("f", "user.big", big, sizeof big - 1, 0), "a value of 3 KB");
	claim(has("f", "user.big", big), "is read whole");
	memset(name + 5, 'n', 250);
	works(setxattr("f", name, "1", 1, 0), "a name of 255 bytes");
	name[255] = 'n';
	refused(setxattr("f", name, "1", 1, 0), ERANGE, "not of 256");
	refused(setxattr("f", "user.", "1", 1, 0), EINVAL, "nor of nothing");
	refused(setxattr("f", "nonsense.a", "1", 1, 0), EOPNOTSUPP, "nor of an unknown kind");
	works(removexattr("f", "user.a"), "an attribute is removed");
	claim(!lists("f", "user.a") && lists("f", "user.big"), "and that one alone");
	must(symlink("f", "s"));
	must(mkfifo("fifo", 0644));
	refused(lsetxattr("s", "user.a", "1", 1, 0), EPERM, "a symbolic link has none for users");
	refused(setxattr("fifo", "user.a", "1", 1, 0), EPERM, "nor has a FIFO");
	must(rename("f", "g"));
	claim(has("g", "user.empty", "") && lists("g", "user.big"), "a rename takes them along");
}

static void
nothing_trusted(void)
{
	claim(!lists("g", "trusted.a"), "others do not see it");
	refused(getxattr("g", "trusted.a", NULL, 0), ENODATA, "nor read it");
	refused(setxattr("g", "trusted.b", "1", 1, 0), EPERM, "nor set one");
}

/* A list as the kernel takes it: version 2, then tag, rights and id of each. */
struct acl {
	uint32_t version;
	struct { uint16_t tag, perm; uint32_t id; } e[6];
};

enum { OWNER = 1, USER = 2, GROUP_OWNER = 4, GROUP = 8, MASK = 16, OTHER = 32 };

static int
acl_set(const char *path, const char *which, unsigned owner, uid_t uid, unsigned user, unsigned group, unsigned mask,
    unsigned other)
{
	const uint32_t none = UINT32_MAX;
	struct acl a = { htole32(2), {
		{ htole16(OWNER), htole16((uint16_t)owner), none },
		{ htole16(USER), htole16((uint16_t)user), htole32(uid) },
		{ htole16(GROUP_OWNER), htole16((uint16_t)group), none },
		{ htole16(MASK), htole16((uint16_t)mask), none },
		{ htole16(OTHER), htole16((uint16_t)other), none },
	} };

	return setxattr(path, which, &a, 4 + 5 * 8, 0);
}

/* The rights of one kind in a list; -1: none. */
static int
acl_get(const char *path, const char *which, unsigned tag)
{
	struct acl a;
	ssize_t n = getxattr(path, which, &a, sizeof a);

	for (int i = 0; n > 4 && i < (n - 4) / 8; i++)
		if (le16toh(a.e[i].tag) == tag)
			return le16toh(a.e[i].perm);
	return -1;
}

static void
lists_of_rights(void)
{
	put("acl", "x", 0640);
	works(acl_set("acl", ACCESS, 6, ALICE, 6, 4, 6, 0), "an access list is set");
	claim(acl_get("acl", ACCESS, USER) == 6 && lists("acl", ACCESS), "and read");
	claim(mode_of("acl") == 0660, "the mode's group bits are its mask");
	must(chmod("acl", 0640));
	claim(acl_get("acl", ACCESS, MASK) == 4 && acl_get("acl", ACCESS, USER) == 6, "chmod sets the mask");
	must(chmod("acl", 0660));
	works(removexattr("acl", ACCESS), "it is removed");
	claim(acl_get("acl", ACCESS, USER) == -1 && !lists("acl", ACCESS), "and gone");
	must(acl_set("acl", ACCESS, 6, ALICE, 6, 4, 6, 0));
	must(mkdir("defaults", 0755));
	works(acl_set("defaults", DEFAULT, 7, ALICE, 7, 5, 7, 0), "a default list is set");
	refused(acl_set("acl", DEFAULT, 7, ALICE, 7, 5, 7, 0), EACCES, "for directories only");
	umask(077);
	close((int)must(open("defaults/f", O_CREAT | O_WRONLY, 0666)));
	must(mkdir("defaults/d", 0777));
	must(mkfifo("defaults/fifo", 0666));
	umask(022);
	claim(mode_of("defaults/f") == 0660, "it takes the place of the umask");
	claim(acl_get("defaults/f", ACCESS, USER) == 7, "files made there have it");
	claim(acl_get("defaults/fifo", ACCESS, USER) == 7 && mode_of("defaults/fifo") == 0660, "FIFOs, too");
	claim(acl_get("defaults/d", DEFAULT, USER) == 7 && mode_of("defaults/d") == 0770, "directories hand it on");
}

static void
alice_has_rights(void)
{
	int fd = open("acl", O_RDWR);

	claim(fd >= 0, "a list gives rights to a user");
	close(fd);
	works(open("defaults/f", O_RDWR), "so does one by default");
	refused(acl_set("acl", ACCESS, 6, BOB, 6, 4, 6, 0), EPERM, "but not that to change it");
}

static void
bob_has_none(void)
{
	refused(open("acl", O_RDONLY), EACCES, "and to no other");
}

static void
alice_sets_a_list(void)
{
	must(acl_set("hers", ACCESS, 7, BOB, 7, 5, 7, 5));
	claim((mode_of("hers") & S_ISGID) == 0, "who sets a list and is not in the group clears setgid");
}

void
group_xattrs(void)
{
	users();
	lists_of_rights();
	if (!is_root)
		return;
	works(setxattr("g", "trusted.a", "1", 1, 0), "root sets a trusted attribute");
	claim(has("g", "trusted.a", "1") && lists("g", "trusted.a"), "and sees it");
	as_user(ALICE, ALICE, 0, nothing_trusted);
	as_user(ALICE, ALICE, 0, alice_has_rights);
	as_user(BOB, BOB, 0, bob_has_none);
	must(chmod("acl", 0600));
	as_user(ALICE, ALICE, 0, bob_has_none);
	put("hers", "x", 0755);
	must(chown("hers", ALICE, SHARED_GROUP));
	must(chmod("hers", 02755));
	as_user(ALICE, ALICE, 0, alice_sets_a_list);
}
