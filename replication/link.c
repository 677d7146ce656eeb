/*
 * One link to a peer: the protocol of man/sibfs-wire.5 over a byte stream.
 *
 * Both ends greet, then each asks (Subscribe) for what changed at the other
 * since it last heard.  The sender goes through its changes in windows, what
 * lives first and what was removed last, and ends with a watermark once it has
 * caught up; only a watermark lets the receiver claim the sender's knowledge.
 * Content follows on demand.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/frame.h"
#include "replication/replica_impl.h"
#include "replication/take.h"
#include "replication/wire.h"

#define OUT_HIGH (1u << 20)	/* no more is queued above this */
#define IN_CHUNK (256u << 10)
#define BATCH_ROWS 200
#define BATCH_BYTES (512u << 10)
#define INLINE_MAX (32u << 10)
#define DATA_BLOCK (128u << 10)
#define OFFER_MAX 10000
#define SILENCE_MS 60000
#define PING_MS 15000
#define ROUNDS_MAX 8
#define ALREADY "already connected"

typedef Sibfs__Wire__Frame Frame;

/* Content that the peer asked for. */
struct serving {
	struct serving *prev, *next;
	uint64_t id, size, offset;
	int fd;
};

/* A row that the peer is to be sent. */
struct row {
	struct dir *dir;
	char *name;		/* NULL: the directory itself */
	uint64_t seq;
};

/* A directory that the peer was sent, as of which change. */
struct told {
	UT_hash_handle hh;
	uint64_t num, seq;
};

struct link {
	struct link *prev, *next;
	struct replica *r;
	struct peer *peer;
	int fd;
	bool dialer, read_only;
	bool greeted;			/* their Hello came */
	bool peer_paused;
	bool closing;
	void (*closed_fn)(void *arg);
	void *closed_arg;
	struct bytes in, out;
	int64_t heard_ms, pinged_ms;

	/* What they are like. */
	uint64_t id, epoch;

	/* Sending: what they asked for. */
	bool subscribed;		/* until one watermark, or for good */
	bool continuous;
	uint64_t due[ROUNDS_MAX];	/* rounds whose watermark is owed, news or not */
	unsigned due_len;
	bool barrier_wait;		/* until all that programs closed was told */
	uint64_t sent_seq;		/* all up to here was sent */
	uint64_t window;		/* end of the window under way; 0: none */
	unsigned pass;			/* 0: what lives; 1: what was removed */
	uint64_t pass_seq;
	bool news;			/* something was sent since the last watermark */
	struct vv know;			/* theirs, as far as we know */
	struct told *told;
	unsigned members_sent;
	struct serving *serving;

	/* Offers of directories that nobody has heard of. */
	char **offered;
	size_t offered_len;
	bool offer_out;			/* ours waits for an answer */
	Frame *offer_in;		/* theirs waits for ours to be answered */

	/* Receiving. */
	bool asked;			/* we subscribed, continuously */
	struct reg_list taken;		/* since the last look at the view */
	bool taken_dirs;
	uint64_t round;			/* that we began: 0 none */
	bool round_in;			/* their watermark for it came */
	bool round_sent;		/* we told them to do theirs */
	uint64_t their_round;		/* that they began, and we are to answer */
	bool their_round_in;
};

int
link_fd(const struct link *l)
{
	return l->fd;
}

bool
link_is_up(const struct link *l)
{
	return l->greeted && !l->closing;
}

uint64_t
link_peer_id(const struct link *l)
{
	return l->id;
}

bool
link_in_round(const struct link *l)
{
	return l->round != 0;
}

struct link *
link_next(const struct link *l)
{
	return l->next;
}

void
link_on_close(struct link *l, void (*fn)(void *arg), void *arg)
{
	l->closed_fn = fn;
	l->closed_arg = arg;
}

uint64_t
link_sent_seq(const struct link *l)
{
	return l->sent_seq;
}

short
link_events(const struct link *l)
{
	return (short)(POLLIN | (l->out.len ? POLLOUT : 0));
}

/* ---- sending messages ---- */

#define FRAME(f, kind, m)								\
	Frame f = SIBFS__WIRE__FRAME__INIT;						\
	f.what_case = SIBFS__WIRE__FRAME__WHAT_##kind;					\
	(void)(m)

static void
send_frame(struct link *l, const Frame *f, bool compress)
{
	if (!l->closing && frame_put(&l->out, f, compress) < 0)
		link_close(l, "refused", "a message would be too large");
}

static void
free_dots(Sibfs__Wire__Dot **dots, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(dots[i]);
	free(dots);
}

static void
send_hello(struct link *l)
{
	Sibfs__Wire__Hello m = SIBFS__WIRE__HELLO__INIT;
	const struct settings_peer *sp = l->peer ? peers_settings(l->r, l->peer) : NULL;
	Sibfs__Wire__Member *all = mem_resize(NULL, HASH_COUNT(l->r->members) + 1, sizeof(*all));
	Sibfs__Wire__Member **list = mem_resize(NULL, HASH_COUNT(l->r->members) + 1, sizeof(*list));
	struct member *x, *tmp;
	FRAME(f, HELLO, &m);

	f.hello = &m;
	m.protocol = WIRE_PROTOCOL;
	m.set = l->r->set;
	m.node = l->r->node;
	m.id = l->r->s->self;
	m.empty = l->r->s->counter == 0 && l->r->s->know.len == 0;
	m.join = sp && sp->join;
	m.epoch = l->r->epoch;
	m.paused = l->peer && peers_paused(l->r, l->peer);
	HASH_ITER(hh, l->r->members, x, tmp) {
		sibfs__wire__member__init(&all[m.n_members]);
		all[m.n_members].id = x->id;
		all[m.n_members].node = x->node;
		list[m.n_members] = &all[m.n_members];
		m.n_members++;
	}
	m.members = list;
	send_frame(l, &f, false);
	free(all);
	free(list);
}

