// SPDX-License-Identifier: Apache-2.0
// C3: a session is recorded once, then cut at every byte of it, either way. After each cut the next session ends with a point, every point
// is what the source held at its cut, and no more was sent twice than what was under way:
//
//	blocks sent twice <= SHIP_BATCHES batches
//
// since a block leaves when DIFFERS named it, and at most so many batches are asked about ahead of the answers.
// KAGAMI_CUT_STEP: one byte in so many is tried (1 in `make test-cuts`).
#include "base/log.h"
#include "replicator/compare.h"
#include "tests/lib/cut_proxy.h"
#include "tests/lib/replication.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 12, SURVEY_BLOCKS = 160, SURVEY_STRETCH = 32, SURVEY_STEP = 23, CUTS_PER_STORE = 120, STEP_DEFAULT = 131 };

// What happens in a session, and what each cut of it needs.
struct script {
	uint64_t blocks;
	unsigned batch_blocks;
	bool survey; // all of the disk is looked at first: what is behind the first stretch as a tree
	bool pieces; // what differs is asked about by pieces
};

struct trial {
	struct replication r;
	const struct script *script;
	struct cut_proxy *proxy;
	unsigned cuts;
};

// Every block other than it was, but for those of a survey: there a few in each stretch.
static uint64_t guest_writes(struct trial *t)
{
	struct replication *r = &t->r;
	uint64_t changed = 0, step = t->script->survey ? SURVEY_STEP : 1;
	for (uint64_t b = 0; b < t->script->blocks; b += step, changed++) {
		uint64_t word = draw(&r->seed) | 1;
		memory_source_write(&r->memory, 0, b * BLOCK_SIZE + PIECE_SIZE, &word, sizeof(word));
	}
	if (t->script->survey)
		source_mark_all(&r->memory.source);
	return changed;
}

static void trial_begin(struct trial *t, const struct script *script)
{
	uint64_t size = script->blocks * BLOCK_SIZE;
	replication_begin(&t->r, 1, &size, 7);
	t->script = script;
	t->cuts = 0;
	t->r.open.points_keep = 3; // and folding goes on meanwhile
	t->r.memory.batch_blocks = script->batch_blocks;
	t->r.pieces = script->pieces;
	t->proxy = cut_proxy_start(server_address(t->r.server));
	replication_connect_now(&t->r);
	(void)guest_writes(t);
	replication_cycle_now(&t->r);
}

static void trial_end(struct trial *t)
{
	cut_proxy_stop(t->proxy);
	replication_end(&t->r);
}

// A pass of CUT_PRECOPY as the cycle of a sync makes it of a large disk, then the cycle.
static int session(struct trial *t, uint64_t *ret_sent)
{
	struct replication *r = &t->r;
	struct ship_stats stats = {0};
	struct source_cut cut;
	struct wire_failure failure;
	struct compare compare = {.ship = r->ship, .source = &r->memory.source, .channel = r->channel, .codec = r->codec,
				  .key = &r->open.digest, .nodes = true, .stretch_min = SURVEY_STRETCH, .stats = &stats, .progress = &r->progress};
	int rc = 0;
	ship_by_pieces(r->ship, t->script->pieces);
	if (t->script->survey) {
		assert_int_equal(source_cut(&r->memory.source, CUT_PRECOPY, &cut, &r->err), 0);
		rc = compare_ship(&compare, &failure, &r->err);
	}
	*ret_sent = stats.sent_blocks;
	if (rc) {
		source_give_back(&r->memory.source);
		replication_disconnect(r);
		return rc;
	}
	rc = replication_cycle(r);
	*ret_sent += r->report.ship.sent_blocks;
	return rc;
}

