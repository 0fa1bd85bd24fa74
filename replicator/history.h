// SPDX-License-Identifier: Apache-2.0
// How much of a protection's disks becomes dirty in stretches of 1, 2, 4, … s up to a day and a half: the union, so what is written twice in a
// stretch counts once. And what follows from it for another RPO. Pure; fixed size.
//
// Up to the time between two cuts it is measured: the dirty maps begin empty at a cut, so what they hold so long after it is the union of
// that stretch, and the cycle thread notes it when the stretch ends. It costs the guest's writes nothing. Longer stretches follow the
// power law of the two longest measured ones, never steeper than in proportion to time, and never more than the disks hold. A measured one with
// clearly less than a shorter one is of a quieter time, and left out.
#ifndef KAGAMI_REPLICATOR_HISTORY_H
#define KAGAMI_REPLICATOR_HISTORY_H

#include "base/env.h"
#include "base/err.h"
#include "replicator/last_cycle.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { HISTORY_STRETCHES = 18 }; // 2^0 to 2^17 s

struct history {
	struct history_stretch {
		uint64_t samples;
		uint64_t mean_bytes; // the newest sample counts for a sixteenth
		uint64_t most_bytes; // of late: decays by a 64th with each sample
	} stretch[HISTORY_STRETCHES];
	uint64_t cycles;      // that the following are means of; the newest counts for a quarter
	uint64_t wire_ppm;    // bytes on the wire for a million dirty ones
	uint64_t marked_ppm;  // bytes of marked regions for a million dirty ones
};

uint64_t history_stretch_ns(unsigned stretch);
void history_see(struct history *history, unsigned stretch, uint64_t dirty_bytes);
void history_cycle(struct history *history, uint64_t dirty_bytes, uint64_t wire_bytes, uint64_t marked_bytes);
// Expected in a stretch of any length; 0 when nothing was seen. *ret_measured: it lies within what was measured.
uint64_t history_bytes(const struct history *history, uint64_t ns, uint64_t disk_bytes, bool *ret_measured);

struct what_if_setting {
	uint64_t rate;	   // dirty bytes a second that the line takes, as measured; 0: not known
	uint64_t fixed_ns; // of a cycle with little
	uint64_t disk_bytes, points_keep;
};
struct what_if {
	uint64_t rpo_ns;
	bool kept;	      // by the present line
	bool measured;	      // the stretch between its cuts is within what was seen
	uint64_t interval_ns; // between cuts
	uint64_t delta_bytes; // dirty at a cut
	uint64_t delta_wire_bytes, transfer_ns;
	uint64_t rate_needed; // dirty bytes a second, to keep it at all
	uint64_t day_wire_bytes;
	uint64_t retention_bytes; // of all points that are kept, at the most
	uint64_t crash_bytes;	  // to be read again after a crash, at the end of such a stretch
};
// Of the stretch of which there are most; 0: nothing was seen yet. Beside other work that is not always the shortest.
uint64_t history_samples(const struct history *history);
void history_what_if(const struct history *history, const struct what_if_setting *setting, uint64_t rpo_ns, struct what_if *ret_what_if);
// The smallest RPO from 1 s to 24 h, to a sixteenth, from which on every one is kept; 0: none is, or no cycle has shown the rate.
uint64_t history_smallest_rpo(const struct history *history, const struct what_if_setting *setting);

// STATE/protections/<name>/history.json, replaced as a whole, with what is told of the newest cycle (point 0: none). What is damaged or absent is an empty
// history, and no cycle: nothing depends on it.
int history_load(struct env_root *state, const char *protection, struct history *ret_history, struct last_cycle *ret_last, struct err *err);
int history_save(struct env_root *state, const char *protection, const struct history *history, const struct last_cycle *last, struct err *err);

#endif
