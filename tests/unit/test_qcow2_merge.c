// SPDX-License-Identifier: Apache-2.0
// The merge of overlays against a model: what the layers hold together, the upper one winning piece by piece.
#include "base/auto.h"
#include "base/size.h"
#include "format/qcow2_layout.h"
#include "format/qcow2_merge.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS_MAX = 6 };

static struct qcow2_config config_of(uint64_t size, enum codec codec)
{
	return (struct qcow2_config){.size = size, .codec = codec, .backing_name = "../base/vda.raw", .backing = QCOW2_BACKING_RAW};
}

struct stack {
	struct temp temp;
	size_t count;
	struct model model[LAYERS_MAX];
	struct env_file *file[LAYERS_MAX];
	struct qcow2_reader *reader[LAYERS_MAX];
};

static void stack_add(struct stack *s, struct twin *twin)
{
	char name[16];
	struct err err = {0};
	snprintf(name, sizeof(name), "layer%zu", s->count);
	s->model[s->count] = twin_finish(twin);
	assert_int_equal(env_open(s->temp.root, name, ENV_READ, &s->file[s->count]), 0);
	if (qcow2_reader_open(s->file[s->count], &s->reader[s->count], &err))
		fail_msg("%s", err.text);
	s->count++;
}

static void stack_begin(struct stack *s, struct twin *twin, const struct qcow2_config *config, uint64_t seed)
{
	char name[16];
	snprintf(name, sizeof(name), "layer%zu", s->count);
	twin_begin(twin, s->temp.root, name, config, seed);
}

static void stack_end(struct stack *s)
{
	for (size_t i = 0; i < s->count; i++) {
		qcow2_reader_free(s->reader[i]);
		env_close(s->file[i]);
		model_free(&s->model[i]);
	}
	temp_close(&s->temp);
}

// What the layers hold together, of the size of the uppermost.
static struct model stack_model(const struct stack *s)
{
	const struct model *top = &s->model[s->count - 1];
	struct model all = {.size = top->size, .blocks = top->blocks, .mask = calloc(top->blocks, sizeof(uint16_t)),
			    .data = calloc(top->blocks, BLOCK_SIZE)};
	assert_non_null(all.mask);
	assert_non_null(all.data);
	for (size_t i = 0; i < s->count; i++)
		for (uint64_t b = 0; b < s->model[i].blocks; b++)
			for (unsigned p = 0; p < PIECES_PER_BLOCK; p++)
				if (s->model[i].mask[b] >> p & 1) {
					size_t at = b * BLOCK_SIZE + (size_t)p * PIECE_SIZE;
					all.mask[b] |= (uint16_t)(1u << p);
					memcpy(all.data + at, s->model[i].data + at, PIECE_SIZE);
				}
	return all;
}

static struct env_file *merged(struct stack *s, enum codec codec, uint64_t *ret_bytes)
{
	struct err err = {0};
	struct env_file *file;
	struct qcow2_writer *writer;
	struct qcow2_config config = config_of(s->model[s->count - 1].size, codec);
	struct qcow2_merge merge = {.layers = s->reader, .count = s->count, .codec = codec};
	assert_int_equal(env_open(s->temp.root, "merged", ENV_CREATE, &file), 0);
	if (qcow2_writer_new(file, &config, &writer, &err) || qcow2_merge(writer, &merge, &err) || qcow2_writer_finish(writer, &err))
		fail_msg("%s", err.text);
	struct qcow2_writer_stats stats;
	qcow2_writer_stats(writer, &stats);
	if (ret_bytes)
		*ret_bytes = stats.dead_bytes;
	qcow2_writer_free(writer);
	return file;
}

static void check_merged(struct stack *s, enum codec codec)
{
	uint64_t dead = 1;
	struct model all = stack_model(s);
	struct env_file *file = merged(s, codec, &dead);
	assert_int_equal(dead, 0); // nothing is written twice
	twin_check(file, &all);
	twin_check_refcounts(file);
	env_close(file);
	model_free(&all);
	assert_int_equal(env_unlink(s->temp.root, "merged"), 0);
}

static void a_merge_holds_what_the_layers_hold_together(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct stack s = {.count = 0};
		temp_open(&s.temp);
		uint64_t dice = seed * 77;
		size_t layers = 1 + draw_below(&dice, LAYERS_MAX);
		uint64_t size = 20 * BLOCK_SIZE - (seed % 3) * 9 * SECTOR_SIZE;
		for (size_t i = 0; i < layers; i++) {
			struct twin *twin = calloc(1, sizeof(*twin));
			assert_non_null(twin);
			struct qcow2_config config = config_of(size, draw_below(&dice, 3) ? CODEC_ZSTD : CODEC_ZLIB);
			stack_begin(&s, twin, &config, seed * 100 + i);
			for (unsigned n = (unsigned)draw_below(&dice, 25); n > 0; n--)
				twin_random(twin);
			stack_add(&s, twin);
			free(twin);
			if (draw_below(&dice, 3) == 0) // the disk grows, also within a piece and a block
				size += (1 + draw_below(&dice, 300)) * SECTOR_SIZE;
		}
		check_merged(&s, CODEC_ZSTD);
		check_merged(&s, CODEC_ZLIB);
		stack_end(&s);
	}
}