static void
send_bye(struct link *l, const char *why)
{
	Sibfs__Wire__Bye m = SIBFS__WIRE__BYE__INIT;
	FRAME(f, BYE, &m);

	f.bye = &m;
	m.why = (char *)(uintptr_t)why;
	frame_put(&l->out, &f, false);
}

static struct progress *
progress_of(struct replica *r, uint64_t id)
{
	struct progress *p;

	HASH_FIND(hh, r->progress, &id, sizeof(id), p);
	return p;
}

static void
send_subscribe(struct link *l, bool once, uint64_t round)
{
	Sibfs__Wire__Subscribe m = SIBFS__WIRE__SUBSCRIBE__INIT;
	struct progress *p = progress_of(l->r, l->id);
	FRAME(f, SUBSCRIBE, &m);

	f.subscribe = &m;
	m.epoch = p ? p->epoch : 0;
	m.since = p && p->epoch == l->epoch ? p->seq : 0;
	wire_dots(&l->r->s->know, &m.know, &m.n_know);
	m.once = once;
	m.round = round;
	send_frame(l, &f, false);
	free_dots(m.know, m.n_know);
}

static void
send_ack(struct link *l)
{
	Sibfs__Wire__Ack m = SIBFS__WIRE__ACK__INIT;
	struct progress *p = progress_of(l->r, l->id);
	FRAME(f, ACK, &m);

	f.ack = &m;
	wire_dots(&l->r->s->know, &m.know, &m.n_know);
	m.seq = p ? p->seq : 0;
	m.wanted = content_wanted(l->r, &m.wanted_bytes);
	send_frame(l, &f, false);
	free_dots(m.know, m.n_know);
}

static void
send_watermark(struct link *l)
{
	Sibfs__Wire__Watermark m = SIBFS__WIRE__WATERMARK__INIT;
	FRAME(f, WATERMARK, &m);

	f.watermark = &m;
	m.seq = l->sent_seq;
	wire_dots(&l->r->s->know, &m.know, &m.n_know);
	m.round = l->due_len ? l->due[--l->due_len] : 0;
	m.once = m.round != 0;
	m.epoch = l->r->epoch;
	send_frame(l, &f, false);
	free_dots(m.know, m.n_know);
	l->news = false;
	if (!l->continuous && !l->due_len)
		l->subscribed = false;
}

/* ---- offers ---- */

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
forget_offer(struct link *l)
{
	for (size_t i = 0; i < l->offered_len; i++)
		free(l->offered[i]);
	free(l->offered);
	l->offered = NULL;
	l->offered_len = 0;
}

/* Offers what nobody has heard of, if anything.  True: an answer is awaited. */
static bool
send_offer(struct link *l)
{
	Sibfs__Wire__Offer m = SIBFS__WIRE__OFFER__INIT;
	struct dir *d, *tmp;
	FRAME(f, OFFER, &m);

	if (l->offer_out)
		return true;
	if (!l->r->s->untold)
		return false;
	forget_offer(l);
	HASH_ITER(hh, l->r->s->dirs, d, tmp) {
		if (l->offered_len == OFFER_MAX || !take_may_offer(l->r->s, d))
			continue;
		l->offered = mem_resize(l->offered, l->offered_len + 1, sizeof(*l->offered));
		l->offered[l->offered_len++] = take_path(d);
	}
	if (!l->offered_len) {
		take_told(l->r->s);
		return false;
	}
	qsort(l->offered, l->offered_len, sizeof(*l->offered), by_text);
	f.offer = &m;
	m.n_paths = l->offered_len;
	m.paths = mem_resize(NULL, l->offered_len, sizeof(*m.paths));
	for (size_t i = 0; i < l->offered_len; i++)
		m.paths[i] = (ProtobufCBinaryData){ strlen(l->offered[i]), (uint8_t *)l->offered[i] };
	m.first = l->offer_in != NULL;
	l->offer_out = true;
	send_frame(l, &f, true);
	free(m.paths);
	return true;
}

/* ---- directories in messages, those above first ---- */

struct dirs {
	Sibfs__Wire__Directory **d;
	size_t len;
	size_t bytes;
};

static void
add_dir(struct link *l, struct dirs *out, struct dir *d, bool news_only)
{
	struct told *t;

	if (!d || !d->at.up)
		return;
	HASH_FIND(hh, l->told, &d->num, sizeof(d->num), t);
	if (t && t->seq == d->seq)
		return;
	if (!t) {
		t = mem_alloc(sizeof(*t));
		t->num = d->num;
		HASH_ADD(hh, l->told, num, sizeof(t->num), t);
	}
	t->seq = d->seq;
	add_dir(l, out, d->birth.up, news_only);
	for (uint32_t i = 0; i < d->val.moves_len; i++) {
		add_dir(l, out, d->val.moves[i].to.up, news_only);
		add_dir(l, out, d->val.moves[i].from.up, news_only);
	}
	if (news_only && vv_dominates(&l->know, &d->val.ctx))
		return;
	out->d = mem_resize(out->d, out->len + 1, sizeof(*out->d));
	out->d[out->len++] = wire_directory(d);
	out->bytes += 200;
}

static void
free_dirs(struct dirs *out)
{
	for (size_t i = 0; i < out->len; i++)
		sibfs__wire__directory__free_unpacked(out->d[i], NULL);
	free(out->d);
	*out = (struct dirs){ 0 };
}

/* Takes directories as they come.  Those in a ring name each other: so all are
 * made known before any is joined. */
static int
take_dirs(struct link *l, Sibfs__Wire__Directory *const *list, size_t n, const struct vv *know)
{
	struct state *s = l->r->s;

	for (size_t i = 0; i < n; i++) {
		struct dirval bare = { 0 };
		struct identity up, id;
		struct dir *parent;
		char *name;
		bool news;
		int rc;

		if (!list[i]->birth || (rc = wire_get_identity(&list[i]->birth->up, &up)) < 0 ||
		    (rc = wire_get_identity(&list[i]->id, &id)) < 0)
			return -EBADMSG;
		parent = state_dir(s, &up);
		if (!parent || (rc = wire_get_name(&list[i]->birth->name, parent == s->root, &name)) < 0)
			return -EBADMSG;
		if (!state_dir(s, &id))
			take_dir(s, (struct place){ parent, name }, list[i]->number, &bare, NULL, &news);
		free(name);
	}
	for (size_t i = 0; i < n; i++) {
		struct dirval val;
		struct place birth;
		uint32_t k;
		bool news;
		int rc = wire_get_directory(s, list[i], &birth, &k, &val);

		if (rc < 0)
			return -EBADMSG;
		take_dir(s, birth, k, &val, know, &news);
		l->taken_dirs |= news;
		free(birth.name);
		dirval_fini(&val);
	}
	return 0;
}

