// SPDX-License-Identifier: Apache-2.0
// Who goes first where processors are short: the guest's requests before the copies of them.
//
// Both are wishes: what the kernel does not know or not allow is left out, and everything works as without.
#ifndef KAGAMI_REPLICATOR_PRIORITY_H
#define KAGAMI_REPLICATOR_PRIORITY_H

// The calling thread answers guests: it asks for short turns, which come sooner (Linux 6.12).
void priority_guest(void);
// The calling thread reads, compresses and sends: it yields to who is woken by a guest, and still has its share (nice 5).
void priority_copy(void);

#endif
