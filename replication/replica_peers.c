/*
 * Peers: whom to call, when to try again, and what `status` says of each.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "replication/replica_impl.h"
#include "replication/transport.h"

#define BACKOFF_FIRST_MS 250
#define BACKOFF_MAX_MS 60000
#define PROBE_MS 6000

struct peer *
peers_find(struct replica *r, const char *name, bool make)
{
	struct peer *p;

	for (p = r->peers; p; p = p->next)
		if (strcmp(p->name, name) == 0)
			return p;
	if (!make)
		return NULL;
	p = mem_alloc(sizeof(*p));
	p->name = mem_str(name);
	p->state = "unreachable";
	p->since_s = (int64_t)time(NULL);
	peers_load(r, p);
	p->next = r->peers;
	r->peers = p;
	return p;
}

/*
 * Two replicas may have one node name.  The second that is connected at the same
 * time goes by "name~1a2b" here, so that neither takes the other's place.
 */
struct peer *
peers_find_caller(struct replica *r, const char *node, uint64_t id)
{
	struct peer *p = peers_find(r, node, true);
	char *name;

	if (strcmp(node, r->node) != 0 && (!p->link || p->id == id || !p->id || !link_is_up(p->link)))
		return p;
	name = mem_printf("%s~%04x", node, (unsigned)(id & 0xffff));
	p = peers_find(r, name, true);
	free(name);
	return p;
}

const struct settings_peer *
peers_settings(const struct replica *r, const struct peer *p)
{
	return settings_find(&r->settings, p->name);
}

bool
peers_paused(const struct replica *r, const struct peer *p)
{
	const struct settings_peer *sp = p ? peers_settings(r, p) : NULL;

	return r->settings.paused || (sp && sp->paused);
}

uint64_t
peers_limit(const struct replica *r, const struct peer *p)
{
	const struct settings_peer *sp = p ? peers_settings(r, p) : NULL;
	time_t now = time(NULL);
	struct tm tm;

	if (!sp || !sp->limit.rate || !localtime_r(&now, &tm))
		return 0;
	return limit_at(&sp->limit, (unsigned)(tm.tm_hour * 60 + tm.tm_min));
}

static void
set_state(struct peer *p, const char *state, const char *why)
{
	if (strcmp(p->state, state) != 0)
		p->since_s = (int64_t)time(NULL);
	p->state = state;
	snprintf(p->error, sizeof(p->error), "%s", why ? why : "");
}

/* Doubling, with jitter so that many do not call at once. */
static int64_t
backoff_ms(unsigned tries)
{
	int64_t ms = BACKOFF_FIRST_MS << (tries < 8 ? tries : 8);

	if (ms > BACKOFF_MAX_MS)
		ms = BACKOFF_MAX_MS;
	return ms / 2 + random() % (ms / 2 + 1);
}

void
peers_link_ended(struct replica *r, struct peer *p, const char *state, const char *why)
{
	char text[256] = "";
	enum transport_end end = TRANSPORT_CLOSED;
	bool refused = strcmp(state, "refused") == 0;

	if (p->transport) {
		end = transport_status(p->transport, text, sizeof(text));
		transport_close(p->transport);
		p->transport = NULL;
	}
	if (end == TRANSPORT_REFUSED)
		refused = true;
	if (!why || (*text && !refused))
		why = *text ? text : "the far end closed the link";
	if (end == TRANSPORT_REFUSED && *text)
		why = text;
	if (peers_paused(r, p) || r->stopping)
		log_info("%s: link closed", p->name);
	else if (strcmp(p->error, why) != 0 || strcmp(p->state, "connected") == 0)
		log_warn("%s: %s", p->name, why);
	set_state(p, refused ? "refused" : "unreachable", why);
	p->retry_at_ms = replica_now_ms() + (refused ? 5000 + random() % 2000 : backoff_ms(p->tries));
	p->tries++;
	for (struct peer *x = r->peers; x; x = x->next)
		if (x == p && p->rounds)
			control_link_failed(r, p, why);
}

