// SPDX-License-Identifier: Apache-2.0
// TLS 1.3 over TCP under a channel: the handshake, and bytes with time limits over a socket that does not block.
#include "link/channel_transport.h"

#include "base/clock.h"
#include "link/net.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct tls {
	struct channel_transport transport; // first
	int fd;
	SSL *ssl;
};

static struct tls *tls_of(struct channel_transport *transport)
{
	return (struct tls *)(void *)transport;
}

// After an SSL call that did not finish: waits until it may be tried again. 0, -ETIMEDOUT, or what ended the connection.
static int tls_wait(struct tls *tls, int result, int64_t deadline_ms)
{
	short events;
	switch (SSL_get_error(tls->ssl, result)) {
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
		struct pollfd wait = {.fd = tls->fd, .events = events};
		int ready = poll(&wait, 1, left > 0 ? (int)left : 0);
		if (ready > 0)
			return 0;
		if (ready == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

static ssize_t tls_send(struct channel_transport *transport, const void *data, size_t len, int64_t deadline_ms)
{
	struct tls *tls = tls_of(transport);
	for (;;) {
		ERR_clear_error();
		errno = 0;
		int n = SSL_write(tls->ssl, data, (int)len);
		int rc = n > 0 ? n : tls_wait(tls, n, deadline_ms);
		if (rc)
			return rc;
	}
}

static ssize_t tls_receive(struct channel_transport *transport, void *data, size_t cap, int64_t deadline_ms)
{
	struct tls *tls = tls_of(transport);
	for (;;) {
		ERR_clear_error();
		errno = 0;
		int n = SSL_read(tls->ssl, data, (int)cap);
		int rc = n > 0 ? n : tls_wait(tls, n, deadline_ms);
		if (rc)
			return rc;
	}
}

static int64_t tls_now_ms(struct channel_transport *transport)
{
	(void)transport;
	return clock_mono_ms();
}

static void tls_finish(struct channel_transport *transport)
{
	(void)SSL_shutdown(tls_of(transport)->ssl);
	(void)shutdown(tls_of(transport)->fd, SHUT_WR);
}

static void tls_abort(struct channel_transport *transport)
{
	(void)shutdown(tls_of(transport)->fd, SHUT_RDWR);
}

static int tls_fd(struct channel_transport *transport)
{
	return tls_of(transport)->fd;
}

static uint64_t tls_bytes_out(struct channel_transport *transport)
{
	return BIO_number_written(SSL_get_wbio(tls_of(transport)->ssl));
}

static uint64_t tls_bytes_in(struct channel_transport *transport)
{
	return BIO_number_read(SSL_get_rbio(tls_of(transport)->ssl));
}

// Of TCP: what was not sent yet, and what was not acknowledged.
static uint64_t tls_bytes_left(struct channel_transport *transport)
{
	int left = 0;
	return ioctl(tls_of(transport)->fd, SIOCOUTQ, &left) == 0 && left > 0 ? (uint64_t)left : 0;
}

static void tls_close(struct channel_transport *transport, bool sound)
{
	struct tls *tls = tls_of(transport);
	if (tls->ssl && SSL_is_init_finished(tls->ssl) && sound)
		(void)SSL_shutdown(tls->ssl);
	ERR_clear_error();
	SSL_free(tls->ssl);
	(void)close(tls->fd);
	free(tls);
}

static const struct channel_transport_ops tls_ops = {
	.send = tls_send,
	.receive = tls_receive,
	.now_ms = tls_now_ms,
	.finish = tls_finish,
	.abort = tls_abort,
	.fd = tls_fd,
	.bytes_out = tls_bytes_out,
	.bytes_in = tls_bytes_in,
	.bytes_left = tls_bytes_left,
	.close = tls_close,
};

// A peer's host that is gone sends no end of the connection. PING finds that out while the connection is idle; while a commit is waited for
// only the peer's TCP can answer. Data that was sent, and what the keepalive asks, must be acknowledged by it within CHANNEL_STALL_MS.
static void keep_alive(int fd)
{
	int on = 1, idle_s = CHANNEL_KEEPALIVE_S, every_s = CHANNEL_KEEPALIVE_S / 2, gone_ms = CHANNEL_STALL_MS;
	int probes = (CHANNEL_STALL_MS / 1000 - idle_s) / every_s;
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &gone_ms, sizeof(gone_ms));
}

static int handshake_failed(struct err *err, int code, const char *what)
{
	ERR_clear_error();
	return code == -ETIMEDOUT ? err_set(err, code, "%s: no answer in time", what) : err_sys(err, code, "%s", what);
}

static int handshake(struct tls *tls, struct pin *ret_peer, struct err *err)
{
	int64_t deadline_ms = clock_mono_ms() + CHANNEL_HANDSHAKE_MS;
	for (;;) {
		ERR_clear_error();
		errno = 0;
		int result = SSL_do_handshake(tls->ssl);
		if (result == 1)
			break;
		int rc = tls_wait(tls, result, deadline_ms);
		if (rc == -EPROTO)
			return handshake_failed(err, rc, "the other side does not speak kagami/1 over TLS 1.3");
		if (rc)
			return handshake_failed(err, rc, "TLS handshake");
	}
	X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
	unsigned char *der = NULL;
	int len = certificate ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der) : 0;
	bool known = len > 0 && EVP_Digest(der, (size_t)len, ret_peer->bytes, NULL, EVP_sha256(), NULL);
	OPENSSL_free(der);
	const unsigned char *protocol;
	unsigned protocol_len;
	SSL_get0_alpn_selected(tls->ssl, &protocol, &protocol_len);
	if (!known || protocol_len != strlen(WIRE_ALPN) || memcmp(protocol, WIRE_ALPN, protocol_len) != 0)
		return handshake_failed(err, -EPROTO, "the other side does not speak kagami/1");
	return 0;
}

static int channel_new(SSL_CTX *context, int fd, bool server, struct channel **ret_channel, struct err *err)
{
	struct tls *tls = calloc(1, sizeof(*tls));
	if (!tls) {
		(void)close(fd);
		return err_sys(err, -ENOMEM, "open a connection");
	}
	tls->transport.ops = &tls_ops;
	tls->fd = fd;
	keep_alive(fd);
	tls->ssl = SSL_new(context);
	struct pin peer;
	int rc = 0;
	if (!tls->ssl || SSL_set_fd(tls->ssl, fd) != 1)
		rc = err_sys(err, -ENOMEM, "open a connection");
	if (rc == 0) {
		if (server)
			SSL_set_accept_state(tls->ssl);
		else
			SSL_set_connect_state(tls->ssl);
		rc = handshake(tls, &peer, err);
	}
	if (rc) {
		tls_close(&tls->transport, false);
		return rc;
	}
	return channel_over(&tls->transport, &peer, ret_channel, err);
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
	if (expected && !pin_equal(channel_peer(channel), expected)) {
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
