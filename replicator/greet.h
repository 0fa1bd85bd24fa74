// SPDX-License-Identifier: Apache-2.0
// The first words of a connection, from the source's side: versions, and which protection from which state.
#ifndef KAGAMI_REPLICATOR_GREET_H
#define KAGAMI_REPLICATOR_GREET_H

#include "base/env.h"
#include "base/err.h"
#include "link/channel.h"

// Exchanges HELLO. -EPROTONOSUPPORT when the majors differ.
int greet(struct channel *channel, struct wire_hello *ret_theirs, struct err *err);

// Before greet_open(): it is to find seeds, or nothing begins (ERROR seed). -EPROTONOSUPPORT.
int greet_seeded(struct channel *channel, const struct wire_hello *theirs, struct err *err);
// How far the receiver's clock is ahead of ours, and by how much that may be wrong: docs/protocol.md, "Clocks".
struct greet_clock {
	int64_t offset_ns; // within WIRE_CLOCK_OFFSET_MAX
	uint64_t error_ns; // at most that
};
// From our clock when HELLO left, the time until theirs came, and theirs. Pure; for any values.
struct greet_clock greet_clock_of(int64_t sent_wall_ns, uint64_t round_trip_ns, int64_t their_wall_ns);
// The offset after our clock was set ahead by so much. Pure; for any values.
int64_t greet_offset_less(int64_t offset_ns, int64_t step_ms);
// What is known after a measure `again` of an open session, beside `known`, which both clocks' steps are in: docs/protocol.md, "Clocks". Pure.
struct greet_clock greet_clock_better(struct greet_clock known, struct greet_clock again);
// As greet(), with the clocks of `env`.
int greet_clocks(struct channel *channel, struct env *env, struct wire_hello *ret_theirs, struct greet_clock *ret_clock, struct err *err);

// Sends OPEN and takes OPENED, and DAMAGED and DOUBTED when `theirs` announced them: what they name are disks of `open`. -EREMOTEIO with *ret_failure
// filled when the receiver refuses.
int greet_open(struct channel *channel, const struct wire_hello *theirs, const struct wire_open *open, struct wire_opened *ret_opened,
	       struct wire_damaged *ret_damaged, struct wire_doubted *ret_doubted, struct wire_failure *ret_failure, struct err *err);

#endif
