// SPDX-License-Identifier: Apache-2.0
// Which part of a disk to mount: the one that was asked for, or the only one that holds a file system.
#ifndef KAGAMI_RECEIVER_VOLUME_H
#define KAGAMI_RECEIVER_VOLUME_H

#include "receiver/filesystem.h"
#include "receiver/partition.h"

struct volume {
	uint32_t partition; // 0: the whole disk
	uint64_t off, len;  // in bytes
	const struct filesystem *filesystem;
};

// Chooses from the disk's own bytes, which are not trusted. With `partition` not 0 that one is taken. Else the only
// partition with a file system that can be mounted; on a disk without partitions the disk itself. -ENOENT, -EINVAL with
// a list of what there is when nothing fits or more than one does.
int volume_choose(const struct disk_source *disk, uint32_t partition, struct volume *ret_volume, struct err *err);

#endif
