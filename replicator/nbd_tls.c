// SPDX-License-Identifier: Apache-2.0
// The listener: one thread that accepts, and a seat for each client, whose thread it joins once the client has ended.
//
// Who may stay, and whose place is given to another, is nbd_seats.h.
#include "replicator/nbd_tls.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/descriptor.h"
#include "base/log.h"
#include "link/events.h"
#include "link/net.h"
#include "replicator/nbd_certificate.h"
#include "replicator/nbd_renewal.h"
#include "replicator/nbd_seats.h"
#include "replicator/nbd_tls_session.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

enum { STACK_SIZE = 256 << 10, LOOK_MS = 24 * 3600 * 1000 };

struct front_seat {
	struct nbd_tls *front;
	pthread_t thread;
	unsigned number;
	int fd; // under the front's lock, from when the thread was started; -1: closed
	SSL_CTX *context; // its own reference
	char peer[NET_ADDRESS_SIZE];
};

struct nbd_tls {
	struct nbd_renewal *renewal; // the listening thread's
	struct nbd_front_exports exports;
	char *run_dir;
	char address[NET_ADDRESS_SIZE];
	int listen_fd;
	int stop_fd; // an eventfd that is never read: once written, everybody sees it
	pthread_t thread;
	bool running;
	pthread_mutex_t lock;
	struct nbd_seats seats;
	struct nbd_word word[NBD_TLS_REFUSALS];
	struct nbd_word unaccepted; // the listening thread's
	struct front_seat seat[NBD_SEATS];
};

// At most so often, and not of one that goes for another: of that it was said already.
static void log_refused(struct front_seat *seat, enum nbd_tls_refusal kind, const char *why)
{
	struct nbd_tls *front = seat->front;
	unsigned left_out = 0;
	(void)pthread_mutex_lock(&front->lock);
	bool may = front->seats.seat[seat->number].stage != NBD_SEAT_GOING && nbd_word_may(&front->word[kind], clock_mono_ns(), &left_out);
	(void)pthread_mutex_unlock(&front->lock);
	if (may && left_out)
		log_warning("an NBD client was refused peer=%s: %s; others since the last such line: %u", seat->peer, why, left_out);
	else if (may)
		log_warning("an NBD client was refused peer=%s: %s", seat->peer, why);
}

static void on_refused(void *owner, enum nbd_tls_refusal kind, const char *why)
{
	log_refused(owner, kind, why);
}

static int on_known(void *owner)
{
	struct front_seat *seat = owner;
	LOCK_SCOPE(&seat->front->lock);
	return nbd_seats_known(&seat->front->seats, seat->number, clock_mono_ms());
}

static int on_attaching(void *owner)
{
	struct front_seat *seat = owner;
	LOCK_SCOPE(&seat->front->lock);
	return nbd_seats_attach(&seat->front->seats, seat->number, clock_mono_ms());
}

static void *seat_thread(void *argument)
{
	struct front_seat *seat = argument;
	struct nbd_tls *front = seat->front;
	const struct nbd_tls_session session = {
		.context = seat->context,
		.exports = &front->exports,
		.run_dir = front->run_dir,
		.fd = seat->fd,
		.stop_fd = front->stop_fd,
		.peer = seat->peer,
		.known = on_known,
		.attaching = on_attaching,
		.refused = on_refused,
		.owner = seat,
	};
	nbd_tls_session(&session);
	SSL_CTX_free(seat->context);
	LOCK_SCOPE(&front->lock);
	(void)close(seat->fd);
	seat->fd = -1;
	nbd_seats_left(&front->seats, seat->number);
	return NULL;
}

static void join_left(struct nbd_tls *front)
{
	LOCK_SCOPE(&front->lock);
	for (unsigned i = 0; i < NBD_SEATS; i++) {
		if (front->seats.seat[i].stage != NBD_SEAT_LEFT)
			continue;
		(void)pthread_join(front->seat[i].thread, NULL); // at once: it has only to let go of the lock, which it did
		nbd_seats_free(&front->seats, i);
	}
}

static int wait_ms(struct nbd_tls *front)
{
	LOCK_SCOPE(&front->lock);
	return nbd_seats_wait_ms(&front->seats, clock_mono_ms());
}

