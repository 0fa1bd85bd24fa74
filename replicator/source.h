// SPDX-License-Identifier: Apache-2.0
// What a cycle reads from: the disks of one protection and the record of what changed on them.
//
// Today the export (export.c: the agent is in the write path); later a live attach to a running QEMU. Nothing past this
// interface knows which it is. Calls come from the one cycle thread of the protection and may block it; they never
// block the guest beyond the hold of a cut.
//
//	cut ──► fetch/wait … until a batch is empty ──► cut again (pre-copy) … ──► keep        (the point is committed)
//	                                                                     └──► give_back   (it is not: all is dirty again)
//
// Between keep and keep the source remembers every block that left a dirty map through a cut: give_back marks those dirty
// again. So at every moment: what differs between image and last committed point is dirty, or in the cut's set, or remembered, or unproven: told as a hole and not read yet.
#ifndef KAGAMI_REPLICATOR_SOURCE_H
#define KAGAMI_REPLICATOR_SOURCE_H

#include "base/err.h"
#include "base/names.h"
#include "base/size.h"

#include <stdbool.h>
#include <stdint.h>

enum { SOURCE_BATCH_MAX = 64 }; // blocks in one batch: 4 MiB

enum cut_mode {
	CUT_PRECOPY, // blocks are read as they are when they are read
	CUT_POINT,   // blocks are read as they were at the cut: what the guest overwrites is preserved first
};

struct source_cut {
	int64_t wall_ns;      // of the instant
	uint64_t mono_ns;
	uint64_t hold_ns;     // how long new writes waited
	uint64_t dirty_bytes; // moved into the cut's set, in 4 KiB pieces
	uint64_t blocks;      // the same, in blocks
};

struct source_block {
	uint16_t disk;
	uint16_t mask; // pieces that may differ from the receiver's head
	uint64_t index;
	unsigned char *data; // BLOCK_SIZE bytes, zeros past the end of the disk; within the batch (NULL in one without memory)
};

// Filled by the source. The memory (SOURCE_BATCH_MAX blocks, page-aligned) is the batch's own.
struct source_batch {
	unsigned count; // 0: the set is exhausted
	int status;
	bool look; // by source_look(): the blocks stay in the set
	struct source_block block[SOURCE_BATCH_MAX];
	unsigned char *memory;
	void *private; // the source's, between fetch and wait
};
int source_batch_init(struct source_batch *batch);
void source_batch_done(struct source_batch *batch);

struct source_run {
	uint16_t disk;
	uint64_t first;
	uint64_t count; // at least 1
};

struct source_audited { // what was found in a run of blocks that a hole was told of
	uint64_t false_blocks; // not zero, and no guest wrote there: the file system was wrong
	uint64_t first;	       // of them
	uint64_t other_blocks; // not zero, by whatever came between: see audit.h, U3
};

struct source_ops;
struct source {
	const struct source_ops *ops;
	uint16_t disk_count;
	uint64_t disk_size[DISKS_MAX];
};

struct source_ops {
	int (*cut)(struct source *source, enum cut_mode mode, struct source_cut *ret_cut, struct err *err);
	int (*fetch)(struct source *source, struct source_batch *batch);
	int (*look)(struct source *source, struct source_batch *batch);
	uint64_t (*reach)(struct source *source, uint64_t blocks);
	void (*settle)(struct source *source, uint16_t disk, uint64_t first, uint64_t count, const unsigned char *unequal);
	unsigned (*holes)(struct source *source, struct source_run *runs, unsigned most, bool *ret_all);
	int (*read)(struct source *source, uint16_t disk, uint64_t first, unsigned count, void *data);
	int (*unreadable)(struct source *source, uint16_t disk, uint64_t first, int code, struct err *err);
	int (*wait)(struct source *source, struct source_batch *batch, struct err *err);
	int (*keep)(struct source *source, struct err *err);
	void (*give_back)(struct source *source);
	void (*mark_all)(struct source *source);
	void (*mark)(struct source *source, uint16_t disk, uint64_t off, uint64_t len);
	uint64_t (*dirty_bytes)(struct source *source);
	uint64_t (*served)(struct source *source); // NULL: nobody knows
	bool (*audit_next)(struct source *source, unsigned most, struct source_run *ret_run); // NULL, and those after it: no hole is ever told
	int (*audit_read)(struct source *source, uint16_t disk, uint64_t first, unsigned count, void *data);
	void (*audited)(struct source *source, const struct source_run *run, const unsigned char *unequal, struct source_audited *ret_audited);
	uint64_t (*unproven)(struct source *source, uint16_t disk, uint64_t region, unsigned char *units, uint64_t count);
};

// The instant, across all disks: holds new writes, lets those in flight finish, moves the dirty maps aside as the set,
// releases. A set that was not read to its end is remembered and the new one takes its place. -EIO when a disk failed; -EAGAIN when
// a disk hangs: the hold has a bound, nothing was moved, and a later cut may succeed.
static inline int source_cut(struct source *s, enum cut_mode mode, struct source_cut *ret_cut, struct err *err)
{
	return s->ops->cut(s, mode, ret_cut, err);
}

// Starts to fill `batch` with the next blocks of the set, and returns at once: first those that the source had to preserve
// until now, the oldest first, so that their room returns early; then in order of disk and index. Several batches may be under way; they are
// waited for in the order they were fetched.
static inline int source_fetch(struct source *s, struct source_batch *batch)
{
	return s->ops->fetch(s, batch);
}

