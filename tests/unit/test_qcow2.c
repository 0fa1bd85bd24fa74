// SPDX-License-Identifier: Apache-2.0
// The writer and the reader against a model; what QEMU makes of the files is in test_qcow2_qemu.c, damage in
// test_qcow2_damage.c.
#include "format/qcow2_layout.h"
#include "format/qcow2_space.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct qcow2_config small = {.size = 40 * BLOCK_SIZE,
					  .codec = CODEC_ZSTD,
					  .backing_name = "../base/vda.raw",
					  .backing = QCOW2_BACKING_RAW};

static int setup(void **state)
{
	struct temp *temp = calloc(1, sizeof(*temp));
	temp_open(temp);
	*state = temp;
	return 0;
}

static int teardown(void **state)
{
	temp_close(*state);
	free(*state);
	return 0;
}

static void check_file(const struct temp *temp, const char *name, struct model *model)
{
	struct env_file *file;
	assert_int_equal(env_open(temp->root, name, ENV_READ, &file), 0);
	twin_check(file, model);
	env_close(file);
	model_free(model);
}

static void packed_descriptor_counts_the_sectors_behind_the_first(void **state)
{
	(void)state;
	struct qcow2_entry entry = qcow2_entry_pack(0x10000, 512);
	assert_int_equal(entry.where, UINT64_C(0x4000000000010000));
	assert_int_equal(qcow2_packed_bytes(entry), 512);
	entry = qcow2_entry_pack(0x101ff, 2); // the last byte of a sector and the first of the next
	assert_int_equal(entry.where, UINT64_C(0x40400000000101ff));
	assert_int_equal(qcow2_packed_bytes(entry), 513);
	assert_int_equal(qcow2_packed_offset(entry), 0x101ff);
	entry = qcow2_entry_pack(0x101ff, BLOCK_SIZE);
	assert_int_equal(entry.where >> 54, 0x100 | 128);
}

static void mask_spreads_to_two_subclusters_for_a_piece(void **state)
{
	(void)state;
	assert_int_equal(qcow2_mask_spread(0), 0);
	assert_int_equal(qcow2_mask_spread(1), 3);
	assert_int_equal(qcow2_mask_spread(0x8001), 0xc0000003);
	assert_int_equal(qcow2_mask_spread(0x5555), 0x33333333);
	assert_int_equal(qcow2_mask_spread(0xffff), 0xffffffff);
}

static void empty_overlay_holds_nothing(void **state)
{
	struct temp *temp = *state;
	struct twin twin;
	twin_begin(&twin, temp->root, "a", &small, 1);
	struct model model = twin_finish(&twin);
	check_file(temp, "a", &model);
}

static void header_says_what_the_config_said(void **state)
{
	struct temp *temp = *state;
	struct twin twin;
	struct qcow2_reader *reader;
	struct env_file *file;
	twin_begin(&twin, temp->root, "a", &small, 1);
	struct model model = twin_finish(&twin);
	model_free(&model);
	assert_int_equal(env_open(temp->root, "a", ENV_READ, &file), 0);
	assert_int_equal(qcow2_reader_open(file, &reader, NULL), 0);
	assert_int_equal(qcow2_reader_size(reader), small.size);
	assert_string_equal(qcow2_reader_backing(reader), small.backing_name);
	assert_int_equal(qcow2_reader_backing_format(reader), QCOW2_BACKING_RAW);
	qcow2_reader_free(reader);
	env_close(file);
}

