// SPDX-License-Identifier: Apache-2.0
// Any bytes as what comes over a connection: frame after frame, each decoded, looked at to the end of what it names, and encoded
// anew. A frame that is taken is the one that its message makes: no two frames mean the same.
#include "base/bytes.h"
#include "format/wire.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

union message {
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
	struct wire_report report;
	struct wire_doubt doubt;
	struct wire_doubted doubted;
	struct wire_goodbye goodbye;
	struct wire_parted parted;
	struct wire_time time;
	struct wire_certain certain;
	struct wire_compare compare;
	struct wire_differs differs;
	struct wire_block block;
	struct wire_zeros zeros;
	struct wire_seal seal;
	struct wire_committed committed;
	struct wire_failure failure;
};

// Decodes into `m` and encodes what it holds. 0 when it was refused.
static size_t again(const struct wire_frame *f, union message *m, void *to, size_t cap)
{
	switch (f->type) {
	case WIRE_HELLO:
		return wire_get_hello(f, &m->hello) ? 0 : wire_put_hello(to, cap, &m->hello);
	case WIRE_PAIR:
	case WIRE_PAIRED:
		return wire_get_pair(f, &m->pair) ? 0 : wire_put_pair(to, cap, (enum wire_type)f->type, &m->pair);
	case WIRE_OPEN:
		return wire_get_open(f, &m->open) ? 0 : wire_put_open(to, cap, &m->open);
	case WIRE_OPENED:
		return wire_get_opened(f, &m->opened) ? 0 : wire_put_opened(to, cap, &m->opened);
	case WIRE_ACK:
		return wire_get_ack(f, &m->ack) ? 0 : wire_put_ack(to, cap, &m->ack);
	case WIRE_DAMAGED:
		return wire_get_damaged(f, &m->damaged) ? 0 : wire_put_damaged(to, cap, &m->damaged);
	case WIRE_NODES:
		return wire_get_nodes(f, &m->nodes) ? 0 : wire_put_nodes(to, cap, &m->nodes);
	case WIRE_UNEQUAL:
		return wire_get_unequal(f, &m->unequal) ? 0 : wire_put_unequal(to, cap, &m->unequal);
	case WIRE_EXAMINE:
		return wire_get_examine(f, &m->examine) ? 0 : wire_put_examine(to, cap, &m->examine);
	case WIRE_PIECES:
		return wire_get_pieces(f, &m->pieces) ? 0 : wire_put_pieces(to, cap, &m->pieces);
	case WIRE_REPORT:
		return wire_get_report(f, &m->report) ? 0 : wire_put_report(to, cap, &m->report);
	case WIRE_DOUBT:
		return wire_get_doubt(f, &m->doubt) ? 0 : wire_put_doubt(to, cap, &m->doubt);
	case WIRE_DOUBTED:
		return wire_get_doubted(f, &m->doubted) ? 0 : wire_put_doubted(to, cap, &m->doubted);
	case WIRE_CERTAIN:
		return wire_get_certain(f, &m->certain) ? 0 : wire_put_certain(to, cap, &m->certain);
	case WIRE_GOODBYE:
		return wire_get_goodbye(f, &m->goodbye) ? 0 : wire_put_goodbye(to, cap, &m->goodbye);
	case WIRE_TIME:
		return wire_get_time(f, &m->time) ? 0 : wire_put_time(to, cap, &m->time);
	case WIRE_PARTED:
		return wire_get_parted(f, &m->parted) ? 0 : wire_put_parted(to, cap, &m->parted);
	case WIRE_COMPARE:
		return wire_get_compare(f, &m->compare) ? 0 : wire_put_compare(to, cap, &m->compare);
	case WIRE_DIFFERS:
		return wire_get_differs(f, &m->differs) ? 0 : wire_put_differs(to, cap, &m->differs);
	case WIRE_BLOCK:
		return wire_get_block(f, &m->block) ? 0 : wire_put_block(to, cap, &m->block);
	case WIRE_ZEROS:
		return wire_get_zeros(f, &m->zeros) ? 0 : wire_put_zeros(to, cap, &m->zeros);
	case WIRE_SEAL:
		return wire_get_seal(f, &m->seal) ? 0 : wire_put_seal(to, cap, &m->seal);
	case WIRE_COMMITTED:
		return wire_get_committed(f, &m->committed) ? 0 : wire_put_committed(to, cap, &m->committed);
	case WIRE_PING:
	case WIRE_PONG:
	case WIRE_SEEDED:
		return wire_get_empty(f) ? 0 : wire_put_empty(to, cap, (enum wire_type)f->type);
	case WIRE_ERROR:
		return wire_get_error(f, &m->failure) ? 0 : wire_put_error(to, cap, m->failure.code, m->failure.text);
	default:
		return 0;
	}
}

