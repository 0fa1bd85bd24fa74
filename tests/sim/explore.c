// SPDX-License-Identifier: Apache-2.0
// What crash tests and anomaly tests share (explore.h).
//
// Judgement. After recovery the check is a function of what is on the disk and of what was promised. So a disk that was found right is not
// checked again when other choices lead to the same one: most of an enumeration's time went into reading the same contents. Two disks are
// the same when their prints are (sim_print.h), undecided things included; and a check that had to decide something is made again each time.
// A scenario that does not say what it promises has every state checked, and so has KAGAMI_CRASH_AFRESH=1.
#include "tests/sim/explore.h"

#include "base/size.h"

#include <fnmatch.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STATES_DEFAULT = 100000, STATES_LEAST = 50, RECOVERIES_MAX = 16, HEAP_KEPT = 32 << 20 };

void explore_fail(struct explorer *x, const char *stage, const char *text)
{
	char *line = chooser_line(&x->chooser);
	x->result->failed = true;
	snprintf(x->result->line, sizeof(x->result->line), "%s=%s %s", x->test, x->scenario->name, line);
	snprintf(x->result->text, sizeof(x->result->text), "%s%s%s: %s", stage, *x->where ? ", " : "", x->where, text);
	free(line);
}

int explore_step(struct explorer *x, crash_step *step, const char *stage, bool must)
{
	struct err err = {0};
	int rc = step(sim_env(x->sim), x->scenario->context, &err);
	if (sim_handles(x->sim))
		explore_fail(x, stage, "left files or roots open");
	else if (rc && must && !sim_is_off(x->sim))
		explore_fail(x, stage, err.text[0] ? err.text : strerror(-rc));
	return rc;
}

static uint64_t number_in(const char *variable)
{
	const char *text = getenv(variable);
	return text ? strtoull(text, NULL, 10) : 0;
}

static uint64_t explore_thinned(void)
{
	return max_u64(number_in("KAGAMI_CRASH_THINNED"), 1);
}

uint64_t explore_most(const struct crash_scenario *scenario)
{
	uint64_t most = number_in("KAGAMI_CRASH_STATES"), usual = scenario->states_max ? scenario->states_max : STATES_DEFAULT;
	return most ? most : max_u64(usual / explore_thinned(), min_u64(usual, STATES_LEAST));
}

void explore_begin(struct explorer *x)
{
	chooser_init(&x->chooser);
	x->thinned = explore_thinned();
	x->promise = malloc(x->scenario->promise_size + 1);
	if (!x->promise)
		abort();
	x->afresh = !x->scenario->promise_size || getenv("KAGAMI_CRASH_AFRESH");
	(void)mallopt(M_TRIM_THRESHOLD, HEAP_KEPT); // memory that a state needs is that of the one before
	(void)mallopt(M_MMAP_THRESHOLD, HEAP_KEPT);
	x->sim = sim_new(1);
	explore_step(x, x->scenario->setup, "setup", true);
	sim_kill(x->sim);
	sim_settle(x->sim);
	sim_save(x->sim);
}

void explore_end(struct explorer *x)
{
	if (!x->scenario->recover)
		x->result->contents = x->result->states; // each is another
	sim_free(x->sim);
	chooser_done(&x->chooser);
	free(x->point);
	free(x->promise);
	sim_prints_done(&x->seen);
	sim_prints_done(&x->judged);
}

void explore_save(struct explorer *x)
{
	sim_save(x->sim);
	if (x->scenario->promise_size)
		memcpy(x->promise, x->scenario->promise, x->scenario->promise_size);
}

void explore_restore(struct explorer *x)
{
	sim_restore(x->sim);
	if (x->scenario->promise_size)
		memcpy(x->scenario->promise, x->promise, x->scenario->promise_size);
}

// Counts a state, unless its choices were made before.
static void count_state(struct explorer *x)
{
	const struct sim_print choices = {.low = chooser_hash(&x->chooser)};
	bool fresh = sim_prints_add(&x->seen, choices);
	x->result->states += fresh;
	x->result->repeats += !fresh;
}

// A second recovery finds all done. One that had to decide something is no proof of the opposite.
static void recover_again(struct explorer *x, struct sim_print before)
{
	size_t choices = x->chooser.count;
	explore_step(x, x->scenario->recover, "recovery made again", true);
	const struct sim_print after = sim_print(x->sim);
	if (x->chooser.count == choices && (after.low != before.low || after.high != before.high) && !x->result->failed)
		explore_fail(x, "recovery made again", "changed the disk");
}

static void check(struct explorer *x)
{
	if (!x->scenario->recover) { // what is there is decided by the check itself
		explore_step(x, x->scenario->check, "check", true);
		return;
	}
	const struct sim_print disk = sim_print(x->sim);
	struct sim_print print = disk;
	if (x->scenario->promise_size)
		print = sim_print_more(print, x->scenario->promise, x->scenario->promise_size);
	if (!x->afresh && sim_prints_have(&x->judged, print))
		return;
	size_t before = x->chooser.count;
	if (x->scenario->settles)
		recover_again(x, disk);
	if (!x->result->failed)
		explore_step(x, x->scenario->check, "check", true);
	if (x->chooser.count > before)
		print = sim_print_more(print, x->chooser.at + before, (x->chooser.count - before) * sizeof(x->chooser.at[0]));
	x->result->contents += sim_prints_add(&x->judged, print);
}

void explore_judge(struct explorer *x)
{
	const struct crash_scenario *s = x->scenario;
	if (s->crashes > 1)
		sim_crash_anywhere(x->sim, s->crashes - 1);
	for (int i = 0; s->recover && i < RECOVERIES_MAX && !x->result->failed; i++) {
		explore_step(x, s->recover, "recovery", true);
		if (!sim_is_off(x->sim))
			break;
		sim_power_on(x->sim);
	}
	sim_crash_anywhere(x->sim, 0);
	if (!x->result->failed)
		check(x);
	count_state(x);
}

bool explore_replays(struct explorer *x)
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

// KAGAMI_CRASH_PART=K/N: every N-th exploration of this program, from the K-th.
static bool of_another_part(void)
{
	static unsigned number;
	unsigned part, parts;
	const char *text = getenv("KAGAMI_CRASH_PART");
	number++;
	return text && sscanf(text, "%u/%u", &part, &parts) == 2 && parts && number % parts != part % parts;
}

bool explore_left_out(const struct crash_scenario *scenario, const char *test)
{
	const char *crash = getenv("CRASH_TEST"), *anomaly = getenv("ANOMALY_TEST");
	const char *mine = getenv(test);
	const char *only = getenv("KAGAMI_CRASH_ONLY");
	if (of_another_part() || (only && fnmatch(only, scenario->name, 0) != 0))
		return true;
	return (crash || anomaly) && (!mine || strcmp(mine, scenario->name) != 0);
}