// All sequences of four writes of the five kinds, each on a block of its own, interleaved so that the blocks share
// clusters.
static void each_order(struct temp *temp, enum codec codec)
{
	enum { KINDS = 5, LENGTH = 4, SEQUENCES = 625 };
	struct twin twin;
	struct qcow2_config config = small;
	config.codec = codec;
	config.size = SEQUENCES * (uint64_t)BLOCK_SIZE;
	twin_begin(&twin, temp->root, codec_name(codec), &config, 7);
	for (unsigned round = 0, unit = 1; round < LENGTH; round++, unit *= KINDS)
		for (unsigned i = 0; i < SEQUENCES; i++)
			switch (i / unit % KINDS) {
			case 0:
				twin_packed(&twin, i);
				break;
			case 1:
				twin_pieces(&twin, i, 0x0ff0);
				break;
			case 2:
				twin_pieces(&twin, i, 0x8181);
				break;
			case 3:
				twin_pieces(&twin, i, MASK_FULL);
				break;
			default:
				twin_zeros(&twin, i, 1);
				break;
			}
	struct model model = twin_finish(&twin);
	check_file(temp, codec_name(codec), &model);
}

static void every_order_of_writes_reads_back(void **state)
{
	each_order(*state, CODEC_ZSTD);
	each_order(*state, CODEC_ZLIB);
}

static void random_writes_read_back(void **state)
{
	struct temp *temp = *state;
	static const uint64_t sizes[] = {
		512, 4096, 65536, 65536 + 512, 3 * 65536 - 4096 - 512, 100 * 65536 + 7 * 512, 300 * 65536 + 61440};
	for (unsigned i = 0; i < 28; i++) {
		struct twin twin;
		struct qcow2_config config = small;
		char name[16];
		uint64_t seed = 1000 + i;
		config.size = sizes[i % 7];
		config.codec = i % 2 ? CODEC_ZLIB : CODEC_ZSTD;
		(void)snprintf(name, sizeof(name), "r%u", i);
		print_message("# seed %llu, disk of %llu bytes\n", (unsigned long long)seed,
			      (unsigned long long)config.size);
		twin_begin(&twin, temp->root, name, &config, seed);
		for (uint64_t n = 0; n < 10 + twin.model.blocks * 2; n++)
			twin_random(&twin);
		struct model model = twin_finish(&twin);
		check_file(temp, name, &model);
	}
}

static void pieces_past_the_end_of_the_disk_are_ignored(void **state)
{
	struct temp *temp = *state;
	struct twin twin;
	struct qcow2_config config = small;
	struct qcow2_writer_stats stats;
	config.size = BLOCK_SIZE + 2 * PIECE_SIZE;
	twin_begin(&twin, temp->root, "a", &config, 3);
	twin_pieces(&twin, 1, 0xfffc);
	qcow2_writer_stats(twin.writer, &stats);
	assert_int_equal(stats.blocks, 0);
	twin_pieces(&twin, 1, MASK_FULL);
	assert_int_equal(twin.model.mask[1], 3);
	struct model model = twin_finish(&twin);
	check_file(temp, "a", &model);
}

// A packed block that is freed while it is still buffered must not come back over its cluster's next owner.
static void freed_cluster_is_not_overwritten_by_what_was_buffered(void **state)
{
	struct temp *temp = *state;
	struct twin twin;
	twin_begin(&twin, temp->root, "a", &small, 5);
	for (unsigned round = 0; round < 6; round++) {
		for (unsigned i = 0; i < 8; i++)
			twin_packed(&twin, i);
		twin_zeros(&twin, 0, 8);
		twin_pieces(&twin, 10 + round, MASK_FULL);
	}
	struct model model = twin_finish(&twin);
	check_file(temp, "a", &model);
}

