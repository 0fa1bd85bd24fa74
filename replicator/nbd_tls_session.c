// SPDX-License-Identifier: Apache-2.0
// One client over TCP:
//
//	greet ──► options in the clear ──STARTTLS──► handshake ──► options ──GO, EXPORT_NAME──► attach ──► pump
//	          10 s up to here's end ───────────────────────┘   10 s                     ┘
//
// Before TLS exactly the bytes of each option are read from the socket, never more: so nothing that was said in the clear can
// be taken for something said inside TLS.
#include "replicator/nbd_tls_session.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "replicator/nbd_pump.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <openssl/err.h>
#include <openssl/x509.h>

enum { SECURE_MS = 10000, CHOOSE_MS = 10000, ATTACH_MS = 10000, GONE_MS = 40000, REPLY_DATA_MAX = 8192 };

struct wire {
	const struct nbd_tls_session *session;
	SSL *ssl; // NULL: in the clear
	int fd;
	int64_t deadline_ms;
	const char *alert; // the client's, in the words of TLS; NULL: none
	const char *late;  // what was not done by then; NULL: it has its disk
};

static int wire_wait(const struct wire *wire, short events)
{
	struct pollfd fds[] = {{.fd = wire->fd, .events = events}, {.fd = wire->session->stop_fd, .events = POLLIN}};
	int64_t left = wire->deadline_ms - clock_mono_ms();
	int ready = left > 0 ? poll(fds, 2, (int)left) : 0;
	if (ready < 0)
		return errno == EINTR ? 0 : -errno;
	if (ready == 0)
		return -ETIMEDOUT;
	return fds[1].revents ? -ESHUTDOWN : 0;
}

// After a call of TLS that did not succeed: waits for what it needs.
static int wire_wait_tls(const struct wire *wire, int result)
{
	switch (SSL_get_error(wire->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return wire_wait(wire, POLLIN);
	case SSL_ERROR_WANT_WRITE:
		return wire_wait(wire, POLLOUT);
	case SSL_ERROR_ZERO_RETURN:
	case SSL_ERROR_SYSCALL:
		return -ECONNRESET;
	default:
		return -EPROTO;
	}
}

// One attempt: bytes moved, 0 to try again, or a negative errno.
static ssize_t wire_try(const struct wire *wire, unsigned char *at, size_t len, bool reading)
{
	size_t moved = 0;
	if (clock_mono_ms() >= wire->deadline_ms) // also of one that says much, and is never waited for
		return -ETIMEDOUT;
	if (wire->ssl) {
		ERR_clear_error();
		if (reading ? SSL_read_ex(wire->ssl, at, len, &moved) : SSL_write_ex(wire->ssl, at, len, &moved))
			return (ssize_t)moved;
		return wire_wait_tls(wire, 0);
	}
	ssize_t got = reading ? recv(wire->fd, at, len, MSG_DONTWAIT) : send(wire->fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (got > 0)
		return got;
	if (got == 0)
		return -ECONNRESET;
	if (errno != EAGAIN && errno != EINTR)
		return -errno;
	return wire_wait(wire, reading ? POLLIN : POLLOUT);
}

static int wire_all(const struct wire *wire, void *data, size_t len, bool reading)
{
	for (size_t at = 0; at < len;) {
		ssize_t moved = wire_try(wire, (unsigned char *)data + at, len - at, reading);
		if (moved < 0)
			return (int)moved;
		at += (size_t)moved;
	}
	return 0;
}

static int wire_read(const struct wire *wire, void *to, size_t len)
{
	return wire_all(wire, to, len, true);
}

static int wire_write(const struct wire *wire, void *from, size_t len)
{
	return wire_all(wire, from, len, false);
}

// ---- the disk's side

static int connect_export(const struct nbd_tls_session *session, const char *protection)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	if ((size_t)snprintf(to.sun_path, sizeof(to.sun_path), "%s/nbd/%s.sock", session->run_dir, protection) >=
	    sizeof(to.sun_path))
		return -ENAMETOOLONG;
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)))
		return -errno;
	int taken = fd;
	fd = -1;
	return taken;
}

