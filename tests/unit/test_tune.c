// SPDX-License-Identifier: Apache-2.0
// How hard `--codec auto` compresses: against models of links and cores, where the right level is known.
#include "replicator/tune.h"

#include "tests/lib/twin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MS = 1000000 };

struct world {
	uint64_t link_rate;		 // bytes a second on the wire
	uint64_t pack_rate[TUNE_STEPS];	 // bytes of the disk a second that the cores pack
	unsigned packed_percent[TUNE_STEPS];
};

// What one sample of a second shows: the slower part is waited for, the whole second long.
static struct tune_sample sample_of(const struct world *w, unsigned step, unsigned noise_percent)
{
	uint64_t by_link = w->link_rate * 100 / w->packed_percent[step], by_cores = w->pack_rate[step];
	uint64_t rate = (by_link < by_cores ? by_link : by_cores) / 100 * noise_percent;
	bool link = by_link < by_cores;
	uint64_t waited = UINT64_C(1000) * MS / 100 * 90;
	return (struct tune_sample){.plain_bytes = rate,
				    .wire_bytes = rate / 100 * w->packed_percent[step],
				    .send_ns = link ? waited : 50 * MS,
				    .pack_ns = link ? 50 * MS : waited,
				    .wall_ns = UINT64_C(1000) * MS};
}

static const struct world cores = {0, {900 << 20, 700 << 20, 500 << 20, 250 << 20, 90 << 20}, {62, 55, 47, 44, 41}};

static unsigned settle(uint64_t link_rate, struct tune *tune, unsigned samples)
{
	struct world w = cores;
	w.link_rate = link_rate;
	uint64_t seed = 3;
	unsigned moves = 0;
	for (unsigned i = 0; i < samples; i++) {
		unsigned before = tune->step;
		struct tune_sample sample = sample_of(&w, tune->step, 99 + (unsigned)draw_below(&seed, 3));
		tune_take(tune, &sample);
		moves += tune->step != before;
	}
	return moves;
}

static void slow_link_is_given_fewer_bytes_and_a_fast_one_faster_ones(void **state)
{
	(void)state;
	struct tune tune;
	tune_init(&tune);
	assert_int_equal(tune_level(&tune), 1);
	(void)settle(2500000, &tune, 30); // 20 Mbit/s
	assert_int_equal(tune.step, TUNE_STEPS - 1);
	assert_int_equal(tune.limit, TUNE_LINK);
	assert_int_equal(tune.steps_taken_back, 0);
	(void)settle(UINT64_C(5000) << 20, &tune, 30); // and then a fast one
	assert_int_equal(tune.step, 0);
	assert_int_equal(tune.limit, TUNE_CORES);
}

// Where a step up makes the cores the limit, and a step down the link: it stays by the better one, and tries seldom.
static void between_two_steps_it_does_not_swing(void **state)
{
	(void)state;
	struct tune tune;
	tune_init(&tune);
	(void)settle(UINT64_C(180) << 20, &tune, 50);
	unsigned moves = settle(UINT64_C(180) << 20, &tune, 1000);
	assert_true(moves <= 4 * 1000 / TUNE_PATIENCE_MAX);
}

// A receiver that is slow by itself looks like a slow link: harder compression brings nothing.
static void step_that_brings_less_is_taken_back_and_tried_ever_more_seldom(void **state)
{
	(void)state;
	struct tune tune;
	tune_init(&tune);
	unsigned tries[2] = {0}, half = 400;
	for (unsigned i = 0; i < 2 * half; i++) {
		unsigned step = tune.step;
		struct tune_sample sample = {.plain_bytes = (uint64_t)(300 - 30 * (int)step) << 20, .wire_bytes = 1, .wall_ns = UINT64_C(1000) * MS};
		sample.send_ns = sample.wall_ns / 100 * 95;
		tune_take(&tune, &sample);
		tries[i / half] += tune.step > step;
	}
	assert_int_equal(tune.steps_kept, 0);
	assert_true(tune.steps_taken_back >= 5);
	assert_true(tries[1] < tries[0]);
	assert_true(tries[1] <= half / TUNE_PATIENCE_MAX + 1);
}

static void one_sample_that_differs_moves_nothing(void **state)
{
	(void)state;
	struct tune tune;
	tune_init(&tune);
	for (unsigned i = 0; i < 100; i++) {
		struct tune_sample sample = {.plain_bytes = 1 << 20, .wall_ns = UINT64_C(1000) * MS};
		sample.send_ns = i % 2 ? sample.wall_ns : 0;
		sample.pack_ns = i % 2 ? 0 : sample.wall_ns;
		tune_take(&tune, &sample);
		assert_int_equal(tune_level(&tune), 1);
	}
}

static void whatever_it_sees_the_step_is_one_of_its_own(void **state)
{
	(void)state;
	struct tune tune;
	uint64_t seed = 77;
	tune_init(&tune);
	for (unsigned i = 0; i < 100000; i++) {
		struct tune_sample sample = {.plain_bytes = draw(&seed) >> draw_below(&seed, 64), .send_ns = draw(&seed) >> (1 + draw_below(&seed, 63)),
					     .pack_ns = draw(&seed) >> (1 + draw_below(&seed, 63)), .wall_ns = draw(&seed) >> (1 + draw_below(&seed, 63))};
		tune_take(&tune, &sample);
		assert_true(tune.step < TUNE_STEPS);
		assert_true(tune.patience[0] <= TUNE_PATIENCE_MAX && tune.patience[1] <= TUNE_PATIENCE_MAX);
	}
	assert_false(tune_sample_full(&(struct tune_sample){.plain_bytes = TUNE_SAMPLE_BYTES - 1, .wall_ns = UINT64_MAX}));
	assert_false(tune_sample_full(&(struct tune_sample){.plain_bytes = UINT64_MAX, .wall_ns = TUNE_SAMPLE_MS * MS - 1}));
	assert_true(tune_sample_full(&(struct tune_sample){.plain_bytes = TUNE_SAMPLE_BYTES, .wall_ns = TUNE_SAMPLE_MS * MS}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slow_link_is_given_fewer_bytes_and_a_fast_one_faster_ones),
		cmocka_unit_test(between_two_steps_it_does_not_swing),
		cmocka_unit_test(step_that_brings_less_is_taken_back_and_tried_ever_more_seldom),
		cmocka_unit_test(one_sample_that_differs_moves_nothing),
		cmocka_unit_test(whatever_it_sees_the_step_is_one_of_its_own),
	};
	return cmocka_run_group_tests_name("tune", tests, NULL, NULL);
}