static void log_going(struct nbd_tls *front, const char *peer)
{
	unsigned left_out = 0;
	(void)pthread_mutex_lock(&front->lock);
	bool may = nbd_word_may(&front->word[NBD_TLS_SILENT], clock_mono_ns(), &left_out);
	(void)pthread_mutex_unlock(&front->lock);
	if (may)
		log_warning("an NBD client without a disk was closed for the next one peer=%s: %d are there that have chosen none; others since the last such line: %u", peer,
			    NBD_SEATS_WAITING_MAX, left_out);
}

// Its thread sees the end of the connection, and closes it.
static struct front_seat *take_seat(struct nbd_tls *front)
{
	char peer[NET_ADDRESS_SIZE] = "";
	int going;
	(void)pthread_mutex_lock(&front->lock);
	struct front_seat *seat = &front->seat[nbd_seats_take(&front->seats, clock_mono_ms(), &going)];
	if (going >= 0) {
		memcpy(peer, front->seat[going].peer, sizeof(peer));
		(void)shutdown(front->seat[going].fd, SHUT_RDWR);
	}
	(void)pthread_mutex_unlock(&front->lock);
	if (going >= 0)
		log_going(front, peer);
	return seat;
}

// A client's host that died is noticed within a minute: by these while nothing is on its way to it, else by nbd_gone.h.
static void set_options(int fd)
{
	const int one = 1, idle_s = 30, every_s = 10, tries = 3;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof(tries));
}

static void seat_client(struct nbd_tls *front, int fd, const char *peer)
{
	struct front_seat *seat = take_seat(front);
	set_options(fd);
	seat->fd = fd;
	seat->context = nbd_renewal_context(front->renewal);
	(void)SSL_CTX_up_ref(seat->context);
	memcpy(seat->peer, peer, sizeof(seat->peer));
	pthread_attr_t attributes;
	(void)pthread_attr_init(&attributes);
	(void)pthread_attr_setstacksize(&attributes, STACK_SIZE);
	int rc = pthread_create(&seat->thread, &attributes, seat_thread, seat);
	(void)pthread_attr_destroy(&attributes);
	if (rc == 0)
		return;
	log_warning("an NBD client was refused peer=%s: no thread for it: %s", peer, strerror(rc));
	(void)close(fd);
	SSL_CTX_free(seat->context);
	LOCK_SCOPE(&front->lock);
	nbd_seats_free(&front->seats, seat->number);
}

static void tell(enum event_severity severity, const char *text)
{
	if (severity == EVENT_CRITICAL)
		log_error("%s", text);
	else if (severity == EVENT_WARNING)
		log_warning("%s", text);
	else
		log_info("%s", text);
	event_emit(severity, "daemon", NULL, NULL, "%s", text);
}

// Nobody is kept from starting by it: guests on unix sockets need no certificate.
static void look_at_certificate(const struct nbd_tls *front)
{
	struct err err = {.code = 0};
	int rc = nbd_certificate_check(nbd_renewal_context(front->renewal), nbd_renewal_directory(front->renewal), clock_wall_ns() / 1000000000, &err);
	if (rc)
		tell(rc == -EKEYEXPIRED ? EVENT_WARNING : EVENT_CRITICAL, err.text);
}

// So a certificate is replaced without a restart, and whoever is attached stays (nbd_credentials.h). Whether it was.
static bool renew(const struct nbd_tls *front)
{
	char text[ERR_TEXT_MAX];
	struct err err = {.code = 0};
	int rc = nbd_renewal_look(front->renewal, &err);
	if (rc > 0) {
		(void)snprintf(text, sizeof(text), "NBD clients over TCP that come from now on are served with the new certificates in %s",
			       nbd_renewal_directory(front->renewal));
		tell(EVENT_INFO, text);
		look_at_certificate(front);
	} else if (rc == -ETIMEDOUT) {
		(void)err_wrap(&err, "whether the certificates were replaced is not known, and NBD clients over TCP are served with those from before");
		tell(EVENT_WARNING, err.text);
	} else if (rc < 0) {
		(void)err_wrap(&err, "the new certificates cannot be used, and NBD clients over TCP are served with those from before");
		tell(EVENT_WARNING, err.text);
	}
	return rc > 0;
}

