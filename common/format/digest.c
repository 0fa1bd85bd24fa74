// SPDX-License-Identifier: Apache-2.0
// XXH3-128 of the content under the protection's secret, exclusive-or XXH3-128 of the position under the same:
// equal blocks at different positions differ, and the content is hashed in one shot at full speed.
#include "format/digest.h"

#include "base/bytes.h"
#include "base/size.h"

#include <xxhash.h>

_Static_assert(DIGEST_SECRET_SIZE >= XXH3_SECRET_SIZE_MIN, "XXH3 takes secrets of 136 bytes and more");

struct digest digest_of(const struct digest_key *key, uint16_t disk, uint64_t index, const void *block)
{
	struct digest digest = {{0}};
	if (bytes_zero(block, BLOCK_SIZE))
		return digest;
	unsigned char position[16];
	put_le64(position, disk);
	put_le64(position + 8, index);
	XXH128_hash_t content = XXH3_128bits_withSecret(block, BLOCK_SIZE, key->secret, sizeof(key->secret));
	XXH128_hash_t place = XXH3_128bits_withSecret(position, sizeof(position), key->secret, sizeof(key->secret));
	put_le64(digest.bytes, content.low64 ^ place.low64);
	put_le64(digest.bytes + 8, content.high64 ^ place.high64);
	if (digest_is_zero(&digest)) // one in 2^128: must not pass for a block of zeros
		digest.bytes[0] = 1;
	return digest;
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
	return memcmp(a->bytes, b->bytes, DIGEST_SIZE) == 0;
}

bool digest_is_zero(const struct digest *digest)
{
	return bytes_zero(digest->bytes, DIGEST_SIZE);
}
