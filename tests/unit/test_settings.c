/*
 * The config file: reading what a person wrote, and editing one key without
 * touching the rest.
 */
#include "config.h"

#include "replication/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct box {
	char path[64];
	int dir;
};

static int
setup(void **state)
{
	struct box *b = calloc(1, sizeof(*b));

	strcpy(b->path, "/tmp/test_settings.XXXXXX");
	assert_non_null(mkdtemp(b->path));
	b->dir = open(b->path, O_RDONLY | O_DIRECTORY);
	assert_true(b->dir >= 0);
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct box *b = *state;

	unlinkat(b->dir, "config", 0);
	close(b->dir);
	rmdir(b->path);
	free(b);
	return 0;
}

static void
write_file(struct box *b, const char *text)
{
	int fd = openat(b->dir, "config", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void
assert_file(struct box *b, const char *expected)
{
	char text[4096];
	int fd = openat(b->dir, "config", O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	assert_true(n >= 0);
	text[n] = '\0';
	close(fd);
	assert_string_equal(text, expected);
}

static void
assert_refused(struct box *b, const char *text, const char *expected)
{
	struct settings s;
	char why[256] = "";

	write_file(b, text);
	assert_int_equal(settings_load(b->dir, &s, why, sizeof(why)), -EBADMSG);
	assert_non_null(strstr(why, expected));
}

static void
test_missing_file_is_empty(void **state)
{
	struct box *b = *state;
	struct settings s;
	char why[256];

	assert_int_equal(settings_load(b->dir, &s, why, sizeof(why)), 0);
	assert_int_equal(s.peers_len, 0);
	assert_null(s.node);
	assert_false(s.paused);
	assert_int_equal(s.absent_days, SETTINGS_ABSENT_DAYS);
	settings_fini(&s);
}

static void
test_everything_is_read(void **state)
{
	struct box *b = *state;
	struct settings s;
	char why[256];

	write_file(b,
	    "; a comment\n# another\n\n[replica]\nnode = laptop\nset=abc\npaused = on\nabsent_days = 3\n"
	    "[peer server]\n  url = ssh://anna@server:2222/home/anna/docs  \n"
	    "identity = /k;ey ; the key\ntransport = ssh\r\njoin = yes\t; for now\n"
	    "[peer desk]\npaused = true");
	assert_int_equal(settings_load(b->dir, &s, why, sizeof(why)), 0);
	assert_string_equal(s.node, "laptop");
	assert_string_equal(s.set, "abc");
	assert_true(s.paused);
	assert_int_equal(s.absent_days, 3);
	assert_int_equal(s.peers_len, 2);
	assert_string_equal(s.peers[0].url, "ssh://anna@server:2222/home/anna/docs");
	assert_string_equal(s.peers[0].identity, "/k;ey");
	assert_int_equal(s.peers[0].transport, TRANSPORT_SSH);
	assert_true(s.peers[0].join);
	assert_false(s.peers[0].paused);
	assert_true(settings_find(&s, "desk")->paused);
	assert_null(settings_find(&s, "desk")->url);
	assert_null(settings_find(&s, "nobody"));
	settings_fini(&s);
}

static void
test_errors_name_their_line(void **state)
{
	struct box *b = *state;

	assert_refused(b, "[replica]\nnonsense\n", "config:2:");
	assert_refused(b, "paused = yes\n", "config:1:");
	assert_refused(b, "\n[replica\n", "config:2:");
	assert_refused(b, "[peer -x]\n", "config:1:");
	assert_refused(b, "[replica]\npaused = maybe\n", "paused");
	assert_refused(b, "[replica]\nabsent_days = -1\n", "absent_days");
	assert_refused(b, "[replica]\nabsent_days = soon\n", "absent_days");
	assert_refused(b, "[peer a]\nurl = http://a/b\n", "url");
	assert_refused(b, "[peer a]\ntransport = tcp\n", "transport");
	assert_refused(b, "[peer a]\nlimit = fast\n", "limit");
	assert_refused(b, "[replica]\nmin_free = 100%\n", "min_free");
	assert_refused(b, "[replica]\nowners = yes\n", "owners");
	assert_refused(b, "[replica]\nmin_free = 5%x\n", "min_free");
	assert_refused(b, "[replica]\nmin_free = 1G 08:00-18:00\n", "min_free");
}

static void
test_long_lines_are_whole(void **state)
{
	struct box *b = *state;
	struct settings s;
	char why[256], path[3000];

	memset(path, 'x', sizeof(path) - 1);
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(settings_set(b->dir, "peer a", "identity", path), 0);
	assert_int_equal(settings_load(b->dir, &s, why, sizeof(why)), 0);
	assert_string_equal(s.peers[0].identity, path);
	settings_fini(&s);
}

static void
test_set_makes_file_section_and_key(void **state)
{
	struct box *b = *state;

	assert_int_equal(settings_set(b->dir, "replica", "node", "laptop"), 0);
	assert_file(b, "[replica]\nnode = laptop\n");
	assert_int_equal(settings_set(b->dir, "peer a", "url", "a:b"), 0);
	assert_file(b, "[replica]\nnode = laptop\n\n[peer a]\nurl = a:b\n");
	assert_int_equal(settings_set(b->dir, "replica", "paused", "yes"), 0);
	assert_file(b, "[replica]\nnode = laptop\npaused = yes\n\n[peer a]\nurl = a:b\n");
}

static void
test_set_keeps_what_the_person_wrote(void **state)
{
	struct box *b = *state;

	write_file(b, "# mine\n[replica]\n node=x   ; that is me\n\n\n[peer a]\nurl = a:b\n; end");
	assert_int_equal(settings_set(b->dir, "peer a", "url", "c:d"), 0);
	assert_file(b, "# mine\n[replica]\n node=x   ; that is me\n\n\n[peer a]\nurl = c:d\n; end");
	assert_int_equal(settings_set(b->dir, "peer a", "join", "yes"), 0);
	assert_file(b, "# mine\n[replica]\n node=x   ; that is me\n\n\n[peer a]\nurl = c:d\n; end\njoin = yes\n");
}

static void
test_set_null_removes(void **state)
{
	struct box *b = *state;

	write_file(b, "[replica]\npaused = yes\npaused = no\nnode = x\n");
	assert_int_equal(settings_set(b->dir, "replica", "paused", NULL), 0);
	assert_file(b, "[replica]\nnode = x\n");
	assert_int_equal(settings_set(b->dir, "peer none", "paused", NULL), 0);
	assert_file(b, "[replica]\nnode = x\n");
}

static void
test_set_replaces_once(void **state)
{
	struct box *b = *state;

	write_file(b, "[replica]\nnode = a\nnode = b\n");
	assert_int_equal(settings_set(b->dir, "replica", "node", "c"), 0);
	assert_file(b, "[replica]\nnode = c\n");
}

static void
test_remove_section(void **state)
{
	struct box *b = *state;

	write_file(b, "# top\n[peer a]\nurl = a:b\n[replica]\nnode = x\n[peer a]\njoin = yes\n");
	assert_int_equal(settings_remove_section(b->dir, "peer a"), 0);
	assert_file(b, "# top\n[replica]\nnode = x\n");
}

static void
test_values_that_would_change_are_refused(void **state)
{
	struct box *b = *state;

	assert_int_equal(settings_set(b->dir, "peer a", "identity", "a ;b"), -EINVAL);
	assert_int_equal(settings_set(b->dir, "peer a", "identity", "a\nb"), -EINVAL);
	assert_int_equal(settings_set(b->dir, "peer a", "identity", " a"), -EINVAL);
	assert_int_equal(settings_set(b->dir, "peer a", "identity", "a "), -EINVAL);
	assert_int_equal(settings_set(b->dir, "peer a", "identity", ""), -EINVAL);
}

static void
test_node_names(void **state)
{
	(void)state;
	assert_true(settings_node_valid("laptop"));
	assert_true(settings_node_valid("0_a-B"));
	assert_true(settings_node_valid("abcdefghijklmnopqrstuvwxyz012345"));
	assert_false(settings_node_valid("abcdefghijklmnopqrstuvwxyz0123456"));
	assert_false(settings_node_valid(""));
	assert_false(settings_node_valid("-a"));
	assert_false(settings_node_valid("_a"));
	assert_false(settings_node_valid("a.b"));
	assert_false(settings_node_valid("a b"));
	assert_false(settings_node_valid("caf\xc3\xa9"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_missing_file_is_empty),
		TEST(test_everything_is_read),
		TEST(test_errors_name_their_line),
		TEST(test_long_lines_are_whole),
		TEST(test_set_makes_file_section_and_key),
		TEST(test_set_keeps_what_the_person_wrote),
		TEST(test_set_null_removes),
		TEST(test_set_replaces_once),
		TEST(test_remove_section),
		TEST(test_values_that_would_change_are_refused),
		cmocka_unit_test(test_node_names),
	};

	return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
