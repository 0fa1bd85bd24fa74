// SPDX-License-Identifier: Apache-2.0
// With sanitizers in full runs only: what it goes through others do as well, and it takes long.
// Blocks that differ in a few pieces: those alone travel, and nothing is told of a block that was not proven.
#include "base/auto.h"
#include "base/log.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"
#include "replicator/compare.h"
#include "replicator/worth.h"
#include "tests/lib/replication.h"
#include "tests/lib/store_twin.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

// ---- digests and the choice

static void digest_of_a_piece_is_bound_to_its_place(void **state)
{
	(void)state;
	for (unsigned kind = DIGEST_XXH3; kind <= DIGEST_BLAKE2B; kind++) {
		struct digest_key key = {.kind = (enum digest_kind)kind, .secret = {3, 1, 4}};
		static unsigned char block[BLOCK_SIZE];
		struct digest all[PIECES_PER_BLOCK], one, other;
		memset(block, 'k', sizeof(block));
		memset(block + 3 * PIECE_SIZE, 0, PIECE_SIZE);
		digest_pieces(&key, 1, 2, block, all);
		for (unsigned i = 0; i < PIECES_PER_BLOCK; i++) {
			one = digest_piece(&key, 1, 2, i, block + (size_t)i * PIECE_SIZE);
			assert_true(digest_equal(&all[i], &one));
			assert_int_equal(digest_is_zero(&one), i == 3);
			for (unsigned j = 0; j < i; j++)
				assert_false(digest_equal(&all[i], &all[j]));
		}
		other = digest_piece(&key, 2, 2, 0, block);
		assert_false(digest_equal(&all[0], &other));
		other = digest_piece(&key, 1, 3, 0, block);
		assert_false(digest_equal(&all[0], &other));
		block[PIECE_SIZE - 1] ^= 1;
		other = digest_piece(&key, 1, 2, 0, block);
		assert_false(digest_equal(&all[0], &other));
	}
}

// So many cases, of which each answer brings `gain`; returns how many were asked about.
static unsigned cases(struct worth *worth, const struct worth_rule *rule, unsigned count, unsigned gain)
{
	unsigned asked = 0;
	for (unsigned i = 0; i < count; i++) {
		bool asks = worth_asks(worth);
		asked += asks;
		asks ? worth_asked(worth, rule, gain) : worth_not_asked(worth);
	}
	return asked;
}

static void questions_are_asked_for_as_long_as_they_pay(void **state)
{
	(void)state;
	const struct worth_rule *rule = &worth_pieces;
	struct worth worth = {.seen = 0};
	assert_int_equal(cases(&worth, rule, 100 * rule->sample, PIECES_PER_BLOCK / 4), 100 * rule->sample);
	assert_int_equal(cases(&worth, rule, 2 * rule->sample, PIECES_PER_BLOCK / 4 - 1), rule->sample);
	worth = (struct worth){.seen = 0};
	for (unsigned rest = rule->rest_min; rest <= rule->rest_max; rest *= 2)
		assert_int_equal(cases(&worth, rule, rule->sample + rest, 0), rule->sample);
	assert_int_equal(cases(&worth, rule, rule->sample + rule->rest_max, 0), rule->sample); // and not more than that
	assert_int_equal(cases(&worth, rule, rule->sample, 15), rule->sample);
	assert_int_equal(cases(&worth, rule, rule->sample + rule->rest_min, 0), rule->sample); // it had paid: from the beginning
	assert_true(worth_asks(&worth));
}

// ---- both halves

enum { BLOCKS_0 = 1100, BLOCKS_1 = 70 };
static const uint64_t sizes[] = {(BLOCKS_0 - 1) * BLOCK_SIZE + 3 * PIECE_SIZE + 512, BLOCKS_1 * BLOCK_SIZE};

