/*
 * States side by side.
 */
#include "config.h"

#include "tests/lib/sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"
#include "tests/lib/listing.h"

#define obstack_chunk_alloc mem_alloc
#define obstack_chunk_free free

static const char *
node_name(void *ctx, uint64_t id)
{
	struct sim *sim = ctx;

	return id && id <= sim->len ? sim->name[id - 1] : "nobody";
}

void
sim_init(struct sim *sim, const char *const *names, size_t n)
{
	struct state_io io = { .ctx = sim, .node_name = node_name };

	sim->len = n;
	for (size_t i = 0; i < n; i++) {
		sim->name[i] = names[i];
		sim->s[i] = state_new(i + 1, &io);
	}
}

void
sim_fini(struct sim *sim)
{
	for (size_t i = 0; i < sim->len; i++)
		state_free(sim->s[i]);
}

/* Nobody looks at disks here. */
static void
forget_touched(struct state *s)
{
	for (size_t i = 0; i < s->touched_regs.len; i++)
		s->touched_regs.r[i]->touched = false;
	for (size_t i = 0; i < s->touched_dirs.len; i++)
		s->touched_dirs.d[i]->touched = false;
	s->touched_regs.len = s->touched_dirs.len = 0;
}

/* ---- paths ---- */

struct at {
	struct obstack o;
	struct folder up;
	char *name;
	struct name_group g;
	struct shown *file;
};

static void
at_close(struct at *a)
{
	group_fini(&a->g);
	free(a->name);
	obstack_free(&a->o, NULL);
}

/* 0, -ENOENT or -ENOTDIR as the way there says; the name itself may be missing. */
static int
at_open(struct state *s, const char *path, struct at *a)
{
	char *copy = mem_str(path), *slash = strrchr(copy, '/'), *rest = copy, *part;
	int rc = 0;

	memset(a, 0, sizeof(*a));
	obstack_init(&a->o);
	a->name = mem_str(slash ? slash + 1 : copy);
	a->up.ids = obstack_alloc(&a->o, sizeof(*a->up.ids));
	a->up.ids[0] = s->root;
	a->up.len = 1;
	if (slash)
		*slash = '\0';
	while (slash && rc == 0 && (part = strsep(&rest, "/"))) {
		struct folder next;

		display_subfolder(s, &a->up, part, &a->o, &next);
		if (!next.len) {
			display_find(s, &a->up, part, &a->o, &a->g, &a->file);
			rc = a->file ? -ENOTDIR : -ENOENT;
		}
		a->up = next;
	}
	free(copy);
	if (rc == 0)
		display_find(s, &a->up, a->name, &a->o, &a->g, &a->file);
	if (rc < 0)
		at_close(a);
	return rc;
}

static bool
at_is_dir(const struct at *a)
{
	return !a->file && a->g.dirs.len > 0;
}

static bool
at_exists(const struct at *a)
{
	return a->file || a->g.dirs.len > 0;
}

static bool
is_empty(const struct folder *f)
{
	for (size_t i = 0; i < f->len; i++)
		if (f->ids[i]->files || f->ids[i]->standing)
			return false;
	return true;
}

/* ---- user operations ---- */

int
sim_write(struct state *s, const char *path, const char *content)
{
	struct local_file f = { .kind = KIND_FILE, .size = strlen(content) };
	struct at a;
	int rc = at_open(s, path, &a);

	if (rc < 0)
		return rc;
	memcpy(f.hash.b, content, strlen(content));
	if (a.file)
		f.attrs = attrs_copy(&a.file->attrs);
	else
		attrs_set_mode(&f.attrs, 0644, (struct stamp){ 0, 0 });
	rc = at_is_dir(&a) ? -EISDIR : local_write(s, a.up.ids[0], a.name, &f, NULL);
	attrs_fini(&f.attrs);
	at_close(&a);
	forget_touched(s);
	return rc;
}

