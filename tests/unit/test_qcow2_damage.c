// SPDX-License-Identifier: Apache-2.0
// What is not as it should be: images with wrong fields, flipped bits and cut ends; disks that fill up or fail;
// power cuts.
#include "format/qcow2_layout.h"
#include "tests/lib/twin.h"
#include "tests/sim/crash_test.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 12, L1_AT = 40, HEADER_BYTES = 160 };

struct world {
	struct temp temp;
	struct env_file *file; // an image with a block of each kind
	uint64_t size;	       // of the file
	uint64_t l1, l2;       // where its tables are
	unsigned char *bytes;  // of the file
};

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	struct twin twin;
	struct qcow2_config config = {.size = BLOCKS * BLOCK_SIZE - 1536,
				      .codec = CODEC_ZSTD,
				      .backing_name = "base.raw"};
	temp_open(&world->temp);
	twin_begin(&twin, world->temp.root, "a", &config, 77);
	twin_packed(&twin, 0);
	twin_packed(&twin, 1);
	twin_pieces(&twin, 3, 0x00f0);
	twin_pieces(&twin, 4, MASK_FULL);
	twin_zeros(&twin, 6, 2);
	twin_pieces(&twin, 7, 0x8001);
	twin_packed(&twin, BLOCKS - 1);
	struct model model = twin_finish(&twin);
	model_free(&model);
	assert_int_equal(env_open(world->temp.root, "a", ENV_WRITE, &world->file), 0);
	assert_int_equal(env_size(world->file, &world->size), 0);
	world->bytes = malloc(world->size);
	assert_non_null(world->bytes);
	assert_int_equal(env_pread_full(world->file, world->bytes, world->size, 0), 0);
	world->l1 = get_be64(world->bytes + L1_AT);
	world->l2 = get_be64(world->bytes + world->l1) & QCOW2_OFFSET_MASK;
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;
	env_close(world->file);
	temp_close(&world->temp);
	free(world->bytes);
	free(world);
	return 0;
}

static void put(const struct world *world, uint64_t off, const void *bytes, size_t len)
{
	assert_int_equal(env_pwrite(world->file, bytes, len, off), 0);
}

static void put_back(const struct world *world, uint64_t off, size_t len)
{
	put(world, off, world->bytes + off, len);
}

// Opens and reads all of it, and stops at the first refusal, which has a reason.
static int read_all(struct env_file *file, struct err *err)
{
	struct qcow2_reader *reader;
	*err = (struct err){0};
	int rc = qcow2_reader_open(file, &reader, err);
	if (rc) {
		assert_true(rc == -EBADMSG || rc == -EOPNOTSUPP);
		assert_true(err->text[0]);
		return rc;
	}
	uint64_t index = 0, blocks = size_blocks(qcow2_reader_size(reader));
	while (rc == 0 && index < blocks && (rc = qcow2_reader_next(reader, index, &index, err)) == 0) {
		unsigned char block[BLOCK_SIZE];
		uint16_t mask;
		rc = qcow2_reader_read(reader, index++, block, &mask, err);
	}
	qcow2_reader_free(reader);
	if (rc == -ENOENT)
		return 0;
	assert_true(rc == 0 || err->text[0]);
	return rc;
}

