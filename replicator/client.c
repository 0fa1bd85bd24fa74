// SPDX-License-Identifier: Apache-2.0
// One NBD connection. A receive brings many requests; each goes to its volume; what a round answers leaves in one send.
//
//	receive ──► parse ──► volume ──► reply ──► sent
//	   ▲          │ too much under way: stalled, until a reply was sent
//	   └──────────┘
//
// Memory: requests of at most CLIENT_REQUESTS_MAX, and payloads of at most CLIENT_BYTES_MAX (or one payload, whatever its
// size) are under way. No memory is allocated per request once that many were under way before.
// A bad request is answered with an error; broken framing ends this connection alone.
#include "replicator/client.h"

#include "replicator/holder.h"
#include "replicator/inbox.h"
#include "replicator/outbox.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENT_REQUESTS_MAX = 256, CLIENT_BYTES_MAX = 64 << 20, SEND_ROOM = 1 << 20 };

struct client_request {
	struct volume_request volume;
	struct client *client;
	struct reply reply;
	struct buffer *buffer; // what is read into, or where the inbox holds what is written
	uint64_t bytes;	       // that it counts for
	struct nbd_request nbd;
	struct client_request *next;
};

struct client {
	struct client_host *host;
	int fd;
	struct nbd_handshake handshake;
	struct inbox inbox;
	struct outbox outbox;
	struct ring_watch watch;
	struct ring_task task; // goes on: there may be more to receive, after the replies to what was received
	bool readable;	       // the socket may hold something
	bool closed;	       // by the peer, and everything up to its end is to be received
	size_t need;	       // bytes until the next item can be parsed; 0: the socket is left alone
	bool finished;	       // takes no more requests
	uint64_t skip;	    // payload of a refused request that is still to come
	unsigned requests;  // under way, until their replies were sent
	uint64_t bytes;	    // of their payloads
	struct client_request *spare;
	struct client *next;
};

enum parsed { PARSED_ONE, PARSED_NEEDS, PARSED_STALLED, PARSED_END };

static void client_proceed(struct client *client);

// ---- requests

static void on_reply_sent(struct reply *reply)
{
	struct client_request *request = HOLDER(reply, struct client_request, reply);
	struct client *client = request->client;
	buffer_put(request->buffer);
	client->requests--;
	client->bytes -= request->bytes;
	request->next = client->spare;
	client->spare = request;
}

static struct client_request *request_new(struct client *client, uint64_t bytes)
{
	struct client_request *request = client->spare;
	if (request)
		client->spare = request->next;
	else
		request = malloc(sizeof(*request));
	if (!request)
		return NULL;
	request->client = client;
	request->buffer = NULL;
	request->bytes = bytes;
	request->reply.data = NULL;
	request->reply.image = NULL;
	request->reply.len = 0;
	request->reply.sent = on_reply_sent;
	client->requests++;
	client->bytes += bytes;
	return request;
}

static void reply_code(struct client_request *request, int code)
{
	struct client *client = request->client;
	struct reply *reply = &request->reply;
	if (code)
		reply->head_len = nbd_reply_error(reply->head, &request->nbd, client->handshake.structured, code);
	else
		reply->head_len = nbd_reply_simple(reply->head, &request->nbd, 0);
	outbox_push(&client->outbox, reply);
}

static void on_request_done(struct volume_request *volume, int res)
{
	struct client_request *request = HOLDER(volume, struct client_request, volume);
	struct client *client = request->client;
	struct reply *reply = &request->reply;
	if (res < 0 || request->nbd.command != NBD_READ) {
		reply_code(request, res);
		return;
	}
	reply->head_len = nbd_reply_data(reply->head, &request->nbd, client->handshake.structured);
	reply->data = request->buffer->data;
	reply->len = request->nbd.len;
	outbox_push(&client->outbox, reply);
}

static void do_block_status(struct client_request *request)
{
	struct client *client = request->client;
	struct nbd_extent extents[NBD_EXTENTS_MAX];
	unsigned most = request->nbd.flags & NBD_FLAG_REQ_ONE ? 1 : NBD_EXTENTS_MAX;
	request->buffer = pool_get(client->host->pool, NBD_STATUS_MAX);
	if (!request->buffer) {
		reply_code(request, -ENOMEM);
		return;
	}
	struct image *image = &client->host->image[client->handshake.chosen];
	unsigned count = image_extents(image, request->nbd.off, request->nbd.len, extents, most);
	struct reply *reply = &request->reply;
	reply->data = request->buffer->data;
	reply->len = nbd_extents_encode(request->buffer->data, extents, count);
	reply->head_len = nbd_reply_status(reply->head, &request->nbd, (uint32_t)reply->len);
	outbox_push(&client->outbox, reply);
}

// From the page cache to the socket; false when it is to be read first.
static bool read_in_place(struct client_request *request)
{
	struct client *client = request->client;
	const struct nbd_request *nbd = &request->nbd;
	struct image *image = &client->host->image[client->handshake.chosen];
	if (!image_sendable(image, nbd->off, nbd->len))
		return false;
	volume_count_read(&client->host->group->volume[client->handshake.chosen], nbd->len);
	struct reply *reply = &request->reply;
	reply->head_len = nbd_reply_data(reply->head, nbd, client->handshake.structured);
	reply->image = image;
	reply->off = nbd->off;
	reply->len = nbd->len;
	outbox_push(&client->outbox, reply);
	return true;
}

