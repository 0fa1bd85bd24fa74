// SPDX-License-Identifier: Apache-2.0
// A point read through its chain (receiver/chain.h): what the disk held at the cut, at any depth and size, and never anything else,
// whatever happened to the files.
#include "receiver/chain.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "tests/lib/store_twin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int setup(void **state)
{
	struct store_twin *t = malloc(sizeof(*t));
	assert_non_null(t);
	store_twin_begin(t, 7);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	store_twin_end(*state);
	free(*state);
	return 0;
}

static void points_make(struct store_twin *t, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		for (unsigned k = 0; k < 12; k++)
			store_twin_random(t);
		store_twin_seal(t);
	}
}

static struct chain *open_chain(struct store_twin *t, uint64_t number, unsigned disk)
{
	struct chain *chain = NULL;
	struct err err = {0};
	if (chain_open(t->replica, number, disk, &chain, &err))
		fail_msg("%s", err.text);
	return chain;
}

// Whole, block by block, and by the way that an export goes.
static void check_disk(struct store_twin *t, uint64_t number, unsigned disk)
{
	AUTO_FREE unsigned char *block = malloc(BLOCK_SIZE);
	struct chain *chain = open_chain(t, number, disk);
	uint64_t size = t->point_size[number][disk], data = 0;
	assert_int_equal(chain_size(chain), size);
	for (uint64_t b = 0; b < size_blocks(size); b++) {
		const unsigned char *wanted = t->point[number][disk] + b * BLOCK_SIZE;
		assert_int_equal(chain_get(chain, b, block, NULL), 0);
		assert_memory_equal(block, wanted, BLOCK_SIZE);
		assert_int_equal(chain_next(chain, b) == b, !bytes_zero(wanted, BLOCK_SIZE));
		assert_true(chain_holds(chain, b) || bytes_zero(wanted, BLOCK_SIZE));
		data += !bytes_zero(wanted, BLOCK_SIZE);
	}
	assert_int_equal(chain_data_blocks(chain), data);
	assert_true(chain_next(chain, size_blocks(size)) == CHAIN_END);
	assert_int_equal(chain_get(chain, size_blocks(size), block, NULL), -EINVAL);
	chain_close(chain);
}

static void check_all(struct store_twin *t)
{
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	assert_int_equal(replica_points(t->replica, &points, &count), 0);
	for (size_t i = 0; i < count; i++)
		for (unsigned d = 0; d < STORE_TWIN_DISKS; d++)
			check_disk(t, points[i].number, d);
}

static void a_point_reads_as_the_disk_was_at_its_cut(void **state)
{
	struct store_twin *t = *state;
	store_twin_session(t);
	points_make(t, 6);
	check_all(t);
}

static void points_over_a_base_that_took_folds_read_the_same(void **state)
{
	struct store_twin *t = *state;
	store_twin_keep(t, 3);
	store_twin_session(t);
	for (unsigned i = 0; i < 8; i++) {
		points_make(t, 1);
		while (replica_retain(t->replica, NULL) == 1)
			;
		check_all(t);
	}
	struct chain *chain = open_chain(t, 8, 0);
	assert_int_equal(chain_depth(chain), 3);
	chain_close(chain);
}

static void points_of_a_disk_that_grew_read_at_their_own_sizes(void **state)
{
	struct store_twin *t = *state;
	store_twin_keep(t, 4);
	for (unsigned i = 0; i < 6; i++) {
		store_twin_session(t);
		points_make(t, 2);
		check_all(t);
		while (replica_retain(t->replica, NULL) == 1)
			check_all(t);
		replica_session_end(t->replica);
		store_twin_grow(t, i % 2, t->open.disk[i % 2].size + SECTOR_SIZE * (1 + draw_below(&t->seed, 300)));
	}
}

