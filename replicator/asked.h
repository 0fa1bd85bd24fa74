// SPDX-License-Identifier: Apache-2.0
// Since when threads wait for the answer of something that may hang, seen from outside without waiting for it.
//
// Several may ask at a time, and one of them may wait for a disk that hangs while the others have their answers from memory, as those to fstat() are: the time is that of
// the first, until none waits any more.
#ifndef KAGAMI_REPLICATOR_ASKED_H
#define KAGAMI_REPLICATOR_ASKED_H

#include <stdatomic.h>
#include <stdint.h>

enum { ASKED_COUNT = 0xff }; // the bits of `since_ns` that say how many wait: 255 at most

struct asked { // zeroed: none does
	_Atomic uint64_t since_ns; // of whatever clock they ask by
};

static inline struct asked *asked_begin(struct asked *asked, uint64_t now_ns)
{
	uint64_t was = atomic_load_explicit(&asked->since_ns, memory_order_relaxed), is;
	do
		is = was ? was + 1 : (now_ns & ~(uint64_t)ASKED_COUNT) + 1;
	while (!atomic_compare_exchange_weak_explicit(&asked->since_ns, &was, is, memory_order_relaxed, memory_order_relaxed));
	return asked;
}

static inline void asked_end(struct asked *asked)
{
	uint64_t was = atomic_load_explicit(&asked->since_ns, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&asked->since_ns, &was, (was & ASKED_COUNT) > 1 ? was - 1 : 0, memory_order_relaxed, memory_order_relaxed))
		;
}

// Of those that wait one was answered in part: what they ask goes on.
static inline void asked_moves(struct asked *asked, uint64_t now_ns)
{
	uint64_t was = atomic_load_explicit(&asked->since_ns, memory_order_relaxed);
	while (was && !atomic_compare_exchange_weak_explicit(&asked->since_ns, &was, (now_ns & ~(uint64_t)ASKED_COUNT) + (was & ASKED_COUNT), memory_order_relaxed, memory_order_relaxed))
		;
}

static inline void asked_scope_end(struct asked **asked)
{
	asked_end(*asked);
}

// Waits from here to the end of the block.
#define ASKED_SCOPE(of, now) __attribute__((cleanup(asked_scope_end), unused)) struct asked *asked_scope_ = asked_begin(of, now)

// 0: nobody does.
static inline uint64_t asked_since_ns(const struct asked *asked)
{
	return atomic_load_explicit(&asked->since_ns, memory_order_relaxed) & ~(uint64_t)ASKED_COUNT;
}

#endif
