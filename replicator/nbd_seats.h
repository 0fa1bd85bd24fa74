// SPDX-License-Identifier: Apache-2.0
// Who is connected over TCP, so that nobody keeps others out by saying nothing. Pure: time is an argument, and the lock the caller's.
//
//	take ─► STRANGER ──certificate──► KNOWN ──disk──► ATTACHED ──┐
//	           └──────────┬─────────────┘                        ├──left──► LEFT ──free──► FREE
//	                  its place is given to another: GOING ──────┘
//
// T1 At most NBD_SEATS_WAITING_MAX are strangers or known. For the next one the stranger goes that came first; where there is none, the known one that is known for longest.
// T2 Whoever comes has NBD_SEAT_LEAST_MS. So long the next one waits before it is accepted: else those who come back as soon as they are ended would leave nobody the
//    time to show a certificate.
// T3 Who has a disk is never ended for another. At most NBD_SEATS_ATTACHED_MAX have one; the next one is refused.
#ifndef KAGAMI_REPLICATOR_NBD_SEATS_H
#define KAGAMI_REPLICATOR_NBD_SEATS_H

#include "base/allowance.h"

#include <stdbool.h>
#include <stdint.h>

enum { NBD_SEATS_ATTACHED_MAX = 256, NBD_SEATS_WAITING_MAX = 64, NBD_SEATS = NBD_SEATS_ATTACHED_MAX + 2 * NBD_SEATS_WAITING_MAX }; // as many again may be going
enum { NBD_SEAT_LEAST_MS = 1000, NBD_SEATS_PAUSE_MS = 100 };

enum nbd_seat_stage { NBD_SEAT_FREE, NBD_SEAT_STRANGER, NBD_SEAT_KNOWN, NBD_SEAT_ATTACHED, NBD_SEAT_GOING, NBD_SEAT_LEFT };

struct nbd_seat {
	enum nbd_seat_stage stage;
	int64_t since_ms; // it is at this stage
};

struct nbd_seats { // all zeros: free
	struct nbd_seat seat[NBD_SEATS];
};

// For how long the next one has to wait (T2, and where all who go have not gone yet); 0: there is a seat for it.
int nbd_seats_wait_ms(const struct nbd_seats *seats, int64_t now_ms);
// Once there is none to wait for: its seat. *ret_going: the one that goes for it, whose connection the caller ends; -1: none.
unsigned nbd_seats_take(struct nbd_seats *seats, int64_t now_ms, int *ret_going);
// It has shown its certificate. -ECANCELED: its place was given to another.
int nbd_seats_known(struct nbd_seats *seats, unsigned seat, int64_t now_ms);
// It has chosen a disk. -ECANCELED as above; -EUSERS: there are as many as there may be.
int nbd_seats_attach(struct nbd_seats *seats, unsigned seat, int64_t now_ms);
void nbd_seats_left(struct nbd_seats *seats, unsigned seat); // its connection is closed
void nbd_seats_free(struct nbd_seats *seats, unsigned seat); // and nothing of it is left

// What strangers bring about is logged a few times at once, and then once each so often.
enum { NBD_WORD_BURST = 5, NBD_WORD_EACH_S = 12 };
struct nbd_word { // all zeros: nothing was said
	struct allowance allowance;
	unsigned left_out;
};
// Whether it may be said now. *ret_left_out: how often it was not, since it was the last time.
bool nbd_word_may(struct nbd_word *word, uint64_t now_ns, unsigned *ret_left_out);

#endif
