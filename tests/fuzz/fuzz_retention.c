// SPDX-License-Identifier: Apache-2.0
// The tiers of a retention policy, as an operator writes them and protection.json holds them.
#include "receiver/retention.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct retention policy = {.points = 1}, again = {.points = 1};
	struct err err = {0};
	char text[512], back[RETENTION_TEXT_SIZE];
	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	text[size] = 0;
	if (retention_read(text, &policy, &err))
		return 0;
	retention_format(&policy, back); // what was taken can be written, and read again to the same
	assert(retention_read(back, &again, &err) == 0 && memcmp(&policy, &again, sizeof(policy)) == 0);
	struct retention_point points[8] = {{.commit_wall_ns = INT64_MIN}, {.commit_wall_ns = INT64_MAX}, {.pinned = true}};
	retention_apply(&policy, points, 8);
	assert(points[7].why && points[2].why);
	return 0;
}
