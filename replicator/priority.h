// SPDX-License-Identifier: Apache-2.0
// Who goes first where processors are short: the guest's requests before the copies of them.
//
// All are wishes: what the kernel does not know or not allow is left out, and everything works as without.
//
// Threads that copy have a share that is smaller than others' (nice 5, the crew 10), or what nobody else wants (SCHED_IDLE): a thread that
// is woken then takes the processor from them at once, and not after their turn. Where the processors are never free, the latter may get a
// few thousandths of one; whoever asks for it sees to it that the copies are there in time (pace.h). It is not used where the kernel would
// refuse the way back: that needs CAP_SYS_NICE, or an RLIMIT_NICE that allows nice 5.
#ifndef KAGAMI_REPLICATOR_PRIORITY_H
#define KAGAMI_REPLICATOR_PRIORITY_H

#include <stdbool.h>
#include <stdint.h>

// The calling thread answers guests: it asks for short turns, which come sooner (Linux 6.12). Those of threads that copy are long, whatever
// else they have: while one of them runs on what nobody else wants, a thread that wakes may still have to wait for a moment until it has a
// claim to the processor, and with short turns the one who copies would have the next one first.
void priority_guest(void);
// The calling thread digests, compresses and sends. `spare`: with what nobody else wants. Cheap when nothing changes.
void priority_copy(bool spare);
// The calling thread reads for a cycle: with what nobody else wants, unless there is a hurry. Likewise.
void priority_reader(bool hurry);
// The calling thread digests and compresses beside the one that sends: likewise, unless somebody called priority_hurry(true). With its share
// it never takes a processor from another that runs (SCHED_BATCH).
void priority_crew(void);
// One more protection is in a hurry, or one less.
void priority_hurry(bool on);

// How long the calling thread has waited for a processor since it began; 0 where the kernel does not say.
uint64_t priority_waited_ns(void);

#endif
