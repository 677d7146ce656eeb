/*
 * Editing the config file: one key is set or removed, or a section, and all other
 * lines stay as the person wrote them.
 */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "replication/mem.h"
#include "replication/settings.h"
#include "replication/settings_impl.h"

/* The text being built: a prefix of the old one, changed. */
struct edit {
	char *text;
	size_t len;
};

static void
keep(struct edit *e, const char *from, const char *to)
{
	size_t n = (size_t)(to - from);

	e->text = mem_resize(e->text, e->len + n + 1, 1);
	memcpy(e->text + e->len, from, n);
	e->len += n;
	e->text[e->len] = '\0';
}

static void
keep_str(struct edit *e, const char *s)
{
	keep(e, s, s + strlen(s));
}

static void
put_key(struct edit *e, const char *key, const char *value)
{
	if (e->len > 0 && e->text[e->len - 1] != '\n')
		keep_str(e, "\n");
	keep_str(e, key);
	keep_str(e, " = ");
	keep_str(e, value);
	keep_str(e, "\n");
}

/* A copy of the line at p, taken apart; free *copy afterwards. */
static struct line
peek_line(const char *p, char **copy)
{
	size_t n = (size_t)(settings_line_end(p) - p);

	*copy = mem_alloc(n + 1);
	memcpy(*copy, p, n);
	return settings_parse_line(*copy);
}

/* Does the line begin the section?  1: yes, 0: it begins another, -1: neither. */
static int
begins_section(const char *p, const char *section)
{
	char *copy;
	struct line line = peek_line(p, &copy);
	int is = line.kind == LINE_SECTION ? strcmp(line.key, section) == 0 : -1;

	free(copy);
	return is;
}

static bool
is_key(const char *p, const char *key)
{
	char *copy;
	struct line line = peek_line(p, &copy);
	bool is = line.kind == LINE_KEY && strcmp(line.key, key) == 0;

	free(copy);
	return is;
}

/* The new text with one key set or (value NULL) removed. */
static char *
edit_key(const char *text, const char *section, const char *key, const char *value)
{
	struct edit e = { 0 };
	bool inside = false, found = false, done = value == NULL;
	size_t after = 0;	/* past the section's last line that says something */

	keep_str(&e, "");
	for (const char *p = text, *next; *p != '\0'; p = next) {
		int begins = begins_section(p, section);

		next = settings_line_end(p);
		if (begins >= 0)
			inside = begins;
		if (inside && begins < 0 && is_key(p, key)) {
			if (!done)
				put_key(&e, key, value);
			done = true;
		} else {
			keep(&e, p, next);
		}
		if (inside) {
			found = true;
			if (*p != '\n')
				after = e.len;
		}
	}
	if (!done && found) {
		char *rest = mem_str(e.text + after);

		e.len = after;
		put_key(&e, key, value);
		keep_str(&e, rest);
		free(rest);
	} else if (!done) {
		if (e.len > 0)
			keep_str(&e, e.text[e.len - 1] == '\n' ? "\n" : "\n\n");
		keep_str(&e, "[");
		keep_str(&e, section);
		keep_str(&e, "]\n");
		put_key(&e, key, value);
	}
	return e.text;
}

static char *
edit_section_away(const char *text, const char *section)
{
	struct edit e = { 0 };
	bool inside = false;

	keep_str(&e, "");
	for (const char *p = text, *next; *p != '\0'; p = next) {
		int begins = begins_section(p, section);

		next = settings_line_end(p);
		if (begins >= 0)
			inside = begins;
		if (!inside)
			keep(&e, p, next);
	}
	return e.text;
}

/* What would be read back differently cannot be written. */
static bool
is_storable(const char *value)
{
	size_t len = strlen(value);

	if (len == 0 || isspace((unsigned char)value[0]) || isspace((unsigned char)value[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (iscntrl((unsigned char)value[i]))
			return false;
		if (value[i] == ';' && (i == 0 || isspace((unsigned char)value[i - 1])))
			return false;
	}
	return true;
}

/* Edits under a lock of the directory, so that two commands at once both count. */
static int
edit_config(int dirfd, const char *section, const char *key, const char *value)
{
	char *old, *new;
	int rc, lock = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (lock < 0)
		return -errno;
	if (flock(lock, LOCK_EX) < 0) {
		rc = -errno;
		goto out_lock;
	}
	if ((rc = settings_read_file(dirfd, &old)) < 0)
		goto out_lock;
	new = key != NULL ? edit_key(old, section, key, value) : edit_section_away(old, section);
	if (strcmp(old, new) != 0)
		rc = settings_write_file(dirfd, lock, new);
	free(old);
	free(new);
out_lock:
	close(lock);
	return rc;
}

int
settings_set(int dirfd, const char *section, const char *key, const char *value)
{
	if (value != NULL && !is_storable(value))
		return -EINVAL;
	return edit_config(dirfd, section, key, value);
}

int
settings_remove_section(int dirfd, const char *section)
{
	return edit_config(dirfd, section, NULL, NULL);
}
