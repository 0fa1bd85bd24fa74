// SPDX-License-Identifier: Apache-2.0
#include "receiver/server.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "link/net.h"
#include "receiver/keeper.h"
#include "receiver/session.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum { TAKE_OVER_SECONDS = 20, ACCEPT_PAUSE_MS = 100 };

#define TOLD_EVERY_NS (UINT64_C(60) * 1000000000)

struct connection {
	struct server *server;
	struct connection *next;
	int fd;	       // the channel's
	int shut_fd;   // a duplicate, to shut the connection down with
	struct sockaddr_storage peer;
	char address[NET_ADDRESS_SIZE];
	bool stranger;
	struct pin pin; // of its peer, unless it is a stranger
	struct replica *replica; // of its session, once open
};

struct server {
	uint64_t told_ns; // when a connection was turned away and that was told; of the thread that accepts
	struct session_host host;
	struct keeper *keeper;
	struct pairing *pairing;
	SSL_CTX *tls;
	int listen_fd;
	int stop_fd;
	char address[NET_ADDRESS_SIZE];
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t ended; // a connection ended
	struct connection *connections;
	size_t count;
};

const char *server_address(const struct server *server)
{
	return server->address;
}

static bool same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	if (a->ss_family != b->ss_family)
		return false;
	if (a->ss_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr == ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr,
		      sizeof(struct in6_addr)) == 0;
}

static bool over_limits(const struct server *server, const struct sockaddr_storage *peer)
{
	size_t strangers = 0, of_host = 0;
	for (const struct connection *c = server->connections; c; c = c->next) {
		strangers += c->stranger;
		of_host += c->stranger && same_host(&c->peer, peer);
	}
	return server->count >= SERVER_CONNECTIONS_MAX || strangers >= SERVER_STRANGERS_MAX ||
	       of_host >= SERVER_STRANGERS_PER_ADDRESS;
}

static void connection_end(struct connection *connection)
{
	struct server *server = connection->server;
	LOCK_SCOPE(&server->lock);
	struct connection **at = &server->connections;
	while (*at != connection)
		at = &(*at)->next;
	*at = connection->next;
	server->count--;
	(void)close(connection->shut_fd);
	free(connection);
	(void)pthread_cond_broadcast(&server->ended);
}

static bool take_over(void *context, struct replica *replica)
{
	struct server *server = context;
	LOCK_SCOPE(&server->lock);
	struct timespec until = clock_mono_after(TAKE_OVER_SECONDS * UINT64_C(1000000000));
	for (;;) {
		struct connection *other = server->connections;
		while (other && other->replica != replica)
			other = other->next;
		if (!other)
			return true;
		(void)shutdown(other->shut_fd, SHUT_RDWR);
		if (pthread_cond_timedwait(&server->ended, &server->lock, &until))
			return false;
	}
}

// What is registered before the peer became unknown is found here; what comes later asks, and is told that it is not paired.
size_t server_cut(struct server *server, const struct pin *peer)
{
	LOCK_SCOPE(&server->lock);
	struct timespec until = clock_mono_after(TAKE_OVER_SECONDS * UINT64_C(1000000000));
	for (;;) {
		size_t open = 0;
		for (struct connection *c = server->connections; c; c = c->next)
			if (!c->stranger && pin_equal(&c->pin, peer)) {
				(void)shutdown(c->shut_fd, SHUT_RDWR);
				open++;
			}
		if (open == 0 || pthread_cond_timedwait(&server->ended, &server->lock, &until))
			return open;
	}
}

static __thread struct connection *own_connection; // of a session's thread

static void opened(void *context, struct replica *replica)
{
	struct server *server = context;
	LOCK_SCOPE(&server->lock);
	own_connection->replica = replica;
}

static void committed(void *context)
{
	struct server *server = context;
	keeper_wake(server->keeper);
}

size_t server_peer_most(size_t protections)
{
	return protections < (SERVER_PEER_MAX - SERVER_PEER_SPARE) / 2 ? 2 * protections + SERVER_PEER_SPARE : SERVER_PEER_MAX;
}

// Who the peer is, is known now. False: it has as many connections as it may.
static bool admit(struct connection *connection, const struct pin *peer)
{
	struct server *server = connection->server;
	bool known = pairing_known(server->pairing, peer);
	size_t most = known ? server_peer_most(store_owned(server->host.store, peer->bytes)) : SIZE_MAX, has = 0;
	LOCK_SCOPE(&server->lock);
	connection->stranger = !known;
	connection->pin = *peer;
	for (const struct connection *c = server->connections; c; c = c->next)
		has += !c->stranger && pin_equal(&c->pin, peer);
	return !known || has <= most;
}

static void *connection_thread(void *context)
{
	struct connection *connection = context;
	struct server *server = connection->server;
	struct channel *channel = NULL;
	struct err err = {0};
	own_connection = connection;
	if (channel_accept(server->tls, connection->fd, &channel, &err) == 0) {
		if (admit(connection, channel_peer(channel)))
			session_run(&server->host, channel, connection->address);
		else
			log_warning("a source has as many connections as it may peer=%s", connection->address);
		channel_close(channel);
	} else {
		log_info("handshake failed peer=%s: %s", connection->address, err.text);
	}
	OPENSSL_thread_stop(); // before the end is told: the process may be gone before this thread is
	connection_end(connection);
	return NULL;
}

