// SPDX-License-Identifier: Apache-2.0
// What a command with --json leaves on standard output: one document, its answer, or where it failed and has none the error. Both daemons may be asked at once,
// from two threads.
#ifndef KAGAMI_TOOLS_SAID_H
#define KAGAMI_TOOLS_SAID_H

#include "tools/cli.h"

#include <pthread.h>

struct said {
	pthread_mutex_t lock;
	bool answer;
	json_t *error; // the first
};
#define SAID_INIT {.lock = PTHREAD_MUTEX_INITIALIZER}

void said_answer(struct said *said);
// A daemon's body with its "error"; borrowed.
void said_refusal(struct said *said, json_t *body);
// What the command itself found.
void said_failure(struct said *said, enum cli_exit exit, const char *message);
// {"error": {"code", "message"}} of a command that ends with `exit`; the caller's. NULL: it succeeded, or has printed an answer.
json_t *said_error(struct said *said, int exit);

// What the command ends with that a daemon refused, by the status and the code of its answer. `may_ask`: whether the caller is one that it serves at all;
// such a one can be told 403 for what may not be done.
enum cli_exit said_exit(long status, const char *code, bool may_ask);

#endif
