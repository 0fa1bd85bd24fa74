// SPDX-License-Identifier: Apache-2.0
#include "base/cursor.h"

#include "base/bytes.h"

#include <string.h>

void *cursor_take(struct cursor *c, size_t len)
{
	if (c->bad || (size_t)(c->end - c->at) < len) {
		c->bad = true;
		return NULL;
	}
	void *here = c->at;
	if (len) // NULL may be the whole of an empty buffer
		c->at += len;
	return here;
}

uint8_t cursor_get_u8(struct cursor *c)
{
	const unsigned char *p = cursor_take(c, 1);
	return p ? *p : 0;
}

uint16_t cursor_get_u16(struct cursor *c)
{
	const void *p = cursor_take(c, 2);
	return p ? get_le16(p) : 0;
}

uint32_t cursor_get_u32(struct cursor *c)
{
	const void *p = cursor_take(c, 4);
	return p ? get_le32(p) : 0;
}

uint64_t cursor_get_u64(struct cursor *c)
{
	const void *p = cursor_take(c, 8);
	return p ? get_le64(p) : 0;
}

void cursor_get_bytes(struct cursor *c, void *to, size_t len)
{
	const void *p = cursor_take(c, len);
	if (p)
		memcpy(to, p, len);
	else
		memset(to, 0, len);
}

void cursor_get_string(struct cursor *c, char *to, size_t cap)
{
	size_t len = cursor_get_u16(c);
	const char *p = cursor_take(c, len);
	to[0] = 0;
	if (!p)
		return;
	if (len >= cap || memchr(p, 0, len)) {
		c->bad = true;
		return;
	}
	memcpy(to, p, len);
	to[len] = 0;
}

void cursor_put_u8(struct cursor *c, uint8_t value)
{
	unsigned char *p = cursor_take(c, 1);
	if (p)
		*p = value;
}

void cursor_put_u16(struct cursor *c, uint16_t value)
{
	void *p = cursor_take(c, 2);
	if (p)
		put_le16(p, value);
}

void cursor_put_u32(struct cursor *c, uint32_t value)
{
	void *p = cursor_take(c, 4);
	if (p)
		put_le32(p, value);
}

void cursor_put_u64(struct cursor *c, uint64_t value)
{
	void *p = cursor_take(c, 8);
	if (p)
		put_le64(p, value);
}

void cursor_put_bytes(struct cursor *c, const void *from, size_t len)
{
	void *p = cursor_take(c, len);
	if (p && len)
		memcpy(p, from, len);
}

void cursor_put_string(struct cursor *c, const char *text)
{
	size_t len = strlen(text);
	if (len > UINT16_MAX) {
		c->bad = true;
		return;
	}
	cursor_put_u16(c, (uint16_t)len);
	cursor_put_bytes(c, text, len);
}
