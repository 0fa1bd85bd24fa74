// SPDX-License-Identifier: Apache-2.0
// Which volume of a disk is mounted, and as what.
#include "receiver/volume.h"

#include "base/bytes.h"
#include "base/size.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DISK = 4 << 20, FIRST = 64, SECOND = 2048, EXT = 1024, XFS_LOG = 48, XFS_REALTIME = 16, BTRFS = 65536 };

static unsigned char *disk_bytes;

static int disk_read(void *context, uint64_t off, void *buf, uint32_t len)
{
	(void)context;
	assert_true(size_within(off, len, DISK));
	memcpy(buf, disk_bytes + off, len);
	return 0;
}

static const struct disk_source disk = {.read = disk_read, .size = DISK};

static int disk_new(void **state)
{
	(void)state;
	disk_bytes = calloc(1, DISK);
	return disk_bytes ? 0 : -1;
}

static int disk_free(void **state)
{
	(void)state;
	free(disk_bytes);
	return 0;
}

static void put_part(unsigned index, uint32_t first, uint32_t count)
{
	unsigned char *at = disk_bytes + 446 + 16 * index;
	at[4] = 0x83;
	put_le32(at + 8, first);
	put_le32(at + 12, count);
	disk_bytes[510] = 0x55;
	disk_bytes[511] = 0xaa;
}

static void put_ext(unsigned char *at, uint32_t compat, uint32_t incompat)
{
	put_le16(at + EXT + 56, 0xef53);
	put_le32(at + EXT + 92, compat);
	put_le32(at + EXT + 96, incompat);
	put_le32(at + EXT + 224, 8); // the journal's inode
}

static void put_vfat(unsigned char *at)
{
	at[0] = 0xeb;
	at[2] = 0x90;
	put_le16(at + 11, 512);
	at[13] = 4;
	put_le16(at + 14, 1);
	at[16] = 2;
	memcpy(at + 54, "FAT16   ", 8);
	at[510] = 0x55;
	at[511] = 0xaa;
}

static const char *name_of(const unsigned char *front)
{
	const struct filesystem *fs = filesystem_detect(front, FILESYSTEM_FRONT);
	return fs ? fs->name : "";
}

// --- what it is ---

static void ext_is_named_by_its_features_and_mounted_as_ext4(void **state)
{
	(void)state;
	put_ext(disk_bytes, 0, 0x2);
	assert_string_equal(name_of(disk_bytes), "ext2");
	put_ext(disk_bytes, 0x4, 0x2);
	assert_string_equal(name_of(disk_bytes), "ext3");
	put_ext(disk_bytes, 0x4, 0x42);
	assert_string_equal(name_of(disk_bytes), "ext4");
	assert_string_equal(filesystem_detect(disk_bytes, FILESYSTEM_FRONT)->driver, "ext4");
}

static void ext_that_asks_for_a_panic_is_overruled(void **state)
{
	(void)state;
	for (uint32_t incompat = 0; incompat <= 0x40; incompat += 0x40) {
		put_ext(disk_bytes, 0x4, incompat);
		assert_non_null(strstr(filesystem_detect(disk_bytes, FILESYSTEM_FRONT)->options, "errors=remount-ro"));
	}
}

static void ext_with_a_journal_on_another_device_is_never_mounted(void **state)
{
	(void)state;
	put_ext(disk_bytes, 0x4, 0x42);
	put_le32(disk_bytes + EXT + 224, 0); // no inode: the journal lies on the device that the superblock names
	assert_null(filesystem_detect(disk_bytes, FILESYSTEM_FRONT)->driver);
	put_ext(disk_bytes, 0, 0x8); // is such a journal itself
	assert_null(filesystem_detect(disk_bytes, FILESYSTEM_FRONT)->driver);
}

static void each_superblock_is_known_by_its_mark(void **state)
{
	static const struct {
		size_t off;
		const char *mark, *name;
		bool mounts;
	} kinds[] = {
		{0, "XFSB", "xfs", true},	     {65536 + 64, "_BHRfS_M", "btrfs", true},
		{0, "LUKS\xba\xbe", "LUKS", false}, {3, "NTFS    ", "NTFS", false},
		{4086, "SWAPSPACE2", "swap", false},
	};
	(void)state;
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		memset(disk_bytes, 0, FILESYSTEM_FRONT);
		assert_null(filesystem_detect(disk_bytes, FILESYSTEM_FRONT));
		put_be64(disk_bytes + XFS_LOG, 1);
		memcpy(disk_bytes + kinds[i].off, kinds[i].mark, strlen(kinds[i].mark));
		const struct filesystem *fs = filesystem_detect(disk_bytes, FILESYSTEM_FRONT);
		assert_non_null(fs);
		assert_string_equal(fs->name, kinds[i].name);
		assert_int_equal(fs->driver != NULL, kinds[i].mounts);
		assert_int_equal(fs->advice == NULL, kinds[i].mounts);
		assert_null(filesystem_detect(disk_bytes, kinds[i].off + strlen(kinds[i].mark) - 1)); // cut off in its mark
	}
}

