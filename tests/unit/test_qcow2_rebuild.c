// SPDX-License-Identifier: Apache-2.0
// A header that is lost is the one that was written, for small disks and large, whatever shares a table (format/qcow2_rebuild.c); and where the blocks are others,
// or the file is, there is none.
#include "format/qcow2_rebuild.h"

#include "base/log.h"
#include "base/size.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { HEADER = 512, TABLE = QCOW2_TABLE_BLOCKS };

struct run { // of blocks that the overlay holds
	uint64_t first, count;
	bool zeros;
};

struct made {
	uint64_t size;
	struct run run[4];
};

static uint64_t made_next(const void *context, uint64_t from)
{
	const struct made *made = context;
	for (size_t i = 0; i < 4; i++)
		if (made->run[i].count && from < made->run[i].first + made->run[i].count)
			return from > made->run[i].first ? from : made->run[i].first;
	return UINT64_MAX;
}

static struct qcow2_config config_of(const struct made *made)
{
	return (struct qcow2_config){.size = made->size, .codec = CODEC_ZSTD, .backing_name = "../7/vda.qcow2", .backing = QCOW2_BACKING_QCOW2};
}

static struct env_file *make(struct temp *temp, const struct made *made)
{
	static unsigned char block[BLOCK_SIZE];
	struct qcow2_config config = config_of(made);
	struct env_file *file = NULL;
	struct qcow2_writer *writer = NULL;
	(void)env_unlink(temp->root, "image");
	assert_int_equal(env_open(temp->root, "image", ENV_CREATE, &file), 0);
	assert_int_equal(qcow2_writer_new(file, &config, &writer, NULL), 0);
	for (size_t i = 0; i < 4; i++) {
		const struct run *run = &made->run[i];
		memset(block, (int)i + 1, sizeof(block));
		if (run->zeros)
			assert_int_equal(qcow2_write_zeros(writer, run->first, run->count, NULL), 0);
		for (uint64_t b = run->first; !run->zeros && b < run->first + run->count; b++)
			assert_int_equal(qcow2_write_pieces(writer, b, b % 2 ? 0x00f0 : MASK_FULL, block, NULL), 0);
	}
	assert_int_equal(qcow2_writer_finish(writer, NULL), 0);
	qcow2_writer_free(writer);
	return file;
}

static int rebuild(struct env_file *file, const struct made *made, struct qcow2_reader **ret_reader)
{
	const struct qcow2_config config = config_of(made);
	return qcow2_rebuild(file, &config, made_next, made, ret_reader, NULL);
}

static const struct made images[] = {
	{.size = 512},
	{.size = BLOCK_SIZE, .run = {{0, 1, false}}},
	{.size = 9 * BLOCK_SIZE - 512, .run = {{1, 2, false}, {5, 3, true}}},
	{.size = 3 * TABLE * BLOCK_SIZE, .run = {{TABLE - 1, 2, false}, {2 * TABLE + 9, 1, false}}},
	{.size = 100 * TABLE * (uint64_t)BLOCK_SIZE, .run = {{3 * TABLE, 70 * TABLE, true}, {80 * TABLE + 1, 3, false}, {90 * TABLE, 2 * TABLE, true}}},
	{.size = 9000 * TABLE * (uint64_t)BLOCK_SIZE, .run = {{0, 1, false}, {8500 * TABLE, 2, false}}}, // two clusters of L1 table
};
enum { IMAGES = sizeof(images) / sizeof(images[0]) };

static void header_that_is_lost_is_the_one_that_was_written(void **state)
{
	static const unsigned char zeros[HEADER];
	struct temp temp;
	(void)state;
	temp_open(&temp);
	for (size_t i = 0; i < IMAGES; i++) {
		struct env_file *file = make(&temp, &images[i]);
		struct qcow2_reader *reader = NULL;
		unsigned char was[HEADER], is[HEADER];
		assert_int_equal(env_pread_full(file, was, HEADER, 0), 0);
		assert_int_equal(env_pwrite(file, zeros, HEADER, 0), 0);
		assert_int_equal(rebuild(file, &images[i], &reader), 0);
		assert_int_equal(qcow2_rebuild_write(reader, NULL), 0);
		qcow2_reader_free(reader);
		assert_int_equal(env_pread_full(file, is, HEADER, 0), 0);
		assert_memory_equal(is, was, HEADER);
		env_close(file);
	}
	temp_close(&temp);
}

static void no_header_is_made_for_other_blocks(void **state)
{
	struct temp temp;
	(void)state;
	temp_open(&temp);
	for (size_t i = 2; i < 4; i++) {
		struct env_file *file = make(&temp, &images[i]);
		for (unsigned wrong = 0; wrong < 4; wrong++) {
			struct made other = images[i];
			struct qcow2_reader *reader = NULL;
			other.run[0].first += wrong == 0;
			other.run[1].count += wrong == 1;
			other.run[1].count -= wrong == 2;
			other.size += wrong == 3 ? TABLE * (uint64_t)BLOCK_SIZE * 8192 : 0; // another length of L1 table
			if (rebuild(file, &other, &reader) != -EBADMSG)
				fail_msg("image %zu, wrong %u", i, wrong);
		}
		env_close(file);
	}
	temp_close(&temp);
}

static void no_header_is_made_for_a_file_that_was_cut_off(void **state)
{
	struct temp temp;
	(void)state;
	temp_open(&temp);
	for (size_t i = 1; i < 4; i++) {
		struct env_file *file = make(&temp, &images[i]);
		uint64_t size = 0;
		assert_int_equal(env_size(file, &size), 0);
		for (uint64_t less = 1; less <= size / BLOCK_SIZE; less++)
			for (uint64_t more = 0; more < 2; more++) {
				struct qcow2_reader *reader = NULL;
				assert_int_equal(env_truncate(file, size - less * BLOCK_SIZE + more * 512), 0);
				assert_int_equal(rebuild(file, &images[i], &reader), -EBADMSG);
			}
		env_close(file);
	}
	temp_close(&temp);
}

int main(void)
{
	log_init("test_qcow2_rebuild", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_that_is_lost_is_the_one_that_was_written),
		cmocka_unit_test(no_header_is_made_for_other_blocks),
		cmocka_unit_test(no_header_is_made_for_a_file_that_was_cut_off),
	};
	return cmocka_run_group_tests_name("qcow2_rebuild", tests, NULL, NULL);
}
