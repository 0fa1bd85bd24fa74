// SPDX-License-Identifier: Apache-2.0
// What the kernel counts of a block device: how much was written to it and discarded since it came up, by whomever.
#ifndef KAGAMI_REPLICATOR_DEVICE_COUNTS_H
#define KAGAMI_REPLICATOR_DEVICE_COUNTS_H

#include <stdbool.h>
#include <stdint.h>

struct device_counts {
	uint64_t sequence; // which device that is: each attachment gets a number of its own, of this boot
	uint64_t written, discarded; // sectors, since then; of what waits in the page cache nothing
};

// Any thread; waits for no disk. False: the kernel does not tell, or does not count.
bool device_counts_read(int fd, struct device_counts *ret_counts);
// Likewise by one system call a time: `stat_fd` is of device_counts_open() of the same device, -1 where there are none. sequence stays as it is.
int device_counts_open(int fd);
bool device_counts_again(int stat_fd, struct device_counts *counts);

#endif
