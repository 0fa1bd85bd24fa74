// SPDX-License-Identifier: Apache-2.0
// RFC 7693, section 3. The working vector stays in registers: the rounds are written out by macros, since the compiler does not unroll
// the permutation table by itself.
#include "format/blake2b.h"

#include "base/bytes.h"

#include <assert.h>
#include <string.h>

static const uint64_t iv[8] = {
	0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
	0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

static inline uint64_t rotate(uint64_t x, unsigned by)
{
	return x >> by | x << (64 - by);
}

#define MIX(a, b, c, d, x, y)                                                                                          \
	do {                                                                                                           \
		v[a] += v[b] + (x);                                                                                    \
		v[d] = rotate(v[d] ^ v[a], 32);                                                                        \
		v[c] += v[d];                                                                                          \
		v[b] = rotate(v[b] ^ v[c], 24);                                                                        \
		v[a] += v[b] + (y);                                                                                    \
		v[d] = rotate(v[d] ^ v[a], 16);                                                                        \
		v[c] += v[d];                                                                                          \
		v[b] = rotate(v[b] ^ v[c], 63);                                                                        \
	} while (0)

#define ROUND(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15)                                    \
	do {                                                                                                           \
		MIX(0, 4, 8, 12, m[s0], m[s1]);                                                                        \
		MIX(1, 5, 9, 13, m[s2], m[s3]);                                                                        \
		MIX(2, 6, 10, 14, m[s4], m[s5]);                                                                       \
		MIX(3, 7, 11, 15, m[s6], m[s7]);                                                                       \
		MIX(0, 5, 10, 15, m[s8], m[s9]);                                                                       \
		MIX(1, 6, 11, 12, m[s10], m[s11]);                                                                     \
		MIX(2, 7, 8, 13, m[s12], m[s13]);                                                                      \
		MIX(3, 4, 9, 14, m[s14], m[s15]);                                                                      \
	} while (0)

static void compress(struct blake2b *state, const unsigned char *block, uint64_t last)
{
	uint64_t v[16], m[16];
	for (unsigned i = 0; i < 16; i++)
		m[i] = get_le64(block + (size_t)8 * i);
	for (unsigned i = 0; i < 8; i++) {
		v[i] = state->h[i];
		v[8 + i] = iv[i];
	}
	v[12] ^= state->count;
	v[14] ^= last;
	ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
	ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4);
	ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8);
	ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13);
	ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9);
	ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11);
	ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10);
	ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5);
	ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0);
	ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
	for (unsigned i = 0; i < 8; i++)
		state->h[i] ^= v[i] ^ v[8 + i];
}

void blake2b_begin(struct blake2b *state, size_t out, const void *key, size_t key_len)
{
	assert(out >= 1 && out <= BLAKE2B_OUT_MAX && key_len <= BLAKE2B_KEY_MAX);
	*state = (struct blake2b){.out = out};
	memcpy(state->h, iv, sizeof(iv));
	state->h[0] ^= 0x01010000 ^ key_len << 8 ^ out;
	if (key_len == 0)
		return;
	memcpy(state->block, key, key_len); // and zeros: a block of its own
	state->held = BLAKE2B_BLOCK;
}

void blake2b_add(struct blake2b *state, const void *data, size_t len)
{
	const unsigned char *from = data;
	while (len) {
		if (state->held == BLAKE2B_BLOCK) { // and more follows: it is not the last
			state->count += BLAKE2B_BLOCK;
			compress(state, state->block, 0);
			state->held = 0;
		}
		if (state->held == 0 && len > BLAKE2B_BLOCK) { // without a copy
			state->count += BLAKE2B_BLOCK;
			compress(state, from, 0);
			from += BLAKE2B_BLOCK;
			len -= BLAKE2B_BLOCK;
			continue;
		}
		size_t take = len < BLAKE2B_BLOCK - state->held ? len : BLAKE2B_BLOCK - state->held;
		memcpy(state->block + state->held, from, take);
		state->held += take;
		from += take;
		len -= take;
	}
}

void blake2b_end(struct blake2b *state, unsigned char *ret_out)
{
	unsigned char all[BLAKE2B_OUT_MAX];
	memset(state->block + state->held, 0, BLAKE2B_BLOCK - state->held);
	state->count += state->held;
	compress(state, state->block, UINT64_MAX);
	for (unsigned i = 0; i < 8; i++)
		put_le64(all + (size_t)8 * i, state->h[i]);
	memcpy(ret_out, all, state->out);
}