/* ---- answering offers ---- */

static void
answer_offer(struct link *l, const Sibfs__Wire__Offer *in)
{
	Sibfs__Wire__Answer m = SIBFS__WIRE__ANSWER__INIT;
	struct dirs above = { 0 };
	FRAME(f, ANSWER, &m);

	f.answer = &m;
	m.index = mem_resize(NULL, in->n_paths + 1, sizeof(*m.index));
	m.dirs = mem_resize(NULL, in->n_paths + 1, sizeof(*m.dirs));
	for (size_t i = 0; i < in->n_paths; i++) {
		char *path = mem_alloc(in->paths[i].len + 1);
		struct dir *d;

		memcpy(path, in->paths[i].data, in->paths[i].len);
		d = take_answer(l->r->s, path);
		free(path);
		if (!d)
			continue;
		/* A peer has heard of it now: it keeps its identity. */
		if (d->told != DIR_TOLD) {
			d->told = DIR_TOLD;
			l->r->s->untold--;
			state_dir_noted(l->r->s, d);
		}
		add_dir(l, &above, d->birth.up, true);
		for (uint32_t j = 0; j < d->val.moves_len; j++) {
			add_dir(l, &above, d->val.moves[j].to.up, true);
			add_dir(l, &above, d->val.moves[j].from.up, true);
		}
		m.index[m.n_index++] = (uint32_t)i;
		m.dirs[m.n_dirs++] = wire_directory(d);
	}
	m.above = above.d;
	m.n_above = above.len;
	replica_commit(l->r);
	send_frame(l, &f, true);
	for (size_t i = 0; i < m.n_dirs; i++)
		sibfs__wire__directory__free_unpacked(m.dirs[i], NULL);
	free(m.dirs);
	free(m.index);
	free_dirs(&above);
}

static int
get_offer(struct link *l, Frame **f)
{
	Sibfs__Wire__Offer *in = (*f)->offer;

	if (in->n_paths > OFFER_MAX)
		return -EBADMSG;
	/* Ours goes first: what we adopt may be what they offer. */
	if (!l->offer_out && !l->offer_in && l->r->s->untold) {
		l->offer_in = *f;
		*f = NULL;
		if (send_offer(l))
			return 0;
		*f = l->offer_in;
		l->offer_in = NULL;
	} else if (l->offer_out && !in->first && l->r->s->self > l->id && !l->offer_in) {
		l->offer_in = *f;	/* both at once: theirs waits */
		*f = NULL;
		return 0;
	}
	answer_offer(l, in);
	return 0;
}

/* One directory that they show where ours, unheard of, stands. */
static int
adopt(struct link *l, const char *path, const Sibfs__Wire__Directory *m)
{
	struct state *s = l->r->s;
	struct dirval val;
	struct place birth, place;
	struct disk_dir *dd;
	struct dir *d;
	uint32_t k;
	bool news;
	int rc = wire_get_directory(s, m, &birth, &k, &val);

	if (rc == -ENOENT)
		return 0;		/* what is above it is not shown alike */
	if (rc < 0)
		return rc;
	place = birth;
	for (uint32_t i = 0; i < val.moves_len; i++) {
		struct dir probe = { .birth = birth, .val = val };

		place = dir_place(&probe);
	}
	if (take_adopt(s, path, birth, k, place)) {
		d = take_dir(s, birth, k, &val, NULL, &news);
		dd = disk_of(d);
		if (dd)
			disk_mark_dir(l->r, dd);
	}
	free(birth.name);
	dirval_fini(&val);
	return 0;
}

static int
get_answer(struct link *l, const Sibfs__Wire__Answer *m)
{
	int rc;

	if (!l->offer_out || m->n_index != m->n_dirs)
		return -EBADMSG;
	if ((rc = take_dirs(l, m->above, m->n_above, NULL)) < 0)
		return rc;
	for (size_t i = 0; i < m->n_index; i++) {
		if (m->index[i] >= l->offered_len)
			return -EBADMSG;
		if ((rc = adopt(l, l->offered[m->index[i]], m->dirs[i])) < 0)
			return rc;
	}
	forget_offer(l);
	l->offer_out = false;
	take_told(l->r->s);
	replica_commit(l->r);
	if (l->offer_in) {
		answer_offer(l, l->offer_in->offer);
		sibfs__wire__frame__free_unpacked(l->offer_in, NULL);
		l->offer_in = NULL;
	}
	return 0;
}

/* ---- sending changes ---- */

struct row_list {
	struct link *l;
	struct row rows[BATCH_ROWS];
	size_t len;
};

static int
collect_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct row_list *q = arg;
	struct row *row;

	if (seq > q->l->window || q->len == BATCH_ROWS)
		return 1;
	row = &q->rows[q->len];
	row->dir = state_dir_num(q->l->r->s, dir_num);
	row->name = mem_str(name);
	row->seq = seq;
	q->len++;
	return 0;
}

