/*
 * Chunks of a file that changed, groups of chunks, lists on disk.
 */
#include "config.h"

#include "replication/outline.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "replication/lists.h"
#include "tests/lib/random.h"

#define SIZE ((size_t)6 << 20)

static int
file_of(const void *p, size_t n)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), n);
	return fd;
}

static void
same_list(const struct chunk_list *a, const struct chunk_list *b)
{
	assert_int_equal(a->len, b->len);
	assert_int_equal(a->size, b->size);
	assert_memory_equal(&a->hash, &b->hash, sizeof(a->hash));
	for (size_t i = 0; i < a->len; i++) {
		assert_int_equal(a->c[i].offset, b->c[i].offset);
		assert_int_equal(a->c[i].size, b->c[i].size);
		assert_memory_equal(&a->c[i].hash, &b->c[i].hash, sizeof(a->c[i].hash));
		assert_memory_equal(&a->c[i].print, &b->c[i].print, sizeof(a->c[i].print));
	}
}

/* Whatever was changed, a look that skips what is the same sees the same. */
static void
test_a_second_look_finds_what_a_first_one_would(void **state)
{
	uint8_t *p = malloc(SIZE + 1000);

	(void)state;
	for (int round = 0; round < 40; round++) {
		size_t n = SIZE, at = random_below(SIZE - 1000), len = 1 + random_below(999);
		struct chunk_list before, again, afresh;
		int fd;

		random_bytes(p, SIZE + 1000);
		fd = file_of(p, n);
		assert_int_equal(chunk_file(fd, true, &before), 0);
		close(fd);
		switch (round % 6) {
		case 0:
			random_bytes(p + at, len);
			break;
		case 1:
			memmove(p + at + len, p + at, n - at);
			n += len;
			break;
		case 2:
			n += len;
			break;
		case 3:
			n -= len;
			break;
		case 4:
			memset(p, 0, at);
			break;
		case 5:
			random_bytes(p + at, 1);
			random_bytes(p + n - 1, 1);
			break;
		}
		fd = file_of(p, n);
		assert_int_equal(chunk_file_again(fd, &before, &again), 0);
		assert_int_equal(chunk_file(fd, true, &afresh), 0);
		same_list(&again, &afresh);
		close(fd);
		chunk_list_fini(&before);
		chunk_list_fini(&again);
		chunk_list_fini(&afresh);
	}
	free(p);
}

/* A list as if of a file of n chunks. */
static void
random_list(size_t n, struct chunk_list *l)
{
	*l = (struct chunk_list){ .c = calloc(n, sizeof(*l->c)), .len = n };
	for (size_t i = 0; i < n; i++) {
		l->c[i].offset = l->size;
		l->c[i].size = CHUNK_MIN + (uint32_t)random_below(CHUNK_MAX - CHUNK_MIN);
		random_bytes(&l->c[i].hash, sizeof(l->c[i].hash));
		random_bytes(&l->c[i].print, sizeof(l->c[i].print));
		l->size += l->c[i].size;
	}
	chunk_list_hash(l, &l->hash);
}

static void
test_groups_cover_the_list_within_their_limits(void **state)
{
	struct chunk_list l;
	struct outline o;
	uint32_t at = 0;

	(void)state;
	random_list(16384, &l);
	outline_of(&l, &o);
	for (size_t i = 0; i < o.len; i++) {
		struct hash h;

		assert_int_equal(o.g[i].first, at);
		assert_in_range(o.g[i].len, 1, GROUP_MAX);
		outline_group_hash(&l.c[at], o.g[i].len, &h);
		assert_memory_equal(&h, &o.g[i].hash, sizeof(h));
		at += o.g[i].len;
	}
	assert_int_equal(at, l.len);
	assert_in_range(o.len, 16384 / 128, 16384 / 32);
	outline_fini(&o);
	chunk_list_fini(&l);
}

