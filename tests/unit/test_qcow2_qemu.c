// SPDX-License-Identifier: Apache-2.0
// What QEMU makes of our overlays: no errors and no leaks, and the bytes of the model over what lies below. And
// what we make of QEMU's images. Without qemu-img these tests are skipped.
#include "format/qcow2_writer_state.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct world {
	struct temp temp;
	unsigned char *disk; // what the chain must read as
	uint64_t size;
};

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	temp_open(&world->temp);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;
	temp_close(&world->temp);
	free(world->disk);
	free(world);
	return 0;
}

#define REQUIRE_QEMU()                                                                                                 \
	do {                                                                                                           \
		if (system("qemu-img --version >/dev/null 2>&1 && qemu-io --version >/dev/null 2>&1"))                 \
			skip();                                                                                        \
	} while (0)

// Runs a shell command in the temporary directory; its output is shown when it does not end with `status`.
__attribute__((format(printf, 3, 4))) static void run(const struct world *world, int status, const char *fmt, ...)
{
	char command[1200], line[1600];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	(void)snprintf(line, sizeof(line), "cd %s && (%s) >log 2>&1", world->temp.dir, command);
	int rc = system(line);
	if (rc == status << 8)
		return;
	(void)snprintf(line, sizeof(line), "sed 's/^/# /' %s/log >&2", world->temp.dir);
	if (system(line))
		print_message("# the log could not be shown\n");
	fail_msg("status %d from: %s", rc >> 8, command);
}

static void write_raw(const struct world *world, const char *name)
{
	struct env_file *file;
	(void)env_unlink(world->temp.root, name);
	assert_int_equal(env_open(world->temp.root, name, ENV_CREATE, &file), 0);
	assert_int_equal(env_pwrite(file, world->disk, world->size, 0), 0);
	env_close(file);
}

static struct qcow2_config config_over(const struct world *world, enum codec codec, const char *backing_name)
{
	size_t len = strlen(backing_name);
	bool raw = len > 4 && strcmp(backing_name + len - 4, ".raw") == 0;
	return (struct qcow2_config){.size = world->size,
				     .codec = codec,
				     .backing_name = backing_name,
				     .backing = raw ? QCOW2_BACKING_RAW : QCOW2_BACKING_QCOW2};
}

// A base of noise, base.raw.
static void base_begin(struct world *world, uint64_t size)
{
	uint64_t seed = size;
	free(world->disk);
	world->size = size;
	world->disk = malloc(size_round_up(size, 8));
	assert_non_null(world->disk);
	for (uint64_t at = 0; at < size; at += 8) {
		uint64_t value = draw(&seed);
		memcpy(world->disk + at, &value, 8);
	}
	write_raw(world, "base.raw");
}

// qemu-img check ends with 2 when there are errors and with 3 when there are leaks.
static void expect_clean_and_equal(struct world *world, const char *name)
{
	write_raw(world, "want.raw");
	run(world, 0, "qemu-img check -f qcow2 %s", name);
	run(world, 0, "qemu-img compare -f qcow2 -F raw %s want.raw", name);
	run(world, 0, "rm -f got.raw && qemu-img convert -f qcow2 -O raw %s got.raw && cmp got.raw want.raw", name);
}

static void finish_and_apply(struct world *world, struct twin *twin)
{
	struct model model = twin_finish(twin);
	model_apply(&model, world->disk);
	model_free(&model);
}

static void qemu_finds_random_overlays_clean_and_equal(void **state)
{
	static const uint64_t sizes[] = {
		512, 4096 + 512, 65536, 3 * 65536 - 4096 - 512, 100 * 65536 + 7 * 512, 300 * 65536 + 61440};
	struct world *world = *state;
	REQUIRE_QEMU();
	for (unsigned i = 0; i < 12; i++) {
		struct twin twin;
		char name[32];
		uint64_t seed = 2000 + i;
		base_begin(world, sizes[i % 6]);
		struct qcow2_config config = config_over(world, i % 2 ? CODEC_ZLIB : CODEC_ZSTD, "base.raw");
		(void)snprintf(name, sizeof(name), "r%u.qcow2", i);
		print_message("# seed %llu, disk of %llu bytes\n", (unsigned long long)seed,
			      (unsigned long long)config.size);
		twin_begin(&twin, world->temp.root, name, &config, seed);
		for (uint64_t n = 0; n < 10 + twin.model.blocks * (i / 6 + 1); n++)
			twin_random(&twin);
		finish_and_apply(world, &twin);
		expect_clean_and_equal(world, name);
	}
}

