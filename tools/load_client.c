// SPDX-License-Identifier: Apache-2.0
// A cycle, as a source does it: COMPARE a run of blocks, take DIFFERS, send BLOCKs; then SEAL, and wait for COMMITTED. One run
// of at most RUN_BLOCKS is under way at a time.
//
// Block n of all that a client ever writes goes to index n mod the disk's blocks, with content (index + pass) mod LOAD_CONTENTS: so a
// block never equals what it replaces, and every DIFFERS must name every block. One that does not is an error.
#include "tools/load_client.h"

#include "base/auto.h"
#include "link/token.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

enum { RUN_BLOCKS = 64, COMMIT_MS = 10 * 60 * 1000 };

// --- contents and keys ---

// About 40 % of it is left when it is packed, as of real files.
static void content_fill(unsigned char *to, uint64_t seed)
{
	for (size_t at = 0; at < BLOCK_SIZE; at += 16) {
		seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		memset(to + at, (int)(at >> 10 & 0xff), 16);
		for (unsigned i = 0; i < 5; i++)
			to[at + i] = (unsigned char)(seed >> (24 + 8 * i));
	}
}

int load_contents_new(struct load_contents **ret_contents)
{
	AUTO_FREE struct load_contents *contents = malloc(sizeof(*contents));
	struct codec_context *codec = codec_new();
	bool whole = contents && codec;
	for (unsigned i = 0; whole && i < LOAD_CONTENTS; i++) {
		content_fill(contents->plain[i], i + 1);
		contents->packed_len[i] =
			(uint32_t)codec_pack(codec, CODEC_ZSTD, contents->plain[i], BLOCK_SIZE, contents->packed[i], BLOCK_SIZE);
		whole = contents->packed_len[i] > 0;
	}
	codec_free(codec);
	if (!whole)
		return -ENOMEM;
	*ret_contents = STEAL(contents);
	return 0;
}

// Puts what an encoder wrote into channel_room(), and lets it leave.
static int put(struct channel *channel, size_t len, struct err *err)
{
	int rc = channel_put(channel, len);
	return rc ? err_sys(err, rc, "send") : 0;
}

