/*
 * From the core's structures to messages.
 */
#include "config.h"

#include "replication/wire.h"

#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"

static ProtobufCBinaryData
bytes_of(const void *p, size_t len)
{
	/* Never NULL: the generated code frees what has a length. */
	ProtobufCBinaryData b = { len, mem_alloc(len) };

	if (len)
		memcpy(b.data, p, len);
	return b;
}

static Sibfs__Wire__Dot *
dot_of(struct dot d)
{
	Sibfs__Wire__Dot *m = mem_alloc(sizeof(*m));

	sibfs__wire__dot__init(m);
	m->id = d.id;
	m->n = d.n;
	return m;
}

void
wire_dots(const struct vv *v, Sibfs__Wire__Dot ***out, size_t *n)
{
	*out = mem_resize(NULL, v->len, sizeof(**out));
	*n = v->len;
	for (uint32_t i = 0; i < v->len; i++)
		(*out)[i] = dot_of(v->e[i]);
}

void
wire_free_dots(Sibfs__Wire__Dot **dots, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(dots[i]);
	free(dots);
}

static void
cells_of(const struct attrs *a, Sibfs__Wire__Cell ***out, size_t *n)
{
	*out = mem_resize(NULL, a->len, sizeof(**out));
	*n = a->len;
	for (uint32_t i = 0; i < a->len; i++) {
		Sibfs__Wire__Cell *m = mem_alloc(sizeof(*m));

		sibfs__wire__cell__init(m);
		m->key = mem_str(a->c[i].key);
		m->removed = !a->c[i].value;
		m->value = bytes_of(a->c[i].value, a->c[i].len);
		m->hlc = a->c[i].at.hlc;
		m->id = a->c[i].at.id;
		(*out)[i] = m;
	}
}

static Sibfs__Wire__Version *
version_of(const struct version *v)
{
	Sibfs__Wire__Version *m = mem_alloc(sizeof(*m));

	sibfs__wire__version__init(m);
	m->dot = dot_of(v->dot);
	m->kind = v->kind;
	m->made = v->made;
	m->hash = bytes_of(v->hash.b, sizeof(v->hash.b));
	if (v->has_base)
		m->ancestor = bytes_of(v->base.b, sizeof(v->base.b));
	m->size = v->size;
	m->hlc = v->hlc;
	m->slot = bytes_of(v->slot, strlen(v->slot));
	m->slot_hlc = v->slot_at.hlc;
	m->slot_id = v->slot_at.id;
	cells_of(&v->attrs, &m->attrs, &m->n_attrs);
	return m;
}

Sibfs__Wire__RegisterValue *
wire_regval(const struct regval *r)
{
	Sibfs__Wire__RegisterValue *m = mem_alloc(sizeof(*m));

	sibfs__wire__register_value__init(m);
	wire_dots(&r->ctx, &m->ctx, &m->n_ctx);
	m->versions = mem_resize(NULL, r->len, sizeof(*m->versions));
	for (uint32_t i = 0; i < r->len; i++)
		m->versions[m->n_versions++] = version_of(&r->v[i]);
	m->slots = mem_resize(NULL, r->slots_len, sizeof(*m->slots));
	for (uint32_t i = 0; i < r->slots_len; i++) {
		Sibfs__Wire__SlotAttrs *s = mem_alloc(sizeof(*s));

		sibfs__wire__slot_attrs__init(s);
		s->slot = bytes_of(r->slots[i].slot, strlen(r->slots[i].slot));
		cells_of(&r->slots[i].attrs, &s->attrs, &s->n_attrs);
		m->slots[m->n_slots++] = s;
	}
	return m;
}

Sibfs__Wire__Register *
wire_register(struct reg *r, const struct regval *value)
{
	Sibfs__Wire__Register *m = mem_alloc(sizeof(*m));

	sibfs__wire__register__init(m);
	m->dir = bytes_of(r->dir->id.b, sizeof(r->dir->id.b));
	m->name = bytes_of(reg_name(r), strlen(reg_name(r)));
	m->value = wire_regval(value);
	return m;
}

static Sibfs__Wire__Place *
place_of(const struct place *p)
{
	Sibfs__Wire__Place *m = mem_alloc(sizeof(*m));

	sibfs__wire__place__init(m);
	m->up = bytes_of(p->up->id.b, sizeof(p->up->id.b));
	m->name = bytes_of(p->name, strlen(p->name));
	return m;
}

