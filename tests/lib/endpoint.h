/*
 * One end of a link between two replicas, without what is not state: greetings,
 * contents of files, rounds, sockets.  Offers, batches in windows over the feed
 * of changes, and watermarks go as they do over a link, packed and unpacked by
 * the same code.
 */
#ifndef SIBFS_TEST_ENDPOINT_H
#define SIBFS_TEST_ENDPOINT_H

#include "replication/exchange.h"
#include "tests/lib/rows.h"

/* What an endpoint asks of whoever runs it. */
struct endpoint_io {
	void *ctx;
	/* Commits the state: nothing leaves before it is durable. */
	void (*durable)(void *ctx);
	/* A message for the other end, which takes bytes over. */
	void (*send)(void *ctx, uint8_t *bytes, size_t len);
	/* A register came, and is pending or known already. */
	void (*took)(void *ctx, struct reg *r);
	/* All their changes up to seq were taken in; to be committed. */
	void (*caught_up)(void *ctx, uint64_t seq);
};

/* What was said, for tests that count. */
struct tally {
	uint64_t messages, bytes, batches, watermarks, offers;
	uint64_t regs, dirs;		/* in batches */
	uint64_t longest;		/* bytes of one message */
};

struct endpoint;

/* For the replica s, whose feed is given, towards the incarnation `peer`. */
struct endpoint	*endpoint_new(struct state *s, struct feed *feed, uint64_t peer, const struct endpoint_io *io);
void		 endpoint_free(struct endpoint *e);

/* So many rows go into one batch (200 unless set). */
void		 endpoint_set_rows(struct endpoint *e, size_t rows);

/* So many changes, though none is for the peer, get a watermark. */
uint64_t	 endpoint_far(const struct endpoint *e);

/* The last change that what was sent just now may be of. */
uint64_t	 endpoint_upto(const struct endpoint *e);

/* Asks for all their changes after that one. */
void		 endpoint_ask(struct endpoint *e, uint64_t since);

/* Sends one message, if any is due. */
bool		 endpoint_pump(struct endpoint *e);

/* Takes a message in.  0 or -EBADMSG. */
int		 endpoint_hear(struct endpoint *e, const uint8_t *bytes, size_t len);

const struct tally *endpoint_tally(const struct endpoint *e);

#endif
