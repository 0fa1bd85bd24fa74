// SPDX-License-Identifier: Apache-2.0
// A file that a command makes: under the name PATH.part until it is whole, then under its own, and nothing of it otherwise.
//
// Mode 0600, the caller's own. What is there already is replaced with `force` alone, and only where it is a regular file.
#ifndef KAGAMI_TOOLS_OUT_FILE_H
#define KAGAMI_TOOLS_OUT_FILE_H

#include "base/env.h"
#include "base/err.h"

#include <signal.h>
#include <stdbool.h>

struct out_file {
	struct env_root *root; // the directory
	struct env_file *file;
	char *dir, *name, *part;
	bool force;
};

// -EEXIST, with what to do, when PATH or PATH.part is there; -EINVAL when PATH is there and no regular file.
int out_file_open(const char *path, bool force, struct out_file *ret_out, struct err *err);
// Makes it durable and gives it its name. After a failure call out_file_drop().
int out_file_commit(struct out_file *out, struct err *err);
void out_file_drop(struct out_file *out); // removes PATH.part; after a commit it only frees

// Set by SIGINT, SIGTERM and SIGHUP once out_signals() was called: whoever writes then stops, and drops.
extern volatile sig_atomic_t out_stopped;
void out_signals(void);

#endif
