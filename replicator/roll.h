// SPDX-License-Identifier: Apache-2.0
// The exports of the agent, so that a stop can end them whatever else hangs: no lock of a protection or of the agent is needed for it.
//
//	opened ──roll_enter──► serves ──roll_write_out──► serves, and its images are synced ──roll_end──► ends ──roll_ended──► ended ──roll_leave──► closed
//
// Any thread; the roll outlives its entries.
#ifndef KAGAMI_REPLICATOR_ROLL_H
#define KAGAMI_REPLICATOR_ROLL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct roll_entry { // of one export, which fills in the first seven
	const char *protection;
	void (*write_out)(struct roll_entry *entry); // export_write_out(); NULL: nothing is to be
	bool (*writes_out)(struct roll_entry *entry, uint64_t *pieces); // export_writes_out()
	void (*end)(struct roll_entry *entry);	   // asks for it, and returns at once; called again, it does nothing
	void (*abandon)(struct roll_entry *entry); // the process is about to end without closing it: what others would wait for is given up
	uint64_t (*pieces)(struct roll_entry *entry); // of syncs, that have ended so far; NULL: nobody counts them
	uint64_t (*owes)(struct roll_entry *entry); // how much its last sync still has to write, in pages, as far as is known; NULL: it is not
	bool ended;				   // the rest is the roll's
	struct roll *roll;
	struct roll_entry *next;
};

struct roll {
	pthread_mutex_t lock;
	struct roll_entry *first;
	uint64_t moves;
};

#define ROLL_INITIALIZER {.lock = PTHREAD_MUTEX_INITIALIZER}

void roll_enter(struct roll *roll, struct roll_entry *entry);
void roll_leave(struct roll_entry *entry); // one that never entered, too
void roll_ended(struct roll_entry *entry); // the guest was served to the end, and its images were synced as far as they could be
unsigned roll_count(struct roll *roll); // of those that were not closed; NULL counts as one
// A step of the stop was done. Takes NULL.
void roll_move(struct roll *roll);
uint64_t roll_moves(struct roll *roll); // changes with each of them, and with each piece of a sync that ends
uint64_t roll_owes(struct roll *roll); // by all that have not ended
void roll_write_out(struct roll *roll); // every export is to bring to the disks what guests have written since
bool roll_writes_out(struct roll *roll, uint64_t *ret_pieces); // whether one has much of that yet, and a number that stays as long as none of those goes on
void roll_end(struct roll *roll);	// every export is to end
// Calls `left` for each that has not been closed.
void roll_each(struct roll *roll, void (*left)(struct roll_entry *entry));

#endif
