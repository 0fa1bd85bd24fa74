// SPDX-License-Identifier: Apache-2.0
// What lies beneath a block device, by sysfs: whether all that changes what the device holds goes by its own counts (device_counts.h).
//
//	disk, partition of one (SCSI, NVMe, virtio, Xen, MMC, pmem)       they do
//	mirror (MD, RAID 1); volume, LUKS, multipath over such            they do, while the layers are the same ones
//	loop device                                                       they do not; its file has times, which do
//	thin volume, origin of a snapshot, any other device mapper        no: a snapshot is merged into it, or a table exchanged, beneath it
//	MD of another level, zram, ram                                    no: what is discarded is not counted by their drivers
//	all others (ZFS, RBD, DRBD, NBD, bcache)                          no: rolled back, or written elsewhere
#ifndef KAGAMI_REPLICATOR_DEVICE_STACK_H
#define KAGAMI_REPLICATOR_DEVICE_STACK_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct device_stack {
	uint64_t layers;     // another number where a layer is another device, or another attachment of it
	char file[PATH_MAX]; // of a loop device; "" of all others
};

// False where the counts do not tell. `sys`: where sysfs is. Any thread; waits for no disk.
bool device_stack_read(const char *sys, dev_t device, struct device_stack *ret_stack);

#endif
