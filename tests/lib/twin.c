// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/twin.h"

#include "base/bytes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

void temp_open(struct temp *temp)
{
	const char *base = getenv("TMPDIR");
	(void)snprintf(temp->dir, sizeof(temp->dir), "%s/kagami-test.XXXXXX", base ? base : "/tmp");
	assert_non_null(mkdtemp(temp->dir));
	assert_int_equal(env_root_open(env_posix(), temp->dir, &temp->root), 0);
}

void temp_close(struct temp *temp)
{
	char **names;
	size_t count;
	assert_int_equal(env_list(temp->root, ".", &names, &count), 0);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(env_remove_tree(temp->root, names[i]), 0);
	env_list_free(names, count);
	env_root_close(temp->root);
	assert_int_equal(rmdir(temp->dir), 0);
}

void temp_shell(const struct temp *temp, const char *format, ...)
{
	char text[2000], command[2400];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)snprintf(command, sizeof(command), "cd %s && { %s; }", temp->dir, text);
	assert_int_equal(system(command), 0);
}

uint64_t draw(uint64_t *seed) // splitmix64
{
	uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint64_t draw_below(uint64_t *seed, uint64_t end)
{
	return draw(seed) % end;
}

static uint64_t bytes_left(uint64_t size, uint64_t off, uint64_t len)
{
	return off >= size ? 0 : min_u64(len, size - off);
}

void model_apply(const struct model *model, unsigned char *disk)
{
	for (uint64_t off = 0; off < model->size; off += PIECE_SIZE)
		if (model->mask[off / BLOCK_SIZE] >> off % BLOCK_SIZE / PIECE_SIZE & 1)
			memcpy(disk + off, model->data + off, bytes_left(model->size, off, PIECE_SIZE));
}

void model_free(struct model *model)
{
	free(model->mask);
	free(model->data);
	*model = (struct model){0};
}

void twin_begin(struct twin *twin, struct env_root *root, const char *name, const struct qcow2_config *config,
		uint64_t seed)
{
	struct err err = {0};
	uint64_t blocks = size_blocks(config->size);
	*twin = (struct twin){
		.model = {.size = config->size,
			  .blocks = blocks,
			  .mask = calloc(blocks, sizeof(uint16_t)),
			  .data = calloc(blocks, BLOCK_SIZE)},
		.codec = config->codec,
		.seed = seed,
		.context = codec_new(),
	};
	assert_non_null(twin->model.mask);
	assert_non_null(twin->model.data);
	assert_non_null(twin->context);
	assert_int_equal(env_open(root, name, ENV_CREATE, &twin->file), 0);
	if (qcow2_writer_new(twin->file, config, &twin->writer, &err))
		fail_msg("%s", err.text);
}

void twin_draw(struct twin *twin, uint64_t index)
{
	unsigned char words[8][16];
	for (size_t i = 0; i < sizeof(words); i += 8) {
		uint64_t value = draw(&twin->seed);
		memcpy((unsigned char *)words + i, &value, 8);
	}
	// From nearly all equal to close to the worst that still packs.
	uint64_t noise = draw_below(&twin->seed, 13);
	for (size_t at = 0; at < BLOCK_SIZE; at += 16) {
		memcpy(twin->block + at, words[draw_below(&twin->seed, 8)], 16);
		for (size_t i = 0; i < noise; i += 8) {
			uint64_t value = draw(&twin->seed);
			memcpy(twin->block + at + i, &value, min_u64(8, noise - i));
		}
	}
	uint32_t len = size_of_block(twin->model.size, index);
	memset(twin->block + len, 0, BLOCK_SIZE - len);
}

size_t twin_pack(struct twin *twin, unsigned char packed[BLOCK_SIZE])
{
	return codec_pack(twin->context, twin->codec, twin->block, BLOCK_SIZE, packed, BLOCK_SIZE);
}

static void model_put(struct model *model, uint64_t index, uint16_t mask, const unsigned char *block)
{
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++) {
		uint64_t off = index * BLOCK_SIZE + i * PIECE_SIZE;
		if (off >= model->size || !(mask >> i & 1))
			continue;
		model->mask[index] |= (uint16_t)(1u << i);
		memcpy(model->data + off, block + i * PIECE_SIZE, PIECE_SIZE);
	}
}

void twin_packed(struct twin *twin, uint64_t index)
{
	struct err err = {0};
	unsigned char packed[BLOCK_SIZE];
	twin_draw(twin, index);
	size_t len = twin_pack(twin, packed);
	assert_int_not_equal(len, 0);
	if (qcow2_write_packed(twin->writer, index, packed, len, &err))
		fail_msg("%s", err.text);
	model_put(&twin->model, index, MASK_FULL, twin->block);
}

void twin_pieces(struct twin *twin, uint64_t index, uint16_t mask)
{
	struct err err = {0};
	twin_draw(twin, index);
	if (qcow2_write_pieces(twin->writer, index, mask, twin->block, &err))
		fail_msg("%s", err.text);
	model_put(&twin->model, index, mask, twin->block);
}

void twin_zeros(struct twin *twin, uint64_t first, uint64_t count)
{
	struct err err = {0};
	static const unsigned char zeros[BLOCK_SIZE];
	if (qcow2_write_zeros(twin->writer, first, count, &err))
		fail_msg("%s", err.text);
	for (uint64_t i = first; i < first + count; i++)
		model_put(&twin->model, i, MASK_FULL, zeros);
}

