// SPDX-License-Identifier: Apache-2.0
#include "replicator/nbd_seats.h"

#include <assert.h>
#include <errno.h>

static unsigned count(const struct nbd_seats *seats, enum nbd_seat_stage stage)
{
	unsigned n = 0;
	for (unsigned i = 0; i < NBD_SEATS; i++)
		n += seats->seat[i].stage == stage;
	return n;
}

// -1: none.
static int longest(const struct nbd_seats *seats, enum nbd_seat_stage stage)
{
	int found = -1;
	for (int i = 0; i < NBD_SEATS; i++)
		if (seats->seat[i].stage == stage && (found < 0 || seats->seat[i].since_ms < seats->seat[found].since_ms))
			found = i;
	return found;
}

// Who goes for the next one (T1); -1: there is a place without that.
static int who_goes(const struct nbd_seats *seats)
{
	if (count(seats, NBD_SEAT_STRANGER) + count(seats, NBD_SEAT_KNOWN) < NBD_SEATS_WAITING_MAX)
		return -1;
	int stranger = longest(seats, NBD_SEAT_STRANGER);
	return stranger >= 0 ? stranger : longest(seats, NBD_SEAT_KNOWN);
}

int nbd_seats_wait_ms(const struct nbd_seats *seats, int64_t now_ms)
{
	int goes = who_goes(seats);
	int64_t had_ms = goes < 0 ? NBD_SEAT_LEAST_MS : now_ms - seats->seat[goes].since_ms;
	if (had_ms < NBD_SEAT_LEAST_MS) // T2
		return (int)(NBD_SEAT_LEAST_MS - had_ms);
	return longest(seats, NBD_SEAT_FREE) < 0 ? NBD_SEATS_PAUSE_MS : 0;
}

static void enter(struct nbd_seats *seats, unsigned seat, enum nbd_seat_stage stage, int64_t now_ms)
{
	seats->seat[seat] = (struct nbd_seat){.stage = stage, .since_ms = now_ms};
}

unsigned nbd_seats_take(struct nbd_seats *seats, int64_t now_ms, int *ret_going)
{
	int seat = longest(seats, NBD_SEAT_FREE);
	assert(seat >= 0);
	*ret_going = who_goes(seats);
	if (*ret_going >= 0)
		enter(seats, (unsigned)*ret_going, NBD_SEAT_GOING, now_ms);
	enter(seats, (unsigned)seat, NBD_SEAT_STRANGER, now_ms);
	return (unsigned)seat;
}

int nbd_seats_known(struct nbd_seats *seats, unsigned seat, int64_t now_ms)
{
	if (seats->seat[seat].stage == NBD_SEAT_GOING)
		return -ECANCELED;
	enter(seats, seat, NBD_SEAT_KNOWN, now_ms);
	return 0;
}

int nbd_seats_attach(struct nbd_seats *seats, unsigned seat, int64_t now_ms)
{
	if (seats->seat[seat].stage == NBD_SEAT_GOING)
		return -ECANCELED;
	if (count(seats, NBD_SEAT_ATTACHED) >= NBD_SEATS_ATTACHED_MAX)
		return -EUSERS;
	enter(seats, seat, NBD_SEAT_ATTACHED, now_ms);
	return 0;
}

void nbd_seats_left(struct nbd_seats *seats, unsigned seat)
{
	seats->seat[seat].stage = NBD_SEAT_LEFT;
}

void nbd_seats_free(struct nbd_seats *seats, unsigned seat)
{
	seats->seat[seat] = (struct nbd_seat){.stage = NBD_SEAT_FREE};
}

bool nbd_word_may(struct nbd_word *word, uint64_t now_ns, unsigned *ret_left_out)
{
	if (!allowance_take(&word->allowance, now_ns, NBD_WORD_EACH_S * UINT64_C(1000000000), NBD_WORD_BURST)) {
		word->left_out++;
		return false;
	}
	*ret_left_out = word->left_out;
	word->left_out = 0;
	return true;
}
