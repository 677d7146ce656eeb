/*
 * The greeting: whether the far end is who it should be, of our set, and speaks a
 * protocol that we do.  If not, it is told why, and the link ends.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "replication/content_impl.h"
#include "replication/link_impl.h"

static int
refuse(struct link *l, const char *why)
{
	link_send_bye(l, why);
	link_close(l, "refused", why);
	return 0;
}

/* ---- which set ---- */

/* How easily a replica leaves its set for the other's. */
static int
yields(bool empty, bool join)
{
	return empty ? 2 : join ? 1 : 0;
}

static int
take_set(struct replica *r, const Sibfs__Wire__Hello *m)
{
	if (!*m->set || strlen(m->set) > REPLICA_SET_MAX)
		return -EBADMSG;
	snprintf(r->set, sizeof(r->set), "%s", m->set);
	replica_begin(r);
	index_set_value(r->x, "set", r->set, strlen(r->set));
	replica_commit(r);
	settings_set(r->meta_fd, "replica", "set", r->set);
	log_info("joined the set %s of %s", r->set, m->node);
	return 0;
}

/*
 * Both decide alike by what the two Hellos said: else two empty replicas would
 * take each other's set.
 */
static int
join_set(struct link *l, const Sibfs__Wire__Hello *m)
{
	struct replica *r = l->r;
	const struct settings_peer *sp = peers_settings(r, l->peer);
	int mine = yields(l->said_empty, l->said_join || (sp && sp->join)), theirs = yields(m->empty, m->join);
	char why[256];

	if (strcmp(m->set, r->set) == 0)
		return 0;
	if (strcmp(l->said_set, r->set) != 0) {
		link_close(l, "connecting", "the set changed meanwhile");
		return 1;
	}
	if (mine > theirs || (mine && mine == theirs && strcmp(m->set, r->set) < 0))
		return take_set(r, m);
	if (theirs)
		return 0;		/* they take ours */
	snprintf(why, sizeof(why), "%s belongs to another set (%s, not %s): `peer add --join` on one side unites them",
	    m->node, m->set, r->set);
	refuse(l, why);
	return 1;
}

/* ---- who it is, and what it speaks ---- */

/* The newest protocol that both speak; false: there is none. */
static bool
agree(struct link *l, const Sibfs__Wire__Hello *m)
{
	uint32_t oldest = m->oldest && m->oldest < m->protocol ? m->oldest : m->protocol;

	l->protocol = m->protocol < WIRE_PROTOCOL ? m->protocol : WIRE_PROTOCOL;
	for (size_t i = 0; i < m->n_can; i++) {
		l->ways |= frame_way(m->can[i]);
		l->has_blocks |= strcmp(m->can[i], LINK_CAN_BLOCKS) == 0;
	}
	return l->protocol >= oldest && l->protocol >= WIRE_PROTOCOL_OLDEST;
}

int
link_get_hello(struct link *l, const Sibfs__Wire__Hello *m)
{
	struct replica *r = l->r;
	char why[256];
	int rc;

	if (l->greeted)
		return -EBADMSG;
	if (!settings_node_valid(m->node) || !m->id || m->n_can > WIRE_CAN_MAX)
		return -EBADMSG;
	if (!agree(l, m)) {
		snprintf(why, sizeof(why), "%s speaks protocol %u, this is %u: use the same version of sibfs on both",
		    m->node, m->protocol, WIRE_PROTOCOL);
		return refuse(l, why);
	}
	if (l->only && strcmp(m->node, l->only) != 0) {
		snprintf(why, sizeof(why), "%s called where only %s may", m->node, l->only);
		return refuse(l, why);
	}
	if (!l->dialer) {
		struct peer *p = peers_find_caller(r, m->node, m->id);

		/* Both called at once: the call of the lower incarnation stays. */
		if (p->link && p->link->dialer && r->s->self < m->id) {
			link_send_bye(l, ALREADY);
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
	if (m->id == r->s->self)
		return link_meet_copy(l, m);
	if ((rc = join_set(l, m)) != 0)
		return rc < 0 ? rc : 0;
	l->greeted = true;
	l->id = m->id;
	l->peer->id = m->id;
	l->takes_full = m->full;
	if (!m->run)
		l->peer->tries = 0;
	replica_add_member(r, m->id, m->node);
	if ((rc = link_learn_members(l, m->members, m->n_members)) < 0)
		return rc;
	members_here(r, m->id);
	l->peer->state = "connected";
	l->peer->since_s = (int64_t)time(NULL);
	l->peer->error[0] = '\0';
	log_info("%s: connected", l->peer->name);
	link_answer_landmarks(l, m);
	link_ping(l, replica_now_ms());
	link_subscribe(l);
	for (struct want *w = r->wants; w; w = w->hh.next)
		w->failed = false;
	content_request(r);
	control_tick(r, replica_now_ms());
	return 0;
}
