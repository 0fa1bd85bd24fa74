// SPDX-License-Identifier: Apache-2.0
// The whole of it, simulated: real source and receiver over simulated disks, network and clock (tests/world/world.h), with all that can happen
// to them, from a seed; and what must be true then and in the end.
//
//	SEED=n replays one run, and tells what happens; with CALM=1 without faults.	KAGAMI_SIM_SEEDS=n makes so many; KAGAMI_SIM_FIRST=n begins
//	with that one.
#include "base/log.h"
#include "tests/world/world.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SEEDS = 50, CALM_SEEDS = 4 };

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static void told(uint64_t first, uint64_t last);

static void run(const struct world_plan *plan, uint64_t seeds)
{
	static struct world world;
	uint64_t one = number_from("SEED", 0), first = one ? one : plan->faults ? number_from("KAGAMI_SIM_FIRST", 1) : 1;
	uint64_t last = one ? one : first + seeds - 1;
	the_world = &world;
	for (uint64_t seed = first; seed <= last; seed++) {
		uint64_t *sum = (uint64_t *)&world.did;
		uint64_t before[sizeof(world.did) / sizeof(uint64_t)];
		memcpy(before, sum, sizeof(world.did));
		memset(&world, 0, sizeof(world));
		memcpy(sum, before, sizeof(world.did));
		world.verbose = one != 0;
		world_scenario(seed, plan);
	}
	told(first, last);
}

static void count_told(const char *what, const char *name, uint64_t count)
{
	print_message("# happened %s%s %llu\n", what, name, (unsigned long long)count);
}

// One line for each thing that can happen, also where it did not: tests/sim-seeds.sh adds them up.
static void told(uint64_t first, uint64_t last)
{
	const struct world *w = the_world;
	const struct {
		const char *name;
		uint64_t count;
	} other[] = {
		{"point-committed", w->did.points},    {"overlay-compared", w->did.compared},  {"read-checked", w->did.reads_checked},
		{"block-checked-for-B1", w->did.b1_blocks}, {"cut-given-up", w->did.given_up},  {"pass-of-pre-copy", w->did.precopies},
		{"batch-surveyed", w->did.looks},      {"block-settled", w->did.settled},      {"hole-told", w->did.holes},
		{"hole-audited", w->did.audited}, {"false-hole-found", w->did.false_holes}, {"carried-hole-compared", w->did.carried},
		{"pause-for-the-guest", w->did.yielded}, {"region-coarsened", w->did.coarsened}, {"seed-awaited", w->did.seeds_awaited}, {"seed-adopted", w->did.adopted},      {"fold", w->did.folds},                 {"MiB-scrubbed", w->did.scrubbed >> 20},
		{"block-found-damaged", w->did.damaged}, {"MiB-examined-after-crashes", w->did.reexamined_bytes >> 20},
	};
	print_message("# seeds %llu to %llu: %llu events\n", (unsigned long long)first, (unsigned long long)last, (unsigned long long)w->did.events);
	for (unsigned f = 0; f < WORLD_FAULTS; f++)
		count_told("fault:", world_fault_name((enum world_fault)f), w->did.fault[f]);
	for (unsigned r = SYNC_INITIAL; r < SYNC_REASONS; r++)
		count_told("synced:", sync_reason_name((enum sync_reason)r), w->did.synced[r]);
	for (unsigned i = 0; i < sizeof(other) / sizeof(other[0]); i++)
		count_told("", other[i].name, other[i].count);
	print_message("# examined after crashes: %llu MiB, of %llu MiB in marked regions\n", (unsigned long long)(w->did.reexamined_bytes >> 20),
		      (unsigned long long)(w->did.marked_bytes >> 20));
}

// A world in which something never happens proves nothing about it. What is rare comes in a thousand seeds: tests/sim-seeds.sh.
static void all_happened(uint64_t seeds)
{
	const struct world *w = the_world;
	assert_true(w->did.points > 10 * seeds && w->did.compared > 40 * seeds && w->did.reads_checked > 100 * seeds);
	assert_true(w->did.folds > 5 * seeds && w->did.given_up > seeds / 10 && w->did.scrubbed > 0);
	assert_true(w->did.precopies > seeds && w->did.settled > seeds && w->did.holes > seeds);
	for (unsigned f = 0; f < WORLD_FAULTS; f++)
		if (w->did.fault[f] == 0 && (seeds >= 500 || (f != FAULT_ROT_HEAD && f != FAULT_ROT_TWICE && f != FAULT_REPLICA_REMOVED)))
			fail_msg("%s never happened", world_fault_name((enum world_fault)f));
	assert_true(w->did.synced[SYNC_UNCLEAN_STOP] > seeds / 2 && w->did.synced[SYNC_POSITION] && w->did.synced[SYNC_INITIAL] > seeds);
	assert_true(w->did.reexamined_bytes > 0 && w->did.reexamined_bytes <= w->did.marked_bytes);
}

static int silence(void **state)
{
	static int out;
	out = dup(STDERR_FILENO);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	assert_true(out >= 0 && null >= 0);
	if (!getenv("SEED"))
		(void)dup2(null, STDERR_FILENO);
	(void)close(null);
	*state = &out;
	return 0;
}

static int speak(void **state)
{
	int *out = *state;
	(void)dup2(*out, STDERR_FILENO);
	return close(*out);
}

static void without_faults_every_point_is_true_and_in_time(void **state)
{
	const struct world_plan plan = {.sides_max = 2, .disks_max = 2};
	(void)state;
	if (!getenv("SEED") || getenv("CALM"))
		run(&plan, number_from("CALM", CALM_SEEDS));
}

static void after_a_reboot_of_the_source_every_point_is_replaced_in_time(void **state)
{
	const struct world_plan plan = {.sides_max = 2, .disks_max = 2, .reboots = true};
	(void)state;
	if (!getenv("SEED") || getenv("CALM"))
		run(&plan, number_from("CALM", CALM_SEEDS));
}

static void after_any_faults_every_point_is_true_and_all_is_back_by_itself(void **state)
{
	const struct world_plan plan = {.sides_max = SIDES_MAX, .disks_max = SIDE_DISKS_MAX, .faults = true};
	(void)state;
	uint64_t seeds = number_from("KAGAMI_SIM_SEEDS", SEEDS);
	if (getenv("CALM"))
		return;
	run(&plan, seeds);
	if (!getenv("SEED") && seeds >= SEEDS)
		all_happened(seeds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(without_faults_every_point_is_true_and_in_time, silence, speak),
		cmocka_unit_test_setup_teardown(after_a_reboot_of_the_source_every_point_is_replaced_in_time, silence, speak),
		cmocka_unit_test_setup_teardown(after_any_faults_every_point_is_true_and_all_is_back_by_itself, silence, speak),
	};
	log_init("test_simulation", getenv("SEED") ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
