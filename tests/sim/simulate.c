/*
 * The simulator: replicas of the real core on a network that cuts, stalls,
 * repeats and reorders, with crashes and clocks that jump, under laws that must
 * hold of every history.
 *
 * With no arguments it replays the histories that once failed
 * (tests/sim/histories), then runs others: the same ones each time and however
 * fast the machine is, unless told otherwise.  A failure is shrunk to few steps.
 */
#include "config.h"

#include <dirent.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"
#include "tests/sim/trial.h"

#define FIRST_SEED 1
#define HISTORIES 5000

static const char usage[] =
    "usage: simulate [--seed N] [--histories N | --seconds N] [--no-shrink] [FILE...]\n"
    "       simulate --print SEED\n"
    "A FILE is a history to be replayed.  Without --histories and --seconds, SIM_SECONDS\n"
    "is used if set, without --seed SIBFS_SEED.\n";

static unsigned claims;
static bool all_good = true;

static void
claim(bool good, const char *name)
{
	printf("%sok %u - %s\n", good ? "" : "not ", ++claims, name);
	fflush(stdout);
	all_good &= good;
}

static void
tell(const struct history *h, const struct verdict *v)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	fprintf(f, "%s\n", v->why);
	history_print(f, h);
	fclose(f);
	for (char *rest = text, *line; (line = strsep(&rest, "\n"));)
		if (*line)
			printf("# %s\n", line);
	free(text);
	fflush(stdout);
}

static void
replay_file(const char *path)
{
	struct history h;
	struct verdict v;
	char why[1100], *name = mem_printf("%s", strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
	FILE *f = fopen(path, "r");

	if (!f || !history_read(f, &h, why, sizeof(why))) {
		printf("# %s: %s\n", path, f ? why : "cannot be opened");
		claim(false, name);
	} else {
		trial_replay(&h, &v);
		claim(!v.failed, name);
		if (v.failed) {
			trial_shrink(&h, &v);
			tell(&h, &v);
		}
		history_fini(&h);
	}
	if (f)
		fclose(f);
	free(name);
}

static int
is_history(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return n > 4 && strcmp(e->d_name + n - 4, ".txt") == 0;
}

static void
replay_stored(void)
{
	const char *top = getenv("srcdir");
	char *dir = mem_printf("%s/tests/sim/histories", top ? top : ".");
	struct dirent **list;
	int n = scandir(dir, &list, is_history, alphasort);

	for (int i = 0; i < n; i++) {
		char *path = mem_printf("%s/%s", dir, list[i]->d_name);

		replay_file(path);
		free(path);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	free(dir);
}

static void
run_new(uint64_t first, uint64_t n, unsigned seconds, bool shrink)
{
	struct verdict v;
	struct history h;
	char *name;

	printf("# histories from seed %llu\n", (unsigned long long)first);
	fflush(stdout);
	trial_seeds(first, n, seconds, &v);
	printf("# %llu histories, %llu steps\n", (unsigned long long)v.histories, (unsigned long long)v.steps);
	if (!v.failed) {
		claim(true, "random histories keep all laws");
		return;
	}
	name = mem_printf("random histories keep all laws (seed %llu)", (unsigned long long)v.seed);
	claim(false, name);
	free(name);
	printf("# seed %llu: %s\n", (unsigned long long)v.seed, v.why);
	fflush(stdout);
	if (shrink) {
		trial_record(v.seed, &h, &v);
		trial_shrink(&h, &v);
		tell(&h, &v);
		history_fini(&h);
	}
}

static void
print_history(uint64_t seed)
{
	struct verdict v;
	struct history h;

	trial_record(seed, &h, &v);
	history_print(stdout, &h);
	history_fini(&h);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' },
		{ "histories", required_argument, NULL, 'n' },
		{ "seconds", required_argument, NULL, 't' },
		{ "no-shrink", no_argument, NULL, 'q' },
		{ "print", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	const char *seed = getenv("SIBFS_SEED"), *time_given = getenv("SIM_SECONDS");
	uint64_t first = seed ? strtoull(seed, NULL, 0) : FIRST_SEED;
	uint64_t n = time_given ? 0 : HISTORIES;
	unsigned seconds = time_given ? (unsigned)strtoul(time_given, NULL, 0) : 0;
	bool shrink = true, stored = true;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 's': first = strtoull(optarg, NULL, 0); stored = false; break;
		case 'n': n = strtoull(optarg, NULL, 0); stored = false; break;
		case 't': seconds = (unsigned)strtoul(optarg, NULL, 0); n = 0; break;
		case 'q': shrink = false; break;
		case 'p': print_history(strtoull(optarg, NULL, 0)); return 0;
		default: fputs(usage, stderr); return 2;
		}
	if (optind < argc) {
		for (; optind < argc; optind++)
			replay_file(argv[optind]);
	} else {
		if (stored)
			replay_stored();
		run_new(first, n, seconds, shrink);
	}
	printf("1..%u\n", claims);
	return all_good ? 0 : 1;
}
