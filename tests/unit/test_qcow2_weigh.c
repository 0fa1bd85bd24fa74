// SPDX-License-Identifier: Apache-2.0
// What a merge would write, by tables alone (format/qcow2_weigh.h), against what the writer writes.
#include "base/log.h"
#include "format/qcow2_layout.h"
#include "format/qcow2_weigh.h"
#include "tests/lib/twin.h"
#include "tests/sim/env_sim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROUNDS = 400, BLOCKS = 96 };

static const unsigned char content[BLOCK_SIZE] = {1};

struct paper { // an overlay, and its weight
	struct sim *sim;
	struct env_root *root;
	struct env_file *file;
	struct qcow2_writer *writer;
	uint64_t size;
	struct qcow2_made *made;
};

static void paper_begin(struct paper *p, uint64_t size)
{
	struct qcow2_config config = {.size = size, .codec = CODEC_ZSTD, .backing_name = "../1/vda.qcow2", .backing = QCOW2_BACKING_QCOW2};
	struct err err = {0};
	p->size = size;
	p->made = calloc((size_t)size_round_up(size_blocks(size), QCOW2_TABLE_BLOCKS), sizeof(*p->made));
	assert_non_null(p->made);
	p->sim = sim_new(1);
	assert_int_equal(env_root_open(sim_env(p->sim), "/", &p->root), 0);
	assert_int_equal(env_open(p->root, "overlay", ENV_CREATE, &p->file), 0);
	if (qcow2_writer_new(p->file, &config, &p->writer, &err))
		fail_msg("%s", err.text);
}

static void paper_end(struct paper *p)
{
	qcow2_writer_free(p->writer);
	env_close(p->file);
	env_root_close(p->root);
	sim_free(p->sim);
	free(p->made);
}

static struct qcow2_span paper_weigh(const struct paper *p)
{
	struct qcow2_weigher weigher;
	qcow2_weigh_begin(&weigher, p->size);
	for (uint64_t first = 0; first < size_blocks(p->size); first += QCOW2_TABLE_BLOCKS)
		qcow2_weigh_table(&weigher, (uint32_t)(first / QCOW2_TABLE_BLOCKS), p->made + first);
	return qcow2_weigh_end(&weigher);
}

static uint64_t paper_length(struct paper *p)
{
	struct err err = {0};
	uint64_t size = 0;
	if (qcow2_writer_finish(p->writer, &err))
		fail_msg("%s", err.text);
	assert_int_equal(env_size(p->file, &size), 0);
	return size;
}

// One block, as a merge writes it: a stream of some length, some pieces, zeros, or one that is packed again or not.
static void block_write(struct paper *p, uint64_t *seed, uint64_t index, bool known)
{
	struct qcow2_made *made = &p->made[index];
	uint16_t whole = qcow2_pieces_of(p->size, index), some = (uint16_t)(1 + draw_below(seed, whole));
	uint32_t len = (uint32_t)(1 + draw_below(seed, draw_below(seed, 3) ? 20000 : BLOCK_SIZE));
	struct err err = {0};
	int rc = 0;
	switch (draw_below(seed, known ? 4 : 6)) {
	case 0: // nothing
		return;
	case 1:
		rc = qcow2_write_zeros(p->writer, index, 1, &err);
		*made = (struct qcow2_made){.have = whole};
		break;
	case 2:
		some = some == whole ? (uint16_t)(whole >> 1) : some;
		rc = qcow2_write_pieces(p->writer, index, some, content, &err);
		*made = (struct qcow2_made){.have = some, .data = some};
		break;
	case 3: {
		uint32_t slack = known ? 0 : (uint32_t)draw_below(seed, SECTOR_SIZE);
		uint32_t least = len > slack ? len - slack : 1, most = least + SECTOR_SIZE - 1;
		rc = qcow2_write_packed(p->writer, index, content, len, &err);
		*made = (struct qcow2_made){.have = whole, .data = whole, .stream = true};
		made->longest = (struct qcow2_weight){.mask = whole, .packed = true, .len_least = known ? len : least, .len_likely = len,
						      .len_most = known ? len : most};
		break;
	}
	default:
		*made = (struct qcow2_made){.have = whole, .data = whole};
		if (draw_below(seed, 8) == 0)
			rc = qcow2_write_zeros(p->writer, index, 1, &err);
		else if (draw_below(seed, 2))
			rc = qcow2_write_pieces(p->writer, index, whole, content, &err);
		else
			rc = qcow2_write_packed(p->writer, index, content, len < BLOCK_SIZE ? len : BLOCK_SIZE - 1, &err);
	}
	if (rc)
		fail_msg("%s", err.text);
}

