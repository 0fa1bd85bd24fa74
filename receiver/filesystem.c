// SPDX-License-Identifier: Apache-2.0
// Superblocks, one function each, and the table that names them.
//
// What is mounted was written by a guest: ext4's superblock may ask for a panic of the kernel that finds an error in it
// (overruled by errors=remount-ro), or name a journal on another device of the host (refused). xfs refuses a file system
// whose UUID is mounted already, as another point of the same disk has (nouuid). btrfs would put a file system together from
// all devices of the host that carry its UUID: one that says that it has more than this one is refused.
#include "receiver/filesystem.h"

#include "base/bytes.h"
#include "base/size.h"

enum {
	EXT_SUPER = 1024,
	EXT_MAGIC = EXT_SUPER + 56,
	EXT_COMPAT = EXT_SUPER + 92,
	EXT_INCOMPAT = EXT_SUPER + 96,
	EXT_JOURNAL_INODE = EXT_SUPER + 224,
	EXT_HAS_JOURNAL = 0x4,
	EXT_IS_JOURNAL_DEVICE = 0x8,
	EXT_OF_EXT4 = 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x10000, // extents and later
	XFS_REALTIME_BLOCKS = 16,
	XFS_LOG_START = 48, // 0: the log is on another device
	BTRFS_SUPER = 64 << 10,
	BTRFS_DEVICES = BTRFS_SUPER + 136,
	LVM_LABELS = 4, // sectors in which its label may be
};

static bool text_at(const unsigned char *front, size_t len, size_t off, const char *text)
{
	size_t n = strlen(text);
	return size_within(off, n, len) && memcmp(front + off, text, n) == 0;
}

static bool is_ext(const unsigned char *front, size_t len)
{
	return len >= EXT_SUPER + 1024 && get_le16(front + EXT_MAGIC) == 0xef53;
}

static bool is_ext_apart(const unsigned char *front, size_t len)
{
	if (!is_ext(front, len))
		return false;
	if (get_le32(front + EXT_INCOMPAT) & EXT_IS_JOURNAL_DEVICE)
		return true;
	return (get_le32(front + EXT_COMPAT) & EXT_HAS_JOURNAL) && get_le32(front + EXT_JOURNAL_INODE) == 0;
}

static bool is_ext4(const unsigned char *front, size_t len)
{
	return is_ext(front, len) && (get_le32(front + EXT_INCOMPAT) & EXT_OF_EXT4);
}

static bool is_ext3(const unsigned char *front, size_t len)
{
	return is_ext(front, len) && (get_le32(front + EXT_COMPAT) & EXT_HAS_JOURNAL);
}

static bool is_xfs(const unsigned char *front, size_t len)
{
	return text_at(front, len, 0, "XFSB");
}

static bool is_xfs_apart(const unsigned char *front, size_t len)
{
	return is_xfs(front, len) && len >= XFS_LOG_START + 8 &&
	       (get_be64(front + XFS_LOG_START) == 0 || get_be64(front + XFS_REALTIME_BLOCKS) != 0);
}

static bool is_btrfs(const unsigned char *front, size_t len)
{
	return text_at(front, len, BTRFS_SUPER + 64, "_BHRfS_M");
}

static bool is_btrfs_apart(const unsigned char *front, size_t len)
{
	return is_btrfs(front, len) && len >= BTRFS_DEVICES + 8 && get_le64(front + BTRFS_DEVICES) > 1;
}

static bool is_luks(const unsigned char *front, size_t len)
{
	return text_at(front, len, 0, "LUKS\xba\xbe");
}

static bool is_lvm(const unsigned char *front, size_t len)
{
	for (size_t i = 0; i < LVM_LABELS; i++)
		if (text_at(front, len, i * SECTOR_SIZE, "LABELONE") && text_at(front, len, i * SECTOR_SIZE + 24, "LVM2 001"))
			return true;
	return false;
}

static bool is_swap(const unsigned char *front, size_t len)
{
	return text_at(front, len, PIECE_SIZE - 10, "SWAPSPACE2");
}

static bool is_ntfs(const unsigned char *front, size_t len)
{
	return text_at(front, len, 3, "NTFS    ");
}

static bool is_boot_sector(const unsigned char *front, size_t len)
{
	if (len < SECTOR_SIZE || front[510] != 0x55 || front[511] != 0xaa)
		return false;
	return front[0] == 0xe9 || (front[0] == 0xeb && front[2] == 0x90);
}

// The text is advice, as Microsoft's own paper on FAT says; the numbers beside it must fit too.
static bool is_vfat(const unsigned char *front, size_t len)
{
	if (!is_boot_sector(front, len))
		return false;
	unsigned sector = get_le16(front + 11), cluster = front[13], fats = front[16];
	if (sector < 512 || sector > 4096 || (sector & (sector - 1)) || cluster == 0 || (cluster & (cluster - 1)))
		return false;
	if (get_le16(front + 14) == 0 || fats == 0 || fats > 2)
		return false;
	return text_at(front, len, 54, "FAT") || text_at(front, len, 82, "FAT32");
}

// The first that fits names it, so the narrower test stands first.
static const struct {
	bool (*is)(const unsigned char *front, size_t len);
	struct filesystem filesystem;
} table[] = {
	{is_luks, {"LUKS", NULL, "", "it is encrypted: fail over and open it with the guest's key"}},
	{is_lvm, {"LVM", NULL, "", "its volumes need the guest's volume manager: fail over and activate them in a virtual machine"}},
	{is_xfs_apart,
	 {"xfs with a log or data on another disk", NULL, "", "fail over and mount it in a virtual machine with both disks"}},
	{is_xfs, {"xfs", "xfs", "nouuid", NULL}},
	{is_btrfs_apart, {"btrfs over several disks", NULL, "", "fail over and mount it in a virtual machine with all of them"}},
	{is_btrfs, {"btrfs", "btrfs", "", NULL}},
	{is_ext_apart,
	 {"ext with a journal on another disk", NULL, "", "fail over and mount it in a virtual machine with both disks"}},
	{is_ext4, {"ext4", "ext4", "errors=remount-ro", NULL}},
	{is_ext3, {"ext3", "ext4", "errors=remount-ro", NULL}},
	{is_ext, {"ext2", "ext4", "errors=remount-ro", NULL}},
	{is_ntfs, {"NTFS", NULL, "", "fail over and mount it in a virtual machine"}},
	{is_vfat, {"vfat", "vfat", "errors=remount-ro", NULL}},
	{is_swap, {"swap", NULL, "", "it holds no files"}},
};

const struct filesystem *filesystem_detect(const void *front, size_t len)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].is(front, len))
			return &table[i].filesystem;
	return NULL;
}
