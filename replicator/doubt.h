// SPDX-License-Identifier: Apache-2.0
// What this process cannot tell its successor, told to the receiver: the tracking of a disk is lost (docs/format-state.md, "Told to the
// receiver"). And what the receiver says of processes before this one.
//
//	lost ──doubt_raise()──► untold ──DOUBT, DOUBTED──► told		D4: where the state file says it, not before doubt_hear()
//	                          └─ a try failed: again after 1 s doubling to 30 s, as long as this process lives
//
// D1 (B1): a write whose mark is in no state file is issued after the receiver knows that, or after it is known that it cannot be told now,
//    or after DOUBT_WAIT_MS: the guest comes first.
// D2 (B1): of a disk that is in doubt when the first session of this process opens, every piece is dirty, and was since.
// D3: a disk is called certain only while its tracking is sound, and by the name of a doubt that this process was told of; a later one has
//    another name, whichever connection was quicker.
// D4 (B5): what the state file says already is told after the first session has heard of others' doubts. The receiver's word for a disk does not tell who doubted it, or that two did:
//    told before, it would pass for an older one, and all of the disk be compared for what this process's maps have. What the file could not say is told at once (D1), and is compared.
//
// A connection of its own carries DOUBT: the session's may wait for the state directory, or for a commit. Threads: any, but where it says so.
#ifndef KAGAMI_REPLICATOR_DOUBT_H
#define KAGAMI_REPLICATOR_DOUBT_H

#include "base/err.h"
#include "format/wire.h"
#include "link/channel.h"
#include "replicator/schedule.h"
#include "replicator/site.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { DOUBT_WAIT_MS = 5000 }; // as long as a commit of marks may take

struct protection;

struct doubt {
	// The cycle thread's own:
	uint64_t whole;		      // disks of which every piece was dirty since the start

	pthread_mutex_t lock; // over the rest; none is taken inside
	pthread_cond_t changed;
	bool running, stop, woken;
	bool heard;		      // a session was open
	struct wire_doubted receiver; // as it was told when the session opened
	uint64_t stands;	      // disks of it, until a point with its CERTAIN is committed
	uint64_t lost, told;	      // disks; told: durable at the receiver
	uint64_t in_file;	      // of those that are lost: their state files said so before
	uint64_t failures;   // tries that came to nothing
	char why[ERR_TEXT_MAX]; // the newest of them did; "" when all is told
	struct backoff backoff;
	bool site_known;
	struct site site;	 // as it is now: the state directory may not say it when it is needed
	struct channel *channel; // of the try under way; others may only abort it
};

void doubt_init(struct protection *p);
void doubt_done(struct protection *p);
int doubt_start(struct protection *p); // the thread; a negative errno
void doubt_stop(struct protection *p); // does nothing when it was not started
void doubt_set_site(struct protection *p, const struct site *site);
bool doubt_site(struct protection *p, struct site *ret_site); // as it was last set; false: it never was

// The tracking of the disk is lost. `in_file`: its state file says so, or is gone, durably.
void doubt_raise(struct protection *p, unsigned disk, bool in_file);
// Waits until the receiver knows, a try to tell it has failed, or DOUBT_WAIT_MS are over (D1). Whether it knows.
bool doubt_wait(struct protection *p, unsigned disk);
bool doubt_told(struct protection *p, unsigned disk);
// Why the receiver does not know; "" when it does, or nothing is lost.
void doubt_why(struct protection *p, char why[ERR_TEXT_MAX]);

// Cycle thread. A session is open, and the receiver doubts these disks: which of them have to be compared as a whole (D2).
uint64_t doubt_hear(struct protection *p, const struct wire_doubted *doubted);
// Which disks the next SEAL makes certain, and of which doubt (D3).
struct wire_doubted doubt_certain(struct protection *p);
// The point of that SEAL is committed.
void doubt_committed(struct protection *p);
// Which disks the receiver doubts, as far as it said so: a start would have to compare all of them. Any thread.
uint64_t doubt_stands(struct protection *p);

// The thread itself, and what of it protection_wait.c has: with another implementation in the simulation of the tests.
void *doubt_thread(void *protection);
int doubt_thread_start(struct protection *p);
void doubt_thread_join(struct protection *p);
void doubt_sleep(struct protection *p, uint64_t until_ns); // until then, or until doubt_wake()
void doubt_wake(struct protection *p);			    // with the lock held: the thread, and whoever waits
// With the lock held: gives it up until then, or until doubt_wake(). False: nobody can wait here, who is on the thread of all.
bool doubt_pause(struct protection *p, uint64_t until_ns);

#endif
