// SPDX-License-Identifier: Apache-2.0
// Frames over a transport: gathering, flushing, the next one, and the answer that is due.
#include "link/channel.h"

#include "link/channel_transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	OUT_GATHER = 256 << 10, // flushed by itself beyond this
	OUT_SIZE = OUT_GATHER + WIRE_FRAME_MAX,
	IN_SIZE = 2 * WIRE_FRAME_MAX,
	REFUSE_LINGER_MS = 3000,
	LOOK_MS = 1000, // while it waits: whether anything moves
	DRAIN_MS = 20,	// while it waits for that alone: whether all is there
};

struct channel {
	uint64_t id;
	struct channel_transport *transport;
	struct pin peer;
	int failed; // sticky: what ended the connection
	unsigned char *out;
	size_t out_len;
	unsigned char *in; // [in_at, in_len) is not consumed yet
	size_t in_at, in_len;
	struct wire_ack acked;
	struct wire_time time; // the newest, of `told`
	bool asked, told; // a question is on its way; an answer was not taken yet
	int64_t asked_ms, told_ms;
	struct channel_gate gate; // pass is NULL: none
	uint64_t seen_in, seen_taken; // by channel_moves()
	atomic_bool over;
};

static int channel_fail(struct channel *channel, struct err *err, int code, const char *what)
{
	if (!channel->failed)
		channel->failed = code;
	return code == -ETIMEDOUT ? err_set(err, code, "%s: no answer in time", what) : err_sys(err, code, "%s", what);
}

static int64_t now_ms(const struct channel *channel)
{
	return channel->transport->ops->now_ms(channel->transport);
}

int channel_over(struct channel_transport *transport, const struct pin *peer, struct channel **ret_channel, struct err *err)
{
	struct channel *channel = calloc(1, sizeof(*channel));
	if (!channel) {
		transport->ops->close(transport, false);
		return err_sys(err, -ENOMEM, "open a connection");
	}
	static _Atomic uint64_t connections;
	channel->id = ++connections;
	channel->transport = transport;
	channel->peer = *peer;
	channel->out = malloc(OUT_SIZE);
	channel->in = malloc(IN_SIZE);
	if (!channel->out || !channel->in) {
		channel_close(channel);
		return err_sys(err, -ENOMEM, "open a connection");
	}
	*ret_channel = channel;
	return 0;
}

void channel_close(struct channel *channel)
{
	if (!channel)
		return;
	channel->transport->ops->close(channel->transport, !channel->failed);
	free(channel->out);
	free(channel->in);
	free(channel);
}

const struct pin *channel_peer(const struct channel *channel)
{
	return &channel->peer;
}

void channel_abort(struct channel *channel)
{
	atomic_store(&channel->over, true);
	channel->transport->ops->abort(channel->transport);
}

void channel_gate(struct channel *channel, const struct channel_gate *gate)
{
	channel->gate = *gate;
}

// The next `len` bytes, or fewer, may leave.
static int gate_pass(struct channel *channel, bool small, size_t *len)
{
	const struct channel_gate *gate = &channel->gate;
	if (!gate->pass)
		return 0;
	size_t piece = small ? *len : gate->piece(gate->context);
	*len = *len < piece ? *len : piece;
	return gate->pass(gate->context, *len + CHANNEL_RECORD_OVERHEAD, !small, &channel->over);
}

void *channel_room(struct channel *channel, size_t cap)
{
	if (cap > WIRE_FRAME_MAX || (channel->out_len >= OUT_GATHER && channel_flush(channel, NULL)))
		return NULL;
	return channel->failed ? NULL : channel->out + channel->out_len;
}

int channel_put(struct channel *channel, size_t len)
{
	if (len == 0)
		return -EMSGSIZE;
	channel->out_len += len;
	return 0;
}

bool channel_moves(struct channel *channel)
{
	const struct channel_transport_ops *ops = channel->transport->ops;
	uint64_t in = ops->bytes_in(channel->transport), left = ops->bytes_left(channel->transport);
	uint64_t taken = ops->bytes_out(channel->transport) - left;
	// Small ones are in the hands of the peer's host at once, whether anybody there lives to read them or not.
	bool moves = in != channel->seen_in || (left > CHANNEL_SMALL && taken != channel->seen_taken);
	channel->seen_in = in;
	channel->seen_taken = taken;
	return moves;
}

// Some of it. -ETIMEDOUT: nothing has moved for CHANNEL_STALL_MS, or the connection is dead.
static ssize_t send_some(struct channel *channel, const unsigned char *data, size_t len)
{
	int64_t moved_ms = now_ms(channel);
	(void)channel_moves(channel); // what moved before is no news
	for (;;) {
		int64_t look_ms = now_ms(channel) + LOOK_MS;
		ssize_t n = channel->transport->ops->send(channel->transport, data, len, look_ms);
		int64_t now = now_ms(channel);
		if (n != -ETIMEDOUT || now < look_ms)
			return n;
		if (channel_moves(channel))
			moved_ms = now;
		else if (now - moved_ms >= CHANNEL_STALL_MS)
			return n;
	}
}

