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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STATES_DEFAULT = 100000, ANOMALY_OPS_MAX = 1 << 20, FAILURE_STATES_MIN = 16, FAILURE_SHARE = 256, RECOVERIES_MAX = 16 };

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
};

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
	x->result->states++;
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

// One run with a failure, and what comes after it. Returns how many of its choices name the failure alone, or 0 when
// the run ended before the operation that was to fail.
static size_t one_anomaly(struct explorer *x)
{
	static const struct {
		int code;
		bool sticky;
	} mode[] = {{-EIO, false}, {-EIO, true}, {-ENOSPC, false}, {-ENOSPC, true}};
	sim_restore(x->sim);
	uint64_t op = sim_ops(x->sim) + choose(&x->chooser, ANOMALY_OPS_MAX);
	unsigned m = choose(&x->chooser, sizeof(mode) / sizeof(mode[0]));
	size_t keep = x->chooser.count;
	sim_fail_at(x->sim, op, mode[m].code, mode[m].sticky);
	int rc = make_step(x, x->scenario->run, "run", false);
	bool failed = sim_has_failed(x->sim);
	sim_fail_at(x->sim, SIM_NEVER, 0, false);
	snprintf(x->where, sizeof(x->where), "%s %s at operation %llu (%s)", mode[m].sticky ? "lasting" : "one",
		 mode[m].code == -EIO ? "EIO" : "ENOSPC", (unsigned long long)op, sim_last_step(x->sim));
	if (!failed && rc && !x->result->failed)
		fail(x, "run", "failed although nothing had");
	if (sim_ops(x->sim) <= op)
		return 0;
	if (!failed || x->result->failed)
		return keep;
	// The process begins anew; or the power is cut first; or afterwards, when recovery has had its look at the cache.
	unsigned after = choose(&x->chooser, x->scenario->recover ? 3 : 2);
	sim_kill(x->sim);
	if (after == 2 && make_step(x, x->scenario->recover, "recovery", true) != 0)
		return keep;
	if (after) {
		sim_power_off(x->sim);
		sim_power_on(x->sim);
	}
	recover_and_check(x);
	return keep;
}

void anomaly_explore(const struct crash_scenario *scenario, struct crash_result *ret_result)
{
	struct explorer x = {.scenario = scenario, .result = ret_result, .test = "ANOMALY_TEST"};
	*ret_result = (struct crash_result){0};
	if (wants_another(scenario, x.test))
		return;
	begin(&x);
	sim_set_chooser(x.sim, &x.chooser);
	if (!ret_result->failed && wants_replay(&x)) {
		(void)one_anomaly(&x);
		fprintf(stderr, "# made again: %s\n", x.where);
		end(&x);
		return;
	}
	uint64_t drawn = 0, states = 0, seen = UINT64_MAX, half = states_max(scenario) / FAILURE_SHARE / 2;
	if (half < FAILURE_STATES_MIN / 2)
		half = FAILURE_STATES_MIN / 2;
	for (bool more = true; more && !ret_result->failed;) {
		uint64_t before = ret_result->states;
		size_t keep = one_anomaly(&x);
		if (keep == 0 || ret_result->failed)
			break;
		uint64_t failure = (uint64_t)x.chooser.at[0] * 4 + x.chooser.at[1];
		states = failure == seen ? states + 1 : 1;
		drawn = failure == seen ? drawn : 0;
		ret_result->points += failure != seen && ret_result->states > before;
		seen = failure;
		if (states <= half)
			more = chooser_next(&x.chooser);
		else if (drawn < half)
			chooser_draw(&x.chooser, keep, ++drawn);
		else
			more = chooser_skip(&x.chooser, keep);
		if (ret_result->states > before && states <= half && (uint64_t)x.chooser.at[0] * 4 + x.chooser.at[1] != seen)
			ret_result->exhausted++;
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
