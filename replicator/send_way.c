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
	way->passed = way->bytes = way->ns = 0;
	way->reads = 0;
}

static void trial_begin(struct send_way *way)
{
	way->windows = SEND_TRIAL_WINDOWS;
	way->best[SEND_IN_PLACE] = way->best[SEND_COPIED] = UINT64_MAX;
	way->depth = 0;
	window_begin(way, other(way->better));
}

static void trial_end(struct send_way *way)
{
	enum send_by before = way->better;
	bool copied = way->best[SEND_COPIED] < way->best[SEND_IN_PLACE] / 100 * (100 - SEND_MARGIN_PERCENT);
	way->better = way->now = copied ? SEND_COPIED : SEND_IN_PLACE;
	way->rest = way->better == before && way->rest ? min_u64(way->rest * 2, SEND_REST_MAX) : SEND_REST_MIN;
	way->passed = 0;
}

// A read is asked for when one that was asked for `depth` bytes before has left: until then it is the way of those that is seen.
static bool has_settled(const struct send_way *way)
{
	return way->passed >= way->depth + SEND_SETTLE_BYTES;
}

// Of what is under way much may be asked for at once.
static bool is_full(const struct send_way *way)
{
	return way->bytes >= SEND_WINDOW_BYTES && way->bytes >= way->depth * SEND_WINDOW_DEPTHS && way->reads >= SEND_WINDOW_READS;
}

static void window_end(struct send_way *way)
{
	uint64_t pace = way->ns * (1 << 20) / way->bytes;
	way->best[way->now] = min_u64(way->best[way->now], pace);
	way->windows--;
	if (way->windows)
		window_begin(way, other(way->now));
	else
		trial_end(way);
}

enum send_by send_way_next(struct send_way *way, uint64_t len, uint64_t under_way, uint64_t now_ns)
{
	uint64_t gap_ns = now_ns - way->last_ns;
	if (!way->windows) {
		way->passed += way->last_len;
		if (way->passed >= (way->rest ? way->rest : SEND_FIRST_REST))
			trial_begin(way);
	} else if (!has_settled(way)) {
		way->passed += way->last_len;
	} else if (gap_ns <= SEND_GAP_NS + way->depth * SEND_GAP_NS_PER_BYTE) { // S2
		way->bytes += way->last_len;
		way->ns += gap_ns;
		way->reads++;
		if (is_full(way))
			window_end(way);
	}
	way->depth = max_u64(way->depth, under_way);
	way->last_len = len;
	way->last_ns = now_ns;
	return way->now;
}
