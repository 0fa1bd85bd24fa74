// SPDX-License-Identifier: Apache-2.0
// The wire's messages: what they look like for ever (golden), and what becomes of everything that is not one of them.
#include "base/bytes.h"
#include "format/wire.h"
#include "tests/golden/wire_1.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct uuid uuid_of(unsigned char byte)
{
	struct uuid uuid;
	memset(uuid.bytes, byte, UUID_SIZE);
	return uuid;
}

// --- one sample of each message, and its decoder behind one face ---

static size_t sample_hello(void *to, size_t cap)
{
	struct wire_hello m = {1, 0, 0, INT64_C(1769860800123456789), "kagami-replicator"};
	return wire_put_hello(to, cap, &m);
}

static size_t sample_pair(void *to, size_t cap)
{
	struct wire_pair m = {.name = "host1"};
	memset(m.token_id, 0x11, sizeof(m.token_id));
	memset(m.mac, 0x22, sizeof(m.mac));
	return wire_put_pair(to, cap, WIRE_PAIR, &m);
}

static size_t sample_paired(void *to, size_t cap)
{
	struct wire_pair m = {.name = "backup"};
	memset(m.token_id, 0x11, sizeof(m.token_id));
	memset(m.mac, 0x99, sizeof(m.mac));
	return wire_put_pair(to, cap, WIRE_PAIRED, &m);
}

static size_t sample_open(void *to, size_t cap)
{
	struct wire_open m = {
		.protection = uuid_of(0x33),
		.generation = uuid_of(0x44),
		.name = "vm1",
		.digest = {.kind = DIGEST_XXH3},
		.codec = CODEC_ZSTD,
		.points_keep = 24,
		.rpo_ms = 15000,
		.disk_count = 2,
		.disk = {{"vda", 1 << 30}, {"vdb", 512}},
	};
	memset(m.digest.secret, 0x55, sizeof(m.digest.secret));
	return wire_put_open(to, cap, &m);
}

static size_t sample_opened(void *to, size_t cap)
{
	struct wire_opened m = {7, uuid_of(0x66), INT64_C(1769860800000000000), uuid_of(0x77)};
	return wire_put_opened(to, cap, &m);
}

static size_t sample_compare(void *to, size_t cap)
{
	unsigned char digests[2 * DIGEST_SIZE];
	memset(digests, 0x88, DIGEST_SIZE);
	memset(digests + DIGEST_SIZE, 0, DIGEST_SIZE);
	struct wire_compare m = {.disk = 1, .count = 2, .first = 0x123456789, .digests = digests};
	return wire_put_compare(to, cap, &m);
}

static size_t sample_differs(void *to, size_t cap)
{
	const unsigned char bitmap[2] = {0x81, 0x01};
	struct wire_differs m = {.disk = 1, .count = 9, .first = 0x123456789, .bitmap = bitmap};
	return wire_put_differs(to, cap, &m);
}

static size_t sample_block(void *to, size_t cap)
{
	struct wire_block m = {.disk = 1, .mask = 0x8001, .codec = CODEC_ZSTD, .index = 42, .len = 5};
	memset(m.digest.bytes, 0x99, DIGEST_SIZE);
	m.payload = (const unsigned char *)"bytes";
	return wire_put_block(to, cap, &m);
}

static size_t sample_zeros(void *to, size_t cap)
{
	struct wire_zeros m = {.disk = 1, .first = 42, .count = 1000};
	return wire_put_zeros(to, cap, &m);
}

static size_t sample_seal(void *to, size_t cap)
{
	struct wire_seal m = {
		.predecessor = 7,
		.cut = uuid_of(0xaa),
		.head = uuid_of(0x77),
		.cut_wall_ns = INT64_C(1769860815000000000),
		.consistency = POINT_CRASH,
		.dirty_bytes = 131072,
		.blocks_sent = 3,
		.wire_bytes = 40233,
	};
	return wire_put_seal(to, cap, &m);
}

static size_t sample_committed(void *to, size_t cap)
{
	struct wire_committed m = {8, uuid_of(0xaa), uuid_of(0xbb), 524288, INT64_C(1769860815080000000)};
	return wire_put_committed(to, cap, &m);
}

static size_t sample_ping(void *to, size_t cap)
{
	return wire_put_empty(to, cap, WIRE_PING);
}

static size_t sample_pong(void *to, size_t cap)
{
	return wire_put_empty(to, cap, WIRE_PONG);
}

