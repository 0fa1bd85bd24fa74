// SPDX-License-Identifier: Apache-2.0
// With sanitizers in full runs only: what it goes through others do as well, and it takes long.
// Long passes: what is equal is found by few bytes, however long the line, and what differs comes over, whatever the guest does meanwhile.
#include "base/log.h"
#include "receiver/scrub.h"
#include "replicator/compare.h"
#include "tests/lib/cut_proxy.h"
#include "tests/lib/replication.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// More than CYCLE_PRECOPY_BYTES, so that a pass of everything is a long one; with ends within a span and within a block.
enum { BLOCKS_0 = 1100, BLOCKS_1 = 70 };
static const uint64_t sizes[] = {(BLOCKS_0 - 1) * BLOCK_SIZE + 3 * PIECE_SIZE, BLOCKS_1 * BLOCK_SIZE};

static void fill(struct replication *r)
{
	for (uint64_t b = 0; b < BLOCKS_0; b += 1 + b % 3) { // runs of zeros between
		uint64_t word[2] = {draw(&r->seed) | 1, b};
		memory_source_write(&r->memory, 0, b * BLOCK_SIZE + 512, word, sizeof(word));
	}
}

static int setup_kind(void **state, enum digest_kind kind)
{
	struct replication *r = malloc(sizeof(*r));
	replication_begin(r, 2, sizes, 23);
	r->open.digest.kind = kind;
	r->nodes = true;
	fill(r);
	*state = r;
	return 0;
}

static int setup(void **state)
{
	return setup_kind(state, DIGEST_XXH3);
}

static int setup_blake2b(void **state)
{
	return setup_kind(state, DIGEST_BLAKE2B);
}

static int teardown(void **state)
{
	replication_end(*state);
	free(*state);
	return 0;
}

static void everything_again(struct replication *r)
{
	source_mark_all(&r->memory.source);
	r->memory.blocks_fetched = r->memory.blocks_looked_at = 0;
}

static void change(struct replication *r, uint64_t block)
{
	unsigned char byte = (unsigned char)(draw(&r->seed) | 1);
	memory_source_write(&r->memory, 0, block * BLOCK_SIZE + 5 * PIECE_SIZE, &byte, 1);
}

static void equal_disk_costs_a_few_bytes_a_span(void **state)
{
	struct replication *r = *state;
	replication_connect_now(r);
	replication_cycle_now(r);
	everything_again(r);
	uint64_t out = channel_bytes_out(r->channel), in = channel_bytes_in(r->channel);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.equal_blocks, BLOCKS_0 + BLOCKS_1);
	assert_int_equal(r->report.ship.sent_blocks + r->report.ship.zero_blocks, 0);
	// The first stretch block by block, 16 bytes each; then at most 7 spans, and what frames and records cost.
	assert_true(channel_bytes_out(r->channel) - out < STRETCH_BLOCKS_MIN * DIGEST_SIZE + 7 * 100 + 2000);
	assert_true(channel_bytes_in(r->channel) - in < 3000);
	assert_int_equal(r->memory.blocks_fetched, STRETCH_BLOCKS_MIN); // the others were looked at once, and no more
	assert_int_equal(r->memory.blocks_looked_at, BLOCKS_0 + BLOCKS_1 - STRETCH_BLOCKS_MIN);
	assert_int_equal(replication_check(r), 2);
}

static void few_differences_cost_their_spans_and_are_read_again_alone(void **state)
{
	struct replication *r = *state;
	replication_connect_now(r);
	replication_cycle_now(r);
	everything_again(r);
	static const uint64_t at[] = {300, 301, 900, 1023, 1024, BLOCKS_0 - 1};
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]) - 1; i++)
		change(r, at[i]);
	unsigned char byte = 77;
	memory_source_write(&r->memory, 0, (BLOCKS_0 - 1) * BLOCK_SIZE, &byte, 1);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.sent_blocks, 6);
	assert_int_equal(r->memory.blocks_fetched, STRETCH_BLOCKS_MIN + 6);
	assert_true(r->report.wire_bytes < STRETCH_BLOCKS_MIN * DIGEST_SIZE + 5 * (256 * DIGEST_SIZE + 200) + 6 * 1000 + 4000);
	assert_int_equal(replication_check(r), 2);
}

