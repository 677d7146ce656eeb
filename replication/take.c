/*
 * Taking in what peers know.
 */
#include "config.h"

#include "replication/take.h"

#include <stdlib.h>
#include <string.h>

#include "replication/display.h"
#include "replication/mem.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

void
take_told_one(struct state *s, struct dir *d)
{
	/* Its identity was made from those of the directories above. */
	for (; d && d->told != DIR_TOLD; d = d->birth.up) {
		state_set_told(s, d, DIR_TOLD);
		state_dir_noted(s, d);
	}
}

struct reg *
take_reg(struct state *s, struct dir *d, const char *name, const struct regval *theirs, const struct vv *their_know,
    bool *news)
{
	struct reg *r = state_reg(s, d, name, true);
	struct regval joined;

	take_told_one(s, d);
	regval_copy(&joined, reg_known(r));
	regval_join(&joined, theirs, &s->know, their_know);
	state_saw(s, regval_hlc(theirs));
	vv_join(&s->seen, &theirs->ctx);
	*news = !regval_equal(&joined, reg_known(r));
	if (!*news) {
		regval_fini(&joined);
		return r;
	}
	if (!r->pending)
		r->pending = mem_alloc(sizeof(*r->pending));
	else
		regval_fini(r->pending);
	*r->pending = joined;
	state_reg_changed(s, r);
	return r;
}

struct dir *
take_dir(struct state *s, struct place birth, uint32_t k, const struct dirval *theirs, const struct vv *their_know,
    bool *news)
{
	struct identity id = identity_make(&birth.up->id, birth.name, k);
	struct dir *d = state_dir(s, &id);
	struct dirval before;

	if (!d)
		d = state_dir_add(s, birth, k);
	if (!d->val.ctx.len && !d->val.modes_len && !d->val.moves_len) {
		/* New here; one that was forgotten is as it is there. */
		dirval_fini(&d->val);
		dirval_copy(&d->val, theirs);
		vv_clear(&d->val.ctx);
		dirval_clear_live(&d->val);
	}
	take_told_one(s, d);
	dirval_copy(&before, &d->val);
	dirval_join(&d->val, theirs, &s->know, their_know);
	state_saw(s, dirval_hlc(theirs));
	vv_join(&s->seen, &theirs->ctx);
	*news = !dirval_equal(&before, &d->val) || !d->at.up;
	dirval_fini(&before);
	if (*news)
		state_dir_changed(s, d);
	return d;
}

void
take_lives_again(struct state *s, struct dir *d, const struct dirval *theirs)
{
	uint32_t mode = dir_mode(d);
	struct dot dot;

	if (!dirval_has_more(&d->val, theirs))
		return;
	dot = state_event(s, &d->val.ctx);
	if (d->val.modes_len)
		dirval_set_mode(&d->val, dot, mode);
	dirval_drop_dead_moves(&d->val);
	state_dir_changed(s, d);
}

void
take_reg_lives_again(struct state *s, struct reg *r)
{
	state_event(s, &reg_known(r)->ctx);
	state_reg_changed(s, r);
}

struct reg *
take_absent_reg(struct state *s, struct dir *d, const char *name, const struct vv *their_know, bool *news)
{
	struct regval nothing = { 0 };

	return take_reg(s, d, name, &nothing, their_know, news);
}

bool
take_absent_dir(struct state *s, struct dir *d, const struct vv *their_know)
{
	struct dirval as_there;
	uint32_t live = d->val.live_len;

	/* Its moves and modes outlive a removal. */
	dirval_copy(&as_there, &d->val);
	vv_clear(&as_there.ctx);
	dirval_clear_live(&as_there);
	dirval_join(&d->val, &as_there, &s->know, their_know);
	dirval_fini(&as_there);
	if (d->val.live_len == live)
		return false;
	state_dir_changed(s, d);
	return true;
}

static bool
shows_at_its_place(const struct dir *d)
{
	struct place p = dir_place(d);

	return p.up == d->at.up && strcmp(p.name, d->at.name) == 0;
}

static void
walk(struct state *s, const char *path, struct obstack *o, struct folder *f)
{
	char *copy = mem_str(path), *rest = copy, *name;

	f->ids = obstack_alloc(o, sizeof(*f->ids));
	f->ids[0] = s->root;
	f->len = 1;
	while (f->len && (name = strsep(&rest, "/")))
		if (*name)
			display_subfolder(s, f, name, o, f);
	free(copy);
}

/* Untold, never moved, and alone under its name. */
static struct dir *
adoptable(struct state *s, const struct folder *f)
{
	struct dir *d = f->len == 1 ? f->ids[0] : NULL;

	(void)s;
	return d && d->told != DIR_TOLD && !d->val.moves_len ? d : NULL;
}

bool
take_may_offer(struct state *s, struct dir *d)
{
	struct obstack o;
	struct folder f;
	bool may;

	if (d->told == DIR_TOLD || d->val.moves_len || !state_stands(d))
		return false;
	obstack_init(&o);
	display_folder(s, d, &o, &f);
	may = adoptable(s, &f) == d;
	obstack_free(&o, NULL);
	return may;
}

struct dir *
take_answer(struct state *s, const char *path)
{
	struct obstack o;
	struct folder f;
	struct dir *d;

	obstack_init(&o);
	walk(s, path, &o, &f);
	d = f.len ? f.ids[0] : NULL;
	obstack_free(&o, NULL);
	return d && d != s->root && dir_is_live(d) && shows_at_its_place(d) ? d : NULL;
}

bool
take_adopt(struct state *s, const char *path, struct place birth, uint32_t k, struct place place)
{
	struct identity id = identity_make(&birth.up->id, birth.name, k);
	struct obstack o;
	struct folder f;
	struct dir *d;

	if (state_dir(s, &id))
		return false;
	obstack_init(&o);
	walk(s, path, &o, &f);
	d = adoptable(s, &f);
	obstack_free(&o, NULL);
	if (!d || d->at.up != place.up || strcmp(d->at.name, place.name) != 0)
		return false;
	state_take_identity(s, d, birth, k);
	return true;
}

void
take_told(struct state *s)
{
	while (s->untold)
		take_told_one(s, s->untold);
}