/* Small content comes along with its version, to save a round trip. */
static size_t
put_inline(struct link *l, struct reg *reg, Sibfs__Wire__Register *m)
{
	size_t bytes = 0;

	for (size_t i = 0; i < m->value->n_versions; i++) {
		Sibfs__Wire__Version *v = m->value->versions[i];
		struct dot d = { v->dot->id, v->dot->n };
		struct hash h;
		uint64_t size;
		int fd;

		if (vv_covers(&l->know, d) || v->size > INLINE_MAX || v->hash.len != sizeof(h.b))
			continue;
		memcpy(h.b, v->hash.data, sizeof(h.b));
		if (v->kind == KIND_SYMLINK && disk_of(reg->dir)) {
			char target[4096];
			int dirfd = disk_fd(&l->r->disk, disk_of(reg->dir));

			for (uint32_t j = 0; j < reg->files_len && dirfd >= 0; j++) {
				ssize_t n;

				if (hash_compare(&reg->files[j].hash, &h) != 0)
					continue;
				n = readlinkat(dirfd, reg->files[j].name, target, sizeof(target));
				if (n <= 0)
					continue;
				v->content.data = mem_dup(target, (size_t)n);
				v->content.len = (size_t)n;
				v->has_content = true;
				bytes += (size_t)n;
				break;
			}
			continue;
		}
		fd = content_open(l->r, &h, &size);
		if (fd < 0)
			continue;
		if (size == v->size) {
			uint8_t *p = mem_alloc(size + 1);
			ssize_t n = pread(fd, p, size, 0);

			if (n == (ssize_t)size) {
				v->content.data = p;
				v->content.len = size;
				v->has_content = true;
				bytes += size;
			} else {
				free(p);
			}
		}
		close(fd);
	}
	return bytes;
}

struct batch {
	struct dirs dirs;
	Sibfs__Wire__Register **regs;
	size_t regs_len;
	size_t bytes;
};

static void
send_batch(struct link *l, struct batch *b)
{
	Sibfs__Wire__Batch m = SIBFS__WIRE__BATCH__INIT;
	Sibfs__Wire__Member *all = NULL, **list = NULL;
	struct member *x, *tmp;
	FRAME(f, BATCH, &m);

	if (b->dirs.len || b->regs_len) {
		f.batch = &m;
		wire_dots(&l->r->s->know, &m.know, &m.n_know);
		m.dirs = b->dirs.d;
		m.n_dirs = b->dirs.len;
		m.regs = b->regs;
		m.n_regs = b->regs_len;
		if (l->members_sent != HASH_COUNT(l->r->members)) {
			all = mem_resize(NULL, HASH_COUNT(l->r->members), sizeof(*all));
			list = mem_resize(NULL, HASH_COUNT(l->r->members), sizeof(*list));
			HASH_ITER(hh, l->r->members, x, tmp) {
				sibfs__wire__member__init(&all[m.n_members]);
				all[m.n_members].id = x->id;
				all[m.n_members].node = x->node;
				list[m.n_members] = &all[m.n_members];
				m.n_members++;
			}
			m.members = list;
			l->members_sent = HASH_COUNT(l->r->members);
		}
		send_frame(l, &f, true);
		free_dots(m.know, m.n_know);
		l->news = true;
	}
	free(all);
	free(list);
	free_dirs(&b->dirs);
	for (size_t i = 0; i < b->regs_len; i++)
		sibfs__wire__register__free_unpacked(b->regs[i], NULL);
	free(b->regs);
	*b = (struct batch){ 0 };
}

static void
add_row(struct link *l, struct batch *b, const struct row *row)
{
	struct reg *reg = row->dir ? state_reg(l->r->s, row->dir, row->name, false) : NULL;
	struct regval *val = reg ? reg_known(reg) : NULL;
	Sibfs__Wire__Register *m;

	if (!reg || (val->len == 0) != (l->pass == 1) || vv_dominates(&l->know, &val->ctx))
		return;
	add_dir(l, &b->dirs, row->dir, true);
	m = wire_register(reg, val);
	b->regs = mem_resize(b->regs, b->regs_len + 1, sizeof(*b->regs));
	b->regs[b->regs_len++] = m;
	b->bytes += 300 + put_inline(l, reg, m);
	if (b->bytes + b->dirs.bytes > BATCH_BYTES)
		send_batch(l, b);
}

static bool
start_window(struct link *l)
{
	if (l->window)
		return true;
	if (l->sent_seq >= l->r->s->seq)
		return false;
	l->window = l->r->s->seq;
	l->pass = 0;
	l->pass_seq = l->sent_seq;
	return true;
}

static void
send_window_dirs(struct link *l, struct batch *b)
{
	struct dir *d, *tmp;

	HASH_ITER(hh, l->r->s->dirs, d, tmp) {
		if (d->seq <= l->sent_seq || d->seq > l->window || dir_is_live(d) != (l->pass == 0) ||
		    vv_dominates(&l->know, &d->val.ctx))
			continue;
		add_dir(l, &b->dirs, d, true);
		if (b->dirs.bytes > BATCH_BYTES)
			send_batch(l, b);
	}
}

/* One stretch of the window under way. */
static void
send_stretch(struct link *l)
{
	struct row_list q = { .l = l };
	struct batch b = { 0 };

	if (l->pass_seq == l->sent_seq)
		send_window_dirs(l, &b);
	index_regs_since(l->r->x, l->pass_seq, BATCH_ROWS, collect_row, &q);
	for (size_t i = 0; i < q.len; i++) {
		add_row(l, &b, &q.rows[i]);
		l->pass_seq = q.rows[i].seq;
		free(q.rows[i].name);
	}
	send_batch(l, &b);
	if (q.len == BATCH_ROWS)
		return;
	if (l->pass == 0) {
		l->pass = 1;
		l->pass_seq = l->sent_seq;
	} else {
		l->sent_seq = l->window;
		l->window = 0;
	}
}

static void
pump_changes(struct link *l)
{
	if (!l->subscribed || l->barrier_wait || l->closing || l->out.len > OUT_HIGH)
		return;
	/* While paused only what was asked for by hand. */
	if (!l->due_len && !l->window && peers_paused(l->r, l->peer))
		return;
	if (replica_commit(l->r) < 0)
		return;
	/* Adopting comes before telling. */
	if ((l->sent_seq < l->r->s->seq || l->due_len) && send_offer(l))
		return;
	if (replica_commit(l->r) < 0)
		return;
	while (l->out.len <= OUT_HIGH && !l->closing && start_window(l))
		send_stretch(l);
	while (!l->closing && l->subscribed && !l->window && l->sent_seq >= l->r->s->seq &&
	    (l->news || l->due_len || !l->continuous))
		send_watermark(l);
}

