// SPDX-License-Identifier: Apache-2.0
// Both halves of each message, side by side, in the order of docs/protocol.md.
#include "format/wire.h"

#include "base/bytes.h"
#include "base/cursor.h"

#include <errno.h>
#include <string.h>

enum { WIRE_POINTS_KEEP_MAX = 100000, WIRE_PAYLOAD_MAX = BLOCK_SIZE };

const char *wire_type_name(unsigned type)
{
	static const char *const names[] = {
		[WIRE_HELLO] = "HELLO",	      [WIRE_PAIR] = "PAIR",	  [WIRE_PAIRED] = "PAIRED",
		[WIRE_OPEN] = "OPEN",	      [WIRE_OPENED] = "OPENED",	  [WIRE_COMPARE] = "COMPARE",
		[WIRE_DIFFERS] = "DIFFERS",   [WIRE_BLOCK] = "BLOCK",	  [WIRE_ZEROS] = "ZEROS",
		[WIRE_SEAL] = "SEAL",	      [WIRE_COMMITTED] = "COMMITTED", [WIRE_PING] = "PING",
		[WIRE_PONG] = "PONG",	      [WIRE_ERROR] = "ERROR",
		[WIRE_ACK] = "ACK",	      [WIRE_DAMAGED] = "DAMAGED",
		[WIRE_NODES] = "NODES",	      [WIRE_UNEQUAL] = "UNEQUAL",
		[WIRE_SEEDED] = "SEEDED",
		[WIRE_EXAMINE] = "EXAMINE",   [WIRE_PIECES] = "PIECES",
		[WIRE_REPORT] = "REPORT",
		[WIRE_DOUBT] = "DOUBT",	      [WIRE_DOUBTED] = "DOUBTED", [WIRE_CERTAIN] = "CERTAIN",
		[WIRE_GOODBYE] = "GOODBYE",   [WIRE_PARTED] = "PARTED",
		[WIRE_CLOCK] = "CLOCK",	      [WIRE_TIME] = "TIME",
	};
	return type < sizeof(names) / sizeof(names[0]) && names[type] ? names[type] : "unknown";
}

const char *point_consistency_name(unsigned consistency)
{
	return consistency == POINT_CRASH ? "crash" : consistency == POINT_QUIESCED ? "quiesced" : "unknown";
}

int wire_frame_next(unsigned char *data, size_t len, struct wire_frame *ret_frame)
{
	if (len < WIRE_HEADER_SIZE)
		return 0;
	uint32_t body = get_le32(data);
	if (body > WIRE_BODY_MAX || get_le16(data + 6) != 0)
		return -EBADMSG;
	if (len - WIRE_HEADER_SIZE < body)
		return 0;
	*ret_frame = (struct wire_frame){.type = get_le16(data + 4), .len = body, .body = data + WIRE_HEADER_SIZE};
	return 1;
}

// A frame is begun with its header left open; the length is filled in when it is ended.
static struct cursor frame_begin(void *to, size_t cap, enum wire_type type)
{
	struct cursor c = cursor_over(to, !to ? 0 : cap < WIRE_FRAME_MAX ? cap : WIRE_FRAME_MAX);
	cursor_put_u32(&c, 0);
	cursor_put_u16(&c, (uint16_t)type);
	cursor_put_u16(&c, 0);
	return c;
}

static size_t frame_end(void *to, const struct cursor *c)
{
	if (!cursor_ok(c))
		return 0;
	size_t len = (size_t)(c->at - (unsigned char *)to);
	put_le32(to, (uint32_t)(len - WIRE_HEADER_SIZE));
	return len;
}

static struct cursor body_of(const struct wire_frame *f)
{
	return cursor_over(f->body, f->len);
}

// The end of a decoder: everything consumed, and every limit kept.
static int decoded(const struct cursor *c, bool limits_kept)
{
	return cursor_done(c) && limits_kept ? 0 : -EBADMSG;
}

// --- HELLO ---

