// SPDX-License-Identifier: Apache-2.0
// Who is told of events without asking: executables (hooks), a URL (webhook), and always the journal. Each has threads of its own that follow the
// events; no lock of the daemon is held while one is told, and one that hangs keeps neither the daemon nor the others.
#ifndef KAGAMI_LINK_ALERTS_H
#define KAGAMI_LINK_ALERTS_H

#include "base/err.h"

struct alerts;
struct alerts_config {
	const char *hooks;   // a directory; NULL: none
	const char *webhook; // a URL, or @FILE whose first line is one; NULL: none
};

// Those of a daemon's options that fill in a struct alerts_config.
#define ALERTS_OPTIONS(config)                                                                                                    \
	{"hooks", "DIR", "executables that are run for events: docs/hooks.md", &(config)->hooks, false},                          \
		{"webhook", "URL", "each event is posted there as JSON; @FILE: its first line is the URL", &(config)->webhook, false}

// -EINVAL where what they say is nothing that could be told, on whatever host.
int alerts_check(const struct alerts_config *config, struct err *err);
// Of the default events (link/events.h), from the first one of this process on.
int alerts_start(const struct alerts_config *config, struct alerts **ret_alerts, struct err *err);
// After events_wake(): what is there still is told, for ALERTS_STOP_MS at most. Takes NULL.
enum { ALERTS_STOP_MS = 5000 };
void alerts_stop(struct alerts *alerts);

#endif
