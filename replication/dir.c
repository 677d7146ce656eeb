/*
 * Directories and their join.
 */
#include "config.h"

#include "replication/dir.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>

#include "replication/mem.h"

struct identity
identity_make(const struct identity *parent, const char *name, uint32_t k)
{
	size_t len = strlen(name);
	uint8_t *text = mem_alloc(sizeof(parent->b) + 4 + len), sum[SHA256_DIGEST_LENGTH];
	struct identity id;

	memcpy(text, parent->b, sizeof(parent->b));
	for (int i = 0; i < 4; i++)
		text[sizeof(parent->b) + (size_t)i] = (uint8_t)(k >> (8 * i));
	memcpy(text + sizeof(parent->b) + 4, name, len);
	SHA256(text, sizeof(parent->b) + 4 + len, sum);
	memcpy(id.b, sum, sizeof(id.b));
	free(text);
	return id;
}

bool
identity_equal(const struct identity *a, const struct identity *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

static bool
is_live_dot(const struct dirval *v, struct dot d)
{
	for (uint32_t i = 0; i < v->live_len; i++)
		if (dot_equal(v->live[i], d))
			return true;
	return false;
}

/* Two replicas may repeat one stamp when they make the same repair of a ring
 * lasting: then the dot decides, so that all agree. */
static bool
move_is_newer(const struct dir_move *a, const struct dir_move *b)
{
	int order = b ? stamp_compare(a->at, b->at) : 1;

	return order > 0 || (order == 0 && dot_compare(a->dot, b->dot) > 0);
}

const struct dir_move *
dir_move(const struct dir *d)
{
	const struct dir_move *alive = NULL, *any = NULL;

	for (uint32_t i = 0; i < d->val.moves_len; i++) {
		const struct dir_move *m = &d->val.moves[i];

		if (move_is_newer(m, any))
			any = m;
		if (is_live_dot(&d->val, m->dot) && move_is_newer(m, alive))
			alive = m;
	}
	return alive ? alive : d->val.live_len ? NULL : any;
}

struct place
dir_place(const struct dir *d)
{
	const struct dir_move *m = dir_move(d);

	return m ? m->to : d->birth;
}

struct stamp
dir_since(const struct dir *d)
{
	const struct dir_move *m = dir_move(d);

	return m ? m->at : (struct stamp){ 0, 0 };
}

unsigned
dir_depth(const struct dir *d)
{
	unsigned n = 0;

	for (; d->at.up; d = d->at.up)
		n++;
	return n;
}

char *
dir_path(const struct dir *d)
{
	size_t len = 1;
	char *out, *end;

	for (const struct dir *x = d; x->at.up; x = x->at.up)
		len += strlen(x->at.name) + (x->at.up->at.up != NULL);
	out = mem_alloc(len);
	end = out + len - 1;
	for (const struct dir *x = d; x->at.up; x = x->at.up) {
		size_t n = strlen(x->at.name);

		end -= n;
		memcpy(end, x->at.name, n);
		if (x->at.up->at.up)
			*--end = '/';
	}
	return out;
}

uint32_t
dir_mode(const struct dir *d)
{
	uint32_t mode = 07777;

	for (uint32_t i = 0; i < d->val.modes_len; i++)
		mode &= d->val.modes[i].mode;
	return d->val.modes_len ? mode : 0755;
}

/*
 * The join of the three sets.  Elements start with their dot; `size` is theirs.
 * Kept: live on both sides, or on one and unknown to the other.
 */
static uint32_t
survivors(void **mine, uint32_t mine_len, const void *theirs, uint32_t theirs_len, size_t size,
    const struct vv *my_seen, const struct vv *their_seen, void (*drop)(void *), void (*own)(void *))
{
	uint8_t *a = *mine;
	const uint8_t *b = theirs;
	uint32_t n = 0;

	for (uint32_t i = 0; i < mine_len; i++) {
		struct dot d = *(const struct dot *)(const void *)(a + i * size);
		bool keep = !vv_covers(their_seen, d);

		for (uint32_t j = 0; j < theirs_len && !keep; j++)
			keep = dot_equal(d, *(const struct dot *)(const void *)(b + j * size));
		if (keep)
			memmove(a + n++ * size, a + i * size, size);
		else if (drop)
			drop(a + i * size);
	}
	for (uint32_t j = 0; j < theirs_len; j++) {
		struct dot d = *(const struct dot *)(const void *)(b + j * size);
		bool skip = vv_covers(my_seen, d);

		for (uint32_t i = 0; i < n && !skip; i++)
			skip = dot_equal(d, *(const struct dot *)(const void *)(a + i * size));
		if (skip)
			continue;
		a = mem_resize(a, n + 1, size);
		memcpy(a + n * size, b + j * size, size);
		if (own)
			own(a + n * size);
		n++;
	}
	*mine = a;
	return n;
}

static void
move_drop(void *p)
{
	struct dir_move *m = p;

	free(m->to.name);
	free(m->from.name);
}

static void
move_own(void *p)
{
	struct dir_move *m = p;

	m->to.name = mem_str(m->to.name);
	m->from.name = mem_str(m->from.name);
}

void
dirval_join(struct dirval *mine, const struct dirval *theirs, const struct vv *my_know, const struct vv *their_know)
{
	struct vv my_seen = vv_copy(&mine->ctx), their_seen = vv_copy(&theirs->ctx);
	void *p;

	if (my_know)
		vv_join(&my_seen, my_know);
	if (their_know)
		vv_join(&their_seen, their_know);
	p = mine->live;
	mine->live_len = survivors(&p, mine->live_len, theirs->live, theirs->live_len, sizeof(*mine->live), &my_seen,
	    &their_seen, NULL, NULL);
	mine->live = p;
	p = mine->modes;
	mine->modes_len = survivors(&p, mine->modes_len, theirs->modes, theirs->modes_len, sizeof(*mine->modes),
	    &my_seen, &their_seen, NULL, NULL);
	mine->modes = p;
	p = mine->moves;
	mine->moves_len = survivors(&p, mine->moves_len, theirs->moves, theirs->moves_len, sizeof(*mine->moves),
	    &my_seen, &their_seen, move_drop, move_own);
	mine->moves = p;
	attrs_merge(&mine->attrs, &theirs->attrs);
	vv_join(&mine->ctx, &theirs->ctx);
	vv_fini(&my_seen);
	vv_fini(&their_seen);
}

void
dirval_copy(struct dirval *out, const struct dirval *d)
{
	*out = (struct dirval){ 0 };
	out->ctx = vv_copy(&d->ctx);
	out->live = mem_dup(d->live, d->live_len * sizeof(*d->live));
	out->live_len = d->live_len;
	out->modes = mem_dup(d->modes, d->modes_len * sizeof(*d->modes));
	out->modes_len = d->modes_len;
	out->moves = mem_dup(d->moves, d->moves_len * sizeof(*d->moves));
	out->moves_len = d->moves_len;
	for (uint32_t i = 0; i < out->moves_len; i++)
		move_own(&out->moves[i]);
	out->attrs = attrs_copy(&d->attrs);
}

void
dirval_fini(struct dirval *d)
{
	vv_fini(&d->ctx);
	free(d->live);
	free(d->modes);
	for (uint32_t i = 0; i < d->moves_len; i++)
		move_drop(&d->moves[i]);
	free(d->moves);
	attrs_fini(&d->attrs);
	*d = (struct dirval){ 0 };
}

bool
dirval_equal(const struct dirval *a, const struct dirval *b)
{
	if (vv_compare(&a->ctx, &b->ctx) != VV_EQUAL || a->live_len != b->live_len ||
	    a->modes_len != b->modes_len || a->moves_len != b->moves_len ||
	    !attrs_same_values(&a->attrs, &b->attrs))
		return false;
	for (uint32_t i = 0; i < a->live_len; i++)
		if (!is_live_dot(b, a->live[i]))
			return false;
	return true;
}

bool
dirval_has_more(const struct dirval *a, const struct dirval *b)
{
	struct attrs joined = attrs_copy(&b->attrs);
	uint32_t same = 0;
	bool more;

	for (uint32_t i = 0; i < a->modes_len; i++)
		for (uint32_t j = 0; j < b->modes_len; j++)
			same += dot_equal(a->modes[i].dot, b->modes[j].dot);
	for (uint32_t i = 0; i < a->moves_len; i++)
		for (uint32_t j = 0; j < b->moves_len; j++)
			same += dot_equal(a->moves[i].dot, b->moves[j].dot);
	attrs_merge(&joined, &a->attrs);
	more = same < a->modes_len + a->moves_len || !attrs_same_values(&joined, &b->attrs);
	attrs_fini(&joined);
	return more;
}

uint64_t
dirval_hlc(const struct dirval *d)
{
	uint64_t hlc = attrs_hlc(&d->attrs);

	for (uint32_t i = 0; i < d->moves_len; i++)
		if (d->moves[i].at.hlc > hlc)
			hlc = d->moves[i].at.hlc;
	return hlc;
}

void
dirval_set_live(struct dirval *v, struct dot d)
{
	v->live = mem_resize(v->live, 1, sizeof(*v->live));
	v->live[0] = d;
	v->live_len = 1;
}

void
dirval_clear_live(struct dirval *v)
{
	v->live_len = 0;
}

void
dirval_drop_dead_moves(struct dirval *v)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < v->moves_len; i++)
		if (is_live_dot(v, v->moves[i].dot))
			v->moves[n++] = v->moves[i];
		else
			move_drop(&v->moves[i]);
	v->moves_len = n;
}

void
dirval_set_mode(struct dirval *v, struct dot d, uint32_t mode)
{
	v->modes = mem_resize(v->modes, 1, sizeof(*v->modes));
	v->modes[0] = (struct dir_mode){ d, mode };
	v->modes_len = 1;
}

void
dirval_set_move(struct dirval *v, struct dot d, struct place to, struct place from, struct stamp at)
{
	struct dir_move m = { d, to, from, at };

	move_own(&m);
	for (uint32_t i = 0; i < v->moves_len; i++)
		move_drop(&v->moves[i]);
	v->moves = mem_resize(v->moves, 1, sizeof(*v->moves));
	v->moves[0] = m;
	v->moves_len = 1;
}
