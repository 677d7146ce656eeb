/*
 * Links: what transport.h promises, over socket pairs whose far ends we hold.
 * Bytes move when we carry them, some at a time, each cable and direction by
 * itself; so they are late, and those of one link come before those of another
 * or after them.  A cable can be cut anywhere in the stream, for both ends or
 * for one only.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/transport.h"
#include "tests/lib/random.h"
#include "tests/sim/replica_sim.h"

/* One direction. */
struct way {
	int from, to;		/* -1: that end is gone */
	uint8_t *data;		/* under way */
	size_t len;
	bool frozen;
};

struct transport {
	struct transport *prev, *next;
	struct host *ends[2];
	struct way way[2];	/* from the caller, and to it */
	bool closed;		/* the caller let go of it */
	enum transport_end end;
};

static struct transport *cables;
static bool apart[HOSTS_MAX][HOSTS_MAX];

static unsigned
number_of(const struct host *h)
{
	return (unsigned)(h - sim.hosts);
}

static void
close_end(struct transport *t, unsigned end)
{
	/* One descriptor is the start of one way and the end of the other. */
	int fd = t->way[end].from;

	if (fd >= 0)
		close(fd);
	t->way[end].from = t->way[1 - end].to = -1;
}

static void
remove_cable(struct transport *t)
{
	close_end(t, 0);
	close_end(t, 1);
	free(t->way[0].data);
	free(t->way[1].data);
	t->way[0] = t->way[1] = (struct way){ .from = -1, .to = -1 };
	if (t->end == TRANSPORT_OPEN)
		t->end = TRANSPORT_UNREACHABLE;
	DL_DELETE(cables, t);
	if (t->closed)
		free(t);
}

static struct host *
host_named(const char *url)
{
	for (unsigned i = 0; i < sim.len; i++)
		if (strncmp(url, "ssh://", 6) == 0 && strncmp(url + 6, sim.hosts[i].name, strlen(sim.hosts[i].name)) == 0)
			return &sim.hosts[i];
	return NULL;
}

int __wrap_transport_open(const char *url, const struct transport_options *o, struct transport **out, int *fd);
enum transport_end __wrap_transport_status(struct transport *t, char *why, size_t size);
void __wrap_transport_close(struct transport *t);

int
__wrap_transport_open(const char *url, const struct transport_options *o, struct transport **out, int *fd)
{
	struct host *there = host_named(url), *here = sim.at;
	int mine[2], theirs[2];
	struct transport *t;

	(void)o;
	if (!there || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, mine) < 0)
		return -EMFILE;
	t = mem_alloc(sizeof(*t));
	*out = t;
	*fd = mine[0];
	t->way[0] = t->way[1] = (struct way){ .from = -1, .to = -1 };
	if (!there->up || apart[number_of(here)][number_of(there)] ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, theirs) < 0) {
		close(mine[1]);
		t->end = TRANSPORT_UNREACHABLE;
		DL_APPEND(cables, t);
		remove_cable(t);
		return 0;
	}
	sim_say("%s calls %s", here->name, there->name);
	t->ends[0] = here;
	t->ends[1] = there;
	t->way[0].from = t->way[1].to = mine[1];
	t->way[1].from = t->way[0].to = theirs[1];
	DL_APPEND(cables, t);
	replica_serve(there->r, theirs[0], NULL, false, NULL, NULL);
	return 0;
}

enum transport_end
__wrap_transport_status(struct transport *t, char *why, size_t size)
{
	snprintf(why, size, "%s", t->end == TRANSPORT_UNREACHABLE ? "no way there" : "");
	return t->end;
}

void
__wrap_transport_close(struct transport *t)
{
	struct transport *x;

	t->closed = true;
	DL_FOREACH(cables, x)
		if (x == t)
			return;
	free(t);
}

static bool
is_split(const struct transport *t)
{
	return apart[number_of(t->ends[0])][number_of(t->ends[1])];
}

