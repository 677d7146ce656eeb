/*
 * status and conflicts: what the daemon reports, or without one what the
 * store's index says; as JSON for programs or as text for people.
 */
#include "config.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "replication/replica.h"
#include "tools/cli.h"
#include "tools/client.h"

enum { ASK_TIMEOUT_S = 60 };

/* ---- getting the report ------------------------------------------------ */

static int
report_of_store(const char *store, const char *cmd, json_t **out, char *why, size_t why_size)
{
	struct replica *r;
	char *text;
	int rc = replica_open(store, &r, why, why_size);

	if (rc < 0)
		return cli_exit_of(rc);
	text = replica_report(r, cmd);
	replica_close(r);
	*out = text != NULL ? json_loads(text, 0, NULL) : NULL;
	free(text);
	if (*out != NULL)
		return CLI_DONE;
	snprintf(why, why_size, "the index of %s could not be read", store);
	return CLI_FAILED;
}

/* The inner value of the answer to cmd, a new reference. */
static int
get_report(const char *path, const char *cmd, json_t **out)
{
	char why[CLI_LINE_MAX];
	struct located l;
	json_t *reply = NULL, *inner;
	int fd, rc;

	if ((rc = client_open(path, &l, &fd, why, sizeof(why))) != CLI_DONE)
		return cli_fail(rc, "%s", why);
	if (fd >= 0)
		rc = client_ask(fd, client_request(cmd), ASK_TIMEOUT_S, &reply, why, sizeof(why));
	else
		rc = report_of_store(l.store, cmd, &reply, why, sizeof(why));
	client_close(&l, fd);
	if (rc != CLI_DONE)
		return cli_fail(rc, "%s", why);
	inner = json_object_get(reply, cmd);
	if (inner == NULL) {
		json_decref(reply);
		return cli_fail(CLI_FAILED, "the daemon's answer has no %s in it", cmd);
	}
	*out = json_incref(inner);
	json_decref(reply);
	return CLI_DONE;
}

static int
print_json(const json_t *value)
{
	if (json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) < 0)
		return cli_fail(CLI_FAILED, "cannot write the report");
	putchar('\n');
	return CLI_DONE;
}

/* ---- reading it -------------------------------------------------------- */

static const char *
text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

static long long
number_of(const json_t *o, const char *key)
{
	return (long long)json_number_value(json_object_get(o, key));
}

/* Names of files may hold anything; a terminal gets no control characters. */
static void
print_name(const char *name)
{
	for (; *name != '\0'; name++)
		putchar((unsigned char)*name < ' ' || *name == 0x7f ? '?' : *name);
}

