/*
 * Frames: what is put comes out, in whatever pieces it arrives, and nothing
 * else does.
 */
#include "config.h"

#include "replication/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "replication/mem.h"
#include "tests/lib/random.h"

typedef Sibfs__Wire__Frame Frame;

/* A frame of content of that many bytes. */
static int
put_data(struct bytes *out, const void *p, size_t n, unsigned ways)
{
	Sibfs__Wire__Data d = SIBFS__WIRE__DATA__INIT;
	Frame f = SIBFS__WIRE__FRAME__INIT;

	d.id = 7;
	d.bytes.data = (uint8_t *)(uintptr_t)p;
	d.bytes.len = n;
	f.what_case = SIBFS__WIRE__FRAME__WHAT_DATA;
	f.data = &d;
	return frame_put(out, &f, ways);
}

static void
assert_data(struct bytes *in, const void *p, size_t n)
{
	Frame *f;

	assert_int_equal(frame_get(in, &f), 1);
	assert_int_equal(f->what_case, SIBFS__WIRE__FRAME__WHAT_DATA);
	assert_int_equal(f->data->bytes.len, n);
	if (n)
		assert_memory_equal(f->data->bytes.data, p, n);
	sibfs__wire__frame__free_unpacked(f, NULL);
}

static void
test_what_is_put_comes_out(void **state)
{
	static const size_t sizes[] = { 0, 1, 511, 512, 4095, 4096, 4097, 100000, FRAME_MAX - 100 };
	uint8_t *p = malloc(FRAME_MAX);

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
		for (unsigned kind = 0; kind < 8; kind++) {
			struct bytes b = { 0 };

			if (kind & 1)
				memset(p, 'x', sizes[i]);
			else
				random_bytes(p, sizes[i]);
			assert_int_equal(put_data(&b, p, sizes[i], kind / 2), 0);
			b.frames = 0;		/* one buffer for both ends */
			assert_data(&b, p, sizes[i]);
			assert_int_equal(b.len, 0);
			bytes_fini(&b);
		}
	free(p);
}

static void
test_frames_may_arrive_cut_anywhere(void **state)
{
	struct bytes all = { 0 };
	char text[2000];

	(void)state;
	memset(text, 'x', sizeof(text));
	put_data(&all, "first", 5, FRAME_ZLIB);
	put_data(&all, text, sizeof(text), FRAME_ZSTD);
	put_data(&all, "last", 4, FRAME_ZSTD);
	for (size_t cut = 0; cut <= all.len; cut++) {
		struct bytes in = { 0 };
		Frame *f;
		unsigned n = 0;

		bytes_add(&in, all.p + all.start, cut);
		while (frame_get(&in, &f) == 1) {
			n++;
			sibfs__wire__frame__free_unpacked(f, NULL);
		}
		assert_int_equal(frame_get(&in, &f), 0);
		bytes_add(&in, all.p + all.start + cut, all.len - cut);
		while (frame_get(&in, &f) == 1) {
			n++;
			sibfs__wire__frame__free_unpacked(f, NULL);
		}
		assert_int_equal(n, 3);
		assert_int_equal(in.len, 0);
		bytes_fini(&in);
	}
	bytes_fini(&all);
}

static void
check_changed_bytes(unsigned ways)
{
	struct bytes all = { 0 };
	char text[2000];

	memset(text, 'x', sizeof(text));
	put_data(&all, text, sizeof(text), ways);
	assert_true(all.len < 500);
	for (size_t i = 0; i < all.len * 8; i++) {
		struct bytes in = { 0 };
		Frame *f = NULL;

		bytes_add(&in, all.p + all.start, all.len);
		in.p[in.start + i / 8] ^= (uint8_t)(1u << i % 8);
		/* A longer length waits for more; it never gives a frame. */
		assert_true(frame_get(&in, &f) <= 0);
		bytes_fini(&in);
	}
	bytes_fini(&all);
}

static void
test_a_byte_changed_anywhere_is_noticed(void **state)
{
	(void)state;
	check_changed_bytes(FRAME_ZLIB);
	check_changed_bytes(FRAME_ZLIB | FRAME_ZSTD);
}

static void
check_sizes(unsigned ways, uint8_t flags)
{
	struct bytes text = { 0 }, noise = { 0 }, plain = { 0 }, small = { 0 };
	uint8_t p[20000];

	memset(p, 'x', sizeof(p));
	put_data(&text, p, sizeof(p), ways);
	assert_true(text.len < sizeof(p) / 10);
	assert_int_equal(text.p[text.start + 4], flags);
	put_data(&plain, p, sizeof(p), 0);
	assert_true(plain.len > sizeof(p));
	put_data(&small, p, 100, ways);
	assert_true(small.len > 100);
	random_bytes(p, sizeof(p));
	put_data(&noise, p, sizeof(p), ways);
	assert_int_equal(noise.p[noise.start + 4], 0);
	bytes_fini(&text);
	bytes_fini(&noise);
	bytes_fini(&plain);
	bytes_fini(&small);
}

