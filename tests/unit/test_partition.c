// SPDX-License-Identifier: Apache-2.0
#include "receiver/partition.h"

#include "base/bytes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <zlib.h>

enum { DISK = 4 << 20, SECTORS = DISK / 512 };

struct image {
	unsigned char *bytes;
	uint64_t size;
	int fail;	// errno of every read but the first
	unsigned reads;
};

static int image_read(void *context, uint64_t off, void *buf, uint32_t len)
{
	struct image *image = context;
	assert_true(off <= image->size && len <= image->size - off); // the promise of every reader
	if (image->fail && image->reads++ > 0)
		return -image->fail;
	memcpy(buf, image->bytes + off, len);
	return 0;
}

static int read_table(struct image *image, struct partition_table *table, struct err *err)
{
	struct disk_source disk = {.read = image_read, .context = image, .size = image->size};
	return partition_table_read(&disk, table, err);
}

static int image_new(void **state)
{
	struct image *image = calloc(1, sizeof(*image));
	assert_non_null(image);
	image->size = DISK;
	image->bytes = calloc(1, DISK);
	assert_non_null(image->bytes);
	*state = image;
	return 0;
}

static int image_free(void **state)
{
	struct image *image = *state;
	free(image->bytes);
	free(image);
	return 0;
}

static void put_mbr(unsigned char *sector, unsigned index, uint8_t type, uint32_t first, uint32_t count)
{
	unsigned char *at = sector + 446 + 16 * index;
	at[4] = type;
	put_le32(at + 8, first);
	put_le32(at + 12, count);
	sector[510] = 0x55;
	sector[511] = 0xaa;
}

static void gpt_seal(unsigned char *header, const unsigned char *entries, uint32_t bytes)
{
	put_le32(header + 88, (uint32_t)crc32(0, entries, bytes));
	put_le32(header + 16, 0);
	put_le32(header + 16, (uint32_t)crc32(0, header, get_le32(header + 12)));
}

static void put_header(struct image *image, uint32_t sector, uint64_t own, uint64_t table, uint32_t count, uint32_t size)
{
	unsigned char *header = image->bytes + own * sector;
	memcpy(header, "EFI PART", 8);
	put_le32(header + 8, 0x00010000);
	put_le32(header + 12, 92);
	put_le64(header + 24, own);
	put_le64(header + 72, table);
	put_le32(header + 80, count);
	put_le32(header + 84, size);
	gpt_seal(header, image->bytes + table * sector, count * size);
}

static void put_entry(unsigned char *entries, unsigned index, uint64_t first, uint64_t last)
{
	unsigned char *entry = entries + (size_t)index * 128;
	memset(entry, 0x11, 16);
	put_le64(entry + 32, first);
	put_le64(entry + 40, last);
}

// A disk with partitions 1 (sectors 64 to 127) and 3 (128 to 255), and both headers.
static void put_gpt(struct image *image, uint32_t sector)
{
	uint64_t sectors = image->size / sector, table = 2, copy = sectors - 1 - 16384 / sector;
	put_mbr(image->bytes, 0, 0xee, 1, (uint32_t)sectors - 1);
	put_entry(image->bytes + table * sector, 0, 64, 127);
	put_entry(image->bytes + table * sector, 2, 128, 255);
	memcpy(image->bytes + copy * sector, image->bytes + table * sector, 16384);
	put_header(image, sector, 1, table, 128, 128);
	put_header(image, sector, sectors - 1, copy, 128, 128);
}

static void assert_part(const struct partition_table *table, unsigned index, uint32_t number, uint64_t off, uint64_t len)
{
	assert_true(index < table->count);
	assert_int_equal(table->part[index].number, number);
	assert_int_equal(table->part[index].off, off);
	assert_int_equal(table->part[index].len, len);
}

static void assert_gpt(const struct partition_table *table, uint32_t sector)
{
	assert_int_equal(table->scheme, PARTITION_GPT);
	assert_int_equal(table->count, 2);
	assert_part(table, 0, 1, 64 * sector, 64 * sector);
	assert_part(table, 1, 3, 128 * sector, 128 * sector);
}

