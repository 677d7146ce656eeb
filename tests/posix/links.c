/*
 * Names of files: link counts, renames, files without a name.
 */
#include "config.h"

#include "tests/posix/posix.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

static int
renameat_flags(const char *a, const char *b, unsigned flags)
{
	return renameat2(AT_FDCWD, a, AT_FDCWD, b, flags);
}

static void
counts(void)
{
	struct stat st;
	int fd;

	put("a", "one", 0644);
	must(link("a", "b"));
	claim(links_of("a") == 2 && links_of("b") == 2, "both names have two links at once");
	must(link("b", "c"));
	claim(links_of("a") == 3 && links_of("b") == 3 && links_of("c") == 3, "all three have three");
	claim(stat_of("a").st_ino == stat_of("c").st_ino, "and the same number");
	put("b", "two", 0644);
	claim(holds("a", "two") && size_of("c") == 3, "what is written under one is read under another");
	must(chmod("c", 0600));
	claim(mode_of("a") == 0600, "a mode is that of all");
	must(unlink("a"));
	claim(links_of("b") == 2 && links_of("c") == 2, "a name less is a link less");
	must(rename("b", "d"));
	claim(links_of("c") == 2 && links_of("d") == 2, "a rename changes no count");
	must(rename("c", "d"));
	claim(links_of("c") == 2 && links_of("d") == 2, "a rename over another name of it does nothing");
	put("other", "other", 0644);
	must(rename("other", "c"));
	claim(links_of("d") == 1 && holds("c", "other"), "a rename over one name leaves the other");
	must(link("c", "e"));
	fd = (int)must(open("e", O_RDWR));
	must(unlink("c"));
	must(unlink("e"));
	claim(fstat(fd, &st) == 0 && st.st_nlink == 0, "an open file without a name has no links");
	claim(pwrite(fd, "XX", 2, 0) == 2 && ftruncate(fd, 3) == 0 && fchmod(fd, 0640) == 0, "but can be changed");
	claim(fstat(fd, &st) == 0 && st.st_size == 3 && (st.st_mode & 0777) == 0640, "and shows it");
	refused(linkat(fd, "", AT_FDCWD, "back", AT_EMPTY_PATH), ENOENT, "and gets no name any more");
	close(fd);
	/* As mail programs lock. */
	for (int i = 0; i < 20; i++) {
		char name[32];

		snprintf(name, sizeof name, "lock.%d", i);
		put(name, "", 0600);
		if (link(name, "lock") < 0 || links_of(name) != 2)
			claim(false, "link(2) and st_nlink: a lock is taken");
		must(unlink(name));
		must(unlink("lock"));
	}
	must(symlink("d", "s"));
	must(link("s", "s2"));
	claim(links_of("s") == 2 && S_ISLNK(stat_of("s2").st_mode), "a symbolic link has several names, too");
	must(mkfifo("fifo", 0600));
	must(link("fifo", "fifo2"));
	claim(links_of("fifo") == 2, "and a FIFO");
}

static void
directory_counts(void)
{
	must(mkdir("p", 0755));
	claim(links_of("p") == 2, "an empty directory has two links");
	must(mkdir("p/q", 0755));
	must(mkdir("p/r", 0755));
	claim(links_of("p") == 4, "each directory in it is one more");
	must(rename("p/q", "q"));
	claim(links_of("p") == 3 && links_of("q") == 2, "moved out, one less");
	must(rename("q", "p/r"));
	claim(links_of("p") == 3, "renamed over another, the same");
	must(rmdir("p/r"));
	claim(links_of("p") == 2, "removed, one less");
}

