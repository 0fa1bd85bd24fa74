// SPDX-License-Identifier: Apache-2.0
// The way of large reads, against clients whose time for a MiB in each way is given.
#include "replicator/send_way.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

enum { DEPTH_MAX = 64 };

// Asks for a read when one has left, and has `depth` under way.
struct client {
	struct send_way way;
	uint64_t now_ns, sent[SEND_WAYS]; // bytes
	uint64_t cost_ns[SEND_WAYS];	  // for 1 MiB
	uint64_t burst, pause_ns;	  // after so many bytes it rests; 0: it does not
	unsigned depth;			  // 0: one at a time
	unsigned clump;			  // asks for so many at once, when as many have left; 0: for each one by itself
	enum send_by under_way[DEPTH_MAX];
	unsigned first, count; // of them
};

static struct client client_of(uint64_t in_place_us, uint64_t copied_us)
{
	return (struct client){.now_ns = 1, .cost_ns = {[SEND_IN_PLACE] = in_place_us * 1000, [SEND_COPIED] = copied_us * 1000}};
}

static void client_read(struct client *c, uint64_t bytes, uint64_t len)
{
	for (uint64_t done = 0; done < bytes; done += len) {
		if (c->burst && done && done % c->burst == 0)
			c->now_ns += c->pause_ns;
		unsigned depth = c->depth ? c->depth : 1;
		for (unsigned n = c->count == depth ? c->clump ? c->clump : 1 : 0; n > 0; n--) { // the oldest leave
			c->now_ns += c->cost_ns[c->under_way[c->first]] * len / MIB;
			c->first = (c->first + 1) % DEPTH_MAX;
			c->count--;
		}
		enum send_by by = send_way_next(&c->way, len, (c->count + 1) * len, c->now_ns);
		c->under_way[(c->first + c->count++) % DEPTH_MAX] = by;
		c->sent[by] += len;
	}
}

// What trials take of a way that is not the better one: two windows each, and a read until it is seen that one is full.
static uint64_t trials_most(unsigned trials, uint64_t len)
{
	uint64_t window = SEND_WINDOW_READS * len > SEND_WINDOW_BYTES ? SEND_WINDOW_READS * len : SEND_WINDOW_BYTES; // one under way: less than that
	return trials * (uint64_t)SEND_TRIAL_WINDOWS / 2 * (SEND_SETTLE_BYTES + window + 4 * len);
}

static void client_that_is_slow_with_pages_gets_copies(void **state)
{
	(void)state;
	for (uint64_t len = 64 << 10; len <= 4 * MIB; len *= 4) {
		struct client c = client_of(560, 315);
		client_read(&c, 4 * GIB, len);
		assert_int_equal(c.way.better, SEND_COPIED);
		assert_true(c.sent[SEND_IN_PLACE] <= SEND_FIRST_REST + len + trials_most(2, len)); // at 16 MiB, and 2 GiB later
		assert_true(c.sent[SEND_COPIED] > 3 * GIB);
	}
}

static void client_that_is_quick_with_pages_gets_them_in_place(void **state)
{
	(void)state;
	for (uint64_t len = 64 << 10; len <= 4 * MIB; len *= 4) {
		struct client c = client_of(190, 315);
		client_read(&c, 32 * GIB, len);
		assert_int_equal(c.way.better, SEND_IN_PLACE);
		assert_true(c.sent[SEND_COPIED] >= SEND_TRIAL_WINDOWS / 2 * (SEND_SETTLE_BYTES + SEND_WINDOW_BYTES)); // it was tried
		assert_true(c.sent[SEND_COPIED] <= trials_most(5, len)); // at 16 MiB, and 2, 6, 14, 30 GiB
	}
}

// A read that is asked for tells of one that was asked for long before.
static void however_much_is_under_way_the_right_way_is_judged(void **state)
{
	(void)state;
	for (unsigned depth = 1; depth <= DEPTH_MAX; depth *= 2)
		for (uint64_t len = 64 << 10; len <= 32 * MIB && len * depth <= 64 * MIB; len *= 8) {
			for (unsigned clump = 1; clump <= depth; clump *= 2) {
				struct client slow = client_of(560, 315), quick = client_of(190, 315);
				slow.depth = quick.depth = depth;
				slow.clump = quick.clump = clump;
				client_read(&slow, 4 * GIB, len);
				client_read(&quick, 4 * GIB, len);
				assert_int_equal(slow.way.better, SEND_COPIED);
				assert_int_equal(quick.way.better, SEND_IN_PLACE);
			}
		}
}