int
sim_unlink(struct state *s, const char *path)
{
	struct at a;
	int rc = at_open(s, path, &a);

	if (rc < 0)
		return rc;
	rc = local_unlink(s, a.up.ids[0], a.name);
	at_close(&a);
	forget_touched(s);
	return rc;
}

int
sim_mkdir(struct state *s, const char *path, uint32_t mode, enum dir_told told)
{
	struct dir *d;
	struct at a;
	int rc = at_open(s, path, &a);

	if (rc < 0)
		return rc;
	rc = at_exists(&a) ? -EEXIST : local_mkdir(s, a.up.ids[0], a.name, mode, told, &d);
	at_close(&a);
	forget_touched(s);
	return rc;
}

int
sim_rmdir(struct state *s, const char *path)
{
	struct at a;
	int rc = at_open(s, path, &a);

	if (rc < 0)
		return rc;
	if (at_is_dir(&a) && !is_empty(&a.g.dirs))
		rc = -ENOTEMPTY;
	else
		rc = local_rmdir(s, a.up.ids[0], a.name);
	at_close(&a);
	forget_touched(s);
	return rc;
}

static int
rename_checked(struct state *s, const char *from, const char *to, const struct at *a, const struct at *b)
{
	size_t n = strlen(from);

	if (strcmp(from, to) == 0)
		return 0;
	if (strncmp(to, from, n) == 0 && to[n] == '/')
		return at_is_dir(a) ? -EINVAL : -ENOTDIR;
	if (!at_is_dir(a))
		return at_is_dir(b) ? -EISDIR :
		    local_rename(s, a->up.ids[0], a->name, b->up.ids[0], b->name, NULL, NULL);
	if (b->file)
		return -ENOTDIR;
	if (at_is_dir(b) && !is_empty(&b->g.dirs))
		return -ENOTEMPTY;
	return local_move(s, a->up.ids[0], a->name, b->up.ids[0], b->name);
}

int
sim_rename(struct state *s, const char *from, const char *to)
{
	struct at a, b;
	int rc = at_open(s, from, &a);

	if (rc < 0)
		return rc;
	rc = at_exists(&a) ? at_open(s, to, &b) : -ENOENT;
	if (rc == 0) {
		rc = rename_checked(s, from, to, &a, &b);
		at_close(&b);
	}
	at_close(&a);
	forget_touched(s);
	return rc;
}

int
sim_swap(struct state *s, const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	struct at x, y;
	int rc;

	if ((strncmp(a, b, n) == 0 && (b[n] == '/' || !b[n])) || (strncmp(a, b, m) == 0 && a[m] == '/'))
		return -EINVAL;
	rc = at_open(s, a, &x);
	if (rc < 0)
		return rc;
	rc = at_open(s, b, &y);
	if (rc == 0) {
		rc = local_exchange(s, x.up.ids[0], x.name, y.up.ids[0], y.name);
		at_close(&y);
	}
	at_close(&x);
	forget_touched(s);
	return rc;
}

int
sim_chmod(struct state *s, const char *path, uint32_t mode)
{
	struct attrs set = { 0 };
	struct at a;
	int rc = at_open(s, path, &a);

	if (rc < 0)
		return rc;
	attrs_set_mode(&set, mode, (struct stamp){ 0, 0 });
	rc = local_set_attrs(s, a.up.ids[0], a.name, &set);
	attrs_fini(&set);
	at_close(&a);
	forget_touched(s);
	return rc;
}

/* ---- replication ---- */

static struct dir *take_with_above(struct state *me, struct state *peer, struct dir *d, unsigned depth);

static struct place
place_here(struct state *me, struct state *peer, struct place p, unsigned depth)
{
	return (struct place){ take_with_above(me, peer, p.up, depth + 1), p.name };
}

/* Takes a directory, those above it first as far as they are news; in a ring the
 * walk up ends by depth. */
