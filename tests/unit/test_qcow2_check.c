// SPDX-License-Identifier: Apache-2.0
// The check of an overlay's tables (format/qcow2_check.h): silent on every image of the writer, and each damage is named.
#include "format/qcow2_check.h"

#include "base/auto.h"
#include "format/qcow2_layout.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 12, L1_AT = 40, REFCOUNTS_AT = 48 };

struct world {
	struct temp temp;
	struct env_file *file;
	unsigned char *bytes;
	uint64_t size, l1, l2, refcounts, refblock;
	char told[8192]; // by the newest check
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct twin twin;
	struct qcow2_config config = {.size = BLOCKS * BLOCK_SIZE - 1536, .codec = CODEC_ZSTD, .backing_name = "base.raw"};
	assert_non_null(w);
	temp_open(&w->temp);
	twin_begin(&twin, w->temp.root, "a", &config, 77);
	twin_packed(&twin, 0);
	twin_packed(&twin, 1);
	twin_pieces(&twin, 3, 0x00f0);
	twin_pieces(&twin, 4, MASK_FULL);
	twin_zeros(&twin, 6, 2);
	struct model model = twin_finish(&twin);
	model_free(&model);
	assert_int_equal(env_open(w->temp.root, "a", ENV_WRITE, &w->file), 0);
	assert_int_equal(env_size(w->file, &w->size), 0);
	w->bytes = malloc(w->size);
	assert_non_null(w->bytes);
	assert_int_equal(env_pread_full(w->file, w->bytes, w->size, 0), 0);
	w->l1 = get_be64(w->bytes + L1_AT);
	w->l2 = get_be64(w->bytes + w->l1) & QCOW2_OFFSET_MASK;
	w->refcounts = get_be64(w->bytes + REFCOUNTS_AT);
	w->refblock = get_be64(w->bytes + w->refcounts);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	env_close(w->file);
	temp_close(&w->temp);
	free(w->bytes);
	free(w);
	return 0;
}

static void tell(void *context, const char *text)
{
	struct world *w = context;
	size_t used = strlen(w->told);
	(void)snprintf(w->told + used, sizeof(w->told) - used, "%s\n", text);
}

static uint64_t check_file(struct world *w, struct env_file *file)
{
	struct err err = {0};
	uint64_t findings = 0;
	w->told[0] = 0;
	if (qcow2_check(file, tell, w, &findings, &err)) {
		assert_true(err.text[0]);
		tell(w, err.text);
		return findings + 1;
	}
	return findings;
}

static void put64(struct world *w, uint64_t off, uint64_t value)
{
	unsigned char bytes[8];
	put_be64(bytes, value);
	assert_int_equal(env_pwrite(w->file, bytes, 8, off), 0);
}

static void put_back(struct world *w)
{
	assert_int_equal(env_truncate(w->file, w->size), 0);
	assert_int_equal(env_pwrite(w->file, w->bytes, w->size, 0), 0);
}

static uint64_t l2_at(const struct world *w, uint64_t block)
{
	return w->l2 + block * QCOW2_ENTRY_SIZE;
}

static void expect(struct world *w, const char *text)
{
	if (check_file(w, w->file) == 0 || !strstr(w->told, text))
		fail_msg("not told: \"%s\"; but: %s", text, w->told);
	put_back(w);
}

// --- sound ---

static void image_of_the_writer_is_sound(void **state)
{
	struct world *w = *state;
	assert_int_equal(check_file(w, w->file), 0);
	for (uint64_t seed = 1; seed <= 40; seed++) {
		struct qcow2_config config = {.size = 300 * BLOCK_SIZE, .codec = seed % 2 ? CODEC_ZSTD : CODEC_ZLIB, .backing_name = "b.raw"};
		struct env_file *file = NULL;
		struct twin twin;
		twin_begin(&twin, w->temp.root, "s", &config, seed);
		for (unsigned i = 0; i < 200; i++)
			twin_random(&twin);
		struct model model = twin_finish(&twin);
		model_free(&model);
		assert_int_equal(env_open(w->temp.root, "s", ENV_READ, &file), 0);
		if (check_file(w, file))
			fail_msg("seed %llu: %s", (unsigned long long)seed, w->told);
		env_close(file);
		assert_int_equal(env_unlink(w->temp.root, "s"), 0);
	}
}

static void table_of_zeros_that_is_shared_is_sound(void **state)
{
	struct world *w = *state;
	const struct qcow2_config config = {.size = UINT64_C(1) << 36, .codec = CODEC_ZSTD, .backing_name = "b.raw"};
	struct qcow2_writer *writer = NULL;
	struct env_file *file = NULL;
	assert_int_equal(env_open(w->temp.root, "z", ENV_CREATE, &file), 0);
	assert_int_equal(qcow2_writer_new(file, &config, &writer, NULL), 0);
	assert_int_equal(qcow2_write_zeros(writer, 0, size_blocks(config.size), NULL), 0);
	assert_int_equal(qcow2_writer_finish(writer, NULL), 0);
	qcow2_writer_free(writer);
	if (check_file(w, file))
		fail_msg("%s", w->told);
	env_close(file);
}

