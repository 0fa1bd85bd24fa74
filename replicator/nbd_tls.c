// SPDX-License-Identifier: Apache-2.0
// The listener: one thread that accepts, and a seat for each client, whose thread it joins once the client has ended.
//
// A client is `attached` from when it has shown its certificate and chosen a disk. The two bounds are apart so that those who
// connect and say nothing cannot keep out those who are known.
#include "replicator/nbd_tls.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/net.h"
#include "replicator/nbd_tls_session.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

enum { SEATS = 2 * NBD_TLS_CLIENTS_MAX, STACK_SIZE = 256 << 10, PAUSE_MS = 100 };

enum seat_state { SEAT_FREE, SEAT_STRANGER, SEAT_ATTACHED, SEAT_ENDED };

struct front_seat {
	struct nbd_tls *front;
	pthread_t thread;
	enum seat_state state; // under the front's lock
	int fd;
	char peer[NET_ADDRESS_SIZE];
};

struct nbd_tls {
	SSL_CTX *context;
	struct nbd_front_exports exports;
	char *run_dir;
	char address[NET_ADDRESS_SIZE];
	int listen_fd;
	int stop_fd; // an eventfd that is never read: once written, everybody sees it
	pthread_t thread;
	bool running;
	pthread_mutex_t lock;
	struct front_seat seat[SEATS];
};

static unsigned count_seats(const struct nbd_tls *front, enum seat_state state)
{
	unsigned count = 0;
	for (unsigned i = 0; i < SEATS; i++)
		count += front->seat[i].state == state;
	return count;
}

static bool on_attaching(void *owner)
{
	struct front_seat *seat = owner;
	LOCK_SCOPE(&seat->front->lock);
	if (count_seats(seat->front, SEAT_ATTACHED) >= NBD_TLS_CLIENTS_MAX)
		return false;
	seat->state = SEAT_ATTACHED;
	return true;
}

static void *seat_thread(void *argument)
{
	struct front_seat *seat = argument;
	struct nbd_tls *front = seat->front;
	const struct nbd_tls_session session = {
		.context = front->context,
		.exports = &front->exports,
		.run_dir = front->run_dir,
		.fd = seat->fd,
		.stop_fd = front->stop_fd,
		.peer = seat->peer,
		.attaching = on_attaching,
		.owner = seat,
	};
	nbd_tls_session(&session);
	(void)close(seat->fd);
	LOCK_SCOPE(&front->lock);
	seat->state = SEAT_ENDED;
	return NULL;
}

static void join_ended(struct nbd_tls *front)
{
	for (unsigned i = 0; i < SEATS; i++) {
		LOCK_SCOPE(&front->lock);
		if (front->seat[i].state != SEAT_ENDED)
			continue;
		(void)pthread_join(front->seat[i].thread, NULL); // at once: it has only to let go of the lock, which it did
		front->seat[i].state = SEAT_FREE;
	}
}

// A free seat, or NULL when there are as many strangers as there may be.
static struct front_seat *take_seat(struct nbd_tls *front)
{
	LOCK_SCOPE(&front->lock);
	if (count_seats(front, SEAT_STRANGER) >= NBD_TLS_CLIENTS_MAX)
		return NULL;
	for (unsigned i = 0; i < SEATS; i++)
		if (front->seat[i].state == SEAT_FREE) {
			front->seat[i].state = SEAT_STRANGER;
			return &front->seat[i];
		}
	return NULL;
}

static void set_options(int fd)
{
	const int one = 1, idle_s = 30, every_s = 10, tries = 3; // a client's host that died is noticed within a minute
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof(tries));
}

static void seat_client(struct nbd_tls *front, int fd, const char *peer)
{
	join_ended(front);
	struct front_seat *seat = take_seat(front);
	if (!seat) {
		log_warning("an NBD client was refused peer=%s: %d others have not shown who they are", peer, NBD_TLS_CLIENTS_MAX);
		(void)close(fd);
		return;
	}
	set_options(fd);
	seat->front = front;
	seat->fd = fd;
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
	LOCK_SCOPE(&front->lock);
	seat->state = SEAT_FREE;
}

static void *listen_thread(void *argument)
{
	struct nbd_tls *front = argument;
	struct pollfd fds[] = {{.fd = front->listen_fd, .events = POLLIN}, {.fd = front->stop_fd, .events = POLLIN}};
	while (!fds[1].revents) {
		if (poll(fds, 2, -1) <= 0 || fds[1].revents)
			continue;
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		char peer[NET_ADDRESS_SIZE];
		int fd = accept4(front->listen_fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			net_format((struct sockaddr *)&from, len, peer, sizeof(peer));
			seat_client(front, fd, peer);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			(void)poll(&fds[1], 1, PAUSE_MS); // the client stays in the queue until there is room
		}
	}
	return NULL;
}

static int start(struct nbd_tls *front, const struct nbd_tls_config *config, struct err *err)
{
	if (front->stop_fd < 0 || !front->run_dir)
		return err_sys(err, -ENOMEM, "serve NBD over TCP");
	front->context = nbd_tls_context(config->directory, err);
	if (!front->context)
		return err ? err->code : -EIO;
	front->listen_fd = net_listen(config->address, err);
	if (front->listen_fd < 0) {
		int rc = front->listen_fd;
		return err ? err_wrap(err, "--nbd-listen") : rc;
	}
	int rc = net_local(front->listen_fd, front->address, sizeof(front->address));
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
	for (unsigned i = 0; i < SEATS; i++) { // no seat is taken any more, and each thread sees the stop
		(void)pthread_mutex_lock(&front->lock);
		bool taken = front->seat[i].state != SEAT_FREE;
		(void)pthread_mutex_unlock(&front->lock);
		if (taken)
			(void)pthread_join(front->seat[i].thread, NULL);
	}
	if (front->listen_fd >= 0)
		(void)close(front->listen_fd);
	if (front->stop_fd >= 0)
		(void)close(front->stop_fd);
	SSL_CTX_free(front->context);
	(void)pthread_mutex_destroy(&front->lock);
	free(front->run_dir);
	free(front);
}

const char *nbd_tls_address(const struct nbd_tls *front)
{
	return front->address;
}
