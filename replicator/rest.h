// SPDX-License-Identifier: Apache-2.0
// A note of how an image was when its replicator last left it alone: RUN_DIR/rest/PROTECTION:DISK, a page that is mapped while it runs.
//
//	rest_judge ──► (the new state file is durable) ──► rest_begin ──► rest_stir, rest_now … ──► rest_end, or death
//
// The state file of a replicator that died has the regions that it may have written to, and nothing of what others wrote to the image since: its
// own writes changed the image's times as well. The note tells the two apart. It outlives the process, not a reboot.
//
// N1: while the note says that the image is at rest no change of ours is under way, and the image has the identity that stands in it.
//     So what differs from it was changed by somebody else.
// N2: an older note is replaced only when the state file that follows from it is durable.
// N3: of a block device the note has what the kernel counts of it (device_counts.h), taken at a time from which on nothing was written to it by us.
//     Where it was taken too early the counts have gone on, and all of the device is compared: no time at which it is taken hides a change.
// N4: an image that was seen to end before its disk does, or to be another than it was left, counts as disturbed until the state files say what follows from that (protection_images.c): a write of ours may
//     have given it its size back, and its identity is ours then.
// N5: where times of files are whole seconds, a change has the time that the file has already, until that second is over. A note of rest that was taken before proves nothing, and says so.
#ifndef KAGAMI_REPLICATOR_REST_H
#define KAGAMI_REPLICATOR_REST_H

#include "base/err.h"
#include "replicator/device_counts.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct stat;

struct rest_page { // what is in the file; in this machine's own order, since nobody else reads it
	char magic[8];
	uint64_t boot;
	_Atomic uint32_t at_rest;
	_Atomic uint32_t disturbances; // so often the image was seen to be changed by somebody else
	uint64_t inode, size;
	int64_t mtime_ns, ctime_ns;
	struct device_counts counts; // of a block device, in place of those four
	_Atomic int64_t stirred_ns;	       // when the newest change of ours began, by the wall clock
	_Atomic int64_t written_ns;	       // when the newest write of ours began that is known to have ended well; 0: none is
	_Atomic int64_t ended_ns;	       // when the newest change of ours had ended, if that was the one by ended_stirs and no other was under way; by the wall clock
	_Atomic uint32_t stirs, ended_stirs;
	_Atomic uint32_t disturbances_told;    // of disturbances, those that the state files say, or the map of a clean stop
	_Atomic uint32_t early;		       // N5
};

enum rest_verdict {
	REST_LEFT_ALONE,
	REST_DISTURBED,
	REST_UNTOLD, // there is no note of this boot, and the last change was before it: whose that was, the lease tells (lease.h)
};

struct rest { // of one image; zeroed: there is no note
	struct rest_page *page;
	bool device;
	_Atomic unsigned held; // changes of ours that another thread makes: counts when one begins and when it ends, so it is odd while one is under way
	struct device_watch watch; // of a block device; not open where nothing tells what was written to it
};

uint64_t rest_boot(void); // a number of this boot of the host; 0 where the kernel does not tell
// Whether somebody else changed the open image `fd` since a replicator that died had it. Of a regular file by the note, where there is one that says how the
// image was at rest; where there is none, since the host was started anew, by the time of its last change: one of after that is somebody else's.
// Where it died while a change was under way: by whether the image was changed a while after that began, or is as it was before a write that had ended.
// Where its end was met and no state file says so (N4), whatever else is known.
// Of a block device REST_DISTURBED unless the note proves that nothing was written to it, by nobody: the page cache holds nothing of it that waits (image_settle()).
enum rest_verdict rest_judge(const char *run_dir, const char *protection, const char *disk, int fd);
// Replaces the note by one that says nothing yet. Where it cannot be made, as in a run directory that is not in memory, there is none, and the older one is removed.
int rest_begin(struct rest *rest, const char *run_dir, const char *protection, const char *disk, int fd, struct err *err);
void rest_end(struct rest *rest); // the note stays as it is; takes a zeroed one

// Before each change of ours. Any thread.
static inline void rest_stir(struct rest *rest)
{
	if (!rest->page)
		return;
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME_COARSE, &now); // that of the files' times; no system call
	(void)atomic_fetch_add(&rest->page->stirs, 1);
	atomic_store_explicit(&rest->page->stirred_ns, now.tv_sec * INT64_C(1000000000) + now.tv_nsec, memory_order_relaxed);
	atomic_store_explicit(&rest->page->at_rest, 0, memory_order_seq_cst);
}

// Whether no change of ours was begun since the note says how it is. Of the thread that begins them.
static inline bool rest_lasts(const struct rest *rest)
{
	return rest->page && atomic_load_explicit(&rest->page->at_rest, memory_order_relaxed);
}

// A change of ours by another thread than that which begins the others, from here to rest_release(): meanwhile the note says of no rest.
static inline void rest_hold(struct rest *rest)
{
	(void)atomic_fetch_add(&rest->held, 1);
	rest_stir(rest);
}

static inline void rest_release(struct rest *rest)
{
	rest_stir(rest);
	(void)atomic_fetch_add(&rest->held, 1);
}

// When the newest change began: for rest_wrote(), once that write has ended well. Of the thread that began it, before it begins another.
static inline int64_t rest_stirred(const struct rest *rest)
{
	return rest->page ? atomic_load_explicit(&rest->page->stirred_ns, memory_order_relaxed) : 0;
}

// `alone`: none that this thread began is under way.
static inline void rest_wrote(struct rest *rest, int64_t stirred_ns, bool alone)
{
	if (!rest->page)
		return;
	atomic_store_explicit(&rest->page->written_ns, stirred_ns, memory_order_relaxed);
	uint32_t stirs = atomic_load(&rest->page->stirs);
	if (!alone || atomic_load(&rest->held) & 1) // who holds it counts first, and then stirs
		return;
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME, &now); // to the nanosecond: no change of ours has a later time
	atomic_store_explicit(&rest->page->ended_ns, now.tv_sec * INT64_C(1000000000) + now.tv_nsec, memory_order_relaxed);
	atomic_store_explicit(&rest->page->ended_stirs, stirs, memory_order_release);
}

// The file ends before the disk does, or did, or is another than it was left. Any thread.
static inline void rest_note_disturbed(struct rest *rest)
{
	if (rest->page)
		(void)atomic_fetch_add(&rest->page->disturbances, 1);
}

static inline uint32_t rest_disturbances(const struct rest *rest)
{
	return rest->page ? atomic_load(&rest->page->disturbances) : 0;
}

// The first so many are in the state files, durably.
static inline void rest_disturbances_told(struct rest *rest, uint32_t count)
{
	if (rest->page)
		atomic_store(&rest->page->disturbances_told, count);
}

// Whether a regular file, which is `st` just now, is another than the note says, although it is at rest (N1): so somebody else changed it, if only its owner or its names. Of the thread that
// begins the changes. A note that is found to differ says of no rest from then on, until rest_now().
bool rest_broken(struct rest *rest, const struct stat *st);
// No change is under way, as far as the caller knows, which is the only one to begin them; of a block device: a sync has ended that began after all of them.
void rest_now(struct rest *rest, int fd);
// For how long a change may leave the regular file with the times that it has, since those are whole seconds and this one is not over; 0: it may not, but for a step of the clock of
// files, 10 ms at most. A second at the most, and a little.
uint64_t rest_hidden_ns(const struct stat *st);

#endif
