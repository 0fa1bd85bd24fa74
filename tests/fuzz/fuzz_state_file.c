// SPDX-License-Identifier: Apache-2.0
// The state file as a decoder: two headers, mark sectors and map pages out of the input, with checksum, instance and sequence put
// right where the input's first byte asks for it, so that what lies behind them is reached. Whatever it is, a load gives a map on the
// disk or a reason with no map; and a file that is begun in its place is good.
#include "base/bytes.h"
#include "base/crc32c.h"
#include "replicator/state_header.h"
#include "tests/sim/env_sim.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { REGIONS = 40, HEADER_LEN = 264, CRC_AT = 28, PAGES = 2, FILE_SIZE = 3 * STATE_PAGE + PAGES * STATE_PAGE };
enum { SEAL_HEADERS = 1, SEAL_MARKS = 2, SEAL_PAGES = 4, FRAME = 8 };
#define DISK_SIZE ((uint64_t)REGIONS * REGION_SIZE - SECTOR_SIZE)
#define NAME "s"

static const struct image_identity identity = {1, 2, DISK_SIZE, 4, 5, 3, false, false};
static const struct state_position expected = {.protection = {{1}}, .generation = {{2}}};

// What the input may not choose when it is to get past the first checks.
static void frame(unsigned char *file)
{
	struct state_header h = {.instance = {{7}}, .sequence = 9, .position = expected, .size = DISK_SIZE, .identity = identity,
				 .disk = "vda"};
	unsigned char good[STATE_HEADER];
	state_header_encode(&h, good);
	for (int slot = 0; slot < 2; slot++) {
		unsigned char *at = file + (size_t)slot * STATE_PAGE;
		memcpy(at, good, 96);
		memset(at + 122, 0, 6);
		memcpy(at + 136, good + 136, 104);
		at[120] %= 3;
		at[121] %= SYNC_LAST + 1;
		put_le64(at + 128, get_le64(at + 128) % (PAGES + 1));
	}
	unsigned char *marks = file + STATE_MARKS_AT;
	put_le32(marks + 4, 0);
	memcpy(marks + 8, h.instance.bytes, UUID_SIZE);
	for (uint32_t p = 0; p < PAGES; p++) {
		unsigned char *page = file + 3 * STATE_PAGE + (size_t)p * STATE_PAGE;
		put_le32(page + 4, p);
		memcpy(page + 8, h.instance.bytes, UUID_SIZE);
		put_le64(page + 24, h.sequence);
	}
}

static void seal(unsigned char *file, unsigned flags)
{
	for (int slot = 0; slot < 2 && flags & SEAL_HEADERS; slot++) {
		unsigned char *at = file + (size_t)slot * STATE_PAGE;
		put_le32(at + CRC_AT, 0);
		put_le32(at + CRC_AT, crc32c(at, HEADER_LEN));
	}
	unsigned char *marks = file + STATE_MARKS_AT;
	if (flags & SEAL_MARKS)
		put_le32(marks, crc32c(marks + 4, STATE_MARK_SECTOR - 4));
	for (int p = 0; p < PAGES && flags & SEAL_PAGES; p++) {
		unsigned char *page = file + 3 * STATE_PAGE + (size_t)p * STATE_PAGE;
		put_le32(page, crc32c(page + 4, STATE_PAGE - 4));
	}
}

// Pieces that are dirty, and none of them past the end.
static void map_sane(const struct dirty *map, bool whole_regions)
{
	uint64_t pieces = 0;
	for (uint64_t block = 0; block < size_blocks(map->size); block++)
		pieces += (unsigned)__builtin_popcount(dirty_mask(map, block));
	if (pieces != map->pieces)
		__builtin_trap();
	for (uint64_t r = 0; whole_regions && r < map->regions; r++)
		if (map->region[r] && !dirty_mask(map, r * BLOCKS_PER_REGION))
			__builtin_trap();
}

static enum sync_reason load(struct env_root *root, struct dirty *map)
{
	struct state_position position;
	if (dirty_init(map, DISK_SIZE))
		__builtin_trap();
	enum sync_reason reason = state_file_load(root, NAME, "vda", &expected, &identity, false, map, &position);
	bool known = reason == SYNC_NONE || reason == SYNC_UNCLEAN_STOP;
	if (known ? !uuid_equal(&position.generation, &expected.generation) : map->pieces != 0)
		__builtin_trap();
	map_sane(map, reason == SYNC_UNCLEAN_STOP);
	return reason;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static unsigned char image[FILE_SIZE];
	struct sim *sim = sim_new(1);
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	struct state_file *state = NULL;
	struct dirty map, again;
	unsigned flags = len ? data[0] : 0;
	memset(image, 0, sizeof(image));
	if (len > 1)
		memcpy(image, data + 1, len - 1 < sizeof(image) ? len - 1 : sizeof(image));
	if (flags & FRAME)
		frame(image);
	seal(image, flags);
	if (env_root_open(sim_env(sim), "/", &root) || env_open(root, NAME, ENV_CREATE, &file) ||
	    env_pwrite(file, image, flags & 0x80 && len < sizeof(image) ? len : sizeof(image), 0))
		__builtin_trap();
	env_close(file);
	(void)load(root, &map);
	if (state_file_open_run(root, NAME, "vda", &expected, &identity, &map, NULL, &state, NULL))
		__builtin_trap();
	state_file_close(state);
	if (load(root, &again) != SYNC_UNCLEAN_STOP)
		__builtin_trap();
	for (uint64_t r = 0; r < map.regions; r++)
		if (!map.region[r] != !again.region[r])
			__builtin_trap();
	dirty_done(&map);
	dirty_done(&again);
	env_root_close(root);
	sim_free(sim);
	return 0;
}
