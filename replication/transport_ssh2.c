/*
 * A transport by libssh2, from address to running far command: connect,
 * handshake, host key, authentication, channel; then the pump has it.  The
 * session never blocks: each step is repeated until it is through, its time is
 * up, or the owner has closed.
 */
#include "config.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libssh2.h>
#include <openssl/crypto.h>

#include "replication/clock.h"
#include "replication/mem.h"
#include "replication/ssh_key.h"
#include "replication/ssh_known.h"
#include "replication/ssh_pump.h"
#include "replication/transport_impl.h"

enum {
	STEP_MS = 15000,		/* handshake, each authentication, channel */
	WINDOW_BYTES = 2 << 20,		/* larger ones are slower (libssh2 queues in a list) */
	PACKET_BYTES = 32 << 10,
	ALGORITHMS_MAX = 256,
};

struct link {
	struct transport *t;
	const struct ssh_host *host;
	LIBSSH2_SESSION *session;
	LIBSSH2_AGENT *agent;		/* connected, its keys listed; or NULL */
	LIBSSH2_CHANNEL *channel;
	struct ssh_known *known;
	int sock;
	int64_t deadline_ms;
	/* For the message when all keys were refused. */
	int offered;
	const char *encrypted;
};

static pthread_once_t library_once = PTHREAD_ONCE_INIT;

/* OpenSSL must not clean up at exit while a transport's thread still runs. */
static void
start_library(void)
{
	OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
	libssh2_init(0);
}

/* ---- waiting ----------------------------------------------------------- */

