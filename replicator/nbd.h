// SPDX-License-Identifier: Apache-2.0
// The NBD protocol (the NBD project's doc/proto.md) as bytes: no input or output, no waiting.
//
//	nbd_greeting ──► nbd_handshake_step … until NBD_TRANSMISSION ──► nbd_request_decode, nbd_request_check,
//	                 (consumes one option, answers it)                nbd_reply_* for each request
//
// Integers are big-endian on the wire. Nothing that comes in is trusted.
#ifndef KAGAMI_REPLICATOR_NBD_H
#define KAGAMI_REPLICATOR_NBD_H

#include "base/names.h"
#include "base/size.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	NBD_NAME_SIZE = 2 * NAME_SIZE, // DISK; over TCP PROTECTION/DISK
	NBD_GREETING_SIZE = 18,
	NBD_OPTION_HEAD_SIZE = 16,
	NBD_OPTION_DATA_MAX = 16 << 10, // a name of 4096 bytes and some queries
	NBD_OPTION_SKIP_MAX = 1 << 20,	// longer ones, up to this, are refused; the others end the connection
	NBD_ANSWER_MAX = 16 << 10,	// all replies to one option, for DISKS_MAX exports
	NBD_REQUEST_SIZE = 28,
	NBD_PAYLOAD_MAX = 32 << 20, // of one READ or WRITE
	NBD_REPLY_HEAD_MAX = 32,
	NBD_EXTENTS_MAX = 64, // in one answer to BLOCK_STATUS
	NBD_CONTEXT_ALLOCATION = 1, // our id of base:allocation
};

enum nbd_command {
	NBD_READ = 0,
	NBD_WRITE = 1,
	NBD_DISC = 2,
	NBD_FLUSH = 3,
	NBD_TRIM = 4,
	NBD_CACHE = 5,
	NBD_WRITE_ZEROES = 6,
	NBD_BLOCK_STATUS = 7,
};

enum nbd_command_flag {
	NBD_FLAG_FUA = 1 << 0,
	NBD_FLAG_NO_HOLE = 1 << 1,
	NBD_FLAG_DF = 1 << 2,
	NBD_FLAG_REQ_ONE = 1 << 3,
	NBD_FLAG_FAST_ZERO = 1 << 4,
};

struct nbd_export {
	char name[NBD_NAME_SIZE];
	uint64_t size;
	bool read_only;
};

enum nbd_state {
	NBD_FLAGS,	  // waiting for the client's flags
	NBD_OPTIONS,	  // waiting for an option
	NBD_TRANSMISSION, // `chosen` is the export: requests follow
	NBD_CLOSING,	  // send the answer, then close
};

struct nbd_handshake {
	const struct nbd_export *exports;
	unsigned count;
	enum nbd_state state;
	unsigned chosen;
	uint64_t size;	 // of it, as it was when it was chosen: a connection's bound, whatever the disk grows to
	bool no_zeroes;	 // the client wants no padding behind EXPORT_NAME
	bool structured; // structured replies are agreed
	bool context;	 // base:allocation is agreed, for export context_export
	unsigned context_export;
};

void nbd_handshake_init(struct nbd_handshake *handshake, const struct nbd_export *exports, unsigned count);
void nbd_greeting(unsigned char to[NBD_GREETING_SIZE]);

// How many bytes must be there for the next step, given the `len` that are: more than `len` means "receive on".
// -EBADMSG: not a client of this protocol; close.
int nbd_handshake_need(const struct nbd_handshake *handshake, const unsigned char *in, size_t len, size_t *ret_need);

// Whether an option begins at `in` that is too long to be taken and short enough to be passed over: its head is taken, the answer stored, *ret_skip bytes follow.
// Never EXPORT_NAME: that ends the connection.
bool nbd_handshake_too_big(const struct nbd_handshake *handshake, const unsigned char *in, size_t len, unsigned char answer[NBD_ANSWER_MAX],
			   size_t *ret_answered, uint32_t *ret_skip);
// Takes the flags or one whole option of `len` bytes (nbd_handshake_need() said so), changes the state, and stores what
// to send. Refused options are answered and the handshake goes on; -EBADMSG where the client broke the protocol.
int nbd_handshake_step(struct nbd_handshake *handshake, const unsigned char *in, size_t len,
		       unsigned char answer[NBD_ANSWER_MAX], size_t *ret_answered);

struct nbd_request {
	uint16_t flags;
	uint16_t command; // as received: may be one we do not know
	unsigned char cookie[8];
	uint64_t off;
	uint32_t len;
};

// -EBADMSG when the magic is wrong: the stream is lost, close.
int nbd_request_decode(const unsigned char in[NBD_REQUEST_SIZE], struct nbd_request *ret_request);

// Whether the request may be carried out on the connection that `agreed` so: 0, or the negative errno to answer with. The one check
// before any work; what passes lies within the size that was negotiated and is at most NBD_PAYLOAD_MAX long where it has a payload.
int nbd_request_check(const struct nbd_request *request, const struct nbd_handshake *agreed);

// Heads of replies; each returns its length. `code` is 0 or a negative errno, translated to the protocol's errors.
size_t nbd_reply_simple(unsigned char to[NBD_REPLY_HEAD_MAX], const struct nbd_request *request, int code);
// Data of `len` bytes at the request's offset follows.
size_t nbd_reply_data(unsigned char to[NBD_REPLY_HEAD_MAX], const struct nbd_request *request, bool structured);
// With structured replies: the first `part` bytes of that, and the reply goes on.
size_t nbd_reply_part(unsigned char to[NBD_REPLY_HEAD_MAX], const struct nbd_request *request, uint32_t part);
// `payload` bytes of nbd_extents_encode() follow.
size_t nbd_reply_status(unsigned char to[NBD_REPLY_HEAD_MAX], const struct nbd_request *request, uint32_t payload);
// For READ and BLOCK_STATUS with structured replies; a simple one otherwise.
size_t nbd_reply_error(unsigned char to[NBD_REPLY_HEAD_MAX], const struct nbd_request *request, bool structured, int code);

struct nbd_extent {
	uint32_t len;
	bool hole; // reads as zeros and takes no space
};
enum { NBD_STATUS_MAX = 4 + 8 * NBD_EXTENTS_MAX };
uint32_t nbd_extents_encode(unsigned char to[NBD_STATUS_MAX], const struct nbd_extent *extents, unsigned count);

#endif
