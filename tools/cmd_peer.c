/*
 * peer add, list, remove; pause and resume.  They edit the store's config,
 * which needs no daemon, and have a running one read it again.  peer retire is
 * news for all replicas, which the daemon spreads, or the next one that runs.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/child.h"
#include "replication/mem.h"
#include "replication/replica.h"
#include "replication/settings.h"
#include "replication/ssh_key.h"
#include "replication/transport.h"
#include "tools/cli.h"
#include "tools/client.h"

enum {
	ASK_TIMEOUT_S = 30,
	KEYGEN_TIMEOUT_MS = 10000,
	PUBLIC_KEY_MAX = 16384,
};

/* A store whose settings are being looked at or changed. */
struct target {
	struct located at;
	int daemon;		/* -1: none runs */
	int own;		/* its .sibfs */
	struct settings settings;
};

static int
open_target(const char *path, struct target *t)
{
	char why[CLI_LINE_MAX];
	int rc = client_open(path, &t->at, &t->daemon, why, sizeof(why));

	if (rc != CLI_DONE)
		return cli_fail(rc, "%s", why);
	t->own = client_open_own_dir(&t->at, t->daemon);
	if (t->own < 0) {
		rc = cli_fail(CLI_FAILED, "cannot open the settings of %s: %s", path, strerror(-t->own));
		goto err_client;
	}
	if (settings_load(t->own, &t->settings, why, sizeof(why)) < 0) {
		rc = cli_fail(CLI_FAILED, "%s/.sibfs/%s", path, why);
		goto err_own;
	}
	return CLI_DONE;

err_own:
	close(t->own);
err_client:
	client_close(&t->at, t->daemon);
	return rc;
}

/* Ends with the daemon, if there is one, knowing what changed. */
static int
close_target(struct target *t, bool changed)
{
	char why[CLI_LINE_MAX];
	json_t *reply = NULL;
	int rc = CLI_DONE;

	if (changed && t->daemon >= 0) {
		rc = client_ask(t->daemon, client_request("reload"), ASK_TIMEOUT_S, &reply, why, sizeof(why));
		json_decref(reply);
		if (rc != CLI_DONE)
			cli_fail(rc, "saved, but the daemon did not take it: %s", why);
	}
	settings_fini(&t->settings);
	close(t->own);
	client_close(&t->at, t->daemon);
	return rc;
}

static int
set(struct target *t, const char *section, const char *key, const char *value)
{
	int rc = settings_set(t->own, section, key, value);

	if (rc == -EINVAL)
		return cli_fail(CLI_FAILED, "%s cannot stand in the config file: %s", key, value);
	if (rc < 0)
		return cli_fail(CLI_FAILED, "cannot write the config file: %s", strerror(-rc));
	return CLI_DONE;
}

/* ---- peer add ---------------------------------------------------------- */

struct new_peer {
	const char *store, *name, *url;
	const char *identity;	/* as given */
	bool join;
};

static int
check_new_peer(const struct new_peer *p, struct transport_url *url)
{
	if (!settings_node_valid(p->name))
		return cli_fail(CLI_USAGE, "%s is not a node name: letters, digits, - and _, at most %d, "
		    "first a letter or digit", p->name, SETTINGS_NODE_MAX);
	if (transport_url_parse(p->url, url) < 0)
		return cli_fail(CLI_USAGE, "%s is not a URL: ssh://[user@]host[:port]/path or [user@]host:path",
		    p->url);
	return CLI_DONE;
}

/* The key's absolute path; CLI_FAILED if it is not a private key. */
static int
check_identity(const char *given, char **out)
{
	char *path = realpath(given, NULL);

	if (path == NULL)
		return cli_fail(CLI_FAILED, "cannot read the key %s: %s", given, strerror(errno));
	if (ssh_key_of_file(path) == SSH_KEY_NONE) {
		free(path);
		return cli_fail(CLI_FAILED, "%s is not a private key that we can read", given);
	}
	*out = path;
	return CLI_DONE;
}

/* The public half, "type base64"; from FILE.pub or the private key itself. */
static bool
public_key(const char *identity, char *out, size_t size)
{
	char why[256];
	char *pub = mem_printf("%s.pub", identity);
	char *argv[] = { "ssh-keygen", "-y", "-P", "", "-f", (char *)identity, NULL };
	FILE *f = fopen(pub, "re");
	bool found = f != NULL && fgets(out, (int)size, f) != NULL;

	if (f != NULL)
		fclose(f);
	free(pub);
	if (!found)
		found = child_run(argv, -1, KEYGEN_TIMEOUT_MS, out, size, why, sizeof(why)) == 0;
	if (found)
		out[strcspn(out, "\r\n")] = '\0';
	return found;
}

/*
 * The line's command is read by the far shell after sshd took the quotes away:
 * the path is quoted for the shell, and what sshd minds is escaped.
 */
