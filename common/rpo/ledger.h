// SPDX-License-Identifier: Apache-2.0
// The ledger: how old a protection's newest point was, and why, over two hours, eight days, and every miss.
//
//	ledger_init() or ledger_file_load(), which ends with ledger_resume()
//	ledger_tick()   at least every 10 s, and before each of these:
//	ledger_point()  a point was committed, or is known to be the newest
//	ledger_cause()  what would be to blame from now on
//	ledger_rpo()    the objective is another one
//
// Pure: time is an argument. Between two commits the age is a line, so that whatever the ticks are the sums are exact, in milliseconds.
//
// THE CLOCK. The ledger has one of its own: it begins as the wall clock and goes on with the monotonic one, so that no step of the wall clock
// changes an age, a sum or the order of slots. `wall_offset_ms` is what the wall clock says beyond it; it follows steps of more than 2 s, and
// with it history is shown where it was by the clock of today. What lies between two runs is what the wall clock says, but never less
// than nothing.
//
// Invariants: L1 in each slot observed + unobserved is at most its length, and the buckets sum up to observed. L2 each missed millisecond is
// in exactly one cause. L3 the missed time of a window is that of the misses in it, as far as they lie in it. L4 no age is counted
// of a point that was loaded and not named since, but after LEDGER_UNKNOWN_MS_MAX.
#ifndef KAGAMI_RPO_LEDGER_H
#define KAGAMI_RPO_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LEDGER_CAUSES = 16, LEDGER_BUCKETS = 40, LEDGER_MISSES = 96 };
enum ledger_scale { LEDGER_FINE, LEDGER_COARSE, LEDGER_SCALES }; // slots of 1 min for 2 h; of 15 min for 8 days
enum { LEDGER_FINE_SLOTS = 120, LEDGER_COARSE_SLOTS = 768, LEDGER_SLOTS = LEDGER_FINE_SLOTS + LEDGER_COARSE_SLOTS };
enum { LEDGER_FINE_MS = 60000, LEDGER_COARSE_MS = 900000, LEDGER_TICK_MS_MAX = 10000, LEDGER_UNKNOWN_MS_MAX = 30000 };
enum ledger_window { LEDGER_HOUR, LEDGER_DAY, LEDGER_WEEK, LEDGER_WINDOWS };
enum { LEDGER_PPM = 1000000, LEDGER_OBJECTIVE_DEFAULT = 995000 };
#define LEDGER_EMPTY INT64_MIN
#define LEDGER_CLOCK_MAX (INT64_C(1) << 52) // ms: far behind the end of any calendar

struct ledger_slot {
	int64_t number;	  // of slots of its scale since 1970, by the ledger's clock; LEDGER_EMPTY
	int64_t until_ms; // the clock when it was fed last
	uint64_t rpo_ms;  // when it began: says which ages the buckets are of
	uint32_t observed_ms, unobserved_ms;
	uint32_t bucket_ms[LEDGER_BUCKETS]; // by age: a quarter octave each, from RPO / 64; the last one takes all that is above
	uint32_t missed_ms[LEDGER_CAUSES];
	uint64_t max_ms;  // the highest age
	uint64_t lead_ms; // the longest from a cut to its commit
	uint32_t points;
	uint64_t dirty_bytes, wire_bytes; // of those points
	bool changed;			  // since it was saved
};

struct ledger_miss {
	uint64_t serial;	    // from 1; 0: none
	int64_t began_ms, ended_ms; // of the ledger's clock
	uint64_t max_ms;	    // the highest age in it
	unsigned cause;		    // that has the most of its time
	bool open;		    // it goes on
	bool changed;		    // since it was saved
};

struct ledger {
	int64_t clock_ms;  // until which it is fed
	uint64_t mono_ms;  // the monotonic clock at that moment
	int64_t wall_offset_ms;
	uint64_t rpo_ms;
	uint32_t objective_ppm; // of the time that is to be within the RPO
	bool has_point;		// before the first one nothing is counted: there is no age
	uint64_t point;
	int64_t cut_ms; // of the ledger's clock
	unsigned cause;
	bool missing; // the age is above the RPO: `miss` is open
	struct ledger_miss miss;
	uint64_t miss_by_ms[LEDGER_CAUSES];
	uint64_t misses_ended; // since this process began; with `miss.serial` it tells a caller what is news
	uint64_t total_missed_ms[LEDGER_CAUSES]; // since the beginning, also of what is not kept any more
	int64_t gap_from_ms, gap_to_ms; // between two runs, and not known yet whether a point was made in it; equal: none
	unsigned gap_cause;
	int64_t unknown_until_ms; // while the clock is below it the gap goes on
	struct ledger_miss ended[LEDGER_MISSES]; // at serial % LEDGER_MISSES
	struct ledger_slot slot[LEDGER_SLOTS];	 // fine ones first, each scale a ring by number
};

