/*
 * Reads the answer of `ssh -G`: one "keyword value" a line, keywords in lower
 * case.  Without the ssh program, ssh's own defaults apply.
 */
#include "config.h"

#include "replication/ssh_host.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __aarch64__
#include <sys/auxv.h>
#endif
#include <unistd.h>

#include "replication/child.h"
#include "replication/mem.h"

enum {
	ANSWER_MAX_BYTES = 64 << 10,
	ASK_TIMEOUT_MS = 10000,
};

static void
add_name(struct ssh_names *n, char *name)
{
	n->at = mem_resize(n->at, n->len + 1, sizeof(*n->at));
	n->at[n->len++] = name;
}

static void
fini_names(struct ssh_names *n)
{
	for (size_t i = 0; i < n->len; i++)
		free(n->at[i]);
	free(n->at);
	memset(n, 0, sizeof(*n));
}

/* Who we are here: our login name and home directory. */
struct self {
	char *user;
	char *home;
};

static struct self
self_find(void)
{
	struct passwd pw, *found = NULL;
	char buf[4096];
	const char *home = getenv("HOME");
	struct self s;

	if (getpwuid_r(geteuid(), &pw, buf, sizeof(buf), &found) != 0)
		found = NULL;
	s.user = mem_str(found != NULL ? found->pw_name : "root");
	s.home = mem_str(found != NULL ? found->pw_dir : home != NULL ? home : "/");
	return s;
}

/* `ssh -G` leaves the tilde in the names of files. */
static char *
expand(const struct self *self, const char *path)
{
	if (path[0] == '~' && path[1] == '/')
		return mem_printf("%s%s", self->home, path + 1);
	return mem_str(path);
}

static void
add_words(struct ssh_names *n, const struct self *self, char *words)
{
	char *state, *w;

	for (w = strtok_r(words, " ", &state); w != NULL; w = strtok_r(NULL, " ", &state))
		if (strcmp(w, "none") != 0)
			add_name(n, expand(self, w));
}

static void
set_text(char **field, const char *value)
{
	free(*field);
	*field = mem_str(value);
}

static void
take_option(struct ssh_host *h, const struct self *self, const char *key, char *value)
{
	if (strcmp(key, "hostname") == 0) {
		set_text(&h->name, value);
	} else if (strcmp(key, "user") == 0) {
		set_text(&h->user, value);
	} else if (strcmp(key, "port") == 0) {
		h->port = atoi(value);
	} else if (strcmp(key, "hostkeyalias") == 0) {
		set_text(&h->key_alias, value);
	} else if (strcmp(key, "identityfile") == 0) {
		add_name(&h->identities, expand(self, value));
	} else if (strcmp(key, "proxyjump") == 0 || strcmp(key, "proxycommand") == 0) {
		h->proxied = h->proxied || strcmp(value, "none") != 0;
	} else if (strcmp(key, "ciphers") == 0) {
		set_text(&h->ciphers, value);
	} else if (strcmp(key, "userknownhostsfile") == 0) {
		add_words(&h->known_hosts, self, value);
	} else if (strcmp(key, "globalknownhostsfile") == 0) {
		add_words(&h->global_known_hosts, self, value);
	} else if (strcmp(key, "identityagent") == 0 && strcmp(value, "SSH_AUTH_SOCK") != 0) {
		free(h->agent);
		h->agent = expand(self, value);
	}
}

static void
take_answer(struct ssh_host *h, const struct self *self, char *answer)
{
	char *state, *line, *value;

	for (line = strtok_r(answer, "\n", &state); line != NULL; line = strtok_r(NULL, "\n", &state)) {
		if ((value = strchr(line, ' ')) == NULL)
			continue;
		*value++ = '\0';
		take_option(h, self, line, value);
	}
}

static void
take_defaults(struct ssh_host *h, const struct self *self, const struct transport_url *url)
{
	static const char *const keys[] = { "id_ed25519", "id_ecdsa", "id_rsa" };

	h->name = mem_str(url->host);
	h->user = mem_str(url->user != NULL ? url->user : self->user);
	h->port = url->port != 0 ? url->port : 22;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		add_name(&h->identities, mem_printf("%s/.ssh/%s", self->home, keys[i]));
	add_name(&h->known_hosts, mem_printf("%s/.ssh/known_hosts", self->home));
	add_name(&h->global_known_hosts, mem_str("/etc/ssh/ssh_known_hosts"));
}

