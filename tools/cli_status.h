// SPDX-License-Identifier: Apache-2.0
// One protection in full, as each daemon tells it: private to `kagami status`.
#ifndef KAGAMI_TOOLS_CLI_STATUS_H
#define KAGAMI_TOOLS_CLI_STATUS_H

#include <jansson.h>

void cli_status_print_source(const json_t *protection);
// What a sync for `reason` compares, in words.
const char *cli_status_extent(const char *reason);
void cli_status_print_target(const json_t *replica);

#endif
