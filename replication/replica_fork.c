/*
 * Forks: what becomes of a store that numbers were given for twice, and of what
 * others hold of it.  See lineage.h.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <utlist.h>

#include "replication/link_impl.h"
#include "replication/replica_fork.h"
#include "replication/take.h"

#define NOTES_MAX 8

/* ---- what users are told ---- */

json_t *
fork_notes(struct replica *r)
{
	json_t *list = NULL;
	size_t len;
	void *p;

	if (index_get_value(r->x, "forks", &p, &len) == 0) {
		list = json_loadb(p, len, 0, NULL);
		free(p);
	}
	if (!json_is_array(list)) {
		json_decref(list);
		list = json_array();
	}
	return list;
}

void
fork_note(struct replica *r, const char *text)
{
	json_t *list = fork_notes(r);
	char *all;

	/* Before the log is open it is said when the replica starts. */
	if (r->opened)
		log_warn("%s", text);
	json_array_append_new(list, json_pack("{s:I,s:s}", "time", (json_int_t)time(NULL), "text", text));
	while (json_array_size(list) > NOTES_MAX)
		json_array_remove(list, 0);
	all = json_dumps(list, JSON_COMPACT);
	replica_begin(r);
	if (all)
		index_set_value(r->x, "forks", all, strlen(all));
	free(all);
	json_decref(list);
}

/* ---- calling dots by their new names ---- */

static void
close_links(struct replica *r, const char *why)
{
	/* None may send, under old names, what follows from settling another. */
	for (struct link *l = r->links; l; l = l->next)
		link_close(l, "connecting", why);
	for (struct link *l = r->links; l; l = l->next)
		link_settle_taken(l);
}

/* The attribute of each file names its dot. */
static void
mark_files(struct replica *r, struct reg *reg)
{
	for (uint32_t i = 0; i < reg->files_len; i++)
		marks_file(r, reg, reg->files[i].name);
}

struct renaming {
	struct replica *r;
	const struct relabel *l;
	size_t n;
	size_t rows;
};

static int
relabel_row(void *arg, uint64_t dir_num, const char *name, uint64_t seq)
{
	struct renaming *q = arg;
	struct reg *reg = state_reg_in(q->r->s, dir_num, name);

	(void)seq;
	if (!reg)
		return 0;
	state_relabel_reg(q->r->s, reg, q->l, q->n);
	if (reg->dirty)
		mark_files(q->r, reg);
	if (++q->rows % 1000 == 0)
		state_trim(q->r->s, q->r->cache_regs);
	return 0;
}

static void
name_branches(struct replica *r, const struct relabel *l, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *node = mem_str(replica_member(r, l[i].from));

		if (l[i].to && settings_node_valid(node))
			replica_add_member(r, l[i].to, node);
		free(node);
	}
}

/* What was told of others' knowledge may be of either branch. */
static void
doubt_hearsay(struct replica *r, const struct relabel *l, size_t n)
{
	for (struct peer *p = r->peers; p; p = p->next)
		lineage_doubt(&p->know, l, n);
	members_doubt(r, l, n);
	replica_begin(r);
	peers_save(r);
}

static void
relabel(struct replica *r, const struct relabel *l, size_t n)
{
	struct renaming q = { r, l, n, 0 };

	if (!n)
		return;
	/* What is not written yet is loaded; then all rows, whoever wrote them. */
	replica_commit(r);
	replica_begin(r);
	name_branches(r, l, n);
	index_regs_since(r->x, 0, SIZE_MAX, relabel_row, &q);
	state_relabel(r->s, l, n);
	for (struct dir *d = r->s->dirs; d; d = d->hh.next)
		if (d->dirty && disk_of(d))
			marks_dir(r, disk_of(d));
	doubt_hearsay(r, l, n);
}

/* ---- forks ---- */

static void
say_changed(struct replica *r, const struct relabel *l, size_t n)
{
	uint64_t said = 0;

	for (size_t i = 0; i < n; i++) {
		char *text;

		if (l[i].from == said || l[i].from == r->s->self)
			continue;
		said = l[i].from;
		text = mem_printf("two stores wrote as the same replica %s (one was restored from a backup or copied): what "
		    "each wrote is kept, as of two replicas of that name", replica_member(r, l[i].from));
		fork_note(r, text);
		free(text);
	}
}

/* How often the numbers of our own past were given twice. */
static unsigned
own_forks(struct replica *r)
{
	const struct lineage *x = &r->s->lineage;
	unsigned n = 0;

	for (const struct block *b = lineage_find(x, r->s->block); b; b = lineage_find(x, b->parent))
		n += b->forked;
	return n;
}

static void
say_other(struct replica *r)
{
	fork_note(r, "another store wrote in this one's name: one of the two was restored from a backup, rolled back or "
	    "copied; nothing is lost, and the other one's events stand under an incarnation of their own");
}

static void
say_own(struct replica *r, uint64_t before)
{
	char *text = mem_printf("this store forked: peers know of events in its name that it did not write, so it was "
	    "restored from a backup, rolled back or copied; nothing is lost, and it goes on as a new incarnation "
	    "(%016" PRIx64 ", was %016" PRIx64 ")", r->s->self, before);

	fork_note(r, text);
	free(text);
}

bool
fork_met(struct replica *r, const struct meeting *x)
{
	uint64_t before = r->s->self;
	bool own;

	if (x->changed_len)
		close_links(r, "it learns of a fork, and connects again");
	relabel(r, x->changed, x->changed_len);
	if (x->doubt_len)
		doubt_hearsay(r, x->doubt, x->doubt_len);
	own = state_fork_check(r->s);
	if (own) {
		close_links(r, "this store forked: it connects again as a new incarnation");
		replica_add_member(r, r->s->self, r->node);
		take_told(r->s);	/* as far as can be known */
		say_own(r, before);
	} else if (own_forks(r) > r->own_forks) {
		say_other(r);
	}
	r->own_forks = own_forks(r);
	say_changed(r, x->changed, x->changed_len);
	replica_commit(r);
	return x->changed_len || own;
}

void
fork_say_last(struct replica *r)
{
	json_t *list = fork_notes(r);
	const char *text = json_string_value(json_object_get(json_array_get(list, json_array_size(list) - 1), "text"));

	if (r->restored && text)
		log_warn("%s", text);
	json_decref(list);
	r->own_forks = own_forks(r);
}

void
fork_self(struct replica *r, const char *why)
{
	uint64_t before = r->s->self;
	char *text;

	close_links(r, "this store forked: it connects again as a new incarnation");
	state_fork(r->s);
	take_told(r->s);		/* as far as can be known */
	replica_add_member(r, r->s->self, r->node);
	text = mem_printf("%s: it goes on as a new incarnation (%016" PRIx64 ", was %016" PRIx64 ")", why, r->s->self,
	    before);
	fork_note(r, text);
	free(text);
	replica_commit(r);
}