static void what_is_not_there_is_refused(void **state)
{
	struct store_twin *t = *state;
	struct chain *chain = NULL;
	struct err err = {0};
	store_twin_session(t);
	points_make(t, 1);
	assert_int_equal(chain_open(t->replica, 0, 0, &chain, &err), -ENOENT);
	assert_int_equal(chain_open(t->replica, 2, 0, &chain, &err), -ENOENT);
	assert_int_equal(chain_open(t->replica, 1, STORE_TWIN_DISKS, &chain, &err), -ENOENT);
	assert_null(chain);
}

// --- damage ---

// 0: all of the disk reads right. Otherwise the error; whatever was read before it was right, or the test fails.
static int read_disk(struct store_twin *t, uint64_t number, unsigned disk, struct err *err)
{
	AUTO_FREE unsigned char *block = malloc(BLOCK_SIZE);
	struct chain *chain = NULL;
	int rc = chain_open(t->replica, number, disk, &chain, err);
	for (uint64_t b = 0; rc == 0 && b < size_blocks(t->point_size[number][disk]); b++) {
		rc = chain_get(chain, b, block, err);
		if (rc == 0)
			assert_memory_equal(block, t->point[number][disk] + b * BLOCK_SIZE, BLOCK_SIZE);
	}
	chain_close(chain);
	return rc;
}

static void flip(struct env_file *file, uint64_t at, unsigned char bits)
{
	unsigned char byte;
	assert_int_equal(env_pread_full(file, &byte, 1, at), 0);
	byte ^= bits;
	assert_int_equal(env_pwrite(file, &byte, 1, at), 0);
}

static unsigned flip_and_read(struct store_twin *t, const char *name, unsigned rounds)
{
	struct env_file *file = NULL;
	uint64_t size = 0;
	unsigned found = 0;
	assert_int_equal(env_open(t->temp.root, name, ENV_WRITE, &file), 0);
	assert_int_equal(env_size(file, &size), 0);
	for (unsigned i = 0; i < rounds; i++) {
		struct err err = {0};
		uint64_t at = draw_below(&t->seed, size);
		unsigned char bits = (unsigned char)(1u << draw_below(&t->seed, 8));
		flip(file, at, bits);
		int rc = read_disk(t, t->cuts, 0, &err);
		flip(file, at, bits);
		assert_true(rc == 0 || err.text[0]);
		found += rc != 0;
	}
	env_close(file);
	assert_int_equal(read_disk(t, t->cuts, 0, NULL), 0);
	return found;
}

static void a_flipped_bit_anywhere_is_found_or_changes_nothing(void **state)
{
	struct store_twin *t = *state;
	store_twin_keep(t, 3);
	store_twin_session(t);
	points_make(t, 5);
	while (replica_retain(t->replica, NULL) == 1)
		;
	unsigned found = flip_and_read(t, "vm1/base/vda.raw", 150) + flip_and_read(t, "vm1/base/vda.digests", 60) +
			 flip_and_read(t, "vm1/points/3/vda.qcow2", 150) + flip_and_read(t, "vm1/points/4/vda.qcow2", 150) +
			 flip_and_read(t, "vm1/points/5/vda.qcow2", 150) + flip_and_read(t, "vm1/points/5/vda.digests", 60);
	assert_true(found > 30);
}

static void points_over_block_in_base(struct store_twin *t) // block 2 of the first disk is in its base; point 2 is left
{
	struct err err = {0};
	store_twin_keep(t, 1);
	store_twin_session(t);
	store_twin_change(t, 0, 2, MASK_FULL);
	assert_int_equal(store_twin_send(t, 0, 2, MASK_FULL, CODEC_NONE, &err), 0);
	store_twin_seal(t);
	store_twin_seal(t);
	assert_int_equal(replica_retain(t->replica, &err), 1);
}

