// SPDX-License-Identifier: Apache-2.0
// What the receiver knows of one protection over time: its ledger, whether its source is there, what that said last, how far their clocks are apart.
// From this come the events source-dark, clock, rpo-missed and rpo-kept. Pure, but for the events that it emits: time is an argument.
//
// The source being dark changes nothing: the ledger is fed by ticks, the age grows, and the cause is that nobody is there. Where it said goodbye, and there is no failover, no
// objective binds it: its ledger knows of no point until it is back, so that no age is counted, none is missed, and nobody is called dark.
#ifndef KAGAMI_RECEIVER_WATCHED_H
#define KAGAMI_RECEIVER_WATCHED_H

#include "base/allowance.h"
#include "format/wire.h"
#include "receiver/store.h"
#include "rpo/ledger.h"

#include <stdbool.h>
#include <stdint.h>

enum { WATCHED_DARK_SECONDS = 60 };
// That the source's clock is behind what it says of it is believed after so many reports on a quiet line, over at least so long; one that comes right
// after another does not count, since both waited together.
enum { WATCHED_BEHIND_REPORTS = 4, WATCHED_BEHIND_SECONDS = 60, WATCHED_BEHIND_PACE_S = 5 };
// What a source brings about is bounded, so that one that reports, reconnects or seals without end neither pushes the events of others out of the
// history nor keeps the disks busy: events of a protection, by kind, and reports.
enum { WATCHED_EVENTS_BURST = 30, WATCHED_EVENT_EACH_S = 300, WATCHED_REPORTS_BURST = 20, WATCHED_REPORT_EACH_S = 1 };

struct watched_now {
	uint64_t mono_ns;
	int64_t wall_ns;
};

struct watched_behind {
	int64_t believed_ns; // 0: it is what it says
	int64_t least_ns;    // of the stretch of reports under way
	uint64_t since_ns, newest_ns; // its first and its newest that counts
	unsigned reports;	      // that count: on a quiet line, at their pace
};

struct watched {
	char name[64];
	struct ledger ledger;
	struct replica_pulse pulse;
	bool connected;
	uint64_t since_ns; // of the present `connected`, monotonic
	bool reported;	   // in this session
	struct wire_report report; // the newest; what it said before it went stands
	bool clock_known;
	int64_t clock_offset_ns; // our clock less the source's
	uint64_t clock_error_ns;
	int64_t own_steps_ns; // our own clock was set ahead by so much in this session, which what the source reports has not in it
	struct watched_behind behind;
	bool dark_told, clock_told;
	struct allowance reports;
	struct allowance comings, clocks, objectives; // events: of sessions, of clocks, rpo-missed and rpo-kept
	uint64_t left_out;			      // events, since one was told
	bool known; // the ledger has heard which point is the newest
	unsigned cause;
};

// From what the age of any point is known, at one instant. Of an instant of which only our clock is known, the rest is 0.
struct watched_ages {
	int64_t wall_ns;      // our clock then
	int64_t offset_ns;    // ours less the source's; 0 while it is not known
	uint64_t newest;      // the point whose age the ledger has; 0: none
	int64_t newest_cut_wall_ns; // by the source's clock
	uint64_t newest_age_ms;
};

// How old the cut of point `number` is, which is by the source's clock: the newest's age, and what lies between their cuts; of one that the ledger has not heard
// of, cut + offset. Never less than the newest's for one before it. Pure; for any values.
uint64_t watched_age_ms(const struct watched_ages *ages, uint64_t number, int64_t cut_wall_ns);

// `ledger` of it is set by the caller: begun, or loaded and resumed. A source that was paused when it was saved is so still, until it is back.
void watched_init(struct watched *watched, const char *name, const struct watched_now *now);
void watched_connected(struct watched *watched, const struct watched_now *now, int64_t their_wall_ns); // at HELLO
void watched_disconnected(struct watched *watched, const struct watched_now *now);
// False: it came too soon after those before it, and changed nothing.
bool watched_report(struct watched *watched, const struct watched_now *now, const struct wire_report *report);
// Point `number` was committed just now.
void watched_committed(struct watched *watched, const struct watched_now *now, uint64_t number, int64_t cut_wall_ns, uint64_t dirty_bytes,
		       uint64_t wire_bytes);
// Whether an event of a session that came or went may be told now.
bool watched_may_tell(struct watched *watched, const struct watched_now *now);
// As of the newest call.
struct watched_ages watched_ages(const struct watched *watched, const struct watched_now *now);
// What the source is told of our clock: docs/protocol.md, TIME.
struct wire_time watched_time(struct watched *watched, const struct watched_now *now);
// Its source said goodbye just now, and it was news.
void watched_goodbye(struct watched *watched, const struct watched_now *now);
// At least every 10 s. `pulse` NULL: the replica is busy, and is as it was.
void watched_tick(struct watched *watched, const struct watched_now *now, const struct replica_pulse *pulse);

#endif
