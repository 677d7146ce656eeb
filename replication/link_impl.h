/*
 * The insides of a link, shared by link.c and the link_*.c.
 */
#ifndef SIBFS_LINK_IMPL_H
#define SIBFS_LINK_IMPL_H

#include "replication/exchange.h"
#include "replication/frame.h"
#include "replication/outline.h"
#include "replication/packing.h"
#include "replication/replica_impl.h"
#include "replication/take.h"
#include "replication/throttle.h"
#include "replication/wire.h"

/* How much is queued: what stands in the queue delays all that comes after it,
 * so a slow link (or one with a limit) gets less. */
#define OUT_HIGH (1u << 20)
#define OUT_HIGH_MIN (16u << 10)
#define DATA_BLOCK (128u << 10)	/* of a content at a time, in turn with others */
#define DATA_BLOCK_MIN (4u << 10)
#define IN_CHUNK (256u << 10)	/* read at a time */

/* A batch; and the contents that come along in it, each and for one register. */
#define BATCH_ROWS 200
#define BATCH_BYTES (512u << 10)
#define MARK_CHANGES 1000	/* a watermark: so few are gone through again over the next link */
#define INLINE_MAX (32u << 10)
#define INLINE_SUM_MAX (256u << 10)

#define OFFER_MAX 10000		/* directories in one offer */
#define OFFER_BYTES (1u << 20)

#define SILENCE_MS 60000	/* then it is dead */
#define PING_MS 15000
#define GREETING_MS 30000	/* to connect, log in and greet */
#define ACK_MS 500		/* no more often, while contents come */

/* What a peer may ask for and leave unanswered; more ends the link. */
#define ROUNDS_MAX 8
#define RANGES_MAX 4096		/* that may be waiting, of one content */
#define SERVING_MAX 256		/* contents asked for and not sent yet */

/* The end of a call that the other side made as well: nothing is wrong. */
#define ALREADY "already connected"
#define OLD_PEER "it was away while deletions were forgotten, and its sibfs is too old to catch up"

typedef Sibfs__Wire__Frame Frame;

struct range {
	uint64_t from, to;
};

/* Content that the peer asked for. */
struct serving {
	struct serving *prev, *next;
	uint64_t id, size;
	struct hash hash;
	struct stat st;			/* when it was opened */
	int fd;
	bool whole;			/* else by ranges */
	unsigned untried;		/* blocks that are sent without trying to deflate them */
	uint64_t offset, end;		/* of what is being sent */
	struct range *ranges;		/* that come after it */
	size_t ranges_len;
	struct chunk_list list;		/* until its details were told */
	struct outline outline;
	uint32_t *groups;		/* whose details were asked for */
	size_t groups_len, groups_sent;
};

/* A row that the peer is to be sent. */
struct row {
	struct dir *dir;
	char *name;		/* NULL: the directory itself */
	uint64_t seq;
};

/* Runs on the replica's thread, with the link as its argument (which may have
 * gone by then). */
typedef void link_later_fn(struct replica *r, void *arg);

/* Registers and directories that came, by 128 bits each. */
struct came {
	uint8_t (*key)[16];
	size_t len;
	bool sorted;
};

struct link {
	struct link *prev, *next;
	struct replica *r;
	struct peer *peer;
	uint64_t number;		/* of this link; none has had it before */
	int fd;
	bool dialer, read_only;
	char *only;			/* who may call here; NULL: whoever it says */
	bool greeted;			/* their Hello came */
	bool closing;
	/* What our Hello said: the far end decides by that. */
	bool said_empty, said_join;
	char said_set[REPLICA_SET_MAX + 1];
	void (*closed_fn)(void *arg);
	void *closed_arg;
	struct bytes in, out;
	struct throttle in_limit, out_limit;
	size_t out_high;		/* no more is queued above this */
	size_t block;			/* of content at a time */
	struct packing packing;
	int64_t since_ms, heard_ms, pinged_ms;
	int64_t answer_by_ms;		/* else the link is dead; 0: no answer is due */

