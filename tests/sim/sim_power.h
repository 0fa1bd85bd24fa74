// SPDX-License-Identifier: Apache-2.0
// Inside the simulated world: where each operation begins, gets its number, and may fail. Only tests/sim/*.c include this.
#ifndef KAGAMI_SIM_POWER_H
#define KAGAMI_SIM_POWER_H

#include "tests/sim/sim_disk.h"

enum { SIM_CHANGES = 1, SIM_ALLOCATES = 2 };

struct sim_op {
	const char *what;
	unsigned flags;
	const char *name, *to; // below `root`; or:
	uint32_t root, ino;
	uint64_t off, len;
};

extern const struct env_ops sim_ops_table;

// 0: go ahead. -ESHUTDOWN: the power is off, or the handle is of another life. Anything else: fail with it. Locked.
int sim_begin(struct sim *sim, uint32_t life, const struct sim_op *op);
// The operation under way changed the disk, or what is certain about it.
void sim_changed(struct sim *sim, bool certain);

// Beginnings of operations (env_sim.c), for both halves of the table.
static inline struct sim *sim_of(struct env *env)
{
	return (struct sim *)env;
}
// Begins an operation on names: `name` and, for a rename, `to`.
int sim_begin_names(struct env_root *root, const char *what, unsigned flags, const char *name, const char *to);
// Follows a name below the root.
int sim_walk(struct env_root *root, const char *name, struct place *ret_place);

// The operations on names (sim_dirs.c).
int sim_mkdir(struct env_root *root, const char *name);
int sim_rename(struct env_root *root, const char *from, const char *to);
int sim_exchange(struct env_root *root, const char *a, const char *b);
int sim_unlink(struct env_root *root, const char *name);
int sim_rmdir(struct env_root *root, const char *name);
int sim_sync_dir(struct env_root *root, const char *name);
int sim_stat(struct env_root *root, const char *name, struct env_stat *ret_stat);
int sim_list(struct env_root *root, const char *name, char ***ret_names, size_t *ret_count);

#endif
