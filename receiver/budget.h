// SPDX-License-Identifier: Apache-2.0
// The memory that heads and tables of digests may take together, and which source has how much of it: docs/store.md, "Memory".
//
// Tables of points were there before, and a session needs all of them: they are taken as long as there is any. What is new comes with heads: for those a source
// has at most half of what the tables and all others' heads leave, and so never more than is still free: one that is alone leaves a half, a second one beside it a
// quarter. Those that take all that they can get at the same time have equal parts.
//
// Thread-safe, by a lock of its own that is taken last.
#ifndef KAGAMI_RECEIVER_BUDGET_H
#define KAGAMI_RECEIVER_BUDGET_H

#include "receiver/store.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum budget_kind { BUDGET_POINTS, BUDGET_HEADS, BUDGET_KINDS };

struct budget_source; // one source's part; lives as long as the budget

struct budget {
	uint64_t bytes; // 0: there is no bound
	pthread_mutex_t lock; // of what is below
	uint64_t taken[BUDGET_KINDS];
	struct budget_source *sources;
};

void budget_init(struct budget *budget, uint64_t bytes);
void budget_done(struct budget *budget);
// NULL when out of memory.
struct budget_source *budget_source_of(struct budget *budget, const unsigned char pin[OWNER_PIN_SIZE]);
// False where the source may not have so much more: nothing is taken.
bool budget_take(struct budget *budget, struct budget_source *source, enum budget_kind kind, uint64_t bytes);
// As budget_take(), of what was there before, perhaps when the source had a larger part: as long as there is any.
bool budget_take_again(struct budget *budget, struct budget_source *source, enum budget_kind kind, uint64_t bytes);
void budget_give(struct budget *budget, struct budget_source *source, enum budget_kind kind, uint64_t bytes);
void budget_commit(struct budget *budget, struct budget_source *source, uint64_t bytes); // a head's are a point's now
// Whether it could be taken now.
bool budget_room(struct budget *budget, const struct budget_source *source, enum budget_kind kind, uint64_t bytes);
uint64_t budget_has(struct budget *budget, const struct budget_source *source); // NULL: of all sources
uint64_t budget_has_heads(struct budget *budget, const struct budget_source *source);

#endif