// As a caller that keeps a record of what it wrote.
static void dead_space_is_counted_when_an_overlay_is_taken_up_again(void **state)
{
	struct temp *temp = *state;
	struct twin twin;
	struct qcow2_writer_stats before, after;
	struct qcow2_slot slot[40];
	struct err err = {0};
	twin_begin(&twin, temp->root, "a", &small, 5);
	for (unsigned i = 0; i < 20; i++)
		twin_pieces(&twin, i, MASK_FULL);
	for (unsigned i = 20; i < 40; i++)
		twin_packed(&twin, i);
	twin_zeros(&twin, 0, 10);
	for (unsigned i = 20; i < 30; i++) // their streams before are dead
		twin_packed(&twin, i);
	twin_pieces(&twin, 30, MASK_FULL);
	assert_int_equal(qcow2_writer_sync(twin.writer, &err), 0);
	qcow2_writer_stats(twin.writer, &before);
	assert_true(before.dead_bytes >= 9 * BLOCK_SIZE); // one was used again
	for (unsigned i = 0; i < 40; i++)
		slot[i] = qcow2_writer_slot(twin.writer, i);
	uint64_t clusters = qcow2_writer_clusters(twin.writer);
	qcow2_writer_free(twin.writer);
	assert_int_equal(qcow2_writer_resume(twin.file, &small, clusters, &twin.writer, &err), 0);
	for (unsigned i = 0; i < 40; i++)
		if (slot[i].where || slot[i].bits)
			assert_int_equal(qcow2_writer_resume_slot(twin.writer, i, slot[i], &err), 0);
	assert_int_equal(qcow2_writer_resume_end(twin.writer, &err), 0);
	qcow2_writer_stats(twin.writer, &after);
	// But for what the rounding of streams to sectors makes of it, and what lies behind the last byte that counts.
	int64_t off = (int64_t)after.dead_bytes - (int64_t)before.dead_bytes;
	assert_true(llabs(off) <= 5 * BLOCK_SIZE && after.dead_bytes >= 4 * BLOCK_SIZE);
	struct model model = twin_finish(&twin);
	check_file(temp, "a", &model);
}

static void freed_clusters_are_used_again(void **state)
{
	struct temp *temp = *state;
	struct twin twin;
	struct qcow2_writer_stats before, after;
	twin_begin(&twin, temp->root, "a", &small, 5);
	for (unsigned i = 0; i < 20; i++)
		twin_pieces(&twin, i, MASK_FULL);
	qcow2_writer_stats(twin.writer, &before);
	assert_int_equal(before.dead_bytes, 0);
	twin_zeros(&twin, 0, 20);
	qcow2_writer_stats(twin.writer, &after);
	assert_int_equal(after.dead_bytes, 20 * BLOCK_SIZE);
	for (unsigned i = 20; i < 40; i++)
		twin_pieces(&twin, i, 0x00f0);
	qcow2_writer_stats(twin.writer, &after);
	assert_int_equal(after.dead_bytes, 0);
	assert_int_equal(after.file_bytes, before.file_bytes);
	assert_int_equal(after.blocks, 40);
	struct model model = twin_finish(&twin);
	check_file(temp, "a", &model);
}

// A cluster whose last packed block is freed while the row still grows is free when the row ends.
static void cluster_at_the_end_of_a_row_is_used_again(void **state)
{
	enum { LEN = BLOCK_SIZE - BLOCK_SIZE / 8 };
	struct temp *temp = *state;
	struct qcow2_space space;
	struct env_file *file;
	static unsigned char packed[BLOCK_SIZE];
	uint64_t offset;
	assert_int_equal(env_open(temp->root, "a", ENV_CREATE, &file), 0);
	assert_int_equal(qcow2_space_init(&space, file), 0);
	for (unsigned i = 0; i < 4;
	     i++) // clusters 1 to 4 are the row; the fourth stream ends in the middle of cluster 4
		assert_int_equal(qcow2_space_append(&space, packed, LEN, &offset), 0);
	qcow2_space_give_packed(&space, qcow2_entry_pack(offset, LEN));
	assert_int_equal(qcow2_space_take(&space, &offset), 0);
	assert_int_equal(offset, 5 * BLOCK_SIZE);
	assert_int_equal(qcow2_space_append(&space, packed, LEN, &offset), 0);
	assert_int_equal(offset, 6 * BLOCK_SIZE);
	assert_int_equal(qcow2_space_take(&space, &offset), 0);
	assert_int_equal(offset, 4 * BLOCK_SIZE);
	qcow2_space_done(&space);
	env_close(file);
}

