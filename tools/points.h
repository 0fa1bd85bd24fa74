// SPDX-License-Identifier: Apache-2.0
// The points of a protection as the receiver lists them, and what is to be said where its replica is broken.
#ifndef KAGAMI_TOOLS_POINTS_H
#define KAGAMI_TOOLS_POINTS_H

#include "tools/cli.h"
#include "tools/parse.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

// Asks for them. On CLI_DONE *ret_answer, with "points", is the caller's.
int points_get(const struct cli *cli, const char *name, json_t **ret_answer);
// The point that `target` means, 0 being the newest, borrowed from such an answer; NULL and a message when there is none, or it cannot be used.
json_t *points_find(const struct cli *cli, const struct parse_target *target, const json_t *answer);

// Of an answer with "points", a replica, or a failover.
bool points_broken(const json_t *object);
// Nothing where the replica is whole; else why it is not, and which newer points cannot be used for that.
void points_warn(FILE *out, const char *name, const json_t *object);

#endif
