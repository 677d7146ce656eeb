/*
 * Chunks: boundaries depend on what stands around them, and hashes on content
 * alone.
 */
#include "config.h"

#include "replication/chunk.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/random.h"

static int
file_of(const void *p, size_t n)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	while (n) {
		ssize_t w = write(fd, p, n);

		assert_true(w > 0);
		p = (const uint8_t *)p + w;
		n -= (size_t)w;
	}
	return fd;
}

static void
chunks_of(const void *p, size_t n, struct chunk_list *out)
{
	int fd = file_of(p, n);

	assert_int_equal(chunk_file(fd, true, out), 0);
	close(fd);
}

static void
test_hash_of_a_file_is_that_of_its_bytes(void **state)
{
	static const size_t sizes[] = { 0, 1, CHUNK_MIN - 1, CHUNK_MIN, CHUNK_MIN + 1, CHUNK_MAX, CHUNK_MAX + 1, 1000000,
		(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5000000 };
	uint8_t *p = malloc(5000000);

	(void)state;
	random_bytes(p, 5000000);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct chunk_list l, bare;
		struct hash memory, list;
		int fd = file_of(p, sizes[i]);

		assert_int_equal(chunk_file(fd, true, &l), 0);
		assert_int_equal(chunk_file(fd, false, &bare), 0);
		chunk_content_hash(p, sizes[i], &memory);
		chunk_list_hash(&l, &list);
		assert_memory_equal(&l.hash, &memory, sizeof(memory));
		assert_memory_equal(&bare.hash, &memory, sizeof(memory));
		assert_memory_equal(&list, &memory, sizeof(memory));
		assert_int_equal(l.size, sizes[i]);
		assert_int_equal(bare.size, sizes[i]);
		assert_null(bare.c);
		assert_int_equal(bare.len, 0);
		chunk_list_fini(&l);
		chunk_list_fini(&bare);
		close(fd);
	}
	free(p);
}

static void
test_chunks_cover_the_file_within_their_limits(void **state)
{
	size_t n = 8 << 20, offset = 0;
	uint8_t *p = malloc(n);
	struct chunk_list l;

	(void)state;
	random_bytes(p, n);
	chunks_of(p, n, &l);
	for (size_t i = 0; i < l.len; i++) {
		struct hash h;

		assert_int_equal(l.c[i].offset, offset);
		assert_true(l.c[i].size <= CHUNK_MAX);
		assert_true(l.c[i].size >= CHUNK_MIN || i == l.len - 1);
		chunk_bytes_hash(p + offset, l.c[i].size, &h);
		assert_memory_equal(&h, &l.c[i].hash, sizeof(h));
		offset += l.c[i].size;
	}
	assert_int_equal(offset, n);
	/* About the average: 8 MiB are some 128 chunks. */
	assert_in_range(l.len, 80, 200);
	chunk_list_fini(&l);
	free(p);
}

static void
test_equal_bytes_are_cut_at_the_largest_size(void **state)
{
	size_t n = 3 * CHUNK_MAX + 5;
	uint8_t *p = calloc(1, n);
	struct chunk_list l;

	(void)state;
	chunks_of(p, n, &l);
	assert_int_equal(l.len, 4);
	assert_int_equal(l.c[2].size, CHUNK_MAX);
	assert_int_equal(l.c[3].size, 5);
	chunk_list_fini(&l);
	free(p);
}

static size_t
count_common(const struct chunk_list *a, const struct chunk_list *b)
{
	size_t n = 0;

	for (size_t i = 0; i < a->len; i++)
		for (size_t j = 0; j < b->len; j++)
			if (memcmp(&a->c[i].hash, &b->c[j].hash, sizeof(struct hash)) == 0) {
				n++;
				break;
			}
	return n;
}

static void
test_an_insertion_changes_the_chunks_around_it_only(void **state)
{
	size_t n = 4 << 20, at = 1 << 20;
	uint8_t *p = malloc(n), *q = malloc(n + 7);
	struct chunk_list a, b;

	(void)state;
	random_bytes(p, n);
	memcpy(q, p, at);
	memcpy(q + at, "INSERT!", 7);
	memcpy(q + at + 7, p + at, n - at);
	chunks_of(p, n, &a);
	chunks_of(q, n + 7, &b);
	assert_true(count_common(&a, &b) + 6 >= a.len);
	chunk_list_fini(&a);
	chunk_list_fini(&b);
	free(p);
	free(q);
}

static void
test_a_cut_needs_enough_bytes_or_the_end(void **state)
{
	uint8_t *p = calloc(1, CHUNK_MAX);

	(void)state;
	assert_int_equal(chunk_cut(p, CHUNK_MIN, false), 0);
	assert_int_equal(chunk_cut(p, CHUNK_MIN, true), CHUNK_MIN);
	assert_int_equal(chunk_cut(p, CHUNK_MAX - 1, false), 0);
	assert_int_equal(chunk_cut(p, CHUNK_MAX, false), CHUNK_MAX);
	assert_int_equal(chunk_cut(p, 10, true), 10);
	free(p);
}

static void
test_kinds_have_hashes_of_their_own(void **state)
{
	struct hash file, link, empty;
	struct chunk_list none = { 0 };

	(void)state;
	chunk_content_hash("", 0, &file);
	chunk_link_hash("", 0, &link);
	chunk_list_hash(&none, &empty);
	assert_memory_not_equal(&file, &link, sizeof(file));
	assert_memory_equal(&file, &empty, sizeof(file));
}

static void
hex_is(const struct hash *h, const char *hex)
{
	char text[65];

	for (size_t i = 0; i < sizeof(h->b); i++)
		snprintf(text + 2 * i, 3, "%02x", h->b[i]);
	assert_string_equal(text, hex);
}

/* They stand in stores and on the wire: an upgrade must find them unchanged. */
static void
test_hashes_are_the_same_for_ever(void **state)
{
	size_t n = 1 << 20;
	uint8_t *p = malloc(n);
	struct hash h;

	(void)state;
	chunk_link_hash("target", 6, &h);
	hex_is(&h, "4af434afad3af1eae6b2f54b9dab80754b6b68cb1affa00467038886b9f63ef6");
	chunk_content_hash("hello\n", 6, &h);
	hex_is(&h, "5f71e757691cd4f3e77cb8d41cf6b49c70d433f747a38c801c7d9bcd2bb6b3cb");
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)((i * i + i / 251) >> 3);
	chunk_content_hash(p, n, &h);
	hex_is(&h, "8838f7b92084cc64956924f5d6cb97714b6f10fe1476f4194831f8d22ab40fa0");
	free(p);
}

static void
test_what_cannot_be_read_is_an_error(void **state)
{
	struct chunk_list l;
	int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_int_equal(chunk_file(fd, true, &l), -EISDIR);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash_of_a_file_is_that_of_its_bytes),
		cmocka_unit_test(test_chunks_cover_the_file_within_their_limits),
		cmocka_unit_test(test_equal_bytes_are_cut_at_the_largest_size),
		cmocka_unit_test(test_an_insertion_changes_the_chunks_around_it_only),
		cmocka_unit_test(test_a_cut_needs_enough_bytes_or_the_end),
		cmocka_unit_test(test_kinds_have_hashes_of_their_own),
		cmocka_unit_test(test_hashes_are_the_same_for_ever),
		cmocka_unit_test(test_what_cannot_be_read_is_an_error),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