// What the reads of the other way took that were still leaving would hide it.
static void what_was_under_way_is_in_no_window(void **state)
{
	(void)state;
	for (unsigned depth = 16; depth <= DEPTH_MAX; depth *= 2) {
		struct client c = client_of(200, 170);
		c.depth = depth;
		client_read(&c, 4 * GIB, MIB); // two trials: at the first one nothing was under way yet
		assert_int_equal(c.way.better, SEND_COPIED);
	}
}

static void copies_are_to_be_clearly_better(void **state)
{
	(void)state;
	struct client c = client_of(200, 185), d = client_of(200, 175);
	client_read(&c, GIB, MIB);
	client_read(&d, GIB, MIB);
	assert_int_equal(c.way.better, SEND_IN_PLACE);
	assert_int_equal(d.way.better, SEND_COPIED);
}

// Each window of a trial in turn takes long for reasons of its own.
static void one_disturbed_window_decides_nothing(void **state)
{
	(void)state;
	for (unsigned slow = 1; slow <= SEND_TRIAL_WINDOWS; slow++)
		for (int quick = 0; quick < 2; quick++) {
			struct client c = quick ? client_of(190, 315) : client_of(560, 315);
			unsigned windows = 0;
			bool disturbed = false;
			for (unsigned i = 0; i < 512; i++) {
				client_read(&c, MIB, MIB);
				windows = c.way.windows ? SEND_TRIAL_WINDOWS + 1 - c.way.windows : windows;
				if (windows == slow && c.way.reads && !disturbed) {
					c.now_ns += 10 * 1000 * 1000;
					disturbed = true;
				}
			}
			assert_true(disturbed);
			assert_int_equal(c.way.better, quick ? SEND_IN_PLACE : SEND_COPIED);
		}
}

static void s2_a_client_that_rests_between_bursts_is_judged_by_the_bursts(void **state)
{
	(void)state;
	for (int quick = 0; quick < 2; quick++) {
		struct client c = quick ? client_of(300, 280) : client_of(560, 315); // it takes little to be misled about the first
		c.burst = 3 * MIB;
		for (unsigned i = 0; i < 200; i++) {
			c.pause_ns = 30 * 1000 * 1000 + (i * 7919 % 97) * 5 * 1000 * 1000; // of any length
			client_read(&c, 6 * MIB, MIB);
		}
		assert_int_equal(c.way.better, quick ? SEND_IN_PLACE : SEND_COPIED);
	}
}

static void client_that_becomes_another_is_found_out(void **state)
{
	(void)state;
	struct client c = client_of(560, 315);
	client_read(&c, 8 * GIB, MIB);
	assert_int_equal(c.way.better, SEND_COPIED);
	c.cost_ns[SEND_IN_PLACE] = 190 * 1000;
	client_read(&c, 8 * GIB, MIB); // its rest is 8 GiB by now, of which some is over
	assert_int_equal(c.way.better, SEND_IN_PLACE);
	assert_int_equal(c.way.rest, SEND_REST_MIN);
	c.cost_ns[SEND_IN_PLACE] = 560 * 1000;
	client_read(&c, 3 * GIB, MIB);
	assert_int_equal(c.way.better, SEND_COPIED);
}

static void few_reads_try_nothing(void **state)
{
	(void)state;
	struct client c = client_of(560, 315);
	client_read(&c, SEND_FIRST_REST, 64 << 10);
	assert_int_equal(c.sent[SEND_COPIED], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(client_that_is_slow_with_pages_gets_copies),
		cmocka_unit_test(client_that_is_quick_with_pages_gets_them_in_place),
		cmocka_unit_test(however_much_is_under_way_the_right_way_is_judged),
		cmocka_unit_test(what_was_under_way_is_in_no_window),
		cmocka_unit_test(copies_are_to_be_clearly_better),
		cmocka_unit_test(one_disturbed_window_decides_nothing),
		cmocka_unit_test(s2_a_client_that_rests_between_bursts_is_judged_by_the_bursts),
		cmocka_unit_test(client_that_becomes_another_is_found_out),
		cmocka_unit_test(few_reads_try_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
