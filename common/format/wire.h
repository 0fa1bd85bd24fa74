// SPDX-License-Identifier: Apache-2.0
// The messages between a source and a receiver, laid out once: docs/protocol.md.
//
// A frame is u32 body length, u16 type, u16 zero, then the body. Each message has a plain struct in host order and an
// encoder and a decoder side by side. Encoders write a whole frame to `to` and return its length, or 0 when it does not
// fit in `cap` or `to` is NULL. Decoders take the body of a frame of their type; -EBADMSG when a field is missing, out of its limits or
// followed by more; strings are checked (name_ok where they name something). Nothing that comes in is trusted.
#ifndef KAGAMI_FORMAT_WIRE_H
#define KAGAMI_FORMAT_WIRE_H

#include "base/names.h"
#include "base/size.h"
#include "format/codec.h"
#include "format/digest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_ALPN "kagami/1"

enum {
	WIRE_MAGIC = 0x314d474b, // "KGM1"
	WIRE_MAJOR = 1,
	WIRE_MINOR = 0,
	WIRE_HEADER_SIZE = 8,
	WIRE_BODY_MAX = 1 << 20,
	WIRE_COMPARE_MAX = 4096, // blocks in one COMPARE
	WIRE_BLOCK_HEAD_SIZE = 32, // body of BLOCK before its payload
	WIRE_FRAME_MAX = WIRE_HEADER_SIZE + WIRE_BODY_MAX,
	WIRE_TEXT_SIZE = 400,
	WIRE_MAC_SIZE = 32,
	WIRE_TOKEN_ID_SIZE = 8,
	WIRE_DAMAGED_MAX = 128, // runs in one DAMAGED
	WIRE_FEATURE_DAMAGED = 1 << 0, // in HELLO: OPENED is followed by DAMAGED
	WIRE_FEATURE_ACK = 1 << 1,     // ACK may come at any time of an open session
	WIRE_FEATURE_NODES = 1 << 2,   // NODES and UNEQUAL
	WIRE_FEATURE_BLAKE2B = 1 << 3, // OPEN may name DIGEST_BLAKE2B
	WIRE_FEATURE_PIECES = 1 << 4,  // EXAMINE and PIECES
	WIRE_FEATURE_SEEDED = 1 << 5,  // SEEDED may come before OPEN
	WIRE_EXAMINE_MAX = 64,	       // blocks in one EXAMINE: an answer may read all of them
	WIRE_EXAMINE_ENTRY_SIZE = 8 + DIGEST_SIZE,
	WIRE_FEATURE_REPORT = 1 << 6,  // REPORT may come at any time of an open session
	WIRE_REPORT_STAGES = 6,
	WIRE_FEATURE_DOUBT = 1 << 8,   // DOUBT and CERTAIN; DOUBTED follows OPENED, and DAMAGED
	WIRE_FEATURE_GOODBYE = 1 << 9, // GOODBYE
	WIRE_FEATURE_CLOCK = 1 << 10,  // CLOCK may come at any time of an open session
	WIRE_NODES_MAX = 256,	       // in one NODES
	WIRE_NODE_LEVELS = 2,
	WIRE_NODES_BLOCKS_MAX = 1 << 20, // under one NODES: bounds what an answer costs
};

enum wire_type {
	WIRE_HELLO = 1,	    // S→R, R→S  version and clock
	WIRE_PAIR = 2,	    // S→R       proof of a pairing token
	WIRE_PAIRED = 3,    // R→S       the receiver's proof
	WIRE_OPEN = 4,	    // S→R       which protection, from which state
	WIRE_OPENED = 5,    // R→S       where the receiver stands
	WIRE_COMPARE = 6,   // S→R       digests of a run of blocks
	WIRE_DIFFERS = 7,   // R→S       which of them the head does not hold
	WIRE_BLOCK = 8,	    // S→R       a block or pieces of it
	WIRE_ZEROS = 9,	    // S→R       a run of blocks that are zero
	WIRE_SEAL = 10,	    // S→R       make the head a point
	WIRE_COMMITTED = 11, // R→S      the point is durable
	WIRE_PING = 12,	    // both
	WIRE_PONG = 13,	    // both
	WIRE_ERROR = 14,    // both      a reason; the connection ends
	WIRE_ACK = 15,	    // R→S       so far the head outlives the receiver
	WIRE_DAMAGED = 16,  // R→S       blocks that must come whole
	WIRE_NODES = 17,    // S→R       digests of digests of a run of blocks
	WIRE_UNEQUAL = 18,  // R→S       under which of them the head differs
	WIRE_EXAMINE = 19,  // S→R       digests of blocks, and of those that differ the pieces
	WIRE_PIECES = 20,   // R→S       which of them differ, and digests of their pieces
	WIRE_SEEDED = 21,   // S→R       the OPEN that follows is to find seeds
	WIRE_REPORT = 22,   // S→R       how the source is, and why there is no newer point
	WIRE_DOUBT = 24,    // S→R       disks whose source does not know any more what differs
	WIRE_DOUBTED = 25,  // R→S       disks in doubt
	WIRE_CERTAIN = 26,  // S→R       the point of that cut ends the doubt
	WIRE_GOODBYE = 27,  // S→R       the protection was ended on purpose
	WIRE_PARTED = 28,   // R→S       the receiver knows
	WIRE_CLOCK = 29,    // S→R       what time is it there?
	WIRE_TIME = 30,	    // R→S       the receiver's clock
	WIRE_TYPES,	    // one more than the last
};
const char *wire_type_name(unsigned type);

