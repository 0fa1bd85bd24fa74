// SPDX-License-Identifier: Apache-2.0
// Threads that work in rounds (base/worker.h).
#include "base/worker.h"

#include "base/auto.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define NEVER_NS UINT64_C(3600000000000)

struct rounds {
	struct worker worker;
	enum worker_wait kind;
	uint64_t ns;
	pthread_mutex_t lock;
	pthread_cond_t moved;
	unsigned waits, rounds; // begun, and ended with more to do
	bool ended;
};

static void *run(void *context)
{
	struct rounds *r = context;
	bool more = true;
	while (more) {
		{
			LOCK_SCOPE(&r->lock);
			r->waits++;
			(void)pthread_cond_broadcast(&r->moved);
		}
		more = worker_wait(&r->worker, r->ns, r->kind);
		LOCK_SCOPE(&r->lock);
		r->rounds += more;
		r->ended = !more;
		(void)pthread_cond_broadcast(&r->moved);
	}
	return NULL;
}

static void begin(struct rounds *r, enum worker_wait kind, uint64_t ns)
{
	*r = (struct rounds){.kind = kind, .ns = ns};
	(void)pthread_mutex_init(&r->lock, NULL);
	(void)pthread_cond_init(&r->moved, NULL);
	assert_int_equal(worker_start(&r->worker, "kagami-rounds", run, r), 0);
}

static void end(struct rounds *r)
{
	worker_stop(&r->worker);
	assert_true(r->ended);
	(void)pthread_cond_destroy(&r->moved);
	(void)pthread_mutex_destroy(&r->lock);
}

static void until(struct rounds *r, const unsigned *count, unsigned least)
{
	LOCK_SCOPE(&r->lock);
	while (*count < least)
		(void)pthread_cond_wait(&r->moved, &r->lock);
}

static void each_wake_ends_one_wait(void **unused)
{
	struct rounds r;
	(void)unused;
	begin(&r, WORKER_WAKES, NEVER_NS);
	for (unsigned n = 1; n <= 50; n++) {
		worker_wake(&r.worker); // also before the wait has begun
		until(&r, &r.rounds, n);
	}
	until(&r, &r.waits, 51);
	end(&r);
	assert_int_equal(r.rounds, 50);
}

static void rest_is_ended_by_no_wake(void **unused)
{
	struct rounds r;
	(void)unused;
	begin(&r, WORKER_RESTS, NEVER_NS);
	until(&r, &r.waits, 1);
	for (unsigned n = 0; n < 50; n++)
		worker_wake(&r.worker);
	end(&r); // but by this
	assert_int_equal(r.rounds, 0);
}

// What came in during a rest must not wait for the next whole round.
static void wake_during_a_rest_ends_the_wait_after_it(void **unused)
{
	struct worker w = {.woken = false}; // the thread is this one
	pthread_condattr_t monotonic;
	(void)unused;
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_mutex_init(&w.lock, NULL);
	(void)pthread_cond_init(&w.wake, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	worker_wake(&w);
	assert_true(worker_wait(&w, 1, WORKER_RESTS));
	assert_true(w.woken);
	assert_true(worker_wait(&w, NEVER_NS, WORKER_WAKES));
	assert_false(w.woken);
	(void)pthread_cond_destroy(&w.wake);
	(void)pthread_mutex_destroy(&w.lock);
}

static void rounds_go_on_by_themselves(void **unused)
{
	struct rounds r;
	(void)unused;
	begin(&r, WORKER_WAKES, 1000);
	until(&r, &r.rounds, 3);
	end(&r);
	begin(&r, WORKER_RESTS, 0); // no wait at all
	until(&r, &r.rounds, 3);
	end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_wake_ends_one_wait),
		cmocka_unit_test(rest_is_ended_by_no_wake),
		cmocka_unit_test(wake_during_a_rest_ends_the_wait_after_it),
		cmocka_unit_test(rounds_go_on_by_themselves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