static void
renames(void)
{
	struct stat dot;
	ino_t parent;

	must(mkdir("from", 0755));
	must(mkdir("to", 0755));
	must(mkdir("from/dir", 0755));
	put("from/dir/x", "x", 0644);
	must(rename("from/dir", "to/dir"));
	parent = stat_of("to").st_ino;
	must(stat("to/dir/..", &dot));
	claim(dot.st_ino == parent && holds("to/dir/x", "x"), "a moved directory has its new parent");
	refused(access("from/dir", F_OK), ENOENT, "and left the old one");
	put("x", "x", 0644);
	put("y", "y", 0644);
	must(renameat_flags("x", "y", RENAME_EXCHANGE));
	claim(holds("x", "y") && holds("y", "x"), "RENAME_EXCHANGE of files");
	must(renameat_flags("x", "to/dir", RENAME_EXCHANGE));
	claim(holds("to/dir", "y") && holds("x/x", "x"), "of a file and a directory");
	must(stat("x/..", &dot));
	claim(dot.st_ino == stat_of(".").st_ino, "which has its new parent");
	must(renameat_flags("y", "z", RENAME_NOREPLACE));
	claim(holds("z", "x"), "RENAME_NOREPLACE to a free name");
	must(mkdir("empty", 0755));
	works(rename("x", "empty"), "a directory over an empty one");
	claim(holds("empty/x", "x"), "with what is in it");
	works(rename("z", "z"), "a rename to itself");
	must(symlink("z", "symlink"));
	must(rename("symlink", "empty/symlink"));
	claim(S_ISLNK(stat_of("empty/symlink").st_mode) && holds("z", "x"), "a link is moved, not what it points to");
}

static void
working_directory(void)
{
	char cwd[PATH_MAX], here[PATH_MAX];

	must(mkdir("w", 0755));
	must(mkdir("w/d", 0755));
	must(getcwd(here, sizeof here) ? 0 : -1);
	must(chdir("w/d"));
	must(rename("../../w", "../../v"));
	must(getcwd(cwd, sizeof cwd) ? 0 : -1);
	claim(strncmp(cwd, here, strlen(here)) == 0 && strcmp(cwd + strlen(here), "/v/d") == 0,
	    "the working directory goes along");
	put("made", "x", 0644);
	claim(access("../../v/d/made", F_OK) == 0, "and is worked in");
	must(unlink("made"));
	must(rmdir("../d"));
	refused(open("made", O_CREAT | O_RDWR, 0644), ENOENT, "nothing is made in one that was removed");
	refused(getcwd(cwd, sizeof cwd) ? 0 : -1, ENOENT, "which has no path");
	claim(stat_of(".").st_nlink == 0, "nor links");
	must(chdir(here));
}

static void
unnamed_files(void)
{
	char path[64];
	struct stat st;
	int fd = open(".", O_TMPFILE | O_RDWR, 0666);

	if (fd < 0) {
		claim(false, "O_TMPFILE: %s", strerror(errno));
		return;
	}
	must(fstat(fd, &st));
	claim(st.st_nlink == 0 && (st.st_mode & 07777) == 0644 && st.st_uid == geteuid(),
	    "O_TMPFILE: no name, the caller's, with its umask");
	claim(write(fd, "unnamed", 7) == 7 && fstat(fd, &st) == 0 && st.st_size == 7, "it is written");
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	works(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW), "it is given a name");
	claim(holds("named", "unnamed") && links_of("named") == 1, "under which it stands whole");
	must(fstat(fd, &st));
	claim(st.st_nlink == 1, "and its descriptor knows");
	claim(write(fd, "!", 1) == 1 && holds("named", "unnamed!"), "and goes on writing");
	refused(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW), EEXIST, "not over another");
	close(fd);
	claim(holds("named", "unnamed!"), "closed, it is all there");
	fd = (int)must(open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600));
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	refused(linkat(AT_FDCWD, path, AT_FDCWD, "never", AT_SYMLINK_FOLLOW), ENOENT, "with O_EXCL it never gets a name");
	close(fd);
	refused(open("named", O_TMPFILE | O_RDWR, 0600), ENOTDIR, "it is made in directories only");
	refused(open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL, "and to be written");
}

static void
stable_numbers(void)
{
	ino_t ino;

	put("n1", "x", 0644);
	ino = stat_of("n1").st_ino;
	must(rename("n1", "n2"));
	put("n2", "longer", 0644);
	claim(stat_of("n2").st_ino == ino, "a number stays through writes and renames");
}

void
group_links(void)
{
	counts();
	directory_counts();
	renames();
	working_directory();
	unnamed_files();
	stable_numbers();
}
