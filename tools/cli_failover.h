// SPDX-License-Identifier: Apache-2.0
// What ends a failover: `kagami failover --rollback` and `--commit`.
#ifndef KAGAMI_TOOLS_CLI_FAILOVER_H
#define KAGAMI_TOOLS_CLI_FAILOVER_H

#include "tools/cli.h"
#include "tools/parse.h"

int cli_failover_end(const struct cli *cli, const struct parse_target *target);

#endif
