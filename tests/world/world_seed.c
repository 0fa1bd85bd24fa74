// SPDX-License-Identifier: Apache-2.0
// Seeds in the receiver's store, which has another struct protection than the source.
#include "receiver/seed.h"
#include "tests/world/world_seed.h"

#include <stdio.h>

unsigned world_adopt(struct replica *replica, unsigned steps_max)
{
	struct err err = {0};
	unsigned steps = 0;
	while (steps < steps_max && replica_adopt(replica, &err) == 1)
		steps++;
	return steps;
}

int world_seed_make(struct env *env, const char *name, const char *disk, uint64_t size, world_fill *fill)
{
	struct seed seed = {.size = size, .any_source = true, .made_wall_ns = 1};
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	struct err err = {0};
	static unsigned char block[BLOCK_SIZE];
	(void)snprintf(seed.name, sizeof(seed.name), "%s", name);
	(void)snprintf(seed.disk, sizeof(seed.disk), "%s", disk);
	int rc = env_root_open(env, "/store", &root);
	if (rc == 0)
		rc = seed_begin(root, &err);
	if (rc == 0)
		rc = env_open(root, SEEDS_NEW "/raw", ENV_CREATE, &file);
	if (rc == 0)
		rc = env_truncate(file, size);
	for (uint64_t off = 0; rc == 0 && off < size; off += BLOCK_SIZE)
		if (fill(block))
			rc = env_pwrite(file, block, min_u64(BLOCK_SIZE, size - off), off);
	env_close(file);
	if (rc == 0)
		rc = seed_publish(root, &seed, &err);
	env_root_close(root);
	return rc;
}
