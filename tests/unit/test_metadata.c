// SPDX-License-Identifier: Apache-2.0
// Tables and lists of a point that the disk does not give back, or that say something else than they should: what shows them is quarantined, the next sync
// repairs it where that is possible, and nothing is tried for ever.
#include "base/bytes.h"
#include "base/log.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"
#include "tests/lib/bad_disk.h"
#include "tests/lib/store_flip.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char second[] = "vm1/points/2/vda.qcow2";

// vda: block 0 whole in every point; 1 whole in the first, then pieces; 2 in the first only; 3 never.
static int setup(void **state)
{
	struct store_twin *t = calloc(1, sizeof(*t));
	assert_non_null(t);
	store_twin_begin(t, 5);
	bad_disk_begin(t->temp.root->env);
	store_twin_session(t);
	for (unsigned n = 1; n <= 3; n++) {
		store_twin_change(t, 0, 0, MASK_FULL);
		assert_int_equal(store_twin_send(t, 0, 0, MASK_FULL, CODEC_ZSTD, NULL), 0);
		uint16_t mask = n == 1 ? MASK_FULL : (uint16_t)(1u << n);
		store_twin_change(t, 0, 1, mask);
		assert_int_equal(store_twin_send(t, 0, 1, mask, CODEC_NONE, NULL), 0);
		if (n == 1) {
			store_twin_change(t, 0, 2, MASK_FULL);
			assert_int_equal(store_twin_send(t, 0, 2, MASK_FULL, CODEC_ZSTD, NULL), 0);
		}
		store_twin_seal(t);
	}
	*state = t;
	return 0;
}

static void table_bad(struct store_twin *t, const char *name)
{
	bad_disk_set(name, bad_disk_table(t->temp.root->env, t->temp.dir, name, 0), 1, -EIO);
}

static struct scrub_info pass(struct store_twin *t)
{
	struct scrub_step step = {.ended = false};
	struct scrub_info info;
	struct err err = {0};
	assert_int_equal(scrub_begin(t->replica, 0, 1 << 30, &err), 0);
	while (!step.ended)
		if (scrub_slice(t->replica, &step, &err))
			fail_msg("%s", err.text);
	scrub_info(t->replica, &info);
	return info;
}

static bool refused(struct store_twin *t, uint64_t point)
{
	return replica_sound(t->replica, point, NULL) == -EUCLEAN;
}

static void table_that_cannot_be_read_quarantines_what_reads_through_it(void **state)
{
	struct store_twin *t = *state;
	table_bad(t, second);
	struct scrub_info info = pass(t);
	assert_true(info.damaged_blocks > 0);
	assert_true(!refused(t, 1) && refused(t, 2) && refused(t, 3));
	assert_true(bad_disk_hits() <= 4); // and it is not asked for each block
	assert_false(replica_is_broken(t->replica));

	replica_session_end(t->replica); // it is to open again
	store_twin_session(t);
	static struct wire_damaged damaged;
	replica_damaged(t->replica, &damaged);
	assert_true(damaged.count > 0);
	for (unsigned i = 0; i < damaged.count; i++)
		for (uint64_t b = 0; b < damaged.run[i].count; b++) {
			uint64_t index = damaged.run[i].first + b;
			bool zeros = bytes_zero(t->disk[0] + index * BLOCK_SIZE, BLOCK_SIZE);
			assert_int_equal(damaged.run[i].disk, 0);
			assert_int_equal(zeros ? store_twin_zeros(t, 0, index, 1, NULL) : store_twin_send(t, 0, index, MASK_FULL, CODEC_ZSTD, NULL), 0);
		}
	store_twin_seal(t);
	assert_true(refused(t, 3) && !refused(t, 4));
	(void)pass(t);
	assert_true(refused(t, 3) && !refused(t, 4)); // as who reads it finds
	bad_disk_heal();
	(void)pass(t);
	for (uint64_t n = 1; n <= 4; n++)
		assert_false(refused(t, n));
}

