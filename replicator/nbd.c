// SPDX-License-Identifier: Apache-2.0
// NBD's transmission phase as bytes: requests in, heads of replies out. The handshake is in nbd_handshake.c.
#include "replicator/nbd.h"

#include "base/bytes.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define REQUEST_MAGIC UINT32_C(0x25609513)
#define SIMPLE_MAGIC UINT32_C(0x67446698)
#define CHUNK_MAGIC UINT32_C(0x668e33ef)

enum {
	CHUNK_DONE = 1, // flag: the last chunk of this reply
	CHUNK_OFFSET_DATA = 1,
	CHUNK_BLOCK_STATUS = 5,
	CHUNK_ERROR = 0x8001,
	CHUNK_HEAD_SIZE = 20,
	EXTENT_HOLE_ZERO = 3,
};

int nbd_request_decode(const unsigned char in[NBD_REQUEST_SIZE], struct nbd_request *ret_request)
{
	if (get_be32(in) != REQUEST_MAGIC)
		return -EBADMSG;
	ret_request->flags = get_be16(in + 4);
	ret_request->command = get_be16(in + 6);
	memcpy(ret_request->cookie, in + 8, sizeof(ret_request->cookie));
	ret_request->off = get_be64(in + 16);
	ret_request->len = get_be32(in + 24);
	return 0;
}

struct rule {
	bool known;
	bool writes;
	bool payload;	// its length is bounded
	unsigned flags; // allowed besides FUA, which every command takes
	int past_end;	// what a range past the end of the disk gets
};

static const struct rule rules[] = {
	[NBD_READ] = {.known = true, .payload = true, .flags = NBD_FLAG_DF, .past_end = -EINVAL},
	[NBD_WRITE] = {.known = true, .writes = true, .payload = true, .past_end = -ENOSPC},
	[NBD_TRIM] = {.known = true, .writes = true, .past_end = -EINVAL},
	[NBD_CACHE] = {.known = true, .past_end = -EINVAL},
	[NBD_WRITE_ZEROES] = {.known = true,
			      .writes = true,
			      .flags = NBD_FLAG_NO_HOLE | NBD_FLAG_FAST_ZERO,
			      .past_end = -ENOSPC},
	[NBD_BLOCK_STATUS] = {.known = true, .flags = NBD_FLAG_REQ_ONE, .past_end = -EINVAL},
};

int nbd_request_check(const struct nbd_request *request, const struct nbd_handshake *agreed)
{
	if (request->command == NBD_FLUSH)
		return request->flags & ~NBD_FLAG_FUA || request->off || request->len ? -EINVAL : 0;
	if (request->command >= sizeof(rules) / sizeof(rules[0]) || !rules[request->command].known)
		return -EINVAL;
	const struct rule *rule = &rules[request->command];
	unsigned allowed = rule->flags | NBD_FLAG_FUA;
	if (!agreed->structured)
		allowed &= ~(unsigned)NBD_FLAG_DF;
	if (request->flags & ~allowed || request->len == 0)
		return -EINVAL;
	if (request->command == NBD_BLOCK_STATUS && !agreed->context)
		return -EINVAL;
	if (rule->writes && agreed->exports[agreed->chosen].read_only)
		return -EPERM;
	if (rule->payload && request->len > NBD_PAYLOAD_MAX)
		return request->flags & NBD_FLAG_DF ? -EOVERFLOW : -EINVAL;
	return size_within(request->off, request->len, agreed->size) ? 0 : rule->past_end;
}

static uint32_t error_code(int code)
{
	switch (-code) {
	case 0:
	case EPERM:
	case EIO:
	case ENOMEM:
	case EINVAL:
	case ENOSPC:
	case EOVERFLOW:
	case EOPNOTSUPP:
		return (uint32_t)-code; // the protocol's numbers are Linux's
	case EDQUOT:
	case EFBIG:
		return ENOSPC;
	case EROFS:
		return EPERM;
	default:
		return EIO;
	}
}

size_t nbd_reply_simple(unsigned char to[NBD_REPLY_HEAD_MAX], const struct nbd_request *request, int code)
{
	put_be32(to, SIMPLE_MAGIC);
	put_be32(to + 4, error_code(code));
	memcpy(to + 8, request->cookie, sizeof(request->cookie));
	return 16;
}

static void put_chunk(unsigned char *to, const struct nbd_request *request, uint16_t type, uint32_t len)
{
	put_be32(to, CHUNK_MAGIC);
	put_be16(to + 4, CHUNK_DONE);
	put_be16(to + 6, type);
	memcpy(to + 8, request->cookie, sizeof(request->cookie));
	put_be32(to + 16, len);
}

size_t nbd_reply_data(unsigned char to[NBD_REPLY_HEAD_MAX], const struct nbd_request *request, bool structured)
{
	if (!structured)
		return nbd_reply_simple(to, request, 0);
	put_chunk(to, request, CHUNK_OFFSET_DATA, 8 + request->len);
	put_be64(to + CHUNK_HEAD_SIZE, request->off);
	return CHUNK_HEAD_SIZE + 8;
}

size_t nbd_reply_part(unsigned char to[NBD_REPLY_HEAD_MAX], const struct nbd_request *request, uint32_t part)
{
	const struct nbd_request first = {.off = request->off, .len = part};
	size_t len = nbd_reply_data(to, &first, true);
	put_be16(to + 4, 0); // not CHUNK_DONE
	memcpy(to + 8, request->cookie, sizeof(request->cookie));
	return len;
}

size_t nbd_reply_status(unsigned char to[NBD_REPLY_HEAD_MAX], const struct nbd_request *request, uint32_t payload)
{
	put_chunk(to, request, CHUNK_BLOCK_STATUS, payload);
	return CHUNK_HEAD_SIZE;
}

size_t nbd_reply_error(unsigned char to[NBD_REPLY_HEAD_MAX], const struct nbd_request *request, bool structured, int code)
{
	// Only these two must be answered by chunks; for the others the simple reply stays legal, and is shorter.
	if (!structured || (request->command != NBD_READ && request->command != NBD_BLOCK_STATUS))
		return nbd_reply_simple(to, request, code);
	put_chunk(to, request, CHUNK_ERROR, 6);
	put_be32(to + CHUNK_HEAD_SIZE, error_code(code));
	put_be16(to + CHUNK_HEAD_SIZE + 4, 0); // no text
	return CHUNK_HEAD_SIZE + 6;
}

uint32_t nbd_extents_encode(unsigned char to[NBD_STATUS_MAX], const struct nbd_extent *extents, unsigned count)
{
	assert(count > 0 && count <= NBD_EXTENTS_MAX);
	put_be32(to, NBD_CONTEXT_ALLOCATION);
	for (unsigned i = 0; i < count; i++) {
		put_be32(to + 4 + (size_t)8 * i, extents[i].len);
		put_be32(to + 8 + (size_t)8 * i, extents[i].hole ? EXTENT_HOLE_ZERO : 0);
	}
	return 4 + 8 * count;
}
