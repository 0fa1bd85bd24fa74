// SPDX-License-Identifier: Apache-2.0
// NBD's handshake (fixed newstyle) as a state machine over bytes.
//
//	FLAGS ──flags──► OPTIONS ──GO, EXPORT_NAME──► TRANSMISSION
//	                  │  ▲ └──ABORT──► CLOSING
//	                  └──┘ any other option: answered, or refused with an error that leaves the connection alive
#include "replicator/nbd.h"

#include "base/bytes.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define NBD_MAGIC UINT64_C(0x4e42444d41474943)	// "NBDMAGIC"
#define OPTION_MAGIC UINT64_C(0x49484156454f5054) // "IHAVEOPT"
#define REPLY_MAGIC UINT64_C(0x0003e889045565a9)

static const char context_name[] = "base:allocation";

enum { HANDSHAKE_FIXED = 1, HANDSHAKE_NO_ZEROES = 2 };

enum option {
	OPT_EXPORT_NAME = 1,
	OPT_ABORT = 2,
	OPT_LIST = 3,
	OPT_INFO = 6,
	OPT_GO = 7,
	OPT_STRUCTURED_REPLY = 8,
	OPT_LIST_META_CONTEXT = 9,
	OPT_SET_META_CONTEXT = 10,
};

enum option_reply {
	REP_ACK = 1,
	REP_SERVER = 2,
	REP_INFO = 3,
	REP_META_CONTEXT = 4,
};
#define REP_ERR_UNSUP UINT32_C(0x80000001)
#define REP_ERR_INVALID UINT32_C(0x80000003)
#define REP_ERR_UNKNOWN UINT32_C(0x80000006)
#define REP_ERR_TOO_BIG UINT32_C(0x80000009)

enum { INFO_EXPORT = 0, INFO_NAME = 1, INFO_BLOCK_SIZE = 3 };

enum {
	TRANSMISSION_HAS_FLAGS = 1 << 0,
	TRANSMISSION_READ_ONLY = 1 << 1,
	TRANSMISSION_FLUSH = 1 << 2,
	TRANSMISSION_FUA = 1 << 3,
	TRANSMISSION_TRIM = 1 << 5,
	TRANSMISSION_WRITE_ZEROES = 1 << 6,
	TRANSMISSION_DF = 1 << 7,
	TRANSMISSION_MULTI_CONN = 1 << 8, // true: a FLUSH syncs the file that all connections write to
	TRANSMISSION_CACHE = 1 << 10,
	TRANSMISSION_FAST_ZERO = 1 << 11,
};

// The answer under construction. It cannot overflow: NBD_ANSWER_MAX holds DISKS_MAX names, and no option gets more.
struct answer {
	unsigned char *at;
	unsigned char *start;
	uint32_t option;
};

// What is left to read of an option; goes bad once and stays bad.
struct reader {
	const unsigned char *at;
	size_t left;
	bool bad;
};

static const unsigned char *reader_take(struct reader *r, size_t len)
{
	if (r->bad || len > r->left) {
		r->bad = true;
		return NULL;
	}
	const unsigned char *at = r->at;
	r->at += len;
	r->left -= len;
	return at;
}

static uint32_t reader_u32(struct reader *r)
{
	const unsigned char *at = reader_take(r, 4);
	return at ? get_be32(at) : 0;
}

static uint16_t reader_u16(struct reader *r)
{
	const unsigned char *at = reader_take(r, 2);
	return at ? get_be16(at) : 0;
}

static const unsigned char *reader_string(struct reader *r, uint32_t *ret_len)
{
	*ret_len = reader_u32(r);
	return reader_take(r, *ret_len);
}

void nbd_handshake_init(struct nbd_handshake *handshake, const struct nbd_export *exports, unsigned count)
{
	assert(count > 0 && count <= DISKS_MAX);
	*handshake = (struct nbd_handshake){.exports = exports, .count = count};
}

void nbd_greeting(unsigned char to[NBD_GREETING_SIZE])
{
	put_be64(to, NBD_MAGIC);
	put_be64(to + 8, OPTION_MAGIC);
	put_be16(to + 16, HANDSHAKE_FIXED | HANDSHAKE_NO_ZEROES);
}

int nbd_handshake_need(const struct nbd_handshake *handshake, const unsigned char *in, size_t len, size_t *ret_need)
{
	size_t need = handshake->state == NBD_FLAGS ? 4 : NBD_OPTION_HEAD_SIZE;
	if (handshake->state == NBD_OPTIONS && len >= NBD_OPTION_HEAD_SIZE) {
		uint32_t data = get_be32(in + 12);
		if (get_be64(in) != OPTION_MAGIC || data > NBD_OPTION_DATA_MAX)
			return -EBADMSG;
		need += data;
	}
	*ret_need = need;
	return 0;
}