static size_t sample_seeded(void *to, size_t cap)
{
	return wire_put_empty(to, cap, WIRE_SEEDED);
}

static size_t sample_error(void *to, size_t cap)
{
	return wire_put_error(to, cap, WIRE_E_FENCED, "vm1 was failed over");
}

static size_t sample_damaged(void *to, size_t cap)
{
	struct wire_damaged m = {.count = 2, .run = {{0, 0x123456789, 1}, {1, 0, 4096}}};
	return wire_put_damaged(to, cap, &m);
}

static size_t sample_ack(void *to, size_t cap)
{
	struct wire_ack m = {.head = uuid_of(0x77), .messages = 3, .blocks = 0x123456789};
	return wire_put_ack(to, cap, &m);
}

static size_t sample_nodes(void *to, size_t cap)
{
	unsigned char digests[2 * DIGEST_SIZE];
	memset(digests, 0x88, DIGEST_SIZE);
	memset(digests + DIGEST_SIZE, 0, DIGEST_SIZE);
	struct wire_nodes m = {.disk = 1, .level = 2, .count = 2, .first = 0x123456789, .blocks = 65537, .digests = digests};
	return wire_put_nodes(to, cap, &m);
}

static size_t sample_unequal(void *to, size_t cap)
{
	const unsigned char bitmap[2] = {0x81, 0x01};
	struct wire_unequal m = {.disk = 1, .level = 1, .count = 9, .first = 0x123456789, .bitmap = bitmap};
	return wire_put_unequal(to, cap, &m);
}

static size_t sample_examine(void *to, size_t cap)
{
	unsigned char entries[2 * WIRE_EXAMINE_ENTRY_SIZE];
	struct digest digest = {{0}};
	wire_examine_set(entries, 0, 0x123456789, &digest);
	memset(digest.bytes, 0x88, sizeof(digest.bytes));
	wire_examine_set(entries, 1, 42, &digest);
	struct wire_examine m = {.disk = 1, .count = 2, .entries = entries};
	return wire_put_examine(to, cap, &m);
}

static size_t sample_pieces(void *to, size_t cap)
{
	static const unsigned char answer[] = {WIRE_EQUAL, WIRE_BY_PIECES, WIRE_WHOLE};
	unsigned char digests[PIECES_PER_BLOCK * DIGEST_SIZE];
	for (size_t i = 0; i < sizeof(digests); i++)
		digests[i] = (unsigned char)i;
	struct wire_pieces m = {.disk = 1, .count = 3, .first = 0x123456789, .answer = answer, .by_pieces = 1, .digests = digests};
	return wire_put_pieces(to, cap, &m);
}

static size_t sample_report(void *to, size_t cap)
{
	struct wire_report m = {.state = WIRE_REPORT_PAUSED,
				.cause = 12,
				.rpo_ms = 15000,
				.wall_ns = 1770000000123456789,
				.clock_offset_ns = -1500000000,
				.clock_error_ns = 250000,
				.dirty_bytes = 0x123456789,
				.next_cut_ms = WIRE_REPORT_NO_CUT,
				.stage_ms = {1, 2, 3, 4, 5, 0xfffffffe}};
	return wire_put_report(to, cap, &m);
}

static size_t sample_doubt(void *to, size_t cap)
{
	struct wire_doubt m = {.protection = uuid_of(0x33), .generation = uuid_of(0x44), .name = "vm1", .disks = UINT64_C(0x8000000000000002)};
	return wire_put_doubt(to, cap, &m);
}

static size_t sample_doubted(void *to, size_t cap)
{
	struct wire_doubted m = {.doubt = uuid_of(0xcc), .disks = 3};
	return wire_put_doubted(to, cap, &m);
}

static size_t sample_certain(void *to, size_t cap)
{
	struct wire_certain m = {.doubt = uuid_of(0xcc), .cut = uuid_of(0xaa), .disks = 3};
	return wire_put_certain(to, cap, &m);
}

static size_t sample_goodbye(void *to, size_t cap)
{
	struct wire_goodbye m = {.protection = uuid_of(0x33), .generation = uuid_of(0x44), .name = "vm1"};
	return wire_put_goodbye(to, cap, &m);
}

static size_t sample_parted(void *to, size_t cap)
{
	struct wire_parted m = {.noted = true};
	return wire_put_parted(to, cap, &m);
}

