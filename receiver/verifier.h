// SPDX-License-Identifier: Apache-2.0
// The verifier: a thread that proves points which are in use, or are about to be: what is mounted, tested or failed over is served at once, and
// read to its end beside that, before and faster than any scrub. docs/store.md, "Verification".
//
// A verification is in memory: what it finds outlives it, by scrub.json; it begins anew after a restart of the receiver.
#ifndef KAGAMI_RECEIVER_VERIFIER_H
#define KAGAMI_RECEIVER_VERIFIER_H

#include "receiver/store.h"

enum {
	VERIFIER_RATE_DEFAULT_MIB = 256, // a second, of all verifications together
	VERIFIER_JOBS_MAX = 256,
	VERIFIER_OPEN_MAX = 4,	  // that are read at the same time: each has its digests in memory
	VERIFIER_FRESH_S = 600,	  // how long a result stands for one who asks again
	VERIFIER_AGAIN_S = 60,	  // after which what could not be read is tried again; twice as long each time
	VERIFIER_AGAIN_MAX_S = 3600,
};

enum verify_state { VERIFY_NONE, VERIFY_RUNNING, VERIFY_SOUND, VERIFY_DAMAGED, VERIFY_UNREADABLE };
const char *verify_state_name(enum verify_state state);

struct verify_info {
	uint64_t point;
	enum verify_state state;
	bool asked; // it runs to its end, whether or not the point is in use
	uint64_t done_bytes, total_bytes, damaged_blocks;
	uint64_t bytes_per_second; // 0: not known yet
	uint64_t since_ms;	   // since it began, while it runs; else since it ended
	uint64_t again_in_ms;	   // unreadable: until it is tried again by itself
	char reason[ERR_TEXT_MAX]; // damaged: and what to do; unreadable, and while it runs and a slice has failed: why
};

struct verifier;

// Without a thread: whoever tests calls verifier_step(). `rate`: bytes a second.
struct verifier *verifier_new(struct env *env, uint64_t rate); // NULL: out of memory
int verifier_start(struct verifier *verifier, struct err *err);
void verifier_free(struct verifier *verifier); // takes NULL; ends the thread, lets every point go

// Any thread. Begins to prove a point, which is held until that is done. One that is under way goes on, and a result that is fresh stands, as long as
// no fold or merge wrote anew what the point is read from.
// -ENOENT without such a point; -EBUSY too many are under way; -ENOMEM.
int verifier_begin(struct verifier *verifier, struct replica *replica, uint64_t point, bool asked, struct err *err);
// Damage was seen in the point: what was said of it counts no more, and it is proven anew, to the end.
void verifier_distrust(struct verifier *verifier, struct replica *replica, uint64_t point);
// Ends what is under way, and forgets the result; point 0: of all points of the replica. On return nothing is held.
void verifier_drop(struct verifier *verifier, struct replica *replica, uint64_t point);
// VERIFY_NONE when there is none.
void verifier_info(struct verifier *verifier, const struct replica *replica, uint64_t point, struct verify_info *ret_info);
// The n-th of the replica, oldest first; false past the last.
bool verifier_at(struct verifier *verifier, const struct replica *replica, size_t n, struct verify_info *ret_info);

// One slice of the next verification. How long to wait before the next one, in nanoseconds.
uint64_t verifier_step(struct verifier *verifier);

#endif