	/* What they are like. */
	uint32_t protocol;		/* that both speak */
	unsigned ways;			/* it understands frames made smaller so */
	bool has_blocks;		/* it tells of blocks */
	uint64_t id;

	/* Sending: what they asked for. */
	bool subscribed;		/* until one watermark, or for good */
	bool continuous;
	uint64_t due[ROUNDS_MAX];	/* rounds whose watermark is owed, news or not */
	unsigned due_len;
	bool barrier_wait;		/* until all that programs closed was told */
	uint64_t sent_seq;		/* all up to here was sent */
	uint64_t marked_seq;		/* and the peer was told so */
	uint64_t window;		/* end of the window under way; 0: none */
	unsigned pass;			/* 0: what lives; 1: what was removed */
	uint64_t pass_seq;
	bool more;			/* there is more to send, and it waits for its turn alone */
	bool news;			/* something was sent since the last watermark */
	struct vv know;			/* theirs, as far as we know */
	struct told *told;
	bool takes_full;		/* it understands rounds in full */
	bool had_all;			/* that we forgot, when we looked before */
	int64_t lacks_at_ms;		/* since then it seems not to; 0: it does */
	bool full_round;		/* all we have is being sent, whatever they know */
	struct vv marked;		/* our knowledge, as of the last watermark */
	struct vv given;		/* what they know, or was covered by a round in full */
	struct vv forgot;		/* what they forgot, as far as they told */
	unsigned members_sent;		/* by name */
	uint64_t members_seq;		/* the last change that was told */
	int64_t members_ms;		/* no sooner than this again */
	struct vv forgot_told;
	struct serving *serving;
	unsigned serving_len;
	bool has_lineage;		/* they understand it */
	uint64_t lineage_sent;		/* blocks that they were told of */

	/* Offers of directories that nobody has heard of. */
	struct offer *offered;
	size_t offered_len;
	bool offer_out;			/* ours waits for an answer */
	Frame *offer_in;		/* theirs waits for ours to be answered */

	/* Receiving. */
	unsigned wanted;		/* contents that were asked for and have not come */
	bool asked;			/* we subscribed, continuously */
	struct reg_list taken;		/* since the last look at the view */
	bool taken_dirs;
	struct came came;		/* in a round in full */
	uint64_t round;			/* that we began: 0 none */
	bool round_in;			/* their watermark for it came */
	uint64_t round_wants;		/* the last want of then: later ones are not waited for */
	bool round_sent;		/* we told them to do theirs */
	uint64_t their_round;		/* that they began, and we are to answer */
	bool their_round_in;
	uint64_t their_round_wants;
	uint64_t acked_wanted;		/* what we told last */
	int64_t acked_ms;
	uint64_t in_flight;		/* bytes of content that we asked for, and have not */
	uint64_t rate;			/* of those, bytes a second; 0: not known */
	uint64_t rate_bytes;		/* what came since rate_from_ms */
	int64_t rate_from_ms;
	int64_t rtt_ms;			/* the shortest that a Ping took; 0: not known */
};

#define LINK_CAN_BLOCKS "blocks"	/* in a Hello */

#define FRAME(f, kind, m)								\
	Frame f = SIBFS__WIRE__FRAME__INIT;						\
	f.what_case = SIBFS__WIRE__FRAME__WHAT_##kind;					\
	(void)(m)

/* ---- link.c ---- */

void		 link_ping(struct link *l, int64_t now_ms);
/* Asks for all that changes, unless it did or does not want it. */
void		 link_subscribe(struct link *l);

/* ---- link_dispatch.c ---- */

/* Handles a message; NULL in *f: it was kept.  -errno: the link is to end. */
int		 link_dispatch(struct link *l, Frame **f);

/* ---- link_hello.c ---- */

int		 link_get_hello(struct link *l, const Sibfs__Wire__Hello *m);

/* ---- link_messages.c ---- */

