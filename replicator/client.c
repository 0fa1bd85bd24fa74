// SPDX-License-Identifier: Apache-2.0
// One NBD connection. A receive brings many requests; each goes to its volume; what a round answers leaves in one send. A round is of a few:
// while the next few are done the client takes these answers and asks anew. With all of them at once, one of the two would wait for the
// other all the time.
//
//	receive ──► parse ──► volume ──► reply ──► sent
//	   ▲          │ too much under way: stalled, until a reply was sent
//	   └──────────┘
//
// Memory: requests of at most CLIENT_REQUESTS_MAX, and payloads of at most CLIENT_BYTES_MAX (or one payload, whatever its
// size) are under way; of all connections CLIENTS_BYTES_MAX, and what each is sure of. No memory is allocated per request once that many were under way before. A large write is held in the pieces
// of it that were received and are not done.
// A bad request is answered with an error; broken framing ends this connection alone.
#include "replicator/client_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "replicator/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SEND_ROOM = 1 << 20 };

enum parsed { PARSED_ONE, PARSED_LAST, PARSED_NEEDS, PARSED_STALLED, PARSED_END }; // LAST: one, and no more in this turn

static void client_proceed(struct client *client);

// ---- parsing

static bool has_payload(const struct nbd_request *nbd)
{
	return nbd->command == NBD_READ || nbd->command == NBD_WRITE;
}

// Once nothing of its payload is to come any more.
static void reply_refused(struct client *client)
{
	struct client_request *request = client->refused;
	if (client->skip || !request)
		return;
	client->refused = NULL;
	client_reply_code(request, client->refused_code);
}

