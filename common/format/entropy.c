// SPDX-License-Identifier: Apache-2.0
// Pearson's test for a uniform distribution: with n samples over 256 values, X = sum of (count - n/256)^2 / (n/256) is 255 on average
// with a standard deviation of 22.6 when all values are equally likely. The sum of the counts' squares is the same but for constants.
#include "format/entropy.h"

#include <stdint.h>

enum {
	VALUES = 256,
	EACH = ENTROPY_SAMPLES / VALUES,
	X_MAX = 255 + 113, // five standard deviations
	SQUARES_MAX = X_MAX * EACH + ENTROPY_SAMPLES * EACH,
};

bool entropy_full(const void *data, size_t len)
{
	const unsigned char *bytes = data;
	uint16_t count[VALUES] = {0};
	uint32_t squares = 0, draw = 1;
	if (len < ENTROPY_LEN_MIN)
		return false;
	size_t stride = len / ENTROPY_RUNS;
	for (size_t run = 0; run < ENTROPY_RUNS; run++) {
		draw = draw * 1664525 + 1013904223; // within each stride at another place, or a table's columns would be taken for one
		const unsigned char *at = bytes + run * stride + (draw >> 16) % (stride - ENTROPY_RUN + 1);
		for (size_t i = 0; i < ENTROPY_RUN; i++)
			count[at[i]]++;
	}
	for (unsigned v = 0; v < VALUES; v++)
		squares += (uint32_t)count[v] * count[v];
	return squares <= SQUARES_MAX;
}
