// SPDX-License-Identifier: Apache-2.0
// Connections of this process that a receiver does not know yet. It takes a few of them from one address (docs/protocol.md) and resets the others, so
// that no more than some are begun at once, however many protections start.
#ifndef KAGAMI_REPLICATOR_KNOCK_H
#define KAGAMI_REPLICATOR_KNOCK_H

#include <stdbool.h>

enum { KNOCKS_MAX = 4 };

struct knock { // zeros: it does not
	const char *address;
	struct knock *next;
};

// False: as many as may are at that address; it is to be tried again in a moment. Waits for nothing. `address` stays until knock_end(). Any thread.
bool knock_begin(struct knock *knock, const char *address);
void knock_end(struct knock *knock); // once more does nothing

#endif
