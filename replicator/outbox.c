// SPDX-License-Identifier: Apache-2.0
// The sending side of a connection. One send is under way at a time, so that replies never interleave: a direct one, or one over
// the ring, which waits until the peer has taken something.
#include "replicator/outbox.h"

#include "replicator/holder.h"

#include <errno.h>

enum { DIRECT_BYTES_MAX = 128 << 10 }; // more is not likely to find room

static void outbox_flush(struct outbox *outbox);

static void on_task(struct ring_task *task)
{
	outbox_flush(HOLDER(task, struct outbox, task));
}

void outbox_init(struct outbox *outbox, struct ring *ring, int fd, void (*drained)(struct outbox *outbox))
{
	*outbox = (struct outbox){.ring = ring, .fd = fd, .drained = drained};
	outbox->end = &outbox->first;
	outbox->task.run = on_task;
}

void outbox_push(struct outbox *outbox, struct reply *reply)
{
	reply->next = NULL;
	*outbox->end = reply;
	outbox->end = &reply->next;
	if (!outbox->sending)
		ring_later(outbox->ring, &outbox->task);
}

static struct reply *outbox_pop(struct outbox *outbox)
{
	struct reply *reply = outbox->first;
	outbox->first = reply->next;
	if (!outbox->first)
		outbox->end = &outbox->first;
	return reply;
}

// Passes over `sent` bytes; replies that left whole are their sender's again.
static void outbox_advance(struct outbox *outbox, size_t sent)
{
	outbox->skip += sent;
	while (outbox->first && outbox->skip >= outbox->first->head_len + outbox->first->len) {
		struct reply *reply = outbox_pop(outbox);
		outbox->skip -= reply->head_len + reply->len;
		reply->sent(reply);
	}
}

static void outbox_discard(struct outbox *outbox)
{
	outbox->skip = 0;
	while (outbox->first) {
		struct reply *reply = outbox_pop(outbox);
		reply->sent(reply);
	}
}

static void on_sent(struct ring_op *op, int res)
{
	struct outbox *outbox = HOLDER(op, struct outbox, op);
	outbox->sending = false;
	if (res > 0)
		outbox_advance(outbox, (size_t)res);
	else if (res != -EINTR && res != -EAGAIN)
		outbox->broken = res ? res : -EPIPE;
	if (outbox->broken)
		outbox_discard(outbox);
	else if (outbox->first)
		ring_later(outbox->ring, &outbox->task);
	outbox->drained(outbox); // may free it
}

static unsigned add_iov(struct iovec *iov, unsigned count, const void *data, size_t len, size_t *skip)
{
	if (*skip >= len) {
		*skip -= len;
		return count;
	}
	iov[count] = (struct iovec){.iov_base = (char *)(uintptr_t)data + *skip, .iov_len = len - *skip};
	*skip = 0;
	return count + 1;
}

// A socket with room takes it at once, which saves a completion and with it a turn of the ring. False for want of room, or after an
// error: the ring waits for the one, and reports the other. May free the outbox when true.
static bool send_now(struct outbox *outbox)
{
	ssize_t sent = sendmsg(outbox->fd, &outbox->message, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent <= 0)
		return false;
	on_sent(&outbox->op, (int)sent);
	return true;
}

static void outbox_flush(struct outbox *outbox)
{
	if (outbox->sending || !outbox->first)
		return;
	if (outbox->broken) {
		outbox_discard(outbox);
		outbox->drained(outbox);
		return;
	}
	unsigned count = 0;
	size_t skip = outbox->skip, bytes = 0;
	for (const struct reply *r = outbox->first; r && count + 2 <= OUTBOX_IOVS; r = r->next) {
		count = add_iov(outbox->iov, count, r->head, r->head_len, &skip);
		count = add_iov(outbox->iov, count, r->data, r->len, &skip);
		bytes += r->head_len + r->len;
	}
	outbox->message = (struct msghdr){.msg_iov = outbox->iov, .msg_iovlen = count};
	if (bytes <= DIRECT_BYTES_MAX && send_now(outbox))
		return;
	outbox->sending = true;
	outbox->op.done = on_sent;
	struct io_uring_sqe *sqe = ring_sqe(outbox->ring, &outbox->op);
	io_uring_prep_sendmsg(sqe, outbox->fd, &outbox->message, MSG_NOSIGNAL | MSG_WAITALL);
}
