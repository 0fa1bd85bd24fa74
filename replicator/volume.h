// SPDX-License-Identifier: Apache-2.0
// One disk in the guest's write path: a state machine without threads, clocks or system calls.
//
// A request that changes the disk passes these, in this order:
//
//	intent      waits until the marks of its regions are durable in the state file (intent.h)
//	gate        held while a cut is being taken (group.c)
//	mark        its pieces are dirty from here on (V1: before anything reaches the image)
//	preserve    blocks of the cut's set that it overwrites are saved first, or it waits until they were read
//	image       written; only then it no longer counts as in flight (V2: a cut sees all of it or nothing; a client's write
//			of more than 64 KiB is several requests here, client_request.c; and V4)
//	sync        with FUA
//
// V3: a write or sync of the image that failed for good (anything but a want of space, of which the guest is told before it
// relied on anything) is latched: every later sync of this disk fails, and so does every cut, also after a restart (failed_note.h). Only its operator ends it
// (export_clear_error()).
//
// V4: of a TRIM or ZERO at most 32 MiB pass the gate at once, and of zeros that are written 256 KiB: whatever the image makes of it, no cut waits for 4 GiB
// of them. The marks of all of it are asked for at once. A cut between two parts sees the first and not the second, as it may of what is not answered; a part that
// fails is the end of it.
#ifndef KAGAMI_REPLICATOR_VOLUME_H
#define KAGAMI_REPLICATOR_VOLUME_H

#include "replicator/aio.h"
#include "replicator/audit.h"
#include "replicator/dirty.h"
#include "replicator/intent.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct group;
struct volume;

enum volume_command { VOLUME_READ, VOLUME_WRITE, VOLUME_TRIM, VOLUME_ZERO, VOLUME_FLUSH, VOLUME_CACHE };

enum { VOLUME_CACHE_MAX = 32 << 20 }; // of one CACHE: what goes beyond is not read ahead

// Waits for a sync that begins after the call; then `done`.
struct volume_sync {
	void (*done)(struct volume_sync *sync, int res);
	struct volume_sync *next;
};

// The caller's memory until `done`, which may be called from within volume_submit(). The range lies within the disk and is not
// empty (but for FLUSH).
struct volume_request {
	enum volume_command command;
	bool fua;
	bool no_hole; // ZERO: keep the space
	bool fast;    // ZERO: -EOPNOTSUPP rather than writing zeros, of which nothing was done
	bool counted; // in the statistics: it is a part of what volume_count_write() was told
	uint64_t off, len;
	void *data; // READ, WRITE
	bool *told; // of a part of a write: whether an error of one of the parts was told; NULL: it is no part
	const int *pipe; // WRITE: not NULL where the data is in this pipe instead, all of it
	void (*done)(struct volume_request *request, int res);

	struct volume *volume; // from here on the volume's own
	struct volume_request *next;
	uint64_t from, part; // what comes before was done; so much of the rest has passed the gate
	bool apart;	     // TRIM, ZERO: what begins or ends within a page is done by itself
	bool by_writes;	     // ZERO: zeros are written
	uint64_t at; // the next block to look at
	bool saving; // all that had to be saved is being saved, or is
	uint64_t save_at; // the next block of which nothing was begun to be saved
	bool alone; // TRIM, ZERO: nothing that fills was under way when it came
	uint64_t fillings; // of the volume, then
	unsigned era; // of the volume, when it passed the gate
	struct aio aio;
	struct volume_sync sync;
};

// Written by the loop thread, read by any.
struct volume_stats {
	_Atomic uint64_t reads, writes, flushes, trims, zeroes;
	_Atomic uint64_t read_bytes, written_bytes;
};

struct volume {
	struct group *group;
	struct aio_backend *backend;
	uint64_t size;
	struct dirty dirty;	// since the last cut
	struct dirty set;	// of the cut: not read yet
	uint64_t *remembered;	// a bit per block that left through cuts since the last keep; a word is a region
	bool remembered_any;
	uint64_t unsynced;	// blocks that were forgotten by keeps that synced nothing, since the last one that did
	struct audit_map audit;	// what was told as a hole, and has not been read yet
	struct intent_map intent;
	uint64_t preserved;	// bytes of this disk whose old content is in memory, or in the spill file
	uint64_t spilled;	// those with a place in the file
	int failed;		// the latched error, or 0
	// Writes past the gate and not done on the image, by the era they began in. The era changes when a cut was given up for
	// them: as long as one of the era before is left, the disk is stalled, since `stalled_ns` at the latest.
	uint64_t writing[2];
	unsigned era;
	uint64_t stalled_ns; // 0: it is not
	struct volume_sync *sync_next, **sync_next_end; // wait for the next sync
	struct volume_sync *sync_now;			// wait for the one under way
	struct aio sync_aio;
	bool syncing;
	uint64_t fillings, filling; // requests that put data there or may: so many came, so many are under way
	struct volume_stats stats;
};

int volume_init(struct volume *volume, struct group *group, struct aio_backend *backend, uint64_t size); // -ENOMEM
void volume_done(struct volume *volume);
// Makes the disk larger; the new range is dirty, and counts as marked. No cut is open. -ENOMEM: as it was.
int volume_grow(struct volume *volume, uint64_t size);

void volume_submit(struct volume *volume, struct volume_request *request);
// A read that the caller does by itself, from the image as it is now: reads wait for nothing.
void volume_count_read(struct volume *volume, uint64_t len);
// A write that comes as several requests, which say `counted`.
void volume_count_write(struct volume *volume, uint64_t len);
void volume_sync(struct volume *volume, struct volume_sync *sync);
// A sync of the image that was not of ours failed with `code`: V3 holds for it as well.
void volume_unsynced(struct volume *volume, int code);

// For group.c: a request of one's own past the gate, and past what it waited for.
void volume_admitted(struct volume_request *request);
void volume_continue(struct volume_request *request);
// The writes in flight have been so since `since_ns` (not 0), and are not waited for any longer.
void volume_stall(struct volume *volume, uint64_t since_ns);

void volume_remember(struct volume *volume, uint64_t index);
void volume_remember_region(struct volume *volume, uint64_t region); // its blocks in the set
void volume_remember_set(struct volume *volume); // moves the rest of the set to what is remembered
void volume_kept(struct volume *volume, bool synced); // what is remembered is in a point, and with `synced` on stable storage: forgets it
void volume_give_back(struct volume *volume); // remembered and set become dirty
uint16_t volume_pieces(const struct volume *volume, uint64_t index); // a bit for each piece of the block that the disk has
// Bytes of the maps and marks, as malloc has them: at most 64 MiB a TiB (docs/architecture.md). Loop thread.
uint64_t volume_memory(const struct volume *volume);

#endif