static void
test_text_is_made_smaller_and_noise_is_not(void **state)
{
	const char *words[FRAME_WORDS_MAX];
	size_t n = frame_words(words);

	(void)state;
	assert_true(n >= 1);
	for (size_t i = 0; i < n; i++)
		check_sizes(frame_way(words[i]), (uint8_t)frame_way(words[i]));
	assert_int_equal(frame_way("rot13"), 0);
}

static void
test_too_large_a_message_is_not_put(void **state)
{
	uint8_t *p = calloc(1, FRAME_MAX);
	struct bytes b = { 0 };

	(void)state;
	assert_int_equal(put_data(&b, p, FRAME_MAX, FRAME_ZLIB), -EMSGSIZE);
	assert_int_equal(b.len, 0);
	bytes_fini(&b);
	free(p);
}

static void
put_be32(uint8_t *p, uint32_t n)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(n >> (24 - 8 * i));
}

/* A frame around a payload as it is, its checksum right; the first of its link. */
static void
put_raw(struct bytes *out, uint8_t flags, const uint8_t *p, size_t n)
{
	uint8_t header[FRAME_HEADER], head[5] = { 0, 0, 0, 0, flags };
	uLong crc = crc32(crc32(0, head, sizeof(head)), p, (uInt)n);

	out->frames = 0;
	put_be32(header, (uint32_t)n);
	header[4] = flags;
	put_be32(header + 5, (uint32_t)crc);
	bytes_add(out, header, sizeof(header));
	bytes_add(out, p, n);
}

static void
test_a_length_beyond_the_limit_is_refused(void **state)
{
	struct bytes b = { 0 };
	uint8_t header[FRAME_HEADER] = { 0xff, 0xff, 0xff, 0xff };
	Frame *f;

	(void)state;
	bytes_add(&b, header, sizeof(header));
	assert_int_equal(frame_get(&b, &f), -EMSGSIZE);
	bytes_fini(&b);
}

static void
test_what_inflates_beyond_the_limit_is_refused(void **state)
{
	uLong len = FRAME_MAX + 1000;
	uint8_t *zeros = calloc(1, len), *out = malloc(compressBound(len) + 4);
	uLongf n = compressBound(len);
	struct bytes b = { 0 };
	Frame *f;

	(void)state;
	assert_int_equal(compress(out + 4, &n, zeros, len), Z_OK);
	put_be32(out, (uint32_t)len);
	put_raw(&b, 1, out, n + 4);
	assert_int_equal(frame_get(&b, &f), -EMSGSIZE);
	bytes_fini(&b);
	/* The same with a length that lies. */
	put_be32(out, 1000);
	put_raw(&b, 1, out, n + 4);
	assert_int_equal(frame_get(&b, &f), -EBADMSG);
	bytes_fini(&b);
	free(zeros);
	free(out);
}

static void
test_bytes_after_the_deflated_message_are_refused(void **state)
{
	uint8_t zeros[100] = { 0 }, out[300];
	uLongf n = sizeof(out) - 4;
	struct bytes b = { 0 };
	Frame *f;

	(void)state;
	/* A ping: an empty message under field 15. */
	zeros[0] = 0x7a;
	assert_int_equal(compress(out + 4, &n, zeros, 2), Z_OK);
	put_be32(out, 2);
	put_raw(&b, 1, out, n + 4);
	assert_int_equal(frame_get(&b, &f), 1);
	sibfs__wire__frame__free_unpacked(f, NULL);
	out[n + 4] = 0;
	put_raw(&b, 1, out, n + 5);
	assert_int_equal(frame_get(&b, &f), -EBADMSG);
	bytes_fini(&b);
}

