// SPDX-License-Identifier: Apache-2.0
#include "tools/plot.h"

enum { EIGHTHS = 8 };

static double top_of(const struct plot *plot)
{
	double top = plot->bound * 1.25;
	for (unsigned i = 0; i < plot->columns; i++)
		top = plot->value[i] > top ? plot->value[i] : top;
	return top > 0 ? top : 1;
}

// What one cell of a column shows: `row` from 0 at the foot.
static const char *cell(const struct plot *plot, double value, double top, unsigned row, unsigned bound_row)
{
	static const char *const eighth[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	double full = value / top * plot->rows - row; // in parts of this cell
	unsigned part = full >= 1 ? EIGHTHS : full > 0 ? (unsigned)(full * EIGHTHS + 0.5) : 0;
	if (value >= 0 && row == 0 && part == 0)
		part = 1; // it is there, however small
	if (part == 0 && row == bound_row)
		return plot->blocks ? "╌" : "-";
	if (!plot->blocks)
		return part >= EIGHTHS / 2 || (row == 0 && part) ? "#" : " ";
	return eighth[part];
}

static void print_row(const struct plot *plot, double top, unsigned row, unsigned bound_row, FILE *to)
{
	const char *label = row == bound_row ? plot->label(plot->bound) : row + 1 == plot->rows ? plot->label(top) : "";
	(void)fprintf(to, "%8s %s", label, plot->blocks ? "│" : "|");
	bool red = false;
	for (unsigned i = 0; i < plot->columns; i++) {
		bool over = plot->value[i] > plot->bound && plot->colour;
		if (over != red)
			(void)fputs(over ? "\033[31m" : "\033[0m", to);
		red = over;
		(void)fputs(cell(plot, plot->value[i], top, row, bound_row), to);
	}
	(void)fputs(red ? "\033[0m\n" : "\n", to);
}

void plot_print(const struct plot *plot, FILE *to)
{
	double top = top_of(plot);
	unsigned bound_row = (unsigned)(plot->bound / top * plot->rows);
	if (bound_row >= plot->rows)
		bound_row = plot->rows - 1;
	for (unsigned row = plot->rows; row-- > 0;)
		print_row(plot, top, row, bound_row, to);
	(void)fprintf(to, "%8s %s", plot->label(0), plot->blocks ? "└" : "+");
	for (unsigned i = 0; i < plot->columns; i++)
		(void)fputs(plot->blocks ? "─" : "-", to);
	(void)fprintf(to, "\n%10s%-*s%s\n", "", (int)plot->columns > 10 ? (int)plot->columns - 8 : 1, plot->from, plot->to);
}
