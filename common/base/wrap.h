// SPDX-License-Identifier: Apache-2.0
// Text for a terminal of 80 columns, and how a command is used.
#ifndef KAGAMI_BASE_WRAP_H
#define KAGAMI_BASE_WRAP_H

#include <stdio.h>

enum { WRAP_COLUMNS = 79 }; // some terminals break a line that has all of 80

// Prints `text` and ends the line; a line that would be longer goes on in the next, which begins with `indent` blanks, at a blank or newline of the text; what is
// in brackets is kept together where it fits into one line. `at`: columns that are printed on this line already. ASCII.
void wrap_print(FILE *to, unsigned at, unsigned indent, const char *text);

// "usage: COMMAND FORM", with a line for each of the forms, which newlines part.
void wrap_usage(FILE *to, const char *command, const char *forms);

#endif
