// SPDX-License-Identifier: Apache-2.0
// Text in the cells of a terminal: UTF-8, whose characters take none, one or two of them. Pure.
#ifndef KAGAMI_TOOLS_TEXT_H
#define KAGAMI_TOOLS_TEXT_H

#include <stddef.h>

// How many bytes at the start of `text` fit into `cells`, and in *ret_used how many cells they take. A byte that is no UTF-8 takes one.
size_t text_fit(const char *text, unsigned cells, unsigned *ret_used);
unsigned text_width(const char *text);

// A line that is put together piece by piece and never gets wider than it may. Escape sequences take no cell.
enum { LINE_BYTES = 2048 };
struct line {
	unsigned cells, used; // may have; has
	size_t len;
	char text[LINE_BYTES];
};
void line_begin(struct line *line, unsigned cells);
void line_add(struct line *line, const char *fmt, ...) __attribute__((format(printf, 2, 3))); // cut where the line ends
void line_pad(struct line *line, unsigned to); // blanks up to that cell
// The same in a field of its own: cut to `cells`, padded on the right (left with `right`), and one more blank behind it.
void line_cell(struct line *line, unsigned cells, int right, const char *text);
void line_style(struct line *line, const char *escape); // "\033[1m"; dropped as a whole when there is no room for its bytes

// A bar of `cells` cells: `share` of it full, from 0 to 1 (more is 1). With `blocks` in eighths of a cell (UTF-8), else of '#' and '-'.
void line_bar(struct line *line, unsigned cells, double share, int blocks);

#endif