static size_t sample_clock(void *to, size_t cap)
{
	return wire_put_empty(to, cap, WIRE_CLOCK);
}

static size_t sample_time(void *to, size_t cap)
{
	struct wire_time m = {.wall_ns = INT64_C(0x1122334455667788), .steps_ns = -2};
	return wire_put_time(to, cap, &m);
}

static int decode(const struct wire_frame *f)
{
	union {
		struct wire_hello hello;
		struct wire_pair pair;
		struct wire_open open;
		struct wire_opened opened;
		struct wire_ack ack;
		struct wire_damaged damaged;
		struct wire_nodes nodes;
		struct wire_unequal unequal;
		struct wire_examine examine;
		struct wire_pieces pieces;
		struct wire_doubt doubt;
		struct wire_doubted doubted;
		struct wire_certain certain;
		struct wire_goodbye goodbye;
		struct wire_parted parted;
		struct wire_time time;
		struct wire_compare compare;
		struct wire_differs differs;
		struct wire_block block;
		struct wire_zeros zeros;
		struct wire_seal seal;
		struct wire_committed committed;
		struct wire_failure failure;
		struct wire_report report;
	} m;
	switch (f->type) {
	case WIRE_HELLO:
		return wire_get_hello(f, &m.hello);
	case WIRE_PAIR:
	case WIRE_PAIRED:
		return wire_get_pair(f, &m.pair);
	case WIRE_OPEN:
		return wire_get_open(f, &m.open);
	case WIRE_ACK:
		return wire_get_ack(f, &m.ack);
	case WIRE_NODES:
		return wire_get_nodes(f, &m.nodes);
	case WIRE_UNEQUAL:
		return wire_get_unequal(f, &m.unequal);
	case WIRE_EXAMINE:
		return wire_get_examine(f, &m.examine);
	case WIRE_PIECES:
		return wire_get_pieces(f, &m.pieces);
	case WIRE_DOUBT:
		return wire_get_doubt(f, &m.doubt);
	case WIRE_DOUBTED:
		return wire_get_doubted(f, &m.doubted);
	case WIRE_CERTAIN:
		return wire_get_certain(f, &m.certain);
	case WIRE_GOODBYE:
		return wire_get_goodbye(f, &m.goodbye);
	case WIRE_PARTED:
		return wire_get_parted(f, &m.parted);
	case WIRE_TIME:
		return wire_get_time(f, &m.time);
	case WIRE_DAMAGED:
		return wire_get_damaged(f, &m.damaged);
	case WIRE_REPORT:
		return wire_get_report(f, &m.report);
	case WIRE_OPENED:
		return wire_get_opened(f, &m.opened);
	case WIRE_COMPARE:
		return wire_get_compare(f, &m.compare);
	case WIRE_DIFFERS:
		return wire_get_differs(f, &m.differs);
	case WIRE_BLOCK:
		return wire_get_block(f, &m.block);
	case WIRE_ZEROS:
		return wire_get_zeros(f, &m.zeros);
	case WIRE_SEAL:
		return wire_get_seal(f, &m.seal);
	case WIRE_COMMITTED:
		return wire_get_committed(f, &m.committed);
	case WIRE_PING:
	case WIRE_CLOCK:
	case WIRE_PONG:
	case WIRE_SEEDED:
		return wire_get_empty(f);
	case WIRE_ERROR:
		return wire_get_error(f, &m.failure);
	default:
		return -EBADMSG;
	}
}

static const struct sample {
	const char *name;
	size_t (*put)(void *to, size_t cap);
	const char *golden;
} samples[] = {
	{"HELLO", sample_hello, golden_hello},	     {"PAIR", sample_pair, golden_pair},
	{"PAIRED", sample_paired, golden_paired},    {"PONG", sample_pong, golden_pong},
	{"OPEN", sample_open, golden_open},	     {"OPENED", sample_opened, golden_opened},
	{"COMPARE", sample_compare, golden_compare}, {"DIFFERS", sample_differs, golden_differs},
	{"BLOCK", sample_block, golden_block},	     {"ZEROS", sample_zeros, golden_zeros},
	{"SEAL", sample_seal, golden_seal},	     {"COMMITTED", sample_committed, golden_committed},
	{"SEEDED", sample_seeded, golden_seeded},    {"PING", sample_ping, golden_ping},	     {"ERROR", sample_error, golden_error},
	{"DAMAGED", sample_damaged, golden_damaged}, {"ACK", sample_ack, golden_ack},
	{"NODES", sample_nodes, golden_nodes},
	{"UNEQUAL", sample_unequal, golden_unequal},
	{"EXAMINE", sample_examine, golden_examine}, {"PIECES", sample_pieces, golden_pieces},
	{"REPORT", sample_report, golden_report},
	{"DOUBT", sample_doubt, golden_doubt},	     {"DOUBTED", sample_doubted, golden_doubted},
	{"CERTAIN", sample_certain, golden_certain}, {"GOODBYE", sample_goodbye, golden_goodbye},
	{"PARTED", sample_parted, golden_parted},    {"CLOCK", sample_clock, golden_clock},
	{"TIME", sample_time, golden_time},
};
enum { SAMPLES = sizeof(samples) / sizeof(samples[0]) };

