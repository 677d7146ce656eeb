/*
 * A transport through the ssh program: for ProxyJump, RSA and hardware keys,
 * GSSAPI, and whatever else ssh can do and libssh2 cannot.  ssh gets our end
 * of the socket pair as its stdin and stdout, so no byte passes through us.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/child.h"
#include "replication/lastline.h"
#include "replication/mem.h"
#include "replication/transport_impl.h"

enum { ARGS_MAX = 40 };

/* The arguments, and what was allocated for them. */
struct args {
	char *at[ARGS_MAX];
	char *owned[ARGS_MAX];
	size_t len, owned_len;
};

static void
add(struct args *a, const char *arg)
{
	a->at[a->len++] = (char *)arg;
}

static void
add_option(struct args *a, char *option)
{
	add(a, "-o");
	add(a, option);
	a->owned[a->owned_len++] = option;
}

static void
fini_args(struct args *a)
{
	while (a->owned_len > 0)
		free(a->owned[--a->owned_len]);
}

static void
fill_args(struct args *a, const struct transport *t, const struct ssh_host *h)
{
	const char *known = getenv("SIBFS_KNOWN_HOSTS");
	char *ciphers;

	add(a, "ssh");
	add(a, "-Tax");
	add_option(a, mem_str("BatchMode=yes"));
	add_option(a, mem_str("ClearAllForwardings=yes"));
	add_option(a, mem_str("ControlMaster=no"));
	add_option(a, mem_str("RemoteCommand=none"));
	add_option(a, mem_printf("ConnectTimeout=%d", TRANSPORT_CONNECT_MS / 1000));
	add_option(a, mem_printf("ServerAliveInterval=%d", TRANSPORT_KEEPALIVE_S));
	add_option(a, mem_printf("ServerAliveCountMax=%d",
	    TRANSPORT_SILENCE_MS / 1000 / TRANSPORT_KEEPALIVE_S));
	if (known != NULL && *known != '\0') {
		add_option(a, mem_printf("UserKnownHostsFile=\"%s\"", known));
		add_option(a, mem_str("GlobalKnownHostsFile=none"));
		add_option(a, mem_str("StrictHostKeyChecking=yes"));
	}
	if (t->identity != NULL) {
		add_option(a, mem_str("IdentitiesOnly=yes"));
		add(a, "-i");
		add(a, t->identity);
	}
	if (h != NULL && (ciphers = ssh_host_fast_ciphers(h)) != NULL) {
		add_option(a, mem_printf("Ciphers=%s", ciphers));
		free(ciphers);
	}
	if (t->url.port != 0)
		add_option(a, mem_printf("Port=%d", t->url.port));
	if (t->url.user != NULL) {
		add(a, "-l");
		add(a, t->url.user);
	}
	add(a, "--");
	add(a, t->url.host);
	add(a, t->command);
	add(a, NULL);
}

/* ssh itself failed (status 255): its last line says whether a person is needed. */
static void
set_ssh_failure(struct transport *t, const char *said)
{
	static const char *const refused[] = {
		"Permission denied", "Too many authentication failures",
		"no matching", "Bad configuration", "terminating,", "No user exists",
	};

	if (strncmp(said, "ssh: ", 5) == 0)
		said += 5;
	if (*said == '\0')
		said = "the connection was lost";
	if (strstr(said, "Host key verification failed") != NULL) {
		transport_set_end(t, TRANSPORT_REFUSED,
		    "host key of %s is not known or has changed: run \"ssh %s\" once to look at it",
		    t->url.host, t->url.host);
		return;
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (strstr(said, refused[i]) != NULL) {
			transport_set_end(t, TRANSPORT_REFUSED, "ssh: %s", said);
			return;
		}
	}
	transport_set_end(t, TRANSPORT_UNREACHABLE, "ssh: %s", said);
}

/* Until ssh has ended or the owner has closed (-ECANCELED). */
static int
attend(struct transport *t, struct child *c, int err, struct lastline *said)
{
	struct pollfd p[] = {
		{ .fd = t->wake, .events = POLLIN },
		{ .fd = c->fd, .events = POLLIN },
		{ .fd = err, .events = POLLIN },
	};
	char buf[512];
	ssize_t n;

	for (;;) {
		if (poll(p, 3, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (p[0].revents)
			return -ECANCELED;
		if (p[2].revents) {
			n = read(err, buf, sizeof(buf));
			if (n > 0)
				lastline_feed(said, buf, (size_t)n);
			else if (n == 0)
				p[2].fd = -1;
		} else if (p[1].revents) {
			return 0;
		}
	}
}

/*
 * A far command that fails does so before it sends anything (`sibfs serve` ends
 * with 0 once it has served), so its status tells a refusal.
 */
static void
run_child(struct transport *t, struct child *c, int err)
{
	struct lastline said = { 0 };
	int status;

	if (attend(t, c, err, &said) < 0) {
		child_kill(c);
		return;
	}
	status = child_wait(c);
	if (status == 255)
		set_ssh_failure(t, lastline_get(&said));
	else
		transport_set_exit(t, status, lastline_get(&said), false);
}

void
transport_cmd_run(struct transport *t, const struct ssh_host *h)
{
	struct args a = { 0 };
	struct child c;
	int err[2], rc;

	if (pipe2(err, O_CLOEXEC) < 0) {
		transport_set_end(t, TRANSPORT_UNREACHABLE, "no pipe for ssh: %s", strerror(errno));
		return;
	}
	fcntl(err[0], F_SETFL, O_NONBLOCK);
	/* ssh expects descriptors that wait.  The owner's end is another open
	 * file and stays as it is. */
	fcntl(t->fd, F_SETFL, 0);
	fill_args(&a, t, h);
	rc = child_start(&c, a.at, (int[]){ t->fd, t->fd, err[1] });
	fini_args(&a);
	close(err[1]);
	/* t->fd stays open here, so the owner sees the end of the stream only
	 * after its reason was noted. */
	if (rc == 0)
		run_child(t, &c, err[0]);
	else if (rc == -ENOENT)
		transport_set_end(t, TRANSPORT_REFUSED, "the ssh program is missing: install openssh-client");
	else
		transport_set_end(t, TRANSPORT_UNREACHABLE, "cannot run ssh: %s", strerror(-rc));
	close(err[0]);
}