/* ---- sending content ---- */

static int
get_want(struct link *l, const Sibfs__Wire__Want *m)
{
	struct serving *v;
	struct hash h;
	uint64_t size;
	int fd;

	if (m->hash.len != sizeof(h.b))
		return -EBADMSG;
	memcpy(h.b, m->hash.data, sizeof(h.b));
	fd = content_open(l->r, &h, &size);
	if (fd < 0 || m->offset > size) {
		Sibfs__Wire__Gone gone = SIBFS__WIRE__GONE__INIT;
		FRAME(f, GONE, &gone);

		if (fd >= 0)
			close(fd);
		f.gone = &gone;
		gone.id = m->id;
		send_frame(l, &f, false);
		return 0;
	}
	v = mem_alloc(sizeof(*v));
	v->id = m->id;
	v->fd = fd;
	v->size = size;
	v->offset = m->offset;
	DL_APPEND(l->serving, v);
	return 0;
}

static void
stop_serving(struct link *l, struct serving *v)
{
	DL_DELETE(l->serving, v);
	close(v->fd);
	free(v);
}

static void
pump_content(struct link *l)
{
	static uint8_t buf[DATA_BLOCK];

	/* In turn, a block each: a small file is not held up by a large one. */
	while (l->serving && l->out.len <= OUT_HIGH && !l->closing) {
		Sibfs__Wire__Data m = SIBFS__WIRE__DATA__INIT;
		struct serving *v = l->serving;
		ssize_t n = pread(v->fd, buf, sizeof(buf), (off_t)v->offset);
		FRAME(f, DATA, &m);

		if (n < 0)
			n = 0;
		f.data = &m;
		m.id = v->id;
		m.offset = v->offset;
		m.bytes = (ProtobufCBinaryData){ (size_t)n, buf };
		v->offset += (uint64_t)n;
		m.last = n == 0 || v->offset >= v->size;
		send_frame(l, &f, true);
		DL_DELETE(l->serving, v);
		DL_APPEND(l->serving, v);
		if (m.last)
			stop_serving(l, v);
	}
}

bool
link_want(struct link *l, struct want *w)
{
	Sibfs__Wire__Want m = SIBFS__WIRE__WANT__INIT;
	FRAME(f, WANT, &m);

	f.want = &m;
	m.id = w->id;
	m.hash = (ProtobufCBinaryData){ sizeof(w->hash.b), w->hash.b };
	m.size = w->size;
	m.offset = w->have;
	send_frame(l, &f, false);
	return !l->closing;
}

static struct want *
want_by_id(struct link *l, uint64_t id)
{
	struct want *w, *tmp;

	HASH_ITER(hh, l->r->wants, w, tmp)
		if (w->id == id && w->link == l)
			return w;
	return NULL;
}

/* ---- receiving changes ---- */

static void
learn_members(struct link *l, Sibfs__Wire__Member *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i]->id && settings_node_valid(list[i]->node))
			replica_add_member(l->r, list[i]->id, list[i]->node);
}

static int
take_register(struct link *l, const Sibfs__Wire__Register *m, const struct vv *know)
{
	struct state *s = l->r->s;
	struct identity id;
	struct regval val;
	struct reg *reg;
	struct dir *d;
	char *name;
	bool news;
	int rc;

	if (!m->value || wire_get_identity(&m->dir, &id) < 0 || !(d = state_dir(s, &id)))
		return -EBADMSG;
	if (wire_get_name(&m->name, d == s->root, &name) < 0)
		return -EBADMSG;
	rc = wire_get_regval(m->value, &val);
	if (rc < 0) {
		free(name);
		return -EBADMSG;
	}
	reg = take_reg(s, d, name, &val, know, &news);
	for (size_t i = 0; i < m->value->n_versions && rc == 0 && news; i++) {
		const Sibfs__Wire__Version *v = m->value->versions[i];
		struct hash h;

		if (!v->has_content || v->hash.len != sizeof(h.b))
			continue;
		memcpy(h.b, v->hash.data, sizeof(h.b));
		rc = content_stage_bytes(l->r, &h, (uint8_t)v->kind, v->content.data, v->content.len);
		if (rc != -EBADMSG)
			rc = 0;		/* no room: asked for later */
	}
	if (news) {
		l->taken.r = mem_resize(l->taken.r, l->taken.len + 1, sizeof(*l->taken.r));
		l->taken.r[l->taken.len++] = reg;
	}
	regval_fini(&val);
	free(name);
	return rc;
}

/* What was taken is durable, then shown as far as its content is here. */
static void
settle_taken(struct link *l)
{
	struct replica *r = l->r;

	if (!l->taken.len && !l->taken_dirs)
		return;
	for (size_t i = 0; i < l->taken.len; i++) {
		struct reg *reg = l->taken.r[i];

		if (reg->pending && content_ready(r, reg, l->id))
			view_defer(r, reg);
	}
	l->taken.len = 0;
	l->taken_dirs = false;
	replica_commit(r);
	view_update(r);
	replica_commit(r);
	content_request(r);
	link_changed(r);
}

static int
get_batch(struct link *l, const Sibfs__Wire__Batch *m)
{
	struct vv know = { 0 };
	int rc;

	if (l->read_only)
		return -EPERM;
	if ((rc = wire_get_dots(m->know, m->n_know, &know)) < 0)
		return rc;
	learn_members(l, m->members, m->n_members);
	rc = take_dirs(l, m->dirs, m->n_dirs, &know);
	for (size_t i = 0; i < m->n_regs && rc == 0; i++)
		rc = take_register(l, m->regs[i], &know);
	vv_fini(&know);
	if (rc == 0 && l->taken.len > 2000)
		settle_taken(l);
	return rc;
}