static void hex_of(const unsigned char *data, size_t len, char *text)
{
	for (size_t i = 0; i < len; i++)
		(void)sprintf(text + 2 * i, "%02x", data[i]);
	text[2 * len] = 0;
}

static void wire_messages_are_what_they_were_in_version_1(void **state)
{
	(void)state;
	for (int i = 0; i < SAMPLES; i++) {
		unsigned char frame[1024];
		char text[2049];
		size_t len = samples[i].put(frame, sizeof(frame));
		assert_true(len > 0);
		hex_of(frame, len, text);
		if (strcmp(text, samples[i].golden) != 0)
			fail_msg("%s is now %s", samples[i].name, text);
	}
}

static void every_type_of_message_has_a_golden_one(void **state)
{
	(void)state;
	bool have[256] = {false};
	for (int i = 0; i < SAMPLES; i++) {
		unsigned char data[1024];
		struct wire_frame f;
		assert_int_equal(wire_frame_next(data, samples[i].put(data, sizeof(data)), &f), 1);
		assert_string_equal(wire_type_name(f.type), samples[i].name);
		have[f.type] = true;
	}
	for (unsigned type = 0; type < COUNT(have); type++)
		if (have[type] != (strcmp(wire_type_name(type), "unknown") != 0))
			fail_msg("%u, %s", type, wire_type_name(type));
}

static void wire_messages_decode_to_what_was_encoded(void **state)
{
	(void)state;
	for (int i = 0; i < SAMPLES; i++) {
		unsigned char data[1024];
		size_t len = samples[i].put(data, sizeof(data));
		struct wire_frame f;
		assert_int_equal(wire_frame_next(data, len, &f), 1);
		assert_int_equal(decode(&f), 0);
	}
	unsigned char data[1024];
	struct wire_frame f;
	struct wire_open open;
	size_t len = sample_open(data, sizeof(data));
	assert_int_equal(wire_frame_next(data, len, &f), 1);
	assert_int_equal(wire_get_open(&f, &open), 0);
	assert_string_equal(open.name, "vm1");
	assert_int_equal(open.disk_count, 2);
	assert_string_equal(open.disk[1].name, "vdb");
	assert_int_equal(open.disk[1].size, 512);
	assert_int_equal(open.rpo_ms, 15000);
	struct wire_block block;
	len = sample_block(data, sizeof(data));
	assert_int_equal(wire_frame_next(data, len, &f), 1);
	assert_int_equal(wire_get_block(&f, &block), 0);
	assert_int_equal(block.mask, 0x8001);
	assert_int_equal(block.len, 5);
	assert_memory_equal(block.payload, "bytes", 5);
}

static void wire_every_truncation_is_refused(void **state)
{
	(void)state;
	for (int i = 0; i < SAMPLES; i++) {
		unsigned char data[1024];
		size_t len = samples[i].put(data, sizeof(data));
		struct wire_frame f;
		for (size_t cut = 0; cut < len; cut++) // a frame that is not whole yet
			assert_int_equal(wire_frame_next(data, cut, &f), 0);
		for (size_t body = 0; body + WIRE_HEADER_SIZE < len; body++) {
			unsigned char *exact = malloc(WIRE_HEADER_SIZE + body); // so that a read past the end is seen
			memcpy(exact, data, WIRE_HEADER_SIZE + body);
			put_le32(exact, (uint32_t)body);
			assert_int_equal(wire_frame_next(exact, WIRE_HEADER_SIZE + body, &f), 1);
			bool payload_cut = f.type == WIRE_BLOCK && body > WIRE_BLOCK_HEAD_SIZE; // a shorter payload is a payload
			assert_int_equal(decode(&f), payload_cut ? 0 : -EBADMSG);
			free(exact);
		}
	}
}