/* Waits for events on the socket.  0, -ETIMEDOUT or -ECANCELED (noted). */
static int
wait_sock(struct link *l, short events)
{
	struct pollfd p[] = {
		{ .fd = l->t->wake, .events = POLLIN },
		{ .fd = l->sock, .events = events },
	};
	int64_t left;
	int n;

	do {
		left = l->deadline_ms - clock_ms();
		n = poll(p, 2, left > 0 ? (int)left : 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n > 0 && p[0].revents) {
		transport_set_end(l->t, TRANSPORT_CLOSED, "closed");
		return -ECANCELED;
	}
	return n > 0 ? 0 : -ETIMEDOUT;
}

static void
begin_step(struct link *l)
{
	l->deadline_ms = clock_ms() + STEP_MS;
}

/* May a call that returned rc be repeated?  Waits until it makes sense. */
static bool
again(struct link *l, ssize_t rc)
{
	int directions;
	short events = 0;

	if (rc != LIBSSH2_ERROR_EAGAIN)
		return false;
	directions = libssh2_session_block_directions(l->session);
	if (directions & LIBSSH2_SESSION_BLOCK_OUTBOUND)
		events |= POLLOUT;
	if ((directions & LIBSSH2_SESSION_BLOCK_INBOUND) || events == 0)
		events |= POLLIN;
	return wait_sock(l, events) == 0;
}

/* What libssh2 has to say of a step that failed; EAGAIN is a timeout here. */
static void
fail(struct link *l, enum transport_end end, const char *step, int rc)
{
	char *text = NULL;

	if (rc == LIBSSH2_ERROR_EAGAIN) {
		transport_set_end(l->t, TRANSPORT_UNREACHABLE, "%s: no answer (%s)", l->host->name, step);
		return;
	}
	libssh2_session_last_error(l->session, &text, NULL, 0);
	transport_set_end(l->t, end, "%s: %s failed: %s", l->host->name, step,
	    text != NULL && *text != '\0' ? text : "no reason given");
}

/* ---- what we have ------------------------------------------------------ */

/* The agent with its keys listed, or NULL.  Asks the agent, which may block. */
static LIBSSH2_AGENT *
open_agent(LIBSSH2_SESSION *session, const struct ssh_host *h)
{
	LIBSSH2_AGENT *agent;

	if (h->agent != NULL && strcmp(h->agent, "none") == 0)
		return NULL;
	if (h->agent == NULL && getenv("SSH_AUTH_SOCK") == NULL)
		return NULL;
	if ((agent = libssh2_agent_init(session)) == NULL)
		return NULL;
	if (h->agent != NULL)
		libssh2_agent_set_identity_path(agent, h->agent);
	if (libssh2_agent_connect(agent) == 0) {
		if (libssh2_agent_list_identities(agent) == 0)
			return agent;
		libssh2_agent_disconnect(agent);
	}
	libssh2_agent_free(agent);
	return NULL;
}

/* The agent's key after prev, NULL at the end. */
static struct libssh2_agent_publickey *
next_agent_key(LIBSSH2_AGENT *agent, struct libssh2_agent_publickey *prev)
{
	struct libssh2_agent_publickey *key;

	return agent != NULL && libssh2_agent_get_identity(agent, &key, prev) == 0 ? key : NULL;
}

/*
 * Can libssh2 sign with any key that we have?  If it cannot, the ssh program
 * may: it knows RSA with SHA-2, hardware keys, GSSAPI.
 */
static bool
has_usable_key(const struct link *l, char *why, size_t why_size)
{
	struct libssh2_agent_publickey *key = NULL;
	const char *kind = NULL;
	bool encrypted = false;

	for (size_t i = 0; i < l->host->identities.len; i++) {
		switch (ssh_key_of_file(l->host->identities.at[i])) {
		case SSH_KEY_USABLE:
			return true;
		case SSH_KEY_RSA:
			kind = "an RSA key";
			break;
		case SSH_KEY_HARDWARE:
			kind = "a hardware key";
			break;
		case SSH_KEY_ENCRYPTED:
			encrypted = true;
			break;
		case SSH_KEY_NONE:
			break;
		}
	}
	while ((key = next_agent_key(l->agent, key)) != NULL) {
		if (ssh_key_of_blob(key->blob, key->blob_len) == SSH_KEY_USABLE)
			return true;
		kind = "an RSA or hardware key";
	}
	/* Nor could ssh ask for a passphrase: authenticate() says what to do. */
	if (kind == NULL && encrypted)
		return true;
	if (kind != NULL)
		snprintf(why, why_size, "libssh2 cannot sign with %s", kind);
	else
		snprintf(why, why_size, "there is no key that libssh2 could use");
	return false;
}

/* 0, or -EOPNOTSUPP with the reason why libssh2 cannot do what is needed. */
static int
check_able(struct link *l, char *why, size_t why_size)
{
	if (l->host->proxied) {
		snprintf(why, why_size, "libssh2 has no ProxyJump and ProxyCommand");
		return -EOPNOTSUPP;
	}
	if (ssh_known_only_rsa(l->known)) {
		snprintf(why, why_size, "libssh2 cannot check the only known host key, an RSA one");
		return -EOPNOTSUPP;
	}
	return has_usable_key(l, why, why_size) ? 0 : -EOPNOTSUPP;
}

/* ---- connecting -------------------------------------------------------- */

static void
set_socket_options(int sock)
{
	unsigned int silence_ms = TRANSPORT_SILENCE_MS;
	int on = 1;

	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(sock, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof(silence_ms));
}

/* 0 with l->sock connected, or -errno. */
static int
connect_one(struct link *l, const struct addrinfo *a)
{
	socklen_t len = sizeof(int);
	int rc = 0;

	l->sock = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->sock < 0)
		return -errno;
	l->deadline_ms = clock_ms() + TRANSPORT_CONNECT_MS;
	if (connect(l->sock, a->ai_addr, a->ai_addrlen) < 0) {
		rc = errno != EINPROGRESS ? -errno : wait_sock(l, POLLOUT);
		if (rc == 0 && getsockopt(l->sock, SOL_SOCKET, SO_ERROR, &rc, &len) == 0)
			rc = -rc;
	}
	if (rc < 0) {
		close(l->sock);
		l->sock = -1;
		return rc;
	}
	set_socket_options(l->sock);
	return 0;
}