static const enum volume_command commands[] = {
	[NBD_READ] = VOLUME_READ, [NBD_WRITE] = VOLUME_WRITE,	    [NBD_FLUSH] = VOLUME_FLUSH,
	[NBD_TRIM] = VOLUME_TRIM, [NBD_WRITE_ZEROES] = VOLUME_ZERO, [NBD_CACHE] = VOLUME_CACHE,
};

static void request_submit(struct client_request *request)
{
	struct client *client = request->client;
	const struct nbd_request *nbd = &request->nbd;
	if (nbd->command == NBD_READ) {
		if (read_in_place(request))
			return;
		request->buffer = pool_get(client->host->pool, nbd->len);
		if (!request->buffer) {
			reply_code(request, -ENOMEM);
			return;
		}
		request->volume.data = request->buffer->data;
	}
	request->volume.command = commands[nbd->command];
	request->volume.fua = nbd->flags & NBD_FLAG_FUA;
	request->volume.no_hole = nbd->flags & NBD_FLAG_NO_HOLE;
	request->volume.fast = nbd->flags & NBD_FLAG_FAST_ZERO;
	request->volume.off = nbd->off;
	request->volume.len = nbd->len;
	request->volume.done = on_request_done;
	volume_submit(&client->host->group->volume[client->handshake.chosen], &request->volume);
}

// ---- parsing

static bool has_payload(const struct nbd_request *nbd)
{
	return nbd->command == NBD_READ || nbd->command == NBD_WRITE;
}

static enum parsed parse_request(struct client *client, size_t *ret_need)
{
	const struct nbd_handshake *agreed = &client->handshake;
	struct nbd_request nbd;
	*ret_need = NBD_REQUEST_SIZE;
	if (inbox_len(&client->inbox) < NBD_REQUEST_SIZE)
		return PARSED_NEEDS;
	if (nbd_request_decode(inbox_at(&client->inbox), &nbd) || nbd.command == NBD_DISC)
		return PARSED_END;
	int code = nbd_request_check(&nbd, agreed);
	uint64_t bytes = code == 0 && has_payload(&nbd) ? nbd.len : 0;
	if (client->requests >= CLIENT_REQUESTS_MAX || (client->requests && client->bytes + bytes > CLIENT_BYTES_MAX))
		return PARSED_STALLED;
	bool whole = code == 0 && nbd.command == NBD_WRITE;
	*ret_need = NBD_REQUEST_SIZE + (whole ? (size_t)nbd.len : 0);
	if (inbox_len(&client->inbox) < *ret_need)
		return PARSED_NEEDS;
	struct client_request *request = request_new(client, bytes);
	if (!request)
		return PARSED_END;
	request->nbd = nbd;
	if (whole) {
		request->buffer = buffer_ref(client->inbox.buffer);
		request->volume.data = inbox_at(&client->inbox) + NBD_REQUEST_SIZE;
	}
	inbox_skip(&client->inbox, *ret_need);
	if (code) {
		client->skip = nbd.command == NBD_WRITE ? nbd.len : 0;
		reply_code(request, code);
	} else if (nbd.command == NBD_BLOCK_STATUS) {
		do_block_status(request);
	} else {
		request_submit(request);
	}
	return PARSED_ONE;
}

static void send_answer(struct client *client, struct client_request *request, size_t len)
{
	request->reply.head_len = 0;
	request->reply.data = request->buffer->data;
	request->reply.len = len;
	outbox_push(&client->outbox, &request->reply);
}

static enum parsed parse_option(struct client *client, size_t *ret_need)
{
	struct nbd_handshake *handshake = &client->handshake;
	size_t have = inbox_len(&client->inbox);
	if (client->requests >= CLIENT_REQUESTS_MAX)
		return PARSED_STALLED;
	if (nbd_handshake_need(handshake, inbox_at(&client->inbox), have, ret_need))
		return PARSED_END;
	if (have < *ret_need)
		return PARSED_NEEDS;
	struct client_request *request = request_new(client, 0);
	if (!request)
		return PARSED_END;
	request->buffer = pool_get(client->host->pool, NBD_ANSWER_MAX);
	size_t answered = 0;
	int code = -ENOMEM;
	if (request->buffer)
		code = nbd_handshake_step(handshake, inbox_at(&client->inbox), *ret_need, request->buffer->data, &answered);
	inbox_skip(&client->inbox, *ret_need);
	if (code || !answered)
		on_reply_sent(&request->reply);
	else
		send_answer(client, request, answered);
	if (handshake->state == NBD_TRANSMISSION)
		atomic_fetch_add(&client->host->attached[handshake->chosen], 1);
	return code || handshake->state == NBD_CLOSING ? PARSED_END : PARSED_ONE;
}

