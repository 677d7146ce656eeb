/*
 * Allocation that succeeds or ends the process.  See mem.h for why that is
 * safe.
 */
#include "config.h"

#include "replication/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/log.h"

static void *
require(void *p)
{
	if (p == NULL) {
		log_err("out of memory");
		abort();
	}
	return p;
}

void *
mem_alloc(size_t size)
{
	return require(calloc(1, size > 0 ? size : 1));
}

void *
mem_resize(void *p, size_t n, size_t size)
{
	if (size > 0 && n > SIZE_MAX / size)
		require(NULL);
	return require(realloc(p, n * size > 0 ? n * size : 1));
}

void *
mem_dup(const void *p, size_t size)
{
	return size > 0 ? memcpy(require(malloc(size)), p, size) : NULL;
}

char *
mem_str(const char *s)
{
	return s != NULL ? require(strdup(s)) : NULL;
}

char *
mem_printf(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	return require(s);
}
