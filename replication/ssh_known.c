/*
 * known_hosts through libssh2.  Its own search by port also takes a plain
 * entry of the host for a mismatch, so we ask by the exact name instead, as
 * OpenSSH does: [host]:port first, and then, only to accept, the plain host.
 */
#include "config.h"

#include "replication/ssh_known.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "replication/mem.h"

struct ssh_known {
	LIBSSH2_SESSION *session;
	LIBSSH2_KNOWNHOSTS *hosts;
	const struct ssh_host *host;	/* borrowed */
	char *name;			/* as known_hosts has it */
	const char *plain;		/* without the port; NULL: the same */
};

static const struct algorithm {
	const char *name;
	int shown;		/* LIBSSH2_HOSTKEY_TYPE_* */
	int known;		/* LIBSSH2_KNOWNHOST_KEY_* */
} algorithms[] = {
	{ "ssh-ed25519", LIBSSH2_HOSTKEY_TYPE_ED25519, LIBSSH2_KNOWNHOST_KEY_ED25519 },
	{ "ecdsa-sha2-nistp256", LIBSSH2_HOSTKEY_TYPE_ECDSA_256, LIBSSH2_KNOWNHOST_KEY_ECDSA_256 },
	{ "ecdsa-sha2-nistp384", LIBSSH2_HOSTKEY_TYPE_ECDSA_384, LIBSSH2_KNOWNHOST_KEY_ECDSA_384 },
	{ "ecdsa-sha2-nistp521", LIBSSH2_HOSTKEY_TYPE_ECDSA_521, LIBSSH2_KNOWNHOST_KEY_ECDSA_521 },
	{ "ssh-rsa", LIBSSH2_HOSTKEY_TYPE_RSA, LIBSSH2_KNOWNHOST_KEY_SSHRSA },
};

enum { ALGORITHMS = sizeof(algorithms) / sizeof(algorithms[0]) };

/* Line by line: what libssh2 does not understand must not hide the rest. */
static void
read_file(LIBSSH2_KNOWNHOSTS *hosts, const char *path)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t n;

	if (f == NULL)
		return;
	while ((n = getline(&line, &size, f)) > 0)
		if (line[0] != '@' && line[0] != '#')
			libssh2_knownhost_readline(hosts, line, (size_t)n, LIBSSH2_KNOWNHOST_FILE_OPENSSH);
	free(line);
	fclose(f);
}

struct ssh_known *
ssh_known_open(LIBSSH2_SESSION *session, const struct ssh_host *h)
{
	LIBSSH2_KNOWNHOSTS *hosts = libssh2_knownhost_init(session);
	struct ssh_known *k;

	if (hosts == NULL)
		return NULL;
	for (size_t i = 0; i < h->known_hosts.len; i++)
		read_file(hosts, h->known_hosts.at[i]);
	for (size_t i = 0; i < h->global_known_hosts.len; i++)
		read_file(hosts, h->global_known_hosts.at[i]);
	k = mem_alloc(sizeof(*k));
	k->session = session;
	k->hosts = hosts;
	k->host = h;
	if (h->key_alias != NULL) {
		k->name = mem_str(h->key_alias);
	} else if (h->port == 22) {
		k->name = mem_str(h->name);
	} else {
		k->name = mem_printf("[%s]:%d", h->name, h->port);
		k->plain = h->name;
	}
	return k;
}

void
ssh_known_close(struct ssh_known *k)
{
	if (k == NULL)
		return;
	libssh2_knownhost_free(k->hosts);
	free(k->name);
	free(k);
}

/* Has known_hosts a key of this type?  A key that no host has is looked for:
 * a mismatch then means that there is one. */
static bool
has_type(struct ssh_known *k, const char *name, int type)
{
	return name != NULL && libssh2_knownhost_checkp(k->hosts, name, -1, "AAAA", 4,
	    LIBSSH2_KNOWNHOST_TYPE_PLAIN | LIBSSH2_KNOWNHOST_KEYENC_BASE64 | type,
	    NULL) == LIBSSH2_KNOWNHOST_CHECK_MISMATCH;
}

