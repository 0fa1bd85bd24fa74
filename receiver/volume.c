// SPDX-License-Identifier: Apache-2.0
// Chooses the volume to mount.
//
// A table with partitions wins over a superblock at the front of the disk: mkfs on a whole disk that is partitioned
// afterwards leaves one behind.
#include "receiver/volume.h"

#include "base/auto.h"
#include "base/size.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { LIST_SIZE = 320 };

static int volume_detect(const struct disk_source *disk, struct volume *volume, struct err *err)
{
	uint32_t len = (uint32_t)min_u64(volume->len, FILESYSTEM_FRONT);
	AUTO_FREE unsigned char *front = malloc(FILESYSTEM_FRONT);
	if (!front)
		return err_set(err, -ENOMEM, "out of memory for a superblock");
	int rc = disk->read(disk->context, volume->off, front, len);
	if (rc)
		return err_sys(err, rc, "read the superblock at byte %llu of the disk", (unsigned long long)volume->off);
	volume->filesystem = filesystem_detect(front, len);
	return 0;
}

static struct volume volume_of(const struct partition *part)
{
	return (struct volume){.partition = part->number, .off = part->off, .len = part->len};
}

static bool mountable(const struct volume *volume)
{
	return volume->filesystem && volume->filesystem->driver;
}

// "1 (vfat, 512 MiB), 2 (LVM, 20480 MiB)", cut off with "..." where the room ends.
static void list_add(char list[LIST_SIZE], const struct volume *volume)
{
	size_t used = strnlen(list, LIST_SIZE);
	int n = snprintf(list + used, LIST_SIZE - used, "%s%u (%s, %llu MiB)", used ? ", " : "", volume->partition,
			 volume->filesystem ? volume->filesystem->name : "unknown",
			 (unsigned long long)(volume->len >> 20));
	if (used + (size_t)n >= LIST_SIZE)
		(void)snprintf(list + LIST_SIZE - 6, 6, ", ...");
}

// What is on the partition, which the list then has as well.
static int look_at(const struct disk_source *disk, const struct partition *part, char list[LIST_SIZE], struct volume *ret_volume, struct err *err)
{
	*ret_volume = volume_of(part);
	int rc = volume_detect(disk, ret_volume, err);
	if (rc == 0)
		list_add(list, ret_volume);
	return rc;
}

static int check_mountable(const struct volume *volume, const char *what, struct err *err)
{
	if (mountable(volume))
		return 0;
	if (!volume->filesystem)
		return err_set(err, -EINVAL,
			       "%s holds no file system that is known here (ext2, ext3, ext4, xfs, btrfs, vfat): fail over and mount "
			       "it in a virtual machine",
			       what);
	return err_set(err, -EINVAL, "%s holds %s, which cannot be mounted here: %s", what, volume->filesystem->name,
		       volume->filesystem->advice);
}

static int choose_named(const struct disk_source *disk, const struct partition_table *table, uint32_t number,
			struct volume *ret_volume, struct err *err)
{
	char list[LIST_SIZE] = "", what[32];
	const struct partition *part = partition_find(table, number);
	if (part) {
		struct volume volume = volume_of(part);
		(void)snprintf(what, sizeof(what), "partition %u", number);
		int rc = volume_detect(disk, &volume, err);
		if (rc == 0)
			rc = check_mountable(&volume, what, err);
		if (rc == 0)
			*ret_volume = volume;
		return rc;
	}
	if (table->count == 0)
		return err_set(err, -ENOENT, "the disk has no partitions: leave --partition out");
	for (uint32_t i = 0; i < table->count; i++) {
		struct volume volume;
		int rc = look_at(disk, &table->part[i], list, &volume, err);
		if (rc)
			return rc;
	}
	return err_set(err, -ENOENT, "there is no partition %u; the disk has %s", number, list);
}

static int choose_whole(const struct disk_source *disk, struct volume *ret_volume, struct err *err)
{
	struct volume volume = {.len = disk->size};
	int rc = volume_detect(disk, &volume, err);
	if (rc == 0)
		rc = check_mountable(&volume, "the disk", err);
	if (rc == 0)
		*ret_volume = volume;
	return rc;
}

static int choose_only(const struct disk_source *disk, const struct partition_table *table, struct volume *ret_volume,
		       struct err *err)
{
	struct volume found = {.len = 0}, whole;
	char list[LIST_SIZE] = "";
	uint32_t fits = 0;
	for (uint32_t i = 0; i < table->count; i++) {
		struct volume volume;
		int rc = look_at(disk, &table->part[i], list, &volume, err);
		if (rc)
			return rc;
		if (mountable(&volume) && fits++ == 0)
			found = volume;
	}
	if (fits == 0 && choose_whole(disk, &whole, NULL) == 0) {
		found = whole; // entries that were read out of a boot sector
		fits = 1;
	}
	if (fits == 0)
		return err_set(err, -EINVAL,
			       "none of the disk's partitions can be mounted here: %s; fail over and mount them in a virtual machine",
			       list);
	if (fits > 1)
		return err_set(err, -EINVAL, "the disk has more than one file system, choose with --partition N: %s", list);
	*ret_volume = found;
	return 0;
}

int volume_choose(const struct disk_source *disk, uint32_t partition, struct volume *ret_volume, struct err *err)
{
	AUTO_FREE struct partition_table *table = malloc(sizeof(*table));
	if (!table)
		return err_set(err, -ENOMEM, "out of memory for a partition table");
	int rc = partition_table_read(disk, table, err);
	if (rc)
		return rc;
	if (partition)
		return choose_named(disk, table, partition, ret_volume, err);
	if (table->count == 0)
		return choose_whole(disk, ret_volume, err);
	return choose_only(disk, table, ret_volume, err);
}