static void wire_every_bit_flip_is_decoded_or_refused_in_bounds(void **state)
{
	(void)state;
	for (int i = 0; i < SAMPLES; i++) {
		unsigned char data[1024];
		size_t len = samples[i].put(data, sizeof(data));
		for (size_t bit = 0; bit < len * 8; bit++) {
			unsigned char *exact = malloc(len);
			memcpy(exact, data, len);
			exact[bit / 8] ^= (unsigned char)(1 << bit % 8);
			struct wire_frame f;
			if (wire_frame_next(exact, len, &f) == 1) {
				int rc = decode(&f);
				assert_true(rc == 0 || rc == -EBADMSG);
			}
			free(exact);
		}
	}
}

static void wire_bytes_behind_a_message_are_refused(void **state)
{
	(void)state;
	for (int i = 0; i < SAMPLES; i++) {
		unsigned char data[1024];
		size_t len = samples[i].put(data, sizeof(data));
		data[len] = 0;
		put_le32(data, (uint32_t)(len + 1 - WIRE_HEADER_SIZE));
		struct wire_frame f;
		assert_int_equal(wire_frame_next(data, len + 1, &f), 1);
		assert_int_equal(decode(&f), f.type == WIRE_BLOCK ? 0 : -EBADMSG);
	}
}

static void wire_frame_lengths_are_bounded_before_anything_else(void **state)
{
	(void)state;
	unsigned char data[WIRE_HEADER_SIZE] = {0};
	struct wire_frame f;
	data[4] = WIRE_BLOCK;
	put_le32(data, WIRE_BODY_MAX);
	assert_int_equal(wire_frame_next(data, sizeof(data), &f), 0);
	put_le32(data, WIRE_BODY_MAX + 1);
	assert_int_equal(wire_frame_next(data, sizeof(data), &f), -EBADMSG);
	put_le32(data, UINT32_MAX);
	assert_int_equal(wire_frame_next(data, sizeof(data), &f), -EBADMSG);
	put_le32(data, 0);
	data[6] = 1; // reserved
	assert_int_equal(wire_frame_next(data, sizeof(data), &f), -EBADMSG);
}

static void wire_encoders_refuse_what_does_not_fit(void **state)
{
	(void)state;
	for (int i = 0; i < SAMPLES; i++) {
		unsigned char data[1024];
		size_t len = samples[i].put(data, sizeof(data));
		for (size_t cap = 0; cap < len; cap++)
			assert_int_equal(samples[i].put(data, cap), 0);
		assert_int_equal(samples[i].put(NULL, sizeof(data)), 0);
	}
}

static int open_with_name(const char *name, const char *disk0, const char *disk1, uint64_t size)
{
	struct wire_open m = {
		.protection = uuid_of(1),
		.generation = uuid_of(2),
		.digest = {.kind = DIGEST_XXH3},
		.codec = CODEC_ZSTD,
		.points_keep = 1,
		.disk_count = 2,
		.disk = {{.size = size}, {.size = 512}},
	};
	(void)snprintf(m.name, sizeof(m.name), "%s", name);
	(void)snprintf(m.disk[0].name, NAME_SIZE, "%s", disk0);
	(void)snprintf(m.disk[1].name, NAME_SIZE, "%s", disk1);
	unsigned char data[1024];
	size_t len = wire_put_open(data, sizeof(data), &m);
	struct wire_frame f;
	assert_int_equal(wire_frame_next(data, len, &f), 1);
	return wire_get_open(&f, &m);
}

static void wire_names_that_could_be_paths_are_refused(void **state)
{
	(void)state;
	assert_int_equal(open_with_name("vm1", "vda", "vdb", 512), 0);
	static const char *const bad[] = {"", ".", "..", "../x", "a/b", "-x", "A", "a b", "a\n", "\xc3\xa9"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(open_with_name(bad[i], "vda", "vdb", 512), -EBADMSG);
		assert_int_equal(open_with_name("vm1", bad[i], "vdb", 512), -EBADMSG);
	}
	assert_int_equal(open_with_name("vm1", "vda", "vda", 512), -EBADMSG); // one file for two disks
	assert_int_equal(open_with_name("vm1", "vda", "vdb", 513), -EBADMSG);
	assert_int_equal(open_with_name("vm1", "vda", "vdb", 0), -EBADMSG);
	assert_int_equal(open_with_name("vm1", "vda", "vdb", UINT64_MAX), -EBADMSG);
}

