/*
 * Receiving changes: batches are joined as they come, and shown when they are
 * durable; a watermark lets us claim what the sender knows.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/link_impl.h"

int
link_learn_members(struct link *l, Sibfs__Wire__Member *const *list, size_t n)
{
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = members_learn(l->r, list[i], l->id);
	return rc;
}

void
link_add_taken(struct link *l, struct reg *reg)
{
	l->taken.r = mem_resize(l->taken.r, l->taken.len + 1, sizeof(*l->taken.r));
	l->taken.r[l->taken.len++] = reg;
	reg->held++;
}

static int
take_register(struct link *l, const Sibfs__Wire__Register *m, const struct vv *know)
{
	struct reg *reg;
	bool news = false;
	int rc = exchange_take_reg(l->r->s, m, l->number, know, &reg, &news);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < m->value->n_versions && rc == 0 && news; i++) {
		const Sibfs__Wire__Version *v = m->value->versions[i];
		struct hash h;

		if (!v->has_content || v->hash.len != sizeof(h.b))
			continue;
		memcpy(h.b, v->hash.data, sizeof(h.b));
		if (content_stands(reg, &h))
			continue;	/* two copies made beforehand, say */
		rc = content_stage_bytes(l->r, &h, (uint8_t)v->kind, v->content.data, v->content.len);
		if (rc != -EBADMSG)
			rc = 0;		/* no room: asked for later */
	}
	if (news)
		link_add_taken(l, reg);
	return rc;
}

/* What was taken is durable, then shown as far as its content is here. */
void
link_settle_taken(struct link *l)
{
	struct replica *r = l->r;

	if (!l->taken.len && !l->taken_dirs && !r->view_held)
		return;
	for (size_t i = 0; i < l->taken.len; i++) {
		struct reg *reg = l->taken.r[i];

		reg->held--;
		if (reg->pending && content_ready(r, reg, l->id))
			view_defer(r, reg);
	}
	l->taken.len = 0;
	l->taken_dirs = false;
	replica_commit(r);
	view_update(r);
	replica_commit(r);
	content_retry(r, false);
	content_request(r);
	link_changed(r);
}

int
link_get_batch(struct link *l, const Sibfs__Wire__Batch *m)
{
	struct vv know = { 0 };
	int rc;

	if (l->read_only)
		return -EPERM;
	if ((rc = link_learn_members(l, m->members, m->n_members)) < 0 ||
	    (rc = wire_get_dots(m->know, m->n_know, &know)) < 0)
		return rc;
	/* They have what they know, though we may not have all of it yet. */
	vv_join(&l->know, &know);
	if (m->full)
		link_note_full(l, m);
	/* Directories are what they are said to be at once, here and on disk. */
	if (m->n_dirs)
		view_hold(l->r);
	rc = exchange_take_dirs(l->r->s, m->dirs, m->n_dirs, l->number, &know, &l->taken_dirs);
	for (size_t i = 0; i < m->n_regs && rc == 0; i++)
		rc = take_register(l, m->regs[i], &know);
	vv_fini(&know);
	if (l->r->view_held || l->taken.len > 2000)
		link_settle_taken(l);
	return rc;
}

int
link_get_watermark(struct link *l, const Sibfs__Wire__Watermark *m)
{
	struct replica *r = l->r;
	struct progress *p = link_progress_of(r, l->id);
	struct vv know = { 0 }, forgot = { 0 };
	bool news;
	int rc;

	/* Who may not send may not say that all was sent. */
	if (l->read_only)
		return -EPERM;
	if ((rc = wire_get_dots(m->know, m->n_know, &know)) == 0)
		rc = wire_get_dots(m->forgot, m->n_forgot, &forgot);
	if (rc == 0 && m->full)
		rc = link_take_full(l, &know);
	news = !vv_dominates(&r->s->know, &know);
	if (rc == 0) {
		vv_join(&r->s->know, &know);
		vv_join(&r->s->forgot, &forgot);
		vv_join(&l->forgot, &forgot);
		link_heard(l, &know);
		r->forgot_changed = true;
	}
	vv_fini(&know);
	vv_fini(&forgot);
	if (rc < 0)
		return rc;
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
	link_settle_taken(l);
	if (replica_commit(r) == 0 && news)
		link_changed(r);
	if (m->round)
		link_round_in(l, m->round);
	link_send_ack(l);
	link_check_round(l);
	return 0;
}