// --- MBR ---

static void an_empty_disk_has_no_table(void **state)
{
	struct partition_table table;
	assert_int_equal(read_table(*state, &table, NULL), 0);
	assert_int_equal(table.scheme, PARTITION_NONE);
	assert_int_equal(table.count, 0);
	assert_null(table.note);
}

static void mbr_lists_primary_partitions_by_number(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_mbr(image->bytes, 0, 0x83, 64, 100);
	put_mbr(image->bytes, 3, 0x0c, 1000, SECTORS - 1000);
	assert_int_equal(read_table(image, &table, NULL), 0);
	assert_int_equal(table.scheme, PARTITION_MBR);
	assert_int_equal(table.count, 2);
	assert_part(&table, 0, 1, 64 * 512, 100 * 512);
	assert_part(&table, 1, 4, 1000 * 512, DISK - 1000 * 512);
	assert_ptr_equal(partition_find(&table, 4), &table.part[1]);
	assert_null(partition_find(&table, 2));
}

static void mbr_follows_logical_partitions_from_number_five(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_mbr(image->bytes, 0, 0x83, 64, 36);
	put_mbr(image->bytes, 1, 0x05, 100, 1000);
	put_mbr(image->bytes + 100 * 512, 0, 0x83, 10, 90);
	put_mbr(image->bytes + 100 * 512, 1, 0x05, 200, 300);
	put_mbr(image->bytes + 300 * 512, 0, 0x83, 5, 50);
	assert_int_equal(read_table(image, &table, NULL), 0);
	assert_int_equal(table.count, 3);
	assert_part(&table, 1, 5, 110 * 512, 90 * 512);
	assert_part(&table, 2, 6, 305 * 512, 50 * 512);
	assert_null(table.note);
}

static void a_chain_of_logical_partitions_that_loops_lists_each_once(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_mbr(image->bytes, 0, 0x0f, 100, 1000);
	put_mbr(image->bytes + 100 * 512, 0, 0x83, 10, 90);
	put_mbr(image->bytes + 100 * 512, 1, 0x05, 0, 300);
	assert_int_equal(read_table(image, &table, NULL), 0);
	assert_int_equal(table.count, 1);
	assert_non_null(table.note);
	put_mbr(image->bytes + 100 * 512, 1, 0x05, 200, 300); // back to the first by way of another
	put_mbr(image->bytes + 300 * 512, 0, 0x83, 5, 50);
	put_mbr(image->bytes + 300 * 512, 1, 0x05, 0, 300);
	assert_int_equal(read_table(image, &table, NULL), 0);
	assert_int_equal(table.count, 2);
	assert_non_null(table.note);
}

static void a_chain_of_logical_partitions_that_is_longer_than_any_ends(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	uint32_t extended = 100, most = DISK / 512 - extended;
	put_mbr(image->bytes, 0, 0x0f, extended, most);
	for (uint32_t i = 0; i <= LOGICAL_MAX; i++) {
		put_mbr(image->bytes + (extended + i) * 512, 0, 0x83, 1, 1);
		put_mbr(image->bytes + (extended + i) * 512, 1, 0x05, i + 1, 1);
	}
	assert_int_equal(read_table(image, &table, NULL), 0);
	assert_int_equal(table.count, LOGICAL_MAX);
	assert_non_null(table.note);
}

static void a_chain_of_logical_partitions_that_leaves_the_disk_keeps_what_was_found(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_mbr(image->bytes, 0, 0x05, 100, 1000);
	put_mbr(image->bytes + 100 * 512, 0, 0x83, 10, 90);
	put_mbr(image->bytes + 100 * 512, 1, 0x05, 0xffffffff, 300);
	assert_int_equal(read_table(image, &table, NULL), 0);
	assert_int_equal(table.count, 1);
	assert_non_null(table.note);
}