static int
ask_ssh(const struct transport_url *url, int cancel, char *answer, char *why, size_t why_size)
{
	char port[16];
	char *argv[10];
	int n = 0;

	argv[n++] = "ssh";
	argv[n++] = "-GT";
	if (url->port != 0) {
		snprintf(port, sizeof(port), "%d", url->port);
		argv[n++] = "-p";
		argv[n++] = port;
	}
	if (url->user != NULL) {
		argv[n++] = "-l";
		argv[n++] = url->user;
	}
	argv[n++] = "--";
	argv[n++] = url->host;
	argv[n] = NULL;
	return child_run(argv, cancel, ASK_TIMEOUT_MS, answer, ANSWER_MAX_BYTES, why, why_size);
}

/* What the caller and the environment say outweighs ssh_config. */
static void
override(struct ssh_host *h, const char *identity)
{
	const char *known = getenv("SIBFS_KNOWN_HOSTS");

	if (identity != NULL) {
		fini_names(&h->identities);
		add_name(&h->identities, mem_str(identity));
	}
	if (known != NULL && *known != '\0') {
		fini_names(&h->known_hosts);
		fini_names(&h->global_known_hosts);
		add_name(&h->known_hosts, mem_str(known));
	}
}

int
ssh_host_resolve(struct ssh_host *out, const struct transport_url *url,
    const char *identity, int cancel, char *why, size_t why_size)
{
	struct self self = self_find();
	struct ssh_host h = { 0 };
	char *answer = mem_alloc(ANSWER_MAX_BYTES);
	int rc = ask_ssh(url, cancel, answer, why, why_size);

	if (rc == 0) {
		take_answer(&h, &self, answer);
	} else if (rc == -ENOENT) {
		take_defaults(&h, &self, url);
		rc = 0;
	} else {
		if (rc < 0)
			snprintf(why, why_size, "ssh -G %s: %s", url->host, strerror(-rc));
		else if (why[0] == '\0')
			snprintf(why, why_size, "ssh -G %s failed", url->host);
		rc = rc < 0 ? rc : -EINVAL;
	}
	free(answer);
	free(self.user);
	free(self.home);
	if (rc == 0 && (h.name == NULL || h.user == NULL || h.port < 1 || h.port > 65535)) {
		snprintf(why, why_size, "ssh -G %s: not an answer that we understand", url->host);
		rc = -EINVAL;
	}
	if (rc < 0) {
		ssh_host_fini(&h);
		return rc;
	}
	override(&h, identity);
	*out = h;
	return 0;
}

void
ssh_host_fini(struct ssh_host *h)
{
	free(h->name);
	free(h->user);
	free(h->key_alias);
	free(h->agent);
	free(h->ciphers);
	fini_names(&h->identities);
	fini_names(&h->known_hosts);
	fini_names(&h->global_known_hosts);
	memset(h, 0, sizeof(*h));
}

static bool
knows_aes(void)
{
#if defined(__x86_64__) || defined(__i386__)
	return __builtin_cpu_supports("aes");
#elif defined(__aarch64__)
	return getauxval(AT_HWCAP) & HWCAP_AES;
#else
	return false;
#endif
}

char *
ssh_host_fast_ciphers(const struct ssh_host *h)
{
	static const char fast[] = "aes128-gcm@openssh.com";
	char *copy, *state, *w, *out, *more;
	bool found = false;

	if (h->ciphers == NULL || strncmp(h->ciphers, fast, strlen(fast)) == 0 || !knows_aes())
		return NULL;
	copy = mem_str(h->ciphers);
	out = mem_str(fast);
	for (w = strtok_r(copy, ",", &state); w != NULL; w = strtok_r(NULL, ",", &state)) {
		if (strcmp(w, fast) == 0) {
			found = true;
			continue;
		}
		more = mem_printf("%s,%s", out, w);
		free(out);
		out = more;
	}
	free(copy);
	if (found)
		return out;
	free(out);
	return NULL;
}
