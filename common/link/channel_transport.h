// SPDX-License-Identifier: Apache-2.0
// What the frames of a channel travel over: bytes in order, both ways. Two implementations: TLS over TCP (channel_tls.c), and the
// simulated network of the tests. channel.h is the side that everybody else sees.
#ifndef KAGAMI_LINK_CHANNEL_TRANSPORT_H
#define KAGAMI_LINK_CHANNEL_TRANSPORT_H

#include "link/channel.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct channel_transport {
	const struct channel_transport_ops *ops;
};

struct channel_transport_ops {
	// How many of the bytes were taken, or given: at least one. -ETIMEDOUT when that did not happen before the deadline; -ECONNRESET and
	// other codes end the connection.
	ssize_t (*send)(struct channel_transport *transport, const void *data, size_t len, int64_t deadline_ms);
	ssize_t (*receive)(struct channel_transport *transport, void *data, size_t cap, int64_t deadline_ms);
	int64_t (*now_ms)(struct channel_transport *transport); // on the clock of the deadlines
	void (*finish)(struct channel_transport *transport);	// nothing more will be sent: the peer sees an end
	void (*abort)(struct channel_transport *transport);	// ends both directions; any thread
	int (*fd)(struct channel_transport *transport);
	uint64_t (*bytes_out)(struct channel_transport *transport);
	uint64_t (*bytes_in)(struct channel_transport *transport);
	uint64_t (*bytes_left)(struct channel_transport *transport); // of bytes_out, what the peer's host has not taken yet
	void (*close)(struct channel_transport *transport, bool sound); // frees it; `sound`: the peer may be told
};

// A channel over a transport that is ready, and the channel's from here on, also on failure.
int channel_over(struct channel_transport *transport, const struct pin *peer, struct channel **ret_channel, struct err *err);

#endif