static int
get_watermark(struct link *l, const Sibfs__Wire__Watermark *m)
{
	struct replica *r = l->r;
	struct progress *p = progress_of(r, l->id);
	struct vv know = { 0 };
	int rc;

	if ((rc = wire_get_dots(m->know, m->n_know, &know)) < 0)
		return rc;
	vv_join(&r->s->know, &know);
	vv_join(&l->know, &know);
	vv_join(&l->peer->know, &know);
	vv_fini(&know);
	if (!p) {
		p = mem_alloc(sizeof(*p));
		p->id = l->id;
		HASH_ADD(hh, r->progress, id, sizeof(p->id), p);
	}
	snprintf(p->node, sizeof(p->node), "%s", l->peer->name);
	p->epoch = m->epoch;
	p->seq = m->seq;
	replica_begin(r);
	index_put_peer(r->x, p->node, p->id, p->epoch, p->seq);
	settle_taken(l);
	replica_commit(r);
	if (m->round && m->round == l->round)
		l->round_in = true;
	if (m->round && m->round == l->their_round)
		l->their_round_in = true;
	send_ack(l);
	link_check_round(l);
	return 0;
}

/* ---- rounds ---- */

void
link_start_round(struct link *l, uint64_t round)
{
	l->round = round;
	l->round_in = l->round_sent = false;
	send_offer(l);
	send_subscribe(l, true, round);
}

struct settled {
	struct replica *r;
	struct link *l;
	void (*fn)(struct replica *r, void *arg);
};

static void
settled_elsewhere(void *arg)
{
	struct settled *q = arg;

	replica_call(q->r, q->fn, q->l);
	free(q);
}

/* Runs fn on our thread once the kernel knows of all that changed. */
static void
when_settled(struct link *l, void (*fn)(struct replica *r, void *arg))
{
	struct settled *q;

	if (!l->r->view) {
		fn(l->r, l);
		return;
	}
	q = mem_alloc(sizeof(*q));
	*q = (struct settled){ l->r, l, fn };
	l->r->view->settle(l->r->view->ctx, settled_elsewhere, q);
}

enum arrival { ARRIVING, ARRIVED, NO_ROOM };

static enum arrival
arrival_of(struct link *l)
{
	struct want *w, *tmp;
	bool all = true;

	HASH_ITER(hh, l->r->wants, w, tmp) {
		if (w->from != l->id)
			continue;
		if (w->full)
			return NO_ROOM;
		all &= w->failed;
	}
	return all ? ARRIVED : ARRIVING;
}

static void
send_round_done(struct link *l, const char *error)
{
	Sibfs__Wire__RoundDone m = SIBFS__WIRE__ROUND_DONE__INIT;
	FRAME(f, ROUND_DONE, &m);

	f.round_done = &m;
	m.round = l->their_round;
	m.error = (char *)(uintptr_t)error;
	l->their_round = 0;
	send_frame(l, &f, false);
	link_pump(l);
}

static void
round_settled(struct replica *r, void *arg)
{
	struct link *l;

	DL_FOREACH(r->links, l)
		if (l == arg && l->their_round) {
			send_round_done(l, "");
			return;
		}
}

void
link_check_round(struct link *l)
{
	enum arrival a = (l->round && l->round_in) || (l->their_round && l->their_round_in) ? arrival_of(l) : ARRIVING;

	if (a == NO_ROOM && l->round && l->round_in) {
		uint64_t round = l->round;

		l->round = 0;
		control_round_done(l->r, round, "no room on this end for all that it sends");
	}
	if (a == NO_ROOM && l->their_round && l->their_round_in)
		send_round_done(l, "no room there for all that was sent");
	if (l->round && l->round_in && !l->round_sent && a == ARRIVED) {
		Sibfs__Wire__Round m = SIBFS__WIRE__ROUND__INIT;
		FRAME(f, ROUND, &m);

		l->round_sent = true;
		f.round = &m;
		m.round = l->round;
		send_frame(l, &f, false);
	}
	if (l->their_round && l->their_round_in && a == ARRIVED) {
		l->their_round_in = false;
		when_settled(l, round_settled);
	}
}

static void
round_done_here(struct replica *r, void *arg)
{
	struct link *l;

	DL_FOREACH(r->links, l)
		if (l == arg && l->round) {
			uint64_t round = l->round;

			l->round = 0;
			control_round_done(r, round, NULL);
			return;
		}
}

static void
get_round_done(struct link *l, const Sibfs__Wire__RoundDone *m)
{
	uint64_t round = l->round;

	if (m->round != round)
		return;
	if (*m->error) {
		l->round = 0;
		control_round_done(l->r, round, m->error);
	} else {
		when_settled(l, round_done_here);
	}
}

/* ---- receiving messages ---- */

static void
after_barrier(struct replica *r, void *arg)
{
	struct link *l;

	replica_settle_events(r);
	DL_FOREACH(r->links, l)
		if (l == arg) {
			l->barrier_wait = false;
			link_pump(l);
			return;
		}
}

static int
get_subscribe(struct link *l, const Sibfs__Wire__Subscribe *m)
{
	struct vv know = { 0 };
	struct settled *q;
	int rc = wire_get_dots(m->know, m->n_know, &know);

	if (rc < 0)
		return rc;
	vv_join(&l->know, &know);
	vv_join(&l->peer->know, &know);
	vv_fini(&know);
	if (!l->subscribed) {
		uint64_t since = m->epoch == l->r->epoch ? m->since : 0;
		struct told *t, *tmp;

		l->sent_seq = since;
		l->window = 0;
		HASH_ITER(hh, l->told, t, tmp) {
			HASH_DEL(l->told, t);
			free(t);
		}
	}
	l->subscribed = true;
	l->continuous |= !m->once;
	if (m->once) {
		if (l->due_len == ROUNDS_MAX)
			return -EBADMSG;
		l->due[l->due_len++] = m->round;
		if (l->r->view) {
			l->barrier_wait = true;
			q = mem_alloc(sizeof(*q));
			*q = (struct settled){ l->r, l, after_barrier };
			l->r->view->barrier(l->r->view->ctx, settled_elsewhere, q);
		}
	}
	return 0;
}