// What lies past the end of the smaller disk is not the smaller layer's to hold.
static void a_packed_last_block_of_a_disk_that_grew_holds_no_more_than_before(void **state)
{
	(void)state;
	struct stack s = {.count = 0};
	temp_open(&s.temp);
	struct twin *twin = calloc(1, sizeof(*twin));
	assert_non_null(twin);
	struct qcow2_config small = config_of(3 * BLOCK_SIZE + 5 * PIECE_SIZE, CODEC_ZSTD), large = config_of(6 * BLOCK_SIZE, CODEC_ZSTD);
	stack_begin(&s, twin, &small, 5);
	twin_packed(twin, 3);
	stack_add(&s, twin);
	stack_begin(&s, twin, &large, 6);
	twin_pieces(twin, 1, 0x0001);
	stack_add(&s, twin);
	free(twin);
	check_merged(&s, CODEC_ZSTD);
	stack_end(&s);
}

static void a_packed_block_that_nobody_adds_to_is_copied_byte_for_byte(void **state)
{
	(void)state;
	static const enum codec codecs[] = {CODEC_ZSTD, CODEC_ZLIB};
	for (unsigned c = 0; c < 2; c++) {
		struct stack s = {.count = 0};
		struct err err = {0};
		temp_open(&s.temp);
		struct twin *twin = calloc(1, sizeof(*twin));
		assert_non_null(twin);
		struct qcow2_config config = config_of(8 * BLOCK_SIZE, codecs[c]);
		stack_begin(&s, twin, &config, 5);
		twin_packed(twin, 2);
		twin_packed(twin, 3);
		stack_add(&s, twin);
		stack_begin(&s, twin, &config, 6);
		twin_packed(twin, 3);
		twin_pieces(twin, 5, 0x00f0);
		stack_add(&s, twin);
		struct env_file *file = merged(&s, codecs[c], NULL);
		struct qcow2_reader *reader;
		assert_int_equal(qcow2_reader_open(file, &reader, &err), 0);
		for (uint64_t index = 2; index <= 3; index++) {
			const void *was, *is;
			size_t was_len, is_len;
			assert_int_equal(qcow2_reader_packed(s.reader[index - 2], index, &was, &was_len, &err), 0);
			assert_int_equal(qcow2_reader_packed(reader, index, &is, &is_len, &err), 0);
			assert_int_equal(was_len, is_len);
			assert_memory_equal(was, is, was_len);
		}
		const void *none;
		size_t len;
		assert_int_equal(qcow2_reader_packed(reader, 5, &none, &len, &err), -ENOENT);
		qcow2_reader_free(reader);
		env_close(file);
		free(twin);
		stack_end(&s);
	}
}

// A stream is copied without the rest of its last sector: merged again and again, it does not get longer.
static void merging_again_and_again_does_not_grow_a_block(void **state)
{
	(void)state;
	struct stack s = {.count = 0};
	struct err err = {0};
	size_t first = 0;
	temp_open(&s.temp);
	struct twin *twin = calloc(1, sizeof(*twin));
	assert_non_null(twin);
	struct qcow2_config config = config_of(8 * BLOCK_SIZE, CODEC_ZLIB);
	stack_begin(&s, twin, &config, 5);
	for (uint64_t b = 0; b < 6; b++)
		twin_packed(twin, b);
	stack_add(&s, twin);
	free(twin);
	for (unsigned round = 0; round < 20; round++) {
		const void *packed;
		size_t len;
		struct env_file *file = merged(&s, CODEC_ZLIB, NULL);
		struct qcow2_reader *reader;
		assert_int_equal(qcow2_reader_open(file, &reader, &err), 0);
		assert_int_equal(qcow2_reader_packed(reader, 4, &packed, &len, &err), 0);
		first = first ? first : len;
		assert_int_equal(len, first);
		qcow2_reader_free(s.reader[0]);
		env_close(s.file[0]);
		s.reader[0] = reader;
		s.file[0] = file;
		assert_int_equal(env_unlink(s.temp.root, "merged"), 0);
	}
	stack_end(&s);
}

static int stop_at_the_third(void *context, uint64_t bytes)
{
	unsigned *calls = context;
	assert_true(bytes > 0);
	return ++*calls == 3 ? -ECANCELED : 0;
}

static void a_merge_stops_when_it_is_told_to(void **state)
{
	(void)state;
	struct stack s = {.count = 0};
	struct err err = {0};
	struct env_file *file;
	struct qcow2_writer *writer;
	unsigned calls = 0;
	temp_open(&s.temp);
	struct twin *twin = calloc(1, sizeof(*twin));
	assert_non_null(twin);
	struct qcow2_config config = config_of(8 * BLOCK_SIZE, CODEC_ZSTD);
	stack_begin(&s, twin, &config, 5);
	for (uint64_t b = 0; b < 6; b++)
		twin_packed(twin, b);
	stack_add(&s, twin);
	free(twin);
	struct qcow2_merge merge = {.layers = s.reader, .count = 1, .codec = CODEC_ZSTD, .pace = stop_at_the_third, .context = &calls};
	assert_int_equal(env_open(s.temp.root, "merged", ENV_CREATE, &file), 0);
	assert_int_equal(qcow2_writer_new(file, &config, &writer, &err), 0);
	assert_int_equal(qcow2_merge(writer, &merge, &err), -ECANCELED);
	assert_int_equal(calls, 3);
	qcow2_writer_free(writer);
	env_close(file);
	stack_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_merge_holds_what_the_layers_hold_together),
		cmocka_unit_test(a_packed_last_block_of_a_disk_that_grew_holds_no_more_than_before),
		cmocka_unit_test(a_packed_block_that_nobody_adds_to_is_copied_byte_for_byte),
		cmocka_unit_test(merging_again_and_again_does_not_grow_a_block),
		cmocka_unit_test(a_merge_stops_when_it_is_told_to),
	};
	return cmocka_run_group_tests_name("qcow2_merge", tests, NULL, NULL);
}
