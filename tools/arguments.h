// SPDX-License-Identifier: Apache-2.0
// What no argument of any command may be, looked at before anything is asked: empty, or of bytes that the daemons' JSON cannot carry and that would be left
// out of a request without a word.
#ifndef KAGAMI_TOOLS_ARGUMENTS_H
#define KAGAMI_TOOLS_ARGUMENTS_H

#include "tools/cli.h"

// What the usage line calls argument `i` of a command: "DIR"; "" where it is one of several things.
void arguments_name(const struct cli_command *command, int i, char *name, size_t cap);

// Of an option that has a value. 0, or -EINVAL with its name in the text.
int arguments_check_option(const char *name, const char *value, bool any_bytes, struct err *err);

// Of the arguments that the command was given: 0, or -EINVAL with what it is and what is wrong with it.
int arguments_check(const struct cli *cli, struct err *err);

#endif
