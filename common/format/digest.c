// SPDX-License-Identifier: Apache-2.0
// The two kinds behind one face. docs/protocol.md says what goes in, docs/security.md what may be relied on.
//
// XXH3: of the content under the protection's secret, exclusive-or XXH3-128 of the position under the same: equal blocks at different
// positions differ, and the content is hashed in one shot at full speed.
// BLAKE2b: keyed with the first 64 bytes of the secret, over the position and the content.
#include "format/digest.h"

#include "base/bytes.h"
#include "base/size.h"
#include "format/blake2b.h"

#include <string.h>
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h> // the widest vectors that the processor has
#else
#include <xxhash.h>
#endif

_Static_assert(DIGEST_SECRET_SIZE >= XXH3_SECRET_SIZE_MIN, "XXH3 takes secrets of 136 bytes and more");
_Static_assert((int)DIGEST_SECRET_SIZE >= (int)BLAKE2B_KEY_MAX, "a whole key");

enum { POSITION_SIZE = 16, NODE_MARK = 0x80, PIECE_MARK = 0x90 };

static const char *const names[] = {[DIGEST_XXH3] = "xxh3", [DIGEST_BLAKE2B] = "blake2b"};

bool digest_kind_known(unsigned kind)
{
	return kind == DIGEST_XXH3 || kind == DIGEST_BLAKE2B;
}

const char *digest_kind_name(unsigned kind)
{
	return digest_kind_known(kind) ? names[kind] : "unknown";
}

bool digest_kind_read(const char *name, enum digest_kind *ret_kind)
{
	for (unsigned kind = DIGEST_XXH3; kind <= DIGEST_BLAKE2B; kind++)
		if (strcmp(name, names[kind]) == 0) {
			*ret_kind = (enum digest_kind)kind;
			return true;
		}
	return false;
}

static struct digest xxh3(const struct digest_key *key, const unsigned char place[POSITION_SIZE], const void *data, size_t len)
{
	struct digest digest;
	XXH128_hash_t content = XXH3_128bits_withSecret(data, len, key->secret, sizeof(key->secret));
	XXH128_hash_t at = XXH3_128bits_withSecret(place, POSITION_SIZE, key->secret, sizeof(key->secret));
	put_le64(digest.bytes, content.low64 ^ at.low64);
	put_le64(digest.bytes + 8, content.high64 ^ at.high64);
	return digest;
}

static struct digest blake2b(const struct digest_key *key, const unsigned char place[POSITION_SIZE], const void *data, size_t len)
{
	struct blake2b state;
	struct digest digest;
	blake2b_begin(&state, DIGEST_SIZE, key->secret, BLAKE2B_KEY_MAX);
	blake2b_add(&state, place, POSITION_SIZE);
	blake2b_add(&state, data, len);
	blake2b_end(&state, digest.bytes);
	return digest;
}

static struct digest keyed(const struct digest_key *key, const unsigned char place[POSITION_SIZE], const void *data, size_t len)
{
	struct digest digest = key->kind == DIGEST_BLAKE2B ? blake2b(key, place, data, len) : xxh3(key, place, data, len);
	if (digest_is_zero(&digest)) // one in 2^128: must not pass for zeros
		digest.bytes[0] = 1;
	return digest;
}

struct digest digest_of(const struct digest_key *key, uint16_t disk, uint64_t index, const void *block)
{
	unsigned char place[POSITION_SIZE];
	if (bytes_zero(block, BLOCK_SIZE))
		return (struct digest){{0}};
	put_le64(place, disk);
	put_le64(place + 8, index);
	return keyed(key, place, block, BLOCK_SIZE);
}

struct digest digest_piece(const struct digest_key *key, uint16_t disk, uint64_t index, unsigned piece, const void *data)
{
	unsigned char place[POSITION_SIZE];
	if (bytes_zero(data, PIECE_SIZE))
		return (struct digest){{0}};
	put_le64(place, disk);
	place[7] = (unsigned char)(PIECE_MARK + piece); // no disk has such a number, and no node
	put_le64(place + 8, index);
	return keyed(key, place, data, PIECE_SIZE);
}

void digest_pieces(const struct digest_key *key, uint16_t disk, uint64_t index, const void *block, struct digest *ret_digests)
{
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		ret_digests[i] = digest_piece(key, disk, index, i, (const unsigned char *)block + (size_t)i * PIECE_SIZE);
}

struct digest digest_node(const struct digest_key *key, unsigned level, const struct digest *below, size_t count)
{
	unsigned char place[POSITION_SIZE] = {0};
	if (bytes_zero(below, count * DIGEST_SIZE))
		return (struct digest){{0}};
	place[7] = (unsigned char)(NODE_MARK | level); // no disk has such a number
	put_le64(place + 8, count);
	return keyed(key, place, below, count * DIGEST_SIZE);
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
	return memcmp(a->bytes, b->bytes, DIGEST_SIZE) == 0;
}

bool digest_is_zero(const struct digest *digest)
{
	return bytes_zero(digest->bytes, DIGEST_SIZE);
}
