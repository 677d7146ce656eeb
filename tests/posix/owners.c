/*
 * Who owns what is made, with which mode; what happens to setuid and setgid.
 */
#include "config.h"

#include "tests/posix/posix.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

static bool
belongs(const char *path, uid_t uid, gid_t gid)
{
	struct stat st = stat_of(path);

	return st.st_uid == uid && st.st_gid == gid;
}

static void
make_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = (int)must(socket(AF_UNIX, SOCK_STREAM, 0));

	strcpy(address.sun_path, path);
	must(bind(fd, (struct sockaddr *)&address, sizeof address));
	close(fd);
}

static void
make_all(void)
{
	close((int)must(open("file", O_CREAT | O_RDWR, 0666)));
	must(mkdir("dir", 0777));
	must(mkfifo("fifo", 0666));
	must(mknod("node", S_IFREG | 0666, 0));
	must(symlink("x", "link"));
	make_socket("socket");
}

static const char *const made[] = { "file", "dir", "fifo", "node", "link", "socket" };

static void
modes_by_umask(void)
{
	struct stat st;
	int fd;

	must(mkdir("umask", 0777));
	must(chdir("umask"));
	umask(027);
	make_all();
	for (int i = 0; i < 4; i++)
		claim(mode_of(made[i]) == (i == 1 ? 0750 : 0640), "the umask counts for a %s", made[i]);
	umask(0);
	close((int)must(open("all", O_CREAT | O_RDWR, 06777)));
	claim(mode_of("all") == 06777, "without one every bit stays");
	must(mkdir("alldir", 01777));
	claim(mode_of("alldir") == 01777, "of a directory, too");
	fd = (int)must(open("shut", O_CREAT | O_RDWR, 0));
	claim(write(fd, "x", 1) == 1 && fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0,
	    "what is made without permissions is open for its maker");
	close(fd);
	fd = (int)must(open("readonly", O_CREAT | O_WRONLY, 0444));
	claim(write(fd, "x", 1) == 1, "what is made read-only, too");
	close(fd);
	umask(022);
	must(chdir(".."));
}

/* As ALICE with the group ALICE. */
static void
alice_makes(void)
{
	must(mkdir("hers", 0777));
	must(chdir("hers"));
	make_all();
	for (int i = 0; i < 6; i++)
		claim(belongs(made[i], ALICE, ALICE), "a %s belongs to who made it", made[i]);
	must(chdir("../setgid"));
	make_all();
	for (int i = 0; i < 6; i++)
		claim(belongs(made[i], ALICE, SHARED_GROUP), "in a setgid directory a %s has its group", made[i]);
	claim((mode_of("dir") & S_ISGID) != 0, "a directory made there is setgid");
	claim((mode_of("file") & S_ISGID) == 0, "a file is not");
	umask(0);
	close((int)must(open("setgid", O_CREAT | O_RDWR, 02775)));
	claim(mode_of("setgid") == 0775, "nor can it be, for who is not in the group");
	must(mkdir("setgid-dir", 0777));
	claim(mode_of("setgid-dir") == 02777, "a directory can");
	must(chmod("file", 02775));
	claim(mode_of("file") == 0775, "nor by chmod");
	umask(022);
	must(chdir(".."));
}

static void
alice_in_the_group(void)
{
	must(chdir("setgid"));
	umask(0);
	close((int)must(open("member", O_CREAT | O_RDWR, 02775)));
	claim(mode_of("member") == 02775 && belongs("member", ALICE, SHARED_GROUP), "a member makes setgid files there");
	umask(022);
	put("chgrp", "x", 06755);
	must(chown("chgrp", (uid_t)-1, ALICE));
	claim(belongs("chgrp", ALICE, ALICE) && mode_of("chgrp") == 0755, "who gives to a group loses setuid and setgid");
	works(chown("chgrp", (uid_t)-1, SHARED_GROUP), "and may give to any group of his");
	refused(chown("chgrp", (uid_t)-1, BOB), EPERM, "to no other");
	refused(chown("chgrp", BOB, (gid_t)-1), EPERM, "nor to another user");
	must(chmod("chgrp", 06755));
	claim(mode_of("chgrp") == 06755, "the owner sets setuid and setgid");
	must(chdir(".."));
}

static int out_of(const char *path, int flags) { return (int)must(open(path, flags)); }

static void
by_write(const char *path)
{
	int fd = out_of(path, O_WRONLY);

	must(write(fd, "y", 1));
	close(fd);
}

static void
by_append(const char *path)
{
	int fd = out_of(path, O_WRONLY | O_APPEND);

	must(write(fd, "y", 1));
	close(fd);
}

static void by_open(const char *path) { close(out_of(path, O_WRONLY | O_TRUNC)); }
static void by_truncate(const char *path) { must(truncate(path, 1)); }

static void
by_ftruncate(const char *path)
{
	int fd = out_of(path, O_WRONLY);

	must(ftruncate(fd, 1));
	close(fd);
}

static void
by_fallocate(const char *path)
{
	int fd = out_of(path, O_WRONLY);

	must(fallocate(fd, 0, 0, 9000));
	close(fd);
}