static struct dir *
take_with_above(struct state *me, struct state *peer, struct dir *theirs, unsigned depth)
{
	struct dir *mine = state_dir(me, &theirs->id);
	struct dirval val;
	struct place birth;
	bool news;

	if (theirs == peer->root)
		return me->root;
	if (mine && depth && (depth > 20 || vv_dominates(&mine->val.ctx, &theirs->val.ctx)))
		return mine;
	birth = place_here(me, peer, theirs->birth, depth);
	if (!state_dir(me, &theirs->id)) {
		struct dirval bare = { 0 };

		/* Known first, so that a ring above it finds it. */
		take_dir(me, birth, theirs->birth_k, &bare, NULL, &news);
	}
	dirval_copy(&val, &theirs->val);
	for (uint32_t i = 0; i < val.moves_len; i++) {
		val.moves[i].to = place_here(me, peer, val.moves[i].to, depth);
		val.moves[i].from = place_here(me, peer, val.moves[i].from, depth);
	}
	mine = take_dir(me, birth, theirs->birth_k, &val, &peer->know, &news);
	dirval_fini(&val);
	return mine;
}

static void
adopt(struct state *me, struct state *peer)
{
	char **paths = NULL;
	size_t n = 0;
	struct dir *d, *tmp;

	HASH_ITER(hh, me->dirs, d, tmp) {
		if (d == me->root || !take_may_offer(me, d))
			continue;
		paths = mem_resize(paths, n + 1, sizeof(*paths));
		paths[n++] = dir_path(d);
	}
	for (size_t i = 1; i < n; i++)
		for (size_t j = i; j > 0 && strcmp(paths[j - 1], paths[j]) > 0; j--) {
			char *x = paths[j];

			paths[j] = paths[j - 1];
			paths[j - 1] = x;
		}
	for (size_t i = 0; i < n; i++) {
		struct dir *o = take_answer(peer, paths[i]), *up, *by;
		struct place p;

		if (o) {
			p = dir_place(o);
			up = state_dir(me, &p.up->id);
			by = state_dir(me, &o->birth.up->id);
			if (up && by && take_adopt(me, paths[i], (struct place){ by, o->birth.name }, o->birth_k,
			    (struct place){ up, p.name }))
				take_with_above(me, peer, o, 0);
		}
		free(paths[i]);
	}
	free(paths);
}

struct row {
	bool gone;
	uint64_t at;
	struct dir *d;
	struct reg *r;
};

static uint64_t
max_event(const struct vv *v)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < v->len; i++)
		n = v->e[i].n > n ? v->e[i].n : n;
	return n;
}

/* How the model writes an identity: it orders by that what is equally old. */
static char *
identity_text(const struct dir *d)
{
	char *up, *out;

	if (!d->birth.up)
		return mem_str("");
	up = identity_text(d->birth.up);
	out = mem_printf("%s/%u:%s", up, d->birth_k, d->birth.name);
	free(up);
	return out;
}

static int
by_key(const struct row *a, const struct row *b)
{
	char *x = identity_text(a->r ? a->r->dir : a->d), *y = identity_text(b->r ? b->r->dir : b->d);
	int order = strcmp(x, y);

	free(x);
	free(y);
	return order || !a->r ? order : strcmp(reg_name(a->r), reg_name(b->r));
}

static int
by_order(const void *pa, const void *pb)
{
	const struct row *a = pa, *b = pb;

	if (a->gone != b->gone)
		return a->gone ? 1 : -1;
	if (a->at != b->at)
		return a->at < b->at ? -1 : 1;
	return (a->r != NULL) != (b->r != NULL) ? (a->r != NULL) - (b->r != NULL) : by_key(a, b);
}

static void
take_row(struct state *me, struct state *peer, const struct row *row)
{
	struct reg *mine;
	struct dir *d;
	bool news;

	if (row->d) {
		take_with_above(me, peer, row->d, 0);
		return;
	}
	d = take_with_above(me, peer, row->r->dir, 1);
	mine = take_reg(me, d, reg_name(row->r), reg_known(row->r), &peer->know, &news);
	state_reg_show(me, mine);
}

