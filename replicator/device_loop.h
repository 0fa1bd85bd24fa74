// SPDX-License-Identifier: Apache-2.0
// Loop devices, by sysfs: those that lie beneath a device, and those that lie over a file or a device.
#ifndef KAGAMI_REPLICATOR_DEVICE_LOOP_H
#define KAGAMI_REPLICATOR_DEVICE_LOOP_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

enum { DEVICE_NAME_BYTES = 64 };

struct device_loop {
	char name[DEVICE_NAME_BYTES]; // in /dev
	char file[PATH_MAX];	      // what it shows, by the path that has now: a file or a block device
	uint64_t begin, end;	      // of it; end: UINT64_MAX up to its own end
	bool writes;		      // whoever has it can write there
};

bool device_loop_shows_all(const struct device_loop *loop);
// Each that lies beneath `device`: itself, the whole device of a partition, those under the layers of a stack. `all`: the device is the loop device, not a part of it nor
// something over it. Until `visit` returns other than 0, which is returned.
int device_loops_beneath(const char *sys, dev_t device, int (*visit)(void *context, const struct device_loop *loop, bool all), void *context);
// The name of one that shows this file or block device, or a part of it. `writes`: only such as can write. `beside`, unless NULL: only others than that, which show some
// of the same bytes. `mounts`: /proc/self/mountinfo. Of files on other file systems than this one's nothing is asked: those may hang.
bool device_loop_over(const char *sys, const char *mounts, const struct stat *file, bool writes, const struct device_loop *beside, char ret_name[DEVICE_NAME_BYTES]);

#endif
