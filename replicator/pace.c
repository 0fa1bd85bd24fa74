// SPDX-License-Identifier: Apache-2.0
#include "replicator/pace.h"

#define MS_NS UINT64_C(1000000)

const char *pace_why_name(enum pace_why why)
{
	static const char *const names[] = {"spare", "overdue", "late", "crowded", "starved"};
	return names[why];
}

void pace_begin(struct pace *pace, uint64_t now_ns, uint64_t due_ns, uint64_t waited_ns)
{
	*pace = (struct pace){
		.begin_ns = now_ns,
		.due_ns = due_ns,
		.why = due_ns > now_ns ? PACE_SPARE : PACE_OVERDUE,
		.looked_ns = now_ns,
		.window_ns = now_ns,
		.window_waited_ns = waited_ns,
	};
}

bool pace_due(const struct pace *pace, uint64_t now_ns)
{
	return now_ns >= pace->looked_ns + PACE_LOOK_MS * MS_NS;
}

static bool late(const struct pace *pace, const struct pace_view *view)
{
	uint64_t has_ms = (pace->due_ns - pace->begin_ns) / MS_NS, gone_ms = (view->now_ns - pace->begin_ns) / MS_NS;
	if (gone_ms < has_ms / 8)
		return false;
	double done = view->total_bytes ? (double)view->done_bytes / (double)view->total_bytes : 0;
	return (double)gone_ms > done * 0.9 * (double)has_ms;
}

// It wanted a processor for all of the window but a sixteenth, and had none.
static bool starved(struct pace *pace, const struct pace_view *view)
{
	uint64_t wall_ns = view->now_ns - pace->window_ns, waited_ns = view->waited_ns - pace->window_waited_ns;
	if (wall_ns < PACE_WINDOW_MS * MS_NS)
		return false;
	pace->window_ns = view->now_ns;
	pace->window_waited_ns = view->waited_ns;
	return waited_ns > wall_ns - wall_ns / 16;
}

void pace_step(struct pace *pace, const struct pace_view *view)
{
	pace->looked_ns = view->now_ns;
	bool starves = starved(pace, view);
	if (pace->why == PACE_STARVED && view->now_ns >= pace->until_ns)
		pace->why = PACE_SPARE;
	if (pace->why != PACE_SPARE && pace->why != PACE_STARVED)
		return;
	if (late(pace, view))
		pace->why = PACE_LATE;
	else if (view->crowded)
		pace->why = PACE_CROWDED;
	else if (starves && pace->why == PACE_SPARE) {
		pace->why = PACE_STARVED;
		pace->until_ns = view->now_ns + PACE_HOLD_MS * MS_NS;
	}
}

bool pace_may_rest(const struct pace *pace)
{
	bool overdue = pace->why == PACE_OVERDUE && pace->due_ns != 0;
	return !overdue && pace->why != PACE_LATE && pace->why != PACE_CROWDED;
}
