// SPDX-License-Identifier: Apache-2.0
// The disks of one protection together: the gate, the cut, its set, and reading it. Without threads, clocks or system calls.
//
//	set state     meaning                                        leaves by
//	SET_NONE      no cut since the last keep or give_back        cut
//	SET_PRECOPY   the set is read as it is                       cut, keep, give_back
//	SET_POINT     the set is read as of the cut                  cut, keep, give_back; give_up ──► SET_STALE
//	SET_STALE     the bound was reached: nothing is preserved    cut, give_back
//
// P1: for every block, image == last kept point, or it is in dirty, in set, or remembered, or unproven (audit.h), of its volume.
// P2: in SET_POINT the content of a set block as of the cut is on the image, or in `preserve`.
#ifndef KAGAMI_REPLICATOR_GROUP_H
#define KAGAMI_REPLICATOR_GROUP_H

#include "replicator/disk_errors.h"
#include "replicator/preserve.h"
#include "replicator/source.h"
#include "replicator/volume.h"

#include <stdbool.h>
#include <stdint.h>

// Why old content of a cut could not be kept.
enum group_loss {
	LOSS_ROOM,	 // the bounds of memory and spill file are reached
	LOSS_MEMORY,	 // there is none
	LOSS_SPILL,	 // the spill file failed
	LOSS_SPILL_LATE, // it does not answer
	LOSS_CONTENT,	 // it could not be read
};

enum group_set { SET_NONE, SET_PRECOPY, SET_POINT, SET_STALE };

// The caller's memory until `done`. `hold` runs when new writes begin to wait, `take` at the instant, before any of them goes on.
struct group_cut {
	enum cut_mode mode;
	void (*hold)(struct group_cut *cut);
	void (*take)(struct group_cut *cut);
	void (*done)(struct group_cut *cut, int res); // -EIO: a disk failed; -EBUSY: a cut is under way; -EAGAIN: a disk is stalled
	uint64_t dirty_bytes, blocks;
};

struct group_keep {
	void (*done)(struct group_keep *keep, int res);
	struct group *group;
	unsigned pending;
	int res;
	bool synced; // marks may be cleared for it
	struct keep_sync {
		struct volume_sync sync;
		struct group_keep *keep;
	} member[DISKS_MAX];
};

// A batch under way; the caller's memory until `done`, which may be called from within group_fetch().
struct fetch {
	struct source_batch *batch;
	void (*done)(struct fetch *fetch);
	struct group *group;
	unsigned pending;
	struct preserve_block block[SOURCE_BATCH_MAX]; // SET_POINT: those of which nothing was saved before
	struct preserve_block *taken[SOURCE_BATCH_MAX]; // SET_POINT: until its content is there, or on its way from the spill file; else NULL
	struct fetch_run {
		struct aio aio;
		struct fetch *fetch;
		unsigned first, count;
	} run[SOURCE_BATCH_MAX];
	bool from_image[SOURCE_BATCH_MAX];
};

struct group {
	uint16_t count;
	struct volume *volume;
	enum group_set set;
	bool incomplete; // blocks left that were not read: they are remembered, and keep is refused until give_back
	struct preserve preserve;
	struct spill spill;
	struct intent intent;
	bool gate_closed;
	struct volume_request *held, **held_end; // wait at the gate, in order
	uint64_t writes;			 // past the gate, and not done on the image
	struct group_cut *cut;			 // under way
	unsigned fetches, keeps;		 // under way
	uint64_t losses;			 // cuts that became SET_STALE
	enum group_loss loss;			 // why the newest of them did
	int loss_res;
	uint16_t next_disk;			 // where the next batch begins
	uint64_t next_block;
	bool bounded;				 // a set of SET_PRECOPY was looked at or reached: batches end before
	uint16_t look_disk;			 // this place
	uint64_t look_block;
	uint16_t hole_disk; // where holes are looked for next
	uint64_t hole_region;
	unsigned hole_waits; // how often in a row the file system said nothing of it: who asks waits before the next time
	uint16_t audit_disk; // where the next run of unproven blocks is looked for
	uint64_t audit_block;
	// An operation on an image failed, at `off` (but for a sync); when the volume has failed with it, that says so already. May be NULL.
	void (*on_error)(struct group *group, struct volume *volume, enum disk_fault fault, uint64_t off, int res);
};

