// SPDX-License-Identifier: Apache-2.0
// What the parts of the check of one protection share (check.c, check_records.c).
#ifndef KAGAMI_RECEIVER_CHECK_PART_H
#define KAGAMI_RECEIVER_CHECK_PART_H

#include "receiver/check.h"

struct replica;

struct check {
	struct replica *replica; // of our own, beside the one that a running receiver has
	const struct check_watch *watch;
	struct check_result result;
	struct err first; // what recovery's code found
	uint64_t files_of;
	bool stopped;
	const char *file; // whose tables are looked at
};

void check_found(struct check *check, enum check_kind kind, const char *text);
// Damage, or what could not be read, by the code of `why`, whose text begins with the file's name.
void check_damage(struct check *check, const struct err *why);
// Of a file that is kept twice: tells which of the two is not whole while the other is, or that they differ.
void check_copies(struct check *check, const char *path);

// check_records.c, once the protection's own file is known.
void check_records(struct check *check);

#endif