// Reads the replies to one option up to its ACK. The export must have the size that the client was told.
static int read_replies(const struct wire *wire, uint64_t size)
{
	for (;;) {
		unsigned char head[20], data[REPLY_DATA_MAX];
		int rc = wire_read(wire, head, sizeof(head));
		if (rc)
			return rc;
		uint32_t type = get_be32(head + 12), len = get_be32(head + 16);
		if (len > sizeof(data))
			return -EBADMSG;
		rc = wire_read(wire, data, len);
		if (rc || type == 1) // NBD_REP_ACK
			return rc;
		if (type & UINT32_C(1) << 31)
			return -ENOENT;
		bool is_size = type == 3 && len == 12 && get_be16(data) == 0; // NBD_REP_INFO, NBD_INFO_EXPORT
		if (is_size && get_be64(data + 2) != size)
			return -ESTALE;
	}
}

// A socket on which the chosen disk waits for requests.
static int attach(const struct nbd_tls_session *session, const struct nbd_front *front)
{
	unsigned char buffer[NBD_ANSWER_MAX];
	unsigned options = 0;
	AUTO_CLOSE int fd = connect_export(session, front->chosen.protection);
	if (fd < 0)
		return fd;
	struct wire wire = {.session = session, .fd = fd, .deadline_ms = clock_mono_ms() + ATTACH_MS};
	int rc = wire_read(&wire, buffer, NBD_GREETING_SIZE);
	if (rc == 0)
		rc = wire_write(&wire, buffer, nbd_front_introduce(front, buffer, &options));
	for (unsigned i = 0; i < options && rc == 0; i++)
		rc = read_replies(&wire, front->chosen.size);
	if (rc)
		return rc;
	int taken = fd;
	fd = -1;
	return taken;
}

// ---- the client's side

static void on_tls(const SSL *ssl, int where, int value)
{
	struct wire *wire = SSL_get_app_data(ssl);
	if (where == SSL_CB_READ_ALERT && (value & 0xff) != SSL_AD_CLOSE_NOTIFY)
		wire->alert = SSL_alert_desc_string_long(value);
}

static void log_alert(const struct wire *wire)
{
	char why[128];
	(void)snprintf(why, sizeof(why), "it ended TLS with the alert \"%s\"", wire->alert);
	wire->session->refused(wire->session->owner, NBD_TLS_REFUSED, why);
}

static void log_refused(const struct wire *wire, int rc)
{
	long verified = SSL_get_verify_result(wire->ssl);
	const char *why = ERR_reason_error_string(ERR_peek_error());
	if (verified != X509_V_OK)
		why = X509_verify_cert_error_string(verified);
	if (rc != -ETIMEDOUT && !wire->alert)
		wire->session->refused(wire->session->owner, NBD_TLS_REFUSED,
				       why ? why : "it went away in the midst of TLS, as one does that does not trust server-cert.pem");
	ERR_clear_error();
}

static int secure(struct wire *wire)
{
	const struct nbd_tls_session *session = wire->session;
	wire->ssl = SSL_new(session->context);
	if (!wire->ssl || SSL_set_fd(wire->ssl, wire->fd) != 1)
		return -ENOMEM;
	SSL_set_app_data(wire->ssl, wire);
	SSL_set_info_callback(wire->ssl, on_tls);
	for (;;) {
		ERR_clear_error();
		int result = SSL_accept(wire->ssl);
		if (result == 1)
			break;
		int rc = wire_wait_tls(wire, result);
		if (rc) {
			log_refused(wire, rc);
			return rc;
		}
	}
	wire->deadline_ms = clock_mono_ms() + CHOOSE_MS;
	wire->late = "it chose no disk for 10 s";
	return session->known(session->owner);
}

static int send_list(const struct wire *wire, const struct nbd_front *front, unsigned char *buffer)
{
	bool last = false;
	int rc = 0;
	for (unsigned n = 0; rc == 0 && !last; n++) {
		size_t len = nbd_front_list_item(front, n, buffer, &last);
		rc = wire_write(wire, buffer, len);
	}
	return rc;
}

// With its data still to come: who sends so much looks for no answer before.
static int refuse_long_option(const struct wire *wire, unsigned char *answer, size_t answered, unsigned char *in, uint32_t skip)
{
	int rc = wire_write(wire, answer, answered);
	while (rc == 0 && skip) {
		uint32_t len = skip < NBD_OPTION_DATA_MAX ? skip : NBD_OPTION_DATA_MAX;
		rc = wire_read(wire, in, len);
		skip -= len;
	}
	return rc;
}

