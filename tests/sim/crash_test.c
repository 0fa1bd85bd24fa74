// SPDX-License-Identifier: Apache-2.0
// The crash test driver.
//
//	setup ─ settle ─ save A ─┬─ run up to a point ─ power off ─ save B ─┬─ power on ─ recover ─ check
//	                         │                                          ├─ power on ─ recover ─ check   (next choices)
//	                         ├─ run up to the next point ...
//
// The first choice of the chooser is the point (for anomalies: the failing operation), the rest is what survives. As the
// odometer turns its last digits first, a run is made once for each point and its disk restored for each state.
#include "tests/sim/explore.h"

#include <stdio.h>
#include <stdlib.h>

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
	explore_step(x, x->scenario->run, "undisturbed run", true);
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

// Runs up to a point, and saves what it leaves.
static void run_to_point(struct explorer *x, const struct point *point)
{
	static const char *const names[] = {"power off", "killed", "killed, recovered, then power off"};
	sim_restore(x->sim);
	sim_halt_at(x->sim, point->op);
	snprintf(x->where, sizeof(x->where), "%s at the end", names[point->ending]);
	explore_step(x, x->scenario->run, "run", true);
	sim_halt_at(x->sim, SIM_NEVER);
	if (sim_is_off(x->sim))
		snprintf(x->where, sizeof(x->where), "%s before operation %llu (%s)", names[point->ending],
			 (unsigned long long)point->op, sim_last_step(x->sim));
	sim_kill(x->sim);
	sim_power_on(x->sim);
	if (point->ending == KILLED_THEN_POWER_OFF && !x->result->failed)
		explore_step(x, x->scenario->recover, "recovery", true);
	if (point->ending != KILLED)
		sim_power_off(x->sim);
	explore_save(x);
}

static void one_survival(struct explorer *x)
{
	explore_restore(x);
	sim_power_on(x->sim);
	explore_judge(x);
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

void crash_explore(const struct crash_scenario *scenario, struct crash_result *ret_result)
{
	struct explorer x = {.scenario = scenario, .result = ret_result, .test = "CRASH_TEST"};
	*ret_result = (struct crash_result){0};
	if (explore_left_out(scenario, x.test))
		return;
	explore_begin(&x);
	if (!ret_result->failed)
		find_points(&x);
	sim_set_chooser(x.sim, &x.chooser);
	uint64_t most = explore_most(scenario) / (x.points ? x.points : 1);
	if (ret_result->failed) {
		// nothing to explore
	} else if (explore_replays(&x)) {
		run_to_point(&x, &x.point[choose(&x.chooser, (unsigned)x.points)]);
		one_survival(&x);
		fprintf(stderr, "# made again: %s\n", x.where);
	} else {
		while (explore_point(&x, most) && !ret_result->failed)
			;
	}
	explore_end(&x);
}
