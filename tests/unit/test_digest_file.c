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

static const struct env_ops *ops_below;
static unsigned writes;

static int counting_pwrite(struct env_file *file, const void *buf, size_t len, uint64_t off)
{
	writes++;
	return ops_below->pwrite(file, buf, len, off);
}

// As large as the oldest point had the disk, which may be larger: past that it says zeros. Whoever waits for it does not wait for each sector.
static void table_that_knows_nothing_says_so_and_is_written_in_large_pieces(void **state)
{
	(void)state;
	static const uint64_t counts[] = {0, 1, 31, 32, 100000};
	const struct digest_disk large = {.kind = DIGEST_XXH3, .size = UINT64_C(100000) * BLOCK_SIZE};
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct env_file *file = NULL;
		struct env_ops ops = *temp.root->env->ops;
		struct table found;
		uint64_t size = 0;
		table_init(&found, 100000);
		assert_int_equal(env_open(temp.root, "table", ENV_CREATE, &file), 0);
		assert_int_equal(digest_table_create(file, &large, NULL), 0);
		ops_below = temp.root->env->ops;
		ops.pwrite = counting_pwrite;
		temp.root->env->ops = &ops;
		writes = 0;
		int rc = digest_table_forget(file, counts[i], NULL);
		temp.root->env->ops = ops_below;
		assert_int_equal(rc, 0);
		assert_true(writes <= 4);
		assert_int_equal(env_size(file, &size), 0);
		assert_int_equal(size, digest_table_length(large.size));
		assert_int_equal(digest_table_load(file, &large, take, &found, NULL), 0);
		assert_int_equal(found.set, counts[i]);
		for (uint64_t b = 0; b < counts[i]; b++)
			assert_true(digest_is_unknown(table_get(&found, b)));
		table_done(&found);
		env_close(file);
		assert_int_equal(env_unlink(temp.root, "table"), 0);
	}
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

// Digests in all but the first sectors of a table; what is asked of it goes through `ops`.
static int load_through(struct env_ops *ops, struct table *all, struct table *ret_found)
{
	struct env_file *file = NULL;
	table_fill(all, 900, 3);
	table_init(ret_found, BLOCKS);
	assert_int_equal(env_open(temp.root, "table", ENV_CREATE, &file), 0);
	assert_int_equal(digest_table_create(file, &disk, NULL), 0);
	update_all(file, all);
	ops_below = temp.root->env->ops;
	temp.root->env->ops = ops;
	int rc = digest_table_load(file, &disk, take, ret_found, NULL);
	temp.root->env->ops = ops_below;
	env_close(file);
	return rc;
}

// As ZFS does of what was written and is not on the disk yet.
static int nothing_there(struct env_file *file, uint64_t off, uint64_t *ret_from, uint64_t *ret_to)
{
	(void)file;
	*ret_from = *ret_to = off;
	return 0;
}

static bool is_not_believed(struct env_file *file)
{
	(void)file;
	return false;
}

static void table_is_read_whole_where_the_file_system_is_not_believed(void **state)
{
	(void)state;
	struct env_ops ops = *temp.root->env->ops;
	struct table table, found;
	ops.data = nothing_there;
	ops.tells_holes = is_not_believed;
	assert_int_equal(load_through(&ops, &table, &found), 0);
	tables_equal(&table, &found);
	table_done(&table);
	table_done(&found);
}

// The first sectors alone are told as data; before the next question all behind them goes.
static int cut_data(struct env_file *file, uint64_t off, uint64_t *ret_from, uint64_t *ret_to)
{
	const uint64_t end = 4 * DIGEST_SECTOR;
	if (off >= end)
		assert_int_equal(ops_below->truncate(file, end), 0);
	int rc = ops_below->data(file, off, ret_from, ret_to);
	*ret_to = min_u64(*ret_to, max_u64(end, off));
	return rc;
}