static void partitions_past_the_end_of_the_disk_are_left_out(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_mbr(image->bytes, 0, 0x83, 64, 0xffffffff);
	put_mbr(image->bytes, 1, 0x83, 0xffffffff, 1);
	put_mbr(image->bytes, 2, 0x83, 0, 10); // would hold the table itself
	put_mbr(image->bytes, 3, 0x83, 100, 100);
	assert_int_equal(read_table(image, &table, NULL), 0);
	assert_int_equal(table.count, 1);
	assert_part(&table, 0, 4, 100 * 512, 100 * 512);
	assert_non_null(table.note);
}

static void partitions_that_overlap_are_listed_as_they_are(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_mbr(image->bytes, 0, 0x83, 64, 1000);
	put_mbr(image->bytes, 1, 0x83, 64, 1000);
	assert_int_equal(read_table(image, &table, NULL), 0);
	assert_int_equal(table.count, 2);
}

static void a_boot_sector_of_a_file_system_is_no_table(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_mbr(image->bytes, 0, 0x83, 64, 100);
	image->bytes[446 + 16] = 0x42; // a status that no table has
	assert_int_equal(read_table(image, &table, NULL), 0);
	assert_int_equal(table.scheme, PARTITION_NONE);
}

// --- GPT ---

static void gpt_lists_used_entries_by_number(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_gpt(image, 512);
	assert_int_equal(read_table(image, &table, NULL), 0);
	assert_gpt(&table, 512);
	assert_null(table.note);
}

static void gpt_of_4096_byte_sectors_is_read(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_gpt(image, 4096);
	assert_int_equal(read_table(image, &table, NULL), 0);
	assert_gpt(&table, 4096);
}

static void gpt_with_a_damaged_front_is_read_from_its_copy(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	const size_t at[] = {512, 512 + 16, 512 + 24, 512 + 72, 1024, 1024 + 16383}; // header, its CRC, own sector, table, entries
	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		memset(image->bytes, 0, DISK);
		put_gpt(image, 512);
		image->bytes[at[i]] ^= 0x20;
		assert_int_equal(read_table(image, &table, NULL), 0);
		assert_gpt(&table, 512);
		assert_non_null(table.note);
	}
}

static void gpt_with_both_copies_damaged_is_refused(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	struct err err = {.code = 0};
	put_gpt(image, 512);
	image->bytes[512 + 56] ^= 1;
	image->bytes[DISK - 512 + 56] ^= 1;
	assert_int_equal(read_table(image, &table, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "GPT"));
}

