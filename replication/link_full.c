/*
 * Rounds in full.  Who forgot a deletion cannot tell of it any more; so a peer
 * that lacks events on what was forgotten is sent all there is, and takes what
 * did not come, and the sender knows of, for removed.  A round that is cut
 * changes nothing but what came; the next one is in full again.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>

#include "replication/link_impl.h"

#define ROWS_AT_ONCE 1000
#define LACKS_MS 5000

/* ---- sending ---- */

struct has
link_peer_has(const struct link *l)
{
	static const struct vv nothing;

	return (struct has){ l->full_round ? &nothing : &l->know, &l->forgot };
}

/* Its word may be on its way, if it had all that was forgotten so far. */
static bool
may_be_told_soon(struct link *l)
{
	int64_t now = replica_now_ms();

	if (!l->lacks_at_ms)
		l->lacks_at_ms = now;
	return l->had_all && now - l->lacks_at_ms < LACKS_MS;
}

bool
link_check_full(struct link *l)
{
	/* What it told on this link counts, not what others heard of it: it may have
	 * been restored from a backup since. */
	vv_join(&l->given, &l->know);
	if (l->full_round || vv_dominates(&l->given, &l->r->s->forgot)) {
		l->had_all = true;
		l->lacks_at_ms = 0;
		return true;
	}
	if (may_be_told_soon(l))
		return false;
	l->lacks_at_ms = 0;
	if (!l->takes_full) {
		link_send_bye(l, OLD_PEER);
		link_close(l, "refused", OLD_PEER);
		return false;
	}
	if (l->know.len)
		log_info("%s was away while deletions were forgotten: it is sent all there is", l->peer->name);
	l->full_round = true;
	l->news = true;
	l->sent_seq = l->marked_seq = 0;
	l->window = 0;
	exchange_forget_told(&l->told);
	return true;
}

/* ---- receiving ---- */

/* What came is noted by 128 bits each. */
static void
note(struct came *c, const uint8_t *key)
{
	if ((c->len & (c->len - 1)) == 0)
		c->key = mem_resize(c->key, c->len ? 2 * c->len : 1, sizeof(*c->key));
	memcpy(c->key[c->len++], key, sizeof(*c->key));
	c->sorted = false;
}

static void
key_of(const struct identity *dir, const void *name, size_t len, uint8_t *out)
{
	uint8_t sum[SHA256_DIGEST_LENGTH], *text = mem_alloc(sizeof(dir->b) + len + 1);

	memcpy(text, dir->b, sizeof(dir->b));
	if (len)
		memcpy(text + sizeof(dir->b), name, len);
	SHA256(text, sizeof(dir->b) + len, sum);
	memcpy(out, sum, sizeof(dir->b));
	free(text);
}

static int
by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, 16);
}

static bool
has_come(struct came *c, const uint8_t *key)
{
	if (!c->sorted && c->len)
		qsort(c->key, c->len, sizeof(*c->key), by_bytes);
	c->sorted = true;
	return c->len && bsearch(key, c->key, c->len, sizeof(*c->key), by_bytes);
}

void
link_note_full(struct link *l, const Sibfs__Wire__Batch *m)
{
	struct identity id;
	uint8_t key[16];

	for (size_t i = 0; i < m->n_dirs; i++)
		if (wire_get_identity(&m->dirs[i]->id, &id) == 0)
			note(&l->came, id.b);
	for (size_t i = 0; i < m->n_regs; i++)
		if (wire_get_identity(&m->regs[i]->dir, &id) == 0) {
			key_of(&id, m->regs[i]->name.data, m->regs[i]->name.len, key);
			note(&l->came, key);
		}
}

struct absence {
	struct link *l;
	const struct vv *know;
	uint64_t seq, end;
	size_t rows;
};

static int
take_absent_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct absence *q = arg;
	struct state *s = q->l->r->s;
	struct dir *d = state_dir_num(s, dir_num);
	struct reg *reg;
	uint8_t key[16];
	bool news;

	q->seq = seq;
	q->rows++;
	/* In a directory that no peer has heard of there is nothing they can miss. */
	if (seq > q->end || !d || d->told != DIR_TOLD)
		return 0;
	key_of(&d->id, name, strlen(name), key);
	if (has_come(&q->l->came, key))
		return 0;
	reg = take_absent_reg(s, d, name, q->know, &news);
	if (news)
		link_add_taken(q->l, reg);
	return 0;
}

void
link_forget_full(struct link *l)
{
	free(l->came.key);
	l->came = (struct came){ 0 };
}

int
link_take_full(struct link *l, const struct vv *know)
{
	struct replica *r = l->r;
	struct absence q = { .l = l, .know = know };
	struct dir *d, *tmp;
	int rc = replica_commit(r);	/* the rows are what we have */

	if (rc < 0)
		return rc;
	q.end = r->s->seq;
	do {
		q.rows = 0;
		rc = index_regs_since(r->x, q.seq, ROWS_AT_ONCE, take_absent_row, &q);
	} while (rc == 0 && q.rows && q.seq < q.end);
	view_hold(r);
	HASH_ITER(hh, r->s->dirs, d, tmp)
		if (d != r->s->root && !has_come(&l->came, d->id.b))
			l->taken_dirs |= take_absent_dir(r->s, d, know);
	link_forget_full(l);
	return rc;
}
