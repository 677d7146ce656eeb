/*
 * Files mapped into memory, and executed.
 */
#include "config.h"

#include "tests/posix/posix.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { SIZE = 16384 };

static char *
map(int fd, int prot, int flags)
{
	char *p = mmap(NULL, SIZE, prot, flags, fd, 0);

	must(p == MAP_FAILED ? -1 : 0);
	return p;
}

static int
read_byte(void *arg)
{
	volatile char *p = arg;

	return *p == 'c';
}

static void
shared(void)
{
	int fd = (int)must(open("m", O_RDWR | O_CREAT, 0644));
	char *p, *q, buf[8] = "";

	must(ftruncate(fd, SIZE));
	p = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	memcpy(p + 5000, "mapped", 6);
	claim(pread(fd, buf, 6, 5000) == 6 && memcmp(buf, "mapped", 6) == 0, "what is stored is read at once");
	must(pwrite(fd, "written", 7, 6000));
	claim(memcmp(p + 6000, "written", 7) == 0, "what is written is mapped at once");
	q = map(fd, PROT_READ, MAP_SHARED);
	p[0] = 'q';
	claim(q[0] == 'q', "two mappings show the same");
	must(munmap(q, SIZE));
	claim(msync(p, SIZE, MS_SYNC) == 0, "msync");
	close(fd);
	p[1] = 'r';
	must(munmap(p, SIZE));
	fd = (int)must(open("m", O_RDONLY));
	claim(pread(fd, buf, 2, 0) == 2 && buf[0] == 'q' && buf[1] == 'r', "stores after close(2) stay");
	p = map(fd, PROT_READ, MAP_SHARED);
	claim(p[1] == 'r', "a file open for reading is mapped");
	must(munmap(p, SIZE));
	p = map(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	p[1] = 'p';
	claim(pread(fd, buf, 2, 0) == 2 && buf[1] == 'r', "a private mapping changes no file");
	must(munmap(p, SIZE));
	refused(mmap(NULL, SIZE, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0, EACCES,
	    "what is open for reading is not mapped for writing");
	close(fd);
}

static void
without_name(void)
{
	int fd = (int)must(open("gone", O_RDWR | O_CREAT, 0644));
	char *p, buf[8] = "";

	must(ftruncate(fd, SIZE));
	p = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	p[0] = 'a';
	must(unlink("gone"));
	p[4096] = 'b';
	claim(p[0] == 'a' && pread(fd, buf, 1, 4096) == 1 && buf[0] == 'b', "unlinked while mapped, it works on");
	close(fd);
	p[8192] = 'c';
	claim(in_child(read_byte, p + 8192) == 1, "and after it is closed");
	must(munmap(p, SIZE));
}

static int
store_behind_the_end(void *arg)
{
	char *p = arg;

	signal(SIGBUS, SIG_DFL);	/* not a sanitizer's business */
	p[8192] = 'x';
	return 0;
}

static void
cut_while_mapped(void)
{
	int fd = (int)must(open("cut", O_RDWR | O_CREAT, 0644));
	char *p, buf[4096];

	must(ftruncate(fd, SIZE));
	p = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	memset(p, 'x', SIZE);
	must(ftruncate(fd, 5000));
	claim(in_child(store_behind_the_end, p) == 128 + SIGBUS, "behind the end there is nothing to store to");
	must(ftruncate(fd, SIZE));
	claim(p[4999] == 'x' && p[5000] == 0 && p[8192] == 0, "what was cut off is zero in mappings");
	claim(pread(fd, buf, 4096, 8192) == 4096 && buf[0] == 0 && buf[4095] == 0, "and when read");
	must(munmap(p, SIZE));
	close(fd);
}

static int
run_copy(void *arg)
{
	execl(arg, "echo", "-n", NULL);
	return 126;
}

static void
programs(void)
{
	if (system("cp /bin/echo echo && chmod 755 echo") != 0)
		claim(false, "a program is copied");
	claim(in_child(run_copy, (char *)"./echo") == 0, "a program runs");
	must(chmod("echo", 0644));
	claim(in_child(run_copy, (char *)"./echo") == 126, "not without the right to");
	must(chmod("echo", 0111));
	claim(in_child(run_copy, (char *)"./echo") == 0, "and with no other right");
	put("script", "#!/bin/sh\nexit 7\n", 0755);
	claim(in_child(run_copy, (char *)"./script") == 7, "a script runs");
	put("script", "#!/bin/sh\nexit 8\n", 0755);
	claim(in_child(run_copy, (char *)"./script") == 8, "and as it was changed");
}

static int
store_letter(void *arg)
{
	char *p = arg;

	*p = 'c';
	return 0;
}

static void
between_processes(void)
{
	int fd = (int)must(open("both", O_RDWR | O_CREAT, 0644));
	char *p;

	must(ftruncate(fd, SIZE));
	p = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
	in_child(store_letter, p + 77);
	claim(p[77] == 'c', "processes share a mapping");
	must(munmap(p, SIZE));
	close(fd);
}

void
group_maps(void)
{
	shared();
	without_name();
	cut_while_mapped();
	programs();
	between_processes();
}
