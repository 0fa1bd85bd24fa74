// SPDX-License-Identifier: Apache-2.0
// A whole session, frame after frame, against a store in the simulated world: the receiver's state machine, its decoders, the head, the
// commit and a fold. Whatever a paired source says, and in whatever order, the point that was committed before stays as it was, byte by
// byte, every later one can be opened and read, and the store opens again with nothing broken.
//
// Input: records of one control byte and a frame. Where bit 0 of the control byte is set, what chance never gets right is put right first:
// a BLOCK's digest, a SEAL's predecessor and head. Bit 1: the power is cut after this frame; the session ends, and nothing else is lost.
#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "link/token.h"
#include "receiver/session.h"
#include "tests/lib/layers.h"
#include "tests/lib/uncalled_channel.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DISK_SIZE = 3 * BLOCK_SIZE + 5 * PIECE_SIZE + 512, DISK_ROOM = 4 * BLOCK_SIZE, BIG_DISK = 16 << 20, FIX = 1, CUT = 2 };

static struct sim *sim;
static const struct pin source = {{9, 9}}, own = {{7}};
static unsigned char committed_content[DISK_ROOM];

static void must(bool ok)
{
	if (!ok)
		__builtin_trap();
}

// --- the channel: frames from the input; answers go nowhere ---

struct channel {
	const uint8_t *data;
	size_t size;
	struct store *store;
	unsigned char *frame; // of exactly its length, so that a read past the end is seen
	unsigned char *block, *out;
	struct codec_context *codec;
	bool cut;
};

static void fix_block(const struct channel *c, const struct wire_frame *f)
{
	struct wire_block b;
	static const struct digest_key key = {.kind = DIGEST_XXH3, .secret = {0x11}};
	if (wire_get_block(f, &b) || b.mask != MASK_FULL)
		return;
	if (b.codec == CODEC_NONE && b.len == BLOCK_SIZE)
		memcpy(c->block, b.payload, BLOCK_SIZE);
	else if (codec_unpack(c->codec, b.codec, b.payload, b.len, c->block, BLOCK_SIZE))
		return;
	struct digest digest = digest_of(&key, b.disk, b.index, c->block);
	memcpy(f->body + WIRE_BLOCK_HEAD_SIZE - DIGEST_SIZE, digest.bytes, DIGEST_SIZE);
}

static void fix_seal(const struct channel *c, const struct wire_frame *f)
{
	struct wire_seal seal;
	struct replica_info info;
	struct replica *replica = store_find(c->store, "vm1");
	unsigned char again[256];
	if (!replica || wire_get_seal(f, &seal))
		return;
	replica_info(replica, &info);
	seal.predecessor = info.last_point;
	seal.head = info.head;
	size_t len = wire_put_seal(again, sizeof(again), &seal);
	must(len == WIRE_HEADER_SIZE + f->len);
	memcpy(f->body, again + WIRE_HEADER_SIZE, f->len);
}

int channel_get(struct channel *c, int timeout_ms, struct wire_frame *ret_frame, struct err *err)
{
	(void)timeout_ms;
	free(c->frame);
	c->frame = NULL;
	if (c->cut || c->size < 1)
		return err_set(err, -ECONNRESET, "the input ends");
	uint8_t control = c->data[0];
	struct wire_frame peek;
	AUTO_FREE unsigned char *rest = malloc(c->size);
	must(rest != NULL);
	memcpy(rest, c->data + 1, c->size - 1);
	int rc = wire_frame_next(rest, c->size - 1, &peek);
	if (rc != 1)
		return err_set(err, rc ? rc : -ECONNRESET, "no frame");
	size_t len = WIRE_HEADER_SIZE + peek.len;
	c->frame = malloc(len);
	must(c->frame != NULL);
	memcpy(c->frame, rest, len);
	must(wire_frame_next(c->frame, len, ret_frame) == 1);
	c->data += 1 + len;
	c->size -= 1 + len;
	if (control & FIX && ret_frame->type == WIRE_BLOCK)
		fix_block(c, ret_frame);
	if (control & FIX && ret_frame->type == WIRE_SEAL)
		fix_seal(c, ret_frame);
	c->cut = control & CUT;
	return 1;
}

void *channel_room(struct channel *c, size_t cap)
{
	must(cap <= WIRE_FRAME_MAX);
	return c->out;
}

int channel_put(struct channel *c, size_t len)
{
	struct wire_frame f;
	must(len > 0 && wire_frame_next(c->out, len, &f) == 1); // what the receiver says is a frame
	return 0;
}

int channel_flush(struct channel *c, struct err *err)
{
	(void)c;
	(void)err;
	return 0;
}

const struct pin *channel_peer(const struct channel *c)
{
	(void)c;
	return &source;
}

void channel_refuse(struct channel *c, enum wire_error code, const char *text)
{
	(void)c;
	must(code >= WIRE_E_PROTOCOL && code <= WIRE_E_LAST && text && text[0]);
}

bool channel_moves(struct channel *c)
{
	(void)c;
	return false;
}

// --- the receiver ---

static bool take_over(void *context, struct replica *replica)
{
	(void)context;
	(void)replica;
	return false;
}

static struct replica *opened_replica;

static void opened(void *context, struct replica *replica)
{
	(void)context;
	opened_replica = replica;
}

static void committed(void *context)
{
	struct err err = {0};
	(void)context;
	must(replica_retain(opened_replica, &err) >= 0);
}

