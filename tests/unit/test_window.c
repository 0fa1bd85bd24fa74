// SPDX-License-Identifier: Apache-2.0
// C3 for a delta whose blocks leave without a question: a session is cut where its blocks are on their way, and no more is sent twice than what
// lay in the batches and in the source's socket, at most WINDOW_BYTES. The next session asks about every block, and its point is what the source held.
// KAGAMI_CUT_STEP=1 (`make test-cuts`): at many more places.
#include "base/log.h"
#include "tests/lib/cut_proxy.h"
#include "tests/lib/replication.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 320, CUTS = 10, CUTS_DEEP = 200, CUTS_PER_STORE = 10, WINDOW_BYTES = 8 << 20 };

struct trial {
	struct replication r;
	struct cut_proxy *proxy;
	unsigned char block[BLOCK_SIZE];
	unsigned cut, unasked; // sessions that the line ended; those whose blocks left without a question
	uint64_t most;
};

// Bytes that do not shrink, so that what is on its way is as much as was written.
static void guest_writes(struct trial *t, uint64_t blocks)
{
	for (uint64_t b = 0; b < blocks; b++) {
		for (size_t at = 0; at < BLOCK_SIZE; at += sizeof(uint64_t)) {
			uint64_t word = draw(&t->r.seed);
			memcpy(t->block + at, &word, sizeof(word));
		}
		memory_source_write(&t->r.memory, 0, b * BLOCK_SIZE, t->block, BLOCK_SIZE);
	}
}

static void trial_begin(struct trial *t)
{
	uint64_t size = (uint64_t)BLOCKS * BLOCK_SIZE;
	replication_begin(&t->r, 1, &size, 7);
	t->r.open.points_keep = 2;
	t->r.written = true;
	t->proxy = cut_proxy_start(server_address(t->r.server));
	cut_proxy_buffer(t->proxy, BLOCK_SIZE);
	guest_writes(t, BLOCKS);
	replication_connect_now(&t->r);
	replication_cycle_now(&t->r); // asks about all, in vain: from here on questions are not worth it
}

static void trial_end(struct trial *t)
{
	cut_proxy_stop(t->proxy);
	replication_end(&t->r);
}

// A small point, so that this connection knows the head; then a delta, of which so many bytes arrive.
static void cut_at(struct trial *t, uint64_t at)
{
	struct replication *r = &t->r;
	replication_disconnect(r);
	cut_proxy_limit(t->proxy, PROXY_UP, at);
	guest_writes(t, 1);
	assert_int_equal(replication_connect(r, cut_proxy_address(t->proxy), NULL), 0);
	replication_cycle_now(r);
	guest_writes(t, BLOCKS);
	bool failed = replication_cycle(r) != 0;
	uint64_t first = r->report.ship.sent_blocks, unasked = r->report.ship.unasked_blocks;
	assert_true(failed);
	t->unasked += unasked > 0; // else the session before found that what it asked about was there: the next questions are worth it
	t->cut++;
	replication_connect_now(r);
	replication_cycle_now(r);
	assert_true(r->report.ship.unasked_blocks == 0); // after a cut it asks about all
	uint64_t twice = first + r->report.ship.sent_blocks - BLOCKS;
	t->most = twice > t->most ? twice : t->most;
	if (twice > WINDOW_BYTES / BLOCK_SIZE)
		fail_msg("cut at byte %llu: %llu blocks were sent twice", (unsigned long long)at, (unsigned long long)twice);
	(void)replication_check(r);
}

static void delta_without_questions_sends_a_bounded_window_twice(void **state)
{
	(void)state;
	const char *step = getenv("KAGAMI_CUT_STEP");
	unsigned cuts = step && strcmp(step, "1") == 0 ? CUTS_DEEP : CUTS;
	const uint64_t low = 4 * BLOCK_SIZE, high = (uint64_t)(BLOCKS - 2) * BLOCK_SIZE;
	struct trial *t = calloc(1, sizeof(*t));
	uint64_t seed = 11;
	assert_non_null(t);
	for (unsigned i = 0; i < cuts; i++) {
		if (i % CUTS_PER_STORE == 0)
			trial_begin(t);
		cut_at(t, low + (high - low) * i / cuts + draw_below(&seed, (high - low) / cuts));
		if (i % CUTS_PER_STORE == CUTS_PER_STORE - 1 || i == cuts - 1)
			trial_end(t);
	}
	assert_int_equal(t->cut, cuts);
	assert_true(t->unasked > cuts / 2);
	assert_true(t->most > 0); // else nothing was on its way, and nothing shown
	print_message("# %u sessions cut, %u of them without questions, at most %llu blocks of %u sent twice\n", cuts, t->unasked, (unsigned long long)t->most, (unsigned)BLOCKS);
	free(t);
}

int main(void)
{
	log_init("test_window", LOG_LEVEL_ERROR);
	(void)signal(SIGPIPE, SIG_IGN); // as the daemons do
	const struct CMUnitTest tests[] = {cmocka_unit_test(delta_without_questions_sends_a_bounded_window_twice)};
	return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