size_t wire_put_hello(void *to, size_t cap, const struct wire_hello *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_HELLO);
	cursor_put_u32(&c, WIRE_MAGIC);
	cursor_put_u16(&c, m->major);
	cursor_put_u16(&c, m->minor);
	cursor_put_u32(&c, m->features);
	cursor_put_u64(&c, (uint64_t)m->wall_ns);
	cursor_put_string(&c, m->program);
	return frame_end(to, &c);
}

int wire_get_hello(const struct wire_frame *f, struct wire_hello *ret_m)
{
	struct cursor c = body_of(f);
	uint32_t magic = cursor_get_u32(&c);
	ret_m->major = cursor_get_u16(&c);
	ret_m->minor = cursor_get_u16(&c);
	ret_m->features = cursor_get_u32(&c);
	ret_m->wall_ns = (int64_t)cursor_get_u64(&c);
	cursor_get_string(&c, ret_m->program, sizeof(ret_m->program));
	return decoded(&c, magic == WIRE_MAGIC);
}

// --- PAIR, PAIRED ---

size_t wire_put_pair(void *to, size_t cap, enum wire_type type, const struct wire_pair *m)
{
	struct cursor c = frame_begin(to, cap, type);
	cursor_put_bytes(&c, m->token_id, sizeof(m->token_id));
	cursor_put_bytes(&c, m->mac, sizeof(m->mac));
	cursor_put_string(&c, m->name);
	return frame_end(to, &c);
}

int wire_get_pair(const struct wire_frame *f, struct wire_pair *ret_m)
{
	struct cursor c = body_of(f);
	cursor_get_bytes(&c, ret_m->token_id, sizeof(ret_m->token_id));
	cursor_get_bytes(&c, ret_m->mac, sizeof(ret_m->mac));
	cursor_get_string(&c, ret_m->name, sizeof(ret_m->name));
	return decoded(&c, name_ok(ret_m->name));
}

// --- OPEN ---

size_t wire_put_open(void *to, size_t cap, const struct wire_open *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_OPEN);
	cursor_put_bytes(&c, m->protection.bytes, UUID_SIZE);
	cursor_put_bytes(&c, m->generation.bytes, UUID_SIZE);
	cursor_put_string(&c, m->name);
	cursor_put_u8(&c, (uint8_t)m->digest.kind);
	cursor_put_bytes(&c, m->digest.secret, DIGEST_SECRET_SIZE);
	cursor_put_u8(&c, (uint8_t)m->codec);
	cursor_put_u32(&c, m->points_keep);
	cursor_put_u64(&c, m->rpo_ms);
	cursor_put_u16(&c, m->disk_count);
	for (unsigned i = 0; i < m->disk_count; i++) {
		cursor_put_string(&c, m->disk[i].name);
		cursor_put_u64(&c, m->disk[i].size);
	}
	return frame_end(to, &c);
}

static bool get_disks(struct cursor *c, struct wire_open *m)
{
	bool kept = m->disk_count >= 1 && m->disk_count <= DISKS_MAX;
	for (unsigned i = 0; kept && i < m->disk_count; i++) {
		cursor_get_string(c, m->disk[i].name, NAME_SIZE);
		m->disk[i].size = cursor_get_u64(c);
		kept = name_ok(m->disk[i].name) && size_disk_ok(m->disk[i].size);
		for (unsigned j = 0; kept && j < i; j++)
			kept = strcmp(m->disk[i].name, m->disk[j].name) != 0;
	}
	return kept;
}

int wire_get_open(const struct wire_frame *f, struct wire_open *ret_m)
{
	struct cursor c = body_of(f);
	memset(ret_m, 0, sizeof(*ret_m));
	cursor_get_bytes(&c, ret_m->protection.bytes, UUID_SIZE);
	cursor_get_bytes(&c, ret_m->generation.bytes, UUID_SIZE);
	cursor_get_string(&c, ret_m->name, NAME_SIZE);
	unsigned kind = cursor_get_u8(&c);
	cursor_get_bytes(&c, ret_m->digest.secret, DIGEST_SECRET_SIZE);
	unsigned codec = cursor_get_u8(&c);
	ret_m->points_keep = cursor_get_u32(&c);
	ret_m->rpo_ms = cursor_get_u64(&c);
	ret_m->disk_count = cursor_get_u16(&c);
	ret_m->digest.kind = (enum digest_kind)kind;
	ret_m->codec = (enum codec)codec;
	bool kept = get_disks(&c, ret_m) && name_ok(ret_m->name) && digest_kind_known(kind) &&
		    (codec == CODEC_ZSTD || codec == CODEC_ZLIB) && ret_m->points_keep >= 1 &&
		    ret_m->points_keep <= WIRE_POINTS_KEEP_MAX && ret_m->rpo_ms <= INT64_MAX / 1000000 &&
		    !uuid_is_zero(&ret_m->protection) && !uuid_is_zero(&ret_m->generation);
	return decoded(&c, kept);
}

