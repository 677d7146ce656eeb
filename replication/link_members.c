/*
 * News of members: who is one, what each has, who was retired.  It is told at
 * most once a second on each link, and not to whom it came from.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "replication/link_impl.h"

#define MEMBERS_MS 1000
#define MEMBERS_IN_ONE 100	/* message */

void
link_free_members(Sibfs__Wire__Member **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sibfs__wire__member__free_unpacked(list[i], NULL);
	free(list);
}

void
link_name_members(struct replica *r, Sibfs__Wire__Member ***list, size_t *n)
{
	struct member *m, *tmp;

	*list = mem_resize(NULL, HASH_COUNT(r->members) + 1, sizeof(**list));
	*n = 0;
	HASH_ITER(hh, r->members, m, tmp)
		(*list)[(*n)++] = members_wire(m, true);
}

static void
send_some(struct link *l, Sibfs__Wire__Members *m)
{
	FRAME(f, MEMBERS, m);

	f.members = m;
	link_send_frame(l, &f, false);
	for (size_t i = 0; i < m->n_members; i++)
		sibfs__wire__member__free_unpacked(m->members[i], NULL);
	m->n_members = 0;
}

static bool
is_news(const struct link *l, const struct member *m)
{
	return m->seq > l->members_seq && m->from != l->id && m->id != l->r->s->self;
}

void
link_tell_members(struct link *l, int64_t now_ms)
{
	Sibfs__Wire__Members m = SIBFS__WIRE__MEMBERS__INIT;
	bool forgot = !vv_dominates(&l->forgot_told, &l->r->s->forgot);
	struct replica *r = l->r;
	struct member *x, *tmp;

	if (!l->greeted || l->closing || now_ms < l->members_ms || l->out.len > l->out_high ||
	    (r->members_seq == l->members_seq && !forgot))
		return;
	/* What is told is durable: who was retired, and what was forgotten. */
	if (replica_commit(r) < 0)
		return;
	l->members_ms = now_ms + MEMBERS_MS;
	m.members = mem_resize(NULL, MEMBERS_IN_ONE, sizeof(*m.members));
	HASH_ITER(hh, r->members, x, tmp) {
		if (!is_news(l, x))
			continue;
		m.members[m.n_members++] = members_wire(x, false);
		if (m.n_members == MEMBERS_IN_ONE)
			send_some(l, &m);
	}
	if (forgot)
		wire_dots(&r->s->forgot, &m.forgot, &m.n_forgot);
	if (m.n_members || forgot)
		send_some(l, &m);
	wire_free_dots(m.forgot, m.n_forgot);
	free(m.members);
	vv_join(&l->forgot_told, &r->s->forgot);
	l->members_seq = r->members_seq;
	link_pump(l);
}

int
link_get_members(struct link *l, const Sibfs__Wire__Members *m)
{
	struct vv forgot = { 0 };
	int rc;

	/* Who may not send may not decide on members. */
	if (l->read_only)
		return 0;
	rc = wire_get_dots(m->forgot, m->n_forgot, &forgot);
	if (rc == 0)
		vv_join(&l->forgot, &forgot);
	vv_fini(&forgot);
	for (size_t i = 0; i < m->n_members && rc == 0; i++)
		rc = members_learn(l->r, m->members[i], l->id);
	return rc;
}

/* The peer has all that. */
void
link_heard(struct link *l, const struct vv *know)
{
	vv_join(&l->know, know);
	vv_join(&l->peer->know, know);
	members_heard(l->r, l->id, know, l->id);
}