static void xfs_with_a_part_on_another_device_is_never_mounted(void **state)
{
	(void)state;
	memcpy(disk_bytes, "XFSB", 4);
	put_be64(disk_bytes + XFS_LOG, 4096);
	assert_string_equal(filesystem_detect(disk_bytes, FILESYSTEM_FRONT)->driver, "xfs");
	put_be64(disk_bytes + XFS_REALTIME, 1);
	assert_null(filesystem_detect(disk_bytes, FILESYSTEM_FRONT)->driver);
	put_be64(disk_bytes + XFS_REALTIME, 0);
	put_be64(disk_bytes + XFS_LOG, 0);
	assert_null(filesystem_detect(disk_bytes, FILESYSTEM_FRONT)->driver);
}

// The kernel would look for the others among all devices of this host.
static void btrfs_over_several_devices_is_never_mounted(void **state)
{
	(void)state;
	memcpy(disk_bytes + BTRFS + 64, "_BHRfS_M", 8);
	put_le64(disk_bytes + BTRFS + 136, 1);
	assert_string_equal(filesystem_detect(disk_bytes, FILESYSTEM_FRONT)->driver, "btrfs");
	put_le64(disk_bytes + BTRFS + 136, 2);
	assert_null(filesystem_detect(disk_bytes, FILESYSTEM_FRONT)->driver);
	assert_non_null(strstr(filesystem_detect(disk_bytes, FILESYSTEM_FRONT)->advice, "all of them"));
}

static void lvm_is_known_by_its_label_in_any_of_four_sectors(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		memset(disk_bytes, 0, FILESYSTEM_FRONT);
		memcpy(disk_bytes + i * SECTOR_SIZE, "LABELONE", 8);
		memcpy(disk_bytes + i * SECTOR_SIZE + 24, "LVM2 001", 8);
		assert_string_equal(name_of(disk_bytes), "LVM");
	}
}

static void a_boot_sector_is_vfat_only_when_its_numbers_fit(void **state)
{
	(void)state;
	static const struct {
		unsigned at;
		unsigned char value;
	} wrong[] = {{0, 0}, {12, 0}, {13, 0}, {13, 3}, {14, 0}, {16, 0}, {16, 3}, {54, 'X'}, {510, 0}};
	put_vfat(disk_bytes);
	assert_string_equal(name_of(disk_bytes), "vfat");
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		put_vfat(disk_bytes);
		disk_bytes[wrong[i].at] = wrong[i].value;
		assert_string_equal(name_of(disk_bytes), "");
	}
}

static void every_truncation_of_a_superblock_is_read_within_its_end(void **state)
{
	(void)state;
	put_vfat(disk_bytes);
	put_ext(disk_bytes, 0x4, 0x42);
	for (size_t len = 0; len < 2100; len++) {
		unsigned char *exact = malloc(len + 1); // so that a sanitizer sees a byte too many
		assert_non_null(exact);
		memcpy(exact, disk_bytes, len);
		unsigned char *cut = realloc(exact, len ? len : 1);
		assert_non_null(cut);
		(void)filesystem_detect(cut, len);
		free(cut);
	}
}

// --- which one ---

static void a_disk_without_partitions_is_mounted_whole(void **state)
{
	struct volume volume;
	(void)state;
	put_ext(disk_bytes, 0x4, 0x42);
	assert_int_equal(volume_choose(&disk, 0, &volume, NULL), 0);
	assert_int_equal(volume.partition, 0);
	assert_int_equal(volume.off, 0);
	assert_int_equal(volume.len, DISK);
	assert_int_equal(volume_choose(&disk, 1, &volume, NULL), -ENOENT);
}

static void the_only_partition_with_a_file_system_is_taken(void **state)
{
	struct volume volume;
	(void)state;
	put_part(0, FIRST, 1000);
	put_part(1, SECOND, 4000);
	put_ext(disk_bytes + SECOND * SECTOR_SIZE, 0x4, 0x42);
	assert_int_equal(volume_choose(&disk, 0, &volume, NULL), 0);
	assert_int_equal(volume.partition, 2);
	assert_int_equal(volume.off, SECOND * SECTOR_SIZE);
	assert_int_equal(volume.len, 4000 * SECTOR_SIZE);
	assert_string_equal(volume.filesystem->name, "ext4");
}

