/*
 * Where workers run: threads that are told of requests as workers are, and looked at
 * through the scheduler's own eyes.
 */
#include "config.h"

#include "fs/affinity.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <linux/fuse.h>

enum {
	ROW = 8,		/* requests of one program, until it is worth going there */
	AGAIN = 64,		/* requests, after which it is looked for again */
	AWAY_MS = 100,
	MUCH = 128 * 1024,
};

static struct affinity_home home;
static cpu_set_t all;
static int first, last;		/* processors that we may use */

/* ---- what fails when we say so ----------------------------------------- */

static int refused_policy = -1;

int	 __real_sched_setscheduler(pid_t, int, const struct sched_param *);
int	 __wrap_sched_setscheduler(pid_t, int, const struct sched_param *);

int
__wrap_sched_setscheduler(pid_t tid, int policy, const struct sched_param *p)
{
	if (policy == refused_policy) {
		errno = EPERM;
		return -1;
	}
	return __real_sched_setscheduler(tid, policy, p);
}

/* ---- requests ---------------------------------------------------------- */

static void
serve(struct affinity *a, pid_t program, uint32_t opcode, unsigned times)
{
	const struct fuse_in_header in = { .opcode = opcode, .pid = (uint32_t)program };

	for (unsigned i = 0; i < times; i++)
		affinity_serves(a, &in, sizeof in);
}

static void
serve_read(struct affinity *a, uint32_t size, unsigned times)
{
	struct {
		struct fuse_in_header in;
		struct fuse_read_in read;
	} request = { .in = { .opcode = FUSE_READ, .pid = (uint32_t)getpid() }, .read = { .size = size } };

	for (unsigned i = 0; i < times; i++)
		affinity_serves(a, &request, sizeof request);
}

static void
serve_write(struct affinity *a, size_t size, unsigned times)
{
	static union {
		struct fuse_in_header in;
		char room[MUCH];
	} request = { .in = { .opcode = FUSE_WRITE } };

	request.in.pid = (uint32_t)getpid();
	for (unsigned i = 0; i < times; i++)
		affinity_serves(a, &request, size);
}

/* ---- what there is to see ---------------------------------------------- */

static bool
runs_only_on(int cpu)
{
	cpu_set_t now;

	return sched_getaffinity(0, sizeof now, &now) == 0 && CPU_COUNT(&now) == 1 && CPU_ISSET(cpu, &now);
}

static bool
is_at_home(void)
{
	cpu_set_t now;

	return sched_getscheduler(0) == SCHED_OTHER && sched_getaffinity(0, sizeof now, &now) == 0 &&
	    CPU_EQUAL(&now, &all);
}

static bool
is_near(const struct affinity *a, int cpu)
{
	return atomic_load(&a->near) && sched_getscheduler(0) == SCHED_IDLE && runs_only_on(cpu);
}

static void
be_on(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(getpid(), sizeof one, &one), 0);
}

static void
pause_ms(int ms)
{
	const struct timespec t = { .tv_nsec = ms * 1000000L };

	nanosleep(&t, NULL);
}

/* ---- each test in a worker of its own; the first thread is the program --- */

struct job {
	void (*test)(struct affinity *a);
	atomic_bool done;
	struct affinity a;
};

static void *
work(void *arg)
{
	struct job *j = arg;

	affinity_init(&j->a, &home);
	j->test(&j->a);
	affinity_end(&j->a, false);
	affinity_fini(&j->a);
	atomic_store(&j->done, true);
	return NULL;
}

