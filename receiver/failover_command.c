// SPDX-License-Identifier: Apache-2.0
// How a failover's disks are booted: paths, and a command line for QEMU.
#include "receiver/failover.h"

#include "receiver/boot_command.h"

#include <errno.h>
#include <stdio.h>

enum { FAILOVER_PATH_SIZE = 4096 };

int failover_path(const struct store *store, const struct failover_info *failover, unsigned disk, char *path, size_t cap)
{
	int n = snprintf(path, cap, "%s/%s/failover/%s.qcow2", store_path(store), failover->name, failover->disk[disk]);
	return n > 0 && (size_t)n < cap ? 0 : -ENAMETOOLONG;
}

char *failover_command(const struct store *store, const struct failover_info *failover)
{
	struct boot_command command;
	boot_command_begin(&command);
	for (unsigned i = 0; i < failover->disk_count; i++) {
		char path[FAILOVER_PATH_SIZE];
		boot_command_disk(&command, failover_path(store, failover, i, path, sizeof(path)) ? NULL : path);
	}
	return boot_command_end(&command);
}