// Beside what it has under way. Each of its own replies that was sent has it looked at again, and with the last of them it is sure of the next: it waits for no
// other connection, and one that does not take its replies keeps what it has.
static bool too_much(const struct client *client, uint64_t bytes)
{
	uint64_t with = client->bytes + bytes;
	return with > CLIENT_BYTES_MAX || (with > CLIENT_BYTES_SURE && client->host->bytes + bytes > CLIENTS_BYTES_MAX);
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
	if (client->requests >= CLIENT_REQUESTS_MAX || (client->bytes && bytes && too_much(client, bytes)))
		return PARSED_STALLED;
	bool write = code == 0 && nbd.command == NBD_WRITE;
	bool whole = write && nbd.len <= CLIENT_PIECE_MAX;
	*ret_need = NBD_REQUEST_SIZE + (whole ? (size_t)nbd.len : 0);
	if (inbox_len(&client->inbox) < *ret_need)
		return PARSED_NEEDS;
	struct client_request *request = client_request_new(client, bytes);
	if (!request)
		return PARSED_END;
	request->nbd = nbd;
	if (whole) {
		request->buffer = buffer_ref(client->inbox.buffer);
		request->volume.data = inbox_at(&client->inbox) + NBD_REQUEST_SIZE;
	}
	inbox_skip(&client->inbox, *ret_need);
	client->large &= write && !whole;
	if (code) {
		client->skip = nbd.command == NBD_WRITE ? nbd.len : 0;
		client->refused = request;
		client->refused_code = code;
		reply_refused(client);
	} else if (nbd.command == NBD_BLOCK_STATUS) {
		client_reply_status(request);
		return PARSED_LAST; // the file system was asked many times for it
	} else if (write && !whole) {
		client_write_begin(request);
	} else {
		client_request_submit(request);
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

// With its data still to come: who sends so much looks for no answer before.
static bool refuse_long_option(struct client *client)
{
	size_t answered, have = inbox_len(&client->inbox);
	uint32_t skip;
	unsigned char answer[NBD_ANSWER_MAX];
	if (!nbd_handshake_too_big(&client->handshake, inbox_at(&client->inbox), have, answer, &answered, &skip))
		return false;
	struct client_request *request = client_request_new(client, 0);
	if (request && (request->buffer = pool_get(client->host->pool, NBD_ANSWER_MAX))) {
		memcpy(request->buffer->data, answer, answered);
		send_answer(client, request, answered);
	} else {
		client->finished = true;
		if (request)
			client_request_drop(request);
	}
	inbox_skip(&client->inbox, NBD_OPTION_HEAD_SIZE);
	client->skip = skip;
	return true;
}

static void say_strange(struct client_host *host)
{
	unsigned left_out;
	if (nbd_word_may(&host->strange, clock_mono_ns(), &left_out))
		log_warning("a client was closed whose handshake flags are not those of a fixed newstyle NBD client: use one of after 2014 protection=%s such_before=%u",
			    host->protection, left_out);
}

static enum parsed parse_option(struct client *client, size_t *ret_need)
{
	struct nbd_handshake *handshake = &client->handshake;
	size_t have = inbox_len(&client->inbox);
	if (client->requests >= CLIENT_REQUESTS_MAX)
		return PARSED_STALLED;
	if (refuse_long_option(client))
		return PARSED_ONE;
	if (nbd_handshake_need(handshake, inbox_at(&client->inbox), have, ret_need))
		return PARSED_END;
	if (have < *ret_need)
		return PARSED_NEEDS;
	struct client_request *request = client_request_new(client, 0);
	if (!request)
		return PARSED_END;
	request->buffer = pool_get(client->host->pool, NBD_ANSWER_MAX);
	size_t answered = 0;
	int code = -ENOMEM;
	bool first = handshake->state == NBD_FLAGS;
	if (request->buffer)
		code = nbd_handshake_step(handshake, inbox_at(&client->inbox), *ret_need, request->buffer->data, &answered);
	inbox_skip(&client->inbox, *ret_need);
	if (code == -EBADMSG && first)
		say_strange(client->host);
	if (code || !answered)
		client_request_drop(request);
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
	reply_refused(client);
	*ret_need = 1;
	return client->skip ? PARSED_NEEDS : PARSED_ONE;
}

static enum parsed parse_piece(struct client *client, size_t *ret_need)
{
	if (client_pours(client)) {
		*ret_need = 1;
		return client->pour.busy ? PARSED_STALLED : PARSED_NEEDS;
	}
	*ret_need = client_write_next(client->taking);
	if (inbox_len(&client->inbox) < *ret_need)
		return PARSED_NEEDS;
	return client_write_take(client->taking) ? PARSED_END : PARSED_ONE;
}

static enum parsed parse_one(struct client *client, size_t *ret_need)
{
	if (client->taking)
		return parse_piece(client, ret_need);
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
	if (client->taking || client->large) // the item and no more: what follows may be poured, or lies at the buffer's start again
		len = min_u64(len, need - inbox_len(&client->inbox));
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
	ring_unwatch(host->ring, &client->watch);
	host->ended(host, client);
	inbox_done(&client->inbox);
	client_pour_close(client);
	outbox_done(&client->outbox);
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
	unsigned count = 0;
	if (client->outbox.broken && !client->finished)
		client_kill(client);
	for (; !client->finished && parsed == PARSED_ONE && count < CLIENT_TURN_MAX; count++)
		parsed = parse_one(client, &need);
	if (parsed == PARSED_END)
		client->finished = true;
	if (client->finished && client->taking)
		client_write_abandon(client->taking);
	if (client->finished && client->refused) {
		client_request_drop(client->refused);
		client->refused = NULL;
	}
	client->need = parsed == PARSED_NEEDS ? need : 0;
	bool more = parsed == PARSED_ONE || parsed == PARSED_LAST;
	if ((client->need && client->readable) || (more && !client->finished)) // the latter: what was done is answered first
		ring_later(client->host->ring, &client->task);
	if (client->finished && !client->task.queued && !client->requests && outbox_empty(&client->outbox))
		client_free(client);
}

static void on_task(struct ring_task *task)
{
	struct client *client = HOLDER(task, struct client, task);
	if (client->need && client->readable && !client->finished) {
		if (client_pours(client))
			client_pour(client);
		else
			receive(client, client->need);
	}
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
	struct client *client = HOLDER(outbox, struct client, outbox);
	if (!client->task.queued) // else it comes to that with the next turn, and takes no more than its few in this one
		client_proceed(client);
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
	struct client_request *hello = client ? client_request_new(client, 0) : NULL;
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
	client->since_ns = clock_mono_ns();
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
	client->finished = client->killed = true;
	(void)shutdown(client->fd, SHUT_RDWR);
	ring_later(client->host->ring, &client->task);
}

uint64_t client_greeted_ns(const struct client *client)
{
	return client->killed || client->handshake.state == NBD_TRANSMISSION ? UINT64_MAX : client->since_ns;
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
