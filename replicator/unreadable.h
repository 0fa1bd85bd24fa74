// SPDX-License-Identifier: Apache-2.0
// Where reads of an image failed. A page that could not be read stays in the page cache and looks as if it were there: who sends from the cache asks here first, for
// the thread that sends would wait for the bad disk.
//
// One range, from the first to the last place that failed: what lies in between counts as bad, too. It becomes smaller, from its ends, by what is read or written
// well, once nothing has failed for UNREADABLE_S: a disk that fails now and then costs one such wait in that time.
//
// Any thread. Two that come together may leave the range too small or too large: that costs a wait, or a copy, and nothing else.
#ifndef KAGAMI_REPLICATOR_UNREADABLE_H
#define KAGAMI_REPLICATOR_UNREADABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { UNREADABLE_S = 10 };

struct unreadable { // zeroed: none
	_Atomic uint64_t from, to;
	_Atomic uint64_t failed_ns; // last
};

void unreadable_add(struct unreadable *unreadable, uint64_t off, uint64_t len, uint64_t now_ns);
// [off, off + len) was read, or written over.
void unreadable_well(struct unreadable *unreadable, uint64_t off, uint64_t len, uint64_t now_ns);
static inline bool unreadable_any(const struct unreadable *unreadable)
{
	return atomic_load_explicit(&unreadable->to, memory_order_relaxed) != 0;
}
bool unreadable_within(const struct unreadable *unreadable, uint64_t off, uint64_t len);

#endif
