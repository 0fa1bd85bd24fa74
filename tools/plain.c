// SPDX-License-Identifier: Apache-2.0
#include "tools/plain.h"

#include "base/size.h"

#include <stddef.h>

// The code point at `at`, and its bytes; 0 bytes where there is none: cut off, longer than it need be, a surrogate, or past the last one.
static size_t decode(const unsigned char *at, unsigned *ret_point)
{
	static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t len = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 0;
	unsigned point = len < 2 ? at[0] : at[0] & (0x7fU >> len);
	for (size_t i = 1; i < len; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (at[i] & 0x3f);
	}
	*ret_point = point;
	return point < least[len] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff) ? 0 : len;
}

static bool is_shown(unsigned point)
{
	static const struct {
		unsigned first, last;
	} hidden[] = {
		{0x00, 0x1f}, {0x7f, 0x9f},	// controls
		{0x061c, 0x061c}, {0x200e, 0x200f}, {0x202a, 0x202e}, {0x2066, 0x2069}, // direction
		{0x2028, 0x2029}, {0xfeff, 0xfeff}, // separators of lines and paragraphs; no break, no width
	};
	for (size_t i = 0; i < COUNT(hidden); i++)
		if (point >= hidden[i].first && point <= hidden[i].last)
			return false;
	return true;
}

bool plain_is_utf8(const char *text)
{
	unsigned point;
	for (const unsigned char *at = (const unsigned char *)text; *at;) {
		size_t len = decode(at, &point);
		if (!len)
			return false;
		at += len;
	}
	return true;
}

bool plain_make(char *text)
{
	bool changed = false;
	unsigned point = 0;
	for (unsigned char *at = (unsigned char *)text; *at;) {
		size_t len = decode(at, &point);
		bool shown = len && is_shown(point);
		for (size_t left = len ? len : 1; left; left--, at++)
			*at = shown ? *at : '?';
		changed |= !shown;
	}
	return changed;
}
