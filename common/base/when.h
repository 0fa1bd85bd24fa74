// SPDX-License-Identifier: Apache-2.0
// Instants as text: RFC 3339 in UTC with milliseconds, 2026-01-31T12:00:00.123Z.
#ifndef KAGAMI_BASE_WHEN_H
#define KAGAMI_BASE_WHEN_H

#include <stdint.h>

enum { WHEN_SIZE = 32 };

// `wall_ns` since 1970. An instant before 1970 or after 9999 is written as the nearer end.
void when_format(int64_t wall_ns, char text[WHEN_SIZE]);

#endif
