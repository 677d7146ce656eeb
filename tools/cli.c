/*
 * Errors, exit statuses and small numbers as text, alike in all subcommands.
 */
#include "config.h"

#include "tools/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void __attribute__((format(printf, 1, 0)))
say(const char *fmt, va_list ap)
{
	char line[CLI_LINE_MAX];

	vsnprintf(line, sizeof(line), fmt, ap);
	for (char *p = line; *p != '\0'; p++)
		if (*p == '\n')
			*p = ' ';
	fprintf(stderr, "sibfs: %s", line);
}

int
cli_fail(enum cli_exit status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return status;
}

int
cli_usage(const char *command, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	fprintf(stderr, " (see sibfs %s --help)\n", command);
	return CLI_USAGE;
}

enum cli_exit
cli_exit_of(int rc)
{
	switch (rc) {
	case -EBUSY:
		return CLI_BUSY;
	case -ENOENT:
	case -ENOTDIR:
		return CLI_NO_STORE;
	default:
		return CLI_FAILED;
	}
}

int
cli_seconds(const char *text)
{
	char *end;
	long s;

	errno = 0;
	s = strtol(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && s >= 0 && s <= 1000000 ? (int)s : -1;
}

const char *
cli_size(unsigned long long bytes, char out[16])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double n = (double)bytes;
	int unit = 0;

	while (n >= 1000 && unit < 6) {
		n /= 1024;
		unit++;
	}
	snprintf(out, 16, unit > 0 && n < 10 ? "%.1f %s" : "%.0f %s", n, units[unit]);
	return out;
}