Sibfs__Wire__Directory *
wire_directory(const struct dir *d)
{
	Sibfs__Wire__Directory *m = mem_alloc(sizeof(*m));

	sibfs__wire__directory__init(m);
	m->id = bytes_of(d->id.b, sizeof(d->id.b));
	if (d->birth.up)
		m->birth = place_of(&d->birth);
	m->number = d->birth_k;
	wire_dots(&d->val.ctx, &m->ctx, &m->n_ctx);
	m->live = mem_resize(NULL, d->val.live_len, sizeof(*m->live));
	for (uint32_t i = 0; i < d->val.live_len; i++)
		m->live[m->n_live++] = dot_of(d->val.live[i]);
	m->moves = mem_resize(NULL, d->val.moves_len, sizeof(*m->moves));
	for (uint32_t i = 0; i < d->val.moves_len; i++) {
		const struct dir_move *v = &d->val.moves[i];
		Sibfs__Wire__Move *x = mem_alloc(sizeof(*x));

		sibfs__wire__move__init(x);
		x->dot = dot_of(v->dot);
		x->to = place_of(&v->to);
		x->from = place_of(&v->from);
		x->hlc = v->at.hlc;
		x->id = v->at.id;
		m->moves[m->n_moves++] = x;
	}
	m->modes = mem_resize(NULL, d->val.modes_len, sizeof(*m->modes));
	for (uint32_t i = 0; i < d->val.modes_len; i++) {
		Sibfs__Wire__Mode *x = mem_alloc(sizeof(*x));

		sibfs__wire__mode__init(x);
		x->dot = dot_of(d->val.modes[i].dot);
		x->mode = d->val.modes[i].mode;
		m->modes[m->n_modes++] = x;
	}
	cells_of(&d->val.attrs, &m->attrs, &m->n_attrs);
	return m;
}

/* ---- rows of the index say nothing twice ---- */

static bool
is_stamp(uint64_t hlc, uint64_t id, const Sibfs__Wire__Version *v)
{
	return hlc == v->hlc && id == v->dot->id;
}

/* Is there a stamp of 0, which would be taken for one that was left out? */
static bool
has_zero_stamp(const Sibfs__Wire__RegisterValue *m)
{
	for (size_t i = 0; m && i < m->n_versions; i++) {
		const Sibfs__Wire__Version *v = m->versions[i];

		if (!v->slot_hlc && !v->slot_id)
			return true;
		for (size_t k = 0; k < v->n_attrs; k++)
			if (!v->attrs[k]->hlc && !v->attrs[k]->id)
				return true;
	}
	return false;
}

static void
leave_out_stamps(Sibfs__Wire__RegisterValue *m)
{
	for (size_t i = 0; m && i < m->n_versions; i++) {
		Sibfs__Wire__Version *v = m->versions[i];

		if (is_stamp(v->slot_hlc, v->slot_id, v))
			v->slot_hlc = v->slot_id = 0;
		for (size_t k = 0; k < v->n_attrs; k++)
			if (is_stamp(v->attrs[k]->hlc, v->attrs[k]->id, v))
				v->attrs[k]->hlc = v->attrs[k]->id = 0;
	}
}

/* What the register's own name and its first version say already. */
static void
leave_out_of_file(Sibfs__Wire__IndexFile *x, const struct reg *r)
{
	if (x->name.len == strlen(reg_name(r)) && memcmp(x->name.data, reg_name(r), x->name.len) == 0)
		x->name.len = 0;
	if (r->shown.len && memcmp(x->hash.data, r->shown.v[0].hash.b, x->hash.len) == 0)
		x->hash.len = 0;
}

void
wire_pack_index_reg(const struct reg *r, uint8_t **out, size_t *len)
{
	Sibfs__Wire__IndexRegister *m = mem_alloc(sizeof(*m));

	sibfs__wire__index_register__init(m);
	m->shown = wire_regval(&r->shown);
	if (r->pending)
		m->pending = wire_regval(r->pending);
	if (r->has_last)
		m->last = bytes_of(r->last.b, sizeof(r->last.b));
	m->files = mem_resize(NULL, r->files_len, sizeof(*m->files));
	for (uint32_t i = 0; i < r->files_len; i++) {
		const struct reg_file *f = &r->files[i];
		Sibfs__Wire__IndexFile *x = mem_alloc(sizeof(*x));

		sibfs__wire__index_file__init(x);
		x->name = bytes_of(f->name, strlen(f->name));
		x->hash = bytes_of(f->hash.b, sizeof(f->hash.b));
		x->ino = f->stamp.ino;
		x->size = f->stamp.size;
		x->mtime_ns = f->stamp.mtime_ns;
		m->files[m->n_files++] = x;
		leave_out_of_file(x, r);
	}
	m->brief = !has_zero_stamp(m->shown) && !has_zero_stamp(m->pending);
	if (m->brief) {
		leave_out_stamps(m->shown);
		leave_out_stamps(m->pending);
	}
	*len = sibfs__wire__index_register__get_packed_size(m);
	*out = mem_alloc(*len);
	sibfs__wire__index_register__pack(m, *out);
	sibfs__wire__index_register__free_unpacked(m, NULL);
}
