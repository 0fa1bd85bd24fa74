// SPDX-License-Identifier: Apache-2.0
// Frames over TLS 1.3 over TCP: one connection, used by one thread, blocking with time limits.
//
// What is put is gathered and leaves with channel_flush(), or when enough has come together for large TLS records. Both
// sides must keep what they send without reading small (replies are bounded by the requests in flight), so that two
// full directions cannot wait for each other.
#ifndef KAGAMI_LINK_CHANNEL_H
#define KAGAMI_LINK_CHANNEL_H

#include "base/err.h"
#include "format/wire.h"
#include "link/identity.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	CHANNEL_HANDSHAKE_MS = 10000, // from accept or connect to the end of the handshake
	CHANNEL_STALL_MS = 30000,     // a connection on which nothing moves for so long is dead
	CHANNEL_KEEPALIVE_S = 10,     // TCP asks a silent peer's host after so long; it is dead after CHANNEL_STALL_MS, also while
				      // an answer is waited for that may take minutes
	CHANNEL_SETTLED_MS = 500,
	CHANNEL_PING_MS = 10000,      // an idle source pings so often; either side gives up after CHANNEL_STALL_MS of silence
};

struct channel;

// Connects and shakes hands. With `expected` the peer must hold that key: -EKEYREJECTED otherwise.
int channel_connect(SSL_CTX *context, const char *address, const struct pin *expected, struct channel **ret_channel,
		    struct err *err);
// The server's side over an accepted socket, which is the channel's from here on, also on failure.
int channel_accept(SSL_CTX *context, int fd, struct channel **ret_channel, struct err *err);
void channel_close(struct channel *channel); // takes NULL; what is not flushed is lost

const struct pin *channel_peer(const struct channel *channel);
// Makes the thread that waits in the channel fail with -ECONNRESET. The one call for other threads.
void channel_abort(struct channel *channel);

// What is asked before anything leaves, so that a limit of bandwidth can be kept. Small messages of their own (an answer, a sign of life, SEAL)
// are told, and do not wait.
struct channel_gate {
	size_t (*piece)(void *context); // the most that leaves at once
	// Bytes on the wire, TLS's own included. Waits when `may_wait`; a negative code ends the connection. `over`: the channel was aborted.
	int (*pass)(void *context, size_t bytes, bool may_wait, const atomic_bool *over);
	void *context;
};
enum { CHANNEL_SMALL = 1024, CHANNEL_RECORD_OVERHEAD = 22 };
void channel_gate(struct channel *channel, const struct channel_gate *gate); // copied; before anything bulky is put

// Room for a frame of up to `cap` bytes (WIRE_FRAME_MAX at most), to be filled by a wire_put_ function; then channel_put() with the
// length. NULL when the connection failed while room was made.
void *channel_room(struct channel *channel, size_t cap);
// -EMSGSIZE when `len` is 0: the encoder refused.
int channel_put(struct channel *channel, size_t len);
int channel_flush(struct channel *channel, struct err *err);

// The next frame: 1, and valid until the next call; 0 when `timeout_ms` passed; -ECONNRESET when the peer is gone; -EBADMSG.
int channel_get(struct channel *channel, int timeout_ms, struct wire_frame *ret_frame, struct err *err);
// Whether channel_get() would not wait: there is a frame, or the connection has failed.
bool channel_ready(struct channel *channel);
// As channel_get, for the answer `type`: skips PONG, notes ACK and TIME, answers PING, and turns ERROR into -EREMOTEIO with *ret_failure filled
// (code 0 when the failure is another). -ETIMEDOUT when neither a frame came nor anything moved (below) for `timeout_ms`.
int channel_expect(struct channel *channel, enum wire_type type, int timeout_ms, struct wire_frame *ret_frame,
		   struct wire_failure *ret_failure, struct err *err);

// Whether anything has moved since the call before: a byte came in, if only a part of a frame, or of more than CHANNEL_SMALL bytes on their way out
// the peer's host took some. A link may need minutes for one frame, and lives. To be asked about every second.
bool channel_moves(struct channel *channel);

// Waits until the peer's host has what was flushed, all but CHANNEL_SMALL bytes; or an answer came (not what channel_notes()); or nothing has moved for CHANNEL_STALL_MS, or the
// connection has failed. What follows says which: until this returns it is the link that is waited for, then the peer.
void channel_drain(struct channel *channel);
// The same, but until what is left is less than CHANNEL_SETTLED_MS of what the line has taken since the mark: it is then neither idle nor behind.
struct channel_mark {
	int64_t at_ms;
	uint64_t taken; // by the peer's host
};
struct channel_mark channel_mark(const struct channel *channel);
void channel_settle(struct channel *channel, const struct channel_mark *since);

// Asks the peer for its clock (WIRE_CLOCK), with what leaves next, unless an answer is still to come.
void channel_ask_time(struct channel *channel);
struct channel_time {
	struct wire_time time;
	uint64_t round_ms, ago_ms; // from the question to the answer, to within a millisecond, and since that came; by the monotonic clock
};
// The answer, where there is one that nobody took yet.
bool channel_take_time(struct channel *channel, struct channel_time *ret_time);

// Whether the frame is one that comes by itself: PONG, or ACK or TIME, which are noted.
bool channel_notes(struct channel *channel, const struct wire_frame *frame);
// The newest ACK that came so far; all zeros before the first.
const struct wire_ack *channel_acked(const struct channel *channel);

// For a thread that also waits for other things: readable when the peer may have said something. Ask channel_get() with
// a timeout of 0 before waiting, since what TLS has taken in already does not show here.
int channel_fd(const struct channel *channel);

// Sends ERROR and waits, for a few seconds at most, until the peer has hung up: a connection that is closed with unread
// input is reset, and a reset overtakes what was sent. Then only channel_close() is left.
void channel_refuse(struct channel *channel, enum wire_error code, const char *text);

uint64_t channel_id(const struct channel *channel); // another one for each connection of this process
uint64_t channel_bytes_out(const struct channel *channel); // on the wire, all told: TLS records included
uint64_t channel_bytes_in(const struct channel *channel);  // for tests: likewise

#endif
