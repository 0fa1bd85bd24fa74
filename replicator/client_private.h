// SPDX-License-Identifier: Apache-2.0
// What the two halves of a connection share: client.c receives, parses and ends it, client_request.c carries requests out and
// answers them.
#ifndef KAGAMI_REPLICATOR_CLIENT_PRIVATE_H
#define KAGAMI_REPLICATOR_CLIENT_PRIVATE_H

#include "replicator/client.h"
#include "replicator/inbox.h"
#include "replicator/outbox.h"
#include "replicator/send_way.h"

enum {
	CLIENT_REQUESTS_MAX = 256,
	CLIENT_TURN_MAX = 4, // requests that are taken before the answers of those before are sent
	CLIENT_BYTES_MAX = 64 << 20,
	CLIENT_BYTES_SURE = 1 << 20, // or one payload: so much each connection may have under way, whatever the others have
	CLIENTS_BYTES_MAX = 256 << 20, // of all connections of an export; beyond, each has what it is sure of
	CLIENT_PIECE_MAX = 64 << 10, // of a larger write, at once: what was just received is still in the processor's cache
	CLIENT_POUR_MAX = 256 << 10, // likewise through a pipe, where nothing is copied in between
};

struct client_request {
	struct volume_request volume;
	struct client *client;
	struct reply reply;
	struct buffer *buffer; // what is read into, or where the inbox holds what is written
	uint64_t bytes;	       // that it counts for
	struct nbd_request nbd;
	struct client_request *whole; // of a piece: the write it belongs to
	unsigned pieces;	      // of a write in pieces: how many are under way
	uint64_t taken;		      // and how much of it has been received
	int res;		      // and the first error of one
	bool told;		      // an error of one was told
	struct client_request *next;
};

// A large write's way past the inbox: from the socket into a pipe, and from that into the image's page cache, copied once.
struct pour {
	int pipe[2];  // 0: none yet
	size_t len;   // what it holds
	bool busy;    // that is being written
	bool refused; // the kernel makes no pipe, or the socket gives nothing to one
};

struct client {
	struct client_host *host;
	int fd;
	uint64_t since_ns; // on the monotonic clock
	struct nbd_handshake handshake;
	struct inbox inbox;
	struct outbox outbox;
	struct send_way send_way;
	struct ring_watch watch;
	struct ring_task task; // goes on: there may be more to receive, after the replies to what was received
	bool readable;	       // the socket may hold something
	bool closed;	       // by the peer, and everything up to its end is to be received
	size_t need;	       // bytes until the next item can be parsed; 0: the socket is left alone
	bool finished;	       // takes no more requests
	bool killed;	       // nor will its answers be taken
	uint64_t skip;	    // payload of a refused write that is still to come
	struct client_request *refused; // it, which is answered after that: no client looks for a reply to what it has not sent
	int refused_code;
	struct client_request *taking; // a write whose payload is still to come, in part
	bool large;		       // so was the one before: after the next head alone, more may be poured
	struct pour pour;
	unsigned requests;  // under way, until their replies were sent
	uint64_t bytes;	    // of their payloads
	struct client_request *spare;
	struct client *next;
};

// NULL: no memory. It counts as one request and `bytes` until its reply was sent.
struct client_request *client_request_new(struct client *client, uint64_t bytes);
// Without an answer.
void client_request_drop(struct client_request *request);
void client_reply_code(struct client_request *request, int code);
// Carries out what was checked; for a write all of its payload is there.
void client_request_submit(struct client_request *request);
void client_reply_status(struct client_request *request);

// A write that is carried out in pieces, as they are received: begin, then `take` until it returns 0.
void client_write_begin(struct client_request *whole);
// How long the next piece is; 0: all of them were taken.
size_t client_write_next(const struct client_request *whole);
// Takes that piece from the inbox, which holds it. -ENOMEM: nothing was taken.
int client_write_take(struct client_request *whole);
// Takes the next `len` bytes from the pipe, which holds them.
int client_write_pour(struct client_request *whole, size_t len);
// `len` bytes were received and are not written.
void client_write_pass(struct client_request *whole, size_t len);
// The connection ends before the rest came: goes when the pieces under way are done.
void client_write_abandon(struct client_request *whole);

// Whether what comes next goes through the pipe, which is made for it: then client_pour() receives, not the inbox.
bool client_pours(struct client *client);
// Receives what is there, and begins to write it when it is enough.
void client_pour(struct client *client);
// A piece of `len` bytes is done.
void client_poured(struct client_request *whole, size_t len, int res);
void client_pour_close(struct client *client);

#endif
