// SPDX-License-Identifier: Apache-2.0
#include "base/when.h"

#include <stdio.h>
#include <time.h>

#define SECOND_NS INT64_C(1000000000)
#define LAST_SECOND INT64_C(253402300799) // 9999-12-31T23:59:59Z

void when_format(int64_t wall_ns, char text[WHEN_SIZE])
{
	if (wall_ns < 0)
		wall_ns = 0;
	time_t seconds = wall_ns / SECOND_NS;
	if (seconds > LAST_SECOND)
		seconds = LAST_SECOND;
	struct tm utc;
	(void)gmtime_r(&seconds, &utc);
	char day[24];
	(void)strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &utc);
	(void)snprintf(text, WHEN_SIZE, "%s.%03dZ", day, (int)(wall_ns % SECOND_NS / 1000000));
}