// All sequences of three writes of the five kinds, each on a block of its own.
static void qemu_finds_every_order_of_writes_clean_and_equal(void **state)
{
	enum { KINDS = 5, LENGTH = 3, SEQUENCES = 125 };
	struct world *world = *state;
	REQUIRE_QEMU();
	base_begin(world, SEQUENCES * (uint64_t)BLOCK_SIZE);
	for (unsigned codec = CODEC_ZSTD; codec <= CODEC_ZLIB; codec++) {
		struct twin twin;
		struct qcow2_config config = config_over(world, (enum codec)codec, "base.raw");
		const char *name = codec_name((enum codec)codec);
		base_begin(world, world->size);
		twin_begin(&twin, world->temp.root, name, &config, codec);
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
		finish_and_apply(world, &twin);
		expect_clean_and_equal(world, name);
	}
}

static void qemu_reads_a_chain_of_three(void **state)
{
	struct world *world = *state;
	const char *below = "base.raw";
	static const char *const names[] = {"1.qcow2", "2.qcow2", "3.qcow2"};
	REQUIRE_QEMU();
	base_begin(world, 200 * BLOCK_SIZE + 1536);
	for (unsigned i = 0; i < 3; i++) {
		struct twin twin;
		struct qcow2_config config = config_over(world, i == 1 ? CODEC_ZLIB : CODEC_ZSTD, below);
		twin_begin(&twin, world->temp.root, names[i], &config, 50 + i);
		for (unsigned n = 0; n < 150; n++)
			twin_random(&twin);
		finish_and_apply(world, &twin);
		expect_clean_and_equal(world, names[i]);
		below = names[i];
	}
}

// As a fold does: the oldest overlay goes into the base, and the next one is put over the base.
static void qemu_reads_a_chain_after_set_backing(void **state)
{
	struct world *world = *state;
	struct twin twin;
	struct env_file *file;
	REQUIRE_QEMU();
	base_begin(world, 60 * BLOCK_SIZE);
	struct qcow2_config config = config_over(world, CODEC_ZSTD, "base.raw");
	twin_begin(&twin, world->temp.root, "1.qcow2", &config, 60);
	for (unsigned n = 0; n < 60; n++)
		twin_random(&twin);
	finish_and_apply(world, &twin);
	write_raw(world, "folded.raw");
	config = config_over(world, CODEC_ZSTD, "1.qcow2");
	twin_begin(&twin, world->temp.root, "2.qcow2", &config, 61);
	for (unsigned n = 0; n < 60; n++)
		twin_random(&twin);
	finish_and_apply(world, &twin);
	expect_clean_and_equal(world, "2.qcow2");
	assert_int_equal(env_open(world->temp.root, "2.qcow2", ENV_WRITE, &file), 0);
	assert_int_equal(qcow2_set_backing(file, "folded.raw", QCOW2_BACKING_RAW, NULL), 0);
	env_close(file);
	run(world, 0, "rm 1.qcow2 base.raw");
	expect_clean_and_equal(world, "2.qcow2");
	run(world, 0, "qemu-img info --output=json 2.qcow2 | grep -q '\"backing-filename-format\": \"raw\"'");
}

static void qemu_reads_the_pattern_of_each_kind(void **state)
{
	struct world *world = *state;
	struct twin twin;
	unsigned char block[BLOCK_SIZE], packed[BLOCK_SIZE];
	REQUIRE_QEMU();
	base_begin(world, 8 * BLOCK_SIZE);
	memset(world->disk, 0x11, world->size);
	write_raw(world, "base.raw");
	struct qcow2_config config = config_over(world, CODEC_ZSTD, "base.raw");
	twin_begin(&twin, world->temp.root, "p.qcow2", &config, 1);
	memset(block, 0x22, sizeof(block));
	size_t len = codec_pack(twin.context, CODEC_ZSTD, block, sizeof(block), packed, sizeof(packed));
	assert_int_equal(qcow2_write_packed(twin.writer, 1, packed, len, NULL), 0);
	memset(block, 0x33, sizeof(block));
	assert_int_equal(qcow2_write_pieces(twin.writer, 2, 0x0002, block, NULL), 0);
	assert_int_equal(qcow2_write_zeros(twin.writer, 3, 2, NULL), 0);
	assert_int_equal(qcow2_write_pieces(twin.writer, 4, 0x8000, block, NULL), 0);
	struct model model = twin_finish(&twin);
	model_free(&model);
	run(world, 0,
	    "qemu-io -r -f qcow2 -c 'read -P 0x11 0 64k' -c 'read -P 0x22 64k 64k' -c 'read -P 0x11 128k 4k'"
	    " -c 'read -P 0x33 132k 4k' -c 'read -P 0x11 136k 56k' -c 'read -P 0 192k 124k' -c 'read -P 0x33 316k 4k'"
	    " -c 'read -P 0x11 320k 192k' p.qcow2 && ! grep -i fail log");
}

