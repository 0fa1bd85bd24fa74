// SPDX-License-Identifier: Apache-2.0
#include "replicator/send_way.h"

#include "base/size.h"

static enum send_by other(enum send_by by)
{
	return by == SEND_IN_PLACE ? SEND_COPIED : SEND_IN_PLACE;
}

static void window_begin(struct send_way *way, enum send_by by)
{
	way->now = by;
	way->bytes = way->since_ns = way->from = 0;
}

static void trial_begin(struct send_way *way)
{
	way->windows = SEND_TRIAL_WINDOWS;
	way->best[SEND_IN_PLACE] = way->best[SEND_COPIED] = UINT64_MAX;
	window_begin(way, other(way->better));
}

static void trial_end(struct send_way *way)
{
	enum send_by before = way->better;
	bool copied = way->best[SEND_COPIED] < way->best[SEND_IN_PLACE] / 100 * (100 - SEND_MARGIN_PERCENT);
	way->better = copied ? SEND_COPIED : SEND_IN_PLACE;
	way->rest = way->better == before && way->rest ? min_u64(way->rest * 2, SEND_REST_MAX) : SEND_REST_MIN;
	window_begin(way, way->better);
}

// The least of a way's windows counts: whatever else the machine did made them longer.
static void window_end(struct send_way *way, uint64_t now_ns)
{
	uint64_t pace = (now_ns - way->since_ns) * (1 << 20) / (way->bytes - way->from);
	way->best[way->now] = min_u64(way->best[way->now], pace);
	way->windows--;
	if (way->windows)
		window_begin(way, other(way->now));
	else
		trial_end(way);
}

static void trial_go_on(struct send_way *way, uint64_t now_ns)
{
	if (!way->since_ns && way->bytes >= SEND_SETTLE_BYTES) {
		way->since_ns = now_ns;
		way->from = way->bytes;
	} else if (way->since_ns && way->bytes - way->from >= SEND_WINDOW_BYTES) {
		window_end(way, now_ns);
	}
}

enum send_by send_way_next(struct send_way *way, uint64_t len, uint64_t now_ns)
{
	uint64_t gap_ns = now_ns - way->last_ns;
	way->last_ns = now_ns;
	if (way->since_ns && gap_ns > SEND_GAP_NS) // S2
		way->since_ns += gap_ns;
	if (way->windows)
		trial_go_on(way, now_ns);
	else if (way->bytes >= (way->rest ? way->rest : SEND_FIRST_REST))
		trial_begin(way);
	way->bytes += len;
	return way->now;
}
