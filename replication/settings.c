/*
 * Reading the config file: which keys there are, and what each may be.
 */
#include "config.h"

#include "replication/settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/log.h"
#include "replication/mem.h"
#include "replication/settings_impl.h"

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

/* ---- values ------------------------------------------------------------ */

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

/* ---- keys -------------------------------------------------------------- */

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

/* ---- the whole --------------------------------------------------------- */

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

	if ((rc = settings_read_file(dirfd, &text)) < 0) {
		snprintf(why, why_size, "cannot read config: %s", strerror(-rc));
		return rc;
	}
	for (char *p = text, *next; *p != '\0'; p = next) {
		struct line line;

		next = (char *)settings_line_end(p);
		if (next[-1] == '\n')
			next[-1] = '\0';
		line = settings_parse_line(p);
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
