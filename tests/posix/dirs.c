/*
 * Reading directories, also while their names change.
 */
#include "config.h"

#include "tests/posix/posix.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 1500 };

static char *
nth(int i)
{
	static char name[64];

	snprintf(name, sizeof name, "name-of-some-length-%05d", i);
	return name;
}

/* Counts each of the MANY names in seen[]; returns how many others came. */
static int
read_all(DIR *d, unsigned char *seen)
{
	struct dirent *de;
	int others = 0, i;

	memset(seen, 0, MANY);
	while ((de = readdir(d)) != NULL) {
		if (sscanf(de->d_name, "name-of-some-length-%d", &i) == 1 && i < MANY)
			seen[i]++;
		else if (de->d_name[0] != '.')
			others++;
	}
	return others;
}

static bool
each_once(const unsigned char *seen, int from, int step)
{
	for (int i = from; i < MANY; i += step)
		if (seen[i] != 1)
			return false;
	return true;
}

static bool
none_twice(const unsigned char *seen)
{
	for (int i = 0; i < MANY; i++)
		if (seen[i] > 1)
			return false;
	return true;
}

static void
whole(DIR *d, unsigned char *seen)
{
	claim(read_all(d, seen) == 0 && each_once(seen, 0, 1), "each name comes once");
	rewinddir(d);
	claim(read_all(d, seen) == 0 && each_once(seen, 0, 1), "and once more after rewinddir");
	put("new", "x", 0644);
	rewinddir(d);
	claim(read_all(d, seen) == 1 && each_once(seen, 0, 1), "rewinddir shows what is new");
	must(unlink("new"));
	rewinddir(d);
	claim(read_all(d, seen) == 0, "and not what is gone");
}

static void
positions(DIR *d)
{
	static struct { long at; char name[64]; } marks[MANY + 2];
	struct dirent *de;
	int n = 0;
	bool right = true;

	rewinddir(d);
	for (;;) {
		marks[n].at = telldir(d);
		de = readdir(d);
		if (de == NULL || n > MANY)
			break;
		strcpy(marks[n++].name, de->d_name);
	}
	for (int i = n - 1; i >= 0 && right; i -= 7) {
		seekdir(d, marks[i].at);
		de = readdir(d);
		right = de != NULL && strcmp(de->d_name, marks[i].name) == 0;
	}
	claim(right, "seekdir finds what telldir told");
	for (int i = 0; i < n; i++)
		if (i % 3 == 0 && marks[i].name[0] != '.')
			must(unlink(marks[i].name));
	right = true;
	for (int i = 1; i < n && right; i += 3) {
		if (marks[i].name[0] == '.')
			continue;
		seekdir(d, marks[i].at);
		de = readdir(d);
		right = de != NULL && strcmp(de->d_name, marks[i].name) == 0;
	}
	claim(right, "also after others were removed");
	for (int i = 0; i < n; i++)
		if (i % 3 == 0 && marks[i].name[0] != '.')
			put(marks[i].name, "", 0644);
}

static void
while_changing(unsigned char *seen)
{
	DIR *d = opendir(".");
	struct dirent *de;
	int i, n = 0;

	/* Those of even number go, others come, while it is read. */
	memset(seen, 0, MANY);
	while ((de = readdir(d)) != NULL) {
		char name[64];

		if (sscanf(de->d_name, "name-of-some-length-%d", &i) == 1 && i < MANY)
			seen[i]++;
		if (n < MANY / 2) {
			unlink(nth(2 * n));
			snprintf(name, sizeof name, "added-%d", n++);
			put(name, "", 0644);
		}
	}
	claim(each_once(seen, 1, 2), "names that stay come once while others come and go");
	claim(none_twice(seen), "and none comes twice");
	rewinddir(d);
	claim(read_all(d, seen) == n && each_once(seen, 1, 2), "read anew, all is as it is");
	n = 0;
	rewinddir(d);
	while ((de = readdir(d)) != NULL)
		if (de->d_name[0] != '.' && unlink(de->d_name) == 0)
			n++;
	closedir(d);
	d = opendir(".");
	claim(read_all(d, seen) == 0 && none_twice(seen), "rm -r removes all that it reads");
	closedir(d);
	must(chdir(".."));
	works(rmdir("many"), "and then the directory");
}

static void
types_and_numbers(void)
{
	DIR *d;
	struct dirent *de;
	int right = 0;

	must(mkdir("types", 0755));
	must(chdir("types"));
	put("file", "x", 0644);
	must(mkdir("dir", 0755));
	must(symlink("x", "link"));
	must(mkfifo("fifo", 0644));
	d = opendir(".");
	while ((de = readdir(d)) != NULL) {
		struct stat st = stat_of(de->d_name);

		if (strcmp(de->d_name, "..") == 0)
			continue;
		right += de->d_ino == st.st_ino && (de->d_type == IFTODT(st.st_mode));
	}
	claim(right == 5, "types and numbers are those of stat");
	closedir(d);
	d = opendir(".");
	must(mkdir("late", 0755));
	must(rmdir("late"));
	closedir(d);
	must(chdir(".."));
}

static void
removed(void)
{
	DIR *d;
	int fd;

	must(mkdir("removed", 0755));
	d = opendir("removed");
	fd = (int)must(open("removed", O_RDONLY | O_DIRECTORY));
	must(rmdir("removed"));
	while (readdir(d) != NULL)
		continue;
	closedir(d);
	claim(true, "a removed directory is read without end or error");
	refused(openat(fd, "x", O_CREAT | O_RDWR, 0644), ENOENT, "nothing is made in it");
	refused(mkdirat(fd, "x", 0755), ENOENT, "no directory either");
	claim(fsync(fd) == 0, "fsync of a directory");
	close(fd);
}

void
group_dirs(void)
{
	unsigned char *seen = malloc(MANY);
	DIR *d;

	must(mkdir("many", 0755));
	must(chdir("many"));
	for (int i = 0; i < MANY; i++)
		close((int)must(open(nth(i), O_CREAT | O_WRONLY, 0644)));
	d = opendir(".");
	whole(d, seen);
	positions(d);
	closedir(d);
	while_changing(seen);
	types_and_numbers();
	removed();
	free(seen);
}
