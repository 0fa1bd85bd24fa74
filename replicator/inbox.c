// SPDX-License-Identifier: Apache-2.0
// The receiving side of a connection: one large receive, many requests.
#include "replicator/inbox.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum { INBOX_LARGE = 4 << 20, ROOM_MIN = 32 << 10 }; // with less left, a new buffer is worth more than a short receive

void inbox_init(struct inbox *inbox, struct pool *pool)
{
	*inbox = (struct inbox){.pool = pool};
}

void inbox_done(struct inbox *inbox)
{
	buffer_put(inbox->buffer);
	inbox->buffer = NULL;
}

static bool has_room(const struct inbox *inbox, size_t need)
{
	const struct buffer *buffer = inbox->buffer;
	size_t have = inbox_len(inbox);
	size_t missing = need > have ? need - have : 1;
	return buffer->size - inbox->end >= missing && (missing >= ROOM_MIN || buffer->size - inbox->end >= ROOM_MIN);
}

int inbox_room(struct inbox *inbox, size_t need, unsigned char **ret_to, size_t *ret_len)
{
	size_t have = inbox_len(inbox);
	if (have == 0 && inbox->buffer && inbox->buffer->size > INBOX_LARGE && need <= INBOX_SIZE) {
		buffer_put(inbox->buffer); // of a large write: not kept for small ones
		inbox->buffer = NULL;
		inbox->start = inbox->end = 0;
	}
	if (inbox->buffer && inbox->buffer->refs == 1 && have == 0)
		inbox->start = inbox->end = 0; // still warm in the caches
	if (!inbox->buffer || !has_room(inbox, need)) {
		struct buffer *buffer = pool_get(inbox->pool, need < INBOX_SIZE ? INBOX_SIZE : need);
		if (!buffer)
			return -ENOMEM;
		if (have && inbox->buffer)
			memcpy(buffer->data, inbox_at(inbox), have);
		buffer_put(inbox->buffer);
		*inbox = (struct inbox){.pool = inbox->pool, .buffer = buffer, .end = have};
	}
	assert(inbox->buffer); // kept, or just taken
	*ret_to = inbox->buffer->data + inbox->end;
	*ret_len = inbox->buffer->size - inbox->end;
	return 0;
}
