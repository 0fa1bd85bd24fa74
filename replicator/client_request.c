// SPDX-License-Identifier: Apache-2.0
// The requests of one NBD connection: carried out, and answered.
//
// A write of more than CLIENT_PIECE_MAX is carried out in pieces, each as soon as it was received: then it is still in the processor's
// cache when it is copied to the page cache, and nothing large is held for a client that is slow to send. Each piece passes the
// gate of a cut by itself, so no cut waits for what a client has yet to send. The write is answered, and synced where it asks for
// that, when all pieces are done. Before, as on any disk, some of it may be there and some not.
#include "replicator/client_private.h"

#include "base/clock.h"
#include "replicator/holder.h"

#include <errno.h>
#include <stdlib.h>

static struct volume *client_volume(const struct client *client)
{
	return &client->host->group->volume[client->handshake.chosen];
}

static void request_put(struct client_request *request)
{
	buffer_put(request->buffer);
	request->next = request->client->spare;
	request->client->spare = request;
}

void client_request_drop(struct client_request *request)
{
	request->client->requests--;
	request->client->bytes -= request->bytes;
	if (request->bytes)
		request->client->host->bytes -= request->bytes;
	request_put(request);
}

static void on_reply_sent(struct reply *reply)
{
	client_request_drop(HOLDER(reply, struct client_request, reply));
}

static struct client_request *request_get(struct client *client)
{
	struct client_request *request = client->spare;
	if (request)
		client->spare = request->next;
	else
		request = malloc(sizeof(*request));
	if (request) {
		request->client = client;
		request->buffer = NULL;
	}
	return request;
}

struct client_request *client_request_new(struct client *client, uint64_t bytes)
{
	struct client_request *request = request_get(client);
	if (!request)
		return NULL;
	request->bytes = bytes;
	request->reply.data = NULL;
	request->reply.image = NULL;
	request->reply.len = 0;
	request->reply.sent = on_reply_sent;
	client->requests++;
	client->bytes += bytes;
	if (bytes)
		client->host->bytes += bytes;
	return request;
}

void client_reply_code(struct client_request *request, int code)
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
		client_reply_code(request, res);
		return;
	}
	reply->head_len = nbd_reply_data(reply->head, &request->nbd, client->handshake.structured);
	reply->data = request->buffer->data;
	reply->len = request->nbd.len;
	outbox_push(&client->outbox, reply);
}