// --- OPENED ---

size_t wire_put_opened(void *to, size_t cap, const struct wire_opened *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_OPENED);
	cursor_put_u64(&c, m->last_point);
	cursor_put_bytes(&c, m->last_cut.bytes, UUID_SIZE);
	cursor_put_u64(&c, (uint64_t)m->last_cut_wall_ns);
	cursor_put_bytes(&c, m->head.bytes, UUID_SIZE);
	return frame_end(to, &c);
}

int wire_get_opened(const struct wire_frame *f, struct wire_opened *ret_m)
{
	struct cursor c = body_of(f);
	ret_m->last_point = cursor_get_u64(&c);
	cursor_get_bytes(&c, ret_m->last_cut.bytes, UUID_SIZE);
	ret_m->last_cut_wall_ns = (int64_t)cursor_get_u64(&c);
	cursor_get_bytes(&c, ret_m->head.bytes, UUID_SIZE);
	return decoded(&c, (ret_m->last_point == 0) == uuid_is_zero(&ret_m->last_cut));
}

// --- ACK ---

size_t wire_put_ack(void *to, size_t cap, const struct wire_ack *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_ACK);
	cursor_put_bytes(&c, m->head.bytes, UUID_SIZE);
	cursor_put_u64(&c, m->messages);
	cursor_put_u64(&c, m->blocks);
	return frame_end(to, &c);
}

int wire_get_ack(const struct wire_frame *f, struct wire_ack *ret_m)
{
	struct cursor c = body_of(f);
	cursor_get_bytes(&c, ret_m->head.bytes, UUID_SIZE);
	ret_m->messages = cursor_get_u64(&c);
	ret_m->blocks = cursor_get_u64(&c);
	return decoded(&c, !uuid_is_zero(&ret_m->head));
}

// --- DAMAGED ---

size_t wire_put_damaged(void *to, size_t cap, const struct wire_damaged *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_DAMAGED);
	cursor_put_u32(&c, m->count);
	for (uint32_t i = 0; i < m->count; i++) {
		cursor_put_u16(&c, m->run[i].disk);
		cursor_put_u64(&c, m->run[i].first);
		cursor_put_u64(&c, m->run[i].count);
	}
	return frame_end(to, &c);
}

int wire_get_damaged(const struct wire_frame *f, struct wire_damaged *ret_m)
{
	struct cursor c = body_of(f);
	ret_m->count = cursor_get_u32(&c);
	bool kept = ret_m->count <= WIRE_DAMAGED_MAX;
	for (uint32_t i = 0; kept && i < ret_m->count; i++) {
		ret_m->run[i].disk = cursor_get_u16(&c);
		ret_m->run[i].first = cursor_get_u64(&c);
		ret_m->run[i].count = cursor_get_u64(&c);
		kept = ret_m->run[i].count >= 1;
	}
	return decoded(&c, kept);
}

// --- DOUBT, DOUBTED, CERTAIN ---

size_t wire_put_doubt(void *to, size_t cap, const struct wire_doubt *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_DOUBT);
	cursor_put_bytes(&c, m->protection.bytes, UUID_SIZE);
	cursor_put_bytes(&c, m->generation.bytes, UUID_SIZE);
	cursor_put_string(&c, m->name);
	cursor_put_u64(&c, m->disks);
	return frame_end(to, &c);
}

