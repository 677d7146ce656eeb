/*
 * The table of names: one hash table over (directory, text), and a list of
 * names for each inode.
 */
#include "config.h"

#include "fs/names.h"

#include <assert.h>
#include <ctype.h>
#include <fnmatch.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>
#include <xxhash.h>

#include "replication/mem.h"

struct key {
	ino_t dir;
	const char *text;
};

static uint64_t
hash_of(ino_t dir, const char *text)
{
	return XXH3_64bits_withSeed(text, strlen(text), dir);
}

static uint64_t
hash(const struct table_link *link)
{
	const struct name *name = (const struct name *)link;

	return hash_of(name->dir, name->text);
}

static bool
equal(const struct table_link *link, const void *arg)
{
	const struct name *name = (const struct name *)link;
	const struct key *key = arg;

	return name->dir == key->dir && strcmp(name->text, key->text) == 0;
}

void
names_init(struct names *n)
{
	static_assert(offsetof(struct name, link) == 0, "a link is cast to its name");
	table_init(&n->table, hash);
}

void
names_fini(struct names *n)
{
	table_fini(&n->table);
}

struct name *
names_find(const struct names *n, ino_t dir, const char *text)
{
	const struct key key = { .dir = dir, .text = text };

	return (struct name *)table_find(&n->table, hash_of(dir, text), equal, &key);
}

struct name *
names_add(struct names *n, struct named *of, ino_t dir, const char *text)
{
	struct name *name = names_find(n, dir, text);
	size_t size = strlen(text) + 1;

	if (name != NULL) {
		assert(name->of == of);
		DL_DELETE(of->first, name);
	} else {
		name = mem_alloc(sizeof *name + size);
		name->of = of;
		name->dir = dir;
		memcpy(name->text, text, size);
		table_add(&n->table, &name->link);
	}
	DL_PREPEND(of->first, name);
	return name;
}

void
names_remove(struct names *n, struct name *name)
{
	table_remove(&n->table, &name->link);
	DL_DELETE(name->of->first, name);
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
