// SPDX-License-Identifier: Apache-2.0
// The crash test driver.
//
//	setup ─ settle ─ save A ─┬─ run up to a point ─ power off ─ save B ─┬─ power on ─ recover ─ check
//	                         │                                          ├─ power on ─ recover ─ check   (next choices)
//	                         ├─ run up to the next point ...
//
// The first choice of the chooser is the point (for anomalies: the failing operation), the rest is what survives. As the
// odometer turns its last digits first, a run is made once for each point and its disk restored for each state.
#include "tests/sim/crash_test.h"

#include "tests/sim/chooser.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATES_DEFAULT = 100000, ANOMALY_OPS_MAX = 1 << 20, FAILURE_STATES_MIN = 16, FAILURE_SHARE = 256, RECOVERIES_MAX = 16, FAILURE_MODES = 4,
       FAILURE_CHOICES = 2, FAILURE_FEW = 500, FAILED_RUNS_MAX = 3 };

enum ending { POWER_OFF, KILLED, KILLED_THEN_POWER_OFF, ENDINGS };

struct point {
	uint64_t op; // before which the run ends
	enum ending ending;
};

struct explorer {
	const struct crash_scenario *scenario;
	struct crash_result *result;
	struct sim *sim;
	struct chooser chooser;
	struct point *point;
	uint64_t points;
	void *promise; // as it was at save B
	const char *test; // "CRASH_TEST", or the other: the variable that replays
	char where[160];
	uint64_t *seen; // hashes of choices, a table; 0: free
	size_t seen_count, seen_room;
};

static size_t seen_place(const uint64_t *seen, size_t room, uint64_t hash)
{
	size_t i = hash % room;
	while (seen[i] && seen[i] != hash)
		i = (i + 1) % room;
	return i;
}

static void seen_grow(struct explorer *x)
{
	size_t room = x->seen_room ? x->seen_room * 4 : 1024;
	uint64_t *seen = calloc(room, sizeof(*seen));
	if (!seen)
		abort();
	for (size_t i = 0; i < x->seen_room; i++)
		if (x->seen[i])
			seen[seen_place(seen, room, x->seen[i])] = x->seen[i];
	free(x->seen);
	x->seen = seen;
	x->seen_room = room;
}

// Counts a state, unless its choices were made before.
static void count_state(struct explorer *x)
{
	uint64_t hash = chooser_hash(&x->chooser);
	if (x->seen_count * 2 >= x->seen_room)
		seen_grow(x);
	size_t i = seen_place(x->seen, x->seen_room, hash);
	x->result->repeats += x->seen[i] != 0;
	if (x->seen[i])
		return;
	x->seen[i] = hash;
	x->seen_count++;
	x->result->states++;
}

static void fail(struct explorer *x, const char *stage, const char *text)
{
	char *line = chooser_line(&x->chooser);
	x->result->failed = true;
	snprintf(x->result->line, sizeof(x->result->line), "%s=%s %s", x->test, x->scenario->name, line);
	snprintf(x->result->text, sizeof(x->result->text), "%s%s%s: %s", stage, *x->where ? ", " : "", x->where, text);
	free(line);
}

// Makes a step and sees that it leaves nothing open. Returns what the step returned.
static int make_step(struct explorer *x, crash_step *step, const char *stage, bool must)
{
	struct err err = {0};
	int rc = step(sim_env(x->sim), x->scenario->context, &err);
	if (sim_handles(x->sim))
		fail(x, stage, "left files or roots open");
	else if (rc && must && !sim_is_off(x->sim))
		fail(x, stage, err.text[0] ? err.text : strerror(-rc));
	return rc;
}

static uint64_t states_max(const struct crash_scenario *scenario)
{
	const char *text = getenv("KAGAMI_CRASH_STATES");
	uint64_t most = text ? strtoull(text, NULL, 10) : 0;
	return most ? most : scenario->states_max ? scenario->states_max : STATES_DEFAULT;
}

static void begin(struct explorer *x)
{
	chooser_init(&x->chooser);
	x->promise = malloc(x->scenario->promise_size + 1);
	if (!x->promise)
		abort();
	x->sim = sim_new(1);
	make_step(x, x->scenario->setup, "setup", true);
	sim_kill(x->sim);
	sim_settle(x->sim);
	sim_save(x->sim);
}

static void end(struct explorer *x)
{
	sim_free(x->sim);
	chooser_done(&x->chooser);
	free(x->point);
	free(x->promise);
	free(x->seen);
}

static void add_point(struct explorer *x, uint64_t op, enum ending ending)
{
	if (ending != KILLED_THEN_POWER_OFF || x->scenario->recover)
		x->point[x->points++] = (struct point){.op = op, .ending = ending};
}