/* The same by zstd: a frame of more than was said, of less, and followed by bytes. */
static void
test_zstd_frames_give_just_what_was_said(void **state)
{
	struct bytes good = { 0 }, b = { 0 };
	char text[2000];
	Frame *f;

	(void)state;
	memset(text, 'x', sizeof(text));
	put_data(&good, text, sizeof(text), FRAME_ZSTD);
	if (good.p[4] != FRAME_ZSTD) {
		bytes_fini(&good);
		skip();			/* a build without it */
	}
	for (int more = -1; more <= 1; more++) {
		uint8_t *p = good.p + FRAME_HEADER;
		size_t len = good.len - FRAME_HEADER;
		uint32_t plain = (uint32_t)p[2] << 8 | p[3];

		put_be32(p, plain + (uint32_t)more);
		put_raw(&b, FRAME_ZSTD, p, len);
		put_be32(p, plain);
		assert_int_equal(frame_get(&b, &f), more ? -EBADMSG : 1);
		if (!more)
			sibfs__wire__frame__free_unpacked(f, NULL);
		bytes_fini(&b);
	}
	bytes_add(&good, "", 1);
	put_raw(&b, FRAME_ZSTD, good.p + FRAME_HEADER, good.len - FRAME_HEADER);
	assert_int_equal(frame_get(&b, &f), -EBADMSG);
	bytes_fini(&b);
	put_be32(good.p + FRAME_HEADER, FRAME_MAX + 1);
	put_raw(&b, FRAME_ZSTD, good.p + FRAME_HEADER, good.len - FRAME_HEADER);
	assert_int_equal(frame_get(&b, &f), -EMSGSIZE);
	bytes_fini(&b);
	bytes_fini(&good);
}

static void
test_unknown_flags_are_refused(void **state)
{
	struct bytes b = { 0 };
	uint8_t ping[2] = { 0x7a, 0 };
	Frame *f;

	(void)state;
	put_raw(&b, 3, ping, sizeof(ping));
	assert_int_equal(frame_get(&b, &f), -EBADMSG);
	bytes_fini(&b);
}

static void
test_an_idle_buffer_holds_little_memory(void **state)
{
	uint8_t *p = calloc(1, FRAME_MAX);
	struct bytes b = { 0 };

	(void)state;
	bytes_add(&b, p, FRAME_MAX);
	bytes_trim(&b);
	assert_int_equal(b.len, FRAME_MAX);
	bytes_drop(&b, FRAME_MAX);
	bytes_trim(&b);
	assert_true(b.cap <= 1 << 18);
	bytes_fini(&b);
	free(p);
}

static void
test_a_lost_or_repeated_frame_is_noticed(void **state)
{
	struct bytes all = { 0 }, in = { 0 };
	size_t first, second;
	Frame *f;

	(void)state;
	put_data(&all, "one", 3, false);
	first = all.len;
	put_data(&all, "two", 3, false);
	second = all.len - first;
	bytes_add(&in, all.p + first, second);
	assert_int_equal(frame_get(&in, &f), -EBADMSG);
	bytes_fini(&in);
	bytes_add(&in, all.p, first);
	bytes_add(&in, all.p, first);
	assert_data(&in, "one", 3);
	assert_int_equal(frame_get(&in, &f), -EBADMSG);
	bytes_fini(&in);
	bytes_fini(&all);
}

/* However often the buffers were emptied, and given back, meanwhile. */
static void
test_frames_are_counted_over_the_life_of_a_link(void **state)
{
	struct bytes out = { 0 }, in = { 0 };
	uint8_t *p = calloc(1, FRAME_MAX);

	(void)state;
	for (int i = 0; i < 6; i++) {
		size_t n = i % 2 ? 3 : FRAME_MAX - 100;

		put_data(&out, p, n, false);
		bytes_add(&in, out.p + out.start, out.len);
		bytes_drop(&out, out.len);
		assert_data(&in, p, n);
	}
	bytes_fini(&out);
	bytes_fini(&in);
	free(p);
}

static void
test_a_buffer_keeps_its_bytes_in_order(void **state)
{
	struct bytes b = { 0 };
	uint8_t in = 0, out = 0, chunk[300];

	(void)state;
	for (int i = 0; i < 20000; i++) {
		size_t n = random_below(sizeof(chunk));

		for (size_t k = 0; k < n; k++)
			chunk[k] = in++;
		bytes_add(&b, chunk, n);
		n = random_below(b.len + 1);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(b.p[b.start + k], out++);
		bytes_drop(&b, n);
	}
	bytes_fini(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_put_comes_out),
		cmocka_unit_test(test_frames_may_arrive_cut_anywhere),
		cmocka_unit_test(test_a_byte_changed_anywhere_is_noticed),
		cmocka_unit_test(test_text_is_made_smaller_and_noise_is_not),
		cmocka_unit_test(test_too_large_a_message_is_not_put),
		cmocka_unit_test(test_a_length_beyond_the_limit_is_refused),
		cmocka_unit_test(test_what_inflates_beyond_the_limit_is_refused),
		cmocka_unit_test(test_bytes_after_the_deflated_message_are_refused),
		cmocka_unit_test(test_zstd_frames_give_just_what_was_said),
		cmocka_unit_test(test_unknown_flags_are_refused),
		cmocka_unit_test(test_an_idle_buffer_holds_little_memory),
		cmocka_unit_test(test_a_lost_or_repeated_frame_is_noticed),
		cmocka_unit_test(test_frames_are_counted_over_the_life_of_a_link),
		cmocka_unit_test(test_a_buffer_keeps_its_bytes_in_order),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
