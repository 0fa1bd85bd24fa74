// SPDX-License-Identifier: Apache-2.0
// BLAKE2b (RFC 7693), keyed, in pieces. No allocation, no failure; any thread.
//
//	begin ──► add ... ──► end
#ifndef KAGAMI_FORMAT_BLAKE2B_H
#define KAGAMI_FORMAT_BLAKE2B_H

#include <stddef.h>
#include <stdint.h>

enum { BLAKE2B_KEY_MAX = 64, BLAKE2B_OUT_MAX = 64, BLAKE2B_BLOCK = 128 };

struct blake2b {
	uint64_t h[8];
	uint64_t count;			  // bytes that went in; 2^64 of them are not asked for
	size_t held;			  // of `block`
	size_t out;
	unsigned char block[BLAKE2B_BLOCK]; // kept back: the last one is marked
};

// `out` is 1 to BLAKE2B_OUT_MAX bytes, `key_len` 0 to BLAKE2B_KEY_MAX.
void blake2b_begin(struct blake2b *state, size_t out, const void *key, size_t key_len);
void blake2b_add(struct blake2b *state, const void *data, size_t len);
void blake2b_end(struct blake2b *state, unsigned char *ret_out); // `out` bytes

#endif