// Runs undisturbed, and notes before which operations an end leaves another disk than an end before the one before.
static void find_points(struct explorer *x)
{
	uint64_t first = sim_ops(x->sim);
	sim_trace(x->sim, true);
	make_step(x, x->scenario->run, "undisturbed run", true);
	sim_trace(x->sim, false);
	uint64_t last = sim_ops(x->sim);
	x->point = calloc((last - first + 1) * ENDINGS, sizeof(*x->point));
	if (!x->point)
		abort();
	for (uint64_t op = first; op <= last; op++) {
		const struct sim_step *step = sim_step(x->sim, op);
		if (step && !step->changed)
			continue;
		uint64_t at = step ? op : SIM_NEVER; // after the end
		if (!step || step->certain || !x->scenario->at_syncs)
			add_point(x, at, POWER_OFF);
		add_point(x, at, KILLED);
		add_point(x, at, KILLED_THEN_POWER_OFF);
	}
}

// Recovers, cut up to scenario->crashes - 1 times, and checks: one state.
static void recover_and_check(struct explorer *x)
{
	const struct crash_scenario *s = x->scenario;
	if (s->crashes > 1)
		sim_crash_anywhere(x->sim, s->crashes - 1);
	for (int i = 0; s->recover && i < RECOVERIES_MAX && !x->result->failed; i++) {
		make_step(x, s->recover, "recovery", true);
		if (!sim_is_off(x->sim))
			break;
		sim_power_on(x->sim);
	}
	sim_crash_anywhere(x->sim, 0);
	if (!x->result->failed)
		make_step(x, s->check, "check", true);
	count_state(x);
}

// Runs up to a point, and saves what it leaves.
static void run_to_point(struct explorer *x, const struct point *point)
{
	static const char *const names[] = {"power off", "killed", "killed, recovered, then power off"};
	sim_restore(x->sim);
	sim_halt_at(x->sim, point->op);
	snprintf(x->where, sizeof(x->where), "%s at the end", names[point->ending]);
	make_step(x, x->scenario->run, "run", true);
	sim_halt_at(x->sim, SIM_NEVER);
	if (sim_is_off(x->sim))
		snprintf(x->where, sizeof(x->where), "%s before operation %llu (%s)", names[point->ending],
			 (unsigned long long)point->op, sim_last_step(x->sim));
	sim_kill(x->sim);
	sim_power_on(x->sim);
	if (point->ending == KILLED_THEN_POWER_OFF && !x->result->failed)
		make_step(x, x->scenario->recover, "recovery", true);
	if (point->ending != KILLED)
		sim_power_off(x->sim);
	sim_save(x->sim);
	if (x->scenario->promise_size)
		memcpy(x->promise, x->scenario->promise, x->scenario->promise_size);
}

static void one_survival(struct explorer *x)
{
	sim_restore(x->sim);
	if (x->scenario->promise_size)
		memcpy(x->scenario->promise, x->promise, x->scenario->promise_size);
	sim_power_on(x->sim);
	recover_and_check(x);
}

// All that one point can leave, or as much of it as `most` states allow. The chooser stands at the first state of it;
// afterwards at the first of the next point, or false is returned.
static bool explore_point(struct explorer *x, uint64_t most)
{
	unsigned at = choose(&x->chooser, (unsigned)x->points);
	size_t keep = x->chooser.count;
	run_to_point(x, &x->point[at]);
	x->result->points++;
	bool more = true, same = true;
	for (uint64_t states = 0; same && states < most / 2 + 1 && !x->result->failed; states++) {
		if (states)
			(void)choose(&x->chooser, (unsigned)x->points);
		one_survival(x);
		if (x->result->failed)
			break;
		more = chooser_next(&x->chooser);
		same = more && (keep == 0 || x->chooser.at[0] == at);
	}
	x->result->exhausted += !same;
	bool drawn = same && !x->result->failed;
	if (drawn)
		x->chooser.count = keep;
	for (uint64_t seed = 1; drawn && seed <= most / 2 && !x->result->failed; seed++) {
		chooser_draw(&x->chooser, keep, seed);
		(void)choose(&x->chooser, (unsigned)x->points);
		one_survival(x);
	}
	if (drawn && !x->result->failed)
		more = chooser_skip(&x->chooser, keep);
	sim_drop(x->sim);
	return more;
}