static void wrong_header_fields_are_refused_with_a_reason(void **state)
{
	static const struct {
		unsigned off, width;
		uint64_t value;
		int code;
		const char *reason;
	} fields[] = {
		{0, 4, 0, -EBADMSG, "magic"},
		{4, 4, 2, -EOPNOTSUPP, "version 2"},
		{4, 4, 4, -EOPNOTSUPP, "version 4"},
		{8, 8, 8, -EBADMSG, "backing name"},
		{8, 8, 4090, -EBADMSG, "backing name"},
		{8, 8, UINT64_MAX, -EBADMSG, "backing name"},
		{8, 8, 112, -EBADMSG, "backing name"}, // the extension, with NULs
		{16, 4, 0, -EBADMSG, "backing name"},
		{16, 4, 377, -EBADMSG, "backing name"},
		{16, 4, UINT32_MAX, -EBADMSG, "backing name"},
		{16, 4, 9, -EBADMSG, "backing name"}, // holds a NUL
		{20, 4, 17, -EOPNOTSUPP, "2^17"},
		{20, 4, UINT32_MAX, -EOPNOTSUPP, "clusters"},
		{24, 8, 0, -EBADMSG, "virtual size"},
		{24, 8, 513, -EBADMSG, "virtual size"},
		{24, 8, UINT64_MAX - 511, -EBADMSG, "virtual size"},
		{24, 8, UINT64_C(1) << 30, -EBADMSG, "L1 table"}, // four entries are needed, one is there
		{32, 4, 1, -EOPNOTSUPP, "encrypted"},
		{36, 4, 0, -EBADMSG, "L1 table"},
		{36, 4, UINT32_MAX, -EBADMSG, "L1 table"},
		{36, 4, 262144, -EBADMSG, "L1 table"},
		{40, 8, 0, -EBADMSG, "L1 table"},
		{40, 8, 512, -EBADMSG, "L1 table"},
		{40, 8, UINT64_C(1) << 40, -EBADMSG, "L1 table"},
		{40, 8, UINT64_MAX & ~UINT64_C(0xffff), -EBADMSG, "L1 table"},
		{48, 8, 0, -EBADMSG, "refcount table"},
		{48, 8, UINT64_MAX & ~UINT64_C(0xffff), -EBADMSG, "refcount table"},
		{56, 4, 0, -EBADMSG, "refcount table"},
		{56, 4, UINT32_MAX, -EBADMSG, "refcount table"},
		{60, 4, 1, -EOPNOTSUPP, "snapshots"},
		{72, 8, 0x19, -EOPNOTSUPP, "incompatible features 0x1"},
		{72, 8, 0x1a, -EOPNOTSUPP, "incompatible features 0x2"},
		{72, 8, 0x1c, -EOPNOTSUPP, "external data file"},
		{72, 8, UINT64_C(1) << 63 | 0x18, -EOPNOTSUPP, "incompatible features 0x8"},
		{72, 8, 0x08, -EOPNOTSUPP, "no extended L2"},
		{72, 8, 0x10, -EBADMSG, "compression type"},
		{96, 4, 7, -EBADMSG, "refcount order"},
		{100, 4, 104, -EBADMSG, "header length"},
		{100, 4, 113, -EBADMSG, "header length"},
		{100, 4, UINT32_MAX, -EBADMSG, "header length"},
		{104, 1, 0, -EBADMSG, "compression type"},
		{104, 1, 2, -EBADMSG, "compression type"},
		{112, 4, 0, -EOPNOTSUPP, "format of the backing file"},
		{116, 4, UINT32_MAX, -EBADMSG, "header extension"},
		{116, 4, 17, -EBADMSG, "header extension"},
		{120, 1, 'x', -EOPNOTSUPP, "format of the backing file"},
		{136, 1, '/', -EOPNOTSUPP, "backing name"},
		{137, 1, ':', -EOPNOTSUPP, "backing name"},
		{137, 1, 0, -EBADMSG, "backing name"},
	};
	struct world *world = *state;
	struct err err;
	assert_int_equal(read_all(world->file, &err), 0);
	for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		unsigned char value[8];
		put_be64(value, fields[i].value << (64 - 8 * fields[i].width));
		put(world, fields[i].off, value, fields[i].width);
		int rc = read_all(world->file, &err);
		if (rc != fields[i].code || !strstr(err.text, fields[i].reason))
			fail_msg("%u = %#llx: %d, %s", fields[i].off, (unsigned long long)fields[i].value, rc,
				 err.text);
		put_back(world, fields[i].off, fields[i].width);
	}
	assert_int_equal(read_all(world->file, &err), 0);
}

