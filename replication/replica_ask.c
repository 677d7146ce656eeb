/*
 * The computed attributes: user.sibfs.vv, .dot, .siblings, .origin.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/local_impl.h"

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *
vv_text(struct replica *r, const struct vv *v)
{
	char **part = mem_resize(NULL, v->len + 1, sizeof(*part)), *out = mem_str("");

	for (uint32_t i = 0; i < v->len; i++) {
		char name[SETTINGS_NODE_MAX + 16];

		replica_name_in(r, v, i, name, sizeof(name));
		part[i] = mem_printf("%s:%" PRIu64, name, v->e[i].n);
	}
	if (v->len)
		qsort(part, v->len, sizeof(*part), by_name);
	for (uint32_t i = 0; i < v->len; i++) {
		char *more = mem_printf("%s%s%s", out, i ? "," : "", part[i]);

		free(out);
		free(part[i]);
		out = more;
	}
	free(part);
	return out;
}

static int
answer_dir(struct replica *r, enum replica_query what, const struct folder *f, char **out)
{
	struct vv v = { 0 };

	if (what != REPLICA_VV)
		return -ENODATA;
	for (size_t i = 0; i < f->len; i++)
		vv_join(&v, &f->ids[i]->val.ctx);
	*out = vv_text(r, &v);
	vv_fini(&v);
	return 0;
}

static char *
sibling_names(const struct name_group *g, const struct shown *but)
{
	char *out = mem_str("");

	for (size_t i = 0; i < g->len; i++) {
		char *more;

		if (&g->files[i] == but)
			continue;
		more = mem_printf("%s%s%s", out, *out ? "\n" : "", g->files[i].name);
		free(out);
		out = more;
	}
	return out;
}

int
local_answer(struct replica *r, const struct event *e, char **out)
{
	struct disk_dir *at = disk_find(&r->disk, e->dir);
	enum replica_query what = e->question->what;
	struct vv v = { 0 };
	struct seen q;
	int rc = 0;

	if (!at || !at->ids_len)
		return -ENODATA;
	if (!e->name || !*e->name) {
		struct folder root = { &r->s->root, 1 };

		return answer_dir(r, what, &root, out);
	}
	local_seen_open(r, at, e->name, &q);
	if (!q.e) {
		rc = q.g.dirs.len ? answer_dir(r, what, &q.g.dirs, out) : -ENODATA;
	} else if (what == REPLICA_SIBLINGS) {
		*out = sibling_names(&q.g, q.e);
	} else if (what == REPLICA_ORIGIN) {
		*out = mem_str(replica_member(r, q.e->leader.id));
	} else if (what == REPLICA_DOT) {
		*out = mem_printf("%s:%" PRIu64, replica_member(r, q.e->leader.id), q.e->leader.n);
	} else {
		for (size_t i = 0; i < q.e->refs_len; i++)
			vv_join(&v, &q.e->refs[i].reg->shown.ctx);
		*out = vv_text(r, &v);
	}
	vv_fini(&v);
	local_seen_close(&q);
	return rc;
}
