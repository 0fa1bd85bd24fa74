// SPDX-License-Identifier: Apache-2.0
// Who may write to a block device beside a disk that only reads it. Whoever mounts a device, or builds another one of it, claims it, and so do most programs that write to one.
//
//	nobody claims it, nor a partition of it                  nobody may
//	it is mounted                                            unless the file system is read-only
//	a partition of it is claimed                             whoever may write to the partition
//	device mapper is over it (LVM, LUKS, multipath)          whoever may write to the map
//	an MD array, bcache or the like is over it               it does itself, unless it is read-only
//	it is claimed, and by none of these                      a program, or what another container has mounted: it may
//
// Not seen: who opens it without a claim, which any program may do, and who comes later.
#ifndef KAGAMI_REPLICATOR_DEVICE_CLAIM_H
#define KAGAMI_REPLICATOR_DEVICE_CLAIM_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct device_writer {
	char name[64];	      // in /dev: the device that it has
	char mount[PATH_MAX]; // where that is mounted; "": it is not
};

// Claims the device for an instant, and those over it. `sys`, `mounts`: where sysfs is, and /proc/self/mountinfo. Waits for no disk.
bool device_claim_writes(const char *sys, const char *mounts, dev_t device, struct device_writer *ret_writer);

#endif