int group_init(struct group *group, uint16_t count, const uint64_t *sizes, struct aio_backend *const *backends,
	       uint64_t preserve_bytes_max); // -ENOMEM
// Preserved blocks beyond the bound of memory go to a file: `backend` is empty, and writes beyond its end extend it.
void group_set_spill(struct group *group, struct aio_backend *backend, uint64_t bytes_max);
void group_done(struct group *group);	      // nothing is under way

void group_cut(struct group *group, struct group_cut *cut);
// Gives up a cut that has held writes since `since_ns`: the gate opens, nothing was taken, and it ends with -EAGAIN. The disks
// whose writes kept it are stalled; until these have ended, later cuts end so before the gate closes. Does nothing when no
// write is held for a cut: what waits for batches holds nobody.
void group_cut_cancel(struct group *group, uint64_t since_ns);
void group_fetch(struct group *group, struct fetch *fetch, struct source_batch *batch);
// See source_reach(), source_settle() and source_holes(). Of SET_PRECOPY.
uint64_t group_reach(struct group *group, uint64_t blocks);
void group_settle(struct group *group, uint16_t disk, uint64_t first, uint64_t count, const unsigned char *unequal);
unsigned group_holes(struct group *group, struct source_run *runs, unsigned most, bool *ret_all);
// See source_audit_next(), source_audited() (audit.h).
bool group_audit_next(struct group *group, unsigned most, struct source_run *ret_run);
void group_audited(struct group *group, const struct source_run *run, const unsigned char *unequal, struct source_audited *ret_audited);
// The images are synced first, unless no mark is cleared for this keep (intent_sweeps()): what is marked is compared after a power cut, whether it was durable
// or not. -ESTALE: given up, or incomplete; -EIO: a disk failed.
void group_keep(struct group *group, struct group_keep *keep);
void group_give_back(struct group *group);
void group_mark_all(struct group *group);
void group_mark(struct group *group, uint16_t disk, uint64_t off, uint64_t len); // see source_mark()
void group_mark_whole(struct group *group, uint16_t disk); // see export_mark_whole()
// The disk failed, and is served anew: what its image may have lost since a mark was set is dirty.
void group_trust(struct group *group, uint16_t disk);
uint64_t group_served(const struct group *group); // requests of the guest so far; any thread
// See volume_grow(). -EBUSY: a cut is open.
int group_grow(struct group *group, uint16_t disk, uint64_t size);

// For volume.c and intent.c: on to the gate, if its regions are marked.
void group_admit(struct group *group, struct volume_request *request);
void group_written(struct group *group);
// Whether the request may go on; else it waits, and volume_continue() will be called.
bool group_preserve(struct group *group, struct volume_request *request);
void group_wake(struct volume_request *list); // each goes on, and may wait elsewhere
void group_give_up(struct group *group, enum group_loss why, int res); // `res`: the error, where there was one; the bound is reached, or old content is lost: the guest goes on, the cut does not
void group_error(struct group *group, struct volume *volume, enum disk_fault fault, uint64_t off, int res);

// Between group.c and fetch.c.
void group_fetched(struct group *group);					    // a batch has ended
void group_run_safe(struct group *group, struct preserve_run *run);		    // SAVED or SPILLED from now on; for spill.c
void fetch_step(struct group *group, struct preserve_block *block);		    // something of a block that a batch took has ended
void group_kept(struct group *group, bool synced);				    // all that left is committed, and on stable storage with `synced`
void fetch_put(struct fetch *fetch);						    // something that it waited for has ended

#endif
