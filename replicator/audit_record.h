// SPDX-License-Identifier: Apache-2.0
// What a protection keeps of the audit of its holes (audit.h): STATE/protections/<name>/audit.json, replaced as a whole. Format: docs/format-state.md.
//
// A1: it names at least what is unproven and may be part of a point: it is durable before the SEAL of a cycle that told holes, and it forgets a region only after a
//     commit, since what the audit found dirty is in no state file's marks.
#ifndef KAGAMI_REPLICATOR_AUDIT_RECORD_H
#define KAGAMI_REPLICATOR_AUDIT_RECORD_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"
#include "base/size.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AUDIT_RUNS_MAX = 512, AUDIT_WHY_SIZE = 256 };

struct audit_runs { // of regions, ascending, apart. Where there are more than AUDIT_RUNS_MAX, those that are near each other become one
	unsigned count;
	uint64_t gap; // runs that are no further apart than this are one
	struct audit_run {
		uint64_t first, count;
	} run[AUDIT_RUNS_MAX];
};

struct audit_disk {
	char name[NAME_SIZE];
	char why[AUDIT_WHY_SIZE]; // its file system is not believed; "": it is
	struct audit_runs unproven;
};

struct audit_record {
	unsigned count;
	struct audit_disk disk[DISKS_MAX];
};

// Adds a region behind those that are there. Pure.
void audit_runs_add(struct audit_runs *runs, uint64_t region);
// -EBADMSG or -EINVAL: it is none. Pure.
int audit_record_decode(const char *text, size_t len, struct audit_record *ret_record, struct err *err);
char *audit_record_encode(const struct audit_record *record); // to be freed; NULL: no memory
// An absent file: nothing is unproven. After any error everything is to be compared.
int audit_record_load(struct env_root *state, const char *protection, struct audit_record *ret_record, struct err *err);
int audit_record_save(struct env_root *state, const char *protection, const struct audit_record *record, struct err *err); // durable on return

#endif