static void random_overlays(bool known)
{
	for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
		uint64_t draws = seed * 77 + known;
		struct paper p;
		paper_begin(&p, (BLOCKS - 1) * BLOCK_SIZE + draw_below(&draws, 128) * SECTOR_SIZE + SECTOR_SIZE);
		for (uint64_t i = 0; i < size_blocks(p.size); i++)
			block_write(&p, &draws, i, known);
		struct qcow2_span span = paper_weigh(&p);
		uint64_t length = paper_length(&p);
		if (known ? span.least != length || span.most != length || span.likely != length : length < span.least || length > span.most)
			fail_msg("seed %llu: %llu bytes, said to be %llu to %llu", (unsigned long long)seed, (unsigned long long)length,
				 (unsigned long long)span.least, (unsigned long long)span.most);
		paper_end(&p);
	}
}

static void what_is_known_to_the_byte_is_told_to_the_byte(void **state)
{
	(void)state;
	random_overlays(true);
}

static void what_is_not_known_lies_between_the_bounds(void **state)
{
	(void)state;
	random_overlays(false);
}

// Many tables of zeros share one, few do not; the last one of the disk is not whole and has its own.
static void tables_of_zeros_are_counted_as_they_are_written(void **state)
{
	(void)state;
	for (unsigned tables = 62; tables <= 66; tables++) {
		struct paper p;
		struct err err = {0};
		paper_begin(&p, ((uint64_t)tables * QCOW2_TABLE_BLOCKS + 3) * BLOCK_SIZE);
		for (uint64_t i = 0; i < size_blocks(p.size); i++)
			p.made[i].have = MASK_FULL;
		assert_int_equal(qcow2_write_zeros(p.writer, 0, size_blocks(p.size), &err), 0);
		struct qcow2_span span = paper_weigh(&p);
		uint64_t length = paper_length(&p);
		assert_int_equal(span.least, length);
		assert_int_equal(span.most, length);
		paper_end(&p);
	}
}

// --- the tables ---

// Streams written one behind the other: the next one's begin is this one's end, and only the last may be longer than it is.
static void a_stream_ends_where_its_neighbour_begins(void **state)
{
	(void)state;
	struct qcow2_tables *tables = NULL;
	struct qcow2_weight *weights = malloc(QCOW2_TABLE_BLOCKS * sizeof(*weights));
	void *scratch = malloc(QCOW2_CLUSTER_SIZE);
	struct paper p;
	struct err err = {0};
	assert_true(weights && scratch);
	paper_begin(&p, 64 * BLOCK_SIZE);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(qcow2_write_packed(p.writer, i, content, 1000 + 700 * i, &err), 0);
	assert_int_equal(qcow2_write_pieces(p.writer, 8, 0x0f0f, content, &err), 0);
	assert_int_equal(qcow2_write_zeros(p.writer, 9, 1, &err), 0);
	(void)paper_length(&p);
	assert_int_equal(qcow2_tables_load(p.file, &tables, &err), 0);
	assert_int_equal(qcow2_tables_size(tables), 64 * BLOCK_SIZE);
	assert_true(qcow2_tables_has(tables, 0) && !qcow2_tables_has(tables, 1));
	assert_int_equal(qcow2_tables_read(tables, p.file, 0, weights, scratch, &err), 0);
	for (uint32_t i = 0; i < 8; i++) {
		assert_true(weights[i].packed && weights[i].mask == MASK_FULL);
		assert_true(weights[i].len_least <= 1000 + 700 * i && 1000 + 700 * i <= weights[i].len_most);
		if (i < 7)
			assert_int_equal(weights[i].len_most, 1000 + 700 * i);
	}
	assert_int_equal(weights[7].len_most - weights[7].len_least, SECTOR_SIZE - 1);
	assert_true(!weights[8].packed && weights[8].mask == 0x0f0f && weights[8].zeros == 0);
	assert_true(weights[9].mask == MASK_FULL && weights[9].zeros == MASK_FULL);
	assert_int_equal(weights[10].mask, 0);
	qcow2_tables_free(tables);
	paper_end(&p);
	free(weights);
	free(scratch);
}

int main(void)
{
	log_init("test_qcow2_weigh", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_known_to_the_byte_is_told_to_the_byte),
		cmocka_unit_test(what_is_not_known_lies_between_the_bounds),
		cmocka_unit_test(tables_of_zeros_are_counted_as_they_are_written),
		cmocka_unit_test(a_stream_ends_where_its_neighbour_begins),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
