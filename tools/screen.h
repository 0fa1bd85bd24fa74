// SPDX-License-Identifier: Apache-2.0
// The terminal as a screen that is drawn anew as a whole, without flicker: a frame is one write, and only lines that changed are in it.
// The screen of before comes back at the end, also when a signal ends the program.
#ifndef KAGAMI_TOOLS_SCREEN_H
#define KAGAMI_TOOLS_SCREEN_H

#include "base/err.h"

#include <stdbool.h>

enum { SCREEN_ROWS_MAX = 400, SCREEN_COLUMNS_MAX = 500 };

enum screen_key { KEY_NONE, KEY_QUIT, KEY_UP, KEY_DOWN, KEY_PAGE_UP, KEY_PAGE_DOWN, KEY_HOME, KEY_END, KEY_OTHER, KEY_RESIZED };

struct screen {
	unsigned columns, rows;
	bool blocks, colour;	     // it shows UTF-8; it may be coloured (NO_COLOR is not set)
	char *shown[SCREEN_ROWS_MAX]; // what stands there
};

// One at a time. -ENOTTY when standard input or output is no terminal.
int screen_begin(struct screen *screen, struct err *err);
void screen_end(struct screen *screen);
// Shows `lines`; rows that are not among them are empty. A line may hold escape sequences for colours, and takes at most screen->columns.
void screen_draw(struct screen *screen, char *const *lines, unsigned count);
// Waits up to `ms` for a key, a new size (KEY_RESIZED: columns and rows are the new ones), or the end (KEY_QUIT: q, ^C, or a signal asks for it).
// Another key: its character in *ret_other.
enum screen_key screen_wait(struct screen *screen, int ms, char *ret_other);

#endif