static void packed_and_plain_blocks_share_the_file_tightly(void **state)
{
	struct temp *temp = *state;
	struct twin twin;
	struct qcow2_config config = small;
	struct qcow2_writer_stats stats;
	uint64_t packed = 0;
	config.size = 400 * BLOCK_SIZE;
	twin_begin(&twin, temp->root, "a", &config, 6);
	for (unsigned i = 0; i < 400; i += 2) {
		unsigned char to[BLOCK_SIZE];
		twin_packed(&twin, i);
		packed += twin_pack(&twin, to);
		twin_pieces(&twin, i + 1, MASK_FULL);
	}
	qcow2_writer_stats(twin.writer, &stats);
	uint64_t plain = 201 * BLOCK_SIZE;
	assert_in_range(stats.file_bytes, plain + packed, plain + packed + packed / 3 + 4 * BLOCK_SIZE);
	struct model model = twin_finish(&twin);
	check_file(temp, "a", &model);
}

static void one_block_of_the_largest_disk_costs_little(void **state)
{
	struct temp *temp = *state;
	struct qcow2_config config = small;
	struct qcow2_writer *writer;
	struct qcow2_reader *reader;
	struct qcow2_writer_stats stats;
	struct env_file *file;
	struct env_stat st;
	static unsigned char block[BLOCK_SIZE];
	uint64_t next;
	config.size = DISK_SIZE_MAX;
	assert_int_equal(env_open(temp->root, "a", ENV_CREATE, &file), 0);
	assert_int_equal(qcow2_writer_new(file, &config, &writer, NULL), 0);
	assert_int_equal(qcow2_write_pieces(writer, size_blocks(DISK_SIZE_MAX) - 1, 1, block, NULL), 0);
	qcow2_writer_stats(writer, &stats);
	assert_int_equal(stats.blocks, 1);
	assert_in_range(stats.memory_bytes, 1, 3 << 20); // 2 MiB are the pointers to the tables
	assert_int_equal(qcow2_writer_finish(writer, NULL), 0);
	qcow2_writer_free(writer);
	assert_int_equal(env_stat(temp->root, "a", &st), 0);
	assert_in_range(st.size, 1, 3 << 20);
	assert_int_equal(qcow2_reader_open(file, &reader, NULL), 0);
	assert_int_equal(qcow2_reader_next(reader, 0, &next, NULL), 0);
	assert_int_equal(next, size_blocks(DISK_SIZE_MAX) - 1);
	qcow2_reader_free(reader);
	env_close(file);
}

// More tables than the reader keeps, visited in an order that makes it forget and read again.
static void blocks_far_apart_read_back_in_any_order(void **state)
{
	enum { TABLES = 9 };
	struct temp *temp = *state;
	struct qcow2_config config = small;
	struct qcow2_writer *writer;
	struct qcow2_reader *reader;
	struct env_file *file;
	static unsigned char block[BLOCK_SIZE];
	uint64_t seed = 12, far = QCOW2_L2_ENTRIES;
	uint16_t mask;
	config.size = TABLES * far * BLOCK_SIZE;
	assert_int_equal(env_open(temp->root, "a", ENV_CREATE, &file), 0);
	assert_int_equal(qcow2_writer_new(file, &config, &writer, NULL), 0);
	for (unsigned i = 0; i < TABLES; i++) {
		memset(block, (int)i + 1, sizeof(block));
		assert_int_equal(qcow2_write_pieces(writer, i * far + i * 300, MASK_FULL, block, NULL), 0);
	}
	assert_int_equal(qcow2_writer_finish(writer, NULL), 0);
	qcow2_writer_free(writer);
	assert_int_equal(qcow2_reader_open(file, &reader, NULL), 0);
	for (unsigned n = 0; n < 200; n++) {
		uint64_t i = draw_below(&seed, TABLES), other = draw_below(&seed, TABLES);
		assert_int_equal(qcow2_reader_read(reader, i * far + other * 300, block, &mask, NULL), 0);
		assert_int_equal(mask, i == other ? MASK_FULL : 0);
		assert_true(i != other || block[BLOCK_SIZE - 1] == i + 1);
	}
	qcow2_reader_free(reader);
	env_close(file);
}

