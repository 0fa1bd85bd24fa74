// SPDX-License-Identifier: Apache-2.0
// `kagami status --check`: private to `kagami status`.
#ifndef KAGAMI_TOOLS_CLI_CHECK_H
#define KAGAMI_TOOLS_CLI_CHECK_H

#include "tools/cli.h"

// Asks both daemons and prints the verdict. Returns the plugin's exit status.
int cli_check_run(const struct cli *cli);

#endif