static void
subscribe_unless_paused(struct link *l)
{
	if (l->asked || l->read_only || peers_paused(l->r, l->peer))
		return;
	l->asked = true;
	send_subscribe(l, false, 0);
}

static int
refuse(struct link *l, const char *why)
{
	send_bye(l, why);
	link_close(l, "refused", why);
	return 0;
}

static int
join_set(struct link *l, const Sibfs__Wire__Hello *m)
{
	struct replica *r = l->r;
	const struct settings_peer *sp = peers_settings(r, l->peer);
	bool empty = r->s->counter == 0 && r->s->know.len == 0;
	char why[256];

	if (strcmp(m->set, r->set) == 0)
		return 0;
	if (empty || (sp && sp->join)) {
		if (!settings_node_valid("x") || strlen(m->set) > REPLICA_SET_MAX)
			return -EBADMSG;
		snprintf(r->set, sizeof(r->set), "%s", m->set);
		replica_begin(r);
		index_set_value(r->x, "set", r->set, strlen(r->set));
		replica_commit(r);
		settings_set(r->meta_fd, "replica", "set", r->set);
		log_info("joined the set %s of %s", r->set, m->node);
		return 0;
	}
	if (m->empty || m->join)
		return 0;		/* they take ours */
	snprintf(why, sizeof(why), "%s belongs to another set (%s, not %s): `peer add --join` on one side unites them",
	    m->node, m->set, r->set);
	refuse(l, why);
	return 1;
}

static int
get_hello(struct link *l, const Sibfs__Wire__Hello *m)
{
	struct replica *r = l->r;
	char why[256];
	int rc;

	if (l->greeted)
		return -EBADMSG;
	if (m->protocol != WIRE_PROTOCOL) {
		snprintf(why, sizeof(why), "%s speaks protocol %u, this is %u: use the same version of sibfs on both",
		    m->node, m->protocol, WIRE_PROTOCOL);
		return refuse(l, why);
	}
	if (!settings_node_valid(m->node) || !m->id)
		return -EBADMSG;
	if (m->id == r->s->self)
		return refuse(l, "the far end is this very replica, or a copy of it");
	if (strcmp(m->node, r->node) == 0)
		return refuse(l, "both replicas have the same node name");
	if (!l->dialer) {
		struct peer *p = peers_find(r, m->node, true);

		/* Both called at once: the call of the lower incarnation stays. */
		if (p->link && p->link->dialer && r->s->self < m->id) {
			send_bye(l, ALREADY);
			link_close(l, "connecting", ALREADY);
			return 0;
		}
		if (p->link && p->link != l)
			link_close(p->link, "connecting", "replaced by a newer connection");
		l->peer = p;
		p->link = l;
	} else if (strcmp(m->node, l->peer->name) != 0) {
		snprintf(why, sizeof(why), "the far end calls itself %s, not %s", m->node, l->peer->name);
		return refuse(l, why);
	}
	if ((rc = join_set(l, m)) != 0)
		return rc < 0 ? rc : 0;
	l->greeted = true;
	l->id = m->id;
	l->epoch = m->epoch;
	l->peer->id = m->id;
	l->peer->tries = 0;
	l->peer_paused = m->paused;
	replica_add_member(r, m->id, m->node);
	learn_members(l, m->members, m->n_members);
	l->peer->state = "connected";
	l->peer->since_s = (int64_t)time(NULL);
	l->peer->error[0] = '\0';
	log_info("%s: connected", l->peer->name);
	subscribe_unless_paused(l);
	for (struct want *w = r->wants; w; w = w->hh.next)
		w->failed = false;
	content_request(r);
	control_tick(r, replica_now_ms());
	return 0;
}

static int
get_ack(struct link *l, const Sibfs__Wire__Ack *m)
{
	struct vv know = { 0 };
	int rc = wire_get_dots(m->know, m->n_know, &know);

	if (rc < 0)
		return rc;
	vv_join(&l->know, &know);
	vv_join(&l->peer->know, &know);
	vv_fini(&know);
	l->peer->acked_seq = m->seq;
	l->peer->wanted = m->wanted;
	l->peer->wanted_bytes = m->wanted_bytes;
	return 0;
}

static void
get_data(struct link *l, const Sibfs__Wire__Data *m)
{
	struct want *w = want_by_id(l, m->id);

	if (!w)
		return;
	content_received(l->r, w, m->offset, m->bytes.data, m->bytes.len, m->last);
}

static int
get_round(struct link *l, const Sibfs__Wire__Round *m)
{
	l->their_round = m->round;
	l->their_round_in = false;
	send_offer(l);
	send_subscribe(l, true, m->round);
	return 0;
}

static int
dispatch(struct link *l, Frame **fp)
{
	Frame *f = *fp;

	if (!l->greeted && f->what_case != SIBFS__WIRE__FRAME__WHAT_HELLO &&
	    f->what_case != SIBFS__WIRE__FRAME__WHAT_BYE)
		return -EBADMSG;
	switch (f->what_case) {
	case SIBFS__WIRE__FRAME__WHAT_HELLO:
		return get_hello(l, f->hello);
	case SIBFS__WIRE__FRAME__WHAT_SUBSCRIBE:
		return get_subscribe(l, f->subscribe);
	case SIBFS__WIRE__FRAME__WHAT_UNSUBSCRIBE:
		l->continuous = false;
		l->subscribed = l->due_len > 0;
		return 0;
	case SIBFS__WIRE__FRAME__WHAT_OFFER:
		return get_offer(l, fp);
	case SIBFS__WIRE__FRAME__WHAT_ANSWER:
		return get_answer(l, f->answer);
	case SIBFS__WIRE__FRAME__WHAT_BATCH:
		return get_batch(l, f->batch);
	case SIBFS__WIRE__FRAME__WHAT_WATERMARK:
		return get_watermark(l, f->watermark);
	case SIBFS__WIRE__FRAME__WHAT_ACK:
		return get_ack(l, f->ack);
	case SIBFS__WIRE__FRAME__WHAT_WANT:
		return get_want(l, f->want);
	case SIBFS__WIRE__FRAME__WHAT_DATA:
		get_data(l, f->data);
		return 0;
	case SIBFS__WIRE__FRAME__WHAT_GONE:
		if (want_by_id(l, f->gone->id))
			content_failed(l->r, want_by_id(l, f->gone->id));
		content_retry(l->r, false);
		link_check_round(l);
		return 0;
	case SIBFS__WIRE__FRAME__WHAT_ROUND:
		return get_round(l, f->round);
	case SIBFS__WIRE__FRAME__WHAT_ROUND_DONE:
		get_round_done(l, f->round_done);
		return 0;
	case SIBFS__WIRE__FRAME__WHAT_BYE:
		link_close(l, strcmp(f->bye->why, ALREADY) == 0 ? "connecting" : "refused", f->bye->why);
		return 0;
	case SIBFS__WIRE__FRAME__WHAT_PING:
		if (!f->ping->answer) {
			f->ping->answer = true;
			send_frame(l, f, false);
		}
		return 0;
	default:
		return 0;		/* of a later version: not for us */
	}
}