/* Local time, from seconds or as it stands. */
static const char *
when(const json_t *value, char out[32])
{
	time_t t = (time_t)json_number_value(value);
	struct tm tm;

	if (json_is_string(value))
		snprintf(out, 32, "%s", json_string_value(value));
	else if (t <= 0 || localtime_r(&t, &tm) == NULL || strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		snprintf(out, 32, "-");
	return out;
}

/* ---- status ------------------------------------------------------------ */

/* What one side still lacks, and for how long: "12 (3.4 MiB, for 5 s)". */
static const char *
lag(const json_t *l, char *out, size_t size)
{
	long long versions = number_of(l, "versions");
	double seconds = json_number_value(json_object_get(l, "seconds"));
	char bytes[16], since[32] = "";

	if (!json_is_object(l)) {
		snprintf(out, size, "unknown");
	} else if (versions == 0) {
		snprintf(out, size, "nothing");
	} else {
		cli_size((unsigned long long)number_of(l, "bytes"), bytes);
		if (seconds >= 1)
			snprintf(since, sizeof(since), ", for %.0f s", seconds);
		snprintf(out, size, "%lld (%s%s)", versions, bytes, since);
	}
	return out;
}

static void
print_peer(const json_t *p, int width)
{
	char send[64], receive[64], since[32];
	const char *error = text_of(p, "error");

	printf("%-*s  %-11s  %-24s  %-24s  %s\n", width, text_of(p, "name"), text_of(p, "state"),
	    lag(json_object_get(p, "to_send"), send, sizeof(send)),
	    lag(json_object_get(p, "to_receive"), receive, sizeof(receive)),
	    when(json_object_get(p, "since"), since));
	if (*error != '\0')
		printf("%-*s  %s\n", width, "", error);
}

static void
print_peers(const json_t *peers)
{
	size_t i;
	int width = 4;
	json_t *p;

	if (json_array_size(peers) == 0) {
		printf("no peers yet: sibfs peer add\n");
		return;
	}
	json_array_foreach(peers, i, p)
		if ((int)strlen(text_of(p, "name")) > width)
			width = (int)strlen(text_of(p, "name"));
	printf("\n%-*s  %-11s  %-24s  %-24s  %s\n", width, "PEER", "STATE", "TO SEND", "TO RECEIVE", "SINCE");
	json_array_foreach(peers, i, p)
		print_peer(p, width);
}

/* What the store went through, and replicas that cannot be told apart by name. */
static void
print_troubles(const json_t *s)
{
	char time_text[32];
	size_t i;
	json_t *x;

	json_array_foreach(json_object_get(s, "forks"), i, x)
		printf("%s: %s\n", when(json_object_get(x, "time"), time_text), text_of(x, "text"));
	json_array_foreach(json_object_get(s, "same_names"), i, x)
		printf("more than one replica is called %s (here also %s): nothing is lost, but give one another name "
		    "by making it anew\n", text_of(x, "node"), text_of(x, "peer"));
	json_array_foreach(json_object_get(s, "nowhere"), i, x) {
		print_name(json_string_value(x));
		printf(": no peer that is linked can send its content now\n");
	}
	if (i > 0)
		printf("if that lasts: sibfs doctor, on the store that it is to come from, says what is missing\n");
}

/* Members for whose sake what was deleted is still kept. */
static void
print_absent(const json_t *s)
{
	long long kept = number_of(s, "tombstones"), now = (long long)time(NULL);
	size_t i;
	json_t *m;

	json_array_foreach(json_object_get(s, "members"), i, m) {
		long long heard = number_of(m, "heard");

		if (!json_is_true(json_object_get(m, "holds_up")))
			continue;
		if (heard > 0)
			printf("%s was heard of last %lld days ago", text_of(m, "node"), (now - heard) / 86400);
		else
			printf("%s has not been heard of", text_of(m, "node"));
		printf(": %lld deleted name%s remembered for it; if it is gone for good:\n"
		    "  sibfs peer retire STORE %s\n", kept, kept == 1 ? " is" : "s are", text_of(m, "node"));
	}
}

static void
print_status(const json_t *s)
{
	long long conflicts = number_of(s, "conflicts"), wanted = number_of(s, "wanted");
	const char *mount = text_of(s, "mount");

	printf("%s, at ", text_of(s, "node"));
	print_name(text_of(s, "store"));
	if (*mount != '\0') {
		printf(", mounted on ");
		print_name(mount);
	} else {
		printf(", not mounted");
	}
	printf("%s\n", json_is_true(json_object_get(s, "paused")) ? ", PAUSED" : "");
	printf("set %s\n", *text_of(s, "set") != '\0' ? text_of(s, "set") : "none yet");
	if (conflicts > 0)
		printf("%lld file%s in conflict: sibfs conflicts lists %s\n", conflicts,
		    conflicts == 1 ? "" : "s", conflicts == 1 ? "it" : "them");
	else
		printf("no conflicts\n");
	if (wanted > 0)
		printf("%lld file%s still without content\n", wanted, wanted == 1 ? "" : "s");
	print_troubles(s);
	print_peers(json_object_get(s, "peers"));
	print_absent(s);
}

/* Is anything in conflict, missing here, or not yet at a peer? */
static bool
has_differences(const json_t *s)
{
	size_t i;
	json_t *p;

	if (number_of(s, "conflicts") > 0 || number_of(s, "wanted") > 0)
		return true;
	json_array_foreach(json_object_get(s, "peers"), i, p)
		if (number_of(json_object_get(p, "to_send"), "versions") > 0 ||
		    number_of(json_object_get(p, "to_receive"), "versions") > 0)
			return true;
	return false;
}

/* ---- conflicts --------------------------------------------------------- */

static void
print_vector(const json_t *vector)
{
	const char *key, *separator = "";
	json_t *value;

	if (json_is_string(vector)) {
		printf("%s", json_string_value(vector));
		return;
	}
	json_object_foreach((json_t *)vector, key, value) {
		printf("%s%s:%lld", separator, key, (long long)json_number_value(value));
		separator = ",";
	}
}

static void
print_conflict(const json_t *c)
{
	const json_t *versions = json_object_get(c, "versions");
	char size[16], time_text[32];
	int name_width = 0, node_width = 0;
	size_t i;
	json_t *v;

	json_array_foreach(versions, i, v) {
		if ((int)strlen(text_of(v, "name")) > name_width)
			name_width = (int)strlen(text_of(v, "name"));
		if ((int)strlen(text_of(v, "node")) > node_width)
			node_width = (int)strlen(text_of(v, "node"));
	}
	print_name(text_of(c, "path"));
	putchar('\n');
	json_array_foreach(versions, i, v) {
		const char *name = text_of(v, "name");

		printf("  ");
		print_name(name);
		printf("%*s  %-*s  %s  %8s  ", name_width - (int)strlen(name), "", node_width,
		    text_of(v, "node"), when(json_object_get(v, "time"), time_text),
		    cli_size((unsigned long long)number_of(v, "size"), size));
		print_vector(json_object_get(v, "vector"));
		putchar('\n');
	}
}

static void
print_conflicts(const json_t *list)
{
	size_t i;
	json_t *c;

	json_array_foreach(list, i, c)
		print_conflict(c);
	if (json_array_size(list) == 0)
		printf("no conflicts\n");
	else
		printf("\nTo resolve one: put what you want to keep into the first name, and remove the others.\n");
}

/* ---- the commands ------------------------------------------------------ */

/* PATH and --json.  CLI_DONE or the exit status. */
static int
parse(int argc, char **argv, const char **path, bool *json)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	*json = false;
	while ((c = getopt_long(argc, argv, "j", options, NULL)) != -1) {
		if (c != 'j')
			return cli_usage(argv[0], "%s is not an option of %s", argv[optind - 1], argv[0]);
		*json = true;
	}
	if (argc - optind != 1)
		return cli_usage(argv[0], "%s takes one PATH", argv[0]);
	*path = argv[optind];
	return CLI_DONE;
}

static int
show(int argc, char **argv, void (*print)(const json_t *), bool (*differs)(const json_t *))
{
	const char *path = NULL;
	bool json, different;
	json_t *report;
	int rc;

	if ((rc = parse(argc, argv, &path, &json)) != CLI_DONE ||
	    (rc = get_report(path, argv[0], &report)) != CLI_DONE)
		return rc;
	different = differs(report);
	if (json)
		rc = print_json(report);
	else
		print(report);
	json_decref(report);
	return rc != CLI_DONE ? rc : different ? CLI_DIFFERENT : CLI_DONE;
}

static bool
is_not_empty(const json_t *list)
{
	return json_array_size(list) > 0;
}

int
cmd_status(int argc, char **argv)
{
	return show(argc, argv, print_status, has_differences);
}

int
cmd_conflicts(int argc, char **argv)
{
	return show(argc, argv, print_conflicts, is_not_empty);
}