static int accept_one(struct nbd_tls *front, struct sockaddr_storage *ret_from, socklen_t *len)
{
	int fd = accept4(front->listen_fd, (struct sockaddr *)ret_from, len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (!descriptor_spare(fd))
		return fd;
	(void)close(fd);
	return -EMFILE;
}

static void tell_unaccepted(struct nbd_tls *front, int code)
{
	unsigned left_out;
	if (nbd_word_may(&front->unaccepted, clock_mono_ns(), &left_out))
		log_warning("a client cannot connect over TCP: end connections that are not used, or raise the limit on descriptors (LimitNOFILE= of the unit, ulimit -n) "
			    "error=\"%s\" told_less_before=%u",
			    strerror(code), left_out);
}

static void *listen_thread(void *argument)
{
	struct nbd_tls *front = argument;
	struct pollfd fds[] = {{.fd = front->listen_fd, .events = POLLIN}, {.fd = front->stop_fd, .events = POLLIN}};
	int64_t look_ms = clock_mono_ms();
	while (!fds[1].revents) {
		if (clock_mono_ms() >= look_ms) { // it may expire while it is served
			if (!renew(front)) // which looks
				look_at_certificate(front);
			look_ms = clock_mono_ms() + LOOK_MS;
		}
		if (poll(fds, 2, LOOK_MS) <= 0 || fds[1].revents)
			continue;
		join_left(front);
		int wait = wait_ms(front);
		if (wait) { // the client stays in the queue; a place may become free meanwhile
			(void)poll(&fds[1], 1, wait < NBD_SEATS_PAUSE_MS ? wait : NBD_SEATS_PAUSE_MS);
			continue;
		}
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		char peer[NET_ADDRESS_SIZE];
		int fd = accept_one(front, &from, &len);
		if (fd >= 0) {
			net_format((struct sockaddr *)&from, len, peer, sizeof(peer));
			(void)renew(front);
			seat_client(front, fd, peer);
		} else if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS) {
			tell_unaccepted(front, -fd);
			(void)poll(&fds[1], 1, NBD_SEATS_PAUSE_MS); // likewise
		}
	}
	return NULL;
}

static int start(struct nbd_tls *front, const struct nbd_tls_config *config, struct err *err)
{
	if (front->stop_fd < 0 || !front->run_dir)
		return err_sys(err, -ENOMEM, "serve NBD over TCP");
	int rc = nbd_renewal_open(config->directory, &front->renewal, err);
	if (rc)
		return rc;
	front->listen_fd = net_listen(config->address, err);
	if (front->listen_fd < 0) {
		rc = front->listen_fd;
		return err ? err_wrap(err, "--nbd-listen") : rc;
	}
	rc = net_local(front->listen_fd, front->address, sizeof(front->address));
	if (rc == 0)
		rc = -pthread_create(&front->thread, NULL, listen_thread, front);
	if (rc)
		return err_sys(err, rc, "serve NBD on %s", config->address);
	front->running = true;
	return 0;
}

int nbd_tls_start(const struct nbd_tls_config *config, struct nbd_tls **ret_front, struct err *err)
{
	struct nbd_tls *front = calloc(1, sizeof(*front));
	if (!front)
		return err_sys(err, -ENOMEM, "serve NBD over TCP");
	(void)pthread_mutex_init(&front->lock, NULL);
	for (unsigned i = 0; i < NBD_SEATS; i++) {
		front->seat[i].front = front;
		front->seat[i].number = i;
	}
	front->exports = config->exports;
	front->run_dir = strdup(config->run_dir);
	front->listen_fd = -1;
	front->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc = start(front, config, err);
	if (rc) {
		nbd_tls_stop(front);
		return rc;
	}
	*ret_front = front;
	return 0;
}

void nbd_tls_stop(struct nbd_tls *front)
{
	if (!front)
		return;
	uint64_t one = 1;
	if (front->running) {
		(void)!write(front->stop_fd, &one, sizeof(one));
		(void)pthread_join(front->thread, NULL);
	}
	for (unsigned i = 0; i < NBD_SEATS; i++) { // no seat is taken any more, and each thread sees the stop
		(void)pthread_mutex_lock(&front->lock);
		bool taken = front->seats.seat[i].stage != NBD_SEAT_FREE;
		(void)pthread_mutex_unlock(&front->lock);
		if (taken)
			(void)pthread_join(front->seat[i].thread, NULL);
	}
	if (front->listen_fd >= 0)
		(void)close(front->listen_fd);
	if (front->stop_fd >= 0)
		(void)close(front->stop_fd);
	nbd_renewal_close(front->renewal);
	(void)pthread_mutex_destroy(&front->lock);
	free(front->run_dir);
	free(front);
}

const char *nbd_tls_address(const struct nbd_tls *front)
{
	return front->address;
}