int channel_flush(struct channel *channel, struct err *err)
{
	if (channel->failed)
		return err_sys(err, channel->failed, "send");
	bool small = channel->out_len <= CHANNEL_SMALL;
	for (size_t put = 0, passed = 0; put < channel->out_len;) {
		if (passed == 0) {
			passed = channel->out_len - put;
			int rc = gate_pass(channel, small, &passed);
			if (rc)
				return channel_fail(channel, err, rc, "send");
		}
		ssize_t n = send_some(channel, channel->out + put, passed);
		if (n < 0)
			return channel_fail(channel, err, (int)n, "send");
		put += (size_t)n;
		passed -= (size_t)n;
	}
	channel->out_len = 0;
	return 0;
}

// Reads what is there, waiting up to the deadline for the first byte.
static int channel_fill(struct channel *channel, int64_t deadline_ms, struct err *err)
{
	if (channel->in_at > 0) {
		memmove(channel->in, channel->in + channel->in_at, channel->in_len - channel->in_at);
		channel->in_len -= channel->in_at;
		channel->in_at = 0;
	}
	ssize_t n = channel->transport->ops->receive(channel->transport, channel->in + channel->in_len, IN_SIZE - channel->in_len,
						     deadline_ms);
	if (n == -ETIMEDOUT)
		return -ETIMEDOUT;
	if (n < 0)
		return channel_fail(channel, err, (int)n, "receive");
	channel->in_len += (size_t)n;
	return 0;
}

int channel_get(struct channel *channel, int timeout_ms, struct wire_frame *ret_frame, struct err *err)
{
	int64_t deadline_ms = now_ms(channel) + timeout_ms;
	for (;;) {
		if (channel->failed)
			return err_sys(err, channel->failed, "receive");
		int rc = wire_frame_next(channel->in + channel->in_at, channel->in_len - channel->in_at, ret_frame);
		if (rc < 0)
			return channel_fail(channel, err, rc, "a frame that is not one of ours");
		if (rc == 1) {
			channel->in_at += WIRE_HEADER_SIZE + ret_frame->len;
			return 1;
		}
		rc = channel_fill(channel, deadline_ms, err);
		if (rc)
			return rc == -ETIMEDOUT ? 0 : rc;
	}
}

bool channel_ready(struct channel *channel)
{
	struct wire_frame frame;
	for (;;) {
		if (channel->failed || wire_frame_next(channel->in + channel->in_at, channel->in_len - channel->in_at, &frame))
			return true;
		int rc = channel_fill(channel, now_ms(channel), NULL);
		if (rc)
			return rc != -ETIMEDOUT;
	}
}

static int answer_ping(struct channel *channel, struct err *err)
{
	void *to = channel_room(channel, WIRE_HEADER_SIZE);
	if (!to)
		return err_sys(err, channel->failed, "send");
	(void)channel_put(channel, wire_put_empty(to, WIRE_HEADER_SIZE, WIRE_PONG));
	return channel_flush(channel, err);
}

bool channel_notes(struct channel *channel, const struct wire_frame *frame)
{
	if (frame->type == WIRE_ACK)
		return wire_get_ack(frame, &channel->acked) == 0;
	if (frame->type != WIRE_TIME)
		return frame->type == WIRE_PONG;
	if (!channel->asked || wire_get_time(frame, &channel->time))
		return false;
	channel->asked = false;
	channel->told = true;
	channel->told_ms = now_ms(channel);
	return true;
}

void channel_ask_time(struct channel *channel)
{
	void *to = channel->asked ? NULL : channel_room(channel, WIRE_HEADER_SIZE);
	if (!to || channel_put(channel, wire_put_empty(to, WIRE_HEADER_SIZE, WIRE_CLOCK)))
		return;
	channel->asked = true;
	channel->asked_ms = now_ms(channel);
}

bool channel_take_time(struct channel *channel, struct channel_time *ret_time)
{
	if (!channel->told)
		return false;
	channel->told = false;
	*ret_time = (struct channel_time){
		.time = channel->time, .round_ms = (uint64_t)(channel->told_ms - channel->asked_ms), .ago_ms = (uint64_t)(now_ms(channel) - channel->told_ms)};
	return true;
}

// Whether there is something that a caller must see: what comes by itself is taken.
static bool has_answer(struct channel *channel)
{
	struct wire_frame frame;
	while (channel_ready(channel)) {
		if (channel->failed || wire_frame_next(channel->in + channel->in_at, channel->in_len - channel->in_at, &frame) != 1)
			return true;
		if (!channel_notes(channel, &frame))
			return true;
		channel->in_at += WIRE_HEADER_SIZE + frame.len;
	}
	return false;
}

struct channel_mark channel_mark(const struct channel *channel)
{
	const struct channel_transport_ops *ops = channel->transport->ops;
	return (struct channel_mark){.at_ms = now_ms(channel), .taken = ops->bytes_out(channel->transport) - ops->bytes_left(channel->transport)};
}

