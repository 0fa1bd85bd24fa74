// SPDX-License-Identifier: Apache-2.0
// scrub.json: how far the scrub of a protection is, what its last pass found, and which points are quarantined. Format: docs/store.md.
// Works on memory only.
#ifndef KAGAMI_RECEIVER_SCRUB_FILE_H
#define KAGAMI_RECEIVER_SCRUB_FILE_H

#include "base/err.h"
#include "receiver/damage.h"
#include "receiver/protection_file.h"

struct scrub_pass {
	uint64_t point; // 0: every point
	uint64_t rate;	// bytes a second
	bool asked;	// by an operator: it keeps to no window
	int64_t began_ns;
	uint16_t disk; // position: every block before it was proven
	uint64_t block;
	uint64_t proven;     // versions of blocks
	uint64_t mismatches; // of them
};

struct scrub_state {
	bool open; // there is a pass
	struct scrub_pass pass;
	bool ended;	    // there was one over every point
	struct scrub_pass last; // that one
	int64_t ended_ns;
	bool suspect; // a record of damage was lost: every point is in doubt until a pass over every point ends
	struct damage_set damage;
};

// The caller frees *ret_text.
int scrub_encode(const struct scrub_state *state, const struct protection *protection, char **ret_text, size_t *ret_len);
// -EBADMSG with the member that is wrong.
int scrub_decode(const char *text, size_t len, const struct protection *protection, struct scrub_state *ret_state, struct err *err);

#endif
