/*
 * A link and its socket: what is to be sent goes out, whatever the socket takes
 * at a time.
 */
#include "config.h"


#include "replication/link_impl.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "replication/replica_impl.h"

#define BIG (8 << 20)

struct pair {
	char top[64];
	struct replica *r[2];
	int fd[2];			/* the socket of each, which is theirs */
};

/* BIG bytes that do not shrink. */
static void
write_big(const char *path)
{
	uint8_t *p = mem_alloc(BIG);
	uint64_t x = 1;
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);

	for (size_t i = 0; i < BIG; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		p[i] = (uint8_t)(x >> 56);
	}
	assert_int_equal(write(fd, p, BIG), BIG);
	close(fd);
	free(p);
}

static int
setup(void **state)
{
	static const char *const nodes[] = { "laptop", "server" };
	struct pair *p = mem_alloc(sizeof(*p));
	char path[100], why[200];

	snprintf(p->top, sizeof(p->top), "/tmp/sibfs-link.XXXXXX");
	assert_non_null(mkdtemp(p->top));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p->fd), 0);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", p->top, nodes[i]);
		if (i == 0) {
			assert_int_equal(mkdir(path, 0755), 0);
			strcat(path, "/big");
			write_big(path);
			*strrchr(path, '/') = '\0';
		}
		assert_int_equal(replica_init(path, nodes[i], "test", NULL, NULL, why, sizeof(why)), 0);
		assert_int_equal(replica_open(path, &p->r[i], why, sizeof(why)), 0);
		replica_attach(p->r[i], NULL, NULL);
		replica_serve(p->r[i], p->fd[i], NULL, false, NULL, NULL);
	}
	*state = p;
	return 0;
}

static int
teardown(void **state)
{
	struct pair *p = *state;
	char rm[100];

	for (int i = 0; i < 2; i++) {
		replica_detach(p->r[i]);
		replica_close(p->r[i]);
	}
	snprintf(rm, sizeof(rm), "rm -rf %s", p->top);
	assert_int_equal(system(rm), 0);
	free(p);
	return 0;
}

/* What waits for r in the socket, not read yet. */
static size_t
unread(const struct pair *p, int r)
{
	int n;

	assert_int_equal(ioctl(p->fd[r], FIONREAD, &n), 0);
	return (size_t)n;
}

enum { ID = 1000 };

static void
want(struct link *l, const struct hash *h)
{
	Sibfs__Wire__Want want = SIBFS__WIRE__WANT__INIT;

	want.id = ID;
	want.hash = (ProtobufCBinaryData){ sizeof(h->b), (uint8_t *)(uintptr_t)h->b };
	want.by = SIBFS__WIRE__WANT__BY__RANGES;
	assert_int_equal(link_get_want(l, &want), 0);
}

static void
ask_for(struct link *l, uint64_t *offsets, uint32_t *sizes, size_t n)
{
	Sibfs__Wire__Fetch fetch = SIBFS__WIRE__FETCH__INIT;

	fetch.id = ID;
	fetch.offsets = offsets;
	fetch.sizes = sizes;
	fetch.n_offsets = fetch.n_sizes = n;
	assert_int_equal(link_get_fetch(l, &fetch), 0);
}

static void
ask_for_all(struct link *l)
{
	uint64_t offsets[BIG >> 20];
	uint32_t sizes[BIG >> 20];

	for (size_t i = 0; i < BIG >> 20; i++) {
		offsets[i] = i << 20;
		sizes[i] = 1 << 20;
	}
	ask_for(l, offsets, sizes, BIG >> 20);
}

/* The link of the first one, which has greeted, and the hash of what it has. */
static struct link *
greeted(struct pair *p, struct hash *big)
{
	struct chunk_list list;
	char path[100];
	int fd;

	snprintf(path, sizeof(path), "%s/laptop/big", p->top);
	fd = open(path, O_RDONLY);
	assert_int_equal(chunk_file(fd, false, &list), 0);
	close(fd);
	*big = list.hash;
	for (int turns = 0; turns < 10; turns++)
		for (int i = 0; i < 2; i++)
			replica_turn(p->r[i], 0);
	assert_non_null(p->r[0]->links);
	assert_true(link_is_up(p->r[0]->links));
	return p->r[0]->links;
}

/*
 * A socket that takes all that is queued at a time is never said to have room
 * again: so what did not fit into the queue needs no such word.
 */
static void
test_a_socket_that_takes_all_at_once(void **state)
{
	struct pair *p = *state;
	int room = 4 * BIG;
	struct link *l;
	struct hash big;

	if (setsockopt(p->fd[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
		skip();		/* only root may */
	l = greeted(p, &big);
	want(l, &big);
	ask_for_all(l);
	link_pump(l);
	assert_true(unread(p, 1) < BIG);
	for (int turns = 0; turns < 20; turns++)
		replica_turn(p->r[0], 0);
	assert_true(unread(p, 1) > BIG);
}

/* A few bytes do not get smaller, whatever the others of that content would. */
static void
test_a_small_block_does_not_say_that_a_content_does_not_shrink(void **state)
{
	struct hash big;
	struct link *l = greeted(*state, &big);
	uint64_t offset = 0;
	uint32_t size = 100;

	l->out_high = 4 * BIG;		/* whatever else is asked for */
	want(l, &big);
	ask_for(l, &offset, &size, 1);
	link_pump(l);
	assert_int_equal(link_serving(l, ID)->ranges_len, 0);
	assert_int_equal(link_serving(l, ID)->untried, 0);
	size = 1 << 16;
	ask_for(l, &offset, &size, 1);
	link_pump(l);
	assert_int_not_equal(link_serving(l, ID)->untried, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_small_block_does_not_say_that_a_content_does_not_shrink, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(test_a_socket_that_takes_all_at_once, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
