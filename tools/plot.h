// SPDX-License-Identifier: Apache-2.0
// A plot in lines of text: how a value went over time, against a bound. Pure.
#ifndef KAGAMI_TOOLS_PLOT_H
#define KAGAMI_TOOLS_PLOT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct plot {
	const double *value; // one for each column, from left to right; negative: there is none
	unsigned columns, rows;
	double bound;			 // drawn as a line across; above it columns are marked
	bool blocks, colour;		 // UTF-8; escape sequences
	const char *(*label)(double value); // how the scale is written; at most 8 cells
	const char *from, *to;		 // below the first column and the last
};

// Prints the plot: rows + 2 lines of columns + 11 cells.
void plot_print(const struct plot *plot, FILE *to);

#endif
