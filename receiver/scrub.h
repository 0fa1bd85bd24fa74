// SPDX-License-Identifier: Apache-2.0
// The scrub of a replica: reads what its points show, proves it against the digests, and quarantines what does not prove.
//
// A pass goes over the disks in order of block. At each position it proves every version of the block that some point shows: so a fold, a merge or a
// commit between two slices leaves nothing out, and the position says all. A slice is short: it shuts out retention (retain_lock) for
// so long, and commits not at all.
#ifndef KAGAMI_RECEIVER_SCRUB_H
#define KAGAMI_RECEIVER_SCRUB_H

#include "receiver/store.h"

struct damage_set;

enum {
	SCRUB_PROOFS = 256,	   // versions of blocks that a slice aims at: 16 MiB
	SCRUB_RANGE_MAX = 1024,	   // blocks of the disk in a slice
	SCRUB_REST_SECONDS = 3600, // after the receiver's start, a pass or its stop, before one begins by itself
	SCRUB_SAVE_SECONDS = 30,   // how much of a pass a crash costs at most, when nothing is found
};
#define SCRUB_RATE_DEFAULT (UINT64_C(32) << 20) // bytes a second

// Begins a pass over every point (`point` 0) or one, as an operator asked; it goes on after a restart. One that is under way ends. -ENOENT, -EIO
// broken.
int scrub_begin(struct replica *replica, uint64_t point, uint64_t rate, struct err *err);
// The same over every point, because it is due: it keeps to the window that there is for such.
int scrub_begin_due(struct replica *replica, uint64_t rate, struct err *err);
// The pass waits for its window, or goes on. Its position is durable while it waits, and its speed is that of while it does not.
int scrub_hold(struct replica *replica, bool held, struct err *err);
// Ends the pass under way before its end, if there is one.
int scrub_end(struct replica *replica, struct err *err);

struct scrub_step {
	uint64_t bytes; // that were proven: what the rate is about
	bool ended;	// the pass is over
	uint64_t mismatches; // of this slice
};
// One slice. -ENODATA without a pass; -EAGAIN while retention works on the replica; otherwise the position stays, and the error is told by
// scrub_info() until a slice succeeds.
int scrub_slice(struct replica *replica, struct scrub_step *ret_step, struct err *err);
// Makes the position durable: at a clean stop.
int scrub_save(struct replica *replica, struct err *err);

struct scrub_info {
	bool open;
	uint64_t point, rate;
	bool asked; // by an operator
	int64_t began_ns;
	uint64_t done_bytes, total_bytes; // of the disks
	uint64_t mismatches;
	bool ended; // a pass over every point
	int64_t last_began_ns, last_ended_ns;
	uint64_t last_proven, last_mismatches;
	bool suspect;
	uint64_t damaged_blocks;
	uint64_t rest_ns; // since scrub.json was read or written
	uint64_t bytes_per_second; // that the pass comes on by, since it began or the receiver started; 0: not known yet
	char error[ERR_TEXT_MAX]; // of the newest slice
};
void scrub_info(struct replica *replica, struct scrub_info *ret_info);
// Whether a pass over every point is due: none is under way, the last one began more than `interval_ns` ago, and there was a rest. Pure. A clock
// that was set back makes it due, too; a record that was lost at once.
bool scrub_is_due(const struct scrub_info *info, int64_t now_ns, int64_t interval_ns);
// Whether the pass that began by itself is under way for longer than `interval_ns`, in which it was to end. Pure.
bool scrub_is_late(const struct scrub_info *info, int64_t now_ns, int64_t interval_ns);
// True once for each pass, until the receiver ends: it is told that it is late.
bool scrub_tell_late(struct replica *replica);
// scrub_wait.c: whether the pass of this replica is left alone now, because it is broken, or a slice of it failed; and for how long it is from now on. Take `lock`.
bool scrub_rests(struct replica *replica);
void scrub_rest(struct replica *replica, uint64_t ns);

// --- quarantine ---

// 0 when no block that point `number` (0: the newest) shows is known to be damaged. -EUCLEAN with an explanation, and what to do.
int replica_sound(struct replica *replica, uint64_t number, struct err *err);
uint64_t replica_damaged_blocks(struct replica *replica, uint64_t number); // that the point shows

// --- for the other files of the store; under `lock` ---

int point_sound(struct replica *replica, uint64_t number, struct err *err); // replica_sound() of a point that is there
void scrub_load(struct replica *replica);    // at recovery
// A session begins, or has sealed: what the newest point shows damaged is known to differ. Without memory for that (-ENOMEM, -ENOBUFS) the session ends, to be opened anew.
int scrub_poison(struct replica *replica, struct err *err);
bool scrub_wants(const struct replica *replica, uint16_t disk, uint64_t index); // damaged in the newest point, and not whole in the head
void scrub_sealed(struct replica *replica, uint64_t before); // the head, not closed yet, is the point after `before`
bool scrub_known(const struct replica *replica); // whether there is anything that a record would say
int scrub_record(struct replica *replica, struct err *err); // makes what is known of damage durable
void scrub_forget(struct replica *replica); // damage that no point shows any more: those that showed it were folded or merged
// A fold or a merge cannot read these blocks of a point: quarantined, durable on return, for all points that show them. `why`, when all of them read
// after all. Takes `lock`, and needs retain_lock.
int scrub_unreadable(struct replica *replica, uint16_t disk, uint64_t first, uint64_t count, const struct err *why, struct err *err);
// condemn.c: the file of a disk of point `number` cannot be used as a whole. Without a look at them, all blocks that its list names (all of the disk, where the
// list cannot be read either, or names none and `any` is set) are quarantined as this point and the later ones show them; durable on return. In memory they
// are also after an error. The next pass over every point says exactly which are. Takes `lock`.
int scrub_condemn(struct replica *replica, uint16_t disk, uint64_t number, bool any, const struct err *why, struct err *err);
int scrub_condemn_locked(struct replica *replica, uint16_t disk, uint64_t number, bool any, const struct err *why, struct err *err); // for whoever has it

// The same for whoever knows which blocks it is about.
int scrub_claim_locked(struct replica *replica, unsigned disk, uint64_t number, const struct damage_set *set, const struct err *why, struct err *err);

#endif