static unsigned char *answer_put(struct answer *a, uint32_t type, uint32_t len)
{
	unsigned char *at = a->at;
	put_be64(at, REPLY_MAGIC);
	put_be32(at + 8, a->option);
	put_be32(at + 12, type);
	put_be32(at + 16, len);
	a->at += 20 + len;
	assert(a->at - a->start <= NBD_ANSWER_MAX);
	return at + 20;
}

static void answer_error(struct answer *a, uint32_t type, const char *text)
{
	memcpy(answer_put(a, type, (uint32_t)strlen(text)), text, strlen(text));
}

bool nbd_handshake_too_big(const struct nbd_handshake *handshake, const unsigned char *in, size_t len, unsigned char answer[NBD_ANSWER_MAX],
			   size_t *ret_answered, uint32_t *ret_skip)
{
	if (handshake->state != NBD_OPTIONS || len < NBD_OPTION_HEAD_SIZE || get_be64(in) != OPTION_MAGIC)
		return false;
	uint32_t option = get_be32(in + 8);
	*ret_skip = get_be32(in + 12);
	if (option == OPT_EXPORT_NAME) // has no error reply: a client takes what comes for a size and flags
		return false;
	if (*ret_skip <= NBD_OPTION_DATA_MAX || *ret_skip > NBD_OPTION_SKIP_MAX)
		return false;
	struct answer a = {.at = answer, .start = answer, .option = option};
	answer_error(&a, REP_ERR_TOO_BIG, "an option has at most 16384 bytes here");
	*ret_answered = (size_t)(a.at - answer);
	return true;
}

static uint16_t transmission_flags(const struct nbd_handshake *h, const struct nbd_export *export)
{
	unsigned flags = TRANSMISSION_HAS_FLAGS | TRANSMISSION_FLUSH | TRANSMISSION_FUA | TRANSMISSION_TRIM |
			 TRANSMISSION_WRITE_ZEROES | TRANSMISSION_FAST_ZERO | TRANSMISSION_CACHE |
			 TRANSMISSION_MULTI_CONN;
	if (h->structured)
		flags |= TRANSMISSION_DF;
	if (export->read_only)
		flags |= TRANSMISSION_READ_ONLY;
	return (uint16_t)flags;
}

// The empty name asks for the default export: there is one when there is only one.
static int find_export(const struct nbd_handshake *h, const unsigned char *name, size_t len)
{
	if (len == 0)
		return h->count == 1 ? 0 : -1;
	for (unsigned i = 0; i < h->count; i++)
		if (strlen(h->exports[i].name) == len && memcmp(h->exports[i].name, name, len) == 0)
			return (int)i;
	return -1;
}

static void choose(struct nbd_handshake *h, unsigned chosen)
{
	h->chosen = chosen;
	h->size = h->exports[chosen].size;
	h->context = h->context && h->context_export == chosen;
	h->state = NBD_TRANSMISSION;
}

// Has no error reply: an unknown name ends the connection.
static int option_export_name(struct nbd_handshake *h, struct reader *r, struct answer *a)
{
	int found = find_export(h, r->at, r->left);
	if (found < 0)
		return -EBADMSG;
	put_be64(a->at, h->exports[found].size);
	put_be16(a->at + 8, transmission_flags(h, &h->exports[found]));
	a->at += 10;
	if (!h->no_zeroes) {
		memset(a->at, 0, 124);
		a->at += 124;
	}
	choose(h, (unsigned)found);
	return 0;
}

static void option_list(const struct nbd_handshake *h, struct reader *r, struct answer *a)
{
	if (r->left) {
		answer_error(a, REP_ERR_INVALID, "LIST takes no data");
		return;
	}
	for (unsigned i = 0; i < h->count; i++) {
		uint32_t len = (uint32_t)strlen(h->exports[i].name);
		unsigned char *to = answer_put(a, REP_SERVER, 4 + len);
		put_be32(to, len);
		memcpy(to + 4, h->exports[i].name, len);
	}
	(void)answer_put(a, REP_ACK, 0);
}

static void answer_info(const struct nbd_handshake *h, const struct nbd_export *export, struct answer *a, bool name)
{
	unsigned char *to = answer_put(a, REP_INFO, 12);
	put_be16(to, INFO_EXPORT);
	put_be64(to + 2, export->size);
	put_be16(to + 10, transmission_flags(h, export));
	to = answer_put(a, REP_INFO, 14);
	put_be16(to, INFO_BLOCK_SIZE);
	put_be32(to + 2, 1);
	put_be32(to + 6, PIECE_SIZE);
	put_be32(to + 10, NBD_PAYLOAD_MAX);
	if (name) {
		uint32_t len = (uint32_t)strlen(export->name);
		to = answer_put(a, REP_INFO, 2 + len);
		put_be16(to, INFO_NAME);
		memcpy(to + 2, export->name, len);
	}
}

