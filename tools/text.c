// SPDX-License-Identifier: Apache-2.0
#include "tools/text.h"

#include "base/size.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

// The code point at `text` and its bytes; a byte that begins none stands for itself.
static size_t decode(const char *text, wchar_t *ret_point)
{
	const unsigned char *at = (const unsigned char *)text;
	size_t len = at[0] < 0xc2 ? 1 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 1;
	wchar_t point = len == 1 ? at[0] : at[0] & (0x7f >> len);
	for (size_t i = 1; i < len; i++) {
		if ((at[i] & 0xc0) != 0x80) {
			*ret_point = '?';
			return 1;
		}
		point = point << 6 | (at[i] & 0x3f);
	}
	*ret_point = point;
	return len;
}

// wcwidth() depends on the locale; what is wide in East Asian fonts, and what combines, does not.
static unsigned width_of(wchar_t point)
{
	static const struct {
		unsigned first, last, cells;
	} ranges[] = {
		{0x0300, 0x036f, 0}, {0x1100, 0x115f, 2}, {0x200b, 0x200f, 0}, {0x20d0, 0x20ff, 0}, {0x2e80, 0x303e, 2},
		{0x3041, 0xa4cf, 2}, {0xac00, 0xd7a3, 2}, {0xf900, 0xfaff, 2}, {0xfe00, 0xfe0f, 0}, {0xfe30, 0xfe6f, 2},
		{0xff00, 0xff60, 2}, {0xffe0, 0xffe6, 2}, {0x1f300, 0x1faff, 2}, {0x20000, 0x3fffd, 2},
	};
	for (size_t i = 0; i < COUNT(ranges); i++)
		if ((unsigned)point >= ranges[i].first && (unsigned)point <= ranges[i].last)
			return ranges[i].cells;
	return 1;
}

size_t text_fit(const char *text, unsigned cells, unsigned *ret_used)
{
	size_t bytes = 0;
	unsigned used = 0;
	while (text[bytes]) {
		wchar_t point;
		size_t len = decode(text + bytes, &point);
		unsigned width = width_of(point);
		if (used + width > cells)
			break;
		used += width;
		bytes += len;
	}
	*ret_used = used;
	return bytes;
}

unsigned text_width(const char *text)
{
	unsigned used;
	(void)text_fit(text, 1U << 20, &used);
	return used;
}

void line_begin(struct line *line, unsigned cells)
{
	line->cells = cells;
	line->used = 0;
	line->len = 0;
	line->text[0] = 0;
}

static void line_put(struct line *line, const char *text, unsigned cells)
{
	unsigned used;
	size_t len = text_fit(text, min_u64(cells, line->cells - line->used), &used);
	if (len >= sizeof(line->text) - line->len)
		return;
	memcpy(line->text + line->len, text, len);
	line->len += len;
	line->text[line->len] = 0;
	line->used += used;
}

void line_add(struct line *line, const char *fmt, ...)
{
	char text[LINE_BYTES];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	line_put(line, text, line->cells);
}

void line_pad(struct line *line, unsigned to)
{
	while (line->used < to && line->used < line->cells)
		line_put(line, " ", 1);
}

void line_cell(struct line *line, unsigned cells, int right, const char *text)
{
	unsigned used, begin = line->used;
	(void)text_fit(text, cells, &used);
	if (right)
		line_pad(line, begin + cells - used);
	line_put(line, text, cells);
	line_pad(line, begin + cells + 1);
}

void line_style(struct line *line, const char *escape)
{
	size_t len = strlen(escape);
	if (len >= sizeof(line->text) - line->len)
		return;
	memcpy(line->text + line->len, escape, len + 1);
	line->len += len;
}

void line_bar(struct line *line, unsigned cells, double share, int blocks)
{
	static const char *const eighth[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
	double clipped = share > 1 ? 1 : share > 0 ? share : 0; // also where it is no number
	unsigned full = (unsigned)(clipped * cells * 8 + 0.5);
	for (unsigned i = 0; i < cells; i++) {
		unsigned here = full > i * 8 ? (unsigned)min_u64(full - i * 8, 8) : 0;
		line_put(line, blocks ? (here ? eighth[here] : "·") : here >= 4 ? "#" : "-", 1);
	}
}