int wire_get_doubt(const struct wire_frame *f, struct wire_doubt *ret_m)
{
	struct cursor c = body_of(f);
	memset(ret_m, 0, sizeof(*ret_m));
	cursor_get_bytes(&c, ret_m->protection.bytes, UUID_SIZE);
	cursor_get_bytes(&c, ret_m->generation.bytes, UUID_SIZE);
	cursor_get_string(&c, ret_m->name, NAME_SIZE);
	ret_m->disks = cursor_get_u64(&c);
	return decoded(&c, !uuid_is_zero(&ret_m->protection) && !uuid_is_zero(&ret_m->generation) && name_ok(ret_m->name) &&
				   ret_m->disks);
}

size_t wire_put_doubted(void *to, size_t cap, const struct wire_doubted *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_DOUBTED);
	cursor_put_bytes(&c, m->doubt.bytes, UUID_SIZE);
	cursor_put_u64(&c, m->disks);
	return frame_end(to, &c);
}

int wire_get_doubted(const struct wire_frame *f, struct wire_doubted *ret_m)
{
	struct cursor c = body_of(f);
	cursor_get_bytes(&c, ret_m->doubt.bytes, UUID_SIZE);
	ret_m->disks = cursor_get_u64(&c);
	return decoded(&c, (ret_m->disks == 0) == uuid_is_zero(&ret_m->doubt));
}

size_t wire_put_certain(void *to, size_t cap, const struct wire_certain *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_CERTAIN);
	cursor_put_bytes(&c, m->doubt.bytes, UUID_SIZE);
	cursor_put_bytes(&c, m->cut.bytes, UUID_SIZE);
	cursor_put_u64(&c, m->disks);
	return frame_end(to, &c);
}

int wire_get_certain(const struct wire_frame *f, struct wire_certain *ret_m)
{
	struct cursor c = body_of(f);
	cursor_get_bytes(&c, ret_m->doubt.bytes, UUID_SIZE);
	cursor_get_bytes(&c, ret_m->cut.bytes, UUID_SIZE);
	ret_m->disks = cursor_get_u64(&c);
	return decoded(&c, !uuid_is_zero(&ret_m->doubt) && !uuid_is_zero(&ret_m->cut) && ret_m->disks);
}

// --- TIME ---

size_t wire_put_time(void *to, size_t cap, const struct wire_time *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_TIME);
	cursor_put_u64(&c, (uint64_t)m->wall_ns);
	cursor_put_u64(&c, (uint64_t)m->steps_ns);
	return frame_end(to, &c);
}

int wire_get_time(const struct wire_frame *f, struct wire_time *ret_m)
{
	struct cursor c = body_of(f);
	ret_m->wall_ns = (int64_t)cursor_get_u64(&c);
	ret_m->steps_ns = (int64_t)cursor_get_u64(&c);
	return decoded(&c, ret_m->steps_ns >= -WIRE_CLOCK_OFFSET_MAX && ret_m->steps_ns <= WIRE_CLOCK_OFFSET_MAX);
}

// --- GOODBYE, PARTED ---

size_t wire_put_goodbye(void *to, size_t cap, const struct wire_goodbye *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_GOODBYE);
	cursor_put_bytes(&c, m->protection.bytes, UUID_SIZE);
	cursor_put_bytes(&c, m->generation.bytes, UUID_SIZE);
	cursor_put_string(&c, m->name);
	return frame_end(to, &c);
}

int wire_get_goodbye(const struct wire_frame *f, struct wire_goodbye *ret_m)
{
	struct cursor c = body_of(f);
	memset(ret_m, 0, sizeof(*ret_m));
	cursor_get_bytes(&c, ret_m->protection.bytes, UUID_SIZE);
	cursor_get_bytes(&c, ret_m->generation.bytes, UUID_SIZE);
	cursor_get_string(&c, ret_m->name, NAME_SIZE);
	return decoded(&c, !uuid_is_zero(&ret_m->protection) && !uuid_is_zero(&ret_m->generation) && name_ok(ret_m->name));
}

size_t wire_put_parted(void *to, size_t cap, const struct wire_parted *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_PARTED);
	cursor_put_u8(&c, m->noted);
	return frame_end(to, &c);
}

