/*
 * The config file as lines, for reading it (settings.c) and editing it
 * (settings_edit.c).
 */
#ifndef SIBFS_SETTINGS_IMPL_H
#define SIBFS_SETTINGS_IMPL_H

enum line_kind { LINE_BLANK, LINE_SECTION, LINE_KEY, LINE_BAD };

struct line {
	enum line_kind kind;
	char *key;		/* of a section: its name */
	char *value;
};

/* Takes a line apart, in place. */
struct line	 settings_parse_line(char *text);

/* The end of the line at p: past its newline, or the end of the text. */
const char	*settings_line_end(const char *p);

/* The whole file, NUL-terminated and allocated; "" if there is none. */
int		 settings_read_file(int dirfd, char **out);

/* Puts text in the file's place; it survives a power cut whole, old or new.
 * lock: the same directory, opened to be read. */
int		 settings_write_file(int dirfd, int lock, const char *text);

#endif
