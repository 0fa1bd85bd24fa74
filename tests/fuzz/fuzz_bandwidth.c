// SPDX-License-Identifier: Apache-2.0
// A limit of bandwidth as an operator, or a file, gives it: what is read is within its limits, and reads the same once it was formatted.
#include "rpo/bandwidth.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void look(const struct bandwidth_window *window)
{
	assert(window->days && window->days <= 0x7f && window->from < DAY_MINUTES && window->to >= 1 && window->to <= DAY_MINUTES &&
	       window->from != window->to);
}

static bool same(const struct bandwidth_window *a, const struct bandwidth_window *b)
{
	return a->days == b->days && a->from == b->from && a->to == b->to;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	char *exact = malloc(size + 1), text[BANDWIDTH_TEXT_SIZE];
	struct bandwidth_rule rule, back;
	struct bandwidth_window window, other;
	struct err err;
	assert(exact);
	memcpy(exact, data, size);
	exact[size] = 0;
	if (bandwidth_rule_read(exact, &rule, &err) == 0) {
		look(&rule.window);
		assert(rule.rate == BANDWIDTH_UNLIMITED || (rule.rate >= BANDWIDTH_RATE_MIN && rule.rate <= BANDWIDTH_RATE_MAX));
		bandwidth_rule_format(&rule, text);
		assert(bandwidth_rule_read(text, &back, &err) == 0 && back.rate == rule.rate &&
		       same(&back.window, &rule.window));
	}
	if (bandwidth_window_read(exact, &window, &err) == 0) {
		look(&window);
		bandwidth_window_format(&window, text);
		assert(bandwidth_window_read(text, &other, &err) == 0 && same(&other, &window));
	}
	free(exact);
	return 0;
}
