// SPDX-License-Identifier: Apache-2.0
// A stop within bounds (replicator/stopping.h): what closes hangs, and the exports end all the same; what has not ended is given up and said.
#include "base/log.h"
#include "replicator/passes.h"
#include "replicator/stopping.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>

#include <cmocka.h>

static struct roll roll;
static struct roll_entry entry[2];
static atomic_uint told[2], abandoned[2], asked[2];
static atomic_uint left[2]; // looks until it has written out; UINT_MAX: it hangs
static atomic_bool released, opened;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void release(void)
{
	(void)pthread_mutex_lock(&lock);
	atomic_store(&released, true);
	(void)pthread_cond_broadcast(&changed);
	(void)pthread_mutex_unlock(&lock);
}

static void on_end(struct roll_entry *e)
{
	(void)atomic_fetch_add(&told[e - entry], 1);
}

static void on_abandon(struct roll_entry *e)
{
	(void)atomic_fetch_add(&abandoned[e - entry], 1);
}

static void on_write_out(struct roll_entry *e)
{
	(void)atomic_fetch_add(&asked[e - entry], 1);
}

static bool on_writes_out(struct roll_entry *e, uint64_t *pieces)
{
	unsigned looks = atomic_load(&left[e - entry]);
	if (looks == 0)
		return false;
	*pieces += looks == UINT_MAX ? 7 : looks;
	if (looks != UINT_MAX)
		(void)atomic_fetch_sub(&left[e - entry], 1);
	return true;
}

static int setup(void **state)
{
	(void)state;
	roll = (struct roll)ROLL_INITIALIZER;
	atomic_store(&released, false);
	for (unsigned i = 0; i < 2; i++) {
		entry[i] = (struct roll_entry){.protection = i ? "vm2" : "vm1", .end = on_end, .abandon = on_abandon, .write_out = on_write_out, .writes_out = on_writes_out};
		atomic_store(&told[i], 0);
		atomic_store(&asked[i], 0);
		atomic_store(&left[i], 0);
		atomic_store(&abandoned[i], 0);
		roll_enter(&roll, &entry[i]);
	}
	return 0;
}

static void close_well(void *context)
{
	(void)context;
	for (unsigned i = 0; i < 2; i++)
		roll_leave(&entry[i]);
}

// As a ticker that is joined, or a thread in a write of the state directory.
static void close_never(void *context)
{
	(void)context;
	(void)pthread_mutex_lock(&lock);
	while (!atomic_load(&released))
		(void)pthread_cond_wait(&changed, &lock);
	(void)pthread_mutex_unlock(&lock);
	atomic_store(&opened, true);
}

static void a_stop_that_goes_on_is_waited_for_to_its_end(void **state)
{
	(void)state;
	const struct stopping stopping = {.roll = &roll, .wait_s = 1, .close = close_well};
	assert_true(stopping_run(&stopping));
	assert_int_equal(atomic_load(&abandoned[0]) + atomic_load(&abandoned[1]), 0);
	assert_null(roll.first);
}

static atomic_uint looks, owed;

// More, and less again: nothing that goes on.
static uint64_t on_owes_always(struct roll_entry *e)
{
	(void)e;
	unsigned look = atomic_fetch_add(&looks, 1);
	if (look == 40) // the stop has no bound then, and this test has
		release();
	return 1000 + look % 2;
}

static void a_stop_that_hangs_ends_the_exports_and_is_given_up(void **state)
{
	(void)state;
	static struct stopping stopping;
	stopping = (struct stopping){.roll = &roll, .wait_s = 1, .close = close_never};
	roll_ended(&entry[0]);
	entry[1].owes = on_owes_always;
	assert_false(stopping_run(&stopping));
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(atomic_load(&told[i]), 1);
		assert_int_equal(atomic_load(&abandoned[i]), 1);
	}
	release(); // this process goes on, unlike the daemon
	while (!atomic_load(&opened))
		(void)sched_yield();
}

// A last sync that takes its time: less is left at each look.
static uint64_t on_owes(struct roll_entry *e)
{
	if (e != &entry[0])
		return 0;
	(void)atomic_fetch_add(&looks, 1);
	return atomic_fetch_sub(&owed, 1);
}

static void close_after_a_sync(void *context)
{
	while (atomic_load(&looks) < *(const unsigned *)context)
		(void)sched_yield();
	close_well(NULL);
}

static void a_sync_that_goes_on_is_no_disk_that_hangs(void **state)
{
	(void)state;
	unsigned most = 20; // looks are 200 ms apart: three times as long as nothing may go on
	const struct stopping stopping = {.roll = &roll, .wait_s = 1, .close = close_after_a_sync, .context = &most};
	entry[0].owes = on_owes;
	atomic_store(&looks, 0);
	atomic_store(&owed, 1000);
	assert_true(stopping_run(&stopping));
	assert_int_equal(atomic_load(&abandoned[0]) + atomic_load(&abandoned[1]), 0);
}

