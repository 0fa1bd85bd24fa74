// SPDX-License-Identifier: Apache-2.0
// Beginning and end of simulated worlds; their power, faults, clock, and the record of operations.
#include "tests/sim/sim_power.h"

#include "base/auto.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OP_NS = 1000 };
#define WALL_START_NS INT64_C(1767225600000000000) // 2026-01-01
#define SPACE_DEFAULT (UINT64_C(1) << 40)

struct sim *sim_new(uint64_t seed)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	if (!sim)
		abort();
	sim->env.ops = &sim_ops_table;
	pthread_mutex_init(&sim->mutex, NULL);
	sim->layer = sim->life = 1;
	sim->sweep_at = 256;
	sim->crash_at = sim->fail_at = SIM_NEVER;
	sim->can_exchange = true;
	sim->world.limit = SPACE_DEFAULT;
	sim->world.wall_ns = WALL_START_NS;
	sim->world.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	while (inode_new(sim, true) != ROOT_INO) // number 0 stands for none
		sim->world.inode[0] = NULL;
	return sim;
}

void sim_free(struct sim *sim)
{
	if (!sim)
		return;
	while (sim->root)
		env_root_close(&sim->root->base);
	while (sim->file)
		env_close(&sim->file->base);
	for (size_t i = 0; i < sim->arena.blocks; i++)
		free(sim->arena.block[i]);
	free(sim->arena.block);
	free(sim->arena.size);
	free(sim->step);
	pthread_mutex_destroy(&sim->mutex);
	free(sim);
}

struct sim *sim_of_env(struct env *env)
{
	return sim_of(env);
}

struct env *sim_env(struct sim *sim)
{
	return &sim->env;
}

void sim_set_chooser(struct sim *sim, struct chooser *chooser)
{
	sim->chooser = chooser;
}

static void recount_space(struct sim *sim)
{
	sim->world.used = 0;
	for (uint32_t ino = ROOT_INO; ino < sim->world.inodes; ino++) {
		const struct inode *inode = inode_get(sim, ino);
		if (inode && !inode->is_dir && inode->counted)
			sim->world.used += data_allocated(sim, ino);
	}
}

static void halt(struct sim *sim)
{
	sim->world.off = true;
	sim->life++;
}

void sim_power_off(struct sim *sim)
{
	halt(sim);
	names_doubt(sim);
	for (uint32_t ino = ROOT_INO; ino < sim->world.inodes; ino++)
		if (inode_get(sim, ino) && !inode_get(sim, ino)->is_dir)
			data_doubt(sim, ino, false);
	recount_space(sim);
	sim->world.mono_ns = 0;
}

void sim_power_on(struct sim *sim)
{
	sim->world.off = false;
}

bool sim_is_off(const struct sim *sim)
{
	return sim->world.off;
}

void sim_kill(struct sim *sim)
{
	sim->life++;
}

void sim_drop_caches(struct sim *sim)
{
	for (uint32_t ino = ROOT_INO; ino < sim->world.inodes; ino++)
		if (inode_get(sim, ino) && !inode_get(sim, ino)->is_dir)
			data_doubt(sim, ino, true);
}

void sim_settle(struct sim *sim)
{
	names_settle(sim);
	for (uint32_t ino = ROOT_INO; ino < sim->world.inodes; ino++)
		if (inode_get(sim, ino) && !inode_get(sim, ino)->is_dir)
			data_settle(sim, ino);
}

uint64_t sim_ops(const struct sim *sim)
{
	return sim->world.ops;
}

void sim_crash_at(struct sim *sim, uint64_t op)
{
	sim->crash_at = op;
	sim->crash_halts = false;
}

void sim_halt_at(struct sim *sim, uint64_t op)
{
	sim->crash_at = op;
	sim->crash_halts = true;
}

void sim_crash_anywhere(struct sim *sim, unsigned most)
{
	sim->crashes_left = most;
}

void sim_fail_at(struct sim *sim, uint64_t op, int code, bool sticky)
{
	sim->fail_at = op;
	sim->fail_code = code;
	sim->fail_sticky = sticky;
	sim->failed = false;
}

void sim_fail_under(struct sim *sim, const char *path)
{
	struct place at = {.ino = 0};
	LOCK_SCOPE(&sim->mutex);
	if (path && names_walk(sim, ROOT_INO, path + strspn(path, "/"), &at))
		at.ino = 0;
	sim->dead_dir = at.ino;
}

bool sim_has_failed(const struct sim *sim)
{
	return sim->failed;
}

void sim_set_exchange(struct sim *sim, bool can)
{
	sim->can_exchange = can;
}

void sim_set_space(struct sim *sim, uint64_t free_bytes)
{
	sim->world.limit = sim->world.used + free_bytes;
}

void sim_clock_advance(struct sim *sim, uint64_t ns)
{
	sim->world.mono_ns += ns;
	sim->world.wall_ns += (int64_t)ns;
}