static void more_than_one_file_system_is_a_choice_that_lists_them(void **state)
{
	struct volume volume;
	struct err err;
	(void)state;
	put_part(0, FIRST, 1000);
	put_part(1, SECOND, 4096);
	put_vfat(disk_bytes + FIRST * SECTOR_SIZE);
	put_ext(disk_bytes + SECOND * SECTOR_SIZE, 0x4, 0x42);
	assert_int_equal(volume_choose(&disk, 0, &volume, &err), -EINVAL);
	assert_non_null(strstr(err.text, "1 (vfat, 0 MiB), 2 (ext4, 2 MiB)"));
	assert_int_equal(volume_choose(&disk, 1, &volume, &err), 0);
	assert_string_equal(volume.filesystem->name, "vfat");
	assert_int_equal(volume_choose(&disk, 3, &volume, &err), -ENOENT);
	assert_non_null(strstr(err.text, "2 (ext4, 2 MiB)"));
}

static void a_superblock_that_partitioning_left_at_the_front_does_not_count(void **state)
{
	struct volume volume;
	(void)state;
	put_ext(disk_bytes, 0x4, 0x42);
	put_part(0, SECOND, 4000);
	memcpy(disk_bytes + SECOND * SECTOR_SIZE, "XFSB", 4);
	put_be64(disk_bytes + SECOND * SECTOR_SIZE + XFS_LOG, 1);
	assert_int_equal(volume_choose(&disk, 0, &volume, NULL), 0);
	assert_int_equal(volume.partition, 1);
	assert_string_equal(volume.filesystem->name, "xfs");
}

static void what_cannot_be_mounted_is_refused_with_advice(void **state)
{
	struct volume volume;
	struct err err;
	(void)state;
	assert_int_equal(volume_choose(&disk, 0, &volume, &err), -EINVAL);
	assert_non_null(strstr(err.text, "no file system"));
	put_part(0, FIRST, 1000);
	memcpy(disk_bytes + FIRST * SECTOR_SIZE, "LUKS\xba\xbe", 6);
	assert_int_equal(volume_choose(&disk, 0, &volume, &err), -EINVAL);
	assert_non_null(strstr(err.text, "LUKS"));
	assert_int_equal(volume_choose(&disk, 1, &volume, &err), -EINVAL);
	assert_non_null(strstr(err.text, "encrypted"));
}

static void a_long_list_of_partitions_ends_with_dots(void **state)
{
	struct volume volume;
	struct err err;
	(void)state;
	put_part(0, 2048, 2000);
	disk_bytes[446 + 4] = 0x05;
	for (uint32_t i = 0; i < 40; i++) { // a chain of logical partitions, one sector each
		unsigned char *at = disk_bytes + (2048 + i * 8) * SECTOR_SIZE;
		at[446 + 4] = 0x83;
		put_le32(at + 446 + 8, 1);
		put_le32(at + 446 + 12, 1);
		at[462 + 4] = 0x05;
		put_le32(at + 462 + 8, (i + 1) * 8);
		put_le32(at + 462 + 12, 8);
		at[510] = 0x55;
		at[511] = 0xaa;
	}
	assert_int_equal(volume_choose(&disk, 1, &volume, &err), -ENOENT);
	assert_non_null(strstr(err.text, ", ..."));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, disk_new, disk_free)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(ext_is_named_by_its_features_and_mounted_as_ext4),
		TEST(ext_that_asks_for_a_panic_is_overruled),
		TEST(ext_with_a_journal_on_another_device_is_never_mounted),
		TEST(each_superblock_is_known_by_its_mark),
		TEST(xfs_with_a_part_on_another_device_is_never_mounted),
		TEST(btrfs_over_several_devices_is_never_mounted),
		TEST(lvm_is_known_by_its_label_in_any_of_four_sectors),
		TEST(a_boot_sector_is_vfat_only_when_its_numbers_fit),
		TEST(every_truncation_of_a_superblock_is_read_within_its_end),
		TEST(a_disk_without_partitions_is_mounted_whole),
		TEST(the_only_partition_with_a_file_system_is_taken),
		TEST(more_than_one_file_system_is_a_choice_that_lists_them),
		TEST(a_superblock_that_partitioning_left_at_the_front_does_not_count),
		TEST(what_cannot_be_mounted_is_refused_with_advice),
		TEST(a_long_list_of_partitions_ends_with_dots),
	};
	return cmocka_run_group_tests_name("volume", tests, NULL, NULL);
}