static void zeros_of_the_largest_disk_cost_little_and_read_back(void **state)
{
	struct temp *temp = *state;
	struct qcow2_config config = small;
	struct qcow2_writer *writer;
	struct qcow2_reader *reader;
	struct qcow2_writer_stats stats;
	struct env_file *file;
	struct env_stat st;
	static unsigned char block[BLOCK_SIZE];
	uint64_t last = size_blocks(DISK_SIZE_MAX) - 1, next;
	uint16_t mask;
	config.size = DISK_SIZE_MAX;
	assert_int_equal(env_open(temp->root, "a", ENV_CREATE, &file), 0);
	assert_int_equal(qcow2_writer_new(file, &config, &writer, NULL), 0);
	assert_int_equal(qcow2_write_zeros(writer, 3, last - 5, NULL), 0);
	qcow2_writer_stats(writer, &stats);
	assert_int_equal(stats.blocks, last - 5);
	assert_in_range(stats.memory_bytes, 1, 3 << 20);
	assert_int_equal(qcow2_writer_finish(writer, NULL), 0);
	qcow2_writer_free(writer);
	assert_int_equal(env_stat(temp->root, "a", &st), 0);
	assert_in_range(st.size, 1, 4 << 20);
	assert_int_equal(qcow2_reader_open(file, &reader, NULL), 0);
	assert_int_equal(qcow2_reader_next(reader, 0, &next, NULL), 0);
	assert_int_equal(next, 3);
	for (uint64_t i = 3; i < last - 2; i += 1000003) {
		memset(block, 1, sizeof(block));
		assert_int_equal(qcow2_reader_read(reader, i, block, &mask, NULL), 0);
		assert_int_equal(mask, MASK_FULL);
		assert_true(bytes_zero(block, sizeof(block)));
	}
	assert_int_equal(qcow2_reader_read(reader, last - 2, block, &mask, NULL), 0);
	assert_int_equal(mask, 0);
	assert_int_equal(qcow2_reader_next(reader, last - 2, &next, NULL), -ENOENT);
	qcow2_reader_free(reader);
	env_close(file);
}

static void shared_zeros_become_single_blocks_when_written(void **state)
{
	struct temp *temp = *state;
	struct twin twin;
	struct qcow2_config config = small;
	config.size = 3 * 4096 * (uint64_t)BLOCK_SIZE / 8; // one and a half tables
	twin_begin(&twin, temp->root, "a", &config, 9);
	twin_zeros(&twin, 0, twin.model.blocks);
	twin_packed(&twin, 700);
	twin_pieces(&twin, 701, 0x0100);
	twin_pieces(&twin, twin.model.blocks - 1, MASK_FULL);
	twin_zeros(&twin, 600, 300);
	twin_packed(&twin, 650);
	struct model model = twin_finish(&twin);
	check_file(temp, "a", &model);
}

static void cluster_of_tiny_streams_stays_within_its_refcount(void **state)
{
	struct temp *temp = *state;
	struct qcow2_space space;
	struct env_file *file;
	uint64_t offset;
	assert_int_equal(env_open(temp->root, "a", ENV_CREATE, &file), 0);
	assert_int_equal(qcow2_space_init(&space, file), 0);
	for (unsigned i = 0; i < QCOW2_REFCOUNT_MAX; i++)
		assert_int_equal(qcow2_space_append(&space, "x", 1, &offset), 0);
	assert_int_equal(space.refs[1], QCOW2_REFCOUNT_MAX);
	assert_int_equal(qcow2_space_append(&space, "y", 1, &offset), 0);
	assert_int_equal(offset, 2 * QCOW2_CLUSTER_SIZE);
	assert_int_equal(space.refs[1], QCOW2_REFCOUNT_MAX);
	assert_int_equal(qcow2_space_flush(&space), 0);
	char byte;
	assert_int_equal(env_pread_full(file, &byte, 1, offset), 0);
	assert_int_equal(byte, 'y');
	qcow2_space_done(&space);
	env_close(file);
}