static void fill(struct replication *r)
{
	static unsigned char data[BLOCK_SIZE];
	for (uint64_t b = 0; b < BLOCKS_0 - 1; b += 1 + b % 3) { // runs of zeros between; what compresses badly
		for (size_t i = 0; i < sizeof(data); i++)
			data[i] = (unsigned char)draw(&r->seed);
		memory_source_write(&r->memory, 0, b * BLOCK_SIZE, data, sizeof(data));
	}
	memory_source_write(&r->memory, 0, (BLOCKS_0 - 1) * BLOCK_SIZE, data, 3 * PIECE_SIZE + 512);
}

static int setup_kind(void **state, enum digest_kind kind)
{
	struct replication *r = malloc(sizeof(*r));
	replication_begin(r, 2, sizes, 23);
	r->open.digest.kind = kind;
	r->nodes = r->pieces = true;
	fill(r);
	replication_connect_now(r);
	replication_cycle_now(r);
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

static void change(struct replication *r, uint64_t block, unsigned pieces)
{
	for (unsigned i = 0; i < pieces; i++) {
		unsigned char byte = (unsigned char)(r->memory.disk[0].now[block * BLOCK_SIZE + i * PIECE_SIZE + 7] ^ 1);
		memory_source_write(&r->memory, 0, block * BLOCK_SIZE + i * PIECE_SIZE + 7, &byte, 1);
	}
}

static bool is_zero(const struct replication *r, uint64_t block)
{
	static const unsigned char zeros[BLOCK_SIZE];
	return memcmp(r->memory.disk[0].now + block * BLOCK_SIZE, zeros, BLOCK_SIZE) == 0;
}

static void initial_sync_asks_for_no_piece_for_long(void **state)
{
	struct replication *r = *state;
	assert_true(r->report.ship.sent_blocks > 400);
	assert_int_equal(r->report.ship.apart_blocks, 0);
	assert_int_equal(replication_check(r), 1);
}

// In a survey, in the stretch before it, and in a disk's last block: 9 blocks of which one piece is another.
static void piece_that_changed_travels_alone(void **state)
{
	struct replication *r = *state;
	unsigned changed = 0;
	uint64_t last = BLOCKS_0 - 1;
	for (uint64_t b = 0; b < last; b += 131)
		for (uint64_t at = b; at < last; at++)
			if (!is_zero(r, at)) {
				change(r, at, 1);
				changed++;
				break;
			}
	change(r, last, 1);
	source_mark_all(&r->memory.source);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.sent_blocks, changed + 1);
	assert_int_equal(r->report.ship.apart_blocks, changed + 1);
	assert_int_equal(r->report.ship.kept_pieces, (changed + 1) * (PIECES_PER_BLOCK - 1));
	// 24 bytes a block of the first stretch; of each difference its span, itself, and 4 KiB that no codec makes smaller.
	assert_true(r->report.wire_bytes < STRETCH_BLOCKS_MIN * 24 + (changed + 1) * (256 * DIGEST_SIZE + PIECE_SIZE + 400) + 4000);
	assert_int_equal(replication_check(r), 2);
}

static void block_that_changed_in_most_of_it_travels_whole(void **state)
{
	struct replication *r = *state;
	assert_false(is_zero(r, 0));
	change(r, 0, 9);
	change(r, 1, 8);
	source_mark_all(&r->memory.source);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.sent_blocks, 2);
	assert_int_equal(r->report.ship.apart_blocks, is_zero(r, 1) ? 0 : 1);
	assert_int_equal(replication_check(r), 2);
}

// An initial sync, of which no piece was there, leaves the questions resting.
static void sync_finds_out_anew_whether_pieces_pay(void **state)
{
	struct replication *r = *state;
	*sender_pieces(ship_sender(r->ship)) = (struct worth){.rest = worth_pieces.rest_max, .next_rest = worth_pieces.rest_max};
	assert_false(is_zero(r, 0));
	change(r, 0, 1);
	source_mark_all(&r->memory.source);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.sent_blocks, 1);
	assert_int_equal(r->report.ship.apart_blocks, 1);
	assert_int_equal(replication_check(r), 2);
}

