#include "config.h"

#include "fs/channel.h"

#include <assert.h>
#include <sys/uio.h>
#include <unistd.h>

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <linux/fuse.h>

#include "fs/handshake.h"
#include "fs/workers.h"

/* libfuse gives its hooks nothing of ours; only one mount is served by a process. */
static struct workers *workers;
static struct handshake *handshake;

/*
 * O_TMPFILE.  libfuse 3.14 does not know the request, but it is CREATE with
 * another number, and is answered alike.  The name in it is "/", which no file
 * can have: by that ops_create knows it.
 */
static void
tmpfile_as_create(void *request, size_t size)
{
	struct fuse_in_header *in = request;

	if (size >= sizeof *in && in->opcode == FUSE_TMPFILE)
		in->opcode = FUSE_CREATE;
}

static ssize_t
channel_read(int fd, void *buf, size_t size, void *userdata)
{
	ssize_t n;

	(void)userdata;
	n = workers_read(workers, fd, buf, size);
	if (n > 0) {
		handshake_request(handshake, buf, (size_t)n);
		tmpfile_as_create(buf, (size_t)n);
	}
	return n;
}

static ssize_t
channel_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	(void)userdata;
	handshake_answer(handshake, iov, count);
	return writev(fd, iov, count);
}

int
channel_open(struct fuse_session *se, struct workers *w, struct handshake *h)
{
	const struct fuse_custom_io io = { .read = channel_read, .writev = channel_writev };

	assert(workers == NULL);
	workers = w;
	handshake = h;
	return fuse_session_custom_io(se, &io, fuse_session_fd(se));
}

void
channel_close(void)
{
	workers = NULL;
	handshake = NULL;
}
