/*
 * Keeps the last line that is not empty.  Control characters become blanks, as
 * the line is shown to people.
 */
#include "config.h"

#include "replication/lastline.h"

void
lastline_feed(struct lastline *l, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)bytes[i];

		if (c == '\n' || c == '\r') {
			l->ended = true;
			continue;
		}
		if (l->ended) {
			l->len = 0;
			l->ended = false;
		}
		if (l->len < sizeof(l->text) - 1)
			l->text[l->len++] = c < ' ' || c == 0x7f ? ' ' : (char)c;
	}
}

const char *
lastline_get(struct lastline *l)
{
	l->text[l->len] = '\0';
	return l->text;
}
