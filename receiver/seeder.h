// SPDX-License-Identifier: Apache-2.0
// The seeder: a thread that copies one seed at a time into the store, as the operator asks, and one that adopts seeds of new protections.
#ifndef KAGAMI_RECEIVER_SEEDER_H
#define KAGAMI_RECEIVER_SEEDER_H

#include "receiver/pairing.h"
#include "receiver/store.h"

#include <jansson.h>

enum seed_how { SEED_COPY, SEED_REFLINK, SEED_MOVE };

struct seed_request {
	const char *protection, *disk; // names
	const char *path;	       // absolute; a regular file or, to copy, a block device
	bool qcow2;		       // or else raw; never probed
	enum seed_how how;
	const char *peer; // name or key of the paired source that it is for; "any"; NULL: the only one there is
};

struct seeder;

int seeder_start(struct env *env, struct store *store, struct pairing *pairing, struct seeder **ret_seeder, struct err *err);
void seeder_stop(struct seeder *seeder); // takes NULL; a copy that is under way is given up

// Whether the seed can be made, and with `dry_run` nothing else; then begins with it. -EEXIST when there is a seed, or a protection of the name; -EBUSY
// while another is being made; -EINVAL, -EXDEV, -ENOSPC and others with what to do.
int seeder_begin(struct seeder *seeder, const struct seed_request *request, bool dry_run, json_t **ret_json, struct err *err);
json_t *seeder_json(struct seeder *seeder); // {"making": null|{...}, "seeds": [...]}, as docs/control.md has it
int seeder_drop(struct seeder *seeder, const char *protection, const char *disk, struct err *err); // also one that is being made

#endif