static void option_info(struct nbd_handshake *h, struct reader *r, struct answer *a)
{
	uint32_t len;
	const unsigned char *name = reader_string(r, &len);
	unsigned wanted = reader_u16(r);
	bool want_name = false;
	for (unsigned i = 0; i < wanted && !r->bad; i++)
		want_name |= reader_u16(r) == INFO_NAME;
	if (r->bad || r->left) {
		answer_error(a, REP_ERR_INVALID, "lengths do not match");
		return;
	}
	int found = find_export(h, name, len);
	if (found < 0) {
		answer_error(a, REP_ERR_UNKNOWN, "no such export");
		return;
	}
	answer_info(h, &h->exports[found], a, want_name);
	(void)answer_put(a, REP_ACK, 0);
	if (a->option == OPT_GO)
		choose(h, (unsigned)found);
}

static void option_structured(struct nbd_handshake *h, struct reader *r, struct answer *a)
{
	if (r->left) {
		answer_error(a, REP_ERR_INVALID, "STRUCTURED_REPLY takes no data");
		return;
	}
	h->structured = true;
	(void)answer_put(a, REP_ACK, 0);
}

// A query names base:allocation, or, when listing, the whole namespace.
static bool query_matches(const unsigned char *query, uint32_t len, bool list)
{
	const size_t whole = sizeof(context_name) - 1;
	if (len == whole && memcmp(query, context_name, whole) == 0)
		return true;
	return list && len == 5 && memcmp(query, "base:", 5) == 0;
}

static void option_context(struct nbd_handshake *h, struct reader *r, struct answer *a)
{
	bool list = a->option == OPT_LIST_META_CONTEXT;
	uint32_t len;
	const unsigned char *name = reader_string(r, &len);
	uint32_t queries = reader_u32(r);
	bool matches = list && queries == 0;
	for (uint32_t i = 0; i < queries && !r->bad; i++) {
		uint32_t query_len;
		const unsigned char *query = reader_string(r, &query_len);
		matches |= query && query_matches(query, query_len, list);
	}
	if (!list)
		h->context = false; // whatever the outcome, an earlier choice is gone
	if (r->bad || r->left || !h->structured) {
		answer_error(a, REP_ERR_INVALID, h->structured ? "lengths do not match" : "ask for structured replies first");
		return;
	}
	int found = find_export(h, name, len);
	if (found < 0) {
		answer_error(a, REP_ERR_UNKNOWN, "no such export");
		return;
	}
	if (matches) {
		unsigned char *to = answer_put(a, REP_META_CONTEXT, 4 + sizeof(context_name) - 1);
		put_be32(to, list ? 0 : NBD_CONTEXT_ALLOCATION);
		memcpy(to + 4, context_name, sizeof(context_name) - 1);
	}
	(void)answer_put(a, REP_ACK, 0);
	if (!list) {
		h->context = matches;
		h->context_export = (unsigned)found;
	}
}

static int step_flags(struct nbd_handshake *h, const unsigned char *in)
{
	uint32_t flags = get_be32(in);
	// Without the first flag a client does not know the replies to options; with unknown ones it expects more than we do.
	if (!(flags & HANDSHAKE_FIXED) || flags & ~(uint32_t)(HANDSHAKE_FIXED | HANDSHAKE_NO_ZEROES))
		return -EBADMSG;
	h->no_zeroes = flags & HANDSHAKE_NO_ZEROES;
	h->state = NBD_OPTIONS;
	return 0;
}

int nbd_handshake_step(struct nbd_handshake *handshake, const unsigned char *in, size_t len,
		       unsigned char answer[NBD_ANSWER_MAX], size_t *ret_answered)
{
	*ret_answered = 0;
	if (handshake->state == NBD_FLAGS)
		return len == 4 ? step_flags(handshake, in) : -EBADMSG;
	if (handshake->state != NBD_OPTIONS || len < NBD_OPTION_HEAD_SIZE || get_be64(in) != OPTION_MAGIC)
		return -EBADMSG;
	struct answer a = {.at = answer, .start = answer, .option = get_be32(in + 8)};
	struct reader r = {.at = in + NBD_OPTION_HEAD_SIZE, .left = len - NBD_OPTION_HEAD_SIZE};
	int code = 0;
	switch (a.option) {
	case OPT_EXPORT_NAME:
		code = option_export_name(handshake, &r, &a);
		break;
	case OPT_ABORT:
		(void)answer_put(&a, REP_ACK, 0);
		handshake->state = NBD_CLOSING;
		break;
	case OPT_LIST:
		option_list(handshake, &r, &a);
		break;
	case OPT_INFO:
	case OPT_GO:
		option_info(handshake, &r, &a);
		break;
	case OPT_STRUCTURED_REPLY:
		option_structured(handshake, &r, &a);
		break;
	case OPT_LIST_META_CONTEXT:
	case OPT_SET_META_CONTEXT:
		option_context(handshake, &r, &a);
		break;
	default:
		answer_error(&a, REP_ERR_UNSUP, "option not supported");
	}
	*ret_answered = (size_t)(a.at - answer);
	return code;
}