static int
connect_any(struct link *l)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
	struct addrinfo *list;
	char port[16];
	int rc;

	snprintf(port, sizeof(port), "%d", l->host->port);
	rc = getaddrinfo(l->host->name, port, &hints, &list);
	if (rc == EAI_ADDRFAMILY || rc == EAI_NONAME) {
		/* AI_ADDRCONFIG does not count loopback: without a network, ::1. */
		hints.ai_flags = 0;
		rc = getaddrinfo(l->host->name, port, &hints, &list);
	}
	if (rc != 0) {
		transport_set_end(l->t, TRANSPORT_UNREACHABLE, "%s: %s", l->host->name, gai_strerror(rc));
		return -EHOSTUNREACH;
	}
	rc = -EHOSTUNREACH;
	for (const struct addrinfo *a = list; a != NULL && rc < 0 && rc != -ECANCELED; a = a->ai_next)
		rc = connect_one(l, a);
	freeaddrinfo(list);
	if (rc < 0)
		transport_set_end(l->t, TRANSPORT_UNREACHABLE, "%s port %d: %s", l->host->name,
		    l->host->port, rc == -ETIMEDOUT ? "no answer" : strerror(-rc));
	return rc;
}

static int
shake_hands(struct link *l)
{
	int rc;

	begin_step(l);
	do
		rc = libssh2_session_handshake(l->session, l->sock);
	while (again(l, rc));
	if (rc == 0)
		return 0;
	fail(l, TRANSPORT_UNREACHABLE, "the SSH handshake", rc);
	return -EPROTO;
}

static int
check_host_key(struct link *l)
{
	char why[TRANSPORT_WHY_MAX];
	int rc = ssh_known_check(l->known, why, sizeof(why));

	if (rc < 0)
		transport_set_end(l->t, TRANSPORT_REFUSED, "%s", why);
	return rc;
}

/* ---- authentication ---------------------------------------------------- */

enum verdict { ACCEPTED, REFUSED, BROKEN };

