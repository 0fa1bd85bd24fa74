// SPDX-License-Identifier: Apache-2.0
// Which points are kept: the policy alone, without files, locks or a clock. Rules: docs/store.md, "Retention".
#ifndef KAGAMI_RECEIVER_RETENTION_H
#define KAGAMI_RECEIVER_RETENTION_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	RETENTION_TIERS_MAX = 8,
	RETENTION_KEEP_MAX = 200, // points that a policy keeps, and so the depth of a chain: what QEMU opens in a third of a second
	RETENTION_FLOOR_HOURS = 24, // unless the operator says otherwise
	RETENTION_TEXT_SIZE = 256,  // of the tiers as text
	RETENTION_JUMPS_MAX = 16,   // of the clock, that a tier makes good
};

struct retention_tier {
	uint32_t interval_s; // a minute to 400 days
	uint32_t count;	     // 1 to RETENTION_KEEP_MAX
};

struct retention {
	uint32_t points;      // the newest so many; 1 at least
	uint32_t floor_hours; // of each of the last so many hours that have a point, the newest; 0: no floor
	uint32_t tier_count;
	struct retention_tier tier[RETENTION_TIERS_MAX];
};

// Why a point is kept; 0: it goes.
enum retention_why {
	KEPT_NEWEST = 1, // one of the newest so many
	KEPT_FLOOR = 2,	 // the newest of an hour
	KEPT_TIER = 4,	 // the newest of a tier's bucket
	KEPT_PINNED = 8,
};

struct retention_point {
	int64_t commit_wall_ns;
	bool pinned;
	unsigned why; // set by retention_apply()
};

// Decides about `points`, oldest first. Beside those that are pinned, at most RETENTION_KEEP_MAX are kept: past that the oldest go of those that are KEPT_NEWEST alone, and
// only then the oldest of the others.
// Applied again to what it kept, it keeps all of it.
void retention_apply(const struct retention *policy, struct retention_point *points, size_t count);

// The tiers as a person writes them: "15m:24,1h:24,1d:14,1w:8"; "" for none. Units s, m, h, d, w. -EINVAL, with what is wrong.
int retention_read(const char *text, struct retention *policy, struct err *err);
void retention_format(const struct retention *policy, char text[RETENTION_TEXT_SIZE]); // what retention_read() takes
// That no two tiers have one interval, as of a policy that is asked for: only the larger would count. -EINVAL.
int retention_distinct(const struct retention *policy, struct err *err);
// Whether all of it together keeps at most RETENTION_KEEP_MAX points, and at least one. -EINVAL, with what to do.
int retention_check(const struct retention *policy, struct err *err);

#endif