// A sector of the table that became zeros says "zeros" of 31 blocks: who goes by that alone would show zeros for data, and call them proven.
static void blocks_whose_digests_became_zeros_are_not_taken_for_zeros(void **state)
{
	struct store_twin *t = *state;
	struct env_file *file = NULL;
	struct err err = {0};
	unsigned char zeros[SECTOR_SIZE] = {0}, *block = malloc(BLOCK_SIZE);
	points_over_block_in_base(t);
	struct chain *chain = open_chain(t, 2, 0);
	assert_true(chain_holds(chain, 2) && !chain_holds(chain, 3) && chain_next(chain, 0) == 2);
	chain_close(chain);
	assert_int_equal(env_open(t->temp.root, "vm1/base/vda.digests", ENV_WRITE, &file), 0);
	assert_int_equal(env_pwrite(file, zeros, sizeof(zeros), SECTOR_SIZE), 0);
	env_close(file);
	chain = open_chain(t, 2, 0);
	assert_true(chain_next(chain, 0) == CHAIN_END);
	assert_true(chain_holds(chain, 2) && !chain_holds(chain, 3));
	assert_int_equal(chain_get(chain, 2, block, &err), -EBADMSG);
	chain_close(chain);
	free(block);
}

static void a_damaged_block_names_disk_and_point(void **state)
{
	struct store_twin *t = *state;
	struct env_file *file = NULL;
	struct err err = {0};
	points_over_block_in_base(t);
	assert_int_equal(env_open(t->temp.root, "vm1/base/vda.raw", ENV_WRITE, &file), 0);
	flip(file, 2 * BLOCK_SIZE + 77, 1);
	env_close(file);
	assert_int_equal(read_disk(t, 2, 0, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "disk vda of vm1@2 is damaged"));
	assert_non_null(strstr(err.text, "block 2 "));
}

static void set_backing(struct store_twin *t, const char *backing, enum qcow2_backing format)
{
	struct env_file *file = NULL;
	assert_int_equal(env_open(t->temp.root, "vm1/points/2/vda.qcow2", ENV_WRITE, &file), 0);
	assert_int_equal(qcow2_set_backing(file, backing, format, NULL), 0);
	env_close(file);
}

static void an_overlay_over_anything_else_is_refused(void **state)
{
	struct store_twin *t = *state;
	static const char *const wrong[] = {"../2/vda.qcow2", "../3/vda.qcow2", "../0/vda.qcow2", "../1/vdb.qcow2", "../01/vda.qcow2",
					    "../../points/1/vda.qcow2", "../1/../1/vda.qcow2", "../../base/vda.raw"};
	store_twin_session(t);
	points_make(t, 3);
	struct err err = {0};
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		set_backing(t, wrong[i], QCOW2_BACKING_QCOW2);
		assert_int_equal(read_disk(t, 3, 0, &err), -EBADMSG);
		assert_non_null(strstr(err.text, "points/2/vda.qcow2"));
	}
	set_backing(t, "../1/vda.qcow2", QCOW2_BACKING_RAW);
	assert_int_equal(read_disk(t, 3, 0, &err), -EBADMSG);
	set_backing(t, "../1/vda.qcow2", QCOW2_BACKING_QCOW2);
	assert_int_equal(read_disk(t, 3, 0, &err), 0);
}

#define CHAIN_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CHAIN_TEST(a_point_reads_as_the_disk_was_at_its_cut),
		CHAIN_TEST(points_over_a_base_that_took_folds_read_the_same),
		CHAIN_TEST(points_of_a_disk_that_grew_read_at_their_own_sizes),
		CHAIN_TEST(what_is_not_there_is_refused),
		CHAIN_TEST(a_flipped_bit_anywhere_is_found_or_changes_nothing),
		CHAIN_TEST(blocks_whose_digests_became_zeros_are_not_taken_for_zeros),
		CHAIN_TEST(a_damaged_block_names_disk_and_point),
		CHAIN_TEST(an_overlay_over_anything_else_is_refused),
	};
	log_init("test_chain", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("chain", tests, NULL, NULL);
}
