// SPDX-License-Identifier: Apache-2.0
// What a connection has received and not consumed. Requests keep a reference to the buffer their payload lies in, so
// that nothing is copied, and a buffer that nobody refers to is filled again from its start.
#ifndef KAGAMI_REPLICATOR_INBOX_H
#define KAGAMI_REPLICATOR_INBOX_H

#include "replicator/pool.h"

#include <stddef.h>

enum { INBOX_SIZE = 256 << 10 };

struct inbox {
	struct pool *pool;
	struct buffer *buffer; // NULL before the first room
	size_t start, end;     // what is there
};

void inbox_init(struct inbox *inbox, struct pool *pool);
void inbox_done(struct inbox *inbox);

static inline size_t inbox_len(const struct inbox *inbox)
{
	return inbox->end - inbox->start;
}

static inline unsigned char *inbox_at(const struct inbox *inbox)
{
	return inbox->buffer ? inbox->buffer->data + inbox->start : NULL;
}

static inline void inbox_skip(struct inbox *inbox, size_t len)
{
	inbox->start += len;
}

// Makes room so that an item of `need` bytes, of which the beginning may be there, can be received whole and in one piece.
// Stores where to receive, and how much at most. -ENOMEM.
int inbox_room(struct inbox *inbox, size_t need, unsigned char **ret_to, size_t *ret_len);
static inline void inbox_received(struct inbox *inbox, size_t len)
{
	inbox->end += len;
}

#endif
