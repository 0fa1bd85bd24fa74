// SPDX-License-Identifier: Apache-2.0
// The disks of all protections as one list, for NBD over TCP.
#include "replicator/agent_private.h"

#include "base/auto.h"
#include "replicator/nbd_front.h"

#include <string.h>

static void fill(const struct seat *seat, uint16_t disk, struct nbd_front_export *ret)
{
	*ret = (struct nbd_front_export){.size = protection_disk_size(seat->running, disk),
					 .read_only = seat->config.disk[disk].read_only};
	memcpy(ret->protection, seat->config.name, NAME_SIZE);
	memcpy(ret->disk, seat->config.disk[disk].name, NAME_SIZE);
}

bool agent_nbd_export(void *context, unsigned n, struct nbd_front_export *ret_export)
{
	struct agent *agent = context;
	LOCK_SCOPE(&agent->lock);
	for (size_t i = 0; i < agent->seats; i++) {
		const struct seat *seat = agent->seat[i];
		unsigned disks = seat->running ? seat->config.disk_count : 0;
		if (n < disks) {
			fill(seat, (uint16_t)n, ret_export);
			return true;
		}
		n -= disks;
	}
	return false;
}