static void table_that_is_cut_off_while_it_is_read_is_refused(void **state)
{
	(void)state;
	struct env_ops ops = *temp.root->env->ops;
	struct table table, found;
	ops.data = cut_data;
	assert_int_equal(load_through(&ops, &table, &found), -EBADMSG);
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
			assert_int_equal(digest_list_range(list, &disk, table.set, first, end, take, NULL, &found, NULL), 0);
			range_equals(&table, &found, first, end);
			table_clear(&found);
			assert_int_equal(digest_table_range(base, &disk, first, end, take, NULL, &found, NULL), 0);
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

// --- what is left of a file whose sectors do not check ---

struct salvage {
	const struct table *all;
	struct table found;
	bool may_be[BLOCKS]; // named by a sector that is lost
	uint64_t next;	     // everything is told in order
};

static int salvage_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	struct salvage *s = context;
	(void)err;
	assert_true(index >= s->next);
	s->next = index + 1;
	assert_true(table_get(s->all, index) && digest_equal(table_get(s->all, index), digest));
	return table_set(&s->found, index, digest);
}

static int salvage_lost(void *context, uint64_t first, uint64_t end, uint64_t missing, struct err *err)
{
	struct salvage *s = context;
	uint64_t named = 0;
	(void)err;
	assert_true(first < end && end <= BLOCKS);
	for (uint64_t i = first; i < end; i++) {
		s->may_be[i] = true;
		named += table_get(s->all, i) != NULL;
	}
	assert_true(missing == named || missing == end - first); // of a list, or of a table
	return 0;
}

// Of what `all` has in [first, end) each is told or may be among the lost; and not both.
static void salvage_check(const struct salvage *s, uint64_t first, uint64_t end, bool whole)
{
	for (uint64_t i = first; i < end; i++) {
		bool told = table_get(&s->found, i) != NULL, there = table_get(s->all, i) != NULL;
		assert_int_equal(there, told || (there && s->may_be[i]));
		assert_false(told && s->may_be[i]);
		assert_false(whole && s->may_be[i]);
	}
}

static void sectors_spoil(struct env_file *file, const bool *spoil, uint64_t sectors, uint64_t *seed)
{
	for (uint64_t n = 0; n < sectors; n++) {
		uint64_t at = n * DIGEST_SECTOR + draw_below(seed, DIGEST_SECTOR);
		unsigned char byte;
		if (!spoil[n])
			continue;
		assert_int_equal(env_pread_full(file, &byte, 1, at), 0);
		byte ^= (unsigned char)(1u << draw_below(seed, 8));
		assert_int_equal(env_pwrite(file, &byte, 1, at), 0);
	}
}

static void lost_sectors_never_pass_for_nothing(void **state)
{
	(void)state;
	uint64_t seed = 17;
	for (unsigned round = 0; round < 400; round++) {
		struct table table;
		struct env_file *list = NULL, *base = NULL;
		unsigned char root[DIGEST_ROOT_SIZE];
		bool spoil[64] = {false}, any = false;
		table_fill(&table, 1 + (unsigned)draw_below(&seed, 300), round + 1);
		assert_int_equal(env_open(temp.root, "list", ENV_CREATE, &list), 0);
		assert_int_equal(digest_list_save(list, &disk, &table, root, NULL), 0);
		assert_int_equal(env_open(temp.root, "table", ENV_CREATE, &base), 0);
		assert_int_equal(digest_table_create(base, &disk, NULL), 0);
		update_all(base, &table);
		uint64_t sectors = digest_list_length(table.set) / DIGEST_SECTOR;
		assert_true(sectors <= 64);
		for (uint64_t n = 1; n < sectors; n++)
			any |= spoil[n] = draw_below(&seed, 3) == 0;
		spoil[0] = draw_below(&seed, 4) == 0; // says nothing that is not known
		sectors_spoil(list, spoil, sectors, &seed);
		uint64_t first = draw_below(&seed, BLOCKS), end = first + draw_below(&seed, 1 + (BLOCKS - first < 90 ? BLOCKS - first : 90));
		for (unsigned part = 0; part < 2; part++) {
			struct salvage s = {.all = &table};
			table_init(&s.found, BLOCKS);
			int rc = part ? digest_list_range(list, &disk, table.set, first, end, salvage_take, salvage_lost, &s, NULL)
				      : digest_list_salvage(list, &disk, table.set, root, salvage_take, salvage_lost, &s, NULL);
			assert_int_equal(rc, 0);
			salvage_check(&s, part ? first : 0, part ? end : BLOCKS, !any);
			table_done(&s.found);
		}
		assert_int_equal(digest_list_load(list, &disk, table.set, root, NULL, NULL, NULL), any || spoil[0] ? -EBADMSG : 0);
		bool one[64] = {false};
		one[draw_below(&seed, min_u64(64, digest_table_length(disk.size) / DIGEST_SECTOR))] = true;
		sectors_spoil(base, one, 64, &seed);
		for (unsigned part = 0; part < 2; part++) {
			struct salvage s = {.all = &table};
			table_init(&s.found, BLOCKS);
			int rc = part ? digest_table_range(base, &disk, first, end, salvage_take, salvage_lost, &s, NULL)
				      : digest_table_salvage(base, &disk, salvage_take, salvage_lost, &s, NULL);
			assert_int_equal(rc, 0);
			salvage_check(&s, part ? first : 0, part ? end : BLOCKS, one[0]);
			table_done(&s.found);
		}
		table_done(&table);
		env_close(list);
		env_close(base);
		assert_int_equal(env_unlink(temp.root, "list"), 0);
		assert_int_equal(env_unlink(temp.root, "table"), 0);
	}
}