// What QEMU would follow out of the protection, or take for a protocol or for options.
static void backing_name_that_leads_elsewhere_is_refused(void **state)
{
	static const char *const names[] = {"/etc/passwd", "json:{\"driver\":\"null-co\"}", "nbd:unix:/tmp/s", "nbd://host/disk", "fat:/etc", "file:/etc/passwd",
					    "a:b", "base\nraw", "base\177raw"};
	struct world *world = *state;
	struct err err;
	unsigned char len[4];
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		put_be32(len, (uint32_t)strlen(names[i]));
		put(world, 16, len, sizeof(len));
		put(world, get_be64(world->bytes + 8), names[i], strlen(names[i]));
		int rc = read_all(world->file, &err);
		if (rc != -EOPNOTSUPP || !strstr(err.text, "backing name"))
			fail_msg("%s: %d, %s", names[i], rc, err.text);
		put_back(world, 0, 4096);
	}
	assert_int_equal(read_all(world->file, &err), 0);
}

static void wrong_table_entries_are_refused(void **state)
{
	static const struct qcow2_entry entries[] = {
		{1, 1},						 // reserved bit
		{QCOW2_COPIED | 0x10200, 1},			 // not on a cluster
		{QCOW2_COPIED | 0x10001, 1},			 // reserved bit 0
		{QCOW2_COPIED | UINT64_C(1) << 56 | 0x10000, 1}, // reserved bit
		{QCOW2_COPIED | UINT64_C(1) << 50, 1},		 // outside of the file
		{QCOW2_OFFSET_MASK & ~UINT64_C(0xffff), 1},	 // the same, at the very end of all
		{0, 1},						 // allocated nowhere
		{QCOW2_COPIED, 0x100000000},			 // copied nowhere
		{QCOW2_COPIED | 0x10000, 0x100000003},		 // allocated and zero
		{QCOW2_COPIED | 0x10000, 1},			 // half a piece
		{QCOW2_PACKED | 0x10000, 1},			 // packed, with a bitmap
		{QCOW2_PACKED | QCOW2_COPIED | 0x10000, 0},	 // packed and copied
		{QCOW2_PACKED | 0, 0},				 // the header
		{QCOW2_PACKED | QCOW2_PACKED_OFFSET_MASK, 0},	 // outside of the file
		{QCOW2_PACKED | 0x10003, 0},			 // no stream begins there
	};
	static const uint64_t l1_entries[] = {
		1,	    QCOW2_COPIED,	   QCOW2_COPIED | 0x200, QCOW2_COPIED | UINT64_C(1) << 50,
		UINT64_MAX, QCOW2_PACKED | 0x10000};
	struct world *world = *state;
	struct err err;
	unsigned char bytes[QCOW2_ENTRY_SIZE];
	for (unsigned i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		uint64_t at = world->l2 + 2 * QCOW2_ENTRY_SIZE;
		qcow2_entry_put(bytes, entries[i]);
		put(world, at, bytes, sizeof(bytes));
		struct qcow2_reader *reader;
		unsigned char block[BLOCK_SIZE];
		uint16_t mask;
		assert_int_equal(qcow2_reader_open(world->file, &reader, &err), 0);
		int rc = qcow2_reader_read(reader, 2, block, &mask, &err);
		if (rc != -EBADMSG && rc != -EOPNOTSUPP)
			fail_msg("entry %u: %d", i, rc);
		assert_int_equal(qcow2_reader_read(reader, 3, block, &mask, &err), 0);
		assert_int_equal(qcow2_reader_read(reader, BLOCKS, block, &mask, &err), -EINVAL);
		qcow2_reader_free(reader);
		put_back(world, at, sizeof(bytes));
	}
	for (unsigned i = 0; i < sizeof(l1_entries) / sizeof(l1_entries[0]); i++) {
		put_be64(bytes, l1_entries[i]);
		put(world, world->l1, bytes, 8);
		assert_int_equal(read_all(world->file, &err), -EBADMSG);
		put_back(world, world->l1, 8);
	}
}

