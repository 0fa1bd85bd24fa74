// SPDX-License-Identifier: Apache-2.0
// The anomaly test driver: every operation fails, in each way, once and for good, until a run ends before the one that was to fail; and
// what each leaves is recovered from and checked, as it is, or after a power cut.
#include "tests/sim/explore.h"

#include <errno.h>
#include <stdio.h>

enum { ANOMALY_OPS_MAX = 1 << 20, FAILURE_STATES_MIN = 16, FAILURE_SHARE = 256, FAILURE_MODES = 4, FAILURE_CHOICES = 2, FAILURE_FEW = 500,
       FAILED_RUNS_MAX = 3 };

enum failing { FAILING_ENDED, FAILING_UNDISTURBED, FAILING_DISTURBED, FAILING_THINNED }; // it ended before the failure; without one; saved after it; not run

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
	unsigned m, which = choose_failure(x, &m);
	if ((which + m) % x->thinned)
		return FAILING_THINNED;
	sim_restore(x->sim);
	uint64_t op = sim_ops(x->sim) + which;
	sim_fail_at(x->sim, op, mode[m].code, mode[m].sticky);
	int rc = explore_step(x, x->scenario->run, "run", false);
	bool failed = sim_has_failed(x->sim);
	sim_fail_at(x->sim, SIM_NEVER, 0, false);
	snprintf(x->where, sizeof(x->where), "%s %s at operation %llu (%s)", mode[m].sticky ? "lasting" : "one",
		 mode[m].code == -EIO ? "EIO" : "ENOSPC", (unsigned long long)op, sim_last_step(x->sim));
	if (!failed && rc && !x->result->failed)
		explore_fail(x, "run", "failed although nothing had");
	if (sim_ops(x->sim) <= op)
		return FAILING_ENDED;
	if (!failed || x->result->failed)
		return FAILING_UNDISTURBED;
	sim_kill(x->sim);
	explore_save(x);
	return FAILING_DISTURBED;
}

// The process begins anew; or the power is cut first; or afterwards, when recovery has had its look at the cache.
static void one_aftermath(struct explorer *x)
{
	explore_restore(x);
	unsigned after = choose(&x->chooser, x->scenario->recover ? 3 : 2);
	if (after == 2 && explore_step(x, x->scenario->recover, "recovery", true) != 0)
		return;
	if (after) {
		sim_power_off(x->sim);
		sim_power_on(x->sim);
	}
	explore_judge(x);
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
	uint64_t seen = UINT64_MAX, runs = 0, most = explore_most(x->scenario), half = most / FAILURE_SHARE / 2;
	uint64_t least = most < FAILURE_FEW ? 1 : FAILURE_STATES_MIN / 2;
	half = half < least ? least : half;
	for (bool more = true; more && !x->result->failed;) {
		enum failing how = run_failing(x);
		if (how == FAILING_ENDED || x->result->failed)
			break;
		if (how == FAILING_THINNED) {
			more = chooser_skip(&x->chooser, FAILURE_CHOICES);
			continue;
		}
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
	if (explore_left_out(scenario, x.test))
		return;
	explore_begin(&x);
	sim_set_chooser(x.sim, &x.chooser);
	if (ret_result->failed) {
		// nothing to explore
	} else if (explore_replays(&x)) {
		x.thinned = 1;
		if (run_failing(&x) == FAILING_DISTURBED)
			one_aftermath(&x);
		fprintf(stderr, "# made again: %s\n", x.where);
	} else {
		explore_failures(&x);
	}
	explore_end(&x);
}
