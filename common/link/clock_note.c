// SPDX-License-Identifier: Apache-2.0
#include "link/clock_note.h"

#include "base/size.h"
#include "link/events.h"
#include "link/json.h"
#include "rpo/advice.h"

#include <stdlib.h>

#define MS_NS INT64_C(1000000)

static bool clock_apart(int64_t offset_ns, uint64_t error_ns)
{
	return llabs(offset_ns) > CLOCK_NOTE_NS + (int64_t)min_u64(error_ns, INT64_MAX / 2);
}

void clock_note(const char *protection, enum clock_side side, int64_t offset_ns, uint64_t error_ns, bool *told)
{
	static const char *const others[] = {[CLOCK_AT_SOURCE] = "receiver", [CLOCK_AT_TARGET] = "source"};
	bool apart = clock_apart(offset_ns, error_ns), ahead = (offset_ns > 0) == (side == CLOCK_AT_SOURCE);
	char text[32];
	if (apart == *told)
		return;
	*told = apart;
	advice_duration((uint64_t)(llabs(offset_ns) / MS_NS), text);
	json_t *data = json_pack("{s:I, s:o}", "offset_ms", (json_int_t)(offset_ns / MS_NS), "error_ms", json_count(error_ns / (uint64_t)MS_NS));
	if (apart)
		event_emit(EVENT_WARNING, "clock", protection, data, "the clock of the %s of %s is %s %s that of this host; set one of them right (chrony, systemd-timesyncd)",
			   others[side], protection, text, ahead ? "ahead of" : "behind");
	else
		event_emit(EVENT_INFO, "clock", protection, data, "the clock of the %s of %s agrees with that of this host", others[side], protection);
}
