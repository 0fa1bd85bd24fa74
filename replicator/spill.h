// SPDX-License-Identifier: Apache-2.0
// Where preserved pieces go when the memory for them is used up: a file without a name, of bounded size.
//
//	SAVING ──old content read──► SPILLING ──written to the file──► SPILLED ──► a batch reads it back
//	   └─ the guest's write waits ───────────┘
//
// A spilled run has a buffer only on its way: at most SPILL_TRANSIT_MAX of them; a write that finds none waits for one.
// Places in the file are given out in turn; all are free again when none is used. There are SPILL_RUNS_MAX at most, each costs 272 bytes of memory with its
// block; by SPILL_PIECES, which a run has where that many are not saved yet, they fill 1 GiB.
// S1: when the file is full, or fails, or does not answer (export_loop.c), the cut is given up, never the guest (G3).
#ifndef KAGAMI_REPLICATOR_SPILL_H
#define KAGAMI_REPLICATOR_SPILL_H

#include "replicator/aio.h"

#include <stdbool.h>
#include <stdint.h>

enum { SPILL_TRANSIT_MAX = 64, SPILL_RUNS_MAX = 1 << 16, SPILL_PIECES = 4 }; // in transit: 4 MiB

struct group;
struct preserve_run;
struct volume_request;

struct spill {
	struct aio_backend *backend; // NULL: there is none
	uint64_t bytes_max;
	uint64_t used;	  // where the next place is
	uint64_t runs;	  // places in use
	unsigned transit; // buffers on their way
	uint64_t ended;	  // that came back since the start
	bool punching;
	struct aio punch;
	struct volume_request *short_of, **short_of_end; // wait for a buffer
};

enum spill_room { SPILL_ROOM, SPILL_WAIT, SPILL_FULL };

void spill_init(struct spill *spill, struct aio_backend *backend, uint64_t bytes_max);
// How much of `most` bytes the file may take on a file system of `size` bytes, beside what it has `taken` already: its part of what is `free`, of which 64 MiB, or an
// eighth of the file system where that is less, are left to others. `files`: how many such files there may be.
uint64_t spill_bytes_most(uint64_t most, uint64_t size, uint64_t free, uint64_t taken, unsigned files);
enum spill_room spill_room(struct spill *spill, uint64_t len); // for a run of `len` bytes
void spill_wait(struct spill *spill, struct volume_request *request); // for SPILL_WAIT: woken with the next buffer that is free
// Gives the run, just made, its place. SPILL_ROOM was answered.
void spill_place(struct spill *spill, struct preserve_run *run);
// The run's old content is in its buffer: writes it. The run becomes SPILLED, or the cut is given up.
void spill_write(struct group *group, struct preserve_run *run);
void spill_buffer_free(struct spill *spill, struct preserve_run *run);
void spill_leave(struct spill *spill); // a place is not used any more
void spill_trim(struct spill *spill);  // the cut is over: gives the space back
struct volume_request *spill_take_waiters(struct spill *spill);
void spill_wake(struct group *group); // those who wait for a buffer, in order, for as many as there are

#endif