static void packed_stream_that_is_none_is_found_when_it_is_merged(void **state)
{
	struct temp *temp = *state;
	struct qcow2_writer *writer;
	struct env_file *file;
	struct err err = {0};
	static unsigned char block[BLOCK_SIZE];
	assert_int_equal(env_open(temp->root, "a", ENV_CREATE, &file), 0);
	assert_int_equal(qcow2_writer_new(file, &small, &writer, &err), 0);
	assert_int_equal(qcow2_write_packed(writer, 0, "junk", 4, &err), 0);
	assert_int_equal(qcow2_write_pieces(writer, 0, 1, block, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "no zstd stream"));
	assert_int_equal(qcow2_write_pieces(writer, 0, MASK_FULL, block, &err), 0);
	qcow2_writer_free(writer);
	env_close(file);
}

static void writes_past_the_end_are_refused(void **state)
{
	struct temp *temp = *state;
	struct qcow2_writer *writer;
	struct env_file *file;
	struct err err = {0};
	static unsigned char block[BLOCK_SIZE];
	assert_int_equal(env_open(temp->root, "a", ENV_CREATE, &file), 0);
	assert_int_equal(qcow2_writer_new(file, &small, &writer, &err), 0);
	assert_int_equal(qcow2_write_packed(writer, 40, block, 5, &err), -EINVAL);
	assert_int_equal(qcow2_write_pieces(writer, UINT64_MAX, 1, block, &err), -EINVAL);
	assert_int_equal(qcow2_write_zeros(writer, 39, 2, &err), -EINVAL);
	assert_int_equal(qcow2_write_zeros(writer, 1, UINT64_MAX, &err), -EINVAL);
	assert_int_equal(qcow2_write_packed(writer, 0, block, 0, &err), -EINVAL);
	assert_int_equal(qcow2_write_packed(writer, 0, block, BLOCK_SIZE + 1, &err), -EINVAL);
	assert_int_equal(qcow2_write_zeros(writer, 40, 0, &err), 0);
	qcow2_writer_free(writer);
	env_close(file);
}

static int try_config(const struct temp *temp, const struct qcow2_config *config)
{
	struct qcow2_writer *writer = NULL;
	struct env_file *file;
	struct err err = {0};
	(void)env_unlink(temp->root, "config");
	assert_int_equal(env_open(temp->root, "config", ENV_CREATE, &file), 0);
	int rc = qcow2_writer_new(file, config, &writer, &err);
	assert_true(rc == 0 || err.text[0]);
	qcow2_writer_free(writer);
	env_close(file);
	return rc;
}

static void config_that_cannot_be_is_refused(void **state)
{
	struct temp *temp = *state;
	char name[600];
	static const char *const bad_names[] = {"/etc/passwd", "nbd:localhost:1", "json:{}", "a:b", "a\nb", "a\x7f"};
	struct qcow2_config config = small;
	for (unsigned i = 0; i < 6; i++) {
		config.backing_name = bad_names[i];
		assert_int_equal(try_config(temp, &config), -EINVAL);
	}
	memset(name, 'n', sizeof(name));
	config.backing_name = name;
	name[376] = 0;
	assert_int_equal(try_config(temp, &config), 0);
	name[376] = 'n';
	name[377] = 0;
	assert_int_equal(try_config(temp, &config), -EINVAL);
	static const uint64_t bad_sizes[] = {0, 1, 513, DISK_SIZE_MAX + 512};
	config = small;
	for (unsigned i = 0; i < 4; i++) {
		config.size = bad_sizes[i];
		assert_int_equal(try_config(temp, &config), -EINVAL);
	}
	config = small;
	config.codec = CODEC_LZ4;
	assert_int_equal(try_config(temp, &config), -EINVAL);
	config.codec = CODEC_NONE;
	assert_int_equal(try_config(temp, &config), -EINVAL);
}

