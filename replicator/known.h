// SPDX-License-Identifier: Apache-2.0
// What the receiver's head is known to hold, by digest: a block that the guest rewrote with the same content is seen here, without a
// question that takes a round trip; and one that differs is sent without one.
//
//	entry (disk, index) = d		when the receiver has taken all that was sent to it so far, its head's digest of that block is d
//
// That is true because frames are taken in order, and because every entry is forgotten where it could become false:
//
//	another connection, another head than the one followed		known_bind()
//	a pass that failed, or that sent or settled without telling here	known_forget()
//	the table is full						the entry makes room for another
//
// So it never keeps a block from travelling that differs at the receiver (I: known_block_is_what_the_head_holds). Bounded, and worth nothing
// to correctness: with no memory for it every block is asked about. Used by the cycle thread alone.
#ifndef KAGAMI_REPLICATOR_KNOWN_H
#define KAGAMI_REPLICATOR_KNOWN_H

#include "base/names.h"
#include "format/digest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KNOWN_ENTRY_BYTES = 24, KNOWN_BYTES_DEFAULT = 12 << 20 }; // 512 Ki blocks: 32 GiB of disk

struct known;

int known_new(size_t bytes_max, struct known **ret_known); // below one entry's bytes: a table that learns nothing. -ENOMEM
void known_free(struct known *known);			   // takes NULL
// From here on the entries are about this head of this connection; forgets all when they were about another.
void known_bind(struct known *known, const struct uuid *head, uint64_t connection);
// The head became a point, and the next one begins with its content.
void known_follow(struct known *known, const struct uuid *next_head);
// A point of this connection was committed, and nothing was forgotten since: so the head holds nothing that was not told here, but what had no room. It is
// so, too, after another connection to the head that followed that point, where nothing was told since: that head holds nothing.
bool known_follows(const struct known *known);
void known_forget(struct known *known);
const struct digest *known_find(const struct known *known, uint16_t disk, uint64_t index); // NULL: not known
void known_set(struct known *known, uint16_t disk, uint64_t index, const struct digest *digest);
size_t known_count(const struct known *known);

#endif
