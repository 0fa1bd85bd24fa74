// SPDX-License-Identifier: Apache-2.0
// By which of two ways large cached reads leave on a connection: found out by trying. Pure: the caller tells what is asked for, and when.
//
//	in place: page cache ─────────────► socket ─► client     nothing is copied here, and the client copies from the page cache
//	copied:   page cache ─► our buffer ─► socket ─► client    a copy more, and what the client copies from is in the processor's cache
//
// In place costs us half. But a processor may copy several times slower to a place that lies a few bytes behind that of the source within its
// page, as buffers of malloc() do behind pages of a file (AMD's Zen 3, with the kernel's `rep movsb`): the client's one thread pays that, and nobody
// here sees its addresses. So both ways are tried now and then, by turns, and the one by which more was asked for stays.
//
//	rest ──so many bytes later──► trial: SEND_TRIAL_WINDOWS windows, the other way first, in turns ──the better one──► rest, twice as long
//
// A window begins when what was under way before it has left, and adds up the times from one read to the next. Of the windows of one way the quickest counts:
// whatever else goes on makes them longer.
//
// S1: the way changes which bytes are copied, never which are sent. S2: a rest of the client, SEND_GAP_NS and more between two reads, is in no window.
#ifndef KAGAMI_REPLICATOR_SEND_WAY_H
#define KAGAMI_REPLICATOR_SEND_WAY_H

#include <stdbool.h>
#include <stdint.h>

enum send_by { SEND_IN_PLACE, SEND_COPIED, SEND_WAYS };
enum {
	SEND_TRIAL_WINDOWS = 4,
	SEND_SETTLE_BYTES = 4 << 20, // besides what is under way
	SEND_WINDOW_BYTES = 8 << 20, // at least, and
	SEND_WINDOW_DEPTHS = 4,	     // times what is under way; and
	SEND_WINDOW_READS = 8,
	SEND_FIRST_REST = 16 << 20,
	SEND_GAP_NS = 20 * 1000 * 1000, // and what all that is under way takes a client that is slow
	SEND_GAP_NS_PER_BYTE = 2,
	SEND_MARGIN_PERCENT = 10, // that copies are to be better by
};
#define SEND_REST_MIN (UINT64_C(2) << 30)
#define SEND_REST_MAX (UINT64_C(32) << 30)

// Zeros: in place, and a trial soon.
struct send_way {
	enum send_by better, now;
	unsigned windows;	// that the trial still has; 0: rest
	uint64_t rest;		// how long the last one was; 0: the first
	uint64_t passed;	// bytes of the rest, or of what settles before the window
	uint64_t depth;		// the most that was under way since the trial began
	uint64_t bytes, ns;	// of the window, so far
	unsigned reads;
	uint64_t last_ns, last_len;
	uint64_t best[SEND_WAYS]; // nanoseconds for 1 MiB; UINT64_MAX: not seen
};

// A large cached read of `len` bytes is asked for at now_ns, which does not go back, while `under_way` bytes of the connection are. How it is to leave.
enum send_by send_way_next(struct send_way *way, uint64_t len, uint64_t under_way, uint64_t now_ns);

// Whether it is to be copied, as far as is known, and no trial is under way: then nobody needs to know whether it is cached.
static inline bool send_way_rests_copied(const struct send_way *way)
{
	return way->better == SEND_COPIED && !way->windows;
}

#endif
