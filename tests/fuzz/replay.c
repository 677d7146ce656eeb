/*
 * A main for fuzz targets where there is no fuzzer: each input of the corpus
 * is one TAP test.  The inputs are the files named on the command line, else
 * all in $srcdir/tests/fuzz/corpus/NAME for the program fuzz_NAME; a target
 * without a corpus gets the empty input alone.  An input that breaks the
 * target ends the program, which the TAP driver counts as an error.
 */
#include "config.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 1 << 20 };

static int inputs;

static void
report(int ok, const char *path)
{
	printf("%s %d - %s is decoded or refused\n", ok ? "ok" : "not ok", ++inputs, path);
	fflush(stdout);
}

static void
replay(const char *path)
{
	/* Exactly as large as the input, so that a sanitizer sees each byte
	 * that is read beyond it. */
	uint8_t *all = malloc(INPUT_MAX), *data;
	FILE *f = fopen(path, "rb");
	size_t size;

	if (all == NULL || f == NULL) {
		report(0, path);
		goto out;
	}
	size = fread(all, 1, INPUT_MAX, f);
	data = malloc(size ? size : 1);
	if (data != NULL) {
		memcpy(data, all, size);
		LLVMFuzzerTestOneInput(data, size);
	}
	report(data != NULL, path);
	free(data);
out:
	if (f != NULL)
		fclose(f);
	free(all);
}

static void
replay_directory(const char *dir)
{
	struct dirent **names = NULL;
	char *path;
	int i, n = scandir(dir, &names, NULL, alphasort);

	for (i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.' && asprintf(&path, "%s/%s", dir, names[i]->d_name) >= 0) {
			replay(path);
			free(path);
		}
		free(names[i]);
	}
	free(names);
}

int
main(int argc, char **argv)
{
	const char *srcdir = getenv("srcdir"), *slash = strrchr(argv[0], '/');
	const char *name = slash != NULL ? slash + 1 : argv[0];
	char *dir;
	int i;

	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	report(1, "the empty input");
	for (i = 1; i < argc; i++)
		replay(argv[i]);
	if (argc == 1 && strncmp(name, "fuzz_", 5) == 0 &&
	    asprintf(&dir, "%s/tests/fuzz/corpus/%s", srcdir != NULL ? srcdir : ".", name + 5) >= 0) {
		replay_directory(dir);
		free(dir);
	}
	printf("1..%d\n", inputs);
	return 0;
}