static int nodes_with(unsigned level, unsigned count, uint64_t blocks)
{
	static unsigned char data[8192];
	static const unsigned char digests[WIRE_NODES_MAX * DIGEST_SIZE];
	struct wire_nodes m = {.level = (uint8_t)level, .count = (uint16_t)count, .blocks = blocks, .digests = digests};
	size_t len = wire_put_nodes(data, sizeof(data), &m);
	struct wire_frame f;
	assert_int_equal(wire_frame_next(data, len, &f), 1);
	return wire_get_nodes(&f, &m);
}

static void wire_nodes_name_as_many_blocks_as_they_have_room_for(void **state)
{
	(void)state;
	assert_int_equal(nodes_with(1, 1, 1), 0);
	assert_int_equal(nodes_with(1, 1, 256), 0);
	assert_int_equal(nodes_with(1, 1, 0), -EBADMSG);
	assert_int_equal(nodes_with(1, 1, 257), -EBADMSG);
	assert_int_equal(nodes_with(1, 2, 256), -EBADMSG); // one of them would be over nothing
	assert_int_equal(nodes_with(1, 256, 65536), 0);
	assert_int_equal(nodes_with(1, 0, 0), -EBADMSG);
	assert_int_equal(nodes_with(2, 1, 65536), 0);
	assert_int_equal(nodes_with(2, 16, WIRE_NODES_BLOCKS_MAX), 0);
	assert_int_equal(nodes_with(2, 17, WIRE_NODES_BLOCKS_MAX + 1), -EBADMSG);
	assert_int_equal(nodes_with(0, 1, 1), -EBADMSG);
	assert_int_equal(nodes_with(3, 1, 1), -EBADMSG);
	assert_int_equal(nodes_with(2, 2, UINT64_MAX), -EBADMSG);
}

static int report_with(const struct wire_report *m, struct wire_report *ret_m)
{
	unsigned char data[256];
	struct wire_frame f;
	assert_int_equal(wire_frame_next(data, wire_put_report(data, sizeof(data), m), &f), 1);
	return wire_get_report(&f, ret_m);
}

static void wire_report_is_taken_within_its_limits_and_whatever_its_cause(void **state)
{
	(void)state;
	const struct wire_report good = {.state = WIRE_REPORT_RUNNING, .rpo_ms = 1000};
	struct wire_report m, back;
	for (unsigned cause = 0; cause < 256; cause++) { // a newer source may have more of them
		m = good;
		m.cause = (uint8_t)cause;
		assert_int_equal(report_with(&m, &back), 0);
		assert_int_equal(back.cause, cause);
	}
	for (unsigned kind = 0; kind < 256; kind++) {
		m = good;
		m.state = (enum wire_report_state)kind;
		assert_int_equal(report_with(&m, &back), kind >= 1 && kind <= 3 ? 0 : -EBADMSG);
	}
	static const struct {
		uint64_t rpo_ms, error;
		int64_t offset;
		int rc;
	} limits[] = {
		{0, 0, 0, -EBADMSG},
		{1, UINT64_C(1) << 62, INT64_C(1) << 62, 0},
		{INT64_MAX / 1000000, 0, -(INT64_C(1) << 62), 0},
		{INT64_MAX / 1000000 + 1, 0, 0, -EBADMSG},
		{1, (UINT64_C(1) << 62) + 1, 0, -EBADMSG},
		{1, 0, (INT64_C(1) << 62) + 1, -EBADMSG},
		{1, 0, INT64_MIN, -EBADMSG},
	};
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		m = good;
		m.rpo_ms = limits[i].rpo_ms;
		m.clock_error_ns = limits[i].error;
		m.clock_offset_ns = limits[i].offset;
		assert_int_equal(report_with(&m, &back), limits[i].rc);
	}
}

