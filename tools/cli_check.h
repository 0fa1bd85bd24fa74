// SPDX-License-Identifier: Apache-2.0
// `kagami status --check`: private to `kagami status`.
#ifndef KAGAMI_TOOLS_CLI_CHECK_H
#define KAGAMI_TOOLS_CLI_CHECK_H

#include "tools/cli.h"

// Prints the verdict on what both daemons answered to GET /v1/protections (NULL: it is not there). Returns the plugin's exit status.
int cli_check_run(const struct cli *cli, const json_t *source, const json_t *target);

#endif
