// SPDX-License-Identifier: Apache-2.0
// Large writes past the inbox: socket, pipe, page cache. The kernel hands the pages on that the client's data was copied to when it
// was sent, so it is copied once here and not twice.
//
//	splice: socket ─► pipe        as much as is there; enough, or all that fits: a piece
//	                   │
//	volume ────────────┘─► image  marked, past the gate, preserved; then splice again. Until it is done nothing is received
//
// A piece may wait in the pipe as any write waits. When it failed, what is left of it in the pipe is thrown away with the pipe.
#include "replicator/client_private.h"

#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { POUR_LEAST = 64 << 10 }; // less is not worth two calls, unless nothing more fits

void client_pour_close(struct client *client)
{
	struct pour *pour = &client->pour;
	if (pour->pipe[1]) {
		(void)close(pour->pipe[0]);
		(void)close(pour->pipe[1]);
	}
	*pour = (struct pour){.refused = pour->refused};
}

// A pipe has room for 16 pages of others' at least, and for as many as it is long where the kernel grants that.
static bool pour_open(struct pour *pour)
{
	if (pour->pipe[1])
		return true;
	if (pour->refused)
		return false;
	if (!descriptor_pipe(pour->pipe)) {
		pour->pipe[1] = 0;
		pour->refused = true;
		return false;
	}
	(void)fcntl(pour->pipe[1], F_SETPIPE_SZ, CLIENT_POUR_MAX);
	return true;
}

static size_t pour_left(const struct client *client)
{
	const struct client_request *whole = client->taking;
	return (size_t)(whole->nbd.len - whole->taken);
}

bool client_pours(struct client *client)
{
	struct pour *pour = &client->pour;
	if (!client->taking || inbox_len(&client->inbox))
		return false;
	return pour->len || pour->busy || (pour_left(client) >= POUR_LEAST && pour_open(pour));
}

// splice() says of a pipe without room what it says of an empty socket: so it is where very small parts came, each of which takes a page's place.
// It is the pipe where the socket has more, or had its end reported, of which a pipe with room would have been told. Where it has nothing
// yet, the next that comes sets it going.
static bool pour_full(const struct client *client)
{
	int more = 0;
	return client->closed || (ioctl(client->fd, FIONREAD, &more) == 0 && more > 0);
}

// How much of what the pipe holds is a piece by now; 0: more is to come first. Whole pages, where there are some.
static size_t pour_piece(const struct client *client, size_t room, bool empty)
{
	const struct pour *pour = &client->pour;
	if (pour->len == room)
		return pour->len;
	if (pour->len < POUR_LEAST && !(empty && pour->len && pour_full(client)))
		return 0;
	uint64_t end = client->taking->nbd.off + client->taking->taken + pour->len;
	size_t over = end % PIECE_SIZE;
	return over < pour->len ? pour->len - over : pour->len;
}

void client_pour(struct client *client)
{
	struct pour *pour = &client->pour;
	uint64_t at = client->taking->nbd.off + client->taking->taken;
	size_t room = min_u64(CLIENT_POUR_MAX - at % CLIENT_PIECE_MAX, pour_left(client));
	ssize_t got = pour->len < room ? splice(client->fd, NULL, pour->pipe[1], NULL, room - pour->len, SPLICE_F_NONBLOCK) : 0;
	bool empty = got < 0 && errno == EAGAIN;
	if (got > 0)
		pour->len += (size_t)got;
	else if (got < 0 && errno == EINVAL && !pour->len)
		pour->refused = true; // then it is received as other sockets are
	else if (!empty && pour->len < room && !(got < 0 && errno == EINTR))
		client->finished = true;
	if (pour->refused) {
		client_pour_close(client);
		return;
	}
	size_t len = client->finished ? 0 : pour_piece(client, room, empty);
	if (len) {
		if (client_write_pour(client->taking, len))
			client->finished = true;
	} else if (empty) {
		client->readable = false;
	}
}

// What the pipe held beyond a piece that failed went with it: it was received, and the write has its error.
void client_poured(struct client_request *whole, size_t len, int res)
{
	struct client *client = whole->client;
	struct pour *pour = &client->pour;
	pour->busy = false;
	pour->len -= len;
	if (res < 0) {
		client_write_pass(whole, pour->len);
		client_pour_close(client);
	}
	ring_later(client->host->ring, &client->task);
}
