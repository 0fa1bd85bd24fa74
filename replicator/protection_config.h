// SPDX-License-Identifier: Apache-2.0
// What was asked for when a protection was made: STATE/protections/<name>/protection.json, replaced as a whole.
#ifndef KAGAMI_REPLICATOR_PROTECTION_CONFIG_H
#define KAGAMI_REPLICATOR_PROTECTION_CONFIG_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"
#include "base/size.h"
#include "format/codec.h"
#include "format/digest.h"
#include "replicator/settings.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	RPO_MS_MIN = 1000,
	RPO_MS_MAX = 24 * 3600 * 1000,
	POINTS_KEEP_MAX = 200, // a chain that QEMU reads well (docs/store.md); the receiver's RETENTION_KEEP_MAX
	POINTS_KEEP_DEFAULT = 24,
};

struct protection_config {
	char name[NAME_SIZE];
	struct uuid uuid;
	struct uuid generation;
	char site[NAME_SIZE];
	uint64_t rpo_ms;
	struct protection_settings settings; // its rpo_ms is the same
	uint32_t points_keep;
	enum codec codec; // also of compressed clusters in the store
	bool codec_auto;  // its level follows what is measured (tune.h)
	struct digest_key digest;
	bool paused;
	int64_t seed_since_wall_ns; // 0: none is waited for; else nothing begins before the receiver has a seed of each disk, and since when that is so
	bool compare; // an operator asked for a comparison of everything that has not become a point yet
	uint16_t disk_count;
	struct {
		char name[NAME_SIZE];
		char path[PATH_MAX];
		bool read_only; // served so, and its image opened so
	} disk[DISKS_MAX];
};

// The codec as the operator names it, "auto" among them.
const char *protection_codec_name(const struct protection_config *config);
bool protection_codec_read(const char *name, struct protection_config *config);

// STATE/protections/<name>, relative to the state directory.
void protection_dir(const char *name, char path[NAME_SIZE + 16]);

// Durable on return, with the names of the directories above.
int protection_config_save(struct env_root *state, const struct protection_config *config, struct err *err);
int protection_config_load(struct env_root *state, const char *name, struct protection_config *ret_config, struct err *err);
// Removes its directory, with all that is in it; durable on return. After an error the call may be made again, and ends what is left to do.
int protection_remove(struct env_root *state, const char *name, struct err *err);

#endif