// What the rest of the program takes for granted.
static void look(const struct wire_frame *f, const union message *m)
{
	switch (f->type) {
	case WIRE_OPEN:
		assert(name_ok(m->open.name) && m->open.disk_count >= 1 && m->open.disk_count <= DISKS_MAX);
		for (unsigned i = 0; i < m->open.disk_count; i++)
			assert(name_ok(m->open.disk[i].name) && size_disk_ok(m->open.disk[i].size));
		break;
	case WIRE_PAIR:
	case WIRE_PAIRED:
		assert(name_ok(m->pair.name));
		break;
	case WIRE_DOUBT:
		assert(name_ok(m->doubt.name) && m->doubt.disks);
		break;
	case WIRE_DOUBTED:
		assert((m->doubted.disks == 0) == uuid_is_zero(&m->doubted.doubt));
		break;
	case WIRE_CERTAIN:
		assert(!uuid_is_zero(&m->certain.doubt) && m->certain.disks);
		break;
	case WIRE_GOODBYE:
		assert(name_ok(m->goodbye.name) && !uuid_is_zero(&m->goodbye.protection));
		break;
	case WIRE_DAMAGED:
		assert(m->damaged.count <= WIRE_DAMAGED_MAX);
		break;
	case WIRE_NODES:
		assert(m->nodes.count >= 1 && m->nodes.count <= WIRE_NODES_MAX && m->nodes.blocks <= WIRE_NODES_BLOCKS_MAX &&
		       m->nodes.blocks > (m->nodes.count - 1) * digest_span(m->nodes.level));
		break;
	case WIRE_REPORT:
		assert(m->report.rpo_ms >= 1 && m->report.rpo_ms <= INT64_MAX / 1000000 && m->report.clock_error_ns <= WIRE_CLOCK_OFFSET_MAX &&
		       m->report.clock_offset_ns <= WIRE_CLOCK_OFFSET_MAX && m->report.clock_offset_ns >= -WIRE_CLOCK_OFFSET_MAX);
		break;
	case WIRE_UNEQUAL:
		assert(m->unequal.count >= 1 && m->unequal.count <= WIRE_NODES_MAX);
		break;
	case WIRE_EXAMINE:
		assert(m->examine.count >= 1 && m->examine.count <= WIRE_EXAMINE_MAX);
		break;
	case WIRE_PIECES: // as many digests as a lane has room for
		assert(m->pieces.count >= 1 && m->pieces.count <= WIRE_EXAMINE_MAX && m->pieces.by_pieces <= m->pieces.count);
		break;
	case WIRE_COMPARE:
		assert(m->compare.count >= 1 && m->compare.count <= WIRE_COMPARE_MAX);
		break;
	case WIRE_DIFFERS:
		assert(m->differs.count >= 1 && m->differs.count <= WIRE_COMPARE_MAX);
		break;
	case WIRE_BLOCK:
		assert(m->block.mask != 0 && codec_known(m->block.codec) && m->block.len <= WIRE_BODY_MAX);
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static unsigned char other[WIRE_FRAME_MAX];
	static union message m;
	while (size) {
		struct wire_frame f;
		unsigned char *exact = malloc(size); // so that a read past the end is seen
		assert(exact);
		memcpy(exact, data, size);
		int rc = wire_frame_next(exact, size, &f);
		assert(rc == 0 || rc == 1 || rc == -EBADMSG);
		if (rc != 1) {
			free(exact);
			break;
		}
		size_t len = WIRE_HEADER_SIZE + f.len;
		assert(len <= size && f.body == exact + WIRE_HEADER_SIZE);
		(void)wire_type_name(f.type);
		size_t put = again(&f, &m, other, sizeof(other));
		if (put) {
			look(&f, &m);
			assert(put == len && memcmp(other, exact, len) == 0);
		}
		free(exact);
		data += len;
		size -= len;
	}
	return 0;
}