static void cut_at(struct trial *t, enum proxy_way way, uint64_t at)
{
	struct replication *r = &t->r;
	uint64_t changed = guest_writes(t), first = 0, second = 0;
	uint64_t point = r->position;
	cut_proxy_limit(t->proxy, way, at);
	if (replication_connect(r, cut_proxy_address(t->proxy), NULL) == 0)
		(void)session(t, &first);
	cut_proxy_limit(t->proxy, way, PROXY_NEVER);
	replication_connect_now(r);
	assert_int_equal(session(t, &second), 0);
	assert_true(r->position > point);
	if (first + second > changed + (uint64_t)SHIP_BATCHES * t->script->batch_blocks)
		fail_msg("cut at byte %llu %s: %llu and %llu blocks were sent, of %llu", (unsigned long long)at,
			 way == PROXY_UP ? "up" : "down", (unsigned long long)first, (unsigned long long)second,
			 (unsigned long long)changed);
	(void)replication_check(r);
	t->cuts++;
}

static uint64_t record(struct trial *t, enum proxy_way way)
{
	uint64_t sent;
	(void)guest_writes(t);
	assert_int_equal(replication_connect(&t->r, cut_proxy_address(t->proxy), NULL), 0);
	assert_int_equal(session(t, &sent), 0);
	return cut_proxy_bytes(t->proxy, way);
}

static void cut_everywhere(const struct script *script, enum proxy_way way)
{
	const char *asked = getenv("KAGAMI_CUT_STEP");
	uint64_t step = asked ? strtoull(asked, NULL, 10) : STEP_DEFAULT;
	struct trial *t = malloc(sizeof(*t));
	uint64_t cuts = 0;
	assert_non_null(t);
	assert_true(step > 0);
	trial_begin(t, script);
	uint64_t whole = record(t, way);
	if (script->survey) // else it was no survey that is cut
		assert_true(t->r.memory.blocks_looked_at >= SURVEY_BLOCKS - SURVEY_STRETCH);
	for (uint64_t at = 0; at < whole; at += step, cuts++) {
		if (t->cuts == CUTS_PER_STORE) {
			trial_end(t);
			trial_begin(t, script);
		}
		cut_at(t, way, at);
	}
	trial_end(t);
	free(t);
	print_message("# a session of %llu bytes %s, cut %llu times\n", (unsigned long long)whole, way == PROXY_UP ? "up" : "down",
		      (unsigned long long)cuts);
}

static const struct script delta = {.blocks = BLOCKS, .batch_blocks = 1};
static const struct script apart = {.blocks = BLOCKS, .batch_blocks = 3, .pieces = true};
static const struct script survey = {.blocks = SURVEY_BLOCKS, .batch_blocks = SOURCE_BATCH_MAX, .survey = true, .pieces = true};

static void delta_cut_at_any_byte_up(void **state)
{
	(void)state;
	cut_everywhere(&delta, PROXY_UP);
}

static void delta_cut_at_any_byte_down(void **state)
{
	(void)state;
	cut_everywhere(&delta, PROXY_DOWN);
}

static void pieces_cut_at_any_byte_up(void **state)
{
	(void)state;
	cut_everywhere(&apart, PROXY_UP);
}

static void pieces_cut_at_any_byte_down(void **state)
{
	(void)state;
	cut_everywhere(&apart, PROXY_DOWN);
}

static void survey_cut_at_any_byte_up(void **state)
{
	(void)state;
	cut_everywhere(&survey, PROXY_UP);
}

static void survey_cut_at_any_byte_down(void **state)
{
	(void)state;
	cut_everywhere(&survey, PROXY_DOWN);
}

int main(void)
{
	log_init("test_cuts", LOG_LEVEL_ERROR);
	(void)signal(SIGPIPE, SIG_IGN); // as the daemons do
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(delta_cut_at_any_byte_up),
		cmocka_unit_test(delta_cut_at_any_byte_down),
		cmocka_unit_test(pieces_cut_at_any_byte_up),
		cmocka_unit_test(pieces_cut_at_any_byte_down),
		cmocka_unit_test(survey_cut_at_any_byte_up),
		cmocka_unit_test(survey_cut_at_any_byte_down),
	};
	return cmocka_run_group_tests_name("cuts", tests, NULL, NULL);
}
