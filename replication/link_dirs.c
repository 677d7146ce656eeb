/*
 * Directories in messages: those above come first, so that nothing is without a
 * place at the receiver, whatever the round is cut off by.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/link_impl.h"

void
link_add_dir(struct link *l, struct dirs *out, struct dir *d, bool news_only)
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
	/* What it was born in stands before it in the message; what its moves name,
	 * which may be its own child, anywhere. */
	link_add_dir(l, out, d->birth.up, news_only);
	if (!news_only || !vv_dominates(&l->know, &d->val.ctx)) {
		take_told_one(l->r->s, d);
		out->d = mem_resize(out->d, out->len + 1, sizeof(*out->d));
		out->d[out->len++] = wire_directory(d);
		out->bytes += 200;
	}
	for (uint32_t i = 0; i < d->val.moves_len; i++) {
		link_add_dir(l, out, d->val.moves[i].to.up, news_only);
		link_add_dir(l, out, d->val.moves[i].from.up, news_only);
	}
}

void
link_free_dirs(struct dirs *out)
{
	for (size_t i = 0; i < out->len; i++)
		sibfs__wire__directory__free_unpacked(out->d[i], NULL);
	free(out->d);
	*out = (struct dirs){ 0 };
}

/* Takes directories as they come.  Those in a ring name each other: so all are
 * made known before any is joined. */
int
link_take_dirs(struct link *l, Sibfs__Wire__Directory *const *list, size_t n, const struct vv *know)
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