static void every_flipped_bit_of_the_front_header_falls_back_to_the_copy(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_gpt(image, 512);
	for (unsigned bit = 0; bit < 92 * 8; bit++) {
		image->bytes[512 + bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_int_equal(read_table(image, &table, NULL), 0);
		assert_gpt(&table, 512);
		assert_non_null(table.note);
		image->bytes[512 + bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
}

static void gpt_limits_are_checked_though_the_checksum_is_right(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	const struct {
		unsigned at, width;
		uint64_t value;
	} bad[] = {
		{12, 4, 91},	     {12, 4, 513},	   {72, 8, SECTORS},	 {72, 8, UINT64_MAX}, {72, 8, UINT64_MAX / 512},
		{80, 4, 0},	     {80, 4, 1025},	   {80, 4, 0xffffffff}, {84, 4, 0},	      {84, 4, 64},
		{84, 4, 129},	     {84, 4, 8192},	   {84, 4, 0x80000000}, {24, 8, 2},	      {8, 4, 0x00020000},
	};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memset(image->bytes, 0, DISK);
		put_gpt(image, 512);
		image->bytes[DISK - 512] = 0; // no copy
		unsigned char *header = image->bytes + 512;
		if (bad[i].width == 4)
			put_le32(header + bad[i].at, (uint32_t)bad[i].value);
		else
			put_le64(header + bad[i].at, bad[i].value);
		put_le32(header + 16, 0);
		uint32_t len = get_le32(header + 12) <= 512 ? get_le32(header + 12) : 512;
		put_le32(header + 16, (uint32_t)crc32(0, header, len));
		assert_int_equal(read_table(image, &table, NULL), -EBADMSG);
	}
}

static void gpt_entries_that_are_not_on_the_disk_are_left_out(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_gpt(image, 512);
	put_entry(image->bytes + 1024, 4, 200, 100);
	put_entry(image->bytes + 1024, 5, 200, SECTORS);
	put_entry(image->bytes + 1024, 6, 0, UINT64_MAX);
	put_entry(image->bytes + 1024, 7, UINT64_MAX, UINT64_MAX);
	gpt_seal(image->bytes + 512, image->bytes + 1024, 16384);
	assert_int_equal(read_table(image, &table, NULL), 0);
	assert_gpt(&table, 512);
	assert_non_null(table.note);
}

static void gpt_with_the_most_entries_lists_what_there_is_room_for(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_gpt(image, 512);
	for (unsigned i = 0; i < GPT_ENTRIES_MAX; i++)
		put_entry(image->bytes + 1024, i, 1000 + i, 1000 + i);
	put_header(image, 512, 1, 2, GPT_ENTRIES_MAX, 128);
	assert_int_equal(read_table(image, &table, NULL), 0);
	assert_int_equal(table.count, PARTITIONS_MAX);
	assert_part(&table, PARTITIONS_MAX - 1, PARTITIONS_MAX, (1000 + PARTITIONS_MAX - 1) * 512, 512);
	assert_non_null(table.note);
}

// --- both ---

static void every_truncation_of_a_disk_is_read_within_its_end(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_gpt(image, 512);
	for (uint64_t size = 0; size < 40000; size += size < 2048 ? 1 : 509) {
		image->size = size; // image_read() fails the test for a read past it
		(void)read_table(image, &table, NULL);
		for (uint32_t i = 0; i < table.count; i++)
			assert_true(table.part[i].off + table.part[i].len <= size);
	}
}

static void a_disk_that_cannot_be_read_is_an_error_and_not_an_empty_table(void **state)
{
	struct image *image = *state;
	struct partition_table table;
	put_gpt(image, 512);
	image->fail = EIO;
	assert_int_equal(read_table(image, &table, NULL), -EIO);
	memset(image->bytes, 0, DISK);
	put_mbr(image->bytes, 0, 0x05, 100, 1000);
	image->reads = 0;
	assert_int_equal(read_table(image, &table, NULL), -EIO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, image_new, image_free)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(an_empty_disk_has_no_table),
		TEST(mbr_lists_primary_partitions_by_number),
		TEST(mbr_follows_logical_partitions_from_number_five),
		TEST(a_chain_of_logical_partitions_that_loops_lists_each_once),
		TEST(a_chain_of_logical_partitions_that_is_longer_than_any_ends),
		TEST(a_chain_of_logical_partitions_that_leaves_the_disk_keeps_what_was_found),
		TEST(partitions_past_the_end_of_the_disk_are_left_out),
		TEST(partitions_that_overlap_are_listed_as_they_are),
		TEST(a_boot_sector_of_a_file_system_is_no_table),
		TEST(gpt_lists_used_entries_by_number),
		TEST(gpt_of_4096_byte_sectors_is_read),
		TEST(gpt_with_a_damaged_front_is_read_from_its_copy),
		TEST(gpt_with_both_copies_damaged_is_refused),
		TEST(every_flipped_bit_of_the_front_header_falls_back_to_the_copy),
		TEST(gpt_limits_are_checked_though_the_checksum_is_right),
		TEST(gpt_entries_that_are_not_on_the_disk_are_left_out),
		TEST(gpt_with_the_most_entries_lists_what_there_is_room_for),
		TEST(every_truncation_of_a_disk_is_read_within_its_end),
		TEST(a_disk_that_cannot_be_read_is_an_error_and_not_an_empty_table),
	};
	return cmocka_run_group_tests_name("partition", tests, NULL, NULL);
}
