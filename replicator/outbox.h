// SPDX-License-Identifier: Apache-2.0
// Replies of a connection, gathered: whatever a round produced leaves with one sendmsg. Data that lies in an image's page cache
// goes from there to the socket without a copy, through a pipe:
//
//	image ──► pipe ──► head is sent ──► socket
//	    └─ untaken(): nothing was sent of this reply
//
// O1: the pipe holds the data of the first reply of an image that waits, or nothing. No head leaves before its data is in the pipe: then what it promises is there,
// though the disk may be bad or the page evicted.
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
	void (*untaken)(struct reply *reply); // of an image, in place of `sent`: it could not be read there, and the reply is the sender's again
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
	unsigned images; // replies that wait and are of one
	struct outbox_pipe {
		int fd[2];   // 0: none yet
		size_t room; // bytes
		size_t held;
		bool refused; // the kernel makes none
	} pipe;
	void (*drained)(struct outbox *outbox); // after each send: nothing may be left, or it broke
	struct ring_task task;
};

// `fd` does not block; `watch` is its own, and outbox_room() is called when it says RING_WRITABLE.
void outbox_init(struct outbox *outbox, struct ring *ring, int fd, struct ring_watch *watch, void (*drained)(struct outbox *outbox));
void outbox_done(struct outbox *outbox);
// How much of an image, from `off` on, a reply may be long; 0: nothing. It stays so until outbox_done().
size_t outbox_takes(struct outbox *outbox, uint64_t off);
void outbox_room(struct outbox *outbox);
void outbox_push(struct outbox *outbox, struct reply *reply);
static inline bool outbox_empty(const struct outbox *outbox)
{
	return !outbox->first && !outbox->task.queued;
}

#endif