int wire_get_parted(const struct wire_frame *f, struct wire_parted *ret_m)
{
	struct cursor c = body_of(f);
	uint8_t noted = cursor_get_u8(&c);
	ret_m->noted = noted == 1;
	return decoded(&c, noted <= 1);
}

// --- COMPARE, DIFFERS ---

size_t wire_put_compare(void *to, size_t cap, const struct wire_compare *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_COMPARE);
	cursor_put_u16(&c, m->disk);
	cursor_put_u32(&c, m->count);
	cursor_put_u64(&c, m->first);
	cursor_put_bytes(&c, m->digests, (size_t)m->count * DIGEST_SIZE);
	return frame_end(to, &c);
}

int wire_get_compare(const struct wire_frame *f, struct wire_compare *ret_m)
{
	struct cursor c = body_of(f);
	ret_m->disk = cursor_get_u16(&c);
	ret_m->count = cursor_get_u32(&c);
	ret_m->first = cursor_get_u64(&c);
	bool kept = ret_m->count >= 1 && ret_m->count <= WIRE_COMPARE_MAX;
	ret_m->digests = kept ? cursor_take(&c, (size_t)ret_m->count * DIGEST_SIZE) : NULL;
	return decoded(&c, kept);
}

size_t wire_put_differs(void *to, size_t cap, const struct wire_differs *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_DIFFERS);
	cursor_put_u16(&c, m->disk);
	cursor_put_u32(&c, m->count);
	cursor_put_u64(&c, m->first);
	cursor_put_bytes(&c, m->bitmap, (m->count + 7) / 8);
	return frame_end(to, &c);
}

int wire_get_differs(const struct wire_frame *f, struct wire_differs *ret_m)
{
	struct cursor c = body_of(f);
	ret_m->disk = cursor_get_u16(&c);
	ret_m->count = cursor_get_u32(&c);
	ret_m->first = cursor_get_u64(&c);
	bool kept = ret_m->count >= 1 && ret_m->count <= WIRE_COMPARE_MAX;
	ret_m->bitmap = kept ? cursor_take(&c, (ret_m->count + 7) / 8) : NULL;
	return decoded(&c, kept);
}

// --- NODES, UNEQUAL ---

static bool nodes_fit(unsigned level, uint64_t count, uint64_t blocks)
{
	if (level < 1 || level > WIRE_NODE_LEVELS || count < 1 || count > WIRE_NODES_MAX || blocks > WIRE_NODES_BLOCKS_MAX)
		return false;
	uint64_t span = digest_span(level);
	return blocks > (count - 1) * span && blocks <= count * span;
}

size_t wire_put_nodes(void *to, size_t cap, const struct wire_nodes *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_NODES);
	cursor_put_u16(&c, m->disk);
	cursor_put_u8(&c, m->level);
	cursor_put_u8(&c, 0);
	cursor_put_u16(&c, m->count);
	cursor_put_u64(&c, m->first);
	cursor_put_u64(&c, m->blocks);
	cursor_put_bytes(&c, m->digests, (size_t)m->count * DIGEST_SIZE);
	return frame_end(to, &c);
}

int wire_get_nodes(const struct wire_frame *f, struct wire_nodes *ret_m)
{
	struct cursor c = body_of(f);
	ret_m->disk = cursor_get_u16(&c);
	ret_m->level = cursor_get_u8(&c);
	unsigned reserved = cursor_get_u8(&c);
	ret_m->count = cursor_get_u16(&c);
	ret_m->first = cursor_get_u64(&c);
	ret_m->blocks = cursor_get_u64(&c);
	bool kept = reserved == 0 && nodes_fit(ret_m->level, ret_m->count, ret_m->blocks);
	ret_m->digests = kept ? cursor_take(&c, (size_t)ret_m->count * DIGEST_SIZE) : NULL;
	return decoded(&c, kept);
}

size_t wire_put_unequal(void *to, size_t cap, const struct wire_unequal *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_UNEQUAL);
	cursor_put_u16(&c, m->disk);
	cursor_put_u8(&c, m->level);
	cursor_put_u8(&c, 0);
	cursor_put_u16(&c, m->count);
	cursor_put_u64(&c, m->first);
	cursor_put_bytes(&c, m->bitmap, (m->count + 7u) / 8);
	return frame_end(to, &c);
}