static void receiver_that_does_not_know_pieces_is_not_asked(void **state)
{
	struct replication *r = *state;
	r->pieces = false;
	change(r, 0, 1);
	source_mark_all(&r->memory.source);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.sent_blocks, 1);
	assert_int_equal(r->report.ship.apart_blocks, 0);
	assert_int_equal(replication_check(r), 2);
}

static void guest_between_batches(struct memory_source *memory, void *context)
{
	memory_source_random(memory, context);
}

static void points_are_right_while_the_guest_writes_and_syncs_go_by_pieces(void **state)
{
	struct replication *r = *state;
	uint64_t apart = 0;
	r->memory.guest = guest_between_batches;
	r->memory.context = &r->seed;
	r->open.points_keep = 3;
	for (unsigned i = 0; i < 8; i++) {
		r->memory.batch_blocks = i % 2 ? SOURCE_BATCH_MAX : 7;
		for (unsigned n = 0; n < 60; n++)
			memory_source_random(&r->memory, &r->seed);
		source_mark_all(&r->memory.source);
		if (i % 3 == 2) { // a cycle that comes to nothing leaves a head that holds some
			r->memory.fail_at = 5;
			r->memory.fail_code = -EIO;
			r->memory.fails = 1;
			assert_int_equal(replication_cycle(r), -EIO);
			replication_connect_now(r);
		}
		replication_cycle_now(r);
		apart += r->report.ship.apart_blocks;
	}
	assert_true(apart >= 8); // about 20; how many an abandoned head holds already hangs on when the receiver's answers came
	(void)replication_check(r);
}

// ---- no question

static unsigned change_many(struct replication *r, uint64_t from, unsigned blocks)
{
	unsigned changed = 0;
	for (uint64_t b = from; changed < blocks; b++)
		if (!is_zero(r, b)) {
			change(r, b, 1);
			changed++;
		}
	return changed;
}

// What a guest wrote is hardly ever equal: once that was seen, a delta begins with its first block, and not with a round trip.
static void written_blocks_go_without_a_question_once_it_was_in_vain(void **state)
{
	struct replication *r = *state;
	r->nodes = r->pieces = false;
	r->written = true;
	(void)change_many(r, 0, 64);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.unasked_blocks, 0);
	(void)change_many(r, 300, 40);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.unasked_blocks, 40);
	assert_int_equal(r->report.ship.sent_blocks, 40);
	(void)change_many(r, 300, 40); // known by now
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.unasked_blocks, 0);
	assert_int_equal(r->report.ship.sent_blocks, 40);
	replication_disconnect(r); // between two cycles: that head is as empty as it was made
	replication_connect_now(r);
	(void)change_many(r, 400, 10);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.unasked_blocks, 10);
	known_set(sender_known(ship_sender(r->ship)), 0, 450, &(struct digest){{1}}); // and with a block on its way: what the head holds is not known
	replication_disconnect(r); // from here on, and it is asked
	replication_connect_now(r);
	(void)change_many(r, 450, 10);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.unasked_blocks, 0);
	(void)change_many(r, 500, 10);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.unasked_blocks, 10);
	r->written = false; // a sync asks, whatever paid before
	(void)change_many(r, 600, 4);
	replication_cycle_now(r);
	assert_int_equal(r->report.ship.unasked_blocks, 0);
	assert_int_equal(replication_check(r), 8);
}

// ---- the receiver's half

static int begin_twin(void **state)
{
	struct store_twin *t = malloc(sizeof(*t));
	store_twin_begin(t, 42);
	store_twin_session(t);
	*state = t;
	return 0;
}

static int end_twin(void **state)
{
	store_twin_end(*state);
	free(*state);
	return 0;
}

static void write_block(struct store_twin *t, unsigned disk, uint64_t index, uint16_t mask)
{
	store_twin_change(t, disk, index, mask);
	assert_int_equal(store_twin_send(t, disk, index, mask, CODEC_ZSTD, NULL), 0);
}