void sim_clock_step(struct sim *sim, int64_t ns)
{
	sim->world.wall_ns += ns;
}

unsigned sim_handles(const struct sim *sim)
{
	unsigned count = 0;
	for (const struct sim_root *root = sim->root; root; root = root->next)
		count++;
	for (const struct sim_file *file = sim->file; file; file = file->next)
		count++;
	return count;
}

void sim_trace(struct sim *sim, bool on)
{
	sim->tracing = on;
	if (on) {
		sim->steps = 0;
		sim->step_first = sim->world.ops;
	}
}

const struct sim_step *sim_step(const struct sim *sim, uint64_t op)
{
	return op >= sim->step_first && op - sim->step_first < sim->steps ? &sim->step[op - sim->step_first] : NULL;
}

const char *sim_last_step(const struct sim *sim)
{
	return sim->last.text;
}

// A name of inode `ino` that is visible now, for records.
static void name_of(struct sim *sim, uint32_t dir, uint32_t ino, char *path, size_t len, size_t cap)
{
	const struct inode *inode = inode_get(sim, dir);
	for (uint32_t i = 0; i < inode->entries; i++) {
		const struct entry *e = &inode->entry[i];
		uint32_t child = e->changes ? e->change[e->changes - 1].ino : e->ino;
		if (!child)
			continue;
		size_t n = len + (size_t)snprintf(path + len, cap - len, "%s%s", len ? "/" : "", e->name);
		if (n >= cap || child == ino)
			return;
		if (inode_get(sim, child)->is_dir) {
			name_of(sim, child, ino, path, n, cap);
			if (path[n])
				return;
		}
		path[len] = 0;
	}
}

static void describe(struct sim *sim, const struct sim_op *op, char *text, size_t cap)
{
	char path[80] = "";
	if (!op->ino)
		snprintf(text, cap, "%s %.45s%s%.45s", op->what, op->name ? op->name : "", op->to ? " " : "",
			 op->to ? op->to : "");
	else {
		name_of(sim, ROOT_INO, op->ino, path, 0, sizeof(path));
		snprintf(text, cap, op->off || op->len ? "%s /%s %llu+%llu" : "%s /%s", op->what, path,
			 (unsigned long long)op->off, (unsigned long long)op->len);
	}
}

static void record(struct sim *sim, const struct sim_op *op)
{
	if (sim->steps == sim->step_room) {
		sim->step_room = sim->step_room ? sim->step_room * 2 : 64;
		sim->step = realloc(sim->step, sim->step_room * sizeof(*sim->step));
		if (!sim->step)
			abort();
	}
	struct sim_step *step = &sim->step[sim->steps++];
	*step = (struct sim_step){.changed = false};
	describe(sim, op, step->text, sizeof(step->text));
}

void sim_changed(struct sim *sim, bool certain)
{
	const struct sim_step *step = sim_step(sim, sim->world.ops - 1);
	if (!sim->tracing || !step)
		return;
	sim->step[sim->steps - 1].changed = true;
	sim->step[sim->steps - 1].certain = certain;
}

// What has no name any more is nowhere.
static bool is_dead(struct sim *sim, const struct sim_op *op)
{
	char path[512] = "";
	uint32_t ino = op->ino ? op->ino : op->root;
	if (!sim->dead_dir || !(op->flags & SIM_CHANGES) || !ino)
		return false;
	if (ino != sim->dead_dir)
		name_of(sim, sim->dead_dir, ino, path, 0, sizeof(path));
	return ino == sim->dead_dir || path[0];
}

static bool fails(struct sim *sim, uint64_t number, const struct sim_op *op)
{
	if (number < sim->fail_at || (number > sim->fail_at && !sim->fail_sticky))
		return false;
	return sim->fail_code != -ENOSPC || (op->flags & SIM_ALLOCATES);
}

static bool crashes(struct sim *sim, uint64_t number, const struct sim_op *op)
{
	if (number == sim->crash_at)
		return true;
	if (!sim->crashes_left || !(op->flags & SIM_CHANGES) || !sim_choose(sim, 2))
		return false;
	sim->crashes_left--;
	return true;
}

int sim_begin(struct sim *sim, uint32_t life, const struct sim_op *op)
{
	if (sim->world.off || life != sim->life)
		return -ESHUTDOWN;
	uint64_t number = sim->world.ops++;
	sim_clock_advance(sim, OP_NS);
	if (sim->tracing)
		record(sim, op);
	if (crashes(sim, number, op)) {
		describe(sim, op, sim->last.text, sizeof(sim->last.text));
		if (number == sim->crash_at && sim->crash_halts)
			halt(sim);
		else
			sim_power_off(sim);
		return -ESHUTDOWN;
	}
	bool dead = is_dead(sim, op);
	if (!dead && !fails(sim, number, op))
		return 0;
	if (!sim->failed)
		describe(sim, op, sim->last.text, sizeof(sim->last.text));
	sim->failed = true;
	return dead ? -EIO : sim->fail_code;
}
