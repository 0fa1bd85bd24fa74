// SPDX-License-Identifier: Apache-2.0
// The check of a store, read-only: every invariant of docs/store.md that files can show, by recovery's own code where recovery looks at
// it, and beyond: all of every table, every list against its root, and names that do not belong. Contents of blocks are the scrub's.
#ifndef KAGAMI_RECEIVER_CHECK_H
#define KAGAMI_RECEIVER_CHECK_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum check_kind {
	CHECK_NOTE,   // a name that is not the store's: harmless
	CHECK_DAMAGE, // an invariant does not hold
	CHECK_UNREADABLE, // it could not be read (EIO, no memory, no descriptors), so that nobody knows
};

struct check_watch {
	void (*found)(void *context, enum check_kind kind, const char *text); // the text begins with the file's name in the store
	bool (*looked)(void *context, uint64_t files, uint64_t of); // after each file; false: stop
	void *context;
};

struct check_result {
	uint64_t points, files;
	uint64_t damage, unreadable, notes; // how many findings of each
};

// Checks the protection `name` below `root`. 0 when it was looked at, whatever was found; -ECANCELED when `looked` said so, -ENOMEM.
// While a receiver runs, the caller holds the newest point, so that none up to it goes, and says which that is in `to`: later points come
// and are merged meanwhile, and are not looked at (0: every point). It asks again what a growth may have disturbed (check_live()).
int check_protection(struct env_root *root, const char *store_path, const char *name, uint64_t to, const struct check_watch *watch,
		     struct check_result *ret_result, struct err *err);

// check_report.c: a whole store as JSON, {"sound", "protections": [{"name", "points", "files", "damage": [text], "unreadable": [text],
// "notes": [text]}]}. Sound is what has neither damage nor anything unreadable.
struct store;
struct check_progress {
	void (*looked)(void *context, const char *protection, uint64_t files, uint64_t of);
	bool (*stopping)(void *context);
	void *context;
};
// Offline, of the directory `path`, which is absolute. -EBUSY while a receiver has it open; -EINVAL: it is no store.
int check_directory(struct env *env, const char *path, const struct check_progress *progress, json_t **ret_report, struct err *err);
// Online: beside sessions and retention. Holds each protection's newest point while it is looked at.
int check_live(struct store *store, const struct check_progress *progress, json_t **ret_report, struct err *err);

#endif
