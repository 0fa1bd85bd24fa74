// SPDX-License-Identifier: Apache-2.0
// Which blocks of which points are known to be damaged: a bounded set of runs. Works on memory only.
//
// A run says: blocks [first, first + count) of the disk, as points `from` to `to` show them, are not what their digests say. The set
// may claim more than is damaged, never less: where it is full, two runs become one that spans both.
#ifndef KAGAMI_RECEIVER_DAMAGE_H
#define KAGAMI_RECEIVER_DAMAGE_H

#include <stdbool.h>
#include <stdint.h>

enum { DAMAGE_MAX = 128 };
#define DAMAGE_OPEN UINT64_MAX // `to`: the newest point shows them, and so will each later one that does not hold them whole

struct damage {
	uint16_t disk;
	uint64_t first, count;
	uint64_t from, to;
};

struct damage_set { // sorted by disk and first; of zeros it is empty
	unsigned count;
	struct damage run[DAMAGE_MAX];
};

void damage_add(struct damage_set *set, const struct damage *run);
bool damage_covers(const struct damage_set *set, const struct damage *run); // adding it would say nothing new
// Blocks [first, first + count) are sound in every point. Where a run would have to be split and there is no room, it stays whole.
void damage_clear(struct damage_set *set, uint16_t disk, uint64_t first, uint64_t count);
// The point after `last` holds these blocks whole: what was open there ends with `last`.
void damage_close(struct damage_set *set, uint16_t disk, uint64_t first, uint64_t count, uint64_t last);
// Forgets the runs that no point shows any more: where `shown` says that there is none from `from` to `to`. True when there was one.
typedef bool damage_shown(const void *context, uint64_t from, uint64_t to);
bool damage_prune(struct damage_set *set, damage_shown *shown, const void *context);
bool damage_is_open(const struct damage_set *set, uint16_t disk, uint64_t index);
bool damage_has_open(const struct damage_set *set);
bool damage_touches(const struct damage_set *set, uint16_t disk, uint64_t index); // in any point
// The first run that point `number` shows; NULL when it is sound.
const struct damage *damage_of_point(const struct damage_set *set, uint64_t number);
uint64_t damage_blocks_of_point(const struct damage_set *set, uint64_t number);
uint64_t damage_blocks(const struct damage_set *set);

#endif
