// SPDX-License-Identifier: Apache-2.0
#include "receiver/digest_file.h"

#include "tests/lib/twin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 1000 };

static const struct digest_disk disk = {.kind = DIGEST_XXH3, .number = 3, .size = BLOCKS * UINT64_C(65536) - 512};
static struct temp temp;

static int setup(void **state)
{
	(void)state;
	temp_open(&temp);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	temp_close(&temp);
	return 0;
}

static struct digest digest_drawn(uint64_t *seed)
{
	struct digest digest;
	for (unsigned i = 0; i < DIGEST_SIZE; i++)
		digest.bytes[i] = (unsigned char)draw(seed);
	return digest;
}

static void table_fill(struct table *table, unsigned count, uint64_t seed)
{
	table_init(table, BLOCKS);
	for (unsigned i = 0; i < count; i++) {
		uint64_t index = draw_below(&seed, BLOCKS);
		struct digest digest = digest_drawn(&seed);
		assert_int_equal(table_set(table, index, &digest), 0);
	}
}

static int take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	(void)err;
	return table_set(context, index, digest);
}

static void tables_equal(const struct table *a, const struct table *b)
{
	assert_int_equal(a->set, b->set);
	for (uint64_t i = 0; i < BLOCKS; i++) {
		const struct digest *left = table_get(a, i), *right = table_get(b, i);
		assert_int_equal(!left, !right);
		assert_true(!left || digest_equal(left, right));
	}
}

static void table_finds_what_was_set_and_nothing_else(void **state)
{
	(void)state;
	struct table table;
	bool model[BLOCKS] = {false};
	uint64_t seed = 7;
	table_init(&table, BLOCKS);
	assert_true(table_next(&table, 0) == TABLE_END);
	assert_null(table_get(&table, BLOCKS - 1));
	for (unsigned round = 0; round < 60; round++) {
		uint64_t index = draw_below(&seed, BLOCKS), next = TABLE_END;
		struct digest digest = digest_drawn(&seed);
		assert_int_equal(table_set(&table, index, &digest), 0);
		model[index] = true;
		uint64_t from = draw_below(&seed, BLOCKS + 2);
		for (uint64_t i = BLOCKS; i-- > from;)
			next = model[i] ? i : next;
		assert_true(table_next(&table, from) == next);
	}
	assert_int_equal(table_reserve(&table, 0, BLOCKS), 0);
	for (uint64_t i = 0; i < BLOCKS; i++)
		assert_int_equal(table_get(&table, i) != NULL, model[i]);
	table_clear(&table);
	assert_true(table_next(&table, 0) == TABLE_END);
	table_done(&table);
}

static void list_reads_back_as_it_was_saved(void **state)
{
	(void)state;
	static const unsigned counts[] = {0, 1, DIGEST_LIST_PER_SECTOR, 500};
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct table table, found;
		struct env_file *file = NULL;
		unsigned char root[DIGEST_ROOT_SIZE];
		uint64_t size = 0;
		table_fill(&table, counts[i], i + 1);
		table_init(&found, BLOCKS);
		assert_int_equal(env_open(temp.root, "list", ENV_CREATE, &file), 0);
		assert_int_equal(digest_list_save(file, &disk, &table, root, NULL), 0);
		assert_int_equal(env_size(file, &size), 0);
		assert_int_equal(size, digest_list_length(table.set));
		assert_int_equal(digest_list_load(file, &disk, table.set, root, take, &found, NULL), 0);
		tables_equal(&table, &found);
		struct digest_disk other = disk;
		other.number++;
		assert_int_equal(digest_list_load(file, &other, table.set, root, NULL, NULL, NULL), -EBADMSG);
		root[0] ^= 1;
		assert_int_equal(digest_list_load(file, &disk, table.set, root, NULL, NULL, NULL), -EBADMSG);
		env_close(file);
		assert_int_equal(env_unlink(temp.root, "list"), 0);
		table_done(&table);
		table_done(&found);
	}
}

