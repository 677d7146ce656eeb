/*
 * Reading and editing the config file.  An edit must leave every other line as
 * the person wrote it, so reading and editing share one idea of what a line
 * is.  (libinih cuts lines at 200 bytes as it is commonly built, which is
 * less than a path may need, and it cannot write.)
 *
 * A line is `[section]`, `key = value`, a comment (`;` or `#` first) or blank.
 * A `;` after white space begins a comment too.
 */
#include "config.h"

#include "replication/settings.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/log.h"
#include "replication/mem.h"

enum { CONFIG_MAX_BYTES = 1 << 20 };

#define CONFIG_NAME "config"
#define CONFIG_NEW "config.new"

bool
settings_node_valid(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > SETTINGS_NODE_MAX || name[0] == '-' || name[0] == '_')
		return false;
	for (size_t i = 0; i < len; i++)
		if ((name[i] & 0x80) || !(isalnum(name[i]) || name[i] == '-' || name[i] == '_'))
			return false;
	return true;
}

/* ---- lines ------------------------------------------------------------- */

enum line_kind { LINE_BLANK, LINE_SECTION, LINE_KEY, LINE_BAD };

struct line {
	enum line_kind kind;
	char *key;		/* of a section: its name */
	char *value;
};

static char *
trim(char *s)
{
	char *end = s + strlen(s);

	while (end > s && isspace((unsigned char)end[-1]))
		*--end = '\0';
	while (isspace((unsigned char)*s))
		s++;
	return s;
}

static void
cut_comment(char *s)
{
	for (char *p = s; *p != '\0'; p++)
		if (*p == ';' && p > s && isspace((unsigned char)p[-1])) {
			*p = '\0';
			return;
		}
}

/* Takes a line apart, in place. */
static struct line
parse_line(char *text)
{
	struct line line = { LINE_BAD, NULL, NULL };
	char *s, *end;

	s = trim(text);
	if (*s == '\0' || *s == ';' || *s == '#') {
		line.kind = LINE_BLANK;
		return line;
	}
	cut_comment(s);
	s = trim(s);
	if (*s == '[') {
		if ((end = strchr(s, ']')) == NULL || end[1] != '\0')
			return line;
		*end = '\0';
		line.kind = LINE_SECTION;
		line.key = trim(s + 1);
		return line;
	}
	if ((end = strchr(s, '=')) == NULL || end == s)
		return line;
	*end = '\0';
	line.kind = LINE_KEY;
	line.key = trim(s);
	line.value = trim(end + 1);
	return line;
}

/* The end of the line at p: past its newline, or the end of the text. */
static const char *
line_end(const char *p)
{
	const char *nl = strchr(p, '\n');

	return nl != NULL ? nl + 1 : p + strlen(p);
}

/* ---- the file ---------------------------------------------------------- */

static int
read_all(int fd, char *text, size_t size)
{
	size_t n = 0;
	ssize_t got;

	while (n < size && (got = read(fd, text + n, size - n)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		n += (size_t)got;
	}
	return 0;
}

/* The whole file, NUL-terminated and allocated; "" if there is none. */
static int
read_config(int dirfd, char **out)
{
	struct stat st;
	char *text;
	int rc, fd = openat(dirfd, CONFIG_NAME, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		if (errno != ENOENT)
			return -errno;
		*out = mem_str("");
		return 0;
	}
	if (fstat(fd, &st) < 0) {
		rc = -errno;
		goto err_fd;
	}
	if (!S_ISREG(st.st_mode) || st.st_size > CONFIG_MAX_BYTES) {
		rc = -EFBIG;
		goto err_fd;
	}
	text = mem_alloc((size_t)st.st_size + 1);
	if ((rc = read_all(fd, text, (size_t)st.st_size)) < 0)
		goto err_text;
	close(fd);
	*out = text;
	return 0;

err_text:
	free(text);
err_fd:
	close(fd);
	return rc;
}

static int
write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t put = write(fd, p, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		p += put;
		n -= (size_t)put;
	}
	return 0;
}