static void where_much_differs_nothing_is_read_twice(void **state)
{
	struct replication *r = *state;
	replication_connect_now(r);
	replication_cycle_now(r);
	everything_again(r);
	for (uint64_t b = 0; b < BLOCKS_0 - 1; b += 2)
		change(r, b);
	replication_cycle_now(r);
	assert_int_equal(r->memory.blocks_looked_at, 0);
	assert_int_equal(r->memory.blocks_fetched, BLOCKS_0 + BLOCKS_1);
	assert_int_equal(replication_check(r), 2);
}

// Equal at first, then other: the survey gives up on itself before much was read for nothing.
static void survey_that_meets_what_differs_goes_back_to_sending(void **state)
{
	struct replication *r = *state;
	replication_connect_now(r);
	replication_cycle_now(r);
	everything_again(r);
	for (uint64_t b = 700; b < BLOCKS_0 - 1; b++)
		change(r, b);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.sent_blocks, BLOCKS_0 - 1 - 700);
	assert_true(r->memory.blocks_looked_at > 250 && r->memory.blocks_looked_at <= 700 + 2 * SURVEY_WINDOW_MIN);
	assert_int_equal(replication_check(r), 2);
}

static void guest_between_batches(struct memory_source *memory, void *context)
{
	memory_source_random(memory, context);
}

static void guest_that_writes_during_a_survey_is_in_the_point(void **state)
{
	struct replication *r = *state;
	replication_connect_now(r);
	replication_cycle_now(r);
	r->memory.guest = guest_between_batches;
	r->memory.context = &r->seed;
	for (unsigned i = 0; i < 3; i++) {
		everything_again(r);
		r->memory.batch_blocks = i % 2 ? SOURCE_BATCH_MAX : 7;
		for (unsigned n = 0; n < 40 * i; n++)
			memory_source_random(&r->memory, &r->seed);
		replication_cycle_now(r);
		assert_true(r->memory.blocks_looked_at > 0);
	}
	assert_int_equal(replication_check(r), 4);
}

static void receiver_without_nodes_is_asked_block_by_block(void **state)
{
	struct replication *r = *state;
	replication_connect_now(r);
	replication_cycle_now(r);
	everything_again(r);
	r->nodes = false;
	replication_cycle_now(r);
	assert_int_equal(r->memory.blocks_looked_at, 0);
	assert_int_equal(r->report.ship.equal_blocks, BLOCKS_0 + BLOCKS_1);
	assert_int_equal(replication_check(r), 2);
}

static void holes_are_told_and_not_read(void **state)
{
	struct replication *r = *state;
	r->memory.sparse = true;
	replication_connect_now(r);
	replication_cycle_now(r);
	uint64_t holes = r->report.ship.hole_blocks;
	assert_true(holes > BLOCKS_0 / 4);
	assert_int_equal(r->memory.blocks_fetched + holes, BLOCKS_0 + BLOCKS_1);
	// Where the receiver holds something, and there is a hole now, it becomes zeros there.
	unsigned char zeros[4096] = {0};
	memory_source_write(&r->memory, 0, 0, zeros, sizeof(zeros));
	memory_source_write(&r->memory, 0, BLOCK_SIZE, zeros, sizeof(zeros));
	everything_again(r);
	replication_cycle_now(r);
	assert_true(r->report.ship.hole_blocks > holes);
	assert_int_equal(replication_check(r), 2);
}

// A line of 100 ms: without many requests in flight each batch of 64 blocks would be a turn, 18 of them.
static void long_line_does_not_slow_a_survey(void **state)
{
	struct replication *r = *state;
	struct cut_proxy *proxy = cut_proxy_start(server_address(r->server));
	replication_connect_now(r);
	replication_cycle_now(r);
	everything_again(r);
	cut_proxy_delay(proxy, 50);
	assert_int_equal(replication_connect(r, cut_proxy_address(proxy), NULL), 0);
	uint64_t before = cut_proxy_turns(proxy);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.equal_blocks, BLOCKS_0 + BLOCKS_1);
	// One for the first stretch, a few until the window has opened, one for SEAL.
	assert_true(cut_proxy_turns(proxy) - before <= 10);
	assert_int_equal(replication_check(r), 2);
	replication_disconnect(r);
	cut_proxy_stop(proxy);
}

