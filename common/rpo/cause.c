// SPDX-License-Identifier: Apache-2.0
#include "rpo/cause.h"

#include <string.h>

static const char *const names[RPO_CAUSES] = {
	[RPO_CAUSE_NONE] = "none",
	[RPO_CAUSE_PAUSED] = "paused",
	[RPO_CAUSE_FENCED] = "fenced",
	[RPO_CAUSE_SOURCE_DOWN] = "source-down",
	[RPO_CAUSE_TARGET_DOWN] = "target-down",
	[RPO_CAUSE_SPACE] = "space",
	[RPO_CAUSE_SOURCE_ERROR] = "source-error",
	[RPO_CAUSE_TARGET_ERROR] = "target-error",
	[RPO_CAUSE_SYNC] = "sync",
	[RPO_CAUSE_QUEUE] = "queue",
	[RPO_CAUSE_READ] = "read",
	[RPO_CAUSE_COMPRESS] = "compress",
	[RPO_CAUSE_NETWORK] = "network",
	[RPO_CAUSE_APPLY] = "apply",
	[RPO_CAUSE_THROTTLED] = "throttled",
	[RPO_CAUSE_UNKNOWN] = "unknown",
};

const char *rpo_cause_name(enum rpo_cause cause)
{
	return (unsigned)cause < RPO_CAUSES ? names[cause] : names[RPO_CAUSE_UNKNOWN];
}

bool rpo_cause_read(const char *name, enum rpo_cause *ret_cause)
{
	for (unsigned i = 0; i < RPO_CAUSES; i++)
		if (strcmp(names[i], name) == 0) {
			*ret_cause = (enum rpo_cause)i;
			return true;
		}
	return false;
}

enum rpo_cause rpo_cause_of_stage(enum rpo_stage stage)
{
	return (enum rpo_cause)(RPO_CAUSE_QUEUE + stage); // in the same order
}

const char *rpo_stage_name(enum rpo_stage stage)
{
	return rpo_cause_name(rpo_cause_of_stage(stage));
}

static enum rpo_cause longest(const uint64_t stage_ns[RPO_STAGES])
{
	unsigned most = 0;
	for (unsigned i = 1; i < RPO_STAGES; i++)
		most = stage_ns[i] > stage_ns[most] ? i : most;
	return stage_ns[most] ? rpo_cause_of_stage((enum rpo_stage)most) : RPO_CAUSE_UNKNOWN;
}

enum rpo_cause rpo_cause_of(const struct rpo_circumstances *c)
{
	const bool stands[] = {
		[RPO_CAUSE_PAUSED] = c->paused,		    [RPO_CAUSE_FENCED] = c->fenced,
		[RPO_CAUSE_SOURCE_DOWN] = c->source_down,   [RPO_CAUSE_TARGET_DOWN] = c->target_down,
		[RPO_CAUSE_SPACE] = c->space,		    [RPO_CAUSE_SOURCE_ERROR] = c->source_error,
		[RPO_CAUSE_TARGET_ERROR] = c->target_error, [RPO_CAUSE_SYNC] = c->syncing,
	};
	for (unsigned i = RPO_CAUSE_PAUSED; i <= RPO_CAUSE_SYNC; i++)
		if (stands[i])
			return (enum rpo_cause)i;
	return longest(c->stage_ns);
}
