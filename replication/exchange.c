/*
 * From state to messages and back.  Directories above come first, so that
 * nothing is without a place at the receiver, whatever the round is cut off by.
 */
#include "config.h"

#include "replication/exchange.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "replication/mem.h"
#include "replication/take.h"

struct told {
	UT_hash_handle hh;
	uint64_t num, seq;
};

/* ---- sending directories ---- */

/* Was it told as it is?  From now on it is. */
static bool
was_told(struct told **told, const struct dir *d)
{
	struct told *t;

	HASH_FIND(hh, *told, &d->num, sizeof(d->num), t);
	if (t && t->seq == d->seq)
		return true;
	if (!t) {
		t = mem_alloc(sizeof(*t));
		t->num = d->num;
		HASH_ADD(hh, *told, num, sizeof(t->num), t);
	}
	t->seq = d->seq;
	return false;
}

/* With what it was born in, which stands before it in the message. */
static void
add_born(struct state *s, struct told **told, struct has has, struct dirs *out, struct dir *d, struct dir_list *added)
{
	if (!d || !d->at.up || was_told(told, d))
		return;
	add_born(s, told, has, out, d->birth.up, added);
	if (!vv_dominates(has.know, &d->val.ctx) || vv_dominates(has.forgot, &d->val.ctx)) {
		take_told_one(s, d);
		out->d = mem_resize(out->d, out->len + 1, sizeof(*out->d));
		out->d[out->len++] = wire_directory(d);
		out->bytes += 200;
	}
	added->d = mem_resize(added->d, added->len + 1, sizeof(*added->d));
	added->d[added->len++] = d;
}

void
exchange_add_dir(struct state *s, struct told **told, struct has has, struct dirs *out, struct dir *d)
{
	struct dir_list added = { 0 };

	add_born(s, told, has, out, d, &added);
	/* What its moves name may be its own child: it stands anywhere, but after
	 * all that it was born in, too. */
	for (size_t i = 0; i < added.len; i++)
		exchange_add_above(s, told, has, out, added.d[i]);
	free(added.d);
}

void
exchange_add_above(struct state *s, struct told **told, struct has has, struct dirs *out, const struct dir *d)
{
	exchange_add_dir(s, told, has, out, d->birth.up);
	for (uint32_t i = 0; i < d->val.moves_len; i++) {
		exchange_add_dir(s, told, has, out, d->val.moves[i].to.up);
		exchange_add_dir(s, told, has, out, d->val.moves[i].from.up);
	}
}

void
exchange_free_dirs(struct dirs *out)
{
	for (size_t i = 0; i < out->len; i++)
		sibfs__wire__directory__free_unpacked(out->d[i], NULL);
	free(out->d);
	*out = (struct dirs){ 0 };
}

void
exchange_forget_told(struct told **told)
{
	struct told *t, *tmp;

	HASH_ITER(hh, *told, t, tmp) {
		HASH_DEL(*told, t);
		free(t);
	}
}

/* ---- taking ---- */

/* A directory that we have not heard of is known from now on, if only by its
 * place of birth. */
static int
make_known(struct state *s, const Sibfs__Wire__Directory *m)
{
	struct dirval bare = { 0 };
	struct identity up, id;
	struct dir *parent;
	char *name;
	bool news;

	if (!m->birth || wire_get_identity(&m->birth->up, &up) < 0 || wire_get_identity(&m->id, &id) < 0)
		return -EBADMSG;
	parent = state_dir(s, &up);
	if (!parent || wire_get_name(&m->birth->name, parent == s->root, &name) < 0)
		return -EBADMSG;
	if (!state_dir(s, &id))
		take_dir(s, (struct place){ parent, name }, m->number, &bare, NULL, &news);
	free(name);
	return 0;
}

static bool
was_removed(struct state *s, struct place birth, uint32_t k)
{
	struct identity id = identity_make(&birth.up->id, birth.name, k);
	const struct dir *d = state_dir(s, &id);

	return d && d->val.ctx.len && !dir_is_live(d);
}

