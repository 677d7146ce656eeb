/*
 * The program: a table of subcommands.  Each takes its own options; `sibfs
 * COMMAND --help` shows that command's line of the table.
 */
#include "config.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tools/cli.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *arguments;
	const char *what;
} commands[] = {
	{ "init", cmd_init, "STORE --node NAME [--set ID]",
	    "make a directory a store; files in it are taken in" },
	{ "clone", cmd_clone, "URL [STORE] --node NAME [--identity FILE] [--no-wait]",
	    "make a new replica of the one at URL, and fetch all it has" },
	{ "mount", cmd_mount, "STORE [MOUNTPOINT] [-f] [-o OPTIONS]",
	    "mount a store, over itself if no MOUNTPOINT is given" },
	{ "umount", cmd_umount, "PATH [-l]",
	    "unmount it and end its daemon" },
	{ "peer", cmd_peer, "add STORE PEER URL [--identity FILE] [--join] | list STORE | remove STORE PEER | retire STORE NODE",
	    "whom to replicate with; URL is ssh://[user@]host[:port]/path or [user@]host:path" },
	{ "status", cmd_status, "PATH [--json]",
	    "links, what each side lacks, conflicts" },
	{ "conflicts", cmd_conflicts, "PATH [--json]",
	    "files with concurrent versions, and those versions" },
	{ "sync", cmd_sync, "PATH [PEER] [--timeout=S]",
	    "one full round in both directions now, also while paused" },
	{ "wait", cmd_sync, "PATH [--peer=PEER] [--timeout=S]",
	    "wait until the peers have what is here" },
	{ "pause", cmd_pause, "PATH [PEER]",
	    "stop replicating, until resume" },
	{ "resume", cmd_pause, "PATH [PEER]",
	    "go on replicating" },
	{ "doctor", cmd_doctor, "STORE [--json] [--adopt] [--rebuild] [--node NAME]",
	    "look a store over; make a lost index anew; take in what was changed behind the mount" },
	{ "serve", cmd_serve, "STORE [--peer NAME] [--read-only]",
	    "speak to a peer on stdin and stdout; run by ssh at the far end" },
};

enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static int
help(void)
{
	printf("sibfs mounts a directory whose files are replicated to peers over SSH;\n"
	    "concurrent versions stand beside each other as NAME.conflict-NODE.\n\n");
	for (size_t i = 0; i < COMMANDS; i++)
		printf("sibfs %s %s\n        %s\n", commands[i].name, commands[i].arguments, commands[i].what);
	printf("\nPATH is the store, its mount point or anything inside.  See man sibfs.\n");
	return CLI_DONE;
}

static int
run(const struct command *c, int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--help") == 0) {
			printf("usage: sibfs %s %s\n%s\n", c->name, c->arguments, c->what);
			return CLI_DONE;
		}
	}
	return c->run(argc, argv);
}

int
main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2)
		return cli_fail(CLI_USAGE, "no command given (see sibfs --help)");
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0 || strcmp(argv[1], "-h") == 0)
		return help();
	if (strcmp(argv[1], "--version") == 0) {
		printf("sibfs %s\n", PACKAGE_VERSION);
		return CLI_DONE;
	}
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return run(&commands[i], argc - 1, argv + 1);
	return cli_fail(CLI_USAGE, "%s is not a command (see sibfs --help)", argv[1]);
}
