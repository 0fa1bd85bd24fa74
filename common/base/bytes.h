// SPDX-License-Identifier: Apache-2.0
// Integers at any alignment in either byte order, and the test for zeros.
#ifndef KAGAMI_BASE_BYTES_H
#define KAGAMI_BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BYTES_ACCESSORS(bits, order)                                                                            \
	static inline uint##bits##_t get_##order##bits(const void *from)                                       \
	{                                                                                                       \
		uint##bits##_t value;                                                                           \
		memcpy(&value, from, sizeof(value));                                                            \
		return order##bits##toh(value);                                                                 \
	}                                                                                                       \
	static inline void put_##order##bits(void *to, uint##bits##_t value)                                   \
	{                                                                                                       \
		value = hto##order##bits(value);                                                                \
		memcpy(to, &value, sizeof(value));                                                              \
	}

BYTES_ACCESSORS(16, le)
BYTES_ACCESSORS(32, le)
BYTES_ACCESSORS(64, le)
BYTES_ACCESSORS(16, be)
BYTES_ACCESSORS(32, be)
BYTES_ACCESSORS(64, be)

// What a hex digit stands for; -1 when it is none. Lower case, as we write them.
static inline int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Whether all `len` bytes are zero; true for none.
static inline bool bytes_zero(const void *at, size_t len)
{
	const unsigned char *p = at;
	size_t head = len < 16 ? len : 16;
	for (size_t i = 0; i < head; i++)
		if (p[i])
			return false;
	return len <= 16 || memcmp(p, p + 16, len - 16) == 0;
}

#endif