/* But where groups end because they are full: there what follows moves, too. */
static void
test_one_changed_chunk_changes_two_groups_at_most(void **state)
{
	struct chunk_list l;
	struct outline a, b;

	(void)state;
	for (int round = 0; round < 50; round++) {
		size_t same = 0, full = 0;

		random_list(2000, &l);
		outline_of(&l, &a);
		random_bytes(&l.c[random_below(2000)].hash, sizeof(struct hash));
		outline_of(&l, &b);
		for (size_t i = 0; i < b.len; i++) {
			full += b.g[i].len == GROUP_MAX;
			for (size_t k = 0; k < a.len; k++)
				same += memcmp(&a.g[k].hash, &b.g[i].hash, sizeof(struct hash)) == 0;
		}
		assert_true(same + full + 2 >= b.len);
		outline_fini(&a);
		outline_fini(&b);
		chunk_list_fini(&l);
	}
}

static void
test_equal_chunks_make_groups_of_the_largest_size(void **state)
{
	struct chunk_list l = { .c = calloc(1000, sizeof(*l.c)), .len = 1000 };
	struct outline o;

	(void)state;
	for (size_t i = 0; i < l.len; i++) {
		l.c[i].size = CHUNK_MAX;
		l.c[i].hash.b[31] = 1;
	}
	outline_of(&l, &o);
	assert_int_equal(o.len, 4);
	assert_int_equal(o.g[0].len, GROUP_MAX);
	outline_fini(&o);
	chunk_list_fini(&l);
	outline_of(&l, &o);
	assert_int_equal(o.len, 0);
	outline_fini(&o);
}

/* What one side tells the other takes; anything else it does not. */
static void
test_what_a_peer_tells_is_taken_if_it_can_be_true(void **state)
{
	uint8_t hashes[64 * sizeof(struct hash)];
	uint32_t lens[64], sizes[GROUP_MAX];
	struct chunk back[GROUP_MAX];
	struct outline o, got;
	struct chunk_list l;

	(void)state;
	random_list(900, &l);
	outline_of(&l, &o);
	assert_in_range(o.len, 2, 64);
	for (size_t i = 0; i < o.len; i++) {
		memcpy(hashes + i * sizeof(struct hash), &o.g[i].hash, sizeof(struct hash));
		lens[i] = o.g[i].len;
	}
	assert_int_equal(outline_take(hashes, lens, o.len, l.size, &got), 0);
	assert_int_equal(got.len, o.len);
	assert_memory_equal(got.g, o.g, o.len * sizeof(*o.g));
	for (size_t i = 0; i < got.len; i++) {
		const struct chunk *c = &l.c[got.g[i].first];

		for (uint32_t k = 0; k < got.g[i].len; k++) {
			uint8_t *h = hashes + (k % 64) * sizeof(struct hash);

			sizes[k] = c[k].size;
			if (got.g[i].len <= 64)
				memcpy(h, &c[k].hash, sizeof(struct hash));
		}
		if (got.g[i].len > 64)
			continue;
		assert_int_equal(outline_take_group(&got.g[i], hashes, sizes, got.g[i].len, back), 0);
		assert_int_equal(outline_take_group(&got.g[i], hashes, sizes, got.g[i].len - 1, back), -EBADMSG);
		hashes[random_below(got.g[i].len) * sizeof(struct hash)] ^= 1;
		assert_int_equal(outline_take_group(&got.g[i], hashes, sizes, got.g[i].len, back), -EBADMSG);
		sizes[0] = CHUNK_MAX + 1;
		assert_int_equal(outline_take_group(&got.g[i], hashes, sizes, got.g[i].len, back), -EBADMSG);
	}
	outline_fini(&got);

	/* Fewer bytes than its chunks have, more, or none at all. */
	assert_int_equal(outline_take(hashes, lens, o.len, 100 * CHUNK_MIN, &got), -EBADMSG);
	assert_int_equal(outline_take(hashes, lens, o.len, UINT64_MAX, &got), -EBADMSG);
	assert_int_equal(outline_take(hashes, lens, 0, 0, &got), -EBADMSG);
	lens[1] = 0;
	assert_int_equal(outline_take(hashes, lens, o.len, l.size, &got), -EBADMSG);
	lens[1] = UINT32_MAX;
	assert_int_equal(outline_take(hashes, lens, o.len, l.size, &got), -EBADMSG);
	outline_fini(&o);
	chunk_list_fini(&l);
}

