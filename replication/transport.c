/*
 * The life of a transport: its URL, its thread, who carries the bytes, and how
 * it ended.  A transport is shared by its owner and its thread and freed by
 * whoever lets go last, so closing never waits.
 */
#include "config.h"

#include "replication/transport.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "replication/log.h"
#include "replication/mem.h"
#include "replication/transport_impl.h"

/* ---- URLs -------------------------------------------------------------- */

/* A host or user name may become an argument of ssh: never an option, nor
 * anything that a shell or ssh_config would read as more than a name. */
static bool
is_name(const char *s, const char *also)
{
	if (*s == '\0' || *s == '-')
		return false;
	for (; *s != '\0'; s++)
		if (!isalnum((unsigned char)*s) && strchr(also, *s) == NULL)
			return false;
	return true;
}

static bool
has_control(const char *s)
{
	for (; *s != '\0'; s++)
		if (iscntrl((unsigned char)*s))
			return true;
	return false;
}

static int
parse_port(const char *s, int *out)
{
	char *end;
	long port;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	port = strtol(s, &end, 10);
	if (*end != '\0' || port < 1 || port > 65535)
		return -EINVAL;
	*out = (int)port;
	return 0;
}

/* [user@]host[:port], in place; brackets around an IPv6 address. */
static int
parse_authority(char *s, bool port_allowed, struct transport_url *u)
{
	char *at = strrchr(s, '@'), *port = NULL, *end;

	if (at != NULL) {
		*at = '\0';
		u->user = mem_str(s);
		s = at + 1;
	}
	if (*s == '[') {
		s++;
		if ((end = strchr(s, ']')) == NULL)
			return -EINVAL;
		*end++ = '\0';
		if (*end == ':')
			port = end + 1;
		else if (*end != '\0')
			return -EINVAL;
	} else if ((end = strchr(s, ':')) != NULL) {
		*end = '\0';
		port = end + 1;
	}
	u->host = mem_str(s);
	if (port != NULL && (!port_allowed || parse_port(port, &u->port) < 0))
		return -EINVAL;
	if (!is_name(u->host, ".-_:%") || (u->user != NULL && !is_name(u->user, ".-_+@\\")))
		return -EINVAL;
	return 0;
}

/* The far command starts in the home directory: `~/x` is `x` there. */
static char *
far_path(const char *path)
{
	if (strcmp(path, "~") == 0 || strcmp(path, "~/") == 0)
		return mem_str(".");
	return mem_str(strncmp(path, "~/", 2) == 0 ? path + 2 : path);
}

/* Where host and path part in host:path; a colon in brackets does not count. */
static char *
find_colon(char *s)
{
	char *p = s, *at = strchr(s, '@');

	if (at != NULL)
		p = at + 1;
	if (*p == '[' && (p = strchr(p, ']')) == NULL)
		return NULL;
	return strchr(p, ':');
}

static int
parse_parts(char *s, struct transport_url *u)
{
	char *path;

	if (strncmp(s, "ssh://", 6) == 0) {
		s += 6;
		if ((path = strchr(s, '/')) == NULL)
			return -EINVAL;
		u->path = far_path(strncmp(path, "/~/", 3) == 0 ? path + 1 : path);
		*path = '\0';
		if (strcmp(u->path, "/") == 0)
			return -EINVAL;
		return parse_authority(s, true, u);
	}
	if (strstr(s, "://") != NULL || (path = find_colon(s)) == NULL)
		return -EINVAL;
	*path++ = '\0';
	if (*path == '\0' || strchr(s, '/') != NULL)
		return -EINVAL;
	u->path = far_path(path);
	return parse_authority(s, false, u);
}

int
transport_url_parse(const char *text, struct transport_url *out)
{
	struct transport_url u = { 0 };
	char *copy;
	int rc;

	if (has_control(text) || strlen(text) > 8192)
		return -EINVAL;
	copy = mem_str(text);
	rc = parse_parts(copy, &u);
	free(copy);
	if (rc == 0 && u.path[0] == '-')	/* would be an option of serve */
		rc = -EINVAL;
	if (rc < 0) {
		transport_url_fini(&u);
		return rc;
	}
	*out = u;
	return 0;
}

void
transport_url_fini(struct transport_url *u)
{
	free(u->user);
	free(u->host);
	free(u->path);
	memset(u, 0, sizeof(*u));
}

/* ---- how it ended ------------------------------------------------------ */

void
transport_set_end(struct transport *t, enum transport_end end, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&t->lock);
	if (t->end == TRANSPORT_OPEN) {
		t->end = end;
		va_start(ap, fmt);
		vsnprintf(t->why, sizeof(t->why), fmt, ap);
		va_end(ap);
	}
	pthread_mutex_unlock(&t->lock);
}