static void source_that_fails_in_a_survey_leaves_the_connection_sound(void **state)
{
	struct replication *r = *state;
	replication_connect_now(r);
	replication_cycle_now(r);
	for (unsigned at = 6; at < 24; at += 8) {
		everything_again(r);
		change(r, 400 + at);
		r->memory.fail_at = at;
		r->memory.fail_code = -EIO;
		r->memory.fails = 1;
		assert_int_equal(replication_cycle(r), -EIO);
		assert_true(source_dirty_bytes(&r->memory.source) >= sizes[0]); // nothing of it is forgotten
		replication_connect_now(r);
		replication_cycle_now(r);
	}
	(void)replication_check(r);
}

static void block_that_cannot_be_read_ends_the_survey_and_is_looked_at_again(void **state)
{
	struct replication *r = *state;
	replication_connect_now(r);
	replication_cycle_now(r);
	everything_again(r);
	change(r, 800);
	r->memory.unreadable = 1 + 777;
	assert_int_equal(replication_cycle(r), -EIO);
	assert_true(r->memory.given_up && source_dirty_bytes(&r->memory.source) >= sizes[0]);
	r->memory.unreadable = 0;
	replication_connect_now(r); // of the lib: a failed cycle ended it
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.sent_blocks, 1);
	assert_int_equal(replication_check(r), 2);
}

static void connection_cut_in_a_survey_costs_no_point(void **state)
{
	struct replication *r = *state;
	struct cut_proxy *proxy = cut_proxy_start(server_address(r->server));
	replication_connect_now(r);
	replication_cycle_now(r);
	for (unsigned i = 0; i < 6; i++) {
		everything_again(r);
		change(r, 300 + 100 * i);
		cut_proxy_limit(proxy, i % 2 ? PROXY_UP : PROXY_DOWN, (i % 2 ? 3000 : 1800) + 400 * i);
		if (replication_connect(r, cut_proxy_address(proxy), NULL) == 0)
			(void)replication_cycle(r);
		replication_connect_now(r);
		replication_cycle_now(r);
	}
	(void)replication_check(r);
	cut_proxy_stop(proxy);
}

static void damaged_block_makes_its_nodes_unequal(void **state)
{
	struct replication *r = *state;
	replication_connect_now(r);
	replication_cycle_now(r);
	struct replica *replica = store_find(r->store, r->open.name);
	char name[320];
	struct env_file *file = NULL;
	(void)snprintf(name, sizeof(name), "%s/base/%s.raw", r->open.name, r->open.disk[1].name);
	assert_int_equal(env_open(r->store_root, name, ENV_WRITE, &file), 0); // that disk is zeros, and in no overlay
	assert_int_equal(env_pwrite(file, "X", 1, 66 * BLOCK_SIZE), 0);
	env_close(file);
	struct scrub_step step = {.ended = false};
	assert_int_equal(scrub_begin(replica, 0, SCRUB_RATE_DEFAULT, NULL), 0);
	while (!step.ended)
		assert_int_equal(scrub_slice(replica, &step, NULL), 0);
	replication_disconnect(r);
	replication_connect_now(r);
	everything_again(r);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.zero_blocks + r->report.ship.sent_blocks, 1);
	assert_int_equal(replica_sound(replica, 2, NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define BOTH(name) TEST(name), {#name "_blake2b", name, setup_blake2b, teardown, NULL}

int main(void)
{
	log_init("test_compare", LOG_LEVEL_ERROR);
	(void)signal(SIGPIPE, SIG_IGN); // as the daemons do
	const struct CMUnitTest tests[] = {
		BOTH(equal_disk_costs_a_few_bytes_a_span),
		TEST(few_differences_cost_their_spans_and_are_read_again_alone),
		TEST(where_much_differs_nothing_is_read_twice),
		TEST(survey_that_meets_what_differs_goes_back_to_sending),
		BOTH(guest_that_writes_during_a_survey_is_in_the_point),
		TEST(receiver_without_nodes_is_asked_block_by_block),
		TEST(holes_are_told_and_not_read),
		TEST(long_line_does_not_slow_a_survey),
		TEST(source_that_fails_in_a_survey_leaves_the_connection_sound),
		TEST(block_that_cannot_be_read_ends_the_survey_and_is_looked_at_again),
		TEST(connection_cut_in_a_survey_costs_no_point),
		TEST(damaged_block_makes_its_nodes_unequal),
	};
	return cmocka_run_group_tests_name("compare", tests, NULL, NULL);
}