// What the sender of ERROR means, grouped by what the reader should do about it.
#define WIRE_SEE_LOG "see the receiver's log"
enum wire_error {
	WIRE_E_PROTOCOL = 1,   // our bug or theirs: log, retry later
	WIRE_E_VERSION = 2,    // upgrade one side
	WIRE_E_UNPAIRED = 3,   // pair first
	WIRE_E_TOKEN = 4,      // the pairing token is wrong, used or expired
	WIRE_E_FENCED = 5,     // the protection was failed over: this generation is over
	WIRE_E_EXISTS = 6,     // the name belongs to another protection or source
	WIRE_E_NO_SPACE = 7,   // the store is full: retry later
	WIRE_E_STORE = 8,      // the store failed; with WIRE_SEE_LOG at the end of its text, until somebody acts
	WIRE_E_POSITION = 9,   // the point named is not the predecessor: open again
	WIRE_E_BUSY = 10,      // another session of this protection is open, or too many
	WIRE_E_SHUTDOWN = 11,  // the receiver stops: retry later
	WIRE_E_GEOMETRY = 12,  // the disks do not match the ones in the store
	WIRE_E_QUOTA = 13,     // the protection has what it may take there: retry later
	WIRE_E_SEED = 14,      // a disk has no seed, and SEEDED came: retry until the operator has put it there
	WIRE_E_LAST = WIRE_E_SEED,
};

enum point_consistency { POINT_CRASH = 1, POINT_QUIESCED = 2 };
const char *point_consistency_name(unsigned consistency);

struct wire_frame {
	uint16_t type;
	uint32_t len;	  // of the body
	unsigned char *body;
};

// Reads the header at the front of `len` bytes. Returns 1 and fills `ret_frame` (body within `data`) when the whole
// frame is there, 0 when more bytes are needed, -EBADMSG when the header is not one of ours or names too much.
int wire_frame_next(unsigned char *data, size_t len, struct wire_frame *ret_frame);

struct wire_hello {
	uint16_t major, minor;
	uint32_t features; // bits that both sides must know to use
	int64_t wall_ns;
	char program[NAME_SIZE]; // for logs
};
size_t wire_put_hello(void *to, size_t cap, const struct wire_hello *m);
int wire_get_hello(const struct wire_frame *f, struct wire_hello *ret_m);

struct wire_pair { // PAIR and PAIRED
	unsigned char token_id[WIRE_TOKEN_ID_SIZE];
	unsigned char mac[WIRE_MAC_SIZE];
	char name[NAME_SIZE]; // what the sender calls itself
};
size_t wire_put_pair(void *to, size_t cap, enum wire_type type, const struct wire_pair *m);
int wire_get_pair(const struct wire_frame *f, struct wire_pair *ret_m);

struct wire_disk {
	char name[NAME_SIZE];
	uint64_t size;
};
struct wire_open {
	struct uuid protection;
	struct uuid generation;
	char name[NAME_SIZE];
	struct digest_key digest;
	enum codec codec;     // of compressed clusters, ZSTD or ZLIB
	uint32_t points_keep; // 1..
	uint64_t rpo_ms;
	uint16_t disk_count;
	struct wire_disk disk[DISKS_MAX];
};
size_t wire_put_open(void *to, size_t cap, const struct wire_open *m);
int wire_get_open(const struct wire_frame *f, struct wire_open *ret_m);

struct wire_opened {
	uint64_t last_point;   // 0: none yet
	struct uuid last_cut;  // of the last point, null without one
	int64_t last_cut_wall_ns;
	struct uuid head;      // changes whenever the head starts anew from the last point
};
size_t wire_put_opened(void *to, size_t cap, const struct wire_opened *m);
int wire_get_opened(const struct wire_frame *f, struct wire_opened *ret_m);

