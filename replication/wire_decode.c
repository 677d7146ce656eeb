/*
 * From messages to the core's structures.  Everything here may come from a peer
 * or a damaged disk: lengths, names, counts and identities are checked before
 * anything is kept.
 */
#include "config.h"

#include "replication/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"

#define SLOT_MAX 200
#define KEY_MAX 255

bool
wire_name_ok(const char *name, bool in_root)
{
	size_t len = strlen(name);

	return len > 0 && len <= WIRE_NAME_MAX && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	    strcmp(name, "..") != 0 && !(in_root && strcmp(name, ".sibfs") == 0);
}

static char *
text_of(const ProtobufCBinaryData *b, size_t max)
{
	char *s;

	if (b->len > max || (b->len && memchr(b->data, '\0', b->len)))
		return NULL;
	s = mem_alloc(b->len + 1);
	if (b->len)
		memcpy(s, b->data, b->len);
	return s;
}

int
wire_get_name(const ProtobufCBinaryData *b, bool in_root, char **out)
{
	char *s = text_of(b, WIRE_NAME_MAX);

	if (!s || !wire_name_ok(s, in_root)) {
		free(s);
		return -EBADMSG;
	}
	*out = s;
	return 0;
}

int
wire_get_identity(const ProtobufCBinaryData *b, struct identity *out)
{
	if (b->len != sizeof(out->b))
		return -EBADMSG;
	memcpy(out->b, b->data, sizeof(out->b));
	return 0;
}

static int
get_hash(const ProtobufCBinaryData *b, struct hash *out)
{
	if (b->len != sizeof(out->b))
		return -EBADMSG;
	memcpy(out->b, b->data, sizeof(out->b));
	return 0;
}

static int
get_dot(const Sibfs__Wire__Dot *m, struct dot *out)
{
	if (!m || !m->id || !m->n || m->n > INT64_MAX)
		return -EBADMSG;
	*out = (struct dot){ m->id, m->n };
	return 0;
}

static int
by_dot(const void *a, const void *b)
{
	return dot_compare(*(const struct dot *)a, *(const struct dot *)b);
}

/*
 * Sorts what begins with its dot, all at once: a peer must not keep us busy by
 * an unkind order.  False if a dot is there twice.
 */
static bool
sort_by_dot(void *all, size_t n, size_t size)
{
	const uint8_t *p = all;

	if (n > 1)
		qsort(all, n, size, by_dot);
	for (size_t i = 1; i < n; i++)
		if (by_dot(p + (i - 1) * size, p + i * size) == 0)
			return false;
	return true;
}

int
wire_get_dots(Sibfs__Wire__Dot *const *dots, size_t n, struct vv *out)
{
	struct vv v = { NULL, (uint32_t)n, (uint32_t)n };
	int rc = 0;

	if (n > WIRE_DOTS_MAX)
		return -EBADMSG;
	if (n)
		v.e = mem_resize(NULL, n, sizeof(*v.e));
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = get_dot(dots[i], &v.e[i]);
	if (rc == 0 && !sort_by_dot(v.e, n, sizeof(*v.e)))
		rc = -EBADMSG;
	for (size_t i = 1; i < n && rc == 0; i++)
		rc = v.e[i - 1].id == v.e[i].id ? -EBADMSG : 0;
	if (rc < 0)
		vv_fini(&v);
	else
		*out = v;
	return rc;
}

int
wire_get_attrs(Sibfs__Wire__Cell *const *cells, size_t n, struct attrs *out)
{
	struct attrs a = { 0 };

	if (n > WIRE_ATTRS_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < n; i++) {
		const Sibfs__Wire__Cell *c = cells[i];

		if (!*c->key || strlen(c->key) > KEY_MAX + 2 || c->value.len > WIRE_VALUE_MAX ||
		    attrs_find(&a, c->key)) {
			attrs_fini(&a);
			return -EBADMSG;
		}
		attrs_set(&a, c->key, c->removed ? NULL : c->value.data ? c->value.data : (const uint8_t *)"",
		    (uint32_t)c->value.len, (struct stamp){ c->hlc, c->id });
	}
	*out = a;
	return 0;
}

static char *
get_slot(const ProtobufCBinaryData *b)
{
	char *s = text_of(b, SLOT_MAX);

	if (s && strchr(s, '/')) {
		free(s);
		s = NULL;
	}
	return s;
}