static void file_that_is_not_empty_is_not_written(void **state)
{
	struct temp *temp = *state;
	struct qcow2_writer *writer;
	struct env_file *file;
	assert_int_equal(env_open(temp->root, "a", ENV_CREATE, &file), 0);
	assert_int_equal(env_pwrite(file, "x", 1, 0), 0);
	assert_int_equal(qcow2_writer_new(file, &small, &writer, NULL), -EEXIST);
	env_close(file);
}

static void set_backing_changes_the_name_and_nothing_else(void **state)
{
	struct temp *temp = *state;
	struct twin twin;
	struct env_file *file;
	struct qcow2_reader *reader;
	twin_begin(&twin, temp->root, "a", &small, 11);
	for (unsigned i = 0; i < 60; i++)
		twin_random(&twin);
	struct model model = twin_finish(&twin);
	assert_int_equal(env_open(temp->root, "a", ENV_WRITE, &file), 0);
	assert_int_equal(qcow2_set_backing(file, "../7/vda.qcow2", QCOW2_BACKING_QCOW2, NULL), 0);
	assert_int_equal(qcow2_set_backing(file, "json:{}", QCOW2_BACKING_RAW, NULL), -EINVAL);
	assert_int_equal(qcow2_set_backing(file, "", QCOW2_BACKING_RAW, NULL), -EINVAL);
	assert_int_equal(qcow2_reader_open(file, &reader, NULL), 0);
	assert_string_equal(qcow2_reader_backing(reader), "../7/vda.qcow2");
	assert_int_equal(qcow2_reader_backing_format(reader), QCOW2_BACKING_QCOW2);
	qcow2_reader_free(reader);
	env_close(file);
	check_file(temp, "a", &model);
}

static void set_backing_refuses_a_file_that_is_no_image(void **state)
{
	struct temp *temp = *state;
	struct env_file *file;
	char byte = 0;
	assert_int_equal(env_open(temp->root, "a", ENV_CREATE, &file), 0);
	assert_int_equal(env_truncate(file, 1 << 20), 0);
	assert_int_equal(qcow2_set_backing(file, "b", QCOW2_BACKING_RAW, NULL), -EBADMSG);
	assert_int_equal(env_pread_full(file, &byte, 1, 0), 0);
	assert_int_equal(byte, 0);
	env_close(file);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(packed_descriptor_counts_the_sectors_behind_the_first),
		TEST(mask_spreads_to_two_subclusters_for_a_piece),
		TEST(empty_overlay_holds_nothing),
		TEST(header_says_what_the_config_said),
		TEST(every_order_of_writes_reads_back),
		TEST(random_writes_read_back),
		TEST(pieces_past_the_end_of_the_disk_are_ignored),
		TEST(freed_cluster_is_not_overwritten_by_what_was_buffered),
		TEST(freed_clusters_are_used_again),
		TEST(dead_space_is_counted_when_an_overlay_is_taken_up_again),
		TEST(cluster_at_the_end_of_a_row_is_used_again),
		TEST(packed_and_plain_blocks_share_the_file_tightly),
		TEST(one_block_of_the_largest_disk_costs_little),
		TEST(blocks_far_apart_read_back_in_any_order),
		TEST(zeros_of_the_largest_disk_cost_little_and_read_back),
		TEST(shared_zeros_become_single_blocks_when_written),
		TEST(cluster_of_tiny_streams_stays_within_its_refcount),
		TEST(packed_stream_that_is_none_is_found_when_it_is_merged),
		TEST(writes_past_the_end_are_refused),
		TEST(config_that_cannot_be_is_refused),
		TEST(file_that_is_not_empty_is_not_written),
		TEST(set_backing_changes_the_name_and_nothing_else),
		TEST(set_backing_refuses_a_file_that_is_no_image),
	};
	return cmocka_run_group_tests_name("qcow2", tests, NULL, NULL);
}
