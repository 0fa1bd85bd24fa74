// SPDX-License-Identifier: Apache-2.0
// The source's own account of ages over the ends and starts of its process (protection_ledger.c), on a simulated disk and clock.
#include "replicator/dirty.h"
#include "replicator/protection_private.h"
#include "replicator/state_file.h"

#include "tests/sim/env_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)

static struct sim *sim;
static struct env_root *root;
static struct protection *p;

static void start(uint64_t point, int64_t cut_mono_ns)
{
	p = calloc(1, sizeof(*p));
	assert_non_null(p);
	p->place = (struct protection_place){.env = sim_env(sim), .state = root, .accounts = true};
	(void)snprintf(p->config.name, NAME_SIZE, "vm1");
	p->config.rpo_ms = 60000;
	p->position_known = p->has_point = true;
	p->point = point;
	p->point_cut_mono_ns = cut_mono_ns;
	(void)pthread_mutex_init(&p->lock, NULL);
	account_load(p);
	assert_non_null(p->ledger);
}

static void stop(void)
{
	account_end(p);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}

static int set_up(void **state)
{
	(void)state;
	sim = sim_new(1);
	assert_int_equal(env_root_open(sim_env(sim), "/", &root), 0);
	assert_int_equal(env_mkdir(root, "protections"), 0);
	assert_int_equal(env_mkdir(root, "protections/vm1"), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	env_root_close(root);
	sim_free(sim);
	return 0;
}

// The point that was the newest before is the newest still: it aged while nobody counted.
static void miss_of_the_time_away_is_booked_from_when_the_point_was_too_old(void **state)
{
	(void)state;
	sim_clock_advance(sim, 100 * SECOND);
	start(3, (int64_t)(100 * SECOND));
	sim_clock_advance(sim, 10 * SECOND);
	(void)protection_tick(p);
	assert_false(p->ledger->missing);
	stop();
	sim_clock_advance(sim, 600 * SECOND);
	start(3, (int64_t)(100 * SECOND));
	(void)protection_tick(p);
	assert_true(p->ledger->missing);
	int64_t after_ms = p->ledger->miss.began_ms - p->ledger->cut_ms;
	assert_true(after_ms >= 60000 && after_ms < 61000);
	assert_true(p->ledger->gap_from_ms >= p->ledger->gap_to_ms); // settled
	stop();
}

// L4 of ledger.h: a kill loses what was counted since the last save, and the position has the newer point.
static void kill_is_no_miss_of_the_point_of_the_last_save(void **state)
{
	(void)state;
	struct ledger_summary sum;
	sim_clock_advance(sim, 100 * SECOND);
	start(3, (int64_t)(100 * SECOND));
	stop();
	start(3, (int64_t)(100 * SECOND)); // this one is killed: nothing of it is saved
	for (uint64_t n = 4; n < 14; n++) {
		sim_clock_advance(sim, 10 * SECOND);
		account_committed(p, n, (int64_t)(90 + 10 * (n - 3)) * (int64_t)SECOND, 0, 0);
	}
	struct protection *killed = p;
	sim_clock_advance(sim, SECOND);
	start(13, (int64_t)(190 * SECOND));
	sim_clock_advance(sim, SECOND);
	(void)protection_tick(p);
	assert_int_equal(p->ledger->miss.serial, 0);
	ledger_sum(p->ledger, LEDGER_HOUR, &sum);
	assert_int_equal(sum.missed_ms, 0);
	assert_int_equal(sum.max_ms, 0);
	sim_clock_advance(sim, SECOND);
	(void)protection_tick(p);
	ledger_sum(p->ledger, LEDGER_HOUR, &sum);
	assert_true(sum.max_ms > 12000 && sum.max_ms <= 14000);
	stop();
	p = killed;
	stop();
}

// What its state file has says of point `point`, whose cut was `ago_ns` before now.
static void put_state(uint64_t point, uint64_t ago_ns)
{
	struct state_position position = {.point = point, .last_cut = {{(unsigned char)point}}, .last_cut_wall_ns = env_wall_ns(sim_env(sim)) - (int64_t)ago_ns};
	struct image_identity identity = {.inode = 1, .size = BLOCK_SIZE};
	struct dirty dirty;
	struct state_file *file = NULL;
	struct err err = {0};
	assert_int_equal(dirty_init(&dirty, BLOCK_SIZE), 0);
	assert_int_equal(state_file_open_run(root, "protections/vm1/vda.state", "vda", &position, &identity, &dirty, NULL, &file, &err), 0);
	state_file_close(file);
	dirty_done(&dirty);
}

// A start whose images have not been opened yet, or cannot be.
static void start_begins(void)
{
	start(0, 0);
	p->has_point = p->position_known = false;
	account_end(p);
	p->config.disk_count = 1;
	(void)snprintf(p->config.disk[0].name, NAME_SIZE, "vda");
	account_load(p);
}

// L4 of ledger.h, where a disk takes longer to open than a ledger waits for a name.
static void start_that_takes_long_after_a_kill_is_no_miss(void **state)
{
	(void)state;
	sim_clock_advance(sim, 100 * SECOND);
	start(3, (int64_t)(100 * SECOND));
	(void)protection_tick(p);
	stop();
	sim_clock_advance(sim, 50 * SECOND); // points came, and the kill
	put_state(8, 5 * SECOND);
	start_begins();
	sim_clock_advance(sim, 45 * SECOND);
	p->position_known = p->has_point = true;
	p->point = 8;
	p->point_cut_mono_ns = (int64_t)(145 * SECOND);
	(void)protection_tick(p);
	assert_int_equal(p->ledger->miss.serial, 0);
	stop();
}

// Each try of a minute counts on from the last one.
static void protection_that_does_not_start_ages_and_is_missed(void **state)
{
	(void)state;
	struct ledger_summary sum;
	sim_clock_advance(sim, 100 * SECOND);
	put_state(3, 0);
	start(3, (int64_t)(100 * SECOND));
	(void)protection_tick(p);
	stop();
	for (unsigned i = 0; i < 10; i++) {
		sim_clock_advance(sim, 60 * SECOND);
		start_begins();
		assert_int_equal(p->ledger->missing, i > 0);
		stop();
	}
	sim_clock_advance(sim, SECOND);
	start_begins();
	ledger_sum(p->ledger, LEDGER_HOUR, &sum);
	assert_true(sum.unobserved_ms < 1000 && sum.missed_ms > 540000 && p->ledger->miss.serial == 1);
	stop();
}

// What an earlier run saved tells of the whole time between; what this one would have until a point is named tells of its own gap alone.
static void nothing_is_saved_while_it_is_unknown_which_point_is_the_newest(void **state)
{
	(void)state;
	struct ledger_summary sum;
	sim_clock_advance(sim, 100 * SECOND);
	start(3, (int64_t)(100 * SECOND));
	(void)protection_tick(p);
	stop();
	for (unsigned i = 0; i < 20; i++) { // and no state file is there
		sim_clock_advance(sim, 10 * SECOND);
		start_begins();
		stop();
	}
	start(3, (int64_t)(100 * SECOND));
	(void)protection_tick(p);
	ledger_sum(p->ledger, LEDGER_HOUR, &sum);
	assert_true(sum.unobserved_ms < 1000 && sum.missed_ms > 130000);
	stop();
}

// The host was started since, and its clock with it.
static void age_of_a_point_from_before_the_boot_counts_on(void **state)
{
	(void)state;
	start(3, -(int64_t)(55 * SECOND));
	(void)protection_tick(p);
	assert_false(p->ledger->missing);
	sim_clock_advance(sim, 6 * SECOND);
	(void)protection_tick(p);
	assert_true(p->ledger->missing);
	account_committed(p, 4, -(int64_t)(70 * SECOND), 0, 0);
	assert_true(p->ledger->missing); // that one is too old, too
	stop();
}

// What follows the commit, the syncs of images above all, takes its time: meanwhile others ask, and the ticker counts on.
static void point_is_counted_once_and_with_its_own_cut_whoever_asks_in_between(void **state)
{
	(void)state;
	struct ledger_summary sum;
	start(0, 0);
	p->has_point = false; // the initial sync
	sim_clock_advance(sim, 100 * SECOND);
	(void)protection_tick(p);
	account_committed(p, 1, (int64_t)(95 * SECOND), 10, 10);
	for (unsigned i = 0; i < 3; i++) {
		sim_clock_advance(sim, SECOND);
		(void)protection_tick(p);
		assert_true(p->ledger->has_point);
	}
	ledger_sum(p->ledger, LEDGER_HOUR, &sum);
	assert_int_equal(sum.points, 1);
	sim_clock_advance(sim, 20 * SECOND);
	account_committed(p, 2, (int64_t)(120 * SECOND), 10, 10);
	assert_true(p->has_point && p->position_known && p->point == 2);
	assert_true(p->point_cut_mono_ns == (int64_t)(120 * SECOND)); // not the number of the one with the age of the other
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(miss_of_the_time_away_is_booked_from_when_the_point_was_too_old, set_up, tear_down),
		cmocka_unit_test_setup_teardown(kill_is_no_miss_of_the_point_of_the_last_save, set_up, tear_down),
		cmocka_unit_test_setup_teardown(start_that_takes_long_after_a_kill_is_no_miss, set_up, tear_down),
		cmocka_unit_test_setup_teardown(protection_that_does_not_start_ages_and_is_missed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(nothing_is_saved_while_it_is_unknown_which_point_is_the_newest, set_up, tear_down),
		cmocka_unit_test_setup_teardown(point_is_counted_once_and_with_its_own_cut_whoever_asks_in_between, set_up, tear_down),
		cmocka_unit_test_setup_teardown(age_of_a_point_from_before_the_boot_counts_on, set_up, tear_down),
	};
	return cmocka_run_group_tests_name("account", tests, NULL, NULL);
}
