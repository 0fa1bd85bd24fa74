// SPDX-License-Identifier: Apache-2.0
// Who goes first where processors are short: the guest's requests before the copies of them.
//
// Both are wishes: what the kernel does not know or not allow is left out, and everything works as without.
#ifndef KAGAMI_REPLICATOR_PRIORITY_H
#define KAGAMI_REPLICATOR_PRIORITY_H

// The calling thread answers guests: it asks for short turns, which come sooner (Linux 6.12).
void priority_guest(void);
// The calling thread reads, compresses and sends: its turns are short as well, so that who waits behind it does not wait
// long, and it has the smaller share (nice 5).
void priority_copy(void);
// The calling thread digests and compresses, beside the one that sends: as priority_copy(), and it never takes a processor from another
// that runs (SCHED_BATCH; nice 10).
void priority_crew(void);

#endif
