/*
 * Addresses by rtnetlink(7), whose messages are only counted: what is true now
 * shows when links are tried.  Sleep by the clock that stands still meanwhile.
 */
#include "config.h"

#include "replication/netwatch.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SLEPT_MS 2000	/* less is no sleep */

static int64_t
slept_ms(void)
{
	struct timespec boot, mono;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	clock_gettime(CLOCK_MONOTONIC, &mono);
	return (boot.tv_sec - mono.tv_sec) * INT64_C(1000) + (boot.tv_nsec - mono.tv_nsec) / 1000000;
}

void
netwatch_open(struct netwatch *w)
{
	struct sockaddr_nl a = {
		.nl_family = AF_NETLINK,
		.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE,
	};

	w->awake_ms = slept_ms();
	w->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (w->fd >= 0 && bind(w->fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		netwatch_close(w);
}

void
netwatch_close(struct netwatch *w)
{
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
}

bool
netwatch_changed(struct netwatch *w)
{
	int64_t slept = slept_ms();
	bool changed = slept - w->awake_ms > SLEPT_MS;
	char buf[16384];
	ssize_t n;

	w->awake_ms = slept;
	/* ENOBUFS: more came than it could hold, which is news too. */
	while (w->fd >= 0 && ((n = recv(w->fd, buf, sizeof(buf), 0)) > 0 || (n < 0 && errno == ENOBUFS)))
		changed = true;
	return changed;
}