// Prepares the run that the environment asks for. False when it asks for none of this scenario.
static bool wants_replay(struct explorer *x)
{
	const char *name = getenv(x->test), *choices = getenv("CHOICES");
	if (!name || strcmp(name, x->scenario->name) != 0)
		return false;
	if (!chooser_read(&x->chooser, choices ? choices : "", getenv("SEED"))) {
		fprintf(stderr, "CHOICES or SEED cannot be read: copy both from the line that the failed test printed\n");
		abort();
	}
	return true;
}

// Whether the environment asks for a run of another test than this one.
static bool wants_another(const struct crash_scenario *scenario, const char *test)
{
	const char *crash = getenv("CRASH_TEST"), *anomaly = getenv("ANOMALY_TEST");
	const char *mine = getenv(test);
	return (crash || anomaly) && (!mine || strcmp(mine, scenario->name) != 0);
}

void crash_explore(const struct crash_scenario *scenario, struct crash_result *ret_result)
{
	struct explorer x = {.scenario = scenario, .result = ret_result, .test = "CRASH_TEST"};
	*ret_result = (struct crash_result){0};
	if (wants_another(scenario, x.test))
		return;
	begin(&x);
	if (!ret_result->failed)
		find_points(&x);
	sim_set_chooser(x.sim, &x.chooser);
	uint64_t most = states_max(scenario) / (x.points ? x.points : 1);
	if (ret_result->failed) {
		// nothing to explore
	} else if (wants_replay(&x)) {
		run_to_point(&x, &x.point[choose(&x.chooser, (unsigned)x.points)]);
		one_survival(&x);
		fprintf(stderr, "# made again: %s\n", x.where);
	} else {
		while (explore_point(&x, most) && !ret_result->failed)
			;
	}
	end(&x);
}

enum failing { FAILING_ENDED, FAILING_UNDISTURBED, FAILING_DISTURBED }; // it ended before the failure; without one; saved after it

// The choices that name a failure: its operation, and how it fails.
static unsigned choose_failure(struct explorer *x, unsigned *ret_mode)
{
	unsigned op = choose(&x->chooser, ANOMALY_OPS_MAX);
	*ret_mode = choose(&x->chooser, FAILURE_MODES);
	return op;
}

// One run with a failure. When it was disturbed, what it leaves is saved.
static enum failing run_failing(struct explorer *x)
{
	static const struct {
		int code;
		bool sticky;
	} mode[FAILURE_MODES] = {{-EIO, false}, {-EIO, true}, {-ENOSPC, false}, {-ENOSPC, true}};
	unsigned m;
	sim_restore(x->sim);
	uint64_t op = sim_ops(x->sim) + choose_failure(x, &m);
	sim_fail_at(x->sim, op, mode[m].code, mode[m].sticky);
	int rc = make_step(x, x->scenario->run, "run", false);
	bool failed = sim_has_failed(x->sim);
	sim_fail_at(x->sim, SIM_NEVER, 0, false);
	snprintf(x->where, sizeof(x->where), "%s %s at operation %llu (%s)", mode[m].sticky ? "lasting" : "one",
		 mode[m].code == -EIO ? "EIO" : "ENOSPC", (unsigned long long)op, sim_last_step(x->sim));
	if (!failed && rc && !x->result->failed)
		fail(x, "run", "failed although nothing had");
	if (sim_ops(x->sim) <= op)
		return FAILING_ENDED;
	if (!failed || x->result->failed)
		return FAILING_UNDISTURBED;
	sim_kill(x->sim);
	sim_save(x->sim);
	if (x->scenario->promise_size)
		memcpy(x->promise, x->scenario->promise, x->scenario->promise_size);
	return FAILING_DISTURBED;
}

// The process begins anew; or the power is cut first; or afterwards, when recovery has had its look at the cache.
static void one_aftermath(struct explorer *x)
{
	sim_restore(x->sim);
	if (x->scenario->promise_size)
		memcpy(x->scenario->promise, x->promise, x->scenario->promise_size);
	unsigned after = choose(&x->chooser, x->scenario->recover ? 3 : 2);
	if (after == 2 && make_step(x, x->scenario->recover, "recovery", true) != 0)
		return;
	if (after) {
		sim_power_off(x->sim);
		sim_power_on(x->sim);
	}
	recover_and_check(x);
}

// The choices of the run that is saved, made again without it.
static void choose_again(struct explorer *x, size_t keep)
{
	for (size_t i = 0; i < keep; i++)
		(void)choose(&x->chooser, x->chooser.of[i]);
}