static void any_flipped_bit_is_refused_or_harmless(void **state)
{
	struct world *world = *state;
	struct err err;
	const struct {
		uint64_t at;
		size_t len;
	} areas[] = {{0, HEADER_BYTES},
		     {world->l1, 8},
		     {world->l2, BLOCKS * QCOW2_ENTRY_SIZE},
		     {QCOW2_CLUSTER_SIZE, 64}};
	for (unsigned a = 0; a < sizeof(areas) / sizeof(areas[0]); a++)
		for (size_t i = 0; i < areas[a].len * 8; i++) {
			uint64_t at = areas[a].at + i / 8;
			unsigned char byte = world->bytes[at] ^ (unsigned char)(1u << i % 8);
			put(world, at, &byte, 1);
			(void)read_all(world->file, &err);
			put_back(world, at, 1);
		}
	assert_int_equal(read_all(world->file, &err), 0);
}

static void image_without_its_end_is_refused(void **state)
{
	struct world *world = *state;
	struct err err;
	for (uint64_t size = world->size; size > 0; size -= min_u64(size, size > 2048 ? 4096 : 1)) {
		assert_int_equal(env_truncate(world->file, size - 1), 0);
		assert_int_equal(read_all(world->file, &err), -EBADMSG);
	}
}

// Only what lies on the disk is handed out, even where a packed block says more.
static void bytes_past_the_end_of_the_disk_read_as_zeros(void **state)
{
	struct world *world = *state;
	struct qcow2_reader *reader;
	unsigned char block[BLOCK_SIZE], value[8];
	uint16_t mask;
	put_be64(value, BLOCK_SIZE + 5 * 512); // ends within block 1
	put(world, 24, value, 8);
	assert_int_equal(qcow2_reader_open(world->file, &reader, NULL), 0);
	memset(block, 0xa5, sizeof(block));
	assert_int_equal(qcow2_reader_read(reader, 1, block, &mask, NULL), 0);
	assert_int_equal(mask, 1);
	assert_false(bytes_zero(block, 5 * 512));
	assert_true(bytes_zero(block + 5 * 512, PIECE_SIZE - 5 * 512));
	assert_int_equal(block[PIECE_SIZE], 0xa5);
	qcow2_reader_free(reader);
}

// --- failing disks: the simulated world ---

static const struct qcow2_config sim_config = {.size = 40 * BLOCK_SIZE,
					       .codec = CODEC_ZSTD,
					       .backing_name = "base.raw",
					       .backing = QCOW2_BACKING_RAW};

// Sends the same blocks as often as it takes: what failed once is tried again.
static void write_until_taken(struct twin *twin, struct model *model)
{
	unsigned char packed[BLOCK_SIZE];
	for (unsigned i = 0; i < 90; i++) {
		uint64_t index = draw_below(&twin->seed, model->blocks);
		unsigned kind = (unsigned)draw_below(&twin->seed, 4);
		uint16_t mask = kind == 0 ? (uint16_t)(draw(&twin->seed) | 1) : MASK_FULL;
		twin_draw(twin, index);
		if (kind == 3)
			memset(twin->block, 0, BLOCK_SIZE);
		size_t len = twin_pack(twin, packed);
		int rc = -ENOSPC;
		for (unsigned tries = 0; rc && tries < 3; tries++)
			rc = kind == 3	 ? qcow2_write_zeros(twin->writer, index, 1, NULL)
			     : kind == 2 ? qcow2_write_packed(twin->writer, index, packed, len, NULL)
					 : qcow2_write_pieces(twin->writer, index, mask, twin->block, NULL);
		assert_int_equal(rc, 0);
		model->mask[index] |= mask;
		for (unsigned j = 0; j < PIECES_PER_BLOCK; j++)
			if (mask >> j & 1)
				memcpy(model->data + index * BLOCK_SIZE + j * PIECE_SIZE, twin->block + j * PIECE_SIZE,
				       PIECE_SIZE);
	}
}

