// SPDX-License-Identifier: Apache-2.0
// Feeding the ledger: lines of ages, booked to slots of both scales, to buckets, causes and misses. What it promises stands at L1 to L4 in the
// header. What is read out of it is ledger_sum.c's.
//
//	         tick: age > RPO                       point or RPO: age <= RPO
//	kept ─────────────────────► missing ─────────────────────────────────────► kept, and one miss more in `ended`
#include "rpo/ledger.h"

#include "base/size.h"

#include <assert.h>
#include <string.h>

enum { STEP_MS = 2000 };

static int64_t max_i64(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t min_i64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t clock_of(int64_t wall_ns)
{
	int64_t ms = wall_ns / 1000000;
	return ms < 0 ? 0 : ms > LEDGER_CLOCK_MAX ? LEDGER_CLOCK_MAX : ms;
}

void ledger_init(struct ledger *l, uint64_t rpo_ms, uint32_t objective_ppm, uint64_t mono_ns, int64_t wall_ns)
{
	memset(l, 0, sizeof(*l));
	l->clock_ms = clock_of(wall_ns);
	l->mono_ms = mono_ns / 1000000;
	l->rpo_ms = rpo_ms ? rpo_ms : 1;
	l->objective_ppm = objective_ppm;
	for (size_t i = 0; i < LEDGER_SLOTS; i++)
		l->slot[i].number = LEDGER_EMPTY;
}

// --- slots ---

int64_t ledger_slot_length_ms(enum ledger_scale scale)
{
	return scale == LEDGER_FINE ? LEDGER_FINE_MS : LEDGER_COARSE_MS;
}

size_t ledger_slot_count(enum ledger_scale scale)
{
	return scale == LEDGER_FINE ? LEDGER_FINE_SLOTS : LEDGER_COARSE_SLOTS;
}

static size_t slot_index(enum ledger_scale scale, int64_t number)
{
	return (scale == LEDGER_FINE ? 0 : LEDGER_FINE_SLOTS) + (size_t)number % ledger_slot_count(scale);
}

// The slot of a number, begun anew where the ring holds an older one; NULL where it holds a newer one.
static struct ledger_slot *slot_take(struct ledger *l, enum ledger_scale scale, int64_t number)
{
	struct ledger_slot *slot = &l->slot[slot_index(scale, number)];
	if (slot->number > number)
		return NULL;
	if (slot->number < number) {
		memset(slot, 0, sizeof(*slot));
		slot->number = number;
		slot->rpo_ms = l->rpo_ms;
	}
	slot->changed = true;
	return slot;
}

const struct ledger_slot *ledger_slot_at(const struct ledger *l, enum ledger_scale scale, int64_t number)
{
	if (number < 0)
		return NULL;
	const struct ledger_slot *slot = &l->slot[slot_index(scale, number)];
	return slot->number == number ? slot : NULL;
}

// --- lines ---

struct line { // of ages, over [from, to) of the clock
	int64_t from, to, cut;
	uint64_t rpo;
	unsigned cause;
};

static uint64_t line_missed(const struct line *line)
{
	int64_t over = max_i64(line->from, line->cut + (int64_t)line->rpo);
	return line->to > over ? (uint64_t)(line->to - over) : 0;
}

// Ages from `low` to `high`: each bucket gets what of them lies in it.
static void bucket_add(struct ledger_slot *slot, uint64_t low, uint64_t high)
{
	unsigned first = ledger_first_bucket(slot->rpo_ms);
	for (unsigned i = 0; low < high; i++) {
		uint64_t bound = i + 1 < LEDGER_BUCKETS ? ledger_bound_ms(first + i) : UINT64_MAX;
		if (bound <= low)
			continue;
		uint64_t part = min_u64(high, bound) - low;
		slot->bucket_ms[i] += (uint32_t)part;
		low += part;
	}
}

static void slot_observe(struct ledger_slot *slot, const struct line *line)
{
	uint64_t low = (uint64_t)max_i64(line->from - line->cut, 0), high = (uint64_t)max_i64(line->to - line->cut, 0);
	uint64_t length = (uint64_t)(line->to - line->from);
	slot->observed_ms += (uint32_t)length;
	slot->bucket_ms[0] += (uint32_t)(length - (high - low)); // of a cut that is still ahead of us: as good as now
	bucket_add(slot, low, high);
	slot->missed_ms[line->cause] += (uint32_t)line_missed(line);
	slot->max_ms = max_u64(slot->max_ms, high);
}

enum booking { BOOK_AGES, BOOK_GAP, UNBOOK_GAP };

static void slot_book(struct ledger_slot *slot, const struct line *line, enum booking how)
{
	uint32_t length = (uint32_t)(line->to - line->from);
	slot->until_ms = max_i64(slot->until_ms, line->to);
	if (how == BOOK_AGES)
		slot_observe(slot, line);
	else if (how == BOOK_GAP)
		slot->unobserved_ms += length;
	else
		slot->unobserved_ms -= length < slot->unobserved_ms ? length : slot->unobserved_ms;
}

// The line, cut at the slots of a scale. What is older than the ring is left out.
static void book(struct ledger *l, enum ledger_scale scale, const struct line *whole, enum booking how)
{
	int64_t length = ledger_slot_length_ms(scale);
	int64_t newest = max_i64(whole->to, l->clock_ms) / length;
	struct line part = *whole;
	for (part.from = max_i64(whole->from, (newest - (int64_t)ledger_slot_count(scale) + 1) * length); part.from < whole->to; part.from = part.to) {
		int64_t number = part.from / length;
		part.to = (number + 1) * length < whole->to ? (number + 1) * length : whole->to;
		struct ledger_slot *slot = slot_take(l, scale, number);
		if (slot)
			slot_book(slot, &part, how);
	}
}

// --- misses ---

unsigned ledger_worst(const uint64_t by_ms[LEDGER_CAUSES])
{
	unsigned worst = LEDGER_CAUSES;
	for (unsigned i = 0; i < LEDGER_CAUSES; i++)
		if (by_ms[i] && (worst == LEDGER_CAUSES || by_ms[i] > by_ms[worst]))
			worst = i;
	return worst;
}

static void miss_end(struct ledger *l, int64_t at_ms)
{
	unsigned worst = ledger_worst(l->miss_by_ms);
	l->miss.ended_ms = max_i64(at_ms, l->miss.began_ms);
	l->miss.cause = worst == LEDGER_CAUSES ? l->cause : worst;
	l->miss.open = false;
	l->miss.changed = true;
	l->ended[l->miss.serial % LEDGER_MISSES] = l->miss;
	l->missing = false;
	l->misses_ended++;
}

static void miss_begin(struct ledger *l, int64_t at_ms)
{
	memset(l->miss_by_ms, 0, sizeof(l->miss_by_ms));
	l->miss = (struct ledger_miss){.serial = l->miss.serial + 1, .began_ms = at_ms, .open = true};
	l->missing = true;
}

static void miss_count(struct ledger *l, const struct line *line)
{
	uint64_t missed = line_missed(line);
	if (!missed)
		return;
	int64_t began = line->to - (int64_t)missed;
	if (!l->missing)
		miss_begin(l, began);
	if (began < l->miss.began_ms)
		l->miss.began_ms = began;
	l->miss_by_ms[line->cause] += missed;
	l->total_missed_ms[line->cause] += missed;
	l->miss.max_ms = max_u64(l->miss.max_ms, (uint64_t)(line->to - line->cut));
	unsigned worst = ledger_worst(l->miss_by_ms);
	l->miss.cause = worst;
}

static void observe(struct ledger *l, const struct line *line)
{
	miss_count(l, line);
	book(l, LEDGER_FINE, line, BOOK_AGES);
	book(l, LEDGER_COARSE, line, BOOK_AGES);
}

static void book_gap(struct ledger *l, int64_t from_ms, int64_t to_ms, enum booking how)
{
	const struct line gap = {.from = from_ms, .to = to_ms};
	book(l, LEDGER_FINE, &gap, how);
	book(l, LEDGER_COARSE, &gap, how);
}

static struct line line_of(const struct ledger *l, int64_t from, int64_t to, unsigned cause)
{
	return (struct line){.from = from, .to = to, .cut = l->cut_ms, .rpo = l->rpo_ms, .cause = cause};
}

// --- what happens ---

// Time with a point: until it is known that it is the newest, the gap goes on.
static void pass(struct ledger *l, int64_t from, int64_t to)
{
	int64_t unknown = min_i64(max_i64(l->unknown_until_ms, from), to);
	if (unknown > from) {
		book_gap(l, from, unknown, BOOK_GAP);
		l->gap_to_ms = unknown;
	}
	if (to > unknown) {
		struct line line = line_of(l, unknown, to, l->cause);
		observe(l, &line);
	}
}

int64_t ledger_tick(struct ledger *l, uint64_t mono_ns, int64_t wall_ns)
{
	uint64_t mono_ms = mono_ns / 1000000;
	int64_t from = l->clock_ms;
	if (mono_ms > l->mono_ms) {
		uint64_t passed = min_u64(mono_ms - l->mono_ms, (uint64_t)(LEDGER_CLOCK_MAX - l->clock_ms));
		l->clock_ms += (int64_t)passed;
		l->mono_ms = mono_ms;
	}
	if (l->has_point)
		pass(l, from, l->clock_ms);
	int64_t step = clock_of(wall_ns) - (l->clock_ms + l->wall_offset_ms);
	if (step < STEP_MS && step > -STEP_MS)
		return 0;
	l->wall_offset_ms += step;
	return step;
}

void ledger_resume(struct ledger *l, unsigned cause, uint64_t mono_ns, int64_t wall_ns)
{
	int64_t now = clock_of(wall_ns) - l->wall_offset_ms;
	l->mono_ms = mono_ns / 1000000;
	l->gap_cause = cause;
	l->gap_from_ms = l->gap_to_ms = l->clock_ms;
	if (now <= l->clock_ms) // stepped back: how long it was is not known
		l->wall_offset_ms += now - l->clock_ms;
	else
		l->clock_ms = l->gap_to_ms = now < LEDGER_CLOCK_MAX ? now : LEDGER_CLOCK_MAX;
	l->unknown_until_ms = l->clock_ms + LEDGER_UNKNOWN_MS_MAX;
	if (l->has_point)
		book_gap(l, l->gap_from_ms, l->gap_to_ms, BOOK_GAP);
}

// The newest point is the one from before the gap: it aged meanwhile.
static void gap_aged(struct ledger *l)
{
	struct line line = line_of(l, l->gap_from_ms, l->gap_to_ms, l->gap_cause);
	book_gap(l, l->gap_from_ms, l->gap_to_ms, UNBOOK_GAP);
	observe(l, &line);
}

static void gap_settle(struct ledger *l, bool same)
{
	l->unknown_until_ms = 0;
	if (l->gap_from_ms >= l->gap_to_ms || !l->has_point)
		return;
	if (same)
		gap_aged(l);
	else if (l->missing && l->miss.began_ms < l->gap_from_ms && l->gap_to_ms == l->clock_ms) // when it ended is not known; L3: nothing was missed since
		miss_end(l, l->gap_from_ms);
	l->gap_from_ms = l->gap_to_ms;
}

static void point_book(struct ledger *l, uint64_t age_ms, uint64_t dirty_bytes, uint64_t wire_bytes)
{
	for (enum ledger_scale scale = 0; scale < LEDGER_SCALES; scale++) {
		struct ledger_slot *slot = slot_take(l, scale, l->clock_ms / ledger_slot_length_ms(scale));
		if (!slot)
			continue;
		slot->until_ms = max_i64(slot->until_ms, l->clock_ms);
		slot->points++;
		slot->dirty_bytes += dirty_bytes;
		slot->wire_bytes += wire_bytes;
		slot->lead_ms = max_u64(slot->lead_ms, age_ms);
	}
}

void ledger_point(struct ledger *l, uint64_t number, uint64_t age_ms, uint64_t dirty_bytes, uint64_t wire_bytes)
{
	bool same = l->has_point && number == l->point;
	gap_settle(l, same);
	if (same)
		return;
	age_ms = min_u64(age_ms, (uint64_t)LEDGER_CLOCK_MAX);
	l->has_point = true;
	l->point = number;
	l->cut_ms = l->clock_ms - (int64_t)age_ms;
	point_book(l, age_ms, dirty_bytes, wire_bytes);
	if (l->missing && age_ms <= l->rpo_ms)
		miss_end(l, l->clock_ms);
}

void ledger_no_point(struct ledger *l)
{
	gap_settle(l, false);
	if (l->missing)
		miss_end(l, l->clock_ms);
	l->has_point = false;
}

void ledger_cause(struct ledger *l, unsigned cause)
{
	assert(cause < LEDGER_CAUSES);
	l->cause = cause;
}

void ledger_rpo(struct ledger *l, uint64_t rpo_ms)
{
	l->rpo_ms = rpo_ms ? rpo_ms : 1;
	if (l->missing && ledger_age_ms(l) <= l->rpo_ms)
		miss_end(l, l->clock_ms);
}

bool ledger_unknown(const struct ledger *l)
{
	return l->has_point && l->clock_ms < l->unknown_until_ms;
}

uint64_t ledger_age_ms(const struct ledger *l)
{
	return l->has_point ? (uint64_t)max_i64(l->clock_ms - l->cut_ms, 0) : 0;
}

int64_t ledger_wall_ms(const struct ledger *l, int64_t clock_ms)
{
	return max_i64(clock_ms + l->wall_offset_ms, 0);
}