static void
print_far_command(const char *path)
{
	bool plain = path[strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@%,:=")] == '\0';

	if (!plain)
		putchar('\'');
	for (; *path != '\0'; path++) {
		if (*path == '\'')
			printf("'\\''");
		else if (*path == '"')
			printf("\\\"");
		else
			putchar(*path);
	}
	if (!plain)
		putchar('\'');
}

static void
print_hint(const struct target *t, const struct new_peer *p, const struct transport_url *url, const char *identity)
{
	char key[PUBLIC_KEY_MAX];

	if (identity == NULL) {
		printf("%s is asked with the keys of your SSH agent and ~/.ssh.  To let a key do only this,\n"
		    "put this line into authorized_keys at %s, with the key's public half:\n", p->name, url->host);
		snprintf(key, sizeof(key), "PUBLIC-KEY");
	} else {
		printf("Put this line into authorized_keys at %s:\n", url->host);
		if (!public_key(identity, key, sizeof(key)))
			snprintf(key, sizeof(key), "PUBLIC-KEY-OF-%s", identity);
	}
	printf("command=\"sibfs serve ");
	print_far_command(url->path);
	printf(" --peer %s\",restrict %s\n", t->settings.node != NULL ? t->settings.node : "NODE", key);
}

static int
write_peer(struct target *t, const struct new_peer *p, const char *identity)
{
	char section[SETTINGS_NODE_MAX + 8];
	int rc;

	if (t->settings.node != NULL && strcmp(t->settings.node, p->name) == 0)
		return cli_fail(CLI_USAGE, "%s is this replica's own name", p->name);
	snprintf(section, sizeof(section), "peer %s", p->name);
	if ((rc = set(t, section, "url", p->url)) == CLI_DONE &&
	    (rc = set(t, section, "identity", identity)) == CLI_DONE)
		rc = set(t, section, "join", p->join ? "yes" : NULL);
	return rc;
}

static int
add(const struct new_peer *p)
{
	struct transport_url url;
	struct target t;
	char *identity = NULL;
	int rc;

	if ((rc = check_new_peer(p, &url)) != CLI_DONE)
		return rc;
	if (p->identity != NULL && (rc = check_identity(p->identity, &identity)) != CLI_DONE)
		goto out_url;
	if ((rc = open_target(p->store, &t)) != CLI_DONE)
		goto out_identity;
	rc = write_peer(&t, p, identity);
	if (rc == CLI_DONE)
		print_hint(&t, p, &url, identity);
	if (rc == CLI_DONE)
		rc = close_target(&t, true);
	else
		close_target(&t, false);
out_identity:
	free(identity);
out_url:
	transport_url_fini(&url);
	return rc;
}

/* ---- peer list and remove ---------------------------------------------- */

/* The status of a daemon, or NULL. */
static json_t *
ask_status(const struct target *t)
{
	char why[CLI_LINE_MAX];
	json_t *reply = NULL;

	if (t->daemon >= 0)
		client_ask(t->daemon, client_request("status"), ASK_TIMEOUT_S, &reply, why, sizeof(why));
	return reply;
}

/* The state of a peer as the daemon has it; NULL: it knows no such peer. */
static const char *
state_of(const json_t *reply, const char *peer_name)
{
	json_t *peers = json_object_get(json_object_get(reply, "status"), "peers"), *peer;
	const char *name, *state;
	size_t i;

	json_array_foreach(peers, i, peer) {
		name = json_string_value(json_object_get(peer, "name"));
		state = json_string_value(json_object_get(peer, "state"));
		if (name != NULL && state != NULL && strcmp(name, peer_name) == 0)
			return state;
	}
	return NULL;
}

/* Is it a peer, by our settings or because it has called us? */
static bool
is_peer(const struct target *t, const char *name)
{
	json_t *reply;
	bool is;

	if (!settings_node_valid(name))
		return false;
	if (settings_find(&t->settings, name) != NULL)
		return true;
	reply = ask_status(t);
	is = state_of(reply, name) != NULL;
	json_decref(reply);
	return is;
}

static int
list(const char *store)
{
	struct target t;
	json_t *reply;
	int rc = open_target(store, &t), width = 4;

	if (rc != CLI_DONE)
		return rc;
	reply = ask_status(&t);
	for (size_t i = 0; i < t.settings.peers_len; i++)
		if ((int)strlen(t.settings.peers[i].name) > width)
			width = (int)strlen(t.settings.peers[i].name);
	if (t.settings.peers_len > 0)
		printf("%-*s  %-11s  %s\n", width, "PEER", "STATE", "URL");
	for (size_t i = 0; i < t.settings.peers_len; i++) {
		const struct settings_peer *p = &t.settings.peers[i];
		const char *state = state_of(reply, p->name);

		if (state == NULL)
			state = t.settings.paused || p->paused ? "paused" : "-";
		printf("%-*s  %-11s  %s\n", width, p->name, state,
		    p->url != NULL ? p->url : "calls us");
	}
	json_decref(reply);
	return close_target(&t, false);
}

static int
remove_peer(const char *store, const char *name)
{
	char section[SETTINGS_NODE_MAX + 8];
	struct target t;
	int rc = open_target(store, &t);

	if (rc != CLI_DONE)
		return rc;
	if (!settings_node_valid(name) || settings_find(&t.settings, name) == NULL) {
		close_target(&t, false);
		return cli_fail(CLI_FAILED, "%s is not a peer of %s (sibfs peer list shows them)", name, store);
	}
	snprintf(section, sizeof(section), "peer %s", name);
	rc = settings_remove_section(t.own, section);
	if (rc < 0)
		cli_fail(CLI_FAILED, "cannot write the config file: %s", strerror(-rc));
	if (rc == 0)
		return close_target(&t, true);
	close_target(&t, false);
	return CLI_FAILED;
}

/* ---- peer retire ------------------------------------------------------- */

static int
retire_in_store(const char *store, const char *node, char *why, size_t why_size)
{
	struct replica *r;
	int rc = replica_open(store, &r, why, why_size);

	if (rc < 0)
		return cli_exit_of(rc);
	rc = replica_retire(r, node, why, why_size);
	replica_close(r);
	return rc < 0 ? CLI_FAILED : CLI_DONE;
}

static int
retire(const char *store, const char *node)
{
	char why[CLI_LINE_MAX];
	struct located l;
	json_t *reply = NULL;
	int fd, rc;

	if ((rc = client_open(store, &l, &fd, why, sizeof(why))) != CLI_DONE)
		return cli_fail(rc, "%s", why);
	if (fd >= 0)
		rc = client_ask(fd, json_pack("{s:s,s:s}", "cmd", "retire", "node", node), ASK_TIMEOUT_S, &reply, why,
		    sizeof(why));
	else
		rc = retire_in_store(l.store, node, why, sizeof(why));
	json_decref(reply);
	client_close(&l, fd);
	if (rc != CLI_DONE)
		return cli_fail(rc, "%s", why);
	printf("%s is retired, on all replicas as they hear of it: deleted names are no longer remembered\n"
	    "for its sake.  Should it come back, it is sent all there is; nothing deleted comes back with it,\n"
	    "what was changed on it alone is kept, and it is a member again.\n", node);
	return CLI_DONE;
}

int
cmd_peer(int argc, char **argv)
{
	static const struct option options[] = {
		{ "identity", required_argument, NULL, 'i' },
		{ "join", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct new_peer p = { 0 };
	bool has_options = false;
	char **a;
	int c, n;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "i:", options, NULL)) != -1) {
		has_options = true;
		if (c == 'i')
			p.identity = optarg;
		else if (c == 'j')
			p.join = true;
		else
			return cli_usage("peer", "%s is not an option of peer, or lacks its value", argv[optind - 1]);
	}
	a = argv + optind;
	n = argc - optind;
	if (n == 4 && strcmp(a[0], "add") == 0) {
		p.store = a[1];
		p.name = a[2];
		p.url = a[3];
		return add(&p);
	}
	if (n == 2 && strcmp(a[0], "list") == 0 && !has_options)
		return list(a[1]);
	if (n == 3 && strcmp(a[0], "remove") == 0 && !has_options)
		return remove_peer(a[1], a[2]);
	if (n == 3 && strcmp(a[0], "retire") == 0 && !has_options)
		return retire(a[1], a[2]);
	return cli_usage("peer", "peer takes add STORE PEER URL, list STORE, remove STORE PEER, or retire STORE NODE");
}

/* ---- pause and resume -------------------------------------------------- */

int
cmd_pause(int argc, char **argv)
{
	const char *value = strcmp(argv[0], "pause") == 0 ? "yes" : NULL;
	char section[SETTINGS_NODE_MAX + 8] = "replica";
	struct target t;
	int rc;

	opterr = 0;
	if (getopt(argc, argv, "") != -1 || argc - optind < 1 || argc - optind > 2)
		return cli_usage(argv[0], "%s takes a PATH and perhaps a PEER", argv[0]);
	if ((rc = open_target(argv[optind], &t)) != CLI_DONE)
		return rc;
	if (argc - optind == 2) {
		const char *peer = argv[optind + 1];

		if (!is_peer(&t, peer)) {
			close_target(&t, false);
			return cli_fail(CLI_FAILED, "%s is not a peer of %s (sibfs peer list shows them)",
			    peer, argv[optind]);
		}
		snprintf(section, sizeof(section), "peer %s", peer);
	}
	rc = set(&t, section, "paused", value);
	if (rc != CLI_DONE) {
		close_target(&t, false);
		return rc;
	}
	return close_target(&t, true);
}