// Guests write until they are told to end: what is owed then is more than what was owed at the beginning.
static uint64_t on_owes_more_at_first(struct roll_entry *e)
{
	unsigned look = atomic_fetch_add(&looks, 1);
	return atomic_load(&told[e - entry]) ? 1000 - look : look;
}

static void what_guests_wrote_while_the_stop_began_is_waited_for_too(void **state)
{
	(void)state;
	unsigned most = 20;
	const struct stopping stopping = {.roll = &roll, .wait_s = 1, .close = close_after_a_sync, .context = &most};
	entry[1].owes = on_owes_more_at_first;
	atomic_store(&looks, 0);
	assert_true(stopping_run(&stopping));
	assert_int_equal(atomic_load(&told[1]), 1);
	assert_int_equal(atomic_load(&abandoned[1]), 0);
}

static unsigned left_at_close[2], told_at_close;

static void close_and_look(void *context)
{
	for (unsigned i = 0; i < 2; i++)
		left_at_close[i] = atomic_load(&left[i]);
	told_at_close = atomic_load(&told[0]) + atomic_load(&told[1]);
	close_well(context);
}

// They are served until then; one that hangs does not end that for the other.
static void what_guests_wrote_is_on_the_disks_before_anything_closes(void **state)
{
	(void)state;
	const struct stopping stopping = {.roll = &roll, .wait_s = 2, .close = close_and_look};
	atomic_store(&left[0], 20); // of looks that are 200 ms apart in the end: longer than nothing may go on
	atomic_store(&left[1], 5);
	assert_true(stopping_run(&stopping));
	assert_true(asked[0] && asked[1]);
	assert_int_equal(left_at_close[0] + left_at_close[1] + told_at_close, 0);
	assert_int_equal(setup(NULL), 0);
	atomic_store(&left[0], UINT_MAX);
	atomic_store(&left[1], 20);
	assert_true(stopping_run(&stopping));
	assert_int_equal(left_at_close[0], UINT_MAX); // or the stop had no bound
	assert_int_equal(left_at_close[1], 0);
}

static void *enter_later(void *context)
{
	(void)context;
	while (!atomic_load(&asked[0]))
		(void)sched_yield();
	roll_enter(&roll, &entry[1]);
	atomic_store(&left[0], 3);
	return NULL;
}

static void an_export_that_comes_meanwhile_is_asked_too(void **state)
{
	(void)state;
	const struct stopping stopping = {.roll = &roll, .wait_s = 60, .close = close_and_look};
	pthread_t thread;
	roll_leave(&entry[1]);
	atomic_store(&left[0], 1000); // until it came
	assert_int_equal(pthread_create(&thread, NULL, enter_later, NULL), 0);
	assert_true(stopping_run(&stopping));
	(void)pthread_join(thread, NULL);
	assert_true(asked[1]);
}

// Of a guest that writes at such a part of what its disk does, each pass takes that part of the one before.
static unsigned passes_of(double part, int64_t first_ms, int64_t *ret_last_ms)
{
	struct passes passes = {0};
	double ms = (double)first_ms;
	unsigned count = 1;
	for (; passes_again(&passes, (int64_t)ms) && count < 100; count++)
		ms *= part;
	*ret_last_ms = (int64_t)ms;
	assert_false(passes.given_up && passes_again(&passes, 10000)); // for good
	return count;
}

static void passes_go_on_until_one_takes_no_time_or_they_are_in_vain(void **state)
{
	(void)state;
	int64_t last_ms;
	assert_int_equal(passes_of(0.5, 999, &last_ms), 1);
	assert_int_equal(passes_of(0.5, 98000, &last_ms), 8);
	assert_true(last_ms < PASS_LONG_MS);
	assert_true(passes_of(0.8, 60000, &last_ms) <= PASSES_MAX && last_ms < PASS_LONG_MS);
	assert_int_equal(passes_of(1, 5000, &last_ms), 1 + PASSES_VAIN_MAX); // it writes as fast as its disk
	assert_true(passes_of(0.89, 3600000, &last_ms) <= PASSES_MAX);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	log_init("test_stopping", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		TEST(a_stop_that_goes_on_is_waited_for_to_its_end),
		TEST(a_sync_that_goes_on_is_no_disk_that_hangs),
		TEST(what_guests_wrote_is_on_the_disks_before_anything_closes),
		TEST(passes_go_on_until_one_takes_no_time_or_they_are_in_vain),
		TEST(an_export_that_comes_meanwhile_is_asked_too),
		TEST(what_guests_wrote_while_the_stop_began_is_waited_for_too),
		TEST(a_stop_that_hangs_ends_the_exports_and_is_given_up), // the last: its thread may still end
	};
	return cmocka_run_group_tests_name("stopping", tests, NULL, NULL);
}