// A doubt has a name if and only if there is one, and names disks.
static void wire_doubts_without_a_name_or_a_disk_are_refused(void **state)
{
	(void)state;
	unsigned char data[256];
	struct wire_frame f;
	struct wire_doubt doubt = {.protection = uuid_of(1), .generation = uuid_of(2), .name = "vm1"};
	struct wire_certain certain = {.doubt = uuid_of(1), .cut = uuid_of(2)};
	for (unsigned disks = 0; disks < 2; disks++) {
		doubt.disks = certain.disks = disks;
		assert_int_equal(wire_frame_next(data, wire_put_doubt(data, sizeof(data), &doubt), &f), 1);
		assert_int_equal(wire_get_doubt(&f, &doubt), disks ? 0 : -EBADMSG);
		assert_int_equal(wire_frame_next(data, wire_put_certain(data, sizeof(data), &certain), &f), 1);
		assert_int_equal(wire_get_certain(&f, &certain), disks ? 0 : -EBADMSG);
		for (unsigned named = 0; named < 2; named++) {
			struct wire_doubted doubted = {.doubt = uuid_of((unsigned char)named), .disks = disks};
			assert_int_equal(wire_frame_next(data, wire_put_doubted(data, sizeof(data), &doubted), &f), 1);
			assert_int_equal(wire_get_doubted(&f, &doubted), named == disks ? 0 : -EBADMSG);
		}
	}
	certain.doubt = uuid_of(0);
	assert_int_equal(wire_frame_next(data, wire_put_certain(data, sizeof(data), &certain), &f), 1);
	assert_int_equal(wire_get_certain(&f, &certain), -EBADMSG);
}

// It names a protection and its generation, and the answer is a yes or a no.
static void wire_goodbyes_of_nobody_are_refused(void **state)
{
	(void)state;
	unsigned char data[256];
	struct wire_frame f;
	for (unsigned named = 0; named < 4; named++) {
		struct wire_goodbye goodbye = {.protection = uuid_of(named & 1), .generation = uuid_of((unsigned char)(named >> 1)), .name = "vm1"};
		assert_int_equal(wire_frame_next(data, wire_put_goodbye(data, sizeof(data), &goodbye), &f), 1);
		assert_int_equal(wire_get_goodbye(&f, &goodbye), named == 3 ? 0 : -EBADMSG);
	}
	for (unsigned noted = 0; noted < 3; noted++) {
		struct wire_parted parted = {.noted = true};
		assert_int_equal(wire_frame_next(data, wire_put_parted(data, sizeof(data), &parted), &f), 1);
		f.body[0] = (unsigned char)noted;
		assert_int_equal(wire_get_parted(&f, &parted), noted < 2 ? 0 : -EBADMSG);
		if (noted < 2)
			assert_int_equal(parted.noted, noted);
	}
}

static void wire_time_is_taken_within_its_limits(void **state)
{
	(void)state;
	static const int64_t steps[] = {WIRE_CLOCK_OFFSET_MAX, -WIRE_CLOCK_OFFSET_MAX, WIRE_CLOCK_OFFSET_MAX + 1, -WIRE_CLOCK_OFFSET_MAX - 1, INT64_MIN, INT64_MAX};
	unsigned char data[64];
	struct wire_frame f;
	for (unsigned i = 0; i < COUNT(steps); i++) {
		struct wire_time time = {.wall_ns = INT64_MIN, .steps_ns = steps[i]};
		assert_int_equal(wire_frame_next(data, wire_put_time(data, sizeof(data), &time), &f), 1);
		assert_int_equal(wire_get_time(&f, &time), i < 2 ? 0 : -EBADMSG);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wire_messages_are_what_they_were_in_version_1),
		cmocka_unit_test(every_type_of_message_has_a_golden_one),
		cmocka_unit_test(wire_messages_decode_to_what_was_encoded),
		cmocka_unit_test(wire_every_truncation_is_refused),
		cmocka_unit_test(wire_every_bit_flip_is_decoded_or_refused_in_bounds),
		cmocka_unit_test(wire_bytes_behind_a_message_are_refused),
		cmocka_unit_test(wire_frame_lengths_are_bounded_before_anything_else),
		cmocka_unit_test(wire_encoders_refuse_what_does_not_fit),
		cmocka_unit_test(wire_nodes_name_as_many_blocks_as_they_have_room_for),
		cmocka_unit_test(wire_doubts_without_a_name_or_a_disk_are_refused),
		cmocka_unit_test(wire_goodbyes_of_nobody_are_refused),
		cmocka_unit_test(wire_time_is_taken_within_its_limits),
		cmocka_unit_test(wire_names_that_could_be_paths_are_refused),
		cmocka_unit_test(wire_report_is_taken_within_its_limits_and_whatever_its_cause),
	};
	return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
