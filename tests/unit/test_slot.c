// SPDX-License-Identifier: Apache-2.0
// What a protection asks for at the desk, and that it keeps no slot that it does not use (protection_slot.c).
#include "replicator/protection_private.h"

#include "tests/sim/env_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define MINUTE UINT64_C(60000000000)

static struct sim *sim;
static struct desk *desk;
static struct protection *one, *other;

static struct protection *seated(bool has_point, enum sync_reason sync)
{
	struct protection *p = calloc(1, sizeof(*p));
	assert_non_null(p);
	p->place.desk = desk;
	p->place.env = sim_env(sim);
	p->wake_fd = -1;
	p->sync = sync;
	p->schedule = (struct schedule){.rpo_ns = 15 * MINUTE, .has_point = has_point, .last_cut_ns = 10 * MINUTE};
	(void)pthread_mutex_init(&p->lock, NULL);
	assert_int_equal(slot_join(p), 0);
	return p;
}

static void unseat(struct protection *p)
{
	slot_leave(p);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}

static void begin(bool point_of_one, enum sync_reason sync_of_one, bool point_of_other, enum sync_reason sync_of_other)
{
	sim = sim_new(1);
	sim_clock_advance(sim, 11 * MINUTE);
	assert_int_equal(desk_new(1, 1, &desk), 0);
	one = seated(point_of_one, sync_of_one);
	other = seated(point_of_other, sync_of_other);
}

static void end(void)
{
	unseat(one);
	unseat(other);
	desk_free(desk);
	sim_free(sim);
}

static bool take(struct protection *p)
{
	struct schedule_load load = {.now_ns = 24 * MINUTE};
	return slot_take(p, &load, false);
}

// It was woken with the slot that it had waited for, and has nothing to do in it any more: its window is over, or it is not due.
static void slot_that_is_not_used_goes_to_the_next(void **unused)
{
	(void)unused;
	for (unsigned has_point = 0; has_point < 2; has_point++) {
		begin(has_point, SYNC_NONE, has_point, SYNC_NONE);
		assert_true(take(one));
		assert_false(take(other));
		assert_true(other->waits_for_slot);
		slot_unused(one);
		assert_true(take(other));
		assert_false(other->waits_for_slot);
		assert_false(take(one)); // it asks again, in its turn
		slot_unused(one);
		assert_false(one->waits_for_slot);
		slot_end(other);
		struct planner_view view;
		desk_look(desk, &view);
		assert_int_equal(view.running[PLANNER_CYCLE] + view.running[PLANNER_SYNC], 0);
		assert_int_equal(view.waiting[PLANNER_CYCLE] + view.waiting[PLANNER_SYNC], 0);
		end();
	}
}

// What gives its slot back has its cycle to come all the same: the starts of the others are laid out around it.
static void slot_that_is_not_used_leaves_the_plan_as_it_was(void **unused)
{
	(void)unused;
	begin(true, SYNC_NONE, true, SYNC_NONE);
	struct schedule_load load = {.now_ns = 11 * MINUTE};
	one->schedule.forecast.fixed_ns = other->schedule.forecast.fixed_ns = 2 * MINUTE;
	(void)slot_due(one, &load);
	uint64_t before = slot_due(other, &load);
	uint64_t of_one = slot_due(one, &load);
	slot_unused(one);
	assert_true(slot_due(other, &load) == before && slot_due(one, &load) == of_one);
	slot_end(one);
	assert_true(slot_due(other, &load) > min_u64(before, of_one)); // nobody else is in the plan
	end();
}

// The marked regions are candidates then, and nothing else: it is as short as a cycle.
static void only_comparisons_of_whole_disks_wait_for_each_other(void **unused)
{
	static const struct {
		bool has_point;
		enum sync_reason sync;
		bool whole;
	} cases[] = {
		{true, SYNC_NONE, false},	    {true, SYNC_UNCLEAN_STOP, false},  {true, SYNC_REPLICA_DAMAGED, false}, {true, SYNC_TRACKING_LOST, true},
		{true, SYNC_STATE_FOREIGN, true},   {true, SYNC_IMAGE_CHANGED, true}, {true, SYNC_POSITION, true},	    {true, SYNC_TRACKING_DOUBT, true},
		{true, SYNC_FALSE_HOLE, false},
		{false, SYNC_INITIAL, true},	    {false, SYNC_UNCLEAN_STOP, true},
	};
	(void)unused;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin(false, SYNC_INITIAL, cases[i].has_point, cases[i].sync);
		assert_true(take(one)); // the first copy of a large disk
		assert_int_equal(take(other), !cases[i].whole);
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slot_that_is_not_used_goes_to_the_next),
		cmocka_unit_test(slot_that_is_not_used_leaves_the_plan_as_it_was),
		cmocka_unit_test(only_comparisons_of_whole_disks_wait_for_each_other),
	};
	return cmocka_run_group_tests_name("slot", tests, NULL, NULL);
}
