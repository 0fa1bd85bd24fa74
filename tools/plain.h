// SPDX-License-Identifier: Apache-2.0
// Text that a terminal shows and does not obey. Pure.
#ifndef KAGAMI_TOOLS_PLAIN_H
#define KAGAMI_TOOLS_PLAIN_H

#include <stdbool.h>

// Whether all of it is UTF-8, which JSON needs; control characters are.
bool plain_is_utf8(const char *text);

// Replaces, byte by byte, whatever is no UTF-8, drives a terminal (C0, DEL, C1), or reorders or hides what is beside it (marks of direction, separators of lines).
// Returns whether there was any.
bool plain_make(char *text);

#endif