// A root that does not match, where every sector checks, is another list.
static void other_list_is_not_salvaged(void **state)
{
	(void)state;
	struct table table;
	struct env_file *list = NULL;
	unsigned char root[DIGEST_ROOT_SIZE];
	struct salvage s = {.all = &table};
	table_fill(&table, 50, 3);
	table_init(&s.found, BLOCKS);
	assert_int_equal(env_open(temp.root, "list", ENV_CREATE, &list), 0);
	assert_int_equal(digest_list_save(list, &disk, &table, root, NULL), 0);
	root[3] ^= 1;
	assert_int_equal(digest_list_salvage(list, &disk, table.set, root, salvage_take, salvage_lost, &s, NULL), -EBADMSG);
	root[3] ^= 1;
	assert_int_equal(env_truncate(list, DIGEST_SECTOR), 0);
	assert_int_equal(digest_list_salvage(list, &disk, table.set, root, salvage_take, salvage_lost, &s, NULL), -EBADMSG);
	table_done(&s.found);
	table_done(&table);
	env_close(list);
}

static void prelude_of_a_table_is_written_anew(void **state)
{
	(void)state;
	struct table table, found;
	struct env_file *base = NULL;
	struct digest_disk larger = disk;
	uint64_t seed = 5;
	const bool first[1] = {true};
	bool mended = true;
	larger.size += 40 * BLOCK_SIZE;
	table_fill(&table, 100, 9);
	table_init(&found, BLOCKS);
	assert_int_equal(env_open(temp.root, "table", ENV_CREATE, &base), 0);
	assert_int_equal(digest_table_create(base, &disk, NULL), 0);
	update_all(base, &table);
	assert_int_equal(digest_table_mend(base, &disk, &mended, NULL), 0);
	assert_false(mended);
	sectors_spoil(base, first, 1, &seed);
	assert_int_equal(digest_table_load(base, &disk, take, &found, NULL), -EBADMSG);
	assert_int_equal(digest_table_grow(base, &larger, NULL), -EBADMSG);
	assert_int_equal(digest_table_mend(base, &disk, &mended, NULL), 0);
	assert_true(mended);
	assert_int_equal(digest_table_load(base, &disk, take, &found, NULL), 0);
	tables_equal(&table, &found);
	assert_int_equal(digest_table_grow(base, &larger, NULL), 0);
	assert_int_equal(digest_table_check(base, &larger, NULL), 0);
	env_close(base);
	table_done(&table);
	table_done(&found);
}

