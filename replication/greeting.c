/*
 * One frame is read from the far end, and checked as any other.
 */
#include "config.h"

#include "replication/greeting.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "replication/clock.h"
#include "replication/frame.h"
#include "replication/wire.h"

/* The first frame; -ENOTCONN: the stream ended before it came. */
static int
read_frame(int fd, int64_t until_ms, Sibfs__Wire__Frame **out)
{
	struct bytes in = { 0 };
	uint8_t buf[16384];
	int rc;

	while ((rc = frame_get(&in, out)) == 0) {
		int64_t left = until_ms - clock_ms();
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (left <= 0) {
			rc = -ETIMEDOUT;
			break;
		}
		if (poll(&p, 1, (int)left) <= 0)
			continue;
		n = read(fd, buf, sizeof(buf));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0) {
			rc = -ENOTCONN;
			break;
		}
		bytes_add(&in, buf, (size_t)n);
	}
	bytes_fini(&in);
	return rc == 1 ? 0 : rc;
}

static int
take_hello(const Sibfs__Wire__Frame *f, struct greeting *out, char *why, size_t why_size)
{
	const Sibfs__Wire__Hello *m;

	if (f->what_case == SIBFS__WIRE__FRAME__WHAT_BYE) {
		snprintf(why, why_size, "%s", f->bye->why);
		return -ECONNREFUSED;
	}
	m = f->what_case == SIBFS__WIRE__FRAME__WHAT_HELLO ? f->hello : NULL;
	if (!m || !settings_node_valid(m->node) || !*m->set || strlen(m->set) > GREETING_SET_MAX) {
		snprintf(why, why_size, "the far end does not answer as sibfs does");
		return -EPROTO;
	}
	snprintf(out->node, sizeof(out->node), "%s", m->node);
	snprintf(out->set, sizeof(out->set), "%s", m->set);
	return 0;
}

int
greeting_ask(const char *url, const struct transport_options *o, int timeout_ms, struct greeting *out, char *why,
    size_t why_size)
{
	Sibfs__Wire__Frame *f;
	struct transport *t;
	int fd, rc = transport_open(url, o, &t, &fd);

	if (rc < 0) {
		snprintf(why, why_size, "cannot connect: %s", strerror(-rc));
		return rc;
	}
	rc = read_frame(fd, clock_ms() + timeout_ms, &f);
	if (rc == 0) {
		rc = take_hello(f, out, why, why_size);
		sibfs__wire__frame__free_unpacked(f, NULL);
	} else if (rc == -ETIMEDOUT) {
		snprintf(why, why_size, "no answer for %d s", timeout_ms / 1000);
	} else if (rc == -ENOTCONN) {
		/* The stream ends after the transport has noted why. */
		if (transport_status(t, why, why_size) == TRANSPORT_REFUSED)
			rc = -ECONNREFUSED;
	} else {
		snprintf(why, why_size, "the far end does not answer as sibfs does");
		rc = -EPROTO;
	}
	close(fd);
	transport_close(t);
	return rc;
}