static void write_zeros_only(struct world *world, const char *name, uint64_t size)
{
	struct qcow2_writer *writer;
	struct env_file *file;
	struct qcow2_config config = {.size = size, .codec = CODEC_ZSTD};
	assert_int_equal(env_open(world->temp.root, name, ENV_CREATE, &file), 0);
	assert_int_equal(qcow2_writer_new(file, &config, &writer, NULL), 0);
	assert_int_equal(qcow2_write_zeros(writer, 0, size_blocks(config.size), NULL), 0);
	assert_int_equal(qcow2_writer_finish(writer, NULL), 0);
	qcow2_writer_free(writer);
	env_close(file);
}

// A hundred and a half L2 tables of zeros: a hundred of them are one in the file. QEMU counts it as shared, and a
// write to one leaves the others.
static void qemu_copies_a_shared_table_of_zeros_before_it_writes(void **state)
{
	struct world *world = *state;
	REQUIRE_QEMU();
	write_zeros_only(world, "z.qcow2", (100 * UINT64_C(4096) + 2048) * BLOCK_SIZE);
	run(world, 0, "qemu-img check -f qcow2 z.qcow2");
	run(world, 0, "test $(stat -c %%s z.qcow2) = $((6 * 65536))"); // header, L1, two L2 tables, refcounts
	run(world, 0, "qemu-io -f qcow2 -c 'write -P 0x44 1M 64k' z.qcow2 && qemu-img check -f qcow2 z.qcow2");
	run(world, 0,
	    "qemu-io -r -f qcow2 -c 'read -P 0x44 1M 64k' -c 'read -P 0 0 1M' -c 'read -P 0 257M 64k' -c 'read -P 0 "
	    "25600M 128M'"
	    " z.qcow2 && ! grep -i fail log");
}

static void qemu_may_write_to_every_table_of_a_small_disk_of_zeros(void **state)
{
	struct world *world = *state;
	REQUIRE_QEMU();
	write_zeros_only(world, "z.qcow2", 3 * UINT64_C(4096) * BLOCK_SIZE);
	for (unsigned i = 0; i < 3; i++)
		run(world, 0, "qemu-io -f qcow2 -c 'write -P 0x44 %uM 64k' z.qcow2 && qemu-img check -f qcow2 z.qcow2",
		    i * 256 + 1);
}

static void qemu_checks_a_terabyte_of_zeros(void **state)
{
	struct world *world = *state;
	REQUIRE_QEMU();
	write_zeros_only(world, "t.qcow2", UINT64_C(1) << 40);
	run(world, 0, "qemu-img check -f qcow2 t.qcow2");
}

// More clusters than one refcount block counts, and more L1 entries than one cluster holds. Most of the clusters
// are a hole, as after many blocks were freed, so that the test writes little.
static void qemu_checks_an_overlay_with_large_tables(void **state)
{
	enum { HOLE = 70000 };
	struct world *world = *state;
	struct qcow2_writer *writer;
	struct env_file *file;
	static unsigned char block[BLOCK_SIZE];
	uint64_t at;
	struct qcow2_config config = {.size = DISK_SIZE_MAX, .codec = CODEC_ZSTD};
	REQUIRE_QEMU();
	memset(block, 0x66, sizeof(block));
	assert_int_equal(env_open(world->temp.root, "l.qcow2", ENV_CREATE, &file), 0);
	assert_int_equal(qcow2_writer_new(file, &config, &writer, NULL), 0);
	assert_int_equal(qcow2_write_pieces(writer, 5, 1, block, NULL), 0);
	assert_int_equal(qcow2_space_take_run(&writer->space, HOLE, &at), 0);
	memset(writer->space.refs + at / BLOCK_SIZE, 0, HOLE * sizeof(*writer->space.refs));
	assert_int_equal(qcow2_write_pieces(writer, size_blocks(DISK_SIZE_MAX) - 1, 1, block, NULL), 0);
	assert_int_equal(qcow2_writer_finish(writer, NULL), 0);
	qcow2_writer_free(writer);
	env_close(file);
	run(world, 0, "qemu-img check -f qcow2 l.qcow2");
	run(world, 0,
	    "qemu-io -r -f qcow2 -c 'read -P 0x66 320k 4k' -c 'read -P 0 324k 60k'"
	    " -c \"read -P 0x66 $((65536 * 1024 * 1024 - 64))k 4k\" l.qcow2 && ! grep -i fail log");
}

