// SPDX-License-Identifier: Apache-2.0
// The sending side of a connection: what the socket takes at once, in order; the rest when the peer has taken something.
#include "replicator/outbox.h"

#include "replicator/holder.h"

#include <errno.h>
#include <sys/socket.h>

static void outbox_flush(struct outbox *outbox);

static void on_task(struct ring_task *task)
{
	outbox_flush(HOLDER(task, struct outbox, task));
}

void outbox_init(struct outbox *outbox, struct ring *ring, int fd, struct ring_watch *watch,
		 void (*unread)(struct outbox *outbox, uint64_t off, int res), void (*drained)(struct outbox *outbox))
{
	*outbox = (struct outbox){.ring = ring, .watch = watch, .fd = fd, .unread = unread, .drained = drained};
	outbox->end = &outbox->first;
	outbox->task.run = on_task;
}

void outbox_push(struct outbox *outbox, struct reply *reply)
{
	reply->next = NULL;
	*outbox->end = reply;
	outbox->end = &reply->next;
	if (!outbox->blocked)
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

// Heads and data, up to the first that lies in an image.
static ssize_t send_memory(struct outbox *outbox)
{
	struct iovec iov[OUTBOX_IOVS];
	unsigned count = 0;
	size_t skip = outbox->skip;
	for (const struct reply *r = outbox->first; r && count + 2 <= OUTBOX_IOVS; r = r->next) {
		count = add_iov(iov, count, r->head, r->head_len, &skip);
		if (r->image)
			break;
		count = add_iov(iov, count, r->data, r->len, &skip);
	}
	const struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
	return sendmsg(outbox->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t send_some(struct outbox *outbox)
{
	const struct reply *reply = outbox->first;
	if (!reply->image || outbox->skip < reply->head_len)
		return send_memory(outbox);
	size_t done = outbox->skip - reply->head_len;
	ssize_t sent = image_send(reply->image, outbox->fd, reply->off + done, reply->len - done);
	if (sent == 0) { // after the head was sent: there is no other way to say so
		int code = errno;
		outbox->unread(outbox, reply->off + done, -code);
		errno = code;
		return -1;
	}
	return sent;
}

// One send: others have their turn before the next.
static void outbox_flush(struct outbox *outbox)
{
	if (outbox->blocked)
		return;
	if (outbox->first && !outbox->broken) {
		ssize_t sent = send_some(outbox);
		if (sent >= 0)
			outbox_advance(outbox, (size_t)sent);
		else if (errno == EAGAIN)
			outbox->blocked = true;
		else if (errno != EINTR)
			outbox->broken = -errno;
	}
	if (outbox->broken)
		outbox_discard(outbox);
	else if (outbox->blocked)
		ring_watch_room(outbox->ring, outbox->watch, true);
	else if (outbox->first)
		ring_later(outbox->ring, &outbox->task);
	outbox->drained(outbox); // may free it
}

void outbox_room(struct outbox *outbox)
{
	if (!outbox->blocked)
		return;
	outbox->blocked = false;
	ring_watch_room(outbox->ring, outbox->watch, false);
	ring_later(outbox->ring, &outbox->task);
}
