// SPDX-License-Identifier: Apache-2.0
// Write-intent: which regions of the disks are marked in the state file, and which requests wait for a mark. Pure; loop thread.
//
//	region        meaning                                         leaves by
//	clean         no mark, or one that nobody relies on           a request asks ──► asked
//	asked         in the commit under way: requests wait          the commit ends ──► marked
//	marked        the mark is durable: writes cost a bit test     the sweep ──► clean
//
//	ask ──► wanted() ──► take (a batch: what all that wait need) ──► marker thread: one write, one sync ──► committed ──► admit again
//
// M1 (B2): a request becomes dirty only in the same step in which all its regions were seen marked; whoever waited, here or at
//    the gate, is tested again.
// M2 (B1, B3, B4): a mark is given up only when none of the region's pieces is dirty, in the set or remembered: then the image
//    equals the last kept point, and was synced by its keep. The sweep that looks for such regions begins with a keep, if the one before was not a moment ago (intent_sweep()).
//    Nor of a disk that is held (intent_hold()): something is to be compared that its map does not say yet.
// M3: what is given up is handed over before or with what is asked later, and batches are committed in order, one at a time.
// M4 (G3): a disk whose commit failed is lost: everything counts as marked from then on.
// M5 (G3): so is one that is given up while a commit does not end. What that commit ends with says nothing of it any more.
// M6 (B2, B6): of a disk that ends within a region, that region keeps its mark. Should the disk grow, the file of the larger one marks it
//    before the disk is larger here, and a commit may end between the two: it must not clear what the larger disk relies on.
#ifndef KAGAMI_REPLICATOR_INTENT_H
#define KAGAMI_REPLICATOR_INTENT_H

#include "base/names.h"
#include "base/size.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct group;
struct volume;
struct volume_request;

enum {
	INTENT_BATCH_MAX = 1024,      // regions set in one commit, and as many cleared
	INTENT_WHOLE_MAX = 512,	      // of them, those that nobody waits for: of other disks there is room beside them
	INTENT_HOT_REGIONS_MAX = 1024, // with more marked in the protection, a region written since the keep before is no exception
	INTENT_SWEEP_MAX = 1 << 14,   // marked regions looked at between two commits; of a disk that is marked as a whole, regions
};

struct intent_map { // of a volume
	uint64_t regions;
	uint64_t *marked, *asked, *touched; // a bit per region; touched: written since the sweep before
	uint64_t *written;		    // since the disk was opened, or intent_emptied(), while marks are kept
	uint64_t count;			    // marked regions
	uint64_t whole_next;		    // regions from here on are asked for though nobody waits (intent_mark_whole()); UINT64_MAX: none
	bool held;			    // intent_hold()
	bool free;			    // nothing is asked: no marks are kept, or they are lost
	bool lost;
	struct volume_request *waiting, **waiting_end;
};

// One commit, by disk. The marker's between take and committed.
struct intent_batch {
	unsigned parts;
	struct intent_part {
		uint16_t disk;
		size_t sets, clears;
		const uint64_t *set, *clear;
		int res; // stored by the marker
	} part[DISKS_MAX];
	uint64_t set[INTENT_BATCH_MAX], clear[INTENT_BATCH_MAX];
};

struct intent {
	struct group *group;
	void (*wanted)(struct intent *intent); // there is something to take; called once, until it was taken. NULL: no marks
	bool wanting, committing;
	bool ending;	    // no more sweeps
	bool resting;	    // the last sweep was a moment ago: the next only if there are many marks
	bool sweeping;	    // from here on:
	uint16_t sweep_disk;
	uint64_t sweep_word;
	uint16_t first_disk; // whose turn it is in the next batch
	uint64_t count;	     // marked regions of all disks
	uint64_t hot_max;    // INTENT_HOT_REGIONS_MAX
};

int intent_map_init(struct intent_map *map, uint64_t size); // clean; -ENOMEM
void intent_map_done(struct intent_map *map);
// Room for the regions of a disk of `size`, not smaller; the new ones are clean. -ENOMEM: as it was.
int intent_map_grow(struct intent_map *map, uint64_t size);
void intent_map_ungrow(struct intent_map *map, uint64_t size); // the disk is so large still, and of no region behind its end anything was asked
uint64_t intent_map_memory(const struct intent_map *map); // bytes

// Marks are kept from here on.
void intent_enable(struct intent *intent, struct group *group, void (*wanted)(struct intent *));
void intent_set_marked(struct intent *intent, struct volume *volume, uint64_t region);
// These regions are holes of the image, and nothing that fills them is under way: nothing was written to them since. They lose no mark.
void intent_emptied(struct intent_map *map, uint64_t first, uint64_t count);
// All of the disk is dirty, and not because a guest wrote: each region that has no mark is asked for, behind those that requests wait for. It ends with
// intent_end().
void intent_mark_whole(struct intent *intent, struct volume *volume);
// True: all of the disk is asked for likewise, though it is not dirty, and until false is said no mark of it is given up.
void intent_hold(struct intent *intent, struct volume *volume, bool hold);
// Whether each region has its mark, durably. Not of a disk whose marks are not kept, or lost.
bool intent_marked_whole(const struct intent_map *map);
// Marks were set by intent_set_marked() while requests may have waited for them: those go on.
void intent_resume(struct group *group, struct volume *volume);
// The request writes to the regions from `first` to `last`. True: all are marked. False: they are asked for, and the request waits until it is admitted again.
bool intent_wait(struct intent *intent, struct volume_request *request, uint64_t first, uint64_t last);

// Fills the batch; false when there is nothing to do, then nothing is under way.
bool intent_take(struct intent *intent, struct intent_batch *batch);
// The marks are durable, or the disk is lost: requests that waited are admitted again.
void intent_committed(struct intent *intent, const struct intent_batch *batch);

// The disk's marks are given up, also while a commit is under way: it is lost, and requests that waited are admitted again (M5).
void intent_lose(struct intent *intent, uint16_t disk);

// A keep has ended. Where cycles follow each other quickly, most regions are not written between two of them: to clear their marks each
// time would have their next writes wait for a sync. So it does nothing while `resting`.
void intent_sweep(struct intent *intent);
// Whether a mark may be cleared for a keep that ends before the next one does: that keep has to sync the images first (M2).
bool intent_sweeps(const struct intent *intent);
void intent_end(struct intent *intent);	  // no more sweeps: what is under way is the last

static inline bool intent_bit(const uint64_t *bits, uint64_t region)
{
	return bits[region / 64] >> region % 64 & 1;
}

#endif