// `wall_ns` since 1970. A ledger of a quarter MiB, which is the caller's; all of it is set.
void ledger_init(struct ledger *ledger, uint64_t rpo_ms, uint32_t objective_ppm, uint64_t mono_ns, int64_t wall_ns);

// What was loaded goes on now. The time between is a gap: not observed, unless the next ledger_point() names the point that was the newest
// before it: then it aged through the gap, and what is above the RPO is missed for `cause`. Until a point is named the gap goes on, since the one
// that was loaded may be of before the last save; but no longer than LEDGER_UNKNOWN_MS_MAX: then it is the newest as far as anybody knows, and its age counts.
void ledger_resume(struct ledger *ledger, unsigned cause, uint64_t mono_ns, int64_t wall_ns);

// Counts up to now. Returns by how many milliseconds the wall clock was stepped since the last call; 0 below 2 s.
int64_t ledger_tick(struct ledger *ledger, uint64_t mono_ns, int64_t wall_ns);

// After ledger_tick(). Point `number`, whose cut was `age_ms` ago, is the newest. One that was known already changes nothing.
void ledger_point(struct ledger *ledger, uint64_t number, uint64_t age_ms, uint64_t dirty_bytes, uint64_t wire_bytes);
// There is no point any more: nothing is counted until there is one.
void ledger_no_point(struct ledger *ledger);
void ledger_cause(struct ledger *ledger, unsigned cause);
void ledger_rpo(struct ledger *ledger, uint64_t rpo_ms); // at least 1

// Whether a gap goes on, since nobody has named a point yet: what was saved before it is worth more than what would be now.
bool ledger_unknown(const struct ledger *ledger);

// The age now, as of the last tick; 0 without a point.
uint64_t ledger_age_ms(const struct ledger *ledger);
int64_t ledger_wall_ms(const struct ledger *ledger, int64_t clock_ms); // where the wall clock of today would have been

struct ledger_summary {
	int64_t from_ms, to_ms; // of the ledger's clock; from the beginning of a slot
	uint64_t observed_ms, unobserved_ms, missed_ms;
	uint64_t missed_by_ms[LEDGER_CAUSES];
	uint64_t p50_ms, p99_ms, max_ms, lead_ms; // of ages: percentiles are upper bounds, by at most a quarter octave. 0 with nothing observed
	uint64_t points, dirty_bytes, wire_bytes;
};
void ledger_sum(const struct ledger *ledger, enum ledger_window window, struct ledger_summary *ret_summary);
uint64_t ledger_percentile(const struct ledger *ledger, enum ledger_window window, unsigned ppm); // of the ages
const char *ledger_window_name(enum ledger_window window);

// Of the time of a week: how much may be missed, and how much of that is left (below 0: overspent).
uint64_t ledger_budget_ms(const struct ledger *ledger);
int64_t ledger_budget_left_ms(const struct ledger *ledger);

// Slots of the scale that `window` is shown in, oldest first: those of the ring at positions [0, count), of which some are NULL.
enum ledger_scale ledger_window_scale(enum ledger_window window);
int64_t ledger_slot_length_ms(enum ledger_scale scale);
size_t ledger_slot_count(enum ledger_scale scale);
const struct ledger_slot *ledger_slot_at(const struct ledger *ledger, enum ledger_scale scale, int64_t number); // NULL: nothing is known
void ledger_slot_sum(const struct ledger_slot *slot, struct ledger_summary *ret_summary);

// The cause with the most of `by_ms`, the first of equals; LEDGER_CAUSES when all are 0.
unsigned ledger_worst(const uint64_t by_ms[LEDGER_CAUSES]);

// The largest age that is counted in bucket `index` of 0 to LEDGER_SCALE_MAX, and the first bucket of a slot of this RPO.
enum { LEDGER_SCALE_MAX = 159 };
uint64_t ledger_bound_ms(unsigned index);
unsigned ledger_first_bucket(uint64_t rpo_ms);

#endif