static int
get_version(const Sibfs__Wire__Version *m, struct version *out)
{
	struct version v = { 0 };

	if (get_dot(m->dot, &v.dot) < 0 || (m->kind != KIND_FILE && m->kind != KIND_SYMLINK) ||
	    get_hash(&m->hash, &v.hash) < 0 || m->size > INT64_MAX || m->content.len > WIRE_CONTENT_MAX)
		return -EBADMSG;
	v.kind = (uint8_t)m->kind;
	v.made = m->made;
	v.has_base = m->ancestor.len > 0;
	if (v.has_base && get_hash(&m->ancestor, &v.base) < 0)
		return -EBADMSG;
	v.size = m->size;
	v.hlc = m->hlc;
	v.slot_at = (struct stamp){ m->slot_hlc, m->slot_id };
	v.slot = get_slot(&m->slot);
	if (!v.slot || wire_get_attrs(m->attrs, m->n_attrs, &v.attrs) < 0) {
		free(v.slot);
		return -EBADMSG;
	}
	*out = v;
	return 0;
}

static int
get_slots(const Sibfs__Wire__RegisterValue *m, struct regval *r)
{
	for (size_t i = 0; i < m->n_slots; i++) {
		struct attrs a;
		char *slot = get_slot(&m->slots[i]->slot);

		if (!slot || regval_slot_find(r, slot) ||
		    wire_get_attrs(m->slots[i]->attrs, m->slots[i]->n_attrs, &a) < 0) {
			free(slot);
			return -EBADMSG;
		}
		*regval_slot(r, slot) = a;
		free(slot);
	}
	return 0;
}

int
wire_get_regval(const Sibfs__Wire__RegisterValue *m, struct regval *out)
{
	struct regval r = { 0 };
	int rc;

	if (!m || m->n_versions > WIRE_VERSIONS_MAX || m->n_slots > WIRE_VERSIONS_MAX)
		return -EBADMSG;
	if ((rc = wire_get_dots(m->ctx, m->n_ctx, &r.ctx)) < 0)
		return rc;
	if (m->n_versions)
		r.v = mem_resize(NULL, m->n_versions, sizeof(*r.v));
	for (size_t i = 0; i < m->n_versions && rc == 0; i++) {
		if ((rc = get_version(m->versions[i], &r.v[i])) < 0)
			break;
		r.len++;
		/* A version that its own context does not know is nonsense. */
		if (!vv_covers(&r.ctx, r.v[i].dot))
			rc = -EBADMSG;
	}
	if (rc == 0 && !sort_by_dot(r.v, r.len, sizeof(*r.v)))
		rc = -EBADMSG;
	if (rc == 0)
		rc = get_slots(m, &r);
	if (rc < 0) {
		regval_fini(&r);
		return rc;
	}
	*out = r;
	return 0;
}

static int
get_place(struct state *s, const Sibfs__Wire__Place *m, struct place *out)
{
	struct identity up;
	struct dir *d;
	int rc;

	if (!m || (rc = wire_get_identity(&m->up, &up)) < 0)
		return -EBADMSG;
	d = state_dir(s, &up);
	if (!d)
		return -ENOENT;
	out->up = d;
	return wire_get_name(&m->name, d == s->root, &out->name);
}

static int
get_moves(struct state *s, const Sibfs__Wire__Directory *m, struct dirval *v)
{
	for (size_t i = 0; i < m->n_moves; i++) {
		const Sibfs__Wire__Move *x = m->moves[i];
		struct dir_move move = { 0 };
		int rc;

		if ((rc = get_dot(x->dot, &move.dot)) < 0 || (rc = get_place(s, x->to, &move.to)) < 0)
			return rc;
		if ((rc = get_place(s, x->from, &move.from)) < 0) {
			free(move.to.name);
			return rc;
		}
		move.at = (struct stamp){ x->hlc, x->id };
		v->moves = mem_resize(v->moves, v->moves_len + 1, sizeof(*v->moves));
		v->moves[v->moves_len++] = move;
	}
	return 0;
}

static int
get_dirval(struct state *s, const Sibfs__Wire__Directory *m, struct dirval *v)
{
	int rc;

	if (m->n_live > WIRE_VERSIONS_MAX || m->n_moves > WIRE_VERSIONS_MAX || m->n_modes > WIRE_VERSIONS_MAX)
		return -EBADMSG;
	if ((rc = wire_get_dots(m->ctx, m->n_ctx, &v->ctx)) < 0 ||
	    (rc = wire_get_attrs(m->attrs, m->n_attrs, &v->attrs)) < 0)
		return rc;
	v->live = mem_resize(NULL, m->n_live, sizeof(*v->live));
	for (size_t i = 0; i < m->n_live; i++)
		if ((rc = get_dot(m->live[i], &v->live[v->live_len++])) < 0)
			return rc;
	v->modes = mem_resize(NULL, m->n_modes, sizeof(*v->modes));
	for (size_t i = 0; i < m->n_modes; i++) {
		v->modes[i].mode = m->modes[i]->mode & 07777;
		if ((rc = get_dot(m->modes[i]->dot, &v->modes[v->modes_len++].dot)) < 0)
			return rc;
	}
	if ((rc = get_moves(s, m, v)) < 0)
		return rc;
	return sort_by_dot(v->live, v->live_len, sizeof(*v->live)) &&
	    sort_by_dot(v->modes, v->modes_len, sizeof(*v->modes)) &&
	    sort_by_dot(v->moves, v->moves_len, sizeof(*v->moves)) ? 0 : -EBADMSG;
}

