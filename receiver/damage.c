// SPDX-License-Identifier: Apache-2.0
#include "receiver/damage.h"

#include "base/size.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static uint64_t end_of(const struct damage *run)
{
	return run->first + run->count;
}

static bool covers(const struct damage *run, uint64_t number)
{
	return run->from <= number && number <= run->to;
}

static void remove_at(struct damage_set *set, unsigned i)
{
	set->count--;
	memmove(&set->run[i], &set->run[i + 1], (set->count - i) * sizeof(set->run[0]));
}

static void insert(struct damage_set *set, const struct damage *run)
{
	unsigned i = 0;
	assert(set->count < DAMAGE_MAX);
	while (i < set->count &&
	       (set->run[i].disk < run->disk || (set->run[i].disk == run->disk && set->run[i].first <= run->first)))
		i++;
	memmove(&set->run[i + 1], &set->run[i], (set->count - i) * sizeof(set->run[0]));
	set->run[i] = *run;
	set->count++;
}

// Makes one run of the two neighbours on one disk that lie closest. There are more runs than disks, so there are two.
static void compact(struct damage_set *set)
{
	static_assert((int)DAMAGE_MAX > (int)DISKS_MAX, "some disk has two runs when the set is full");
	uint64_t least = UINT64_MAX;
	unsigned at = 0;
	for (unsigned i = 0; i + 1 < set->count; i++) {
		const struct damage *a = &set->run[i], *b = &set->run[i + 1];
		uint64_t gap = b->first > end_of(a) ? b->first - end_of(a) : 0;
		if (a->disk == b->disk && gap < least) {
			least = gap;
			at = i;
		}
	}
	struct damage *a = &set->run[at], *b = &set->run[at + 1];
	uint64_t end = max_u64(end_of(a), end_of(b));
	a->count = end - a->first;
	a->from = min_u64(a->from, b->from);
	a->to = max_u64(a->to, b->to);
	remove_at(set, at + 1);
}

void damage_add(struct damage_set *set, const struct damage *run)
{
	for (unsigned i = 0; i < set->count; i++) { // the next block of what is there
		struct damage *have = &set->run[i];
		if (have->disk == run->disk && have->from == run->from && have->to == run->to && have->first <= run->first &&
		    run->first <= end_of(have)) {
			have->count = max_u64(end_of(have), end_of(run)) - have->first;
			return;
		}
	}
	if (set->count == DAMAGE_MAX)
		compact(set);
	insert(set, run);
}

bool damage_covers(const struct damage_set *set, const struct damage *run)
{
	for (unsigned i = 0; i < set->count; i++) {
		const struct damage *have = &set->run[i];
		if (have->disk == run->disk && have->first <= run->first && end_of(run) <= end_of(have) && have->from <= run->from && run->to <= have->to)
			return true;
	}
	return false;
}

// Takes [first, end) out of run `i`. False when it had to stay as it is.
static bool cut_out(struct damage_set *set, unsigned i, uint64_t first, uint64_t end)
{
	struct damage *run = &set->run[i], back = *run;
	if (run->first < first && end < end_of(run)) {
		if (set->count == DAMAGE_MAX)
			return false;
		back.first = end;
		back.count = end_of(run) - end;
		run->count = first - run->first;
		insert(set, &back);
		return true;
	}
	if (first <= run->first && end_of(run) <= end) {
		remove_at(set, i);
	} else if (run->first < first) {
		run->count = first - run->first;
	} else { // its front goes, and so its place may change
		back.count = end_of(run) - end;
		back.first = end;
		remove_at(set, i);
		insert(set, &back);
	}
	return true;
}

// The next run from `i` on that shares blocks with the range; set->count when there is none.
static unsigned next_in(const struct damage_set *set, unsigned i, uint16_t disk, uint64_t first, uint64_t end)
{
	while (i < set->count &&
	       (set->run[i].disk != disk || set->run[i].first >= end || end_of(&set->run[i]) <= first))
		i++;
	return i;
}

void damage_clear(struct damage_set *set, uint16_t disk, uint64_t first, uint64_t count)
{
	unsigned i = 0;
	while ((i = next_in(set, i, disk, first, first + count)) < set->count)
		if (cut_out(set, i, first, first + count))
			i = 0; // places changed
		else
			i++;
}

void damage_close(struct damage_set *set, uint16_t disk, uint64_t first, uint64_t count, uint64_t last)
{
	uint64_t end = first + count;
	unsigned i = 0;
	while ((i = next_in(set, i, disk, first, end)) < set->count) {
		struct damage closed = set->run[i];
		if (closed.to != DAMAGE_OPEN || !cut_out(set, i, first, end)) {
			i++;
			continue;
		}
		uint64_t stop = min_u64(end, end_of(&closed));
		closed.first = max_u64(closed.first, first);
		closed.count = stop - closed.first;
		closed.to = last;
		damage_add(set, &closed);
		i = 0;
	}
}

bool damage_prune(struct damage_set *set, damage_shown *shown, const void *context)
{
	unsigned before = set->count;
	for (unsigned i = set->count; i-- > 0;)
		if (!shown(context, set->run[i].from, set->run[i].to))
			remove_at(set, i);
	return set->count != before;
}

static const struct damage *find(const struct damage_set *set, uint16_t disk, uint64_t index, bool open)
{
	unsigned i = 0;
	for (; (i = next_in(set, i, disk, index, index + 1)) < set->count; i++)
		if (!open || set->run[i].to == DAMAGE_OPEN)
			return &set->run[i];
	return NULL;
}

bool damage_is_open(const struct damage_set *set, uint16_t disk, uint64_t index)
{
	return find(set, disk, index, true);
}

bool damage_has_open(const struct damage_set *set)
{
	for (unsigned i = 0; i < set->count; i++)
		if (set->run[i].to == DAMAGE_OPEN)
			return true;
	return false;
}

bool damage_touches(const struct damage_set *set, uint16_t disk, uint64_t index)
{
	return find(set, disk, index, false);
}

const struct damage *damage_of_point(const struct damage_set *set, uint64_t number)
{
	for (unsigned i = 0; i < set->count; i++)
		if (covers(&set->run[i], number))
			return &set->run[i];
	return NULL;
}

uint64_t damage_blocks_of_point(const struct damage_set *set, uint64_t number)
{
	uint64_t blocks = 0;
	for (unsigned i = 0; i < set->count; i++)
		if (covers(&set->run[i], number))
			blocks += set->run[i].count;
	return blocks;
}

uint64_t damage_blocks(const struct damage_set *set)
{
	uint64_t blocks = 0;
	for (unsigned i = 0; i < set->count; i++)
		blocks += set->run[i].count;
	return blocks;
}