void twin_random(struct twin *twin)
{
	uint64_t index = draw_below(&twin->seed, twin->model.blocks);
	switch (draw_below(&twin->seed, 8)) {
	case 0:
		twin_zeros(twin, index, 1 + draw_below(&twin->seed, min_u64(twin->model.blocks - index, 20)));
		break;
	case 1:
	case 2:
		twin_pieces(twin, index, (uint16_t)draw(&twin->seed));
		break;
	case 3:
		twin_pieces(twin, index, (uint16_t)(1u << draw_below(&twin->seed, PIECES_PER_BLOCK)));
		break;
	case 4:
		twin_pieces(twin, index, MASK_FULL);
		break;
	default:
		twin_packed(twin, index);
		break;
	}
}

struct model twin_finish(struct twin *twin)
{
	struct err err = {0};
	if (qcow2_writer_finish(twin->writer, &err))
		fail_msg("%s", err.text);
	qcow2_writer_free(twin->writer);
	codec_free(twin->context);
	env_close(twin->file);
	return twin->model;
}

void twin_check(struct env_file *file, const struct model *model)
{
	struct err err = {0};
	struct qcow2_reader *reader;
	if (qcow2_reader_open(file, &reader, &err))
		fail_msg("%s", err.text);
	assert_int_equal(qcow2_reader_size(reader), model->size);
	uint64_t next = 0;
	int rc = qcow2_reader_next(reader, 0, &next, &err);
	for (uint64_t i = 0; i < model->blocks; i++) {
		unsigned char block[BLOCK_SIZE];
		uint16_t mask;
		memset(block, 0xa5, sizeof(block));
		if (qcow2_reader_read(reader, i, block, &mask, &err))
			fail_msg("%s", err.text);
		if (mask != model->mask[i])
			fail_msg("block %llu holds pieces %#x, not %#x", (unsigned long long)i, mask, model->mask[i]);
		for (unsigned j = 0; j < BLOCK_SIZE; j++) {
			bool held = mask >> j / PIECE_SIZE & 1;
			if (block[j] != (held ? model->data[i * BLOCK_SIZE + j] : 0xa5))
				fail_msg("block %llu differs at byte %u", (unsigned long long)i, j);
		}
		if (mask) {
			assert_int_equal(rc, 0);
			assert_int_equal(next, i);
			rc = qcow2_reader_next(reader, i + 1, &next, &err);
		}
	}
	assert_int_equal(rc, -ENOENT);
	qcow2_reader_free(reader);
	twin_check_refcounts(file);
}

// The file as a whole, and how often each of its clusters is referred to: the test's own count.
struct census {
	unsigned char *bytes;
	uint64_t clusters;
	uint16_t *refs;
};

static void census_add(struct census *census, uint64_t offset, uint64_t len)
{
	for (uint64_t i = offset / BLOCK_SIZE; i <= (offset + len - 1) / BLOCK_SIZE; i++) {
		assert_true(i < census->clusters);
		census->refs[i]++;
	}
}

static void census_add_table(struct census *census, uint64_t offset)
{
	for (unsigned i = 0; i < 4096; i++) {
		uint64_t where = get_be64(census->bytes + offset + i * UINT64_C(16));
		if (where >> 62 & 1) {
			uint64_t at = where & ((UINT64_C(1) << 54) - 1), sectors = (where >> 54 & 0xff) + 1;
			census_add(census, at, at % 512 ? sectors * 512 - at % 512 : sectors * 512);
		} else if (where) {
			assert_int_equal(where >> 63, 1);
			census_add(census, where << 1 >> 1, BLOCK_SIZE);
		}
	}
}

// The header, the L1 table and all behind it, the refcount table and its blocks.
static void census_take(struct census *census)
{
	const unsigned char *bytes = census->bytes;
	uint64_t l1 = get_be64(bytes + 40), entries = get_be32(bytes + 36);
	uint64_t counts = get_be64(bytes + 48), count_clusters = get_be32(bytes + 56);
	census_add(census, 0, BLOCK_SIZE);
	census_add(census, l1, entries * 8);
	census_add(census, counts, count_clusters * BLOCK_SIZE);
	for (uint64_t i = 0; i < entries; i++) {
		uint64_t table = get_be64(bytes + l1 + i * 8) << 1 >> 1;
		if (table) {
			census_add(census, table, BLOCK_SIZE);
			census_add_table(census, table);
		}
	}
	for (uint64_t i = 0; i < count_clusters * BLOCK_SIZE / 8; i++)
		if (get_be64(bytes + counts + i * 8))
			census_add(census, get_be64(bytes + counts + i * 8), BLOCK_SIZE);
}

void twin_check_refcounts(struct env_file *file)
{
	struct census census = {0};
	uint64_t size;
	assert_int_equal(env_size(file, &size), 0);
	assert_int_equal(size % BLOCK_SIZE, 0);
	census.clusters = size / BLOCK_SIZE;
	census.bytes = malloc(size);
	census.refs = calloc(census.clusters, sizeof(*census.refs));
	assert_non_null(census.bytes);
	assert_non_null(census.refs);
	assert_int_equal(env_pread_full(file, census.bytes, size, 0), 0);
	census_take(&census);
	uint64_t counts = get_be64(census.bytes + 48);
	for (uint64_t i = 0; i < census.clusters; i++) {
		uint64_t block = get_be64(census.bytes + counts + i / 32768 * 8);
		uint16_t got = get_be16(census.bytes + block + i % 32768 * 2);
		if (got != census.refs[i])
			fail_msg("cluster %llu has refcount %u, and %u references", (unsigned long long)i, got,
				 census.refs[i]);
	}
	free(census.bytes);
	free(census.refs);
}
