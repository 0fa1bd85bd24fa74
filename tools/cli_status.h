// SPDX-License-Identifier: Apache-2.0
// One protection in full, as each daemon tells it: private to `kagami status`.
#ifndef KAGAMI_TOOLS_CLI_STATUS_H
#define KAGAMI_TOOLS_CLI_STATUS_H

#include <jansson.h>
#include <stdbool.h>

// Whatever its state: a replica that is broken may be failed over, too.
bool cli_status_failed_over(const json_t *object);
// Whether no RPO binds what is kept here of it: it was failed over, or its source has ended it.
bool cli_status_unbound(const json_t *object);
void cli_status_print_source(const json_t *protection);
// What a sync for `reason` compares, in words.
const char *cli_status_extent(const char *reason);
void cli_status_print_target(const json_t *replica);

// One line about a replica's scrub: what is proven since when, and how far a pass is.
enum { CLI_SCRUB_LINE = 320 };
void cli_scrub_line(const json_t *scrub, char text[CLI_SCRUB_LINE]);

#endif