static void
by_copy(const char *path)
{
	int fd = out_of(path, O_WRONLY), from = out_of("source", O_RDONLY);

	must(copy_file_range(from, NULL, fd, NULL, 5, 0));
	close(fd);
	close(from);
}

static const struct writing {
	const char *name;
	void (*run)(const char *path);
	const char *file;
} writings[] = {
	{ "write", by_write, "suid-write" },
	{ "append", by_append, "suid-append" },
	{ "O_TRUNC", by_open, "suid-open" },
	{ "truncate", by_truncate, "suid-truncate" },
	{ "ftruncate", by_ftruncate, "suid-ftruncate" },
	{ "fallocate", by_fallocate, "suid-fallocate" },
	{ "copy_file_range", by_copy, "suid-copy" },
};

static void
others_write(void)
{
	for (size_t i = 0; i < sizeof writings / sizeof *writings; i++) {
		const struct writing *w = &writings[i];

		w->run(w->file);
		claim(mode_of(w->file) == 0777, "%s by another clears setuid and setgid", w->name);
	}
}

/* Setgid without execution for the group. */
static void
others_write_plain(void)
{
	for (size_t i = 0; i < sizeof writings / sizeof *writings; i++) {
		char path[64];

		snprintf(path, sizeof path, "plain-%s", writings[i].file);
		writings[i].run(path);
		claim(mode_of(path) == 0666, "%s by who is not in the group clears setgid without execution",
		    writings[i].name);
	}
}

static void
members_write_plain(void)
{
	for (size_t i = 0; i < sizeof writings / sizeof *writings; i++) {
		char path[64];

		snprintf(path, sizeof path, "group-%s", writings[i].file);
		writings[i].run(path);
		claim(mode_of(path) == 02666, "%s by a member does not", writings[i].name);
	}
}

static void
put_plain(const char *prefix, const char *file, gid_t gid)
{
	char path[64];

	snprintf(path, sizeof path, "%s-%s", prefix, file);
	put(path, "some text", 0666);
	must(chown(path, 0, gid));
	must(chmod(path, 02666));
}

static void
owner_writes(void)
{
	by_write("hers-suid");
	claim(mode_of("hers-suid") == 0755, "the owner's write clears them, too");
	by_truncate("hers-suid2");
	claim(mode_of("hers-suid2") == 0755, "and truncate");
	must(chmod("hers-suid", 04755));
	claim(mode_of("hers-suid") == 04755, "until set again");
	by_write("hers-suid");
	claim(mode_of("hers-suid") == 0755, "and cleared again");
}

static void
roots_changes(void)
{
	put("roots", "x", 06755);
	usleep(100000);		/* the mount hears of the close a little later */
	by_write("roots");
	claim(mode_of("roots") == 06755, "root's own write clears nothing");
	by_truncate("roots");
	claim(mode_of("roots") == 06755, "nor does truncating");
	must(chown("roots", ALICE, BOB));
	claim(mode_of("roots") == 0755 && belongs("roots", ALICE, BOB), "a new owner does not get them");
	must(mkdir("rootdir", 0755));
	must(chmod("rootdir", 06755));
	must(chown("rootdir", ALICE, BOB));
	claim(mode_of("rootdir") == 06755, "a directory keeps them");
	must(symlink("roots", "rootlink"));
	must(lchown("rootlink", BOB, ALICE));
	claim(belongs("rootlink", BOB, ALICE) && belongs("roots", ALICE, BOB), "a link's owner is its own");
	must(chown("roots", (uid_t)-1, SHARED_GROUP));
	claim(belongs("roots", ALICE, SHARED_GROUP), "the group alone is changed");
	must(chown("roots", BOB, (gid_t)-1));
	claim(belongs("roots", BOB, SHARED_GROUP), "the owner alone is changed");
}

void
group_owners(void)
{
	modes_by_umask();
	if (!is_root)
		return;
	must(mkdir("setgid", 0777));
	must(chown("setgid", 0, SHARED_GROUP));
	must(chmod("setgid", 02777));
	as_user(ALICE, ALICE, 0, alice_makes);
	as_user(ALICE, ALICE, SHARED_GROUP, alice_in_the_group);
	put("source", "source", 0644);
	for (size_t i = 0; i < sizeof writings / sizeof *writings; i++) {
		put(writings[i].file, "some text", 06777);
		put_plain("plain", writings[i].file, 0);
		put_plain("group", writings[i].file, SHARED_GROUP);
	}
	usleep(100000);		/* the mount hears of the closes a little later */
	as_user(ALICE, ALICE, 0, others_write);
	as_user(ALICE, ALICE, 0, others_write_plain);
	as_user(ALICE, ALICE, SHARED_GROUP, members_write_plain);
	put("hers-suid", "x", 0755);
	put("hers-suid2", "x", 0755);
	must(chown("hers-suid", ALICE, ALICE));
	must(chown("hers-suid2", ALICE, ALICE));
	must(chmod("hers-suid", 06755));
	must(chmod("hers-suid2", 06755));
	as_user(ALICE, ALICE, 0, owner_writes);
	roots_changes();
}
