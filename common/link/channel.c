// SPDX-License-Identifier: Apache-2.0
#include "link/channel.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/size.h"
#include "link/net.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum {
	OUT_GATHER = 256 << 10, // flushed by itself beyond this
	OUT_SIZE = OUT_GATHER + WIRE_FRAME_MAX,
	IN_SIZE = 2 * WIRE_FRAME_MAX,
	REFUSE_LINGER_MS = 3000,
};

struct channel {
	uint64_t id;
	int fd;
	SSL *ssl;
	struct pin peer;
	int failed; // sticky: what ended the connection
	unsigned char *out;
	size_t out_len;
	unsigned char *in; // [in_at, in_len) is not consumed yet
	size_t in_at, in_len;
};

static int channel_fail(struct channel *channel, struct err *err, int code, const char *what)
{
	if (!channel->failed)
		channel->failed = code;
	ERR_clear_error();
	return code == -ETIMEDOUT ? err_set(err, code, "%s: no answer in time", what) : err_sys(err, code, "%s", what);
}

// After an SSL call that did not finish: waits until it may be tried again. 0, -ETIMEDOUT, or what ended the connection.
static int channel_wait(struct channel *channel, int result, int64_t deadline_ms)
{
	short events;
	switch (SSL_get_error(channel->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		events = POLLIN;
		break;
	case SSL_ERROR_WANT_WRITE:
		events = POLLOUT;
		break;
	case SSL_ERROR_SYSCALL:
		return errno == ECONNRESET || errno == EPIPE || errno == 0 ? -ECONNRESET : -errno;
	case SSL_ERROR_ZERO_RETURN:
		return -ECONNRESET;
	default:
		return -EPROTO;
	}
	for (;;) {
		int64_t left = deadline_ms - clock_mono_ms();
		struct pollfd wait = {.fd = channel->fd, .events = events};
		int ready = poll(&wait, 1, left > 0 ? (int)left : 0);
		if (ready > 0)
			return 0;
		if (ready == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static int handshake(struct channel *channel, struct err *err)
{
	int64_t deadline_ms = clock_mono_ms() + CHANNEL_HANDSHAKE_MS;
	for (;;) {
		ERR_clear_error();
		errno = 0;
		int result = SSL_do_handshake(channel->ssl);
		if (result == 1)
			break;
		int rc = channel_wait(channel, result, deadline_ms);
		if (rc == -EPROTO)
			return channel_fail(channel, err, rc, "the other side does not speak kagami/1 over TLS 1.3");
		if (rc)
			return channel_fail(channel, err, rc, "TLS handshake");
	}
	X509 *certificate = SSL_get0_peer_certificate(channel->ssl);
	unsigned char *der = NULL;
	int len = certificate ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der) : 0;
	bool known = len > 0 && EVP_Digest(der, (size_t)len, channel->peer.bytes, NULL, EVP_sha256(), NULL);
	OPENSSL_free(der);
	const unsigned char *protocol;
	unsigned protocol_len;
	SSL_get0_alpn_selected(channel->ssl, &protocol, &protocol_len);
	if (!known || protocol_len != strlen(WIRE_ALPN) || memcmp(protocol, WIRE_ALPN, protocol_len) != 0)
		return channel_fail(channel, err, -EPROTO, "the other side does not speak kagami/1");
	return 0;
}

static int channel_new(SSL_CTX *context, int fd, bool server, struct channel **ret_channel, struct err *err)
{
	struct channel *channel = calloc(1, sizeof(*channel));
	if (!channel) {
		(void)close(fd);
		return err_sys(err, -ENOMEM, "open a connection");
	}
	static _Atomic uint64_t connections;
	channel->id = ++connections;
	channel->fd = fd;
	channel->out = malloc(OUT_SIZE);
	channel->in = malloc(IN_SIZE);
	channel->ssl = SSL_new(context);
	int rc = 0;
	if (!channel->out || !channel->in || !channel->ssl || SSL_set_fd(channel->ssl, fd) != 1)
		rc = err_sys(err, -ENOMEM, "open a connection");
	if (rc == 0) {
		if (server)
			SSL_set_accept_state(channel->ssl);
		else
			SSL_set_connect_state(channel->ssl);
		rc = handshake(channel, err);
	}
	if (rc) {
		channel_close(channel);
		return rc;
	}
	*ret_channel = channel;
	return 0;
}

int channel_connect(SSL_CTX *context, const char *address, const struct pin *expected, struct channel **ret_channel,
		    struct err *err)
{
	int fd = net_connect(address, CHANNEL_HANDSHAKE_MS, err);
	if (fd < 0)
		return fd;
	struct channel *channel = NULL;
	int rc = channel_new(context, fd, false, &channel, err);
	if (rc) {
		err_wrap(err, "%s", address);
		return rc;
	}
	if (expected && !pin_equal(&channel->peer, expected)) {
		channel_close(channel);
		return err_set(err, -EKEYREJECTED,
			       "%s answers with another key than the one paired with: it is not that receiver, or its key was "
			       "lost and it must be paired anew",
			       address);
	}
	*ret_channel = channel;
	return 0;
}

int channel_accept(SSL_CTX *context, int fd, struct channel **ret_channel, struct err *err)
{
	int one = 1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return channel_new(context, fd, true, ret_channel, err);
}

void channel_close(struct channel *channel)
{
	if (!channel)
		return;
	if (channel->ssl && SSL_is_init_finished(channel->ssl) && !channel->failed)
		(void)SSL_shutdown(channel->ssl);
	ERR_clear_error();
	SSL_free(channel->ssl);
	(void)close(channel->fd);
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
	(void)shutdown(channel->fd, SHUT_RDWR);
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

int channel_flush(struct channel *channel, struct err *err)
{
	if (channel->failed)
		return err_sys(err, channel->failed, "send");
	size_t put = 0;
	while (put < channel->out_len) {
		ERR_clear_error();
		errno = 0;
		int n = SSL_write(channel->ssl, channel->out + put, (int)(channel->out_len - put));
		if (n > 0) {
			put += (size_t)n;
			continue;
		}
		int rc = channel_wait(channel, n, clock_mono_ms() + CHANNEL_STALL_MS);
		if (rc)
			return channel_fail(channel, err, rc, "send");
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
	for (;;) {
		ERR_clear_error();
		errno = 0;
		int n = SSL_read(channel->ssl, channel->in + channel->in_len, (int)(IN_SIZE - channel->in_len));
		if (n > 0) {
			channel->in_len += (size_t)n;
			return 0;
		}
		int rc = channel_wait(channel, n, deadline_ms);
		if (rc == -ETIMEDOUT)
			return rc;
		if (rc)
			return channel_fail(channel, err, rc, "receive");
	}
}

int channel_get(struct channel *channel, int timeout_ms, struct wire_frame *ret_frame, struct err *err)
{
	int64_t deadline_ms = clock_mono_ms() + timeout_ms;
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

static int answer_ping(struct channel *channel, struct err *err)
{
	void *to = channel_room(channel, WIRE_HEADER_SIZE);
	if (!to)
		return err_sys(err, channel->failed, "send");
	(void)channel_put(channel, wire_put_empty(to, WIRE_HEADER_SIZE, WIRE_PONG));
	return channel_flush(channel, err);
}

int channel_expect(struct channel *channel, enum wire_type type, int timeout_ms, struct wire_frame *ret_frame,
		   struct wire_failure *ret_failure, struct err *err)
{
	ret_failure->code = 0;
	ret_failure->text[0] = 0;
	for (;;) {
		int rc = channel_get(channel, timeout_ms, ret_frame, err);
		if (rc == 0)
			return channel_fail(channel, err, -ETIMEDOUT, wire_type_name(type));
		if (rc < 0)
			return rc;
		if (ret_frame->type == type)
			return 0;
		if (ret_frame->type == WIRE_PONG)
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

int channel_fd(const struct channel *channel)
{
	return channel->fd;
}

void channel_refuse(struct channel *channel, enum wire_error code, const char *text)
{
	if (channel->failed == -EBADMSG) // a frame was bad, the connection under it is sound: the peer is told
		channel->failed = 0;
	void *to = channel_room(channel, WIRE_FRAME_MAX);
	if (!to || channel_put(channel, wire_put_error(to, WIRE_FRAME_MAX, code, text)) || channel_flush(channel, NULL))
		return;
	(void)SSL_shutdown(channel->ssl);
	(void)shutdown(channel->fd, SHUT_WR);
	int64_t deadline_ms = clock_mono_ms() + REFUSE_LINGER_MS;
	do { // what comes is dropped
		channel->in_at = channel->in_len = 0;
	} while (clock_mono_ms() < deadline_ms && channel_fill(channel, deadline_ms, NULL) == 0);
	channel->failed = -ECONNRESET;
}

uint64_t channel_id(const struct channel *channel)
{
	return channel->id;
}

uint64_t channel_bytes_out(const struct channel *channel)
{
	return BIO_number_written(SSL_get_wbio(channel->ssl));
}

uint64_t channel_bytes_in(const struct channel *channel)
{
	return BIO_number_read(SSL_get_rbio(channel->ssl));
}
