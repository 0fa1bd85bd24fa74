// SPDX-License-Identifier: Apache-2.0
// Settings that can be changed while all runs: of a protection (in its protection.json), and of the agent (STATE/settings.json). The same JSON
// is in the files, in the control API and in the status: docs/control.md.
#ifndef KAGAMI_REPLICATOR_SETTINGS_H
#define KAGAMI_REPLICATOR_SETTINGS_H

#include "base/env.h"
#include "base/err.h"
#include "rpo/bandwidth.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum priority { PRIORITY_NORMAL, PRIORITY_LOW, PRIORITY_HIGH };
const char *priority_name(enum priority priority);
bool priority_read(const char *name, enum priority *ret_priority);

enum { OBJECTIVE_PPM_DEFAULT = 995000, OBJECTIVE_PPM_MIN = 500000, OBJECTIVE_PPM_MAX = 1000000 };

struct protection_settings {
	uint64_t rpo_ms;
	enum priority priority;
	uint64_t objective_ppm; // of the time within the RPO; 0: OBJECTIVE_PPM_DEFAULT
	bool has_offpeak;
	struct bandwidth_window offpeak;
	struct bandwidth bandwidth;
};

// {"priority", "objective_ppm", "offpeak": text|null, "bandwidth": [text]}, set in `object`.
void settings_encode(const struct protection_settings *settings, json_t *object);
// Each may be NULL: then what it was stays. `offpeak` "none": no window. -EINVAL.
struct settings_text {
	const char *priority, *offpeak;
	json_t *bandwidth;
};
int settings_read(const struct settings_text *text, struct protection_settings *settings, struct err *err);

json_t *bandwidth_json(const struct bandwidth *bandwidth); // [text]
int bandwidth_from_json(const json_t *rules, struct bandwidth *ret_bandwidth, struct err *err);

struct agent_settings {
	struct bandwidth bandwidth;
	uint64_t cycles, syncs; // 0: not set here
};
// An absent file is what was never set.
int agent_settings_load(struct env_root *state, struct agent_settings *ret_settings, struct err *err);
int agent_settings_save(struct env_root *state, const struct agent_settings *settings, struct err *err); // durable on return

#endif
