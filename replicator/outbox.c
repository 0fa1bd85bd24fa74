// SPDX-License-Identifier: Apache-2.0
// The sending side of a connection: what the socket takes at once, in order; the rest when the peer has taken something.
#include "replicator/outbox.h"

#include "base/descriptor.h"
#include "base/size.h"
#include "replicator/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PIPE_BYTES = 1 << 20 }; // at once: others have their turn

static void outbox_flush(struct outbox *outbox);

static void on_task(struct ring_task *task)
{
	outbox_flush(HOLDER(task, struct outbox, task));
}

void outbox_init(struct outbox *outbox, struct ring *ring, int fd, struct ring_watch *watch, void (*drained)(struct outbox *outbox))
{
	*outbox = (struct outbox){.ring = ring, .watch = watch, .fd = fd, .drained = drained};
	outbox->end = &outbox->first;
	outbox->task.run = on_task;
}

static void pipe_close(struct outbox_pipe *to)
{
	if (to->room) {
		(void)close(to->fd[0]);
		(void)close(to->fd[1]);
	}
	*to = (struct outbox_pipe){.refused = to->refused};
}

void outbox_done(struct outbox *outbox)
{
	pipe_close(&outbox->pipe);
}

// Has PIPE_BYTES where the kernel grants them, else what any pipe has.
static bool pipe_open(struct outbox_pipe *to)
{
	if (to->room || to->refused)
		return to->room;
	if (!descriptor_pipe(to->fd)) {
		to->refused = true;
		return false;
	}
	(void)fcntl(to->fd[1], F_SETPIPE_SZ, PIPE_BYTES);
	int room = fcntl(to->fd[1], F_GETPIPE_SZ);
	to->room = room > 0 ? (size_t)room : PIECE_SIZE;
	return true;
}

// A page takes a place in a pipe, as does a part of one.
size_t outbox_takes(struct outbox *outbox, uint64_t off)
{
	return pipe_open(&outbox->pipe) ? outbox->pipe.room - off % PIECE_SIZE : 0;
}

void outbox_push(struct outbox *outbox, struct reply *reply)
{
	reply->next = NULL;
	*outbox->end = reply;
	outbox->end = &reply->next;
	outbox->images += reply->image != NULL;
	if (!outbox->blocked)
		ring_later(outbox->ring, &outbox->task);
}

static struct reply *unlink_at(struct outbox *outbox, struct reply **at)
{
	struct reply *reply = *at;
	*at = reply->next;
	if (!*at)
		outbox->end = at;
	outbox->images -= reply->image != NULL;
	return reply;
}

static struct reply *outbox_pop(struct outbox *outbox)
{
	return unlink_at(outbox, &outbox->first);
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

// O1
static void take_first_image(struct outbox *outbox)
{
	struct outbox_pipe *pipe = &outbox->pipe;
	struct reply **at = &outbox->first;
	if (pipe->held || !outbox->images)
		return;
	while (!(*at)->image)
		at = &(*at)->next;
	struct reply *reply = *at;
	if (pipe_open(pipe) && image_take(reply->image, pipe->fd[1], reply->off, reply->len) == 0) {
		pipe->held = reply->len;
		return;
	}
	pipe_close(pipe); // with the part that it holds
	(void)unlink_at(outbox, at);
	reply->untaken(reply);
}

// Heads and data, up to the first that lies in an image. 0: the first is of an image and not taken.
static ssize_t send_memory(struct outbox *outbox)
{
	struct iovec iov[OUTBOX_IOVS];
	unsigned count = 0;
	size_t skip = outbox->skip;
	for (const struct reply *r = outbox->first; r && count + 2 <= OUTBOX_IOVS; r = r->next) {
		if (r->image && !outbox->pipe.held) // the one before it could not be taken
			break;
		count = add_iov(iov, count, r->head, r->head_len, &skip);
		if (r->image)
			break;
		count = add_iov(iov, count, r->data, r->len, &skip);
	}
	const struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
	return count ? sendmsg(outbox->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
}

static ssize_t send_some(struct outbox *outbox)
{
	struct outbox_pipe *pipe = &outbox->pipe;
	take_first_image(outbox);
	const struct reply *reply = outbox->first;
	if (!reply)
		return 0;
	if (!reply->image || outbox->skip < reply->head_len)
		return send_memory(outbox);
	ssize_t sent = splice(pipe->fd[0], NULL, outbox->fd, NULL, pipe->held, SPLICE_F_NONBLOCK);
	if (sent > 0)
		pipe->held -= (size_t)sent;
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