// Point 2 holds nothing of block 2: an entry there would be shown, and no digest is looked at for it.
static void entry_that_no_list_names_is_damage(void **state)
{
	struct store_twin *t = *state;
	uint64_t entry = bad_disk_table(t->temp.root->env, t->temp.dir, second, 0) + 2 * 16;
	assert_int_equal(pass(t).damaged_blocks, 0);
	store_flip_at(t, "points/2/vda.qcow2", entry + 8 + 3); // some zero subclusters
	assert_true(pass(t).damaged_blocks > 0);
	assert_true(!refused(t, 1) && refused(t, 2) && refused(t, 3));
}

static void list_that_cannot_be_read_leaves_its_point_unproven(void **state)
{
	struct store_twin *t = *state;
	bad_disk_set("vm1/points/3/vda.digests", 0, BAD_DISK_WHOLE, -EIO);
	(void)pass(t); // comes to its end
	assert_true(!refused(t, 1) && !refused(t, 2) && refused(t, 3));
	bad_disk_heal();
	assert_int_equal(pass(t).damaged_blocks, 0);
}

static int nothing_spent(void *context, uint64_t bytes)
{
	(void)context, (void)bytes;
	return 0;
}

// As the keeper does, whose clock goes on: the back-off is shorter than what each try is given.
static void retain_until_given_up(struct store_twin *t)
{
	const struct retain_pace pace = {.spend = nothing_spent};
	struct err err = {0};
	int rc = 0;
	for (unsigned i = 0; i < STALL_TRIES; i++) {
		t->replica->stall[STALL_OF_FOLDS].until_ns = t->replica->stall[STALL_OF_MERGES].until_ns = 0;
		assert_int_equal(replica_retain_paced(t->replica, &pace, &err), -EIO);
		assert_false(refused(t, 3)); // nothing was given up yet
	}
	t->replica->stall[STALL_OF_FOLDS].until_ns = t->replica->stall[STALL_OF_MERGES].until_ns = 0;
	rc = replica_retain_paced(t->replica, &pace, &err);
	if (rc != 1)
		fail_msg("%s", err.text);
}

static void fold_goes_on_without_a_table_that_cannot_be_read(void **state)
{
	struct store_twin *t = *state;
	store_twin_keep(t, 1);
	table_bad(t, "vm1/points/1/vda.qcow2");
	retain_until_given_up(t);
	assert_int_equal(t->replica->points[0].number, 2);
	assert_true(refused(t, 2) && refused(t, 3)); // block 2 is that of the first point
	bad_disk_heal();
	(void)pass(t);
	assert_true(refused(t, 2) && refused(t, 3)); // it was not taken along, and is found again
	assert_false(replica_is_broken(t->replica));
}

// Of the digests alone: the data is folded, but nobody can prove it any more.
static void digests_are_given_up(struct store_twin *t, const char *name, uint64_t from)
{
	bad_disk_set(name, DIGEST_SECTOR, 1, -EIO);
	retain_until_given_up(t);
	assert_false(replica_is_broken(t->replica));
	for (uint64_t n = 1; n <= 3; n++)
		if (replica_point(t->replica, n))
			assert_int_equal(refused(t, n), n >= from);
	store_twin_reopen(t); // durably, and with it another process that has given nothing up
	for (uint64_t n = 1; n <= 3; n++)
		if (replica_point(t->replica, n))
			assert_int_equal(refused(t, n), n >= from);
	bad_disk_heal();
	(void)pass(t);
	for (uint64_t n = 1; n <= 3; n++)
		if (replica_point(t->replica, n))
			assert_int_equal(refused(t, n), n >= from); // what was written in their place says that nobody knows
	assert_true(store_twin_check(t, false)); // the data is what it was
}

static void fold_goes_on_without_a_list_that_cannot_be_read(void **state)
{
	store_twin_keep(*state, 1);
	digests_are_given_up(*state, "vm1/points/1/vda.digests", 2); // block 2 is that of the first point
}