// Waits for the batch. -ESTALE: the bound for preserved blocks was reached and the cut is given up; -EIO: a read failed.
// Either way the caller waits for its other batches and then gives back.
static inline int source_wait(struct source *s, struct source_batch *batch, struct err *err)
{
	return s->ops->wait(s, batch, err);
}

// A set of CUT_PRECOPY may be looked at before it is fetched. Both go forward, and looking is ahead: once anything was looked at or
// reached, fetch gives what is left before the place that was come to, and ends there.
//
// As source_fetch(), but the blocks stay in the set; their masks say nothing. A batch without memory names them only.
static inline int source_look(struct source *s, struct source_batch *batch)
{
	return s->ops->look(s, batch);
}

// Reads neighbouring blocks that were looked at, as they are now, zeros past the end of the disk. Any thread, several at once. What a guest writes
// meanwhile may be in it, in part too, and is dirty. A negative errno: then source_unreadable(), by the cycle thread.
static inline int source_read(struct source *s, uint16_t disk, uint64_t first, unsigned count, void *data)
{
	return s->ops->read(s, disk, first, count, data);
}

// A block could not be read, with `code`: notes it as one of source_wait(), and the cut comes to nothing. Returns -EIO.
static inline int source_unreadable(struct source *s, uint16_t disk, uint64_t first, int code, struct err *err)
{
	return s->ops->unreadable(s, disk, first, code, err);
}

// Goes forward by `blocks` of the set without looking. Returns how many there were: fewer at its end.
static inline uint64_t source_reach(struct source *s, uint64_t blocks)
{
	return s->ops->reach(s, blocks);
}

// Blocks that were looked at and are in the head as they were then leave the set: those of [first, first + count) whose bit in `unequal`
// (lowest first; NULL: none is set) is clear. As after a fetch they are remembered, and what was written since is dirty.
static inline void source_settle(struct source *s, uint16_t disk, uint64_t first, uint64_t count, const unsigned char *unequal)
{
	s->ops->settle(s, disk, first, count, unequal);
}

// Takes out of a set of CUT_PRECOPY runs of blocks that are zero, and known to be without reading: up to `most` of them, *ret_all when there
// are no more. They are remembered, and unproven until they are read.
static inline unsigned source_holes(struct source *s, struct source_run *runs, unsigned most, bool *ret_all)
{
	return s->ops->holes(s, runs, most, ret_all);
}

// The receiver has committed the point of this cut: syncs the images, forgets what was remembered, and from here on
// only what was dirtied after the cut is dirty. No batch may be under way. When the sync fails nothing is forgotten.
static inline int source_keep(struct source *s, struct err *err)
{
	return s->ops->keep(s, err);
}

// The cycle came to nothing: the set and everything remembered is dirty again (whole blocks). No batch may be under way.
static inline void source_give_back(struct source *s)
{
	s->ops->give_back(s);
}

// Everything is dirty: for a sync whose candidates are the whole disks.
static inline void source_mark_all(struct source *s)
{
	s->ops->mark_all(s);
}

// A range of a disk is dirty: what is past its end is ignored. Nothing is marked in a state file: for what will be told again.
static inline void source_mark(struct source *s, uint16_t disk, uint64_t off, uint64_t len)
{
	s->ops->mark(s, disk, off, len);
}

// How many requests of the guest there were so far, on all disks: whether it grew tells whether the guest uses them.
static inline uint64_t source_served(struct source *s)
{
	return s->ops->served ? s->ops->served(s) : 0;
}

// What source_holes() told is unproven until it was read (audit.h). At any time, by the cycle thread:
//
//	audit_next ──► audit_read of all of the run, or of its first units ──► audited
//
// The next run of unproven blocks, at most `most`; going round. Count 0: none was found in this turn. False: there are none.
static inline bool source_audit_next(struct source *s, unsigned most, struct source_run *ret_run)
{
	*ret_run = (struct source_run){.count = 0};
	return s->ops->audit_next && s->ops->audit_next(s, most, ret_run);
}

// As source_read(), but of what nobody else is about to read: it is not kept in the page cache.
static inline int source_audit_read(struct source *s, uint16_t disk, uint64_t first, unsigned count, void *data)
{
	return s->ops->audit_read(s, disk, first, count, data);
}

// The blocks of the run were read; those with a bit in `unequal` (lowest first) are not zero. What a guest wrote meanwhile does not count: it is dirty.
// The others are proven. Units with blocks that are not zero are dirty; with a false one their regions are, and no hole of their disk is told from here on.
static inline void source_audited(struct source *s, const struct source_run *run, const unsigned char *unequal, struct source_audited *ret_audited)
{
	s->ops->audited(s, run, unequal, ret_audited);
}

// Bytes of the disk that are unproven; stores the units (audit.h) of `count` regions from `region` on, unless that is 0.
static inline uint64_t source_unproven(struct source *s, uint16_t disk, uint64_t region, unsigned char *units, uint64_t count)
{
	return s->ops->unproven ? s->ops->unproven(s, disk, region, units, count) : 0;
}

// Dirty now, in 4 KiB pieces, all disks, without the set under way.
static inline uint64_t source_dirty_bytes(struct source *s)
{
	return s->ops->dirty_bytes(s);
}

#endif