static bool
knows(struct ssh_known *k, size_t i)
{
	return has_type(k, k->name, algorithms[i].known) || has_type(k, k->plain, algorithms[i].known);
}

void
ssh_known_prefer(struct ssh_known *k, char *out, size_t size)
{
	size_t n = 0;

	for (int wanted = 1; wanted >= 0; wanted--)
		for (size_t i = 0; i < ALGORITHMS && n < size; i++)
			if (knows(k, i) == wanted)
				n += (size_t)snprintf(out + n, size - n, "%s%s",
				    n > 0 ? "," : "", algorithms[i].name);
}

bool
ssh_known_only_rsa(struct ssh_known *k)
{
	for (size_t i = 0; i < ALGORITHMS - 1; i++)
		if (knows(k, i))
			return false;
	return knows(k, ALGORITHMS - 1);
}

static int
type_of(int shown)
{
	for (size_t i = 0; i < ALGORITHMS; i++)
		if (algorithms[i].shown == shown)
			return algorithms[i].known;
	return LIBSSH2_KNOWNHOST_KEY_UNKNOWN;
}

static int
compare(struct ssh_known *k, const char *name, const char *key, size_t len, int type)
{
	return libssh2_knownhost_checkp(k->hosts, name, -1, key, len,
	    LIBSSH2_KNOWNHOST_TYPE_PLAIN | LIBSSH2_KNOWNHOST_KEYENC_RAW | type, NULL);
}

/* SHA256:..., as ssh-keygen -l shows it. */
static void
fingerprint(LIBSSH2_SESSION *session, char out[64])
{
	const char *sum = libssh2_hostkey_hash(session, LIBSSH2_HOSTKEY_HASH_SHA256);
	unsigned char b64[48];

	if (sum == NULL) {
		snprintf(out, 64, "no fingerprint");
		return;
	}
	EVP_EncodeBlock(b64, (const unsigned char *)sum, 32);
	b64[43] = '\0';		/* without the padding */
	snprintf(out, 64, "SHA256:%s", (char *)b64);
}

static void
explain(struct ssh_known *k, bool changed, char *why, size_t size)
{
	const struct ssh_host *h = k->host;
	const char *file = h->known_hosts.len > 0 ? h->known_hosts.at[0] : "known_hosts";
	char print[64], port[16] = "";
	bool v6 = strchr(h->name, ':') != NULL;

	fingerprint(k->session, print);
	if (h->port != 22)
		snprintf(port, sizeof(port), ":%d", h->port);
	if (changed) {
		snprintf(why, size, "host key of %s%s%s%s has CHANGED (now %s): if that is right, run "
		    "\"ssh-keygen -R '%s' -f %s\" and add the new one", v6 ? "[" : "", h->name,
		    v6 ? "]" : "", port, print, k->name, file);
		return;
	}
	snprintf(why, size, "host key of %s%s%s%s (%s) is not in %s: run \"ssh-keyscan %s%s%s%s >>%s\" "
	    "after checking it", v6 ? "[" : "", h->name, v6 ? "]" : "", port, print, file,
	    *port ? "-p " : "", *port ? port + 1 : "", *port ? " " : "", h->name, file);
}

int
ssh_known_check(struct ssh_known *k, char *why, size_t why_size)
{
	size_t len;
	int shown, type, rc;
	const char *key = libssh2_session_hostkey(k->session, &len, &shown);

	if (key == NULL) {
		snprintf(why, why_size, "%s showed no host key", k->host->name);
		return -EPERM;
	}
	type = type_of(shown);
	rc = compare(k, k->name, key, len, type);
	if (rc == LIBSSH2_KNOWNHOST_CHECK_NOTFOUND && k->plain != NULL &&
	    compare(k, k->plain, key, len, type) == LIBSSH2_KNOWNHOST_CHECK_MATCH)
		rc = LIBSSH2_KNOWNHOST_CHECK_MATCH;
	if (rc == LIBSSH2_KNOWNHOST_CHECK_MATCH)
		return 0;
	explain(k, rc == LIBSSH2_KNOWNHOST_CHECK_MISMATCH, why, why_size);
	return -EPERM;
}
