/*
 * The table of names: one hash table over (directory, text), and a list of
 * names for each inode.
 */
#include "config.h"

#include "fs/names.h"

#include <assert.h>
#include <ctype.h>
#include <fnmatch.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "replication/mem.h"

/* The hash key: a directory's number and the bytes of the name after it, as
 * they lie in struct name. */
struct key {
	ino_t dir;
	char text[NAME_MAX + 1];
};

static_assert(offsetof(struct name, text) - offsetof(struct name, dir) == offsetof(struct key, text),
    "a key has the layout of the end of struct name");

static unsigned
key_length(size_t text_length)
{
	return (unsigned)(offsetof(struct key, text) + text_length);
}

struct name *
names_find(const struct names *n, ino_t dir, const char *text)
{
	struct key key = { .dir = dir };
	struct name *name;
	size_t length = strlen(text);

	if (length > NAME_MAX)
		return NULL;
	memcpy(key.text, text, length);
	HASH_FIND(hh, n->table, &key, key_length(length), name);
	return name;
}

struct name *
names_add(struct names *n, struct named *of, ino_t dir, const char *text)
{
	struct name *name = names_find(n, dir, text);
	size_t length = strlen(text);

	if (name != NULL) {
		assert(name->of == of);
		DL_DELETE(of->first, name);
	} else {
		name = mem_alloc(sizeof *name + length + 1);
		name->of = of;
		name->dir = dir;
		memcpy(name->text, text, length + 1);
		HASH_ADD_KEYPTR(hh, n->table, &name->dir, key_length(length), name);
	}
	DL_PREPEND(of->first, name);
	return name;
}

void
names_remove(struct names *n, struct name *name)
{
	HASH_DEL(n->table, name);
	DL_DELETE(name->of->first, name);
	free(name->was);
	free(name);
}

/*
 * QSaveFile and mkstemp: a dot and six letters or digits at random.  Upper case
 * together with something else is asked for, which few real extensions have.
 */
static bool
ends_at_random(const char *text)
{
	const char *dot = strrchr(text, '.');
	int upper = 0, other = 0;

	if (dot == NULL || dot == text || strlen(dot + 1) != 6)
		return false;
	for (const char *p = dot + 1; *p != '\0'; p++) {
		if (!isalnum((unsigned char)*p))
			return false;
		if (isupper((unsigned char)*p))
			upper++;
		else
			other++;
	}
	return upper > 0 && other > 0;
}

bool
name_is_passing(const char *text)
{
	static const char *const patterns[] = {
		"*~",			/* backup files of most editors */
		".*.sw?", ".*.sw?x",	/* vim: swap files, a probe beside them */
		"4913",			/* vim asks whether it may create files */
		".#*", "#*#",		/* Emacs: locks, auto-save files */
		".goutputstream-*",	/* GLib */
		"sed[A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9]",
		".~lock.*#",		/* LibreOffice */
	};

	for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
		if (fnmatch(patterns[i], text, 0) == 0)
			return true;
	return ends_at_random(text);
}