static void list_with_any_bit_flipped_or_cut_anywhere_is_refused(void **state)
{
	(void)state;
	struct table table;
	struct env_file *file = NULL;
	unsigned char root[DIGEST_ROOT_SIZE], *data;
	uint64_t size = 0;
	struct err err = {0};
	table_fill(&table, 30, 5);
	assert_int_equal(env_open(temp.root, "list", ENV_CREATE, &file), 0);
	assert_int_equal(digest_list_save(file, &disk, &table, root, NULL), 0);
	assert_int_equal(env_size(file, &size), 0);
	data = malloc(size);
	assert_int_equal(env_pread_full(file, data, size, 0), 0);
	for (uint64_t bit = 0; bit < size * 8; bit++) {
		unsigned char bad = (unsigned char)(data[bit / 8] ^ 1 << bit % 8);
		assert_int_equal(env_pwrite(file, &bad, 1, bit / 8), 0);
		assert_int_equal(digest_list_load(file, &disk, table.set, root, NULL, NULL, &err), -EBADMSG);
		assert_int_equal(env_pwrite(file, &data[bit / 8], 1, bit / 8), 0);
	}
	assert_int_equal(digest_list_load(file, &disk, table.set, root, NULL, NULL, NULL), 0);
	assert_int_equal(digest_list_load(file, &disk, table.set + 1, root, NULL, NULL, NULL), -EBADMSG);
	for (uint64_t len = size; len-- > 0;) {
		assert_int_equal(env_truncate(file, len), 0);
		assert_int_equal(digest_list_load(file, &disk, table.set, root, NULL, NULL, NULL), -EBADMSG);
	}
	free(data);
	env_close(file);
	table_done(&table);
}

static void update_all(struct env_file *file, const struct table *changes)
{
	struct digest_update update;
	digest_update_init(&update, file, &disk);
	for (uint64_t i = table_next(changes, 0); i != TABLE_END; i = table_next(changes, i + 1))
		assert_int_equal(digest_update_set(&update, i, table_get(changes, i), NULL), 0);
	assert_int_equal(digest_update_flush(&update, NULL), 0);
}

static void table_updated_twice_is_as_updated_once(void **state)
{
	(void)state;
	struct table first, second, model, found;
	struct env_file *file = NULL;
	static const struct digest zero;
	table_fill(&first, 300, 1);
	table_fill(&second, 100, 2);
	table_init(&model, BLOCKS);
	for (uint64_t i = 0; i < BLOCKS; i += 7)
		assert_int_equal(table_set(&second, i, &zero), 0);
	assert_int_equal(env_open(temp.root, "table", ENV_CREATE, &file), 0);
	assert_int_equal(digest_table_create(file, &disk, NULL), 0);
	for (uint64_t i = 0; i < BLOCKS; i++) {
		const struct digest *digest = table_get(&second, i) ? table_get(&second, i) : table_get(&first, i);
		if (digest && !digest_is_zero(digest))
			assert_int_equal(table_set(&model, i, digest), 0);
	}
	update_all(file, &first);
	for (unsigned round = 0; round < 2; round++) {
		update_all(file, &second);
		table_init(&found, BLOCKS);
		assert_int_equal(digest_table_load(file, &disk, take, &found, NULL), 0);
		tables_equal(&model, &found);
		table_done(&found);
	}
	env_close(file);
	table_done(&first);
	table_done(&second);
	table_done(&model);
}

