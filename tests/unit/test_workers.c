// SPDX-License-Identifier: Apache-2.0
// Whether the kernel has workers for a ring: the completions of the questions are ours, so that no limit is needed.
#include "replicator/workers.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct ring ring;
static struct workers workers;
static unsigned changes;

static void on_changed(struct workers *of)
{
	assert_true(of == &workers && of->missing == ring.workerless);
	changes++;
}

static int set_up(void **state)
{
	struct err err = {0};
	(void)state;
	changes = 0;
	if (ring_open(&ring, &err) || ring_init(&ring, &err))
		fail_msg("%s", err.text);
	workers_begin(&workers, &ring, on_changed);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	ring_refuse(&ring);
	ring_done(&ring);
	ring_close(&ring);
	return 0;
}

static int bounded_code, unbounded_code; // in the place of the kernel's next answers; 0: as they are
static void (*took_bounded)(struct ring_op *op, int res), (*took_unbounded)(struct ring_op *op, int res);

static void on_unbounded(struct ring_op *op, int res)
{
	took_unbounded(op, unbounded_code ? unbounded_code : res);
}

static void on_bounded(struct ring_op *op, int res)
{
	workers.unbounded.done = NULL;
	took_bounded(op, bounded_code ? bounded_code : res);
	took_unbounded = workers.unbounded.done;
	if (took_unbounded)
		workers.unbounded.done = on_unbounded;
}

static void answered(int bounded, int unbounded)
{
	bounded_code = bounded;
	unbounded_code = unbounded;
	assert_true(workers.asked);
	took_bounded = workers.bounded.done;
	workers.bounded.done = on_bounded;
	while (workers.asked)
		assert_int_equal(ring_turn(&ring), 0);
}

// Its time has come.
static void come_again(unsigned ms)
{
	assert_true(workers.again.due_ns == workers.again.since_ns + ms * UINT64_C(1000000));
	workers.again.due_ns = 0;
	workers.again.expired(&workers.again);
}

// Nothing is given to workers that may not be there: until they have answered, and again from when one was missed.
static void workers_are_missing_until_both_kinds_have_answered(void **state)
{
	(void)state;
	assert_true(ring.workerless);
	assert_false(workers.missing); // nobody knows yet
	answered(0, 0);
	assert_false(ring.workerless);
	assert_int_equal(changes, 0);
}

static void one_kind_that_is_missing_is_asked_for_until_it_is_there(void **state)
{
	(void)state;
	static const unsigned waits_ms[] = {1000, 2000, 4000, 8000, 8000};
	answered(-ECANCELED, 0);
	assert_true(ring.workerless && workers.missing);
	assert_int_equal(changes, 1);
	for (unsigned i = 0; i < sizeof(waits_ms) / sizeof(*waits_ms); i++) {
		come_again(waits_ms[i]);
		answered(0, -ECANCELED); // the other
		assert_true(ring.workerless && workers.missing);
	}
	assert_int_equal(changes, 1);
	come_again(8000);
	assert_true(ring.workerless && workers.missing);
	answered(0, 0);
	assert_false(ring.workerless || workers.missing);
	assert_int_equal(changes, 2);
}

static void operation_that_was_cancelled_has_them_asked_for_once(void **state)
{
	(void)state;
	answered(0, 0);
	for (unsigned i = 0; i < 3; i++) // several were under way
		workers_cancelled(&workers);
	assert_true(ring.workerless && workers.missing);
	assert_int_equal(changes, 1);
	come_again(1000);
	workers_cancelled(&workers); // a read, that tried its luck
	answered(0, 0);
	assert_false(ring.workerless || workers.missing);
	assert_int_equal(changes, 2);
}

// What a question says that is no cancellation, a worker says: an old kernel knows other errors.
static void any_other_answer_is_a_workers(void **state)
{
	(void)state;
	answered(-EINVAL, -EINVAL);
	assert_false(ring.workerless || workers.missing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(workers_are_missing_until_both_kinds_have_answered, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_kind_that_is_missing_is_asked_for_until_it_is_there, set_up, tear_down),
		cmocka_unit_test_setup_teardown(operation_that_was_cancelled_has_them_asked_for_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(any_other_answer_is_a_workers, set_up, tear_down),
	};
	return cmocka_run_group_tests_name("workers", tests, NULL, NULL);
}