int wire_get_unequal(const struct wire_frame *f, struct wire_unequal *ret_m)
{
	struct cursor c = body_of(f);
	ret_m->disk = cursor_get_u16(&c);
	ret_m->level = cursor_get_u8(&c);
	unsigned reserved = cursor_get_u8(&c);
	ret_m->count = cursor_get_u16(&c);
	ret_m->first = cursor_get_u64(&c);
	bool kept = reserved == 0 && ret_m->level >= 1 && ret_m->level <= WIRE_NODE_LEVELS && ret_m->count >= 1 &&
		    ret_m->count <= WIRE_NODES_MAX;
	ret_m->bitmap = kept ? cursor_take(&c, (ret_m->count + 7u) / 8) : NULL;
	return decoded(&c, kept);
}

// --- BLOCK, ZEROS ---

size_t wire_put_examine(void *to, size_t cap, const struct wire_examine *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_EXAMINE);
	cursor_put_u16(&c, m->disk);
	cursor_put_u16(&c, m->count);
	cursor_put_bytes(&c, m->entries, (size_t)m->count * WIRE_EXAMINE_ENTRY_SIZE);
	return frame_end(to, &c);
}

int wire_get_examine(const struct wire_frame *f, struct wire_examine *ret_m)
{
	struct cursor c = body_of(f);
	ret_m->disk = cursor_get_u16(&c);
	ret_m->count = cursor_get_u16(&c);
	bool kept = ret_m->count >= 1 && ret_m->count <= WIRE_EXAMINE_MAX;
	ret_m->entries = kept ? cursor_take(&c, (size_t)ret_m->count * WIRE_EXAMINE_ENTRY_SIZE) : NULL;
	return decoded(&c, kept);
}

void wire_examine_set(unsigned char *entries, unsigned i, uint64_t index, const struct digest *digest)
{
	unsigned char *at = entries + (size_t)i * WIRE_EXAMINE_ENTRY_SIZE;
	put_le64(at, index);
	memcpy(at + 8, digest->bytes, DIGEST_SIZE);
}

uint64_t wire_examine_get(const unsigned char *entries, unsigned i, struct digest *ret_digest)
{
	const unsigned char *at = entries + (size_t)i * WIRE_EXAMINE_ENTRY_SIZE;
	memcpy(ret_digest->bytes, at + 8, DIGEST_SIZE);
	return get_le64(at);
}

size_t wire_put_pieces(void *to, size_t cap, const struct wire_pieces *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_PIECES);
	cursor_put_u16(&c, m->disk);
	cursor_put_u16(&c, m->count);
	cursor_put_u64(&c, m->first);
	cursor_put_bytes(&c, m->answer, m->count);
	cursor_put_bytes(&c, m->digests, (size_t)m->by_pieces * PIECES_PER_BLOCK * DIGEST_SIZE);
	return frame_end(to, &c);
}

int wire_get_pieces(const struct wire_frame *f, struct wire_pieces *ret_m)
{
	struct cursor c = body_of(f);
	ret_m->disk = cursor_get_u16(&c);
	ret_m->count = cursor_get_u16(&c);
	ret_m->first = cursor_get_u64(&c);
	ret_m->by_pieces = 0;
	bool kept = ret_m->count >= 1 && ret_m->count <= WIRE_EXAMINE_MAX;
	ret_m->answer = kept ? cursor_take(&c, ret_m->count) : NULL;
	for (unsigned i = 0; ret_m->answer && i < ret_m->count; i++) {
		kept = kept && ret_m->answer[i] <= WIRE_BY_PIECES;
		ret_m->by_pieces += ret_m->answer[i] == WIRE_BY_PIECES;
	}
	ret_m->digests = kept ? cursor_take(&c, (size_t)ret_m->by_pieces * PIECES_PER_BLOCK * DIGEST_SIZE) : NULL;
	return decoded(&c, kept);
}