static void table_with_a_flipped_bit_or_of_another_length_is_refused(void **state)
{
	(void)state;
	struct table table, found;
	struct env_file *file = NULL;
	uint64_t seed = 9, size = digest_table_length(disk.size);
	table_fill(&table, 900, 3);
	assert_int_equal(env_open(temp.root, "table", ENV_CREATE, &file), 0);
	assert_int_equal(digest_table_create(file, &disk, NULL), 0);
	update_all(file, &table);
	table_init(&found, BLOCKS);
	for (unsigned i = 0; i < 2000; i++) {
		uint64_t at = draw_below(&seed, size);
		unsigned char good, bad;
		assert_int_equal(env_pread_full(file, &good, 1, at), 0);
		bad = (unsigned char)(good ^ 1 << draw_below(&seed, 8));
		assert_int_equal(env_pwrite(file, &bad, 1, at), 0);
		assert_int_equal(digest_table_load(file, &disk, take, &found, NULL), -EBADMSG);
		assert_int_equal(env_pwrite(file, &good, 1, at), 0);
	}
	assert_int_equal(digest_table_load(file, &disk, take, &found, NULL), 0);
	assert_int_equal(env_truncate(file, size - 512), 0);
	assert_int_equal(digest_table_check(file, &disk, NULL), -EBADMSG);
	assert_int_equal(env_truncate(file, size + 100), 0);
	assert_int_equal(digest_table_check(file, &disk, NULL), -EBADMSG);
	assert_int_equal(env_truncate(file, size), 0);
	assert_int_equal(env_truncate(file, size + 512), 0); // as a growth that was cut off leaves it
	assert_int_equal(digest_table_check(file, &disk, NULL), 0);
	struct digest_disk larger = disk;
	larger.size += 40 * BLOCK_SIZE;
	assert_int_equal(digest_table_check(file, &larger, NULL), -EBADMSG);
	assert_int_equal(digest_table_grow(file, &larger, NULL), 0);
	assert_int_equal(digest_table_check(file, &larger, NULL), 0);
	assert_int_equal(digest_table_check(file, &disk, NULL), 0);
	env_close(file);
	table_done(&table);
	table_done(&found);
}

// What `found` has is what `all` has in [first, end), and nothing else.
static void range_equals(const struct table *all, const struct table *found, uint64_t first, uint64_t end)
{
	for (uint64_t i = 0; i < BLOCKS; i++) {
		const struct digest *a = i >= first && i < end ? table_get(all, i) : NULL, *b = table_get(found, i);
		assert_int_equal(!a, !b);
		assert_true(!a || digest_equal(a, b));
	}
}

static void range_reads_what_the_whole_has_there(void **state)
{
	(void)state;
	static const unsigned counts[] = {0, 1, DIGEST_LIST_PER_SECTOR, DIGEST_LIST_PER_SECTOR + 1, 700};
	uint64_t seed = 3;
	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		struct table table, found;
		struct env_file *list = NULL, *base = NULL;
		struct digest_update update;
		unsigned char root[DIGEST_ROOT_SIZE];
		table_fill(&table, counts[c], c + 11);
		assert_int_equal(env_open(temp.root, "list", ENV_CREATE, &list), 0);
		assert_int_equal(digest_list_save(list, &disk, &table, root, NULL), 0);
		assert_int_equal(env_open(temp.root, "table", ENV_CREATE, &base), 0);
		assert_int_equal(digest_table_create(base, &disk, NULL), 0);
		digest_update_init(&update, base, &disk);
		for (uint64_t i = table_next(&table, 0); i != TABLE_END; i = table_next(&table, i + 1))
			assert_int_equal(digest_update_set(&update, i, table_get(&table, i), NULL), 0);
		assert_int_equal(digest_update_flush(&update, NULL), 0);
		for (unsigned round = 0; round < 200; round++) {
			uint64_t first = draw_below(&seed, BLOCKS), end = first + draw_below(&seed, 1 + (BLOCKS - first < 90 ? BLOCKS - first : 90));
			table_init(&found, BLOCKS);
			assert_int_equal(digest_list_range(list, &disk, table.set, first, end, take, &found, NULL), 0);
			range_equals(&table, &found, first, end);
			table_clear(&found);
			assert_int_equal(digest_table_range(base, &disk, first, end, take, &found, NULL), 0);
			range_equals(&table, &found, first, end);
			table_done(&found);
		}
		table_done(&table);
		env_close(list);
		env_close(base);
		assert_int_equal(env_unlink(temp.root, "list"), 0);
		assert_int_equal(env_unlink(temp.root, "table"), 0);
	}
}

#define DIGEST_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DIGEST_TEST(table_finds_what_was_set_and_nothing_else),
		DIGEST_TEST(list_reads_back_as_it_was_saved),
		DIGEST_TEST(list_with_any_bit_flipped_or_cut_anywhere_is_refused),
		DIGEST_TEST(range_reads_what_the_whole_has_there),
		DIGEST_TEST(table_updated_twice_is_as_updated_once),
		DIGEST_TEST(table_with_a_flipped_bit_or_of_another_length_is_refused),
	};
	return cmocka_run_group_tests_name("digest_file", tests, NULL, NULL);
}