/* Carries up to so many bytes; returns whether anything moved. */
static bool
carry(struct transport *t, struct way *w, size_t most)
{
	static uint8_t buf[65536];
	bool moved = false;
	ssize_t n;

	if (w->frozen || is_split(t))
		return false;
	if (w->from >= 0 && w->len < sizeof(buf)) {
		n = recv(w->from, buf, most < sizeof(buf) ? most : sizeof(buf), MSG_DONTWAIT);
		if (n > 0) {
			w->data = mem_resize(w->data, w->len + (size_t)n, 1);
			memcpy(w->data + w->len, buf, (size_t)n);
			w->len += (size_t)n;
			moved = true;
		} else if (n == 0) {
			close_end(t, w == &t->way[0] ? 0 : 1);
			moved = true;
		}
	}
	if (w->to >= 0 && w->len) {
		n = send(w->to, w->data, w->len < most ? w->len : most, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0) {
			memmove(w->data, w->data + n, w->len - (size_t)n);
			w->len -= (size_t)n;
			moved = true;
		} else if (n < 0 && errno != EAGAIN) {
			close_end(t, w == &t->way[0] ? 1 : 0);
			moved = true;
		}
	}
	/* The far end hears of the end after all that was said before it. */
	if (w->from < 0 && w->len == 0 && w->to >= 0) {
		close_end(t, w == &t->way[0] ? 1 : 0);
		moved = true;
	}
	if (w->to < 0)
		w->len = 0;
	return moved;
}

static void
remove_ended(void)
{
	struct transport *t, *tmp;

	DL_FOREACH_SAFE(cables, t, tmp)
		if (t->way[0].from < 0 && t->way[1].from < 0)
			remove_cable(t);
}

static struct transport *
any_cable(void)
{
	struct transport *t;
	size_t n = 0;

	DL_FOREACH(cables, t)
		n++;
	if (!n)
		return NULL;
	n = random_below(n);
	DL_FOREACH(cables, t)
		if (n-- == 0)
			break;
	return t;
}

void
net_carry(unsigned times)
{
	while (times--) {
		struct transport *t = any_cable();
		size_t most = random_chance(70) ? 65536 : 1 + random_below(3000);

		if (t)
			carry(t, &t->way[random_below(2)], most);
		remove_ended();
	}
}

bool
net_carry_all(void)
{
	struct transport *t;
	bool moved = false;

	DL_FOREACH(cables, t)
		for (int i = 0; i < 2; i++)
			moved |= carry(t, &t->way[i], 65536);
	remove_ended();
	return moved;
}

void
net_cut(void)
{
	struct transport *t = any_cable();

	if (!t)
		return;
	carry(t, &t->way[0], 1 + random_below(2000));
	carry(t, &t->way[1], 1 + random_below(2000));
	sim_say("the link of %s and %s is cut", t->ends[0]->name, t->ends[1]->name);
	if (random_chance(75)) {
		close_end(t, 0);
		close_end(t, 1);
	} else {
		/* One end does not hear of it for a while. */
		close_end(t, (unsigned)random_below(2));
		t->way[0].frozen = t->way[1].frozen = true;
	}
	remove_ended();
}

void
net_freeze(void)
{
	struct transport *t = any_cable();

	if (t)
		t->way[random_below(2)].frozen ^= true;
}

void
net_split(unsigned a, unsigned b, bool yes)
{
	apart[a][b] = apart[b][a] = yes;
}

void
net_heal(void)
{
	struct transport *t;

	memset(apart, 0, sizeof(apart));
	DL_FOREACH(cables, t)
		t->way[0].frozen = t->way[1].frozen = false;
}

/* What it had sent still arrives, or does not. */
void
net_host_down(struct host *h)
{
	struct transport *t, *tmp;

	DL_FOREACH_SAFE(cables, t, tmp)
		for (unsigned i = 0; i < 2; i++)
			if (t->ends[i] == h) {
				if (random_chance(50))
					carry(t, &t->way[i], 65536);
				close_end(t, i);
			}
	remove_ended();
}
