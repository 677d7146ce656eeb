/*
 * Parent and child share a page of verdict, and a text to which the child
 * writes each step before it does it.
 */
#include "config.h"

#include "tests/sim/trial.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "replication/mem.h"
#include "tests/sim/choose.h"
#include "tests/sim/laws.h"

#define TEXT_MAX (1u << 20)
#define SHRINK_SECONDS 60
#define ONE_MAX 120		/* seconds that a replay may take */

struct shared {
	struct verdict v;
	size_t len;
	char text[TEXT_MAX];
};

static struct shared *
shared(void)
{
	static struct shared *m;

	if (!m) {
		m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (m == MAP_FAILED)
			abort();
	}
	return m;
}

static void
write_down(const struct history *h, const struct step *t)
{
	struct shared *m = shared();
	char *line = NULL;
	size_t n;
	FILE *f = open_memstream(&line, &n);

	if (t)
		step_print(f, t);
	else
		history_print(f, h);
	fclose(f);
	if (m->len + n < TEXT_MAX) {
		memcpy(m->text + m->len, line, n);
		m->len += n;
	}
	free(line);
}

/* True: a law was broken, and it is written down. */
static bool
judge(struct world *w)
{
	struct verdict *v = &shared()->v;

	if (!*w->failed)
		return false;
	v->failed = true;
	memcpy(v->why, w->failed, sizeof(v->why));
	return true;
}

static void
end_of_history(struct world *w)
{
	if (!*w->failed)
		world_settle(w);
	if (!*w->failed)
		laws_check_end(w);
}

static bool
run_seed(uint64_t seed, bool record)
{
	struct verdict *v = &shared()->v;
	struct chooser c;
	struct history h;
	struct world *w;
	bool bad;

	v->seed = seed;
	choose_begin(&c, &h, seed);
	w = world_new(&h, true);
	if (record)
		write_down(&h, NULL);
	for (unsigned i = 0; i < c.steps && !*w->failed; i++) {
		struct step t = choose_step(&c, w);

		if (record)
			write_down(NULL, &t);
		world_step(w, &t);
		step_fini(&t);
		v->steps++;
	}
	end_of_history(w);
	bad = judge(w);
	v->histories++;
	world_free(w);
	return bad;
}

static bool
run_history(const struct history *h)
{
	struct world *w = world_new(h, true);
	bool bad;

	w->careful = true;
	for (size_t i = 0; i < h->len && !*w->failed; i++)
		world_step(w, &h->step[i]);
	end_of_history(w);
	bad = judge(w);
	world_free(w);
	return bad;
}

/* ---- in a process of its own ---- */

static pid_t
begin(void)
{
	pid_t pid;

	shared()->v = (struct verdict){ 0 };
	shared()->len = 0;
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		abort();
	return pid;
}

static void
end(pid_t pid, struct verdict *out)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		abort();
	*out = shared()->v;
	if (out->failed || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
		return;
	out->failed = true;
	if (WIFSIGNALED(status))
		snprintf(out->why, sizeof(out->why), "crash: signal %d", WTERMSIG(status));
	else
		snprintf(out->why, sizeof(out->why), "crash: exit status %d", WEXITSTATUS(status));
}

/* What asserts and sanitizers say is told once, when the history is short. */
static void
child(bool loud)
{
	if (!loud && !freopen("/dev/null", "w", stderr))
		abort();
	alarm(loud ? 0 : ONE_MAX);
}

void
trial_seeds(uint64_t first, uint64_t n, unsigned seconds, struct verdict *out)
{
	time_t stop = time(NULL) + seconds;
	pid_t pid = begin();

	if (pid == 0) {
		child(true);
		for (uint64_t i = 0; n ? i < n : time(NULL) < stop; i++)
			if (run_seed(first + i, false))
				break;
		_exit(0);
	}
	end(pid, out);
}

void
trial_record(uint64_t seed, struct history *out, struct verdict *v)
{
	pid_t pid = begin();
	char why[1100];
	FILE *f;

	if (pid == 0) {
		child(false);
		run_seed(seed, true);
		_exit(0);
	}
	end(pid, v);
	f = fmemopen(shared()->text, shared()->len, "r");
	if (!f || !history_read(f, out, why, sizeof(why)))
		abort();
	fclose(f);
	out->seed = seed;
}

void
trial_replay(const struct history *h, struct verdict *out)
{
	pid_t pid = begin();

	if (pid == 0) {
		child(false);
		run_history(h);
		_exit(0);
	}
	end(pid, out);
}

/* ---- shrinking ---- */

static bool
same_law(const struct verdict *a, const struct verdict *b)
{
	size_t n = strcspn(a->why, ":");

	return b->failed && strncmp(a->why, b->why, n + 1) == 0;
}

/* h without the n steps at `at`. */
static struct history
without(const struct history *h, size_t at, size_t n)
{
	struct history out = { .seed = h->seed, .nodes = h->nodes, .shape = h->shape };

	for (size_t i = 0; i < h->len; i++)
		if (i < at || i >= at + n)
			history_add(&out, step_copy(&h->step[i]));
	return out;
}

/* h is replaced by less if that breaks the same law. */
static bool
try_less(struct history *h, struct history less, struct verdict *v)
{
	struct verdict got;

	trial_replay(&less, &got);
	if (!same_law(v, &got)) {
		history_fini(&less);
		return false;
	}
	history_fini(h);
	*h = less;
	*v = got;
	return true;
}

/* A run of messages in fewer of them. */
static bool
shorten_runs(struct history *h, struct verdict *v)
{
	bool any = false;

	for (size_t i = 0; i < h->len; i++)
		while (h->step[i].kind == STEP_RUN && h->step[i].n > 1) {
			struct history less = without(h, 0, 0);

			less.step[i].n /= 2;
			if (!try_less(h, less, v))
				break;
			any = true;
		}
	return any;
}

/* Fewer replicas, as long as no step names the last one. */
static bool
drop_last_node(struct history *h, struct verdict *v)
{
	struct history less;

	if (h->nodes <= 2)
		return false;
	for (size_t i = 0; i < h->len; i++)
		if (h->step[i].who == h->nodes - 1 || h->step[i].other == h->nodes - 1)
			return false;
	less = without(h, 0, 0);
	less.nodes--;
	return try_less(h, less, v);
}

void
trial_shrink(struct history *h, struct verdict *v)
{
	time_t stop = time(NULL) + SHRINK_SECONDS;
	struct verdict careful;
	bool any = true;

	trial_replay(h, &careful);
	if (!careful.failed)
		return;
	*v = careful;
	while (any && time(NULL) < stop) {
		any = false;
		for (size_t n = h->len / 2; n > 0 && time(NULL) < stop; n /= 2)
			for (size_t at = 0; at < h->len && time(NULL) < stop;) {
				size_t cut = at + n > h->len ? h->len - at : n;

				if (try_less(h, without(h, at, cut), v))
					any = true;
				else
					at += n;
			}
		any |= shorten_runs(h, v);
		while (drop_last_node(h, v))
			any = true;
	}
}