static void
dial(struct replica *r, struct peer *p, const struct settings_peer *sp)
{
	struct transport_options o = { sp->transport, sp->identity, r->node };
	int fd, rc;

	rc = transport_open(sp->url, &o, &p->transport, &fd);
	if (rc < 0) {
		p->transport = NULL;
		set_state(p, "unreachable", strerror(-rc));
		p->retry_at_ms = replica_now_ms() + backoff_ms(p->tries++);
		return;
	}
	/* What went wrong last is shown until it goes well. */
	if (!*p->error)
		set_state(p, "connecting", NULL);
	link_new(r, fd, p, NULL, false);
}

static bool
is_due(const struct replica *r, const struct peer *p)
{
	const struct settings_peer *sp = peers_settings(r, p);

	return sp && sp->url && !p->link && (p->rounds || !peers_paused(r, p));
}

void
peers_tick(struct replica *r, int64_t now_ms)
{
	for (struct peer *p = r->peers; p; p = p->next) {
		if (p->link && !p->rounds && peers_paused(r, p) && peers_settings(r, p) &&
		    peers_settings(r, p)->url && p->transport) {
			/* Only a round kept it. */
			if (now_ms > p->idle_at_ms)
				link_close(p->link, "unreachable", "paused");
			continue;
		}
		if (!p->link && peers_paused(r, p) && !p->rounds) {
			if (strcmp(p->state, "refused") != 0)
				set_state(p, "paused", NULL);
			continue;
		}
		if (is_due(r, p) && now_ms >= p->retry_at_ms)
			dial(r, p, peers_settings(r, p));
	}
}

void
peers_network_changed(struct replica *r)
{
	log_debug("the network changed");
	for (struct peer *p = r->peers; p; p = p->next) {
		if (p->link) {
			link_probe(p->link, PROBE_MS);
		} else {
			p->retry_at_ms = 0;
			p->tries = 0;
		}
	}
}

int64_t
peers_next_ms(struct replica *r)
{
	int64_t next = INT64_MAX;

	for (struct peer *p = r->peers; p; p = p->next)
		if (is_due(r, p) && p->retry_at_ms < next)
			next = p->retry_at_ms;
	return next;
}

void
peers_reload(struct replica *r)
{
	struct settings s;
	char why[256];
	int rc = settings_load(r->meta_fd, &s, why, sizeof(why));

	if (rc < 0) {
		log_err("%s", why);
		return;
	}
	settings_fini(&r->settings);
	r->settings = s;
	for (size_t i = 0; i < s.peers_len; i++)
		peers_find(r, s.peers[i].name, true);
	for (struct peer *p = r->peers; p; p = p->next) {
		p->retry_at_ms = 0;
		p->tries = 0;
		p->idle_at_ms = 0;
		if (p->link)
			link_pause_changed(p->link);
		if (p->link && p->transport && !settings_find(&s, p->name))
			link_close(p->link, "unreachable", "removed");
	}
}

/* ---- what peers have, over restarts ---- */

static char *
know_key(const struct peer *p)
{
	return mem_printf("know:%s", p->name);
}

void
peers_save(struct replica *r)
{
	for (struct peer *p = r->peers; p; p = p->next) {
		char *key = know_key(p);

		if (p->know.len)
			index_set_value(r->x, key, p->know.e, p->know.len * sizeof(*p->know.e));
		free(key);
	}
}

void
peers_load(struct replica *r, struct peer *p)
{
	char *key = know_key(p);
	size_t len;
	void *v;

	if (index_get_value(r->x, key, &v, &len) == 0) {
		for (size_t i = 0; i < len / sizeof(struct dot); i++)
			vv_raise(&p->know, ((struct dot *)v)[i]);
		free(v);
	}
	free(key);
}
