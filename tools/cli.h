/*
 * What all subcommands share: exit statuses, and one way to say what went
 * wrong.
 */
#ifndef SIBFS_CLI_H
#define SIBFS_CLI_H

#include <stddef.h>

/* For scripts; the man page lists them. */
enum cli_exit {
	CLI_DONE = 0,
	CLI_DIFFERENT = 1,	/* status, conflicts: there are some */
	CLI_USAGE = 2,
	CLI_FAILED = 3,
	CLI_NO_STORE = 4,
	CLI_BUSY = 5,		/* mounted or served already */
	CLI_PEER = 6,		/* a peer is unreachable or refuses */
	CLI_TIMEOUT = 7,
};

enum { CLI_LINE_MAX = 1024 };

/* Prints one line, `sibfs: ...`, to stderr.  Returns status. */
int		 cli_fail(enum cli_exit status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The same with CLI_USAGE and a pointer to the command's help. */
int		 cli_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What an errno of opening a store means to the caller. */
enum cli_exit	 cli_exit_of(int rc);

/* Seconds from an option's text; -1 if it is none. */
int		 cli_seconds(const char *text);

/* 1536 -> "1.5 KiB"; out holds at least 16 bytes. */
const char	*cli_size(unsigned long long bytes, char out[16]);

/* The subcommands; argv[0] is the subcommand's name. */
int		 cmd_init(int argc, char **argv);
int		 cmd_clone(int argc, char **argv);
int		 cmd_mount(int argc, char **argv);
int		 cmd_umount(int argc, char **argv);
int		 cmd_serve(int argc, char **argv);
int		 cmd_peer(int argc, char **argv);
int		 cmd_pause(int argc, char **argv);	/* and resume */
int		 cmd_status(int argc, char **argv);
int		 cmd_conflicts(int argc, char **argv);
int		 cmd_doctor(int argc, char **argv);
int		 cmd_sync(int argc, char **argv);	/* and wait */

#endif