void		 link_ack_news(struct link *l);
void		 link_send_frame(struct link *l, const Frame *f, bool compress);
void		 link_send_hello(struct link *l);
void		 link_send_bye(struct link *l, const char *why);
struct progress	*link_progress_of(struct replica *r, uint64_t id);
void		 link_send_subscribe(struct link *l, bool once, uint64_t round);
void		 link_send_ack(struct link *l);
void		 link_send_watermark(struct link *l);

/* ---- link_lineage.c ---- */

/* What their Hello says that they know of: the answer is what they lack. */
void		 link_answer_landmarks(struct link *l, const Sibfs__Wire__Hello *m);
/* Before anything that may name dots of blocks learnt since. */
void		 link_lineage_news(struct link *l);
int		 link_get_lineage(struct link *l, const Sibfs__Wire__Lineage *m);
/* Their Hello has our incarnation. */
int		 link_meet_copy(struct link *l, const Sibfs__Wire__Hello *m);

/* ---- link_offer.c ---- */

void		 link_forget_offer(struct link *l);
bool		 link_send_offer(struct link *l);
int		 link_get_offer(struct link *l, Frame **f);
int		 link_get_answer(struct link *l, const Sibfs__Wire__Answer *m);

/* ---- link_members.c ---- */

void		 link_free_members(Sibfs__Wire__Member **list, size_t n);
/* All, without what is heard of them. */
void		 link_name_members(struct replica *r, Sibfs__Wire__Member ***list, size_t *n);
void		 link_tell_members(struct link *l, int64_t now_ms);
int		 link_get_members(struct link *l, const Sibfs__Wire__Members *m);
void		 link_heard(struct link *l, const struct vv *know);

/* ---- link_full.c ---- */

/* What goes before what is sent. */
struct has	 link_peer_has(const struct link *l);
/* Begins a round in full if the peer lacks events on what we forgot.  False:
 * nothing may be sent now. */
bool		 link_check_full(struct link *l);
void		 link_note_full(struct link *l, const Sibfs__Wire__Batch *m);
/* All came: what did not, and `know` covers, was removed. */
int		 link_take_full(struct link *l, const struct vv *know);
void		 link_forget_full(struct link *l);

/* ---- link_send.c ---- */

void		 link_pump_changes(struct link *l);

/* ---- link_content.c ---- */

int		 link_get_want(struct link *l, const Sibfs__Wire__Want *m);
void		 link_stop_serving(struct link *l, struct serving *v);
void		 link_get_stop(struct link *l, const Sibfs__Wire__Stop *m);
void		 link_pump_content(struct link *l);
struct serving	*link_serving(struct link *l, uint64_t id);
int		 link_get_fetch(struct link *l, const Sibfs__Wire__Fetch *m);

/* ---- link_outline.c ---- */

/* It is not to be had (any more). */
void		 link_give_up(struct link *l, struct serving *v);
void		 link_send_outline(struct link *l, struct serving *v);
int		 link_get_details(struct link *l, const Sibfs__Wire__Details *m);
/* The chunks of the next group that was asked for; false: there is none. */
bool		 link_send_chunks(struct link *l, struct serving *v);
int		 link_get_outline(struct link *l, const Sibfs__Wire__Outline *m);
int		 link_get_chunks(struct link *l, const Sibfs__Wire__Chunks *m);

/* ---- link_blocks.c ---- */

int		 link_get_ask_blocks(struct link *l, const Sibfs__Wire__AskBlocks *m);
int		 link_get_blocks(struct link *l, const Sibfs__Wire__Blocks *m);

/* ---- link_take.c ---- */

int		 link_learn_members(struct link *l, Sibfs__Wire__Member *const *list, size_t n);
/* A register that has news, to be shown. */
void		 link_add_taken(struct link *l, struct reg *reg);
void		 link_settle_taken(struct link *l);
int		 link_get_batch(struct link *l, const Sibfs__Wire__Batch *m);
int		 link_get_watermark(struct link *l, const Sibfs__Wire__Watermark *m);

/* ---- link_round.c ---- */

void		*link_later(struct link *l, link_later_fn *fn);
void		 link_later_run(void *arg);
void		 link_get_round_done(struct link *l, const Sibfs__Wire__RoundDone *m);

#endif
