// SPDX-License-Identifier: Apache-2.0
#include "replicator/point_known.h"

#include "replicator/state_file.h"

#include <stdio.h>

static bool read_one(struct env_root *state, const struct protection_config *config, uint16_t disk, struct state_position *ret_position)
{
	char name[2 * NAME_SIZE + 32];
	(void)snprintf(name, sizeof(name), "protections/%s/%s.state", config->name, config->disk[disk].name);
	return state_file_told(state, name, ret_position) && uuid_equal(&ret_position->protection, &config->uuid) &&
	       uuid_equal(&ret_position->generation, &config->generation);
}

struct point_known point_known_read(struct env_root *state, const struct protection_config *config)
{
	struct point_known newest = {.known = false};
	bool none = config->disk_count > 0;
	for (uint16_t d = 0; d < config->disk_count; d++) {
		struct state_position position;
		if (!read_one(state, config, d, &position)) {
			none = false;
			continue;
		}
		none = none && position.point == 0 && uuid_is_zero(&position.pending_cut);
		if (position.point > newest.point)
			newest = (struct point_known){.known = true, .point = position.point, .cut_wall_ns = position.last_cut_wall_ns};
	}
	newest.known |= none;
	return newest;
}