static int greet(struct channel *channel, struct err *err)
{
	struct wire_hello own = {
		.major = WIRE_MAJOR, .minor = WIRE_MINOR, .wall_ns = env_wall_ns(env_posix()), .program = "kagami-load"};
	struct wire_hello theirs;
	struct wire_frame frame;
	struct wire_failure failure;
	int rc = put(channel, wire_put_hello(channel_room(channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &own), err);
	if (rc == 0)
		rc = channel_flush(channel, err);
	if (rc == 0)
		rc = channel_expect(channel, WIRE_HELLO, CHANNEL_STALL_MS, &frame, &failure, err);
	if (rc)
		return rc;
	if (wire_get_hello(&frame, &theirs) || theirs.major != WIRE_MAJOR)
		return err_set(err, -EPROTONOSUPPORT, "the receiver does not speak version %d of the protocol", WIRE_MAJOR);
	return 0;
}

static int prove(struct channel *channel, const struct token *token, const struct pin *own, unsigned number, struct err *err)
{
	struct wire_pair proof = {.name = ""}, answer;
	unsigned char expected[WIRE_MAC_SIZE];
	struct wire_frame frame;
	struct wire_failure failure;
	token_id(token->secret, proof.token_id);
	token_proof(token->secret, false, own, &token->receiver, proof.mac);
	token_proof(token->secret, true, own, &token->receiver, expected);
	(void)snprintf(proof.name, sizeof(proof.name), "load-%u", number);
	int rc = put(channel, wire_put_pair(channel_room(channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, WIRE_PAIR, &proof), err);
	if (rc == 0)
		rc = channel_flush(channel, err);
	if (rc == 0)
		rc = channel_expect(channel, WIRE_PAIRED, CHANNEL_STALL_MS, &frame, &failure, err);
	if (rc)
		return rc;
	if (wire_get_pair(&frame, &answer) || CRYPTO_memcmp(answer.mac, expected, sizeof(expected)) != 0)
		return err_set(err, -EKEYREJECTED, "the receiver does not know the token");
	return 0;
}

int load_pair(struct env_root *keys, unsigned number, const char *text, struct load_source *ret_source, struct err *err)
{
	struct load_source source = {.identity = NULL};
	struct token token;
	struct channel *channel = NULL;
	char name[NAME_SIZE];
	(void)snprintf(name, sizeof(name), "source-%u.pem", number);
	int rc = token_read(text, &token, err);
	if (rc == 0)
		rc = identity_load(keys, name, &source.identity, err);
	if (rc == 0 && !(source.tls = identity_context(source.identity, false, err)))
		rc = -EIO;
	if (rc == 0)
		rc = channel_connect(source.tls, token.address, &token.receiver, &channel, err);
	if (rc == 0)
		rc = greet(channel, err);
	if (rc == 0)
		rc = prove(channel, &token, identity_pin(source.identity), number, err);
	channel_close(channel);
	if (rc) {
		load_source_done(&source);
		return rc;
	}
	source.receiver = token.receiver;
	(void)snprintf(source.address, sizeof(source.address), "%s", token.address);
	*ret_source = source;
	return 0;
}

void load_source_done(struct load_source *source)
{
	SSL_CTX_free(source->tls);
	identity_free(source->identity);
	*source = (struct load_source){.identity = NULL};
}

// --- the connection ---

int load_client_init(struct load_client *client, const struct load_source *source, const struct load_contents *contents,
		     const char *name, uint64_t disk_size, uint32_t points, struct err *err)
{
	struct env *env = env_posix();
	*client = (struct load_client){.source = source, .contents = contents};
	struct wire_open *open = &client->open;
	*open = (struct wire_open){.codec = CODEC_ZSTD, .points_keep = points, .rpo_ms = 15000, .disk_count = 1};
	open->digest.kind = DIGEST_XXH3;
	open->disk[0].size = disk_size;
	(void)snprintf(open->name, sizeof(open->name), "%s", name);
	(void)snprintf(open->disk[0].name, NAME_SIZE, "vda");
	if (uuid_new(env, &open->protection) || uuid_new(env, &open->generation) ||
	    env_random(env, open->digest.secret, DIGEST_SECRET_SIZE))
		return err_set(err, -EIO, "no random numbers");
	return 0;
}

static int client_open(struct load_client *client, struct err *err)
{
	struct channel *channel = client->channel;
	struct wire_frame frame;
	struct wire_failure failure;
	struct wire_opened opened;
	int rc = greet(channel, err);
	if (rc == 0)
		rc = put(channel, wire_put_open(channel_room(channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &client->open), err);
	if (rc == 0)
		rc = channel_flush(channel, err);
	if (rc == 0)
		rc = channel_expect(channel, WIRE_OPENED, CHANNEL_STALL_MS, &frame, &failure, err);
	if (rc)
		return rc;
	if (wire_get_opened(&frame, &opened))
		return err_set(err, -EBADMSG, "OPENED is malformed");
	client->point = opened.last_point;
	client->head = opened.head;
	return 0;
}

int load_client_connect(struct load_client *client, struct err *err)
{
	const struct load_source *source = client->source;
	int rc = channel_connect(source->tls, source->address, &source->receiver, &client->channel, err);
	if (rc == 0)
		rc = client_open(client, err);
	if (rc)
		load_client_close(client);
	return rc ? err_wrap(err, "%s", client->open.name) : 0;
}

void load_client_close(struct load_client *client)
{
	channel_close(client->channel);
	client->channel = NULL;
}

int load_client_ping(struct load_client *client, struct err *err)
{
	struct wire_frame frame;
	struct wire_failure failure;
	void *to = channel_room(client->channel, WIRE_HEADER_SIZE);
	int rc = put(client->channel, wire_put_empty(to, WIRE_HEADER_SIZE, WIRE_PING), err);
	if (rc == 0)
		rc = channel_flush(client->channel, err);
	return rc ? rc : channel_expect(client->channel, WIRE_PONG, CHANNEL_STALL_MS, &frame, &failure, err);
}

// --- a cycle ---

static unsigned content_of(const struct load_client *client, uint64_t n)
{
	uint64_t blocks = size_blocks(client->open.disk[0].size);
	return (unsigned)((n % blocks + n / blocks) % LOAD_CONTENTS);
}

static int send_compare(struct load_client *client, uint64_t n, const struct digest *digests, uint32_t count, struct err *err)
{
	struct wire_compare compare = {.count = count,
				       .first = n % size_blocks(client->open.disk[0].size),
				       .digests = (const unsigned char *)digests};
	void *to = channel_room(client->channel, WIRE_FRAME_MAX);
	int rc = put(client->channel, wire_put_compare(to, WIRE_FRAME_MAX, &compare), err);
	return rc ? rc : channel_flush(client->channel, err);
}

static int take_differs(struct load_client *client, uint64_t n, uint32_t count, struct err *err)
{
	struct wire_frame frame;
	struct wire_failure failure;
	struct wire_differs differs;
	int rc = channel_expect(client->channel, WIRE_DIFFERS, CHANNEL_STALL_MS, &frame, &failure, err);
	if (rc)
		return rc;
	if (wire_get_differs(&frame, &differs) || differs.count != count ||
	    differs.first != n % size_blocks(client->open.disk[0].size))
		return err_set(err, -EBADMSG, "DIFFERS is not the answer to COMPARE");
	for (uint32_t i = 0; i < count; i++)
		if (!(differs.bitmap[i / 8] >> i % 8 & 1))
			return err_set(err, -EBADMSG, "block %llu differs, and the receiver says it does not",
				       (unsigned long long)differs.first + i);
	return 0;
}

// Compares and sends blocks n to n + count - 1, which are neighbours on the disk.
static int send_run(struct load_client *client, uint64_t n, uint32_t count, struct err *err)
{
	uint64_t blocks = size_blocks(client->open.disk[0].size);
	struct digest digests[RUN_BLOCKS];
	for (uint32_t i = 0; i < count; i++)
		digests[i] = digest_of(&client->open.digest, 0, (n + i) % blocks, client->contents->plain[content_of(client, n + i)]);
	int rc = send_compare(client, n, digests, count, err);
	if (rc == 0)
		rc = take_differs(client, n, count, err);
	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		unsigned content = content_of(client, n + i);
		struct wire_block block = {.mask = MASK_FULL, .codec = CODEC_ZSTD, .index = (n + i) % blocks, .digest = digests[i],
					   .len = client->contents->packed_len[content], .payload = client->contents->packed[content]};
		size_t cap = WIRE_HEADER_SIZE + WIRE_BLOCK_HEAD_SIZE + block.len;
		rc = put(client->channel, wire_put_block(channel_room(client->channel, cap), cap, &block), err);
	}
	return rc;
}

static int seal(struct load_client *client, uint64_t blocks, struct load_cycle *cycle, struct err *err)
{
	struct env *env = env_posix();
	struct wire_seal seal = {.predecessor = client->point, .head = client->head, .cut_wall_ns = env_wall_ns(env),
				 .consistency = POINT_CRASH, .dirty_bytes = blocks * BLOCK_SIZE, .blocks_sent = blocks};
	struct wire_committed committed;
	struct wire_frame frame;
	struct wire_failure failure;
	if (uuid_new(env, &seal.cut))
		return err_set(err, -EIO, "no random numbers");
	int rc = put(client->channel, wire_put_seal(channel_room(client->channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &seal), err);
	if (rc == 0)
		rc = channel_flush(client->channel, err);
	uint64_t began_ns = env_mono_ns(env);
	if (rc == 0)
		rc = channel_expect(client->channel, WIRE_COMMITTED, COMMIT_MS, &frame, &failure, err);
	if (rc)
		return rc;
	cycle->commit_ns = env_mono_ns(env) - began_ns;
	if (wire_get_committed(&frame, &committed) || committed.number != client->point + 1 ||
	    !uuid_equal(&committed.cut, &seal.cut))
		return err_set(err, -EBADMSG, "COMMITTED is not the answer to SEAL");
	cycle->stored_bytes = committed.stored_bytes;
	client->point = committed.number;
	client->head = committed.head;
	return 0;
}

int load_client_cycle(struct load_client *client, uint64_t blocks, struct load_cycle *ret_cycle, struct err *err)
{
	uint64_t of_disk = size_blocks(client->open.disk[0].size), began_ns = env_mono_ns(env_posix());
	struct load_cycle cycle = {.blocks = blocks};
	int rc = 0;
	for (uint64_t left = blocks; rc == 0 && left > 0;) {
		uint64_t run = min_u64(min_u64(left, RUN_BLOCKS), of_disk - client->written % of_disk);
		rc = send_run(client, client->written, (uint32_t)run, err);
		client->written += run;
		left -= run;
	}
	if (rc == 0)
		rc = seal(client, blocks, &cycle, err);
	if (rc)
		return err_wrap(err, "%s", client->open.name);
	cycle.whole_ns = env_mono_ns(env_posix()) - began_ns;
	*ret_cycle = cycle;
	return 0;
}