size_t wire_put_block(void *to, size_t cap, const struct wire_block *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_BLOCK);
	cursor_put_u16(&c, m->disk);
	cursor_put_u16(&c, m->mask);
	cursor_put_u8(&c, (uint8_t)m->codec);
	cursor_put_bytes(&c, "\0\0\0", 3);
	cursor_put_u64(&c, m->index);
	cursor_put_bytes(&c, m->digest.bytes, DIGEST_SIZE);
	cursor_put_bytes(&c, m->payload, m->len);
	return frame_end(to, &c);
}

int wire_get_block(const struct wire_frame *f, struct wire_block *ret_m)
{
	struct cursor c = body_of(f);
	unsigned char reserved[3];
	ret_m->disk = cursor_get_u16(&c);
	ret_m->mask = cursor_get_u16(&c);
	unsigned codec = cursor_get_u8(&c);
	cursor_get_bytes(&c, reserved, sizeof(reserved));
	ret_m->codec = (enum codec)codec;
	ret_m->index = cursor_get_u64(&c);
	cursor_get_bytes(&c, ret_m->digest.bytes, DIGEST_SIZE);
	ret_m->len = (uint32_t)cursor_left(&c);
	ret_m->payload = cursor_take(&c, ret_m->len);
	bool kept = ret_m->mask != 0 && codec_known(codec) && bytes_zero(reserved, sizeof(reserved)) && ret_m->len >= 1 &&
		    ret_m->len <= WIRE_PAYLOAD_MAX;
	return decoded(&c, kept);
}

size_t wire_put_zeros(void *to, size_t cap, const struct wire_zeros *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_ZEROS);
	cursor_put_u16(&c, m->disk);
	cursor_put_u64(&c, m->first);
	cursor_put_u64(&c, m->count);
	return frame_end(to, &c);
}

int wire_get_zeros(const struct wire_frame *f, struct wire_zeros *ret_m)
{
	struct cursor c = body_of(f);
	ret_m->disk = cursor_get_u16(&c);
	ret_m->first = cursor_get_u64(&c);
	ret_m->count = cursor_get_u64(&c);
	return decoded(&c, ret_m->count >= 1);
}

// --- SEAL, COMMITTED ---

size_t wire_put_seal(void *to, size_t cap, const struct wire_seal *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_SEAL);
	cursor_put_u64(&c, m->predecessor);
	cursor_put_bytes(&c, m->cut.bytes, UUID_SIZE);
	cursor_put_bytes(&c, m->head.bytes, UUID_SIZE);
	cursor_put_u64(&c, (uint64_t)m->cut_wall_ns);
	cursor_put_u8(&c, (uint8_t)m->consistency);
	cursor_put_u64(&c, m->dirty_bytes);
	cursor_put_u64(&c, m->blocks_sent);
	cursor_put_u64(&c, m->wire_bytes);
	return frame_end(to, &c);
}

int wire_get_seal(const struct wire_frame *f, struct wire_seal *ret_m)
{
	struct cursor c = body_of(f);
	ret_m->predecessor = cursor_get_u64(&c);
	cursor_get_bytes(&c, ret_m->cut.bytes, UUID_SIZE);
	cursor_get_bytes(&c, ret_m->head.bytes, UUID_SIZE);
	ret_m->cut_wall_ns = (int64_t)cursor_get_u64(&c);
	unsigned consistency = cursor_get_u8(&c);
	ret_m->consistency = (enum point_consistency)consistency;
	ret_m->dirty_bytes = cursor_get_u64(&c);
	ret_m->blocks_sent = cursor_get_u64(&c);
	ret_m->wire_bytes = cursor_get_u64(&c);
	return decoded(&c, !uuid_is_zero(&ret_m->cut) && (consistency == POINT_CRASH || consistency == POINT_QUIESCED));
}

size_t wire_put_committed(void *to, size_t cap, const struct wire_committed *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_COMMITTED);
	cursor_put_u64(&c, m->number);
	cursor_put_bytes(&c, m->cut.bytes, UUID_SIZE);
	cursor_put_bytes(&c, m->head.bytes, UUID_SIZE);
	cursor_put_u64(&c, m->stored_bytes);
	cursor_put_u64(&c, (uint64_t)m->commit_wall_ns);
	return frame_end(to, &c);
}