// What may be left, at the pace of the line since then. At first that is the pace of whatever holds things up on the way, so no more than was taken.
static uint64_t settled_bytes(const struct channel *channel, const struct channel_mark *since)
{
	struct channel_mark now = channel_mark(channel);
	int64_t passed_ms = now.at_ms - since->at_ms;
	uint64_t ms = passed_ms > CHANNEL_SETTLED_MS ? (uint64_t)passed_ms : CHANNEL_SETTLED_MS, taken = now.taken - since->taken;
	return max_u64(taken / ms * CHANNEL_SETTLED_MS + taken % ms * CHANNEL_SETTLED_MS / ms, CHANNEL_SMALL);
}

static void drain(struct channel *channel, const struct channel_mark *since)
{
	const struct channel_transport_ops *ops = channel->transport->ops;
	int64_t moved_ms = now_ms(channel);
	(void)channel_moves(channel);
	while (ops->bytes_left(channel->transport) > (since ? settled_bytes(channel, since) : CHANNEL_SMALL) && !has_answer(channel)) {
		int64_t look_ms = now_ms(channel) + DRAIN_MS;
		int rc = channel_fill(channel, look_ms, NULL);
		int64_t now = now_ms(channel);
		if (rc == -ETIMEDOUT && now < look_ms) // it is dead, and waits no more
			return;
		if (channel_moves(channel))
			moved_ms = now;
		else if (now - moved_ms >= CHANNEL_STALL_MS)
			return;
	}
}

void channel_drain(struct channel *channel)
{
	drain(channel, NULL);
}

void channel_settle(struct channel *channel, const struct channel_mark *since)
{
	drain(channel, since);
}

// As channel_get(), but 0 only after `timeout_ms` in which nothing moved: a large frame may take longer, either way.
static int get_moving(struct channel *channel, int timeout_ms, struct wire_frame *ret_frame, struct err *err)
{
	int64_t moved_ms = now_ms(channel);
	(void)channel_moves(channel);
	for (;;) {
		int64_t from = now_ms(channel), left = moved_ms + timeout_ms - from;
		int look = (int)(left < LOOK_MS ? left : LOOK_MS);
		int rc = channel_get(channel, look, ret_frame, err);
		int64_t now = now_ms(channel);
		if (rc || now < from + look) // a frame, an end; or it is dead, and waits no more
			return rc;
		if (channel_moves(channel))
			moved_ms = now;
		else if (now - moved_ms >= timeout_ms)
			return 0;
	}
}

int channel_expect(struct channel *channel, enum wire_type type, int timeout_ms, struct wire_frame *ret_frame,
		   struct wire_failure *ret_failure, struct err *err)
{
	ret_failure->code = 0;
	ret_failure->text[0] = 0;
	for (;;) {
		int rc = get_moving(channel, timeout_ms, ret_frame, err);
		if (rc == 0)
			return channel_fail(channel, err, -ETIMEDOUT, wire_type_name(type));
		if (rc < 0)
			return rc;
		if (ret_frame->type == type)
			return 0;
		if (channel_notes(channel, ret_frame))
			continue;
		if (ret_frame->type == WIRE_PING) {
			rc = answer_ping(channel, err);
			if (rc)
				return rc;
			continue;
		}
		if (ret_frame->type == WIRE_ERROR && wire_get_error(ret_frame, ret_failure) == 0)
			return err_set(err, -EREMOTEIO, "%s", ret_failure->text);
		(void)channel_fail(channel, err, -EBADMSG, "protocol");
		return err_set(err, -EBADMSG, "%s came where %s was due", wire_type_name(ret_frame->type),
			       wire_type_name(type));
	}
}

const struct wire_ack *channel_acked(const struct channel *channel)
{
	return &channel->acked;
}

int channel_fd(const struct channel *channel)
{
	return channel->transport->ops->fd(channel->transport);
}

void channel_refuse(struct channel *channel, enum wire_error code, const char *text)
{
	if (channel->failed == -EBADMSG) // a frame was bad, the connection under it is sound: the peer is told
		channel->failed = 0;
	void *to = channel_room(channel, WIRE_FRAME_MAX);
	if (!to || channel_put(channel, wire_put_error(to, WIRE_FRAME_MAX, code, text)) || channel_flush(channel, NULL))
		return;
	channel->transport->ops->finish(channel->transport);
	int64_t deadline_ms = now_ms(channel) + REFUSE_LINGER_MS;
	do { // what comes is dropped
		channel->in_at = channel->in_len = 0;
	} while (now_ms(channel) < deadline_ms && channel_fill(channel, deadline_ms, NULL) == 0);
	channel->failed = -ECONNRESET;
}

uint64_t channel_id(const struct channel *channel)
{
	return channel->id;
}

uint64_t channel_bytes_out(const struct channel *channel)
{
	return channel->transport->ops->bytes_out(channel->transport);
}

uint64_t channel_bytes_in(const struct channel *channel)
{
	return channel->transport->ops->bytes_in(channel->transport);
}
