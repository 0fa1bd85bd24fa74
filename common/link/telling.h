// SPDX-License-Identifier: Apache-2.0
// How a daemon tells what it knows to others than its control socket's callers: the listeners of --metrics and --web, and alerts (link/alerts.h).
#ifndef KAGAMI_LINK_TELLING_H
#define KAGAMI_LINK_TELLING_H

#include "link/daemon.h"
#include "link/web.h"

struct telling_options { // as they are on the command line; NULL: absent
	const char *metrics, *web, *web_token, *hooks, *webhook;
};

// For the table of a daemon's options.
#define TELLING_OPTIONS(options)                                                                                                                              \
	{"metrics", "ADDR:PORT", "serve GET /metrics there, for Prometheus", &(options).metrics, false},                                                      \
		{"web", "ADDR:PORT", "serve the web page there; loopback only, but for --web-token", &(options).web, false},                                 \
		{"web-token", "FILE", "its first line is what every request of the page must carry", &(options).web_token, false},                           \
		{"hooks", "DIR", "executables that are run for events: docs/hooks.md", &(options).hooks, false},                                             \
		{"webhook", "URL", "each event is posted there as JSON", &(options).webhook, false}

struct telling;
// The events that are to be told must be the default ones already. `web` says what the page has; address, token and routes are filled in here.
int telling_start(const struct telling_options *options, const struct control_route *routes, size_t count, void *context, const struct web_asset *assets,
		  size_t asset_count, struct telling **ret_telling, struct err *err);
void telling_stop(struct telling *telling); // takes NULL

#endif