static void write_that_failed_can_be_made_again(void **state)
{
	(void)state;
	bool failed = true;
	uint64_t step = 1;
	for (uint64_t op = 2; failed; op += step) {
		struct sim *sim = sim_new(op);
		struct env_root *root;
		struct twin twin;
		assert_int_equal(env_root_open(sim_env(sim), "/", &root), 0);
		twin_begin(&twin, root, "a", &sim_config, 900);
		sim_fail_at(sim, sim_ops(sim) + op, -ENOSPC, false);
		write_until_taken(&twin, &twin.model);
		failed = sim_has_failed(sim);
		sim_fail_at(sim, SIM_NEVER, 0, false);
		struct model model = twin_finish(&twin);
		struct env_file *file;
		assert_int_equal(env_open(root, "a", ENV_READ, &file), 0);
		twin_check(file, &model);
		model_free(&model);
		env_close(file);
		env_root_close(root);
		sim_free(sim);
	}
}

struct promise {
	bool finished;
	bool named; // the new backing name
	uint64_t seed;
};

static int finish_setup(struct env *env, void *context, struct err *err)
{
	struct env_root *root;
	(void)context;
	int rc = env_root_open(env, "/", &root);
	if (rc == 0)
		rc = env_mkdir(root, "head");
	env_root_close(root);
	return rc ? err_sys(err, rc, "setup") : 0;
}

static int write_few(struct qcow2_writer *writer, struct err *err)
{
	static unsigned char block[BLOCK_SIZE];
	unsigned char packed[BLOCK_SIZE];
	struct codec_context *codec = codec_new();
	memset(block, 'p', sizeof(block));
	size_t len = codec_pack(codec, CODEC_ZSTD, block, sizeof(block), packed, sizeof(packed));
	codec_free(codec);
	int rc = qcow2_write_packed(writer, 0, packed, len, err);
	if (rc == 0)
		rc = qcow2_write_zeros(writer, 1, 1, err);
	memset(block, 'q', sizeof(block));
	if (rc == 0)
		rc = qcow2_write_pieces(writer, 2, 1, block, err);
	return rc;
}

static int finish_run(struct env *env, void *context, struct err *err)
{
	struct promise *promise = context;
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	struct qcow2_writer *writer = NULL;
	promise->finished = false;
	int rc = env_root_open(env, "/", &root);
	if (rc == 0)
		rc = env_open(root, "head/a", ENV_CREATE, &file);
	if (rc == 0)
		rc = env_sync_dir(root, "head");
	if (rc == 0)
		rc = env_sync_dir(root, ".");
	if (rc == 0)
		rc = qcow2_writer_new(file, &sim_config, &writer, err);
	if (rc == 0)
		rc = write_few(writer, err);
	if (rc == 0)
		rc = qcow2_writer_finish(writer, err);
	promise->finished = rc == 0;
	qcow2_writer_free(writer);
	env_close(file);
	env_root_close(root);
	return rc && err->code == 0 ? err_sys(err, rc, "run") : rc;
}

static int block_expect(struct qcow2_reader *reader, uint64_t index, uint16_t want, int value, struct err *err)
{
	unsigned char block[BLOCK_SIZE];
	uint16_t mask;
	int rc = qcow2_reader_read(reader, index, block, &mask, err);
	if (rc)
		return rc;
	size_t len = want == MASK_FULL ? BLOCK_SIZE : PIECE_SIZE;
	if (mask != want)
		return err_set(err, -EILSEQ, "block %llu holds %#x", (unsigned long long)index, mask);
	for (size_t i = 0; want && i < len; i++)
		if (block[i] != value)
			return err_set(err, -EILSEQ, "block %llu differs at %zu", (unsigned long long)index, i);
	return 0;
}