static int connection_start(struct server *server, int fd, const struct sockaddr_storage *peer, socklen_t len)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	int shut_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (!connection || shut_fd < 0) {
		free(connection);
		if (shut_fd >= 0)
			(void)close(shut_fd);
		return -ENOMEM;
	}
	connection->server = server;
	connection->fd = fd;
	connection->shut_fd = shut_fd;
	connection->peer = *peer;
	connection->stranger = true;
	net_format((const struct sockaddr *)peer, len, connection->address, sizeof(connection->address));
	connection->next = server->connections;
	server->connections = connection;
	server->count++;
	pthread_t thread;
	pthread_attr_t attr;
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	int rc = -pthread_create(&thread, &attr, connection_thread, connection);
	(void)pthread_attr_destroy(&attr);
	if (rc) {
		server->connections = connection->next;
		server->count--;
		(void)close(shut_fd);
		free(connection);
	}
	return rc;
}

// Who floods it does not fill the log, too.
static void turned_away(struct server *server, const struct sockaddr_storage *peer, socklen_t len)
{
	char address[NET_ADDRESS_SIZE];
	uint64_t now_ns = clock_mono_ns();
	if (server->told_ns && now_ns - server->told_ns < TOLD_EVERY_NS)
		return;
	server->told_ns = now_ns;
	net_format((const struct sockaddr *)peer, len, address, sizeof(address));
	log_warning("a connection was turned away: as many are open as may be, in all, or of peers that are not known yet peer=%s", address);
}

static void accept_one(struct server *server)
{
	struct sockaddr_storage peer = {0};
	socklen_t len = sizeof(peer);
	int fd = accept4(server->listen_fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		struct pollfd stop = {.fd = server->stop_fd, .events = POLLIN};
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
			(void)poll(&stop, 1, ACCEPT_PAUSE_MS); // it stays in the queue until a connection ends
		return;
	}
	LOCK_SCOPE(&server->lock);
	bool over = over_limits(server, &peer);
	if (over)
		turned_away(server, &peer, len);
	if (over || connection_start(server, fd, &peer, len))
		(void)close(fd);
}

static void *accept_thread(void *context)
{
	struct server *server = context;
	for (;;) {
		struct pollfd wait[2] = {{.fd = server->stop_fd, .events = POLLIN}, {.fd = server->listen_fd, .events = POLLIN}};
		(void)poll(wait, 2, -1);
		if (wait[0].revents)
			return NULL;
		if (wait[1].revents)
			accept_one(server);
	}
}

static void server_free(struct server *server)
{
	keeper_stop(server->keeper);
	SSL_CTX_free(server->tls);
	if (server->listen_fd >= 0)
		(void)close(server->listen_fd);
	if (server->stop_fd >= 0)
		(void)close(server->stop_fd);
	(void)pthread_mutex_destroy(&server->lock);
	(void)pthread_cond_destroy(&server->ended);
	free(server);
}

static int start(struct server *server, const char *address, const struct identity *identity, struct err *err)
{
	server->listen_fd = net_listen(address, err);
	if (server->listen_fd < 0) {
		int rc = server->listen_fd;
		return err ? err_wrap(err, "--listen") : rc;
	}
	int rc = net_local(server->listen_fd, server->address, sizeof(server->address));
	if (rc)
		return err_sys(err, rc, "listen on %s", address);
	server->stop_fd = eventfd(0, EFD_CLOEXEC);
	server->tls = identity_context(identity, true, err);
	if (!server->tls)
		return -EIO;
	rc = keeper_start(server->host.store, &server->keeper, err);
	if (rc)
		return rc;
	rc = -pthread_create(&server->thread, NULL, accept_thread, server);
	return rc ? err_sys(err, rc, "start a thread") : 0;
}

int server_start(const char *address, const struct identity *identity, struct store *store, struct pairing *pairing,
		 struct watch *watch, struct server **ret_server, struct err *err)
{
	struct server *server = calloc(1, sizeof(*server));
	if (!server)
		return err_sys(err, -ENOMEM, "start");
	server->listen_fd = server->stop_fd = -1;
	server->pairing = pairing;
	server->host = (struct session_host){
		.env = env_posix(),
		.store = store,
		.pairing = pairing,
		.take_over = take_over,
		.opened = opened,
		.committed = committed,
		.context = server,
		.watch = watch,
	};
	(void)pthread_mutex_init(&server->lock, NULL);
	thread_condition_init(&server->ended);
	int rc = start(server, address, identity, err);
	if (rc) {
		server_free(server);
		return rc;
	}
	*ret_server = server;
	return 0;
}

void server_retain(struct server *server)
{
	keeper_wake(server->keeper);
}

void server_retention_rate(struct server *server, uint64_t bytes_per_second)
{
	keeper_rate(server->keeper, bytes_per_second);
}

void server_stop(struct server *server)
{
	if (!server)
		return;
	uint64_t one = 1;
	(void)!write(server->stop_fd, &one, sizeof(one));
	(void)pthread_join(server->thread, NULL);
	(void)pthread_mutex_lock(&server->lock);
	for (struct connection *c = server->connections; c; c = c->next)
		(void)shutdown(c->shut_fd, SHUT_RDWR);
	while (server->count)
		(void)pthread_cond_wait(&server->ended, &server->lock);
	(void)pthread_mutex_unlock(&server->lock);
	server_free(server);
}