// What is answered for one block; where by pieces, the digests must be those of `was`.
static enum wire_answer examined(struct store_twin *t, uint16_t disk, uint64_t index, const struct digest *digest, const unsigned char *was)
{
	unsigned char entry[WIRE_EXAMINE_ENTRY_SIZE];
	struct wire_examine examine = {.disk = disk, .count = 1, .entries = entry};
	AUTO_FREE struct examine_answer *answer = malloc(sizeof(*answer));
	struct digest pieces[PIECES_PER_BLOCK];
	struct err err = {0};
	assert_non_null(answer);
	wire_examine_set(entry, 0, index, digest);
	if (replica_pieces(t->replica, &examine, answer, &err))
		fail_msg("%s", err.text);
	assert_int_equal(answer->by_pieces, answer->answer[0] == WIRE_BY_PIECES);
	if (answer->by_pieces) {
		digest_pieces(&t->open.digest, disk, index, was + index * BLOCK_SIZE, pieces);
		assert_memory_equal(answer->digest[0], pieces, sizeof(pieces));
	}
	return (enum wire_answer)answer->answer[0];
}

static void only_what_lies_under_the_head_is_told_by_pieces(void **state)
{
	struct store_twin *t = *state;
	static const struct digest other = {{9}}, zero;
	write_block(t, 1, 3, MASK_FULL);
	write_block(t, 1, 4, 0x0300); // of which the rest is the base's
	assert_int_equal(examined(t, 1, 3, &other, NULL), WIRE_WHOLE); // the head holds it
	assert_int_equal(examined(t, 1, 5, &other, NULL), WIRE_WHOLE); // zeros
	assert_int_equal(examined(t, 1, 5, &zero, NULL), WIRE_EQUAL);
	struct digest equal = digest_of(&t->open.digest, 1, 3, t->disk[1] + 3 * BLOCK_SIZE);
	assert_int_equal(examined(t, 1, 3, &equal, NULL), WIRE_EQUAL);
	assert_int_equal(t->replica->examine_unproven, 0); // nothing under the head was taken for damage
	store_twin_seal(t);
	assert_int_equal(examined(t, 1, 3, &other, t->point[1][1]), WIRE_BY_PIECES);
	assert_int_equal(examined(t, 1, 4, &other, t->point[1][1]), WIRE_BY_PIECES);
	assert_int_equal(examined(t, 1, 3, &equal, NULL), WIRE_EQUAL);
	write_block(t, 1, 3, 0x0001);
	assert_int_equal(examined(t, 1, 3, &other, NULL), WIRE_WHOLE);
	assert_int_equal(t->replica->examine_unproven, 0);
	store_twin_seal(t);
	assert_int_equal(examined(t, 1, 3, &other, t->point[2][1]), WIRE_BY_PIECES); // through both points, as they are now
	assert_true(store_twin_check(t, false));
}

static void pieces_are_told_through_points_that_retention_has_moved(void **state)
{
	struct store_twin *t = *state;
	static const struct digest other = {{9}};
	struct err err = {0};
	for (unsigned n = 1; n <= 6; n++) {
		write_block(t, 1, n, MASK_FULL);
		write_block(t, 1, 20, (uint16_t)(1u << n));
		store_twin_seal(t);
		assert_int_equal(examined(t, 1, 20, &other, t->point[n][1]), WIRE_BY_PIECES);
	}
	store_twin_keep(t, 2);
	int rc;
	while ((rc = replica_retain(t->replica, &err)) > 0)
		for (uint64_t b = 1; b <= 6; b++)
			assert_int_equal(examined(t, 1, b, &other, t->point[6][1]), WIRE_BY_PIECES);
	assert_int_equal(rc, 0);
	assert_int_equal(examined(t, 1, 20, &other, t->point[6][1]), WIRE_BY_PIECES);
}

