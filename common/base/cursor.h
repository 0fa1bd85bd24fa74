// SPDX-License-Identifier: Apache-2.0
// A bounded cursor over a buffer, for encoders and decoders that read like the table of their format.
//
// It goes bad once and stays bad: a step past the end changes nothing, yields zeros, and every later step does the
// same. So a codec lists its fields without a check each, and asks cursor_ok() or cursor_done() at the end.
// All integers are little-endian.
#ifndef KAGAMI_BASE_CURSOR_H
#define KAGAMI_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
	unsigned char *at;
	unsigned char *end;
	bool bad;
};

// Over `len` bytes at `buf`, to be written or read. The buffer stays the caller's.
static inline struct cursor cursor_over(void *buf, size_t len)
{
	return (struct cursor){.at = buf, .end = len ? (unsigned char *)buf + len : buf};
}

// Over bytes that are only read; the caller keeps to the cursor_get_ functions.
static inline struct cursor cursor_reading(const void *buf, size_t len)
{
	return cursor_over((void *)(uintptr_t)buf, len);
}

static inline bool cursor_ok(const struct cursor *c)
{
	return !c->bad;
}

// Whether everything was consumed, with nothing missing.
static inline bool cursor_done(const struct cursor *c)
{
	return !c->bad && c->at == c->end;
}

static inline size_t cursor_left(const struct cursor *c)
{
	return c->bad ? 0 : (size_t)(c->end - c->at);
}

// Steps over `len` bytes and returns where they start, or NULL when fewer are left.
void *cursor_take(struct cursor *c, size_t len);

uint8_t cursor_get_u8(struct cursor *c);
uint16_t cursor_get_u16(struct cursor *c);
uint32_t cursor_get_u32(struct cursor *c);
uint64_t cursor_get_u64(struct cursor *c);
void cursor_get_bytes(struct cursor *c, void *to, size_t len);
// A u16 length and as many bytes, stored with a NUL behind. Bad when it does not fit in `cap` or holds a NUL.
void cursor_get_string(struct cursor *c, char *to, size_t cap);

void cursor_put_u8(struct cursor *c, uint8_t value);
void cursor_put_u16(struct cursor *c, uint16_t value);
void cursor_put_u32(struct cursor *c, uint32_t value);
void cursor_put_u64(struct cursor *c, uint64_t value);
void cursor_put_bytes(struct cursor *c, const void *from, size_t len);
void cursor_put_string(struct cursor *c, const char *text);

#endif