// The file is no image, or it is the whole image; once finished, it is the image.
static int finish_check(struct env *env, void *context, struct err *err)
{
	const struct promise *promise = context;
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	struct qcow2_reader *reader = NULL;
	int rc = env_root_open(env, "/", &root);
	if (rc == 0)
		rc = env_open(root, "head/a", ENV_READ, &file);
	if (rc == 0)
		rc = qcow2_reader_open(file, &reader, err);
	if (rc && !promise->finished) {
		rc = 0;
	} else {
		rc = rc ? rc : block_expect(reader, 0, MASK_FULL, 'p', err);
		rc = rc ? rc : block_expect(reader, 1, MASK_FULL, 0, err);
		rc = rc ? rc : block_expect(reader, 2, 1, 'q', err);
		rc = rc ? rc : block_expect(reader, 3, 0, 0, err);
	}
	qcow2_reader_free(reader);
	env_close(file);
	env_root_close(root);
	return rc && err->code == 0 ? err_sys(err, rc, "check") : rc;
}

static void file_cut_off_anywhere_is_no_image_or_the_whole_one(void **state)
{
	(void)state;
	struct promise promise = {0};
	const struct crash_scenario scenario = {.name = "qcow2_finish",
						.context = &promise,
						.setup = finish_setup,
						.run = finish_run,
						.check = finish_check,
						.states_max = 4000};
	assert_true(crash_test(&scenario));
	assert_true(anomaly_test(&scenario));
}

static int backing_setup(struct env *env, void *context, struct err *err)
{
	int rc = finish_setup(env, context, err);
	return rc ? rc : finish_run(env, context, err);
}

static int backing_run(struct env *env, void *context, struct err *err)
{
	struct promise *promise = context;
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	promise->named = false;
	int rc = env_root_open(env, "/", &root);
	if (rc == 0)
		rc = env_open(root, "head/a", ENV_WRITE, &file);
	if (rc == 0)
		rc = qcow2_set_backing(file, "other.qcow2", QCOW2_BACKING_QCOW2, err);
	promise->named = rc == 0;
	env_close(file);
	env_root_close(root);
	return rc && err->code == 0 ? err_sys(err, rc, "run") : rc;
}

static int backing_check(struct env *env, void *context, struct err *err)
{
	const struct promise *promise = context;
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	struct qcow2_reader *reader = NULL;
	int rc = env_root_open(env, "/", &root);
	if (rc == 0)
		rc = env_open(root, "head/a", ENV_READ, &file);
	if (rc == 0)
		rc = qcow2_reader_open(file, &reader, err);
	if (rc == 0) {
		bool old = strcmp(qcow2_reader_backing(reader), "base.raw") == 0 &&
			   qcow2_reader_backing_format(reader) == QCOW2_BACKING_RAW;
		bool new = strcmp(qcow2_reader_backing(reader), "other.qcow2") == 0 &&
			   qcow2_reader_backing_format(reader) == QCOW2_BACKING_QCOW2;
		if (promise->named ? !new : !new && !old)
			rc = err_set(err, -EILSEQ, "backing is %s", qcow2_reader_backing(reader));
	}
	rc = rc ? rc : block_expect(reader, 0, MASK_FULL, 'p', err);
	qcow2_reader_free(reader);
	env_close(file);
	env_root_close(root);
	return rc && err->code == 0 ? err_sys(err, rc, "check") : rc;
}

static void set_backing_cut_off_anywhere_names_the_old_file_or_the_new(void **state)
{
	(void)state;
	struct promise promise = {0};
	const struct crash_scenario scenario = {.name = "qcow2_set_backing",
						.context = &promise,
						.setup = backing_setup,
						.run = backing_run,
						.check = backing_check};
	assert_true(crash_test(&scenario));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(wrong_header_fields_are_refused_with_a_reason),
		TEST(backing_name_that_leads_elsewhere_is_refused),
		TEST(wrong_table_entries_are_refused),
		TEST(any_flipped_bit_is_refused_or_harmless),
		TEST(image_without_its_end_is_refused),
		TEST(bytes_past_the_end_of_the_disk_read_as_zeros),
		cmocka_unit_test(write_that_failed_can_be_made_again),
		cmocka_unit_test(file_cut_off_anywhere_is_no_image_or_the_whole_one),
		cmocka_unit_test(set_backing_cut_off_anywhere_names_the_old_file_or_the_new),
	};
	return cmocka_run_group_tests_name("qcow2_damage", tests, NULL, NULL);
}
