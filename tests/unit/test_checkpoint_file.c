// SPDX-License-Identifier: Apache-2.0
// The journal of a head's checkpoints by itself (receiver/checkpoint_file.h): cut off anywhere it has the checkpoints before, and a flipped bit is
// found.
#include "receiver/checkpoint_file.h"

#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static int count_record(void *context, const struct checkpoint_record *record, struct err *err)
{
	(void)record;
	(void)err;
	++*(unsigned *)context;
	return 0;
}

// Three checkpoints, of 1, 5000 (two sections) and 2 records.
static uint64_t journal_write(struct env_file *file, uint64_t ends[3])
{
	static const unsigned counts[] = {1, 5000, 2};
	struct checkpoint_id id = {.instance = {{5}}, .predecessor = 7, .cut = {{6}}};
	struct checkpoint_record record = {.kind = CHECKPOINT_BLOCK, .disk = 1, .where = 1};
	struct err err = {0};
	uint64_t at = 0;
	for (unsigned i = 0; i < 3; i++) {
		struct checkpoint_writer writer;
		id.base = id.number;
		id.number += 1 + i;
		assert_int_equal(checkpoint_writer_init(&writer, file, at, &id), 0);
		for (unsigned n = 0; n < counts[i]; n++, record.index++)
			assert_int_equal(checkpoint_put(&writer, &record, &err), 0);
		assert_int_equal(checkpoint_end(&writer, &err), 0);
		ends[i] = at = writer.at;
		checkpoint_writer_done(&writer);
	}
	return at;
}

static void a_journal_cut_off_anywhere_has_the_checkpoints_before(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root;
	struct env_file *file;
	struct checkpoint_extent extent;
	uint64_t ends[3];
	struct err err = {0};
	unsigned records = 0;
	assert_int_equal(env_root_open(sim_env(sim), "/", &root), 0);
	assert_int_equal(env_open(root, "f", ENV_CREATE, &file), 0);
	uint64_t length = journal_write(file, ends);
	assert_int_equal(checkpoint_find(file, &extent, &err), 0);
	assert_int_equal(extent.records, 5003);
	assert_int_equal(extent.id.number, 6);
	assert_int_equal(checkpoint_read(file, &extent, count_record, &records, &err), 0);
	assert_int_equal(records, 5003);
	while (length-- > 0) {
		bool edge = length < 600 || length > ends[1] || (length > ends[0] && length < ends[0] + 200);
		if (!edge && length % 4096 > 1) // every byte of the small ones, and both sides of some sectors' ends between
			continue;
		assert_int_equal(env_truncate(file, length), 0);
		int rc = checkpoint_find(file, &extent, &err);
		assert_int_equal(rc, length < ends[0] ? -ENOENT : 0);
		if (rc == 0)
			assert_int_equal(extent.length, length < ends[1] ? ends[0] : ends[1]);
	}
	env_close(file);
	env_root_close(root);
	sim_free(sim);
}

static void a_flipped_bit_in_a_journal_is_found(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root;
	struct env_file *file;
	struct checkpoint_extent extent;
	uint64_t ends[3];
	struct err err = {0};
	assert_int_equal(env_root_open(sim_env(sim), "/", &root), 0);
	assert_int_equal(env_open(root, "f", ENV_CREATE, &file), 0);
	uint64_t length = journal_write(file, ends);
	for (uint64_t at = 0; at < length; at += at < 530 || at > ends[1] ? 1 : 4999) {
		unsigned char byte, flipped;
		assert_int_equal(env_pread_full(file, &byte, 1, at), 0);
		flipped = byte ^ (unsigned char)(1u << at % 8);
		assert_int_equal(env_pwrite(file, &flipped, 1, at), 0);
		int rc = checkpoint_find(file, &extent, &err);
		if (at < ends[1]) {
			assert_int_equal(rc, -EBADMSG); // the third stands on what is damaged
		} else {
			assert_int_equal(rc, 0);
			assert_int_equal(extent.length, ends[1]);
		}
		assert_int_equal(env_pwrite(file, &byte, 1, at), 0);
	}
	env_close(file);
	env_root_close(root);
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_journal_cut_off_anywhere_has_the_checkpoints_before),
		cmocka_unit_test(a_flipped_bit_in_a_journal_is_found),
	};
	return cmocka_run_group_tests_name("checkpoint_file", tests, NULL, NULL);
}