// --- damage ---

static void cluster_referenced_twice_is_named(void **state)
{
	struct world *w = *state;
	uint64_t where = get_be64(w->bytes + l2_at(w, 3));
	put64(w, l2_at(w, 4), where);
	expect(w, "is referenced twice: by block 4");
	put64(w, l2_at(w, 4), QCOW2_COPIED | w->l2); // a block that is also a table
	expect(w, "is referenced twice: by block 4");
	put64(w, w->l1 + 8, QCOW2_COPIED | w->l2); // past the table's one entry: not part of it
	assert_int_equal(check_file(w, w->file), 0);
}

static void entry_outside_of_the_file_is_named(void **state)
{
	struct world *w = *state;
	put64(w, w->l1, QCOW2_COPIED | size_round_up(w->size, QCOW2_CLUSTER_SIZE));
	expect(w, "L1 entry 0 is");
	put64(w, l2_at(w, 4), QCOW2_COPIED | size_round_up(w->size, QCOW2_CLUSTER_SIZE));
	expect(w, "L2 entry of block 4 is");
	put64(w, l2_at(w, BLOCKS + 3), get_be64(w->bytes + l2_at(w, 4)));
	expect(w, "block 15: past the end of the disk");
	put64(w, w->refcounts, size_round_up(w->size, QCOW2_CLUSTER_SIZE));
	expect(w, "refcount block 0 at");
}

static void refcount_that_is_wrong_is_named(void **state)
{
	struct world *w = *state;
	uint64_t plain = get_be64(w->bytes + l2_at(w, 4)) & QCOW2_OFFSET_MASK;
	uint64_t at = w->refblock + plain / QCOW2_CLUSTER_SIZE * 2;
	unsigned char none[2] = {0, 0}, two[2] = {0, 2};
	assert_int_equal(env_pwrite(w->file, none, 2, at), 0);
	expect(w, "has refcount 0 and 1 references");
	assert_int_equal(env_pwrite(w->file, two, 2, at), 0);
	expect(w, "is leaked: refcount 2, 1 references");
	put64(w, l2_at(w, 4), 0); // forgotten: its cluster is leaked
	put64(w, l2_at(w, 4) + 8, 0);
	expect(w, "is leaked: refcount 1, 0 references");
	put64(w, w->refcounts, 0);
	expect(w, "has refcount 0 and 1 references");
	put64(w, w->l1, get_be64(w->bytes + w->l1) & ~QCOW2_COPIED);
	expect(w, "L1 entry 0: the mark COPIED is missing, with 1 references");
}

static void every_flipped_bit_of_refcounts_and_pointers_is_found(void **state)
{
	struct world *w = *state;
	struct {
		uint64_t off, bytes;
	} parts[] = {{w->refblock, 2 * (w->size / QCOW2_CLUSTER_SIZE) + 64}, {w->refcounts, 64}, {w->l1, 8}, {l2_at(w, 3), 8}, {l2_at(w, 4), 8}};
	uint64_t flips = 0;
	for (size_t p = 0; p < sizeof(parts) / sizeof(parts[0]); p++)
		for (uint64_t bit = 0; bit < parts[p].bytes * 8; bit++, flips++) {
			uint64_t at = parts[p].off + bit / 8;
			unsigned char byte = w->bytes[at] ^ (unsigned char)(1 << bit % 8);
			assert_int_equal(env_pwrite(w->file, &byte, 1, at), 0);
			if (check_file(w, w->file) == 0)
				fail_msg("bit %llu of the byte at %llu: not found", (unsigned long long)bit % 8, (unsigned long long)at);
			assert_int_equal(env_pwrite(w->file, w->bytes + at, 1, at), 0);
		}
	print_message("%llu flipped bits found\n", (unsigned long long)flips);
}

static void findings_are_bounded_and_counted(void **state)
{
	struct world *w = *state;
	for (unsigned i = 0; i < QCOW2_CHECK_FINDINGS_MAX + 4; i++)
		put64(w, l2_at(w, BLOCKS + i), 1);
	assert_int_equal(check_file(w, w->file), QCOW2_CHECK_FINDINGS_MAX + 4);
	assert_non_null(strstr(w->told, "and 4 things more"));
}

static void image_cut_anywhere_is_found(void **state)
{
	struct world *w = *state;
	for (uint64_t size = 0; size < w->size; size += 1024) {
		assert_int_equal(env_truncate(w->file, size), 0);
		assert_true(check_file(w, w->file) > 0);
		put_back(w);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(image_of_the_writer_is_sound),
		TEST(table_of_zeros_that_is_shared_is_sound),
		TEST(cluster_referenced_twice_is_named),
		TEST(entry_outside_of_the_file_is_named),
		TEST(refcount_that_is_wrong_is_named),
		TEST(every_flipped_bit_of_refcounts_and_pointers_is_found),
		TEST(findings_are_bounded_and_counted),
		TEST(image_cut_anywhere_is_found),
	};
	return cmocka_run_group_tests_name("qcow2_check", tests, NULL, NULL);
}
