/*
 * Last-writer-wins cells in arrays sorted by key.
 */
#include "config.h"

#include "replication/attr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/mem.h"

int
stamp_compare(struct stamp a, struct stamp b)
{
	if (a.hlc != b.hlc)
		return a.hlc < b.hlc ? -1 : 1;
	return (a.id > b.id) - (a.id < b.id);
}

static uint32_t
position(const struct attrs *a, const char *key, bool *found)
{
	uint32_t i = 0;
	int order = 1;

	while (i < a->len && (order = strcmp(a->c[i].key, key)) < 0)
		i++;
	*found = i < a->len && order == 0;
	return i;
}

const struct cell *
attrs_find(const struct attrs *a, const char *key)
{
	bool found;
	uint32_t i = position(a, key, &found);

	return found ? &a->c[i] : NULL;
}

void
attrs_set(struct attrs *a, const char *key, const void *value, uint32_t len, struct stamp at)
{
	bool found;
	uint32_t i = position(a, key, &found);
	void *copy = NULL;

	if (value) {
		copy = mem_alloc(len + 1);
		memcpy(copy, value, len);
	}
	if (found) {
		free(a->c[i].value);
	} else {
		a->c = mem_resize(a->c, a->len + 1, sizeof(*a->c));
		memmove(a->c + i + 1, a->c + i, (a->len - i) * sizeof(*a->c));
		a->len++;
		a->c[i].key = mem_str(key);
	}
	a->c[i].value = copy;
	a->c[i].len = value ? len : 0;
	a->c[i].at = at;
}

bool
cell_same_value(const struct cell *a, const struct cell *b)
{
	if (!a || !a->value)
		return !b || !b->value;
	return b && b->value && a->len == b->len && memcmp(a->value, b->value, a->len) == 0;
}

void
attrs_merge_cell(struct attrs *a, const struct cell *c)
{
	const struct cell *mine = attrs_find(a, c->key);

	if (mine && stamp_compare(mine->at, c->at) >= 0)
		return;
	attrs_set(a, c->key, c->value, c->len, c->at);
}

void
attrs_merge(struct attrs *a, const struct attrs *other)
{
	for (uint32_t i = 0; i < other->len; i++)
		attrs_merge_cell(a, &other->c[i]);
}

bool
attrs_same_values(const struct attrs *a, const struct attrs *b)
{
	for (uint32_t i = 0; i < a->len; i++)
		if (!cell_same_value(&a->c[i], attrs_find(b, a->c[i].key)))
			return false;
	for (uint32_t i = 0; i < b->len; i++)
		if (!cell_same_value(&b->c[i], attrs_find(a, b->c[i].key)))
			return false;
	return true;
}

bool
cell_is_extended(const struct cell *c)
{
	return strncmp(c->key, "x.", 2) == 0;
}

void
attrs_without_others(struct attrs *a, const struct attrs *before, struct stamp at)
{
	for (uint32_t i = 0; before && i < before->len; i++)
		if (before->c[i].value && cell_is_extended(&before->c[i]) && !attrs_find(a, before->c[i].key))
			attrs_set(a, before->c[i].key, NULL, 0, at);
}

struct attrs
attrs_copy(const struct attrs *a)
{
	struct attrs out = { 0 };

	attrs_merge(&out, a);
	return out;
}

void
attrs_fini(struct attrs *a)
{
	for (uint32_t i = 0; i < a->len; i++) {
		free(a->c[i].key);
		free(a->c[i].value);
	}
	free(a->c);
	*a = (struct attrs){ 0 };
}

uint32_t
attrs_mode(const struct attrs *a, uint32_t fallback)
{
	const struct cell *c = attrs_find(a, "mode");
	uint32_t mode = 0;

	if (!c || !c->value || c->len == 0 || c->len > 6)
		return fallback;
	for (uint32_t i = 0; i < c->len; i++) {
		unsigned char digit = ((const unsigned char *)c->value)[i];

		if (digit < '0' || digit > '7')
			return fallback;
		mode = mode << 3 | (digit - '0');
	}
	return mode & 07777;
}

void
attrs_set_mode(struct attrs *a, uint32_t mode, struct stamp at)
{
	char text[12];
	int len = snprintf(text, sizeof(text), "%o", mode & 07777);

	attrs_set(a, "mode", text, (uint32_t)len, at);
}

uint64_t
attrs_hlc(const struct attrs *a)
{
	uint64_t hlc = 0;

	for (uint32_t i = 0; i < a->len; i++)
		if (a->c[i].at.hlc > hlc)
			hlc = a->c[i].at.hlc;
	return hlc;
}