static void
in_a_worker(void (*test)(struct affinity *))
{
	struct job j = { .test = test };
	pthread_t thread;

	be_on(first);
	pause_ms(1);		/* it has run there */
	assert_int_equal(pthread_create(&thread, NULL, work, &j), 0);
	while (!atomic_load(&j.done))
		pause_ms(1);
	pthread_join(thread, NULL);
	assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

/* ---- the tests --------------------------------------------------------- */

static void
a_row(struct affinity *a)
{
	serve(a, getpid(), FUSE_GETATTR, ROW);
	assert_true(is_at_home());
	serve(a, getpid(), FUSE_LOOKUP, 1);
	assert_true(is_near(a, first));
	assert_true(affinity_is_near(a));
	affinity_end(a, false);
	assert_true(is_at_home());
	assert_false(affinity_is_near(a));
}

static void
test_a_row_of_requests_brings_it_to_their_program(void **state)
{
	(void)state;
	in_a_worker(a_row);
}

static void
two_programs(struct affinity *a)
{
	for (int i = 0; i < 100; i++) {
		serve(a, getpid(), FUSE_GETATTR, ROW / 2);
		serve(a, getppid(), FUSE_GETATTR, ROW / 2);
	}
	assert_true(is_at_home());
	serve(a, getpid(), FUSE_GETATTR, ROW + 1);
	assert_true(is_near(a, first));
	serve(a, getppid(), FUSE_GETATTR, 1);
	assert_true(is_at_home());
}

static void
test_programs_in_turns_do_not_and_another_one_ends_it(void **state)
{
	(void)state;
	in_a_worker(two_programs);
}

static void
bulk(struct affinity *a)
{
	serve_read(a, MUCH, 10 * ROW);
	serve_write(a, MUCH, 10 * ROW);
	assert_true(is_at_home());
	serve_read(a, 4096, ROW + 1);
	assert_true(is_near(a, first));
	serve_read(a, MUCH, 1);
	assert_true(is_at_home());
	serve_write(a, 4096, ROW + 1);
	assert_true(is_near(a, first));
	serve_write(a, MUCH, 1);
	assert_true(is_at_home());
}

static void
test_large_reads_and_writes_do_not_and_end_it(void **state)
{
	(void)state;
	in_a_worker(bulk);
}

static void
unasked(struct affinity *a)
{
	serve(a, getpid(), FUSE_GETATTR, ROW);
	serve(a, 0, FUSE_RELEASE, 100);
	assert_true(is_at_home());
	serve(a, getpid(), FUSE_GETATTR, 1);
	serve(a, 0, FUSE_RELEASE, 1);
	assert_true(is_near(a, first));
}

static void
test_what_nobody_waits_for_changes_nothing(void **state)
{
	(void)state;
	in_a_worker(unasked);
}

static void
moves(struct affinity *a)
{
	serve(a, getpid(), FUSE_GETATTR, ROW + 1);
	assert_true(is_near(a, first));
	be_on(last);
	for (int i = 0; i < 1000 && !is_near(a, last); i++) {
		pause_ms(1);
		serve(a, getpid(), FUSE_GETATTR, AGAIN);
	}
	assert_true(is_near(a, last));
}

static void
test_it_follows(void **state)
{
	(void)state;
	if (first == last)
		skip();
	in_a_worker(moves);
}

static void
late(struct affinity *a)
{
	int seen = 0;

	serve(a, getpid(), FUSE_GETATTR, ROW + 1);
	affinity_end(a, true);
	serve(a, getpid(), FUSE_GETATTR, AGAIN);
	assert_true(is_at_home());
	for (int i = 0; i < 50 && seen == 0; i++) {
		pause_ms(AWAY_MS / 10);
		serve(a, getpid(), FUSE_GETATTR, AGAIN);
		seen += is_near(a, first);
	}
	assert_int_equal(seen, 1);
}

static void
test_one_that_came_late_stays_away_for_a_while(void **state)
{
	(void)state;
	in_a_worker(late);
}

static void
nothing(struct affinity *a)
{
	(void)a;
	assert_true(is_at_home());
}

static void
makes_another(struct affinity *a)
{
	struct job j = { .test = nothing };
	pthread_t thread;

	serve(a, getpid(), FUSE_GETATTR, ROW + 1);
	assert_true(is_near(a, first));
	assert_int_equal(pthread_create(&thread, NULL, work, &j), 0);
	pthread_join(thread, NULL);
}

static void
test_a_thread_that_it_makes_is_at_home(void **state)
{
	(void)state;
	in_a_worker(makes_another);
}

static void
strange_name(struct affinity *a)
{
	serve(a, getpid(), FUSE_GETATTR, ROW + 1);
	assert_true(is_near(a, first));
}

static void
test_the_name_of_a_program_may_be_anything(void **state)
{
	(void)state;
	prctl(PR_SET_NAME, ") R 1 (\n7 ");
	in_a_worker(strange_name);
	prctl(PR_SET_NAME, "test_affinity");
}

static void
no_program(struct affinity *a)
{
	serve(a, INT32_MAX, FUSE_GETATTR, ROW * AGAIN);
	assert_true(is_at_home());
}

static void
test_a_program_that_has_gone_is_not_found(void **state)
{
	(void)state;
	in_a_worker(no_program);
}

static void
elsewhere(struct affinity *a)
{
	assert_false(CPU_ISSET(first, &a->home->cpus));
	serve(a, getpid(), FUSE_GETATTR, ROW * AGAIN);
	assert_false(affinity_is_near(a));
}

/* As a daemon that is held to some processors by its administrator. */
static void
test_it_stays_where_the_daemon_may_be(void **state)
{
	const struct affinity_home before = home;

	(void)state;
	if (first == last)
		skip();
	CPU_CLR(first, &home.cpus);
	in_a_worker(elsewhere);
	home = before;
}

static void
asks(struct affinity *a)
{
	serve(a, getpid(), FUSE_GETATTR, ROW * AGAIN);
	assert_false(affinity_is_near(a));
	assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
}

/* Who may not come back never goes: ordinary users, as a rule. */
static void
test_who_may_not_come_back_never_goes(void **state)
{
	static const int policies[] = { SCHED_OTHER, SCHED_IDLE };
	const struct affinity_home before = home;

	(void)state;
	for (int i = 0; i < 2; i++) {
		refused_policy = policies[i];
		affinity_home_init(&home);
		assert_false(home.works);
		in_a_worker(asks);
	}
	refused_policy = -1;
	home = before;
}

static void
test_a_daemon_with_a_policy_of_its_own_keeps_it(void **state)
{
	const struct sched_param p = { 0 };
	struct affinity_home h;

	(void)state;
	assert_int_equal(sched_setscheduler(0, SCHED_BATCH, &p), 0);
	affinity_home_init(&h);
	assert_false(h.works);
	assert_int_equal(sched_setscheduler(0, SCHED_OTHER, &p), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_row_of_requests_brings_it_to_their_program),
		cmocka_unit_test(test_programs_in_turns_do_not_and_another_one_ends_it),
		cmocka_unit_test(test_large_reads_and_writes_do_not_and_end_it),
		cmocka_unit_test(test_what_nobody_waits_for_changes_nothing),
		cmocka_unit_test(test_it_follows),
		cmocka_unit_test(test_one_that_came_late_stays_away_for_a_while),
		cmocka_unit_test(test_a_thread_that_it_makes_is_at_home),
		cmocka_unit_test(test_the_name_of_a_program_may_be_anything),
		cmocka_unit_test(test_a_program_that_has_gone_is_not_found),
		cmocka_unit_test(test_it_stays_where_the_daemon_may_be),
		cmocka_unit_test(test_who_may_not_come_back_never_goes),
		cmocka_unit_test(test_a_daemon_with_a_policy_of_its_own_keeps_it),
	};

	affinity_home_init(&home);
	if (!home.works || sched_getaffinity(0, sizeof all, &all) < 0) {
		printf("1..0 # SKIP only root may set policies, and what uses the default one\n");
		return 0;
	}
	for (first = 0; !CPU_ISSET(first, &all); first++)
		continue;
	for (last = CPU_SETSIZE - 1; !CPU_ISSET(last, &all); last--)
		continue;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