struct wire_run {
	uint16_t disk;
	uint64_t first;
	uint64_t count; // at least 1
};
struct wire_ack {
	struct uuid head;
	uint64_t messages; // BLOCK and ZEROS of this session that are durable in the head, with all before them
	uint64_t blocks;   // that the head holds
};
size_t wire_put_ack(void *to, size_t cap, const struct wire_ack *m);
int wire_get_ack(const struct wire_frame *f, struct wire_ack *ret_m);

struct wire_damaged {
	uint32_t count; // 0..WIRE_DAMAGED_MAX
	struct wire_run run[WIRE_DAMAGED_MAX];
};
size_t wire_put_damaged(void *to, size_t cap, const struct wire_damaged *m);
int wire_get_damaged(const struct wire_frame *f, struct wire_damaged *ret_m);

// Disks are bits, the lowest is disk 0 of OPEN.
struct wire_doubt {
	struct uuid protection;
	struct uuid generation;
	char name[NAME_SIZE];
	uint64_t disks; // not 0
};
size_t wire_put_doubt(void *to, size_t cap, const struct wire_doubt *m);
int wire_get_doubt(const struct wire_frame *f, struct wire_doubt *ret_m);

struct wire_doubted {
	struct uuid doubt; // another one after each DOUBT; null if and only if no disk is in doubt
	uint64_t disks;
};
size_t wire_put_doubted(void *to, size_t cap, const struct wire_doubted *m);
int wire_get_doubted(const struct wire_frame *f, struct wire_doubted *ret_m);

struct wire_certain {
	struct uuid doubt; // as in DOUBTED; not null
	struct uuid cut;   // of the SEAL to come; not null
	uint64_t disks;	   // not 0
};
size_t wire_put_certain(void *to, size_t cap, const struct wire_certain *m);
int wire_get_certain(const struct wire_frame *f, struct wire_certain *ret_m);

struct wire_goodbye {
	struct uuid protection;
	struct uuid generation;
	char name[NAME_SIZE];
};
size_t wire_put_goodbye(void *to, size_t cap, const struct wire_goodbye *m);
int wire_get_goodbye(const struct wire_frame *f, struct wire_goodbye *ret_m);

struct wire_parted {
	bool noted; // false: the receiver has no such protection
};
size_t wire_put_parted(void *to, size_t cap, const struct wire_parted *m);
int wire_get_parted(const struct wire_frame *f, struct wire_parted *ret_m);

struct wire_compare {
	uint16_t disk;
	uint32_t count; // 1..WIRE_COMPARE_MAX
	uint64_t first;
	const unsigned char *digests; // count * DIGEST_SIZE, within the frame
};
size_t wire_put_compare(void *to, size_t cap, const struct wire_compare *m);
int wire_get_compare(const struct wire_frame *f, struct wire_compare *ret_m);

struct wire_differs {
	uint16_t disk;
	uint32_t count;
	uint64_t first;
	const unsigned char *bitmap; // bit i (lowest first): block first + i differs; (count + 7) / 8 bytes, within the frame
};
size_t wire_put_differs(void *to, size_t cap, const struct wire_differs *m);
int wire_get_differs(const struct wire_frame *f, struct wire_differs *ret_m);

struct wire_nodes {
	uint16_t disk;
	uint8_t level;	 // 1..WIRE_NODE_LEVELS: a node is over DIGEST_FAN^level blocks, the last one over what is left
	uint16_t count;	 // 1..WIRE_NODES_MAX
	uint64_t first;
	uint64_t blocks; // so many that there are `count` nodes
	const unsigned char *digests; // count * DIGEST_SIZE, within the frame
};
size_t wire_put_nodes(void *to, size_t cap, const struct wire_nodes *m);
int wire_get_nodes(const struct wire_frame *f, struct wire_nodes *ret_m);

struct wire_unequal {
	uint16_t disk;
	uint8_t level;
	uint16_t count;
	uint64_t first;
	const unsigned char *bitmap; // bit i (lowest first): some block under node i differs; (count + 7) / 8 bytes, within the frame
};
size_t wire_put_unequal(void *to, size_t cap, const struct wire_unequal *m);
int wire_get_unequal(const struct wire_frame *f, struct wire_unequal *ret_m);

struct wire_examine {
	uint16_t disk;
	uint16_t count; // 1..WIRE_EXAMINE_MAX
	const unsigned char *entries; // count * WIRE_EXAMINE_ENTRY_SIZE, within the frame: index and digest
};
size_t wire_put_examine(void *to, size_t cap, const struct wire_examine *m);
int wire_get_examine(const struct wire_frame *f, struct wire_examine *ret_m);
void wire_examine_set(unsigned char *entries, unsigned i, uint64_t index, const struct digest *digest);
uint64_t wire_examine_get(const unsigned char *entries, unsigned i, struct digest *ret_digest); // the index