static enum parsed parse_skipped(struct client *client, size_t *ret_need)
{
	size_t have = inbox_len(&client->inbox);
	size_t len = have < client->skip ? have : (size_t)client->skip;
	inbox_skip(&client->inbox, len);
	client->skip -= len;
	*ret_need = 1;
	return client->skip ? PARSED_NEEDS : PARSED_ONE;
}

static enum parsed parse_one(struct client *client, size_t *ret_need)
{
	if (client->skip)
		return parse_skipped(client, ret_need);
	if (client->handshake.state == NBD_TRANSMISSION)
		return parse_request(client, ret_need);
	return parse_option(client, ret_need);
}

// ---- the connection

// Of a short receive it is known that the socket is empty: what comes later makes it ready again.
static void receive(struct client *client, size_t need)
{
	unsigned char *to;
	size_t len;
	if (inbox_room(&client->inbox, need, &to, &len)) {
		client->finished = true;
		return;
	}
	ssize_t got = recv(client->fd, to, len, MSG_DONTWAIT);
	if (got > 0)
		inbox_received(&client->inbox, (size_t)got);
	else if (got == 0 || (errno != EINTR && errno != EAGAIN))
		client->finished = true; // the peer is gone, or has closed its side: answers still go out
	if (got < 0 ? errno == EAGAIN : (size_t)got < len && !client->closed)
		client->readable = false;
}

static void client_free(struct client *client)
{
	struct client_host *host = client->host;
	if (client->handshake.state == NBD_TRANSMISSION)
		atomic_fetch_sub(&host->attached[client->handshake.chosen], 1);
	ring_unwatch(host->ring, client->fd, &client->watch);
	host->ended(host, client);
	inbox_done(&client->inbox);
	while (client->spare) {
		struct client_request *request = client->spare;
		client->spare = request->next;
		free(request);
	}
	(void)close(client->fd);
	free(client);
}

// Does whatever is possible now: the last call of every callback, since it may end the connection.
static void client_proceed(struct client *client)
{
	enum parsed parsed = PARSED_ONE;
	size_t need = 0;
	if (client->outbox.broken && !client->finished)
		client_kill(client);
	while (!client->finished && parsed == PARSED_ONE)
		parsed = parse_one(client, &need);
	if (parsed == PARSED_END)
		client->finished = true;
	client->need = parsed == PARSED_NEEDS ? need : 0;
	if (client->need && client->readable)
		ring_later(client->host->ring, &client->task);
	if (client->finished && !client->task.queued && !client->requests && outbox_empty(&client->outbox))
		client_free(client);
}

static void on_task(struct ring_task *task)
{
	struct client *client = HOLDER(task, struct client, task);
	if (client->need && client->readable && !client->finished)
		receive(client, client->need);
	client_proceed(client);
}

static void on_ready(struct ring_watch *watch, unsigned events)
{
	struct client *client = HOLDER(watch, struct client, watch);
	client->closed |= events & RING_CLOSED;
	if (events & RING_WRITABLE)
		outbox_room(&client->outbox);
	if (!(events & RING_READABLE))
		return;
	client->readable = true;
	if (client->need)
		ring_later(client->host->ring, &client->task);
}

static void on_drained(struct outbox *outbox)
{
	client_proceed(HOLDER(outbox, struct client, outbox));
}

// More room lets large replies leave in fewer turns. What the kernel grants instead will do, too.
static void socket_prepare(int fd)
{
	const int room = SEND_ROOM;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	(void)fcntl(fd, F_SETFL, O_NONBLOCK); // of a socket that was just accepted nothing else is set
}

struct client *client_new(struct client_host *host, int fd)
{
	struct client *client = calloc(1, sizeof(*client));
	struct client_request *hello = client ? request_new(client, 0) : NULL;
	if (!hello || !(hello->buffer = pool_get(host->pool, NBD_GREETING_SIZE)) || ring_watch(host->ring, fd, &client->watch)) {
		if (hello)
			buffer_put(hello->buffer);
		free(hello);
		free(client);
		(void)close(fd);
		return NULL;
	}
	socket_prepare(fd);
	client->host = host;
	client->fd = fd;
	client->readable = true;
	client->watch.ready = on_ready;
	client->task.run = on_task;
	nbd_handshake_init(&client->handshake, host->exports, host->count);
	inbox_init(&client->inbox, host->pool);
	outbox_init(&client->outbox, host->ring, fd, &client->watch, on_drained);
	nbd_greeting(hello->buffer->data);
	send_answer(client, hello, NBD_GREETING_SIZE);
	return client; // the greeting's departure is what sets it going
}

void client_finish(struct client *client)
{
	client->finished = true;
	(void)shutdown(client->fd, SHUT_RD);
	ring_later(client->host->ring, &client->task);
}

void client_kill(struct client *client)
{
	client->finished = true;
	(void)shutdown(client->fd, SHUT_RDWR);
	ring_later(client->host->ring, &client->task);
}

struct client *client_next(struct client *client)
{
	return client->next;
}

void client_link(struct client **list, struct client *client)
{
	client->next = *list;
	*list = client;
}

void client_unlink(struct client **list, struct client *client)
{
	while (*list != client)
		list = &(*list)->next;
	*list = client->next;
}
