// SPDX-License-Identifier: Apache-2.0
// Any bytes as a file of events: numbers rise, and whatever is taken is what its own line says again.
#include "link/events_file.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool holds)
{
	if (!holds)
		__builtin_trap();
}

static void each(void *context, struct event *event)
{
	uint64_t *last = context;
	struct event again;
	must(event->id > *last && event_class_ok(event->class) && strlen(event->text) < EVENT_TEXT_SIZE);
	must(!strchr(event->json, '\n'));
	*last = event->id;
	must(event_decode(event->json, strlen(event->json), &again) == 0);
	must(again.id == event->id && again.wall_ns == event->wall_ns && strcmp(again.json, event->json) == 0);
	event_done(&again);
	event_done(event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint64_t last_id = 0, last = 0;
	size_t whole = events_scan((const char *)data, len, &last_id, each, &last);
	must(whole <= len && last == last_id && (whole == 0 || data[whole - 1] == '\n'));
	return 0;
}
