// SPDX-License-Identifier: Apache-2.0
// What mount, test start and failover share: proving the point that they serve, before (--verify) or beside it.
#ifndef KAGAMI_TOOLS_CLI_VERIFY_H
#define KAGAMI_TOOLS_CLI_VERIFY_H

#include "tools/cli.h"
#include "tools/parse.h"

// With --verify: proves the point, to the end, with progress on a terminal. CLI_DONE when it is sound, or damaged and asked for with --damaged;
// target->point is then the one that was proven. Without --verify nothing.
int cli_verify_first(const struct cli *cli, struct parse_target *target);

// What is known of the point that was just served: `verify` as the daemon answered, looked at once more where it is under way still. Prints a
// line; damage goes to standard error, loudly.
void cli_verify_print(const struct cli *cli, const char *name, const json_t *verify, bool read_before);

enum { CLI_VERIFY_LINE = 700 };
// "point 5: 40 % of 20 GiB proven, 3s left"; "" for null.
void cli_verify_line(const json_t *verify, char text[CLI_VERIFY_LINE]);

// The same below a line of a table, as far as it is not simply well.
struct table;
void cli_verify_note(struct table *table, const json_t *verify);

#endif