void client_reply_status(struct client_request *request)
{
	struct client *client = request->client;
	struct nbd_extent extents[NBD_EXTENTS_MAX];
	unsigned most = request->nbd.flags & NBD_FLAG_REQ_ONE ? 1 : NBD_EXTENTS_MAX;
	request->buffer = pool_get(client->host->pool, NBD_STATUS_MAX);
	if (!request->buffer) {
		client_reply_code(request, -ENOMEM);
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

static void push_part(struct client_request *request);
static void read_copied(struct client_request *request);

// Of what is left to answer, nbd.off and nbd.len are the bounds from here on.
static void on_part_sent(struct reply *reply)
{
	struct client_request *request = HOLDER(reply, struct client_request, reply);
	request->nbd.off += reply->len;
	request->nbd.len -= (uint32_t)reply->len;
	if (request->nbd.len && !request->client->outbox.broken)
		push_part(request);
	else
		client_request_drop(request);
}

// Nothing was said of it yet: it is read as others are, and answered with what comes of that.
static void on_untaken(struct reply *reply)
{
	struct client_request *request = HOLDER(reply, struct client_request, reply);
	reply->image = NULL;
	reply->len = 0;
	reply->sent = on_reply_sent;
	request->volume.counted = true;
	read_copied(request);
}

static void push_part(struct client_request *request)
{
	struct client *client = request->client;
	const struct nbd_request *nbd = &request->nbd;
	struct reply *reply = &request->reply;
	reply->off = nbd->off;
	reply->len = min_u64(nbd->len, outbox_takes(&client->outbox, nbd->off));
	if (!reply->len) { // there is no pipe any more
		on_untaken(reply);
		return;
	}
	reply->head_len = reply->len < nbd->len ? nbd_reply_part(reply->head, nbd, (uint32_t)reply->len)
						: nbd_reply_data(reply->head, nbd, client->handshake.structured);
	outbox_push(&client->outbox, reply);
}

// From the page cache to the socket; false when it is to be read first. What is more than the pipe in between takes leaves in parts, where the client takes them.
static bool read_in_place(struct client_request *request)
{
	struct client *client = request->client;
	const struct nbd_request *nbd = &request->nbd;
	struct image *image = &client->host->image[client->handshake.chosen];
	bool in_parts = client->handshake.structured && !(nbd->flags & NBD_FLAG_DF);
	struct send_way *way = &client->send_way;
	bool looked = !send_way_rests_copied(way);
	if (looked && !image_sendable(image, nbd->off, nbd->len))
		return false;
	size_t takes = outbox_takes(&client->outbox, nbd->off);
	if (takes < nbd->len && (!takes || !in_parts))
		return false;
	if (send_way_next(way, nbd->len, client->bytes, clock_mono_ns()) == SEND_COPIED) {
		request->buffer = pool_get(client->host->pool, nbd->len);
		if (request->buffer)
			return false; // else there is a way without
	}
	if (!looked && !image_sendable(image, nbd->off, nbd->len))
		return false;
	volume_count_read(client_volume(client), nbd->len);
	request->reply.image = image;
	request->reply.sent = on_part_sent;
	request->reply.untaken = on_untaken;
	push_part(request);
	return true;
}

static const enum volume_command commands[] = {
	[NBD_READ] = VOLUME_READ, [NBD_WRITE] = VOLUME_WRITE,	    [NBD_FLUSH] = VOLUME_FLUSH,
	[NBD_TRIM] = VOLUME_TRIM, [NBD_WRITE_ZEROES] = VOLUME_ZERO, [NBD_CACHE] = VOLUME_CACHE,
};

static void submit(struct client_request *request)
{
	const struct nbd_request *nbd = &request->nbd;
	request->volume.command = commands[nbd->command];
	request->volume.told = NULL;
	request->volume.pipe = NULL;
	request->volume.fua = nbd->flags & NBD_FLAG_FUA;
	request->volume.no_hole = nbd->flags & NBD_FLAG_NO_HOLE;
	request->volume.fast = nbd->flags & NBD_FLAG_FAST_ZERO;
	request->volume.off = nbd->off;
	request->volume.len = nbd->len;
	request->volume.done = on_request_done;
	volume_submit(client_volume(request->client), &request->volume);
}

static void read_copied(struct client_request *request)
{
	if (!request->buffer)
		request->buffer = pool_get(request->client->host->pool, request->nbd.len);
	if (!request->buffer) {
		client_reply_code(request, -ENOMEM);
		return;
	}
	request->volume.data = request->buffer->data;
	submit(request);
}

void client_request_submit(struct client_request *request)
{
	const struct nbd_request *nbd = &request->nbd;
	request->volume.counted = false;
	if (nbd->command != NBD_READ)
		submit(request);
	else if (!read_in_place(request))
		read_copied(request);
}

// ---- writes in pieces

void client_write_begin(struct client_request *whole)
{
	struct client *client = whole->client;
	whole->pieces = 0;
	whole->taken = 0;
	whole->res = 0;
	whole->told = false;
	client->taking = whole;
	client->large = true;
	volume_count_write(client_volume(client), whole->nbd.len);
}

size_t client_write_next(const struct client_request *whole)
{
	uint64_t at = whole->nbd.off + whole->taken;
	return (size_t)min_u64(CLIENT_PIECE_MAX - at % CLIENT_PIECE_MAX, whole->nbd.len - whole->taken);
}

void client_write_pass(struct client_request *whole, size_t len)
{
	whole->taken += len;
	if (whole->taken == whole->nbd.len && whole->client->taking == whole) // by now it may be the next one
		whole->client->taking = NULL;
}

static void write_step(struct client_request *whole)
{
	struct client *client = whole->client;
	if (whole->pieces || client->taking == whole)
		return;
	if (whole->taken < whole->nbd.len) { // abandoned
		client_request_drop(whole);
		ring_later(client->host->ring, &client->task);
		return;
	}
	if (whole->res || !(whole->nbd.flags & NBD_FLAG_FUA)) {
		client_reply_code(whole, whole->res);
		return;
	}
	whole->volume.command = VOLUME_FLUSH;
	whole->volume.counted = true;
	whole->volume.done = on_request_done;
	volume_submit(client_volume(client), &whole->volume);
}

static void on_piece_done(struct volume_request *volume, int res)
{
	struct client_request *piece = HOLDER(volume, struct client_request, volume);
	struct client_request *whole = piece->whole;
	if (res < 0 && whole->res == 0)
		whole->res = res;
	if (volume->pipe)
		client_poured(whole, volume->len, res);
	request_put(piece);
	whole->pieces--;
	write_step(whole);
}

static int take(struct client_request *whole, size_t len, struct buffer *buffer, void *data, const int *pipe)
{
	struct client *client = whole->client;
	struct client_request *piece = request_get(client);
	if (!piece)
		return -ENOMEM;
	piece->whole = whole;
	piece->buffer = buffer ? buffer_ref(buffer) : NULL;
	piece->volume.command = VOLUME_WRITE;
	piece->volume.counted = true;
	piece->volume.fua = false; // the whole is synced at its end
	piece->volume.off = whole->nbd.off + whole->taken;
	piece->volume.len = len;
	piece->volume.data = data;
	piece->volume.told = &whole->told;
	piece->volume.pipe = pipe;
	piece->volume.done = on_piece_done;
	whole->pieces++;
	client_write_pass(whole, len);
	volume_submit(client_volume(client), &piece->volume);
	return 0;
}

int client_write_take(struct client_request *whole)
{
	struct inbox *inbox = &whole->client->inbox;
	size_t len = client_write_next(whole);
	int code = take(whole, len, inbox->buffer, inbox_at(inbox), NULL);
	if (code == 0)
		inbox_skip(inbox, len);
	return code;
}

int client_write_pour(struct client_request *whole, size_t len)
{
	struct pour *pour = &whole->client->pour;
	pour->busy = true;
	return take(whole, len, NULL, NULL, &pour->pipe[0]);
}

void client_write_abandon(struct client_request *whole)
{
	whole->client->taking = NULL;
	write_step(whole);
}