// A sector that is written over a damaged one says of what it had that nobody knows it, and of blocks past the end nothing.
static void update_of_a_damaged_sector_keeps_nothing_that_was_lost(void **state)
{
	(void)state;
	struct table table, found;
	struct env_file *base = NULL;
	struct digest_update update;
	const struct digest fresh = {{1, 2, 3}};
	uint64_t seed = 8, last = BLOCKS / DIGEST_TABLE_PER_SECTOR; // the last sector, which is not full
	bool spoil[64] = {false};
	spoil[1] = spoil[last + 1] = true;
	table_fill(&table, 200, 4);
	table_init(&found, BLOCKS);
	assert_int_equal(env_open(temp.root, "table", ENV_CREATE, &base), 0);
	assert_int_equal(digest_table_create(base, &disk, NULL), 0);
	update_all(base, &table);
	sectors_spoil(base, spoil, digest_table_length(disk.size) / DIGEST_SECTOR, &seed);
	for (unsigned dry = 2; dry-- > 0;) {
		digest_update_init(&update, base, &disk);
		update.dry = dry;
		assert_int_equal(digest_update_set(&update, 5, &fresh, NULL), 0);
		assert_int_equal(digest_update_set(&update, BLOCKS - 1, &fresh, NULL), 0);
		assert_int_equal(digest_update_flush(&update, NULL), 0);
		assert_int_equal(update.lost, 2);
		assert_int_equal(digest_table_load(base, &disk, take, &found, NULL), dry ? -EBADMSG : 0);
	}
	for (uint64_t i = 0; i < BLOCKS; i++) {
		bool lost = i < DIGEST_TABLE_PER_SECTOR || i >= last * DIGEST_TABLE_PER_SECTOR;
		const struct digest *is = table_get(&found, i), *was = table_get(&table, i);
		if (i == 5 || i == BLOCKS - 1)
			assert_true(digest_equal(is, &fresh));
		else if (lost)
			assert_true(is && digest_is_unknown(is));
		else
			assert_true(!was == !is && (!was || digest_equal(is, was)));
	}
	env_close(base);
	table_done(&table);
	table_done(&found);
}

// A window is read at once, but what was not asked for is not written: it may be damaged, or a hole.
static void update_writes_no_sector_that_was_not_set(void **state)
{
	(void)state;
	struct table table, found;
	struct env_file *base = NULL;
	struct digest_update update;
	const struct digest fresh = {{1, 2, 3}};
	uint64_t seed = 9;
	bool spoil[64] = {false};
	spoil[3] = true;
	table_fill(&table, 200, 4);
	table_init(&found, BLOCKS);
	assert_int_equal(env_open(temp.root, "table", ENV_CREATE, &base), 0);
	assert_int_equal(digest_table_create(base, &disk, NULL), 0);
	update_all(base, &table);
	sectors_spoil(base, spoil, digest_table_length(disk.size) / DIGEST_SECTOR, &seed);
	digest_update_init(&update, base, &disk);
	for (uint64_t sector = 1; sector <= 4; sector++)
		if (sector != 3)
			assert_int_equal(digest_update_set(&update, (sector - 1) * DIGEST_TABLE_PER_SECTOR, &fresh, NULL), 0);
	assert_true(digest_update_has(&update, 2 * DIGEST_TABLE_PER_SECTOR)); // between those that were set
	assert_int_equal(digest_update_flush(&update, NULL), 0);
	assert_int_equal(update.lost, 0);
	assert_int_equal(digest_table_load(base, &disk, take, &found, NULL), -EBADMSG);
	assert_int_equal(digest_table_range(base, &disk, 0, 2 * DIGEST_TABLE_PER_SECTOR, take, NULL, &found, NULL), 0);
	assert_int_equal(digest_table_range(base, &disk, 3 * DIGEST_TABLE_PER_SECTOR, BLOCKS, take, NULL, &found, NULL), 0);
	assert_true(digest_equal(table_get(&found, 0), &fresh) && digest_equal(table_get(&found, 3 * DIGEST_TABLE_PER_SECTOR), &fresh));
	env_close(base);
	table_done(&table);
	table_done(&found);
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
		DIGEST_TEST(table_that_knows_nothing_says_so_and_is_written_in_large_pieces),
		DIGEST_TEST(table_with_a_flipped_bit_or_of_another_length_is_refused),
		DIGEST_TEST(table_is_read_whole_where_the_file_system_is_not_believed),
		DIGEST_TEST(table_that_is_cut_off_while_it_is_read_is_refused),
		DIGEST_TEST(lost_sectors_never_pass_for_nothing),
		DIGEST_TEST(other_list_is_not_salvaged),
		DIGEST_TEST(prelude_of_a_table_is_written_anew),
		DIGEST_TEST(update_of_a_damaged_sector_keeps_nothing_that_was_lost),
		DIGEST_TEST(update_writes_no_sector_that_was_not_set),
	};
	return cmocka_run_group_tests_name("digest_file", tests, NULL, NULL);
}