static void world_open(struct env_root **ret_state, struct store **ret_store, struct pairing **ret_pairing)
{
	must(store_open(sim_env(sim), "/store", ret_store, NULL) == 0);
	must(env_root_open(sim_env(sim), "/state", ret_state) == 0);
	must(pairing_open(*ret_state, &own, ret_pairing, NULL) == 0);
}

// A paired source, and "vm1" with a point of a plain and a partial block.
static void first_point(struct store *store)
{
	struct wire_open open = {.protection = {{1}}, .generation = {{2}}, .name = "vm1", .digest = {.kind = DIGEST_XXH3, .secret = {0x11}},
				 .codec = CODEC_ZSTD, .points_keep = 2, .rpo_ms = 15000, .disk_count = 1, .disk = {{.name = "vda", .size = DISK_SIZE}}};
	struct replica *replica;
	struct wire_opened opening;
	struct wire_committed done;
	must(store_create(store, &open, source.bytes, &replica, NULL) == 0);
	must(replica_session_begin(replica, &open, source.bytes, &opening, NULL) == 0);
	memset(committed_content, 'a', BLOCK_SIZE);
	memset(committed_content + 2 * BLOCK_SIZE, 'b', PIECE_SIZE);
	for (uint64_t i = 0; i <= 2; i += 2) {
		const unsigned char *block = committed_content + i * BLOCK_SIZE;
		struct wire_block b = {.mask = i ? 1 : MASK_FULL, .codec = CODEC_NONE, .index = i, .digest = digest_of(&open.digest, 0, i, block),
				       .len = i ? PIECE_SIZE : BLOCK_SIZE, .payload = block};
		must(replica_write_block(replica, &b, NULL) == 0);
	}
	struct wire_seal seal = {.cut = {{5}}, .head = opening.head, .cut_wall_ns = 1, .consistency = POINT_CRASH};
	must(replica_seal(replica, &seal, &done, NULL) == 0);
	replica_session_end(replica);
}

static void pair(struct pairing *pairing)
{
	char text[TOKEN_TEXT_SIZE];
	struct token token;
	struct wire_pair proof = {.name = "host1"}, answer;
	int64_t expires;
	must(pairing_token(pairing, "127.0.0.1:1", text, &expires, NULL) == 0 && token_read(text, &token, NULL) == 0);
	token_id(token.secret, proof.token_id);
	token_proof(token.secret, false, &source, &own, proof.mac);
	must(pairing_accept(pairing, &proof, &source, &answer, NULL) == 0);
}

static void begin(void)
{
	struct env_root *top, *state;
	struct store *store;
	struct pairing *pairing;
	log_init("fuzz_session", LOG_LEVEL_ERROR);
	sim = sim_new(1);
	must(env_root_open(sim_env(sim), "/", &top) == 0 && env_mkdir(top, "store") == 0 && env_mkdir(top, "state") == 0);
	env_root_close(top);
	world_open(&state, &store, &pairing);
	pair(pairing);
	first_point(store);
	pairing_close(pairing);
	store_close(store);
	env_root_close(state);
	sim_settle(sim);
	sim_save(sim);
}

// Every point reads; the first is as it was, unless retention folded it.
static void check(void)
{
	static unsigned char found[BIG_DISK + BLOCK_SIZE];
	struct env_root *root;
	struct store *store;
	struct point_info *points = NULL;
	size_t count = 0;
	struct replica_info info;
	uint64_t sizes[DISKS_MAX];
	must(store_open(sim_env(sim), "/store", &store, NULL) == 0 && env_root_open(sim_env(sim), "/store", &root) == 0);
	struct replica *replica = store_find(store, "vm1");
	must(replica != NULL);
	replica_info(replica, &info);
	must(!info.broken && info.point_count >= 1 && replica_points(replica, &points, &count) == 0);
	for (size_t i = 0; i < count; i++) {
		char path[64];
		uint64_t held;
		must(replica_hold(replica, points[i].number, &held, NULL) == 0 && replica_point_sizes(replica, held, sizes, NULL) == 0);
		(void)snprintf(path, sizeof(path), "vm1/points/%llu/vda.qcow2", (unsigned long long)held);
		if (sizes[0] <= BIG_DISK) // a source may grow its disk to any size
			must(layers_read(root, path, sizes[0], found, NULL) == 0);
		if (held == 1)
			must(sizes[0] == DISK_SIZE && memcmp(found, committed_content, DISK_SIZE) == 0);
		replica_release(replica, held);
	}
	free(points);
	env_root_close(root);
	store_close(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct env_root *state;
	struct pairing *pairing;
	if (!sim)
		begin();
	sim_restore(sim);
	struct channel channel = {.data = data, .size = size, .block = malloc(BLOCK_SIZE), .out = malloc(WIRE_FRAME_MAX), .codec = codec_new()};
	must(channel.block && channel.out && channel.codec);
	world_open(&state, &channel.store, &pairing);
	struct session_host host = {.env = sim_env(sim), .store = channel.store, .pairing = pairing, .take_over = take_over,
				    .opened = opened, .committed = committed};
	session_run(&host, &channel, "fuzzer");
	pairing_close(pairing);
	store_close(channel.store);
	env_root_close(state);
	if (channel.cut) {
		sim_power_off(sim);
		sim_power_on(sim);
	}
	check();
	free(channel.frame);
	free(channel.block);
	free(channel.out);
	codec_free(channel.codec);
	return 0;
}