// The next one that is not too long; those that are were refused.
static int read_option(const struct wire *wire, const struct nbd_front *front, unsigned char *in, unsigned char *answer, size_t *ret_len)
{
	size_t have = 0, need = 0, answered;
	uint32_t skip;
	int rc = nbd_front_need(front, in, have, &need);
	while (rc == 0 && have < need) {
		rc = wire_read(wire, in + have, need - have);
		have = need;
		if (rc == 0 && nbd_front_too_big(front, in, have, answer, &answered, &skip)) {
			rc = refuse_long_option(wire, answer, answered, in, skip);
			have = 0;
		}
		if (rc == 0)
			rc = nbd_front_need(front, in, have, &need);
	}
	*ret_len = have;
	return rc;
}

// The disk first, then the answer: a client that was told of a disk has it.
static int refuse(const struct wire *wire, const unsigned char *in, int rc)
{
	unsigned char answer[NBD_ANSWER_MAX];
	size_t len = nbd_front_refuse(in, rc == -EUSERS, answer);
	if (rc != -ECANCELED && len)
		(void)wire_write(wire, answer, len);
	return rc;
}

static int serve_disk(struct wire *wire, const struct nbd_front *front, const unsigned char *in, unsigned char *answer, size_t answered)
{
	const struct nbd_tls_session *session = wire->session;
	int rc = session->attaching(session->owner);
	if (rc == -EUSERS)
		session->refused(session->owner, NBD_TLS_REFUSED, "as many as may be are attached already");
	if (rc)
		return refuse(wire, in, rc);
	wire->late = NULL;
	AUTO_CLOSE int disk_fd = attach(session, front);
	if (disk_fd < 0)
		return refuse(wire, in, disk_fd);
	wire->deadline_ms = clock_mono_ms() + ATTACH_MS; // it has chosen in time, however long the disk took
	rc = wire_write(wire, answer, answered);
	if (rc)
		return rc;
	log_info("an NBD client attached peer=%s protection=%s disk=%s tls=%s", session->peer, front->chosen.protection,
		 front->chosen.disk, SSL_get_version(wire->ssl));
	rc = nbd_pump(wire->ssl, disk_fd, session->stop_fd, GONE_MS);
	if (rc == -ETIMEDOUT)
		log_warning("an NBD client was closed, its host has acknowledged nothing for %d s peer=%s protection=%s disk=%s", GONE_MS / 1000, session->peer,
			    front->chosen.protection, front->chosen.disk);
	return rc;
}

static int converse(struct wire *wire, struct nbd_front *front, unsigned char *in, unsigned char *answer)
{
	nbd_greeting(answer);
	int rc = wire_write(wire, answer, NBD_GREETING_SIZE);
	while (rc == 0) {
		size_t len = 0, answered = 0;
		enum nbd_front_next next = NBD_FRONT_CLOSE;
		rc = read_option(wire, front, in, answer, &len);
		if (rc == 0)
			rc = nbd_front_step(front, in, len, answer, &answered, &next);
		if (rc == 0 && next == NBD_FRONT_ATTACH)
			return serve_disk(wire, front, in, answer, answered);
		if (rc == 0)
			rc = next == NBD_FRONT_LIST ? send_list(wire, front, answer) : wire_write(wire, answer, answered);
		if (rc == 0 && next == NBD_FRONT_START_TLS) {
			rc = secure(wire);
			nbd_front_secured(front);
		}
		if (next == NBD_FRONT_CLOSE)
			return rc;
	}
	return rc;
}

void nbd_tls_session(const struct nbd_tls_session *session)
{
	struct wire wire = {.session = session, .fd = session->fd, .deadline_ms = clock_mono_ms() + SECURE_MS, .late = "it did not get through TLS within 10 s"};
	AUTO_FREE struct nbd_front *front = malloc(sizeof(*front));
	AUTO_FREE unsigned char *in = malloc(NBD_OPTION_HEAD_SIZE + NBD_OPTION_DATA_MAX);
	AUTO_FREE unsigned char *answer = malloc(NBD_ANSWER_MAX);
	if (front && in && answer) {
		nbd_front_init(front, session->exports);
		int rc = converse(&wire, front, in, answer);
		if (wire.alert && wire.late) // in TLS 1.3 it may come when all is well on this side
			log_alert(&wire);
		else if (rc == -ETIMEDOUT && wire.late)
			session->refused(session->owner, wire.ssl && SSL_is_init_finished(wire.ssl) ? NBD_TLS_REFUSED : NBD_TLS_SILENT, wire.late);
		log_debug("an NBD client ended peer=%s code=%d", session->peer, rc);
	}
	SSL_free(wire.ssl);
}
