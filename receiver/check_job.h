// SPDX-License-Identifier: Apache-2.0
// The check of the store by a running receiver: one at a time, in a thread of its own, asked about through the control API.
#ifndef KAGAMI_RECEIVER_CHECK_JOB_H
#define KAGAMI_RECEIVER_CHECK_JOB_H

#include "receiver/store.h"

#include <jansson.h>

struct check_job;

struct check_job *check_job_new(struct env *env, struct store *store); // NULL when out of memory
void check_job_free(struct check_job *job); // takes NULL; stops a check that is under way
// Starts one, unless one is under way: then that one goes on.
int check_job_start(struct check_job *job, struct err *err);
// {"state": "none"|"running"|"done"|"failed", "protection", "files", "of", "error", "report"}, as docs/control.md has it; a new reference.
json_t *check_job_json(struct check_job *job);

// `kagami-receiver --check DIR`: prints the report of a store that no receiver has open. Returns the exit status: 0 sound, 1 damaged,
// 2 misused, 3 could not be checked.
int check_command(int argc, char **argv);

#endif
