// SPDX-License-Identifier: Apache-2.0
// The whole of it, simulated: real source and receiver over simulated disks, network and clock (tests/world/world.h), with all that can happen
// to them, from a seed; and what must be true then and in the end.
//
//	SEED=n replays one run, and tells what happens.	KAGAMI_SIM_SEEDS=n makes so many; KAGAMI_SIM_FIRST=n begins with that one.
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

enum { SEEDS = 50 };

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static void run(const struct world_plan *plan, uint64_t seeds)
{
	static struct world world;
	uint64_t one = number_from("SEED", 0), first = one ? one : number_from("KAGAMI_SIM_FIRST", 1);
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
	print_message("# seeds %llu to %llu: %llu points committed, %llu overlays compared whole, %llu power cuts, %llu kills, %llu restarts, "
		      "%llu connections cut, %llu stalled, %llu I/O errors, %llu full disks, %llu bits turned, %llu clock steps, %llu resizes, "
		      "%llu folds, %llu cuts given up, %llu reads checked, %llu events\n",
		      (unsigned long long)first, (unsigned long long)last, (unsigned long long)world.did.points,
		      (unsigned long long)world.did.compared, (unsigned long long)world.did.power_cuts, (unsigned long long)world.did.kills,
		      (unsigned long long)world.did.restarts, (unsigned long long)world.did.cuts, (unsigned long long)world.did.stalls,
		      (unsigned long long)world.did.io_errors, (unsigned long long)world.did.full, (unsigned long long)world.did.rot,
		      (unsigned long long)world.did.steps, (unsigned long long)world.did.resizes, (unsigned long long)world.did.folds,
		      (unsigned long long)world.did.given_up, (unsigned long long)world.did.reads_checked, (unsigned long long)world.did.events);
	for (unsigned r = SYNC_INITIAL; r <= SYNC_REPLICA_DAMAGED; r++)
		if (world.did.reason[r])
			print_message("# starts that found a disk to sync, %s: %llu\n", sync_reason_name((enum sync_reason)r),
				      (unsigned long long)world.did.reason[r]);
	print_message("# re-examined after crashes: %llu MiB, of %llu MiB marked; %llu blocks looked at for B1; scrubbed %llu MiB, %llu blocks damaged\n",
		      (unsigned long long)(world.did.reexamined_bytes >> 20), (unsigned long long)(world.did.marked_bytes >> 20),
		      (unsigned long long)world.did.b1_blocks, (unsigned long long)(world.did.scrubbed >> 20),
		      (unsigned long long)world.did.damaged);
}

// A world in which something never happens proves nothing about it.
static void all_happened(uint64_t seeds)
{
	const struct world *w = the_world;
	assert_true(w->did.points > 10 * seeds && w->did.compared > 40 * seeds && w->did.reads_checked > 100 * seeds);
	assert_true(w->did.power_cuts > seeds && w->did.kills > seeds && w->did.restarts > seeds && w->did.cuts > seeds);
	assert_true(w->did.stalls > seeds / 4 && w->did.io_errors > seeds / 4 && w->did.full > seeds / 4 && w->did.rot > 0);
	assert_true(w->did.steps > seeds / 4 && w->did.resizes > seeds / 4 && w->did.folds > 5 * seeds && w->did.given_up > seeds / 10);
	assert_true((w->did.damaged > 0 || seeds < 500) && w->did.scrubbed > 0 && w->did.reason[SYNC_UNCLEAN_STOP] > seeds);
	assert_true(w->did.reason[SYNC_STATE_UNREADABLE] && w->did.reexamined_bytes <= w->did.marked_bytes);
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
	if (!getenv("SEED"))
		run(&plan, 2);
}

static void after_any_faults_every_point_is_true_and_all_is_back_by_itself(void **state)
{
	const struct world_plan plan = {.sides_max = SIDES_MAX, .disks_max = SIDE_DISKS_MAX, .faults = true};
	(void)state;
	uint64_t seeds = number_from("KAGAMI_SIM_SEEDS", SEEDS);
	run(&plan, seeds);
	if (!getenv("SEED") && seeds >= SEEDS)
		all_happened(seeds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(without_faults_every_point_is_true_and_in_time, silence, speak),
		cmocka_unit_test_setup_teardown(after_any_faults_every_point_is_true_and_all_is_back_by_itself, silence, speak),
	};
	log_init("test_simulation", getenv("SEED") ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