/* Puts text in the file's place; it survives a power cut whole, old or new. */
static int
write_config(int dirfd, int lock, const char *text)
{
	int rc, fd = openat(dirfd, CONFIG_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	rc = write_all(fd, text, strlen(text));
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	close(fd);
	if (rc == 0 && renameat(dirfd, CONFIG_NEW, dirfd, CONFIG_NAME) < 0)
		rc = -errno;
	if (rc == 0 && fsync(lock) < 0)
		rc = -errno;
	if (rc < 0)
		unlinkat(dirfd, CONFIG_NEW, 0);
	return rc;
}

/* ---- reading ----------------------------------------------------------- */

static int
parse_bool(const char *value, bool *out)
{
	static const char *const yes[] = { "yes", "true", "on", "1" };
	static const char *const no[] = { "no", "false", "off", "0" };

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		if (strcmp(value, yes[i]) == 0 || strcmp(value, no[i]) == 0) {
			*out = strcmp(value, yes[i]) == 0;
			return 0;
		}
	}
	return -EINVAL;
}

static int
parse_transport(const char *value, enum transport_kind *out)
{
	if (strcmp(value, "auto") == 0)
		*out = TRANSPORT_AUTO;
	else if (strcmp(value, "ssh2") == 0)
		*out = TRANSPORT_SSH2;
	else if (strcmp(value, "ssh") == 0)
		*out = TRANSPORT_SSH;
	else
		return -EINVAL;
	return 0;
}

static int
parse_days(const char *value, unsigned *out)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (!*value || *end || value[strspn(value, "0123456789")] || n > 36500)
		return -EINVAL;
	*out = (unsigned)n;
	return 0;
}

static int
set_text(char **field, const char *value)
{
	free(*field);
	*field = mem_str(value);
	return 0;
}

static int
set_node(char **field, const char *value)
{
	return settings_node_valid(value) ? set_text(field, value) : -EINVAL;
}

static int
set_url(char **field, const char *value)
{
	struct transport_url u;

	if (transport_url_parse(value, &u) < 0)
		return -EINVAL;
	transport_url_fini(&u);
	return set_text(field, value);
}

/* 5% or a number of bytes as limits have it. */
static int
parse_reserve(const char *value, struct reserve *out)
{
	struct reserve r = { .set = true };
	struct limit bytes;
	int end = 0;

	if (sscanf(value, "%3u%%%n", &r.percent, &end) == 1 && end && value[end] == '\0') {
		if (r.percent > 99)
			return -EINVAL;
	} else {
		r.percent = 0;
		if (strchr(value, ':') || limit_parse(value, &bytes) < 0)
			return -EINVAL;
		r.bytes = bytes.rate;
	}
	*out = r;
	return 0;
}

static int
parse_owners(const char *value, enum owners *out)
{
	bool on;

	if (strcmp(value, "name") == 0)
		*out = OWNERS_BY_NAME;
	else if (strcmp(value, "number") == 0)
		*out = OWNERS_BY_NUMBER;
	else if (parse_bool(value, &on) == 0 && !on)
		*out = OWNERS_NOT;
	else
		return -EINVAL;
	return 0;
}

/* 1: no such key. */
static int
set_replica_key(struct settings *s, const char *key, const char *value)
{
	if (strcmp(key, "node") == 0)
		return set_node(&s->node, value);
	if (strcmp(key, "set") == 0)
		return set_text(&s->set, value);
	if (strcmp(key, "paused") == 0)
		return parse_bool(value, &s->paused);
	if (strcmp(key, "min_free") == 0)
		return parse_reserve(value, &s->min_free);
	if (strcmp(key, "owners") == 0)
		return parse_owners(value, &s->owners);
	if (strcmp(key, "setuid") == 0)
		return parse_bool(value, &s->setuid);
	if (strcmp(key, "absent_days") == 0)
		return parse_days(value, &s->absent_days);
	return 1;
}

static int
set_peer_key(struct settings_peer *p, const char *key, const char *value)
{
	if (strcmp(key, "url") == 0)
		return set_url(&p->url, value);
	if (strcmp(key, "identity") == 0)
		return set_text(&p->identity, value);
	if (strcmp(key, "transport") == 0)
		return parse_transport(value, &p->transport);
	if (strcmp(key, "join") == 0)
		return parse_bool(value, &p->join);
	if (strcmp(key, "paused") == 0)
		return parse_bool(value, &p->paused);
	if (strcmp(key, "limit") == 0)
		return limit_parse(value, &p->limit);
	return 1;
}