/* libssh2 tells of a key as refused too when the connection broke meanwhile. */
static bool
has_hung_up(const struct link *l)
{
	char c;
	ssize_t n = recv(l->sock, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static enum verdict
verdict_of(struct link *l, int rc)
{
	if (rc == 0)
		return ACCEPTED;
	if (rc == LIBSSH2_ERROR_EAGAIN || rc == LIBSSH2_ERROR_SOCKET_SEND ||
	    rc == LIBSSH2_ERROR_SOCKET_RECV || rc == LIBSSH2_ERROR_SOCKET_DISCONNECT || has_hung_up(l)) {
		/* After some tries servers hang up: that is a refusal too. */
		fail(l, l->offered > 1 ? TRANSPORT_REFUSED : TRANSPORT_UNREACHABLE, "authentication", rc);
		return BROKEN;
	}
	return REFUSED;
}

static enum verdict
offer_file(struct link *l, const char *path)
{
	enum ssh_key_kind kind = ssh_key_of_file(path);
	int rc;

	if (kind == SSH_KEY_ENCRYPTED && l->encrypted == NULL)
		l->encrypted = path;
	if (kind != SSH_KEY_USABLE)
		return REFUSED;
	l->offered++;
	begin_step(l);
	do
		rc = libssh2_userauth_publickey_fromfile_ex(l->session, l->host->user,
		    (unsigned int)strlen(l->host->user), NULL, path, NULL);
	while (again(l, rc));
	return verdict_of(l, rc);
}

static enum verdict
offer_agent(struct link *l)
{
	struct libssh2_agent_publickey *key = NULL;
	enum verdict v = REFUSED;
	int rc;

	while (v == REFUSED && (key = next_agent_key(l->agent, key)) != NULL) {
		if (ssh_key_of_blob(key->blob, key->blob_len) != SSH_KEY_USABLE)
			continue;
		l->offered++;
		begin_step(l);
		do
			rc = libssh2_agent_userauth(l->agent, l->host->user, key);
		while (again(l, rc));
		v = verdict_of(l, rc);
	}
	return v;
}

static enum verdict
offer_files(struct link *l)
{
	enum verdict v = REFUSED;

	for (size_t i = 0; v == REFUSED && i < l->host->identities.len; i++)
		v = offer_file(l, l->host->identities.at[i]);
	return v;
}

static int
authenticate(struct link *l)
{
	const struct ssh_host *h = l->host;
	bool named = l->t->identity != NULL;
	enum verdict v = named ? offer_files(l) : offer_agent(l);

	if (v == REFUSED && !named)
		v = offer_files(l);
	else if (v == REFUSED && l->encrypted != NULL)
		v = offer_agent(l);
	if (v == ACCEPTED)
		return 0;
	if (v == BROKEN)
		return -EACCES;
	if (l->offered == 0 && l->encrypted != NULL)
		transport_set_end(l->t, TRANSPORT_REFUSED,
		    "%s needs a passphrase: load it into the agent with ssh-add", l->encrypted);
	else if (named)
		transport_set_end(l->t, TRANSPORT_REFUSED,
		    "%s@%s refused the key %s: add its public half to authorized_keys there",
		    h->user, h->name, l->t->identity);
	else
		transport_set_end(l->t, TRANSPORT_REFUSED,
		    "%s@%s refused our keys (%d tried): add one to authorized_keys there",
		    h->user, h->name, l->offered);
	return -EACCES;
}

/* ---- the channel ------------------------------------------------------- */

static int
open_channel(struct link *l)
{
	int rc;

	begin_step(l);
	do {
		l->channel = libssh2_channel_open_ex(l->session, "session", 7, WINDOW_BYTES, PACKET_BYTES, NULL, 0);
		rc = l->channel != NULL ? 0 : libssh2_session_last_errno(l->session);
	} while (again(l, rc));
	if (rc != 0) {
		fail(l, TRANSPORT_REFUSED, "opening a session", rc);
		return -EPROTO;
	}
	do
		rc = libssh2_channel_exec(l->channel, l->t->command);
	while (again(l, rc));
	if (rc != 0) {
		fail(l, TRANSPORT_REFUSED, "running sibfs", rc);
		return -EPROTO;
	}
	return 0;
}

/* ---- all of it --------------------------------------------------------- */

static int
link_init(struct link *l)
{
	pthread_once(&library_once, start_library);
	l->session = libssh2_session_init();
	if (l->session == NULL)
		return -ENOMEM;
	l->known = ssh_known_open(l->session, l->host);
	if (l->known == NULL) {
		libssh2_session_free(l->session);
		return -ENOMEM;
	}
	l->agent = open_agent(l->session, l->host);
	return 0;
}

/* Says goodbye if that is possible at once.  A session whose socket is shut is
 * freed without waiting. */
static void
link_fini(struct link *l)
{
	int tries = 10;

	if (l->sock >= 0) {
		libssh2_session_disconnect(l->session, "closed");
		shutdown(l->sock, SHUT_RDWR);
	}
	if (l->agent != NULL) {
		libssh2_agent_disconnect(l->agent);
		libssh2_agent_free(l->agent);
	}
	ssh_known_close(l->known);
	while (libssh2_session_free(l->session) == LIBSSH2_ERROR_EAGAIN && tries-- > 0)
		;
	if (l->sock >= 0)
		close(l->sock);
}

static void
prefer(struct link *l)
{
	char hostkeys[ALGORITHMS_MAX];

	ssh_known_prefer(l->known, hostkeys, sizeof(hostkeys));
	libssh2_session_method_pref(l->session, LIBSSH2_METHOD_HOSTKEY, hostkeys);
	/* The fastest here; CBC modes are left out. */
	libssh2_session_method_pref(l->session, LIBSSH2_METHOD_CRYPT_CS, "aes128-ctr,aes256-ctr,aes192-ctr");
	libssh2_session_method_pref(l->session, LIBSSH2_METHOD_CRYPT_SC, "aes128-ctr,aes256-ctr,aes192-ctr");
	libssh2_session_set_blocking(l->session, 0);
}

int
transport_ssh2_run(struct transport *t, const struct ssh_host *h, char *why, size_t why_size)
{
	struct link l = { .t = t, .host = h, .sock = -1 };
	int rc = link_init(&l);

	if (rc < 0) {
		transport_set_end(t, TRANSPORT_UNREACHABLE, "%s", strerror(-rc));
		return 0;
	}
	if (t->identity != NULL && ssh_key_of_file(t->identity) == SSH_KEY_NONE) {
		transport_set_end(t, TRANSPORT_REFUSED, "%s is not a private key that we can read", t->identity);
		goto out;
	}
	if ((rc = check_able(&l, why, why_size)) < 0)
		goto out;
	prefer(&l);
	if (connect_any(&l) == 0 && shake_hands(&l) == 0 && check_host_key(&l) == 0 &&
	    authenticate(&l) == 0 && open_channel(&l) == 0)
		ssh_pump_run(t, l.session, l.channel, l.sock);
out:
	link_fini(&l);
	return rc;
}