static void block_that_cannot_be_proven_is_told_by_no_piece(void **state)
{
	struct store_twin *t = *state;
	static const struct digest other = {{9}};
	struct err err = {0};
	char path[512];
	write_block(t, 1, 3, MASK_FULL);
	write_block(t, 1, 7, MASK_FULL);
	store_twin_seal(t);
	write_block(t, 1, 8, MASK_FULL);
	store_twin_seal(t);
	store_twin_keep(t, 1);
	while (replica_retain(t->replica, &err) > 0) // 3 and 7 are in the base now
		continue;
	assert_int_equal(examined(t, 1, 3, &other, t->point[2][1]), WIRE_BY_PIECES);
	store_twin_path(t, path, sizeof(path), "base/vdb.raw");
	FILE *base = fopen(path, "r+b");
	assert_non_null(base);
	assert_int_equal(fseek(base, 3 * BLOCK_SIZE + 100, SEEK_SET), 0);
	int byte = fgetc(base);
	assert_int_equal(fseek(base, 3 * BLOCK_SIZE + 100, SEEK_SET), 0);
	(void)fputc(byte ^ 1, base);
	assert_int_equal(fclose(base), 0);
	for (unsigned i = 1; i <= 5; i++) { // the first is logged, and how many there were when the session ends
		assert_int_equal(examined(t, 1, 3, &other, NULL), WIRE_WHOLE);
		assert_true(t->replica->examine_unproven == i);
	}
	assert_int_equal(examined(t, 1, 7, &other, t->point[2][1]), WIRE_BY_PIECES);
	// And what cannot be opened at all: gone since the session began, for none begins without it.
	replica_session_end(t->replica);
	assert_true(t->replica->examine_unproven == 0);
	store_twin_session(t);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(examined(t, 1, 7, &other, NULL), WIRE_WHOLE);
	assert_int_equal(examined(t, 1, 7, &other, NULL), WIRE_WHOLE);
}

static void index_past_the_disk_is_refused(void **state)
{
	struct store_twin *t = *state;
	unsigned char entries[2 * WIRE_EXAMINE_ENTRY_SIZE];
	struct wire_examine examine = {.disk = 0, .count = 2, .entries = entries};
	AUTO_FREE struct examine_answer *answer = malloc(sizeof(*answer));
	static const struct digest other = {{9}};
	struct err err = {0};
	assert_non_null(answer);
	wire_examine_set(entries, 0, 5, &other); // the last
	wire_examine_set(entries, 1, 6, &other);
	assert_int_equal(replica_pieces(t->replica, &examine, answer, &err), -EBADMSG);
	wire_examine_set(entries, 1, UINT64_MAX, &other);
	assert_int_equal(replica_pieces(t->replica, &examine, answer, &err), -EBADMSG);
	wire_examine_set(entries, 1, 0, &other);
	assert_int_equal(replica_pieces(t->replica, &examine, answer, &err), 0);
	examine.disk = STORE_TWIN_DISKS;
	assert_int_equal(replica_pieces(t->replica, &examine, answer, &err), -EBADMSG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define BOTH(name) TEST(name), {#name "_blake2b", name, setup_blake2b, teardown, NULL}
#define STORE(name) cmocka_unit_test_setup_teardown(name, begin_twin, end_twin)

int main(void)
{
	log_init("test_pieces", LOG_LEVEL_ERROR);
	(void)signal(SIGPIPE, SIG_IGN); // as the daemons do
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digest_of_a_piece_is_bound_to_its_place),
		cmocka_unit_test(questions_are_asked_for_as_long_as_they_pay),
		TEST(initial_sync_asks_for_no_piece_for_long),
		BOTH(piece_that_changed_travels_alone),
		TEST(block_that_changed_in_most_of_it_travels_whole),
		TEST(sync_finds_out_anew_whether_pieces_pay),
		TEST(receiver_that_does_not_know_pieces_is_not_asked),
		TEST(points_are_right_while_the_guest_writes_and_syncs_go_by_pieces),
		TEST(written_blocks_go_without_a_question_once_it_was_in_vain),
		STORE(only_what_lies_under_the_head_is_told_by_pieces),
		STORE(pieces_are_told_through_points_that_retention_has_moved),
		STORE(block_that_cannot_be_proven_is_told_by_no_piece),
		STORE(index_past_the_disk_is_refused),
	};
	return cmocka_run_group_tests_name("pieces", tests, NULL, NULL);
}