int
wire_get_directory(struct state *s, const Sibfs__Wire__Directory *m, struct place *birth, uint32_t *number,
    struct dirval *out)
{
	struct identity id, made;
	struct dirval v = { 0 };
	struct place p;
	int rc;

	if (wire_get_identity(&m->id, &id) < 0)
		return -EBADMSG;
	if ((rc = get_place(s, m->birth, &p)) < 0)
		return rc;
	made = identity_make(&p.up->id, p.name, m->number);
	rc = identity_equal(&id, &made) ? get_dirval(s, m, &v) : -EBADMSG;
	if (rc < 0) {
		dirval_fini(&v);
		free(p.name);
		return rc;
	}
	*birth = p;
	*number = m->number;
	*out = v;
	return 0;
}

/* Stamps that a brief row leaves out are those of their version. */
static void
fill_in_stamps(Sibfs__Wire__RegisterValue *m)
{
	for (size_t i = 0; m && i < m->n_versions; i++) {
		Sibfs__Wire__Version *v = m->versions[i];
		uint64_t id = v->dot ? v->dot->id : 0;

		if (!v->slot_hlc && !v->slot_id) {
			v->slot_hlc = v->hlc;
			v->slot_id = id;
		}
		for (size_t k = 0; k < v->n_attrs; k++)
			if (!v->attrs[k]->hlc && !v->attrs[k]->id) {
				v->attrs[k]->hlc = v->hlc;
				v->attrs[k]->id = id;
			}
	}
}

static int
get_file_hash(const Sibfs__Wire__IndexRegister *m, const Sibfs__Wire__IndexFile *x, struct hash *out)
{
	if (x->hash.len || !m->shown || !m->shown->n_versions)
		return get_hash(&x->hash, out);
	return get_hash(&m->shown->versions[0]->hash, out);
}

static int
get_file_name(const Sibfs__Wire__IndexFile *x, const struct reg *r, char **out)
{
	if (x->name.len)
		return wire_get_name(&x->name, false, out);
	*out = mem_str(reg_name(r));
	return 0;
}

static int
get_files(const Sibfs__Wire__IndexRegister *m, struct reg *r)
{
	for (size_t i = 0; i < m->n_files; i++) {
		const Sibfs__Wire__IndexFile *x = m->files[i];
		struct file_stamp stamp = { x->ino, x->size, x->mtime_ns };
		struct hash h;
		char *name;

		if (get_file_hash(m, x, &h) < 0 || get_file_name(x, r, &name) < 0)
			return -EBADMSG;
		reg_file_set(r, name, &h, &stamp);
		free(name);
	}
	return 0;
}

int
wire_unpack_index_reg(const uint8_t *p, size_t len, struct reg *r)
{
	Sibfs__Wire__IndexRegister *m = sibfs__wire__index_register__unpack(NULL, len, p);
	struct regval shown = { 0 }, pending = { 0 };
	struct hash last;
	int rc;

	if (!m)
		return -EBADMSG;
	if (m->brief) {
		fill_in_stamps(m->shown);
		fill_in_stamps(m->pending);
	}
	rc = wire_get_regval(m->shown, &shown);
	if (rc == 0 && m->pending)
		rc = wire_get_regval(m->pending, &pending);
	if (rc == 0 && m->last.len)
		rc = get_hash(&m->last, &last);
	if (rc == 0)
		rc = get_files(m, r);
	if (rc < 0) {
		regval_fini(&shown);
		regval_fini(&pending);
		while (r->files_len)
			reg_file_forget(r, r->files[0].name);
	} else {
		r->shown = shown;
		r->has_last = m->last.len > 0;
		if (r->has_last)
			r->last = last;
		if (m->pending) {
			r->pending = mem_alloc(sizeof(*r->pending));
			*r->pending = pending;
		}
	}
	sibfs__wire__index_register__free_unpacked(m, NULL);
	return rc;
}
