// SPDX-License-Identifier: Apache-2.0
// Any bytes as a state file that an agent finds at its start. Whatever it was: it gives a map or a reason; while the agent runs
// it says so; and after a clean stop it gives what was dirty then.
//
// Byte 0: bit 0 puts the headers' checksums right, bit 1 those of the pages, so that what lies behind them is reached; bit 2 also
// gives the pages the newest header's instance and sequence.
#include "base/bytes.h"
#include "base/crc32c.h"
#include "replicator/state_file.h"
#include "tests/sim/env_sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

#define NAME "vda.state"
enum { PAGE = 4096, HEADER_LEN = 256, CRC_AT = 28, SIZE_MAX_HERE = 16 * PAGE };
#define DISK_SIZE ((uint64_t)40 * REGION_SIZE - SECTOR_SIZE)

static const struct state_position expected = {.protection = {{1}}, .generation = {{2}}, .point = 7, .last_cut = {{3}}};
static const struct image_identity identity = {5, 6, DISK_SIZE, 7, 8};

static void put_right(unsigned char *file, size_t size, unsigned how)
{
	const unsigned char *newest = file;
	for (size_t at = 0; at + HEADER_LEN <= size && at < 2 * PAGE && (how & 1); at += PAGE) {
		put_le32(file + at + CRC_AT, 0);
		put_le32(file + at + CRC_AT, crc32c(file + at, HEADER_LEN));
	}
	if (size >= 2 * PAGE && get_le64(file + PAGE + 48) > get_le64(file + 48))
		newest = file + PAGE;
	for (size_t at = 2 * PAGE; at + PAGE <= size && (how & 2); at += PAGE) {
		if (how & 4) {
			memcpy(file + at + 8, newest + 32, 16);
			memcpy(file + at + 24, newest + 48, 8);
		}
		put_le32(file + at, crc32c(file + at + 4, PAGE - 4));
	}
}

static bool same_map(const struct dirty *a, const struct dirty *b)
{
	for (uint64_t r = 0; r < a->regions; r++) {
		unsigned char x[DIRTY_REGION_BYTES] = {0}, y[DIRTY_REGION_BYTES] = {0};
		if (dirty_save_region(a, r, x) != dirty_save_region(b, r, y) || memcmp(x, y, sizeof(x)) != 0)
			return false;
	}
	return true;
}

static enum sync_reason load(struct env_root *root, struct dirty *map, struct state_position *position)
{
	int rc = dirty_init(map, DISK_SIZE);
	assert(rc == 0);
	enum sync_reason reason = state_file_load(root, NAME, "vda", &expected, &identity, false, map, position);
	assert(reason == SYNC_NONE || map->pieces == 0);
	return reason;
}

static void live(struct env_root *root)
{
	struct dirty found, later;
	struct state_position position = expected, back;
	struct state_file *state = NULL;
	if (load(root, &found, &position) == SYNC_NONE)
		dirty_mark(&found, 11 * PIECE_SIZE, 1);
	else
		dirty_mark_all(&found);
	int rc = state_file_open_run(root, NAME, "vda", &position, DISK_SIZE, &state, NULL);
	assert(rc == 0);
	enum sync_reason reason = load(root, &later, &back);
	assert(reason == SYNC_UNCLEAN_STOP);
	dirty_done(&later);
	rc = state_file_save(state, &position, &identity, &found, NULL);
	assert(rc == 0);
	state_file_close(state);
	reason = load(root, &later, &back);
	assert(reason == SYNC_NONE && same_map(&found, &later) && memcmp(&back, &position, sizeof(back)) == 0);
	dirty_done(&later);
	dirty_done(&found);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static struct sim *sim;
	if (!sim) {
		sim = sim_new(1);
		sim_save(sim);
	}
	if (size < 1 || size > SIZE_MAX_HERE)
		return 0;
	sim_restore(sim);
	struct env_root *root = NULL;
	unsigned char *file = malloc(size);
	assert(file);
	memcpy(file, data + 1, size - 1);
	put_right(file, size - 1, data[0]);
	int rc = env_root_open(sim_env(sim), "/", &root);
	assert(rc == 0);
	rc = env_replace(root, ".", NAME, file, size - 1);
	assert(rc == 0);
	live(root);
	env_root_close(root);
	free(file);
	return 0;
}