int
exchange_take_dirs(struct state *s, Sibfs__Wire__Directory *const *list, size_t n, uint64_t from,
    const struct vv *know, bool *news)
{
	int rc = 0;

	/* Those in a ring name each other: so all are made known before any is joined. */
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = make_known(s, list[i]);
	for (size_t i = 0; i < n && rc == 0; i++) {
		struct dirval val;
		struct place birth;
		struct dir *d;
		uint32_t k;
		bool removed, new_here;

		if (wire_get_directory(s, list[i], &birth, &k, &val) < 0)
			return -EBADMSG;
		removed = was_removed(s, birth, k);
		d = take_dir(s, birth, k, &val, know, &new_here);
		if (removed && dir_is_live(d))
			take_lives_again(s, d, &val);
		if (vv_dominates(&val.ctx, &d->val.ctx))
			d->from = from;
		*news |= new_here;
		free(birth.name);
		dirval_fini(&val);
	}
	return rc;
}

/* Was it removed here with attributes set, and written by one who did not know of
 * that?  The sender may well know: it may have forgotten it. */
static bool
lives_again(struct reg *r, const struct regval *theirs)
{
	return r && !reg_known(r)->len && reg_known(r)->slots_len && theirs->len &&
	    !vv_dominates(&theirs->ctx, &reg_known(r)->ctx);
}

int
exchange_take_reg(struct state *s, const Sibfs__Wire__Register *m, uint64_t from, const struct vv *know,
    struct reg **out, bool *news)
{
	struct identity id;
	struct regval val;
	struct dir *d;
	char *name;
	bool again, new_here;

	if (!m->value || wire_get_identity(&m->dir, &id) < 0 || !(d = state_dir(s, &id)))
		return -EBADMSG;
	if (wire_get_name(&m->name, d == s->root, &name) < 0)
		return -EBADMSG;
	if (wire_get_regval(m->value, &val) < 0) {
		free(name);
		return -EBADMSG;
	}
	again = lives_again(state_reg(s, d, name, false), &val);
	*out = take_reg(s, d, name, &val, know, &new_here);
	if (again && reg_known(*out)->len)
		take_reg_lives_again(s, *out);
	*news |= new_here;
	if (vv_dominates(&val.ctx, &reg_known(*out)->ctx))
		(*out)->from = from;
	regval_fini(&val);
	free(name);
	return 0;
}

/* ---- offers ---- */

static int
by_path(const void *a, const void *b)
{
	return strcmp(((const struct offer *)a)->path, ((const struct offer *)b)->path);
}

struct offer *
exchange_offers(struct state *s, size_t *n)
{
	struct offer *all = NULL;
	struct dir *d;

	*n = 0;
	DL_FOREACH2(s->untold, d, new_next) {
		if (!take_may_offer(s, d))
			continue;
		all = mem_resize(all, *n + 1, sizeof(*all));
		all[(*n)++] = (struct offer){ dir_path(d), d->num };
	}
	if (*n)
		qsort(all, *n, sizeof(*all), by_path);
	return all;
}

void
exchange_told_offers(struct state *s, const struct offer *o, size_t n)
{
	for (size_t i = 0; i < n; i++)
		take_told_one(s, state_dir_num(s, o[i].num));
}

struct dir *
exchange_answer(struct state *s, const ProtobufCBinaryData *path)
{
	char *text = mem_alloc(path->len + 1);
	struct dir *d;

	if (path->len)
		memcpy(text, path->data, path->len);
	d = take_answer(s, text);
	free(text);
	if (d)
		take_told_one(s, d);
	return d;
}

int
exchange_adopt(struct state *s, const char *path, const Sibfs__Wire__Directory *m, struct dir **out)
{
	struct dirval val;
	struct place birth;
	uint32_t k;
	bool news;
	int rc = wire_get_directory(s, m, &birth, &k, &val);

	*out = NULL;
	if (rc == -ENOENT)
		return 0;		/* what is above it is not shown alike */
	if (rc < 0)
		return rc;
	struct dir probe = { .birth = birth, .val = val };

	if (take_adopt(s, path, birth, k, dir_place(&probe)))
		*out = take_dir(s, birth, k, &val, NULL, &news);
	free(birth.name);
	dirval_fini(&val);
	return 0;
}