// All that the run which is saved can leave, or `half` states of it in order and `half` that are drawn. The chooser stands behind the choices
// of that run (a write that fails has several outcomes); afterwards at the next run, or false is returned.
static bool explore_failed_run(struct explorer *x, uint64_t half)
{
	size_t keep = x->chooser.count;
	bool more = true, same = true;
	x->result->points++;
	for (uint64_t states = 0; same && states < half; states++) {
		if (states)
			choose_again(x, keep);
		one_aftermath(x);
		if (x->result->failed)
			return false;
		more = chooser_next(&x->chooser);
		same = more && x->chooser.given > keep;
	}
	x->result->exhausted += !same;
	if (!same)
		return more;
	x->chooser.count = keep;
	for (uint64_t seed = 1; seed <= half && !x->result->failed; seed++) {
		chooser_draw(&x->chooser, keep, seed);
		choose_again(x, keep);
		one_aftermath(x);
	}
	return !x->result->failed && chooser_skip(&x->chooser, keep);
}

// A failure whose runs have more outcomes than are looked at in order: some are drawn, and then comes the next failure.
static bool draw_failed_runs(struct explorer *x)
{
	x->chooser.count = FAILURE_CHOICES;
	for (uint64_t seed = 1; seed <= FAILED_RUNS_MAX && !x->result->failed; seed++) {
		chooser_draw(&x->chooser, FAILURE_CHOICES, seed);
		if (run_failing(x) != FAILING_DISTURBED)
			continue;
		one_aftermath(x);
		sim_drop(x->sim);
	}
	return !x->result->failed && chooser_skip(&x->chooser, FAILURE_CHOICES);
}

static void explore_failures(struct explorer *x)
{
	uint64_t seen = UINT64_MAX, runs = 0, most = states_max(x->scenario), half = most / FAILURE_SHARE / 2;
	uint64_t least = most < FAILURE_FEW ? 1 : FAILURE_STATES_MIN / 2;
	half = half < least ? least : half;
	for (bool more = true; more && !x->result->failed;) {
		enum failing how = run_failing(x);
		if (how == FAILING_ENDED || x->result->failed)
			break;
		uint64_t failure = (uint64_t)x->chooser.at[0] * FAILURE_MODES + x->chooser.at[1];
		runs = failure == seen ? runs + 1 : 1;
		seen = failure;
		if (how == FAILING_UNDISTURBED) {
			more = chooser_next(&x->chooser);
			continue;
		}
		more = explore_failed_run(x, half);
		sim_drop(x->sim);
		bool same = more && (uint64_t)x->chooser.at[0] * FAILURE_MODES + x->chooser.at[1] == seen;
		if (same && runs == FAILED_RUNS_MAX)
			more = draw_failed_runs(x);
	}
}

void anomaly_explore(const struct crash_scenario *scenario, struct crash_result *ret_result)
{
	struct explorer x = {.scenario = scenario, .result = ret_result, .test = "ANOMALY_TEST"};
	*ret_result = (struct crash_result){0};
	if (wants_another(scenario, x.test))
		return;
	begin(&x);
	sim_set_chooser(x.sim, &x.chooser);
	if (ret_result->failed) {
		// nothing to explore
	} else if (wants_replay(&x)) {
		if (run_failing(&x) == FAILING_DISTURBED)
			one_aftermath(&x);
		fprintf(stderr, "# made again: %s\n", x.where);
	} else {
		explore_failures(&x);
	}
	end(&x);
}

bool crash_report(const struct crash_scenario *scenario, const struct crash_result *r)
{
	fprintf(stderr, "# %s: %llu states from %llu disturbed runs, of %llu every state\n", scenario->name,
		(unsigned long long)r->states, (unsigned long long)r->points, (unsigned long long)r->exhausted);
	if (r->failed)
		fprintf(stderr, "# %s: %s\n# again: %s\n", scenario->name, r->text, r->line);
	return !r->failed;
}

bool crash_test(const struct crash_scenario *scenario)
{
	struct crash_result result;
	crash_explore(scenario, &result);
	return crash_report(scenario, &result);
}

bool anomaly_test(const struct crash_scenario *scenario)
{
	struct crash_result result;
	anomaly_explore(scenario, &result);
	return crash_report(scenario, &result);
}

static bool quietly(const struct crash_scenario *scenario, void how(const struct crash_scenario *, struct crash_result *))
{
	struct crash_result result;
	int out = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (out < 0 || null < 0)
		abort();
	if (!getenv("CHOICES"))
		(void)dup2(null, STDERR_FILENO);
	how(scenario, &result);
	(void)dup2(out, STDERR_FILENO);
	(void)close(out);
	(void)close(null);
	return crash_report(scenario, &result);
}

bool crash_test_quiet(const struct crash_scenario *scenario)
{
	return quietly(scenario, crash_explore);
}

bool anomaly_test_quiet(const struct crash_scenario *scenario)
{
	return quietly(scenario, anomaly_explore);
}
