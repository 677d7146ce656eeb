/*
 * A token bucket.  It holds a tenth of a second's worth, so that a limit is
 * kept within every second, and at least a packet's.
 */
#include "config.h"

#include "replication/throttle.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BURST_MIN 4096
#define DAY_MIN (24 * 60)
#define RATE_MAX (UINT64_C(1) << 40)

/* ---- limits ---- */

static int
parse_rate(const char **text, uint64_t *out)
{
	const char *s = *text;
	uint64_t n = 0;
	unsigned shift = 0;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	for (; isdigit((unsigned char)*s); s++) {
		n = n * 10 + (uint64_t)(*s - '0');
		if (n > UINT32_MAX)
			return -EINVAL;
	}
	switch (*s) {
	case 'G': case 'g':
		shift += 10;
		/* fallthrough */
	case 'M': case 'm':
		shift += 10;
		/* fallthrough */
	case 'K': case 'k':
		shift += 10;
		s++;
	}
	*out = n << shift;
	*text = s;
	if (*out > RATE_MAX)
		return -EINVAL;
	return *s == '\0' || isspace((unsigned char)*s) ? 0 : -EINVAL;
}

static bool
is_time(unsigned h, unsigned m)
{
	return m < 60 && h * 60 + m <= DAY_MIN;
}

int
limit_parse(const char *text, struct limit *out)
{
	struct limit l = { 0 };
	unsigned h1, m1, h2, m2;
	int end = 0;

	if (parse_rate(&text, &l.rate) < 0)
		return -EINVAL;
	while (isspace((unsigned char)*text))
		text++;
	if (*text != '\0') {
		if (sscanf(text, "%2u:%2u-%2u:%2u%n", &h1, &m1, &h2, &m2, &end) != 4 || text[end] != '\0' ||
		    !is_time(h1, m1) || !is_time(h2, m2))
			return -EINVAL;
		l.from_min = (uint16_t)(h1 * 60 + m1);
		l.to_min = (uint16_t)(h2 * 60 + m2);
	}
	*out = l;
	return 0;
}

uint64_t
limit_at(const struct limit *l, unsigned minute)
{
	bool in = l->from_min <= l->to_min ? minute >= l->from_min && minute < l->to_min :
	    minute >= l->from_min || minute < l->to_min;

	return l->from_min == l->to_min || in ? l->rate : 0;
}

/* ---- the bucket ---- */

/* In thousandths. */
static int64_t
burst(const struct throttle *t)
{
	return 1000 * (t->rate / 10 > BURST_MIN ? (int64_t)(t->rate / 10) : BURST_MIN);
}

static void
fill(struct throttle *t, int64_t now_ms)
{
	int64_t passed = now_ms - t->at_ms;

	if (passed <= 0)
		return;
	if (passed > 10000)
		passed = 10000;		/* longer than any bucket takes, and no overflow */
	t->tokens += (int64_t)t->rate * passed;
	t->at_ms = now_ms;
	if (t->tokens > burst(t))
		t->tokens = burst(t);
}

void
throttle_set(struct throttle *t, uint64_t rate, int64_t now_ms)
{
	if (t->rate == rate)
		return;
	if (t->rate)
		fill(t, now_ms);
	else
		t->tokens = 0;
	t->rate = rate;
	t->at_ms = now_ms;
}

size_t
throttle_allow(struct throttle *t, int64_t now_ms)
{
	if (!t->rate)
		return SIZE_MAX;
	fill(t, now_ms);
	return t->tokens >= 1000 ? (size_t)(t->tokens / 1000) : 0;
}

void
throttle_used(struct throttle *t, size_t n)
{
	if (t->rate)
		t->tokens -= (int64_t)n * 1000;
}

int64_t
throttle_wait_ms(struct throttle *t, int64_t now_ms)
{
	/* For a piece that is worth the call, not for a single byte. */
	int64_t need = burst(t) / 4;

	if (!t->rate)
		return 0;
	fill(t, now_ms);
	return t->tokens >= 1000 ? 0 : (need - t->tokens) / (int64_t)t->rate + 1;
}