// A user who writes to a failover's overlay and rebases it changes the header; we still read what it holds.
static void image_that_qemu_wrote_to_is_still_read(void **state)
{
	struct world *world = *state;
	struct twin twin;
	struct env_file *file;
	struct qcow2_reader *reader = NULL;
	unsigned char block[BLOCK_SIZE];
	struct err err = {0};
	uint16_t mask;
	REQUIRE_QEMU();
	base_begin(world, 20 * BLOCK_SIZE);
	struct qcow2_config config = config_over(world, CODEC_ZSTD, "base.raw");
	twin_begin(&twin, world->temp.root, "w.qcow2", &config, 4);
	twin_packed(&twin, 3);
	struct model model = twin_finish(&twin);
	model_free(&model);
	run(world, 0, "qemu-io -f qcow2 -c 'write -P 0x55 256k 8k' -c 'write -z 320k 64k' w.qcow2");
	run(world, 0, "cp base.raw other.raw && qemu-img rebase -u -f qcow2 -F raw -b other.raw w.qcow2");
	assert_int_equal(env_open(world->temp.root, "w.qcow2", ENV_WRITE, &file), 0);
	if (qcow2_set_backing(file, "base.raw", QCOW2_BACKING_RAW, &err) || qcow2_reader_open(file, &reader, &err))
		fail_msg("%s", err.text);
	assert_string_equal(qcow2_reader_backing(reader), "base.raw");
	assert_int_equal(qcow2_reader_read(reader, 4, block, &mask, NULL), 0);
	assert_int_equal(mask, 3);
	assert_int_equal(block[8191], 0x55);
	assert_int_equal(qcow2_reader_read(reader, 5, block, &mask, NULL), 0);
	assert_int_equal(mask, MASK_FULL);
	assert_true(block[0] == 0 && block[BLOCK_SIZE - 1] == 0);
	qcow2_reader_free(reader);
	env_close(file);
	run(world, 0, "qemu-img check -f qcow2 w.qcow2");
}

static void images_of_another_kind_are_refused_with_a_reason(void **state)
{
	static const struct {
		const char *create;
		int code;
		const char *reason;
	} kinds[] = {
		{"-o compat=v3", -EOPNOTSUPP, "no extended L2"},
		{"-o compat=0.10", -EOPNOTSUPP, "version 2"},
		{"-o extended_l2=on,cluster_size=128k", -EOPNOTSUPP, "2^17"},
		{"-o extended_l2=on,data_file=data.raw", -EOPNOTSUPP, "external data file"},
		{"--object secret,id=s,data=x -o "
		 "extended_l2=on,encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,encrypt.hash-alg=sha512", // SHA-256 may be too fast for qemu-img to measure
		 -EOPNOTSUPP, "encrypted"},
	};
	struct world *world = *state;
	REQUIRE_QEMU();
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct env_file *file;
		struct qcow2_reader *reader;
		struct err err = {0};
		run(world, 0, "rm -f k.qcow2 && qemu-img create -q -f qcow2 %s k.qcow2 1M", kinds[i].create);
		assert_int_equal(env_open(world->temp.root, "k.qcow2", ENV_READ, &file), 0);
		assert_int_equal(qcow2_reader_open(file, &reader, &err), kinds[i].code);
		if (!strstr(err.text, kinds[i].reason))
			fail_msg("%s: %s", kinds[i].create, err.text);
		env_close(file);
	}
	struct env_file *file;
	struct qcow2_reader *reader;
	run(world, 0,
	    "rm -f k.qcow2 && qemu-img create -q -f qcow2 -o extended_l2=on k.qcow2 1M && qemu-img snapshot -c s "
	    "k.qcow2");
	assert_int_equal(env_open(world->temp.root, "k.qcow2", ENV_READ, &file), 0);
	assert_int_equal(qcow2_reader_open(file, &reader, NULL), -EOPNOTSUPP);
	env_close(file);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(qemu_finds_random_overlays_clean_and_equal),
		TEST(qemu_finds_every_order_of_writes_clean_and_equal),
		TEST(qemu_reads_a_chain_of_three),
		TEST(qemu_reads_a_chain_after_set_backing),
		TEST(qemu_reads_the_pattern_of_each_kind),
		TEST(qemu_copies_a_shared_table_of_zeros_before_it_writes),
		TEST(qemu_may_write_to_every_table_of_a_small_disk_of_zeros),
		TEST(qemu_checks_a_terabyte_of_zeros),
		TEST(qemu_checks_an_overlay_with_large_tables),
		TEST(image_that_qemu_wrote_to_is_still_read),
		TEST(images_of_another_kind_are_refused_with_a_reason),
	};
	return cmocka_run_group_tests_name("qcow2_qemu", tests, NULL, NULL);
}
