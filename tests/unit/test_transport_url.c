/*
 * URLs of peers: both forms, and what must never reach a command line.
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replication/transport.h"

struct good {
	const char *text, *user, *host;
	int port;
	const char *path;
};

static void
test_good_urls(void **state)
{
	static const struct good urls[] = {
		{ "ssh://server/home/anna/docs", NULL, "server", 0, "/home/anna/docs" },
		{ "ssh://anna@server:2222/a", "anna", "server", 2222, "/a" },
		{ "ssh://127.0.0.1:22/tmp/a b'c", NULL, "127.0.0.1", 22, "/tmp/a b'c" },
		{ "ssh://[::1]:2222/a", NULL, "::1", 2222, "/a" },
		{ "ssh://[fe80::1%eth0]/a", NULL, "fe80::1%eth0", 0, "/a" },
		{ "ssh://server/~/docs", NULL, "server", 0, "docs" },
		{ "ssh://server/a@b:c", NULL, "server", 0, "/a@b:c" },
		{ "ssh://server/100%", NULL, "server", 0, "/100%" },
		{ "server:docs", NULL, "server", 0, "docs" },
		{ "server:/docs", NULL, "server", 0, "/docs" },
		{ "server:~/docs", NULL, "server", 0, "docs" },
		{ "server:~", NULL, "server", 0, "." },
		{ "anna@server:a:b", "anna", "server", 0, "a:b" },
		{ "anna@[::1]:a", "anna", "::1", 0, "a" },
		{ "anna@corp@server:a", "anna@corp", "server", 0, "a" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		struct transport_url u;

		assert_int_equal(transport_url_parse(urls[i].text, &u), 0);
		assert_string_equal(u.host, urls[i].host);
		assert_string_equal(u.path, urls[i].path);
		assert_int_equal(u.port, urls[i].port);
		if (urls[i].user != NULL)
			assert_string_equal(u.user, urls[i].user);
		else
			assert_null(u.user);
		transport_url_fini(&u);
	}
}

static void
test_bad_urls(void **state)
{
	static const char *const urls[] = {
		"", "server", "server:", ":a", "/a", "./a:b", "a/b:c", "@server:a",
		"http://server/a", "ssh://server", "ssh://server/", "ssh:///a",
		"ssh://server:/a", "ssh://server:0/a", "ssh://server:65536/a", "ssh://server:2x/a",
		"ssh://-oProxyCommand=x/a", "ssh://-l@server/a", "-oProxyCommand=x:a",
		"ssh://ser ver/a", "ssh://server;x/a", "ssh://$(x)/a", "ssh://[::1/a", "ssh://[::1]x/a",
		"ssh://server/a\nb", "server:-x",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		struct transport_url u;

		if (transport_url_parse(urls[i], &u) != -EINVAL)
			fail_msg("accepted: %s", urls[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_urls),
		cmocka_unit_test(test_bad_urls),
	};

	return cmocka_run_group_tests_name("transport_url", tests, NULL, NULL);
}
