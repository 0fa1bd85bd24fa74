// SPDX-License-Identifier: Apache-2.0
// What crash tests and anomaly tests share: a world, its choices, recovery and judgement, the count of what was seen. Only tests/sim/*.c.
#ifndef KAGAMI_SIM_EXPLORE_H
#define KAGAMI_SIM_EXPLORE_H

#include "tests/sim/chooser.h"
#include "tests/sim/crash_test.h"
#include "tests/sim/sim_print.h"

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
	uint64_t thinned; // of failing operations, each so many-th is looked at
	const char *test; // "CRASH_TEST", or the other: the variable that replays
	char where[160];
	struct sim_prints seen;   // choices, of states
	struct sim_prints judged; // contents, all of which were right
	bool afresh; // every state is checked, whatever was judged before
};

void explore_begin(struct explorer *x); // the setup, saved
void explore_end(struct explorer *x);
void explore_fail(struct explorer *x, const char *stage, const char *text);
// Makes a step and sees that it leaves nothing open. Returns what the step returned.
int explore_step(struct explorer *x, crash_step *step, const char *stage, bool must);
// Saves the world as it is now, with what was promised, to come back to.
void explore_save(struct explorer *x);
void explore_restore(struct explorer *x);
// Recovers, cut up to scenario->crashes - 1 times, and checks: one state.
void explore_judge(struct explorer *x);
uint64_t explore_most(const struct crash_scenario *scenario); // states

// Prepares the run that the environment asks for. False when it asks for none of this scenario.
bool explore_replays(struct explorer *x);
// Whether the environment asks for a run of another test than this one.
bool explore_left_out(const struct crash_scenario *scenario, const char *test);

#endif
