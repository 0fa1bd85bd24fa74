// SPDX-License-Identifier: Apache-2.0
// Replies of a connection, gathered: whatever a round produced leaves with one sendmsg. Data that lies in an image's page cache
// goes from there to the socket without a copy.
//
// Where that cannot be read although it seemed to be in memory, the head has gone already and promised it: the connection breaks. Replies that could
// still become an error would cost each large read a second chunk, and only clients with structured replies could have them. So it happens once:
// from then on the image sends nothing (image_sendable()), and the same read is answered with its error.
#ifndef KAGAMI_REPLICATOR_OUTBOX_H
#define KAGAMI_REPLICATOR_OUTBOX_H

#include "replicator/image.h"
#include "replicator/nbd.h"
#include "replicator/ring.h"

#include <stdbool.h>
#include <stddef.h>

enum { OUTBOX_IOVS = 256 };

// The sender's memory until `sent` ran, which it does in every case: also when the connection broke before.
struct reply {
	unsigned char head[NBD_REPLY_HEAD_MAX];
	size_t head_len;
	const void *data;     // NULL: `len` bytes of the image, from `off` on
	struct image *image;
	uint64_t off;
	size_t len;
	void (*sent)(struct reply *reply);
	struct reply *next;
};

struct outbox {
	struct ring *ring;
	struct ring_watch *watch;
	int fd;
	struct reply *first, **end;
	size_t skip;  // bytes of `first` that are sent
	bool blocked; // until the peer has taken something
	int broken;   // why nothing can be sent any more
	void (*unread)(struct outbox *outbox, uint64_t off, int res); // the image could not be read there, and it breaks; then drained()
	void (*drained)(struct outbox *outbox); // after each send: nothing may be left, or it broke
	struct ring_task task;
};

// `fd` does not block; `watch` is its own, and outbox_room() is called when it says RING_WRITABLE.
void outbox_init(struct outbox *outbox, struct ring *ring, int fd, struct ring_watch *watch,
		 void (*unread)(struct outbox *outbox, uint64_t off, int res), void (*drained)(struct outbox *outbox));
void outbox_room(struct outbox *outbox);
void outbox_push(struct outbox *outbox, struct reply *reply);
static inline bool outbox_empty(const struct outbox *outbox)
{
	return !outbox->first && !outbox->task.queued;
}

#endif
