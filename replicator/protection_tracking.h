// SPDX-License-Identifier: Apache-2.0
// What a protection keeps about its disks across its own death: the state files while it runs.
//
//	load ──► open (marks = what is dirty, durable) ──► commit, position … ──► save
//	           │                                         │
//	           └─────────────── lost: the file is made to say so, a note stands in the run directory, the receiver is told; the guest goes on
//
// T1 (B1): the position in a file names a cut only when the file's marks hold every region that differs from it. So after
//    source_mark_all(), which marks nothing, the file names no cut (`nowhere`) until a point is committed;
//    nor while the marks of a disk that lost all it held are being made (protection_images.c).
//    Where the receiver doubts the disk it holds without: the doubt ends with a point whose differences are marked (doubt.h, D3).
// T2: pending_cut is durable before its SEAL leaves; last_cut after COMMITTED and before source_keep(), which clears marks.
// T3 (G3): whatever cannot be written makes the tracking of that disk lost, and nothing else.
// T4 (G3): what is not written for too long does so as well. Whoever waits for the state directory may hold the disk's lock meanwhile,
//    so nobody who finds it forsaken waits for that lock but those whose thread is there for it. The commit may end well after that: the file is made to
//    say it all the same, by that commit, or by tracking_look() and
//    at the stop, where the lock is free.
// T5 (B5): a file names the sync that stands, until a header names its point: after that the map and the marks say what was written, before it they say what is
//    to be compared. A sync of what is in no file (a part of a disk) is told again by whoever told it.
#ifndef KAGAMI_REPLICATOR_PROTECTION_TRACKING_H
#define KAGAMI_REPLICATOR_PROTECTION_TRACKING_H

#include "replicator/state_file.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct protection;
struct protection_config;
struct protection_place;

struct tracking { // of one disk
	pthread_mutex_t lock; // over `file` and `lost`: the marker thread and the cycle thread use them. Taken before the protection's
	struct state_file *file;
	struct state_note note;
	struct state_print found; // of the file that the start believed; zeroed: of none
	uint64_t number; // of the file (env_stat); 0: not known
	bool lost;
	_Atomic bool forsaken; // a commit does not return: the note stands, or is being written; `lost` follows with the lock
	// Under the protection's lock:
	enum sync_reason sync;	     // that this start found
	char lost_why[ERR_TEXT_MAX]; // "" while tracking is sound
	bool lost_in_file;	     // the state file says so, too
	bool lost_in_note;	     // and so does a note (lost_note.h), for a start without a boot of the host between
};

void tracking_init(struct protection *p);
void tracking_done(struct protection *p); // closes the files
// Fills the dirty maps, and what they are relative to, from the files; then has the files say that a replicator runs. After
// that the disks may be served. A file that cannot be written is lost tracking, and an error only when that could not be written down
// either, or when the protection is new.
int tracking_load(struct protection *p, bool is_new, struct err *err);
// For export_marker.commit: `context` is the protection.
int tracking_commit(void *context, uint16_t disk, const uint64_t *set, size_t sets, const uint64_t *clear, size_t clears,
		    struct err *err);
// For export_marker.note: from here on the disk's state file must not be believed. Only the run directory is written to, and the receiver
// told; no lock of the disk is taken.
void tracking_note(void *context, uint16_t disk, const char *why);
// For export_marker.forsake: nobody is there to write the note; the receiver is told, and the state file when the commit under way returns, however
// it ends. Waits for nothing.
void tracking_forsake(void *context, uint16_t disk);
// For export_marker.lose: says it in the state file too, as soon as that can be written.
void tracking_lose(void *context, uint16_t disk, const char *why);
// For cycle.on_seal: from here on the outcome of `cut` may be unknown, which is durable before SEAL leaves (T2). Cycle thread.
void tracking_seal(void *context, const struct uuid *cut);
// Whether the maps hold more than the marks do, so that no file may name a cut (T1). Any thread.
bool tracking_uncovered(const struct protection *p);
// Whether what was last told to the disk's state file is in it: its tracking is neither lost nor being lost. Any thread; waits for nothing.
bool tracking_stands(struct protection *p, unsigned disk);
// Makes the protection's position durable in every file, and `owed`, the sync that stands from here on. Cycle thread.
void tracking_position(struct protection *p, enum sync_reason owed);
// Has the state file be one for the larger disk, with the new range marked: durable on return, and before the image grows
// (B6). Nothing where tracking is lost: the next start compares the whole disk, of whatever size. After an error all is as before, or tracking is
// lost (T3). Cycle thread.
int tracking_grow(struct protection *p, unsigned disk, uint64_t size, struct err *err);
// The disk has followed its state file: an image that is smaller from here on is not taken for one whose growth was cut off. Where that cannot be written tracking
// is lost.
void tracking_grown(struct protection *p, unsigned disk);
// The disk did not follow its state file: that is of `old_size` again, or tracking is lost.
void tracking_ungrow(struct protection *p, unsigned disk, uint64_t old_size);
// A clean stop; the export has stopped. A disk whose tracking is lost stays lost; it looks once more.
int tracking_save(struct protection *p, struct err *err);
// In the place of that, where the stop is not clean: what is lost is noted, where it is not yet, and told to the log where it cannot be.
void tracking_tell_lost(struct protection *p);

// Whether the files are where they were, and say what T4 has them say: one whose name is gone, or leads to another file, is in no start's reach, and its disk's tracking is lost. Waits for the
// state directory, without a lock. Any thread.
void tracking_look(struct protection *p);

// Nothing was served, or no more is, and the process goes on without it: each file says `clean`, or that tracking is lost. One that said `runs` would name this
// run, whose lease is renewed (lease.h), and take for its own what others do from now on.
void tracking_abandon(struct protection *p);

// Likewise, of a protection that is stopped, whose files could neither be written in order nor be removed.
void tracking_disown(const struct protection_place *place, const struct protection_config *config);

// What two disks of one protection agree on: `joint` becomes the newer of the two. False when neither follows from the other. A crash
// between the writes to two files leaves one of them a step behind, and its marks, which are cleared after all were written, hold
// for the newer cut as well. Pure.
bool tracking_join(struct state_position *joint, const struct state_position *other);

#endif