void
transport_set_exit(struct transport *t, int status, const char *said, bool spoke)
{
	if (strncmp(said, "sibfs: ", 7) == 0)
		said += 7;
	if (status == 127 && !spoke)
		transport_set_end(t, TRANSPORT_REFUSED,
		    "%s has no sibfs in the PATH that commands get over ssh (%s)", t->url.host, said);
	else if (status != 0 && !spoke && *said != '\0')
		transport_set_end(t, TRANSPORT_REFUSED, "%s: %s", t->url.host, said);
	else if (status != 0 && !spoke)
		transport_set_end(t, TRANSPORT_REFUSED, "sibfs at %s ended with status %d", t->url.host, status);
	else if (status != 0 && *said != '\0')
		transport_set_end(t, TRANSPORT_CLOSED, "%s: %s", t->url.host, said);
	else
		transport_set_end(t, TRANSPORT_CLOSED, "%s closed the link", t->url.host);
}

enum transport_end
transport_status(struct transport *t, char *why, size_t size)
{
	enum transport_end end;

	pthread_mutex_lock(&t->lock);
	end = t->end;
	snprintf(why, size, "%s", t->why);
	pthread_mutex_unlock(&t->lock);
	return end;
}

/* ---- the thread -------------------------------------------------------- */

static void
put_transport(struct transport *t)
{
	int refs;

	pthread_mutex_lock(&t->lock);
	refs = --t->refs;
	pthread_mutex_unlock(&t->lock);
	if (refs > 0)
		return;
	pthread_mutex_destroy(&t->lock);
	transport_url_fini(&t->url);
	free(t->identity);
	free(t->command);
	close(t->wake);
	free(t);
}

static void
run_ssh2(struct transport *t)
{
	struct ssh_host h;
	char why[TRANSPORT_WHY_MAX] = "";
	int rc = ssh_host_resolve(&h, &t->url, t->identity, t->wake, why, sizeof(why));

	if (rc < 0) {
		transport_set_end(t, TRANSPORT_REFUSED, "%s", why);
		return;
	}
	rc = transport_ssh2_run(t, &h, why, sizeof(why));
	if (rc == -EOPNOTSUPP && t->kind == TRANSPORT_SSH2) {
		transport_set_end(t, TRANSPORT_REFUSED, "%s; set transport = ssh", why);
	} else if (rc == -EOPNOTSUPP) {
		log_info("%s: through the ssh program: %s", t->url.host, why);
		transport_cmd_run(t, &h);
	}
	ssh_host_fini(&h);
}

/* What ssh_config has of the host is good to know; if it cannot be told, ssh
 * says why in its own words. */
static void
run_ssh(struct transport *t)
{
	struct ssh_host h;
	char why[TRANSPORT_WHY_MAX] = "";
	bool known = ssh_host_resolve(&h, &t->url, t->identity, t->wake, why, sizeof(why)) == 0;

	transport_cmd_run(t, known ? &h : NULL);
	if (known)
		ssh_host_fini(&h);
}

static void *
run(void *arg)
{
	struct transport *t = arg;

	pthread_setname_np(pthread_self(), "sibfs-link");
	if (t->kind == TRANSPORT_SSH)
		run_ssh(t);
	else
		run_ssh2(t);
	/* Whoever sees the end of the stream finds its reason. */
	transport_set_end(t, TRANSPORT_CLOSED, "closed");
	close(t->fd);
	put_transport(t);
	return NULL;
}

/* A thread of its own, detached, with no signal meant for it. */
static int
start_thread(struct transport *t)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	int rc;

	if ((rc = pthread_attr_init(&attr)) != 0)
		return -rc;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&thread, &attr, run, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -rc;
}

/* In single quotes for the far shell. */
static char *
quote(const char *s)
{
	size_t n = 0;
	char *out = mem_alloc(strlen(s) * 4 + 3);

	out[n++] = '\'';
	for (; *s != '\0'; s++) {
		if (*s == '\'') {
			memcpy(out + n, "'\\''", 4);
			n += 4;
		} else {
			out[n++] = *s;
		}
	}
	out[n++] = '\'';
	return out;
}

static char *
far_command(const char *path, const char *node)
{
	char *p = quote(path), *n = quote(node);
	char *command = mem_printf("sibfs serve %s --peer %s", p, n);

	free(p);
	free(n);
	return command;
}

int
transport_open(const char *url, const struct transport_options *o, struct transport **out, int *fd)
{
	struct transport *t = mem_alloc(sizeof(*t));
	int pair[2], rc;

	if ((rc = transport_url_parse(url, &t->url)) < 0)
		goto err_transport;
	t->kind = o->kind;
	t->identity = mem_str(o->identity);
	t->command = far_command(t->url.path, o->node);
	t->refs = 2;
	if ((t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0) {
		rc = -errno;
		goto err_url;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		rc = -errno;
		goto err_wake;
	}
	t->fd = pair[0];
	pthread_mutex_init(&t->lock, NULL);
	if ((rc = start_thread(t)) < 0)
		goto err_pair;
	*out = t;
	*fd = pair[1];
	return 0;

err_pair:
	pthread_mutex_destroy(&t->lock);
	close(pair[0]);
	close(pair[1]);
err_wake:
	close(t->wake);
err_url:
	transport_url_fini(&t->url);
	free(t->identity);
	free(t->command);
err_transport:
	free(t);
	return rc;
}

void
transport_close(struct transport *t)
{
	if (t == NULL)
		return;
	eventfd_write(t->wake, 1);
	put_transport(t);
}
