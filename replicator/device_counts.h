// SPDX-License-Identifier: Apache-2.0
// What tells whether a block device was changed, by whomever: what the kernel counts of it, and where that does not tell of all, what lies beneath (device_stack.h).
#ifndef KAGAMI_REPLICATOR_DEVICE_COUNTS_H
#define KAGAMI_REPLICATOR_DEVICE_COUNTS_H

#include <stdbool.h>
#include <stdint.h>

struct device_counts {
	uint64_t sequence; // which device that is: each attachment gets a number of its own, of this boot
	uint64_t layers;   // which ones lie beneath
	uint64_t written, discarded; // sectors, since it came up; of what waits in the page cache nothing
	uint64_t file;		     // of a loop device: how its file is, and when that was changed last
};

struct device_watch { // to read them again by one system call, or two of a loop device
	int stat_fd, file_fd;
	uint64_t sequence, layers;
};

// Any thread; waits for no disk. False: the kernel does not tell, or does not count, or what changes the device may go by its counts.
bool device_watch_open(int fd, struct device_watch *ret_watch);
bool device_watch_read(const struct device_watch *watch, struct device_counts *ret_counts);
void device_watch_close(struct device_watch *watch); // takes one that could not be opened
bool device_counts_read(int fd, struct device_counts *ret_counts);
bool device_counts_same(const struct device_counts *a, const struct device_counts *b);

#endif