struct settings_peer *
settings_find(const struct settings *s, const char *peer)
{
	for (size_t i = 0; i < s->peers_len; i++)
		if (strcmp(s->peers[i].name, peer) == 0)
			return &s->peers[i];
	return NULL;
}

static struct settings_peer *
add_peer(struct settings *s, const char *name)
{
	struct settings_peer *p = settings_find(s, name);

	if (p != NULL)
		return p;
	s->peers = mem_resize(s->peers, s->peers_len + 1, sizeof(*s->peers));
	p = &s->peers[s->peers_len++];
	memset(p, 0, sizeof(*p));
	p->name = mem_str(name);
	return p;
}

/* Where the lines that follow belong. */
enum where { IN_NOTHING, IN_REPLICA, IN_PEER, IN_UNKNOWN };

static int
enter_section(struct settings *s, const char *name, enum where *where, size_t *peer)
{
	const char *peer_name;

	if (strcmp(name, "replica") == 0) {
		*where = IN_REPLICA;
		return 0;
	}
	if (strncmp(name, "peer", 4) != 0 || !isspace((unsigned char)name[4])) {
		*where = IN_UNKNOWN;
		return 1;
	}
	for (peer_name = name + 4; isspace((unsigned char)*peer_name); peer_name++)
		;
	if (!settings_node_valid(peer_name))
		return -EINVAL;
	*where = IN_PEER;
	*peer = (size_t)(add_peer(s, peer_name) - s->peers);
	return 0;
}

static int
take_line(struct settings *s, const struct line *line, enum where *where, size_t *peer)
{
	switch (line->kind) {
	case LINE_BLANK:
		return 0;
	case LINE_SECTION:
		return enter_section(s, line->key, where, peer);
	case LINE_KEY:
		if (*where == IN_REPLICA)
			return set_replica_key(s, line->key, line->value);
		if (*where == IN_PEER)
			return set_peer_key(&s->peers[*peer], line->key, line->value);
		return *where == IN_UNKNOWN ? 0 : -EINVAL;
	case LINE_BAD:
		break;
	}
	return -EINVAL;
}

static void
explain(const struct line *line, int number, char *why, size_t size)
{
	if (line->kind == LINE_SECTION)
		snprintf(why, size, "config:%d: [%s]: not a valid peer name", number, line->key);
	else if (line->kind == LINE_KEY)
		snprintf(why, size, "config:%d: %s cannot be \"%s\" here", number, line->key, line->value);
	else
		snprintf(why, size, "config:%d: neither [section] nor key = value", number);
}

int
settings_load(int dirfd, struct settings *out, char *why, size_t why_size)
{
	struct settings s = { .absent_days = SETTINGS_ABSENT_DAYS };
	enum where where = IN_NOTHING;
	size_t peer = 0;
	int number = 0, rc;
	char *text;

	if ((rc = read_config(dirfd, &text)) < 0) {
		snprintf(why, why_size, "cannot read config: %s", strerror(-rc));
		return rc;
	}
	for (char *p = text, *next; *p != '\0'; p = next) {
		struct line line;

		next = (char *)line_end(p);
		if (next[-1] == '\n')
			next[-1] = '\0';
		line = parse_line(p);
		number++;
		rc = take_line(&s, &line, &where, &peer);
		if (rc < 0) {
			explain(&line, number, why, why_size);
			settings_fini(&s);
			free(text);
			return -EBADMSG;
		}
		if (rc > 0)
			log_warn("config:%d: %s is not known to this version", number, line.key);
	}
	free(text);
	*out = s;
	return 0;
}

void
settings_fini(struct settings *s)
{
	for (size_t i = 0; i < s->peers_len; i++) {
		free(s->peers[i].name);
		free(s->peers[i].url);
		free(s->peers[i].identity);
	}
	free(s->peers);
	free(s->node);
	free(s->set);
	memset(s, 0, sizeof(*s));
}

/* ---- editing ----------------------------------------------------------- */

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
	size_t n = (size_t)(line_end(p) - p);

	*copy = mem_alloc(n + 1);
	memcpy(*copy, p, n);
	return parse_line(*copy);
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

		next = line_end(p);
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

		next = line_end(p);
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
	if ((rc = read_config(dirfd, &old)) < 0)
		goto out_lock;
	new = key != NULL ? edit_key(old, section, key, value) : edit_section_away(old, section);
	if (strcmp(old, new) != 0)
		rc = write_config(dirfd, lock, new);
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
