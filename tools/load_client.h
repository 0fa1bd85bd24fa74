// SPDX-License-Identifier: Apache-2.0
// One protection as the load generator has it: a connection to a receiver, and cycles of blocks that always differ from what
// the receiver holds. Speaks docs/protocol.md, with keys that were paired by a token. One thread a client.
#ifndef KAGAMI_TOOLS_LOAD_CLIENT_H
#define KAGAMI_TOOLS_LOAD_CLIENT_H

#include "base/env.h"
#include "base/err.h"
#include "format/wire.h"
#include "link/channel.h"
#include "link/identity.h"
#include "link/net.h"

#include <stdint.h>

// Contents that blocks are given in turn, packed once for all clients: the load generator shares the receiver's cores.
enum { LOAD_CONTENTS = 61 };
struct load_contents {
	unsigned char plain[LOAD_CONTENTS][BLOCK_SIZE];
	unsigned char packed[LOAD_CONTENTS][BLOCK_SIZE];
	uint32_t packed_len[LOAD_CONTENTS];
};
int load_contents_new(struct load_contents **ret_contents); // -ENOMEM; freed with free()

struct load_source { // a source that the receiver knows
	struct identity *identity;
	SSL_CTX *tls;
	char address[NET_ADDRESS_SIZE];
	struct pin receiver;
};
// Makes key number `number` below `keys`, and pairs it with the receiver that the token names.
int load_pair(struct env_root *keys, unsigned number, const char *token, struct load_source *ret_source, struct err *err);
void load_source_done(struct load_source *source);

struct load_client {
	const struct load_source *source;
	const struct load_contents *contents;
	struct wire_open open;
	struct channel *channel;
	uint64_t point; // the newest at the receiver
	struct uuid head;
	uint64_t written; // blocks of all cycles: says what comes next
};
// Draws the identity of the protection `name`, with one disk of `disk_size`. Nothing is connected.
int load_client_init(struct load_client *client, const struct load_source *source, const struct load_contents *contents,
		     const char *name, uint64_t disk_size, uint32_t points, struct err *err);
int load_client_connect(struct load_client *client, struct err *err);
void load_client_close(struct load_client *client);
int load_client_ping(struct load_client *client, struct err *err);

struct load_cycle {
	uint64_t whole_ns;  // from the first COMPARE to COMMITTED
	uint64_t commit_ns; // from SEAL to COMMITTED
	uint64_t blocks;    // that the receiver did not hold, and so were sent
	uint64_t stored_bytes; // as the receiver says
};
// Writes `blocks` blocks, at most as many as the disk has, and makes them a point. -EBADMSG when the receiver's answer is not
// the one for this cycle.
int load_client_cycle(struct load_client *client, uint64_t blocks, struct load_cycle *ret_cycle, struct err *err);

#endif