/* All that the peer has was taken: what it knows and does not have was removed. */
static void
take_absence(struct state *me, struct state *peer)
{
	struct dir *d, *dtmp, *theirs;
	struct reg *r, *rtmp;
	bool news;

	HASH_ITER(hh, me->regs, r, rtmp) {
		theirs = state_dir(peer, &r->dir->id);
		if (r->dir->told != DIR_TOLD)
			continue;
		if (theirs && state_reg(peer, theirs, reg_name(r), false))
			continue;
		take_absent_reg(me, r->dir, reg_name(r), &peer->know, &news);
		state_reg_show(me, r);
	}
	HASH_ITER(hh, me->dirs, d, dtmp)
		if (d != me->root && !state_dir(peer, &d->id))
			take_absent_dir(me, d, &peer->know);
}

void
sim_pull(struct state *me, struct state *peer, size_t limit)
{
	struct row *rows = NULL;
	size_t n = 0;
	struct dir *d, *dtmp;
	struct reg *r, *rtmp;
	bool whole;

	adopt(peer, me);
	adopt(me, peer);
	take_told(peer);
	whole = !vv_dominates(&me->know, &peer->forgot);
	rows = mem_resize(NULL, HASH_COUNT(peer->dirs) + HASH_COUNT(peer->regs) + 1, sizeof(*rows));
	HASH_ITER(hh, peer->dirs, d, dtmp)
		if (d != peer->root && (whole || !vv_dominates(&me->know, &d->val.ctx)))
			rows[n++] = (struct row){ !dir_is_live(d), max_event(&d->val.ctx), d, NULL };
	HASH_ITER(hh, peer->regs, r, rtmp)
		if (whole ? reg_known(r)->ctx.len > 0 : !vv_dominates(&me->know, &reg_known(r)->ctx))
			rows[n++] = (struct row){ !reg_known(r)->len, max_event(&reg_known(r)->ctx), NULL, r };
	if (n)
		qsort(rows, n, sizeof(*rows), by_order);
	for (size_t i = 0; i < n && i < limit; i++)
		take_row(me, peer, &rows[i]);
	if (limit >= n) {
		if (whole)
			take_absence(me, peer);
		vv_join(&me->forgot, &peer->forgot);
		vv_join(&me->know, &peer->know);
	}
	free(rows);
	forget_touched(me);
	forget_touched(peer);
}

void
sim_pull_all(struct sim *sim)
{
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < sim->len; i++)
			for (size_t j = 0; j < sim->len; j++)
				if (i != j)
					sim_pull(sim->s[i], sim->s[j], SIZE_MAX);
}

/* As if it had been written to an index. */
static void
forget_dirty(struct state *s)
{
	for (size_t i = 0; i < s->dirty_regs.len; i++)
		s->dirty_regs.r[i]->dirty = false;
	for (size_t i = 0; i < s->dirty_dirs.len; i++)
		s->dirty_dirs.d[i]->dirty = false;
	s->dirty_regs.len = s->dirty_dirs.len = 0;
}

size_t
sim_collect(struct state *me, const struct vv *const *heard, size_t n)
{
	static const struct forget_io io;
	struct vv stable = { 0 };
	size_t gone = 0, more;
	struct reg *r, *tmp;
	struct dot missing;

	if (!forget_stable(me, heard, n, &stable))
		return 0;
	forget_dirty(me);
	HASH_ITER(hh, me->regs, r, tmp)
		if (r->shown.ctx.len && forget_may_reg(r, &stable, &missing)) {
			forget_reg(me, r);
			gone++;
		}
	while ((more = forget_dirs(me, &stable, 1000, &io)))
		gone += more;
	vv_fini(&stable);
	return gone;
}

size_t
sim_tombstones(struct state *s)
{
	size_t n = forget_count_dirs(s);
	struct reg *r;

	for (r = s->regs; r; r = r->hh.next)
		n += r->shown.ctx.len && !reg_known(r)->len;
	return n;
}

/* ---- what shows ---- */

char *
sim_tree(struct state *s)
{
	struct listing l;
	char *text;

	listing_make(&l, s);
	text = listing_text(&l);
	listing_fini(&l);
	return text;
}