/* ---- life ---- */

struct link *
link_new(struct replica *r, int fd, struct peer *p, bool dialer, bool read_only)
{
	struct link *l = mem_alloc(sizeof(*l));

	l->r = r;
	l->fd = fd;
	l->peer = p;
	l->dialer = dialer;
	l->read_only = read_only;
	l->heard_ms = l->pinged_ms = replica_now_ms();
	DL_APPEND(r->links, l);
	if (p)
		p->link = l;
	send_hello(l);
	link_pump(l);
	return l;
}

/* Marks it for its end: link_ready or link_tick frees it. */
void
link_close(struct link *l, const char *state, const char *why)
{
	struct peer *p = l->peer;

	if (l->closing)
		return;
	l->closing = true;
	if (l->out.len)
		(void)!write(l->fd, l->out.p + l->out.start, l->out.len);
	content_drop_link(l->r, l);
	if (p && p->link == l) {
		p->link = NULL;
		peers_link_ended(l->r, p, state, why);
	} else if (!p && why) {
		log_warn("a peer that called: %s", why);
	}
	if (l->round)
		control_round_done(l->r, l->round, why);
	l->round = l->their_round = 0;
}

static void
link_free(struct link *l)
{
	struct told *t, *tmp;

	settle_taken(l);
	DL_DELETE(l->r->links, l);
	while (l->serving)
		stop_serving(l, l->serving);
	HASH_ITER(hh, l->told, t, tmp) {
		HASH_DEL(l->told, t);
		free(t);
	}
	forget_offer(l);
	if (l->offer_in)
		sibfs__wire__frame__free_unpacked(l->offer_in, NULL);
	free(l->taken.r);
	vv_fini(&l->know);
	bytes_fini(&l->in);
	bytes_fini(&l->out);
	close(l->fd);
	if (l->closed_fn)
		l->closed_fn(l->closed_arg);
	free(l);
}

static void
flush_out(struct link *l)
{
	while (l->out.len && !l->closing) {
		ssize_t n = send(l->fd, l->out.p + l->out.start, l->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0) {
			link_close(l, "unreachable", "connection lost");
			return;
		}
		bytes_drop(&l->out, (size_t)n);
	}
}

void
link_pump(struct link *l)
{
	size_t before;

	if (l->closing)
		return;
	do {
		before = l->out.len;
		if (l->greeted) {
			pump_changes(l);
			pump_content(l);
		}
		flush_out(l);
	} while (!l->closing && l->out.len == 0 && before != 0);
}

static const char *
reason(int rc)
{
	return rc == -EPERM ? "the far end may only read here" :
	    rc == -EMSGSIZE ? "it sent a message that is too large" : "it broke the protocol";
}

static void
read_frames(struct link *l)
{
	Frame *f;
	int rc;

	while (!l->closing && (rc = frame_get(&l->in, &f)) != 0) {
		if (rc == 1) {
			rc = dispatch(l, &f);
			if (f)
				sibfs__wire__frame__free_unpacked(f, NULL);
		}
		if (rc < 0) {
			send_bye(l, reason(rc));
			link_close(l, "refused", reason(rc));
		}
	}
}

void
link_ready(struct link *l, short revents)
{
	static uint8_t buf[IN_CHUNK];

	if (!l->closing && revents & (POLLIN | POLLHUP | POLLERR)) {
		ssize_t n = recv(l->fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n > 0) {
			l->heard_ms = replica_now_ms();
			bytes_add(&l->in, buf, (size_t)n);
			read_frames(l);
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			link_close(l, "unreachable", NULL);
		}
	}
	link_pump(l);
	if (l->closing)
		link_free(l);
}

void
link_tick(struct link *l, int64_t now_ms)
{
	Sibfs__Wire__Ping m = SIBFS__WIRE__PING__INIT;
	FRAME(f, PING, &m);

	if (!l->closing && now_ms - l->heard_ms > SILENCE_MS)
		link_close(l, "unreachable", "silent for a minute");
	if (l->closing) {
		link_free(l);
		return;
	}
	if (l->greeted && now_ms - l->pinged_ms > PING_MS) {
		l->pinged_ms = now_ms;
		f.ping = &m;
		send_frame(l, &f, false);
		link_pump(l);
	}
}

void
link_changed(struct replica *r)
{
	struct link *l;

	DL_FOREACH(r->links, l)
		if (l->greeted)
			link_pump(l);
}

void
link_pause_changed(struct link *l)
{
	Sibfs__Wire__Unsubscribe m = SIBFS__WIRE__UNSUBSCRIBE__INIT;
	FRAME(f, UNSUBSCRIBE, &m);

	if (!l->greeted || l->closing)
		return;
	if (!peers_paused(l->r, l->peer)) {
		subscribe_unless_paused(l);
	} else if (l->asked) {
		l->asked = false;
		f.unsubscribe = &m;
		send_frame(l, &f, false);
	}
	link_pump(l);
}