enum wire_answer { WIRE_EQUAL = 0, WIRE_WHOLE = 1, WIRE_BY_PIECES = 2 };
struct wire_pieces {
	uint16_t disk;
	uint16_t count;
	uint64_t first; // the first index that was asked about
	const unsigned char *answer; // count, within the frame
	unsigned by_pieces;	     // of them
	const unsigned char *digests; // by_pieces * PIECES_PER_BLOCK * DIGEST_SIZE, within the frame
};
size_t wire_put_pieces(void *to, size_t cap, const struct wire_pieces *m);
int wire_get_pieces(const struct wire_frame *f, struct wire_pieces *ret_m);

struct wire_block {
	uint16_t disk;
	uint16_t mask; // not 0; which pieces travel, in order, one behind the other
	enum codec codec;
	uint64_t index;
	struct digest digest; // of the whole block as the source has it
	uint32_t len;	      // of the payload
	const unsigned char *payload; // within the frame
};
size_t wire_put_block(void *to, size_t cap, const struct wire_block *m); // copies the payload
int wire_get_block(const struct wire_frame *f, struct wire_block *ret_m);

struct wire_zeros {
	uint16_t disk;
	uint64_t first;
	uint64_t count;
};
size_t wire_put_zeros(void *to, size_t cap, const struct wire_zeros *m);
int wire_get_zeros(const struct wire_frame *f, struct wire_zeros *ret_m);

struct wire_seal {
	uint64_t predecessor; // must be the receiver's last point
	struct uuid cut;
	struct uuid head;     // must be the receiver's head
	int64_t cut_wall_ns;
	enum point_consistency consistency;
	uint64_t dirty_bytes; // of the cycle, for the record
	uint64_t blocks_sent;
	uint64_t wire_bytes;
};
size_t wire_put_seal(void *to, size_t cap, const struct wire_seal *m);
int wire_get_seal(const struct wire_frame *f, struct wire_seal *ret_m);

struct wire_committed {
	uint64_t number;
	struct uuid cut;
	struct uuid head; // the next one
	uint64_t stored_bytes;
	int64_t commit_wall_ns;
};
size_t wire_put_committed(void *to, size_t cap, const struct wire_committed *m);
int wire_get_committed(const struct wire_frame *f, struct wire_committed *ret_m);

size_t wire_put_empty(void *to, size_t cap, enum wire_type type); // PING, PONG, SEEDED, CLOCK
int wire_get_empty(const struct wire_frame *f);

enum wire_report_state { WIRE_REPORT_RUNNING = 1, WIRE_REPORT_PAUSED = 2, WIRE_REPORT_STOPPING = 3 };
#define WIRE_REPORT_NO_CUT UINT64_MAX
#define WIRE_CLOCK_OFFSET_MAX (INT64_C(1) << 62)

struct wire_report {
	enum wire_report_state state;
	uint8_t cause;		// why there is no newer point, as a number of rpo/cause.h; 0: nothing is wrong. One that is not known is taken for unknown
	uint64_t rpo_ms;	// at least 1
	int64_t wall_ns;	// the source's clock
	int64_t clock_offset_ns; // the receiver's clock less the source's, as of now; within WIRE_CLOCK_OFFSET_MAX
	uint64_t clock_error_ns; // of it, either way; at most WIRE_CLOCK_OFFSET_MAX
	uint64_t dirty_bytes;
	uint64_t next_cut_ms; // from now; 0: it is due, or a cycle is under way; WIRE_REPORT_NO_CUT: there will be none
	uint32_t stage_ms[WIRE_REPORT_STAGES]; // since the newest point's cut, of the stages of rpo/cause.h
};
size_t wire_put_report(void *to, size_t cap, const struct wire_report *m);
int wire_get_report(const struct wire_frame *f, struct wire_report *ret_m);

struct wire_time {
	int64_t wall_ns;
	int64_t steps_ns; // by which the receiver has seen its clock set ahead since OPEN; within WIRE_CLOCK_OFFSET_MAX
};
size_t wire_put_time(void *to, size_t cap, const struct wire_time *m);
int wire_get_time(const struct wire_frame *f, struct wire_time *ret_m);

struct wire_failure { // ERROR
	enum wire_error code;
	char text[WIRE_TEXT_SIZE];
};
size_t wire_put_error(void *to, size_t cap, enum wire_error code, const char *text);
int wire_get_error(const struct wire_frame *f, struct wire_failure *ret_m);

#endif