static int
temp_dir(char *path)
{
	int fd;

	strcpy(path, "/tmp/sibfs-test.XXXXXX");
	assert_non_null(mkdtemp(path));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void
test_lists_come_back_from_disk_or_not_at_all(void **state)
{
	char path[64], name[LISTS_NAME_MAX];
	int dirfd = temp_dir(path), fd;
	struct chunk_list l, back;
	struct stat st;
	struct hash h;

	(void)state;
	random_list(300, &l);
	lists_name(&l.hash, name);
	assert_int_equal(lists_hash(name, &h), 0);
	assert_memory_equal(&h, &l.hash, sizeof(h));
	assert_int_equal(lists_hash("abc", &h), -EINVAL);
	assert_int_equal(lists_load(dirfd, &l.hash, &back), -ENOENT);
	lists_save(dirfd, &l);
	assert_int_equal(lists_load(dirfd, &l.hash, &back), 0);
	same_list(&l, &back);
	chunk_list_fini(&back);

	/* Each byte of it counts. */
	assert_int_equal(fstatat(dirfd, name, &st, 0), 0);
	for (int round = 0; round < 30; round++) {
		off_t at = round == 0 ? st.st_size - 1 : (off_t)random_below((uint64_t)st.st_size);
		uint8_t byte;

		lists_save(dirfd, &l);
		fd = openat(dirfd, name, O_RDWR | O_CLOEXEC);
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 4;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		if (round % 3 == 2)
			assert_int_equal(ftruncate(fd, at), 0);
		close(fd);
		assert_int_equal(lists_load(dirfd, &l.hash, &back), -EIO);
		assert_int_equal(lists_load(dirfd, &l.hash, &back), -ENOENT);
	}

	/* Under another name it is another content's. */
	lists_save(dirfd, &l);
	h = l.hash;
	h.b[0] ^= 1;
	{
		char other[LISTS_NAME_MAX];

		lists_name(&h, other);
		assert_int_equal(renameat(dirfd, name, dirfd, other), 0);
	}
	assert_int_equal(lists_load(dirfd, &h, &back), -EIO);
	chunk_list_fini(&l);
	close(dirfd);
	assert_int_equal(rmdir(path), 0);
}

static void
test_a_missing_list_is_made_from_the_content(void **state)
{
	char path[64], name[LISTS_NAME_MAX];
	int dirfd = temp_dir(path), fd;
	struct chunk_list l, back;
	uint8_t *p = malloc(SIZE);
	struct hash h;

	(void)state;
	random_bytes(p, SIZE);
	fd = file_of(p, SIZE);
	assert_int_equal(chunk_file(fd, true, &l), 0);
	assert_int_equal(lists_of(dirfd, &l.hash, fd, &back), 0);
	same_list(&l, &back);
	chunk_list_fini(&back);
	assert_int_equal(lists_load(dirfd, &l.hash, &back), 0);
	chunk_list_fini(&back);
	h = l.hash;
	h.b[5] ^= 1;
	assert_int_equal(lists_of(dirfd, &h, fd, &back), -EBADMSG);
	lists_name(&l.hash, name);
	assert_int_equal(unlinkat(dirfd, name, 0), 0);
	assert_int_equal(rmdir(path), 0);
	chunk_list_fini(&l);
	close(dirfd);
	close(fd);
	free(p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_second_look_finds_what_a_first_one_would),
		cmocka_unit_test(test_groups_cover_the_list_within_their_limits),
		cmocka_unit_test(test_one_changed_chunk_changes_two_groups_at_most),
		cmocka_unit_test(test_equal_chunks_make_groups_of_the_largest_size),
		cmocka_unit_test(test_what_a_peer_tells_is_taken_if_it_can_be_true),
		cmocka_unit_test(test_lists_come_back_from_disk_or_not_at_all),
		cmocka_unit_test(test_a_missing_list_is_made_from_the_content),
	};

	random_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