static void fold_goes_on_without_a_sector_of_the_table_that_cannot_be_read(void **state)
{
	store_twin_keep(*state, 1);
	digests_are_given_up(*state, "vm1/base/vda.digests", 1); // blocks that no point names
}

static void merge_goes_on_without_a_list_that_cannot_be_read(void **state)
{
	struct store_twin *t = *state;
	assert_int_equal(replica_pin(t->replica, 1, "", NULL), 0);
	store_twin_keep(t, 1);
	bad_disk_set("vm1/points/2/vda.digests", 0, BAD_DISK_WHOLE, -EIO);
	retain_until_given_up(t);
	assert_int_equal(t->replica->point_count, 2);
	assert_false(replica_is_broken(t->replica));
	assert_true(!refused(t, 1) && !refused(t, 3)); // the third names all that the second did
	bad_disk_heal();
	assert_int_equal(pass(t).damaged_blocks, 0);
	assert_true(store_twin_check(t, false));
}

// A session needs every digest: after three tries of the replica it begins without those, and the source sends what they were of.
static void session_begins_without_digests_that_cannot_be_read(void **state)
{
	static const char *const names[] = {"vm1/points/1/vda.digests", "vm1/base/vda.digests"};
	struct store_twin *t = *state;
	static struct wire_damaged damaged;
	replica_session_end(t->replica);
	for (unsigned i = 0; i < 2; i++) {
		store_twin_reopen(t);
		bad_disk_set(names[i], 0, BAD_DISK_WHOLE, -EIO);
		for (unsigned try = 0; try < STALL_TRIES; try++) {
			assert_int_equal(replica_session_begin(t->replica, &t->open, t->pin, &t->opened, NULL), -EIO);
			assert_true(replica_is_broken(t->replica) && !refused(t, 3));
			t->replica->mend_ns = 0;
			assert_int_equal(replica_mend(t->replica), i == 0 || try + 1 == STALL_TRIES); // recovery reads a table's first sector
		}
		store_twin_session(t);
		replica_damaged(t->replica, &damaged);
		assert_true(damaged.count > 0 && refused(t, 3));
		replica_session_end(t->replica);
		bad_disk_heal();
		assert_int_equal(pass(t).damaged_blocks, 0); // the disk answers again: nothing was lost
		assert_false(refused(t, 3));
		assert_false(atomic_load(&t->replica->digests_given_up));
	}
	assert_true(store_twin_check(t, false));
}

static void merge_goes_on_without_a_table_that_cannot_be_read(void **state)
{
	struct store_twin *t = *state;
	assert_int_equal(replica_pin(t->replica, 1, "", NULL), 0);
	store_twin_keep(t, 1);
	table_bad(t, second);
	retain_until_given_up(t);
	assert_int_equal(t->replica->point_count, 2);
	assert_true(!refused(t, 1) && refused(t, 3));
	bad_disk_heal();
	(void)pass(t);
	assert_true(!refused(t, 1) && refused(t, 3)); // the pieces of the second point are lost
	assert_false(replica_is_broken(t->replica));
}

int main(void)
{
	log_init("test_metadata", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, store_twin_bad_disk_end)
	const struct CMUnitTest tests[] = {
		TEST(table_that_cannot_be_read_quarantines_what_reads_through_it),
		TEST(entry_that_no_list_names_is_damage),
		TEST(list_that_cannot_be_read_leaves_its_point_unproven),
		TEST(fold_goes_on_without_a_table_that_cannot_be_read),
		TEST(fold_goes_on_without_a_list_that_cannot_be_read),
		TEST(fold_goes_on_without_a_sector_of_the_table_that_cannot_be_read),
		TEST(merge_goes_on_without_a_list_that_cannot_be_read),
		TEST(session_begins_without_digests_that_cannot_be_read),
		TEST(merge_goes_on_without_a_table_that_cannot_be_read),
	};
	return cmocka_run_group_tests_name("metadata", tests, NULL, NULL);
}