int wire_get_committed(const struct wire_frame *f, struct wire_committed *ret_m)
{
	struct cursor c = body_of(f);
	ret_m->number = cursor_get_u64(&c);
	cursor_get_bytes(&c, ret_m->cut.bytes, UUID_SIZE);
	cursor_get_bytes(&c, ret_m->head.bytes, UUID_SIZE);
	ret_m->stored_bytes = cursor_get_u64(&c);
	ret_m->commit_wall_ns = (int64_t)cursor_get_u64(&c);
	return decoded(&c, ret_m->number >= 1);
}

// --- REPORT ---

size_t wire_put_report(void *to, size_t cap, const struct wire_report *m)
{
	struct cursor c = frame_begin(to, cap, WIRE_REPORT);
	cursor_put_u8(&c, (uint8_t)m->state);
	cursor_put_u8(&c, m->cause);
	cursor_put_u16(&c, 0);
	cursor_put_u64(&c, m->rpo_ms);
	cursor_put_u64(&c, (uint64_t)m->wall_ns);
	cursor_put_u64(&c, (uint64_t)m->clock_offset_ns);
	cursor_put_u64(&c, m->clock_error_ns);
	cursor_put_u64(&c, m->dirty_bytes);
	cursor_put_u64(&c, m->next_cut_ms);
	for (unsigned i = 0; i < WIRE_REPORT_STAGES; i++)
		cursor_put_u32(&c, m->stage_ms[i]);
	return frame_end(to, &c);
}

int wire_get_report(const struct wire_frame *f, struct wire_report *ret_m)
{
	struct cursor c = body_of(f);
	unsigned state = cursor_get_u8(&c);
	ret_m->state = (enum wire_report_state)state;
	ret_m->cause = cursor_get_u8(&c);
	bool kept = cursor_get_u16(&c) == 0 && state >= WIRE_REPORT_RUNNING && state <= WIRE_REPORT_STOPPING;
	ret_m->rpo_ms = cursor_get_u64(&c);
	ret_m->wall_ns = (int64_t)cursor_get_u64(&c);
	ret_m->clock_offset_ns = (int64_t)cursor_get_u64(&c);
	ret_m->clock_error_ns = cursor_get_u64(&c);
	ret_m->dirty_bytes = cursor_get_u64(&c);
	ret_m->next_cut_ms = cursor_get_u64(&c);
	for (unsigned i = 0; i < WIRE_REPORT_STAGES; i++)
		ret_m->stage_ms[i] = cursor_get_u32(&c);
	kept = kept && ret_m->rpo_ms >= 1 && ret_m->rpo_ms <= INT64_MAX / 1000000 && ret_m->clock_error_ns <= WIRE_CLOCK_OFFSET_MAX &&
	       ret_m->clock_offset_ns <= WIRE_CLOCK_OFFSET_MAX && ret_m->clock_offset_ns >= -WIRE_CLOCK_OFFSET_MAX;
	return decoded(&c, kept);
}

// --- PING, PONG, ERROR ---

size_t wire_put_empty(void *to, size_t cap, enum wire_type type)
{
	struct cursor c = frame_begin(to, cap, type);
	return frame_end(to, &c);
}

int wire_get_empty(const struct wire_frame *f)
{
	return f->len == 0 ? 0 : -EBADMSG;
}

size_t wire_put_error(void *to, size_t cap, enum wire_error code, const char *text)
{
	char cut[WIRE_TEXT_SIZE];
	size_t len = strnlen(text, sizeof(cut) - 1);
	memcpy(cut, text, len);
	cut[len] = 0;
	struct cursor c = frame_begin(to, cap, WIRE_ERROR);
	cursor_put_u16(&c, (uint16_t)code);
	cursor_put_string(&c, cut);
	return frame_end(to, &c);
}

int wire_get_error(const struct wire_frame *f, struct wire_failure *ret_m)
{
	struct cursor c = body_of(f);
	unsigned code = cursor_get_u16(&c);
	ret_m->code = (enum wire_error)code;
	cursor_get_string(&c, ret_m->text, sizeof(ret_m->text));
	return decoded(&c, code >= WIRE_E_PROTOCOL && code <= WIRE_E_LAST);
}
