// SPDX-License-Identifier: Apache-2.0
// Whether a failover's disks are in use. Apart from failover.c, since file locks are no part of the seam.
#include "receiver/failover.h"

#include "receiver/image_use.h"

#include <errno.h>

enum { USE_PATH_SIZE = 4096 };

int failover_unused(const struct store *store, const struct failover_info *failover, struct err *err)
{
	int rc = 0;
	for (unsigned i = 0; rc == 0 && i < failover->disk_count; i++) {
		char path[USE_PATH_SIZE];
		if (failover_path(store, failover, i, path, sizeof(path)))
			return err_set(err, -ENAMETOOLONG, "the path of the store is too long");
		rc = image_unused(path, err);
	}
	return rc;
}
