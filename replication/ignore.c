/*
 * Patterns are cut at their slashes once; each piece is then matched against
 * one component of the path by fnmatch(3).
 */
#include "config.h"

#include "replication/ignore.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"

enum { RULES_MAX = 10000, PIECES_MAX = 64, LINE_MAX_BYTES = 4096 };

struct rule {
	char *text;		/* pieces, each NUL-terminated */
	const char *piece[PIECES_MAX];
	unsigned pieces;
	bool negated, dirs_only;
};

struct ignore {
	struct rule *rules;
	size_t len;
};

/* Spaces at the end do not count, unless a backslash stands before them. */
static size_t
trimmed(const char *line, size_t len)
{
	if (len && line[len - 1] == '\r')
		len--;
	while (len && line[len - 1] == ' ' && !(len > 1 && line[len - 2] == '\\'))
		len--;
	return len;
}

/* False: nothing that could match. */
static bool
parse_rule(const char *line, size_t len, struct rule *out)
{
	struct rule r = { 0 };
	char *rest, *piece;
	bool tied;

	len = trimmed(line, len);
	if (len == 0 || len > LINE_MAX_BYTES || line[0] == '#' || memchr(line, '\0', len))
		return false;
	if (line[0] == '!') {
		r.negated = true;
		line++;
		len--;
	}
	if (len && line[len - 1] == '/') {
		r.dirs_only = true;
		len--;
	}
	tied = memchr(line, '/', len) != NULL;
	if (len && line[0] == '/') {
		line++;
		len--;
	}
	if (len == 0)
		return false;
	r.text = mem_alloc(len + 1);
	memcpy(r.text, line, len);
	if (!tied)
		r.piece[r.pieces++] = "**";
	for (rest = r.text; (piece = strsep(&rest, "/"));) {
		if (*piece == '\0')
			continue;
		if (r.pieces == PIECES_MAX) {
			free(r.text);
			return false;
		}
		r.piece[r.pieces++] = piece;
	}
	*out = r;
	return true;
}

struct ignore *
ignore_parse(const char *text, size_t len)
{
	struct ignore *ig = mem_alloc(sizeof(*ig));
	const char *end = text + len, *next;
	struct rule r;

	for (; text < end && ig->len < RULES_MAX; text = next + 1) {
		next = memchr(text, '\n', (size_t)(end - text));
		if (!next)
			next = end;
		if (!parse_rule(text, (size_t)(next - text), &r))
			continue;
		ig->rules = mem_resize(ig->rules, ig->len + 1, sizeof(*ig->rules));
		ig->rules[ig->len++] = r;
	}
	return ig;
}

void
ignore_free(struct ignore *ig)
{
	if (!ig)
		return;
	for (size_t i = 0; i < ig->len; i++)
		free(ig->rules[i].text);
	free(ig->rules);
	free(ig);
}

/*
 * Do the pieces match the components?  A `**` at the end matches what is in a
 * directory, not the directory.  Of several `**` only the last has to be tried
 * again: what an earlier one could take more, the later one can.
 */
static bool
match(const char *const *piece, unsigned pieces, char *const *part, unsigned parts)
{
	unsigned i = 0, j = 0, back_i = 0, back_j = 0;
	bool star = false;

	while (j < parts) {
		if (i < pieces && strcmp(piece[i], "**") == 0) {
			if (i + 1 == pieces)
				return true;
			star = true;
			back_i = ++i;
			back_j = j;
		} else if (i < pieces && fnmatch(piece[i], part[j], 0) == 0) {
			i++;
			j++;
		} else if (star) {
			i = back_i;
			j = ++back_j;
		} else {
			return false;
		}
	}
	return i == pieces;
}

/* What the last rule says that matches the first `parts` components. */
static bool
covered(const struct ignore *ig, char *const *part, unsigned parts, bool is_dir)
{
	for (size_t k = ig->len; k-- > 0;) {
		const struct rule *r = &ig->rules[k];

		if ((is_dir || !r->dirs_only) && match(r->piece, r->pieces, part, parts))
			return !r->negated;
	}
	return false;
}

bool
ignore_covers(const struct ignore *ig, const char *path, bool is_dir)
{
	char *copy, *rest, **part = NULL;
	unsigned parts = 0;
	bool yes = false;

	if (!ig || !ig->len || !*path)
		return false;
	rest = copy = mem_str(path);
	while (rest) {
		part = mem_resize(part, parts + 1, sizeof(*part));
		part[parts++] = strsep(&rest, "/");
	}
	for (unsigned n = 1; n <= parts && !yes; n++)
		yes = covered(ig, part, n, n < parts || is_dir);
	free(part);
	free(copy);
	return yes;
}
