// SPDX-License-Identifier: Apache-2.0
#include "tools/redact.h"

#include <string.h>

#define ENDS " \t\r\n\"'<>|\\^`{}"
#define COVER "***"

// Puts COVER in the place of `len` bytes at `at`; the bytes behind move. What has no room is cut off at the text's end.
static char *cover(char *text, size_t cap, char *at, size_t len)
{
	size_t room = cap - (size_t)(at - text) - 1;
	size_t put = strlen(COVER) < room ? strlen(COVER) : room;
	size_t rest = strlen(at + len);
	if (rest > room - put)
		rest = room - put;
	memmove(at + put, at + len, rest);
	memcpy(at, COVER, put);
	at[put + rest] = 0;
	return at + put;
}

size_t redact_urls(char *text, size_t cap)
{
	size_t count = 0;
	for (char *at = strstr(text, "://"); at; at = strstr(at, "://")) {
		at += 3;
		size_t authority = strcspn(at, "/?#" ENDS);
		char *sign = NULL;
		for (size_t i = 0; i < authority; i++)
			sign = at[i] == '@' ? at + i : sign; // the last one: a password may hold others
		if (sign) {
			at = cover(text, cap, at, (size_t)(sign - at));
			count++;
		}
		at += strcspn(at, "?#" ENDS);
		if (*at == '?' || *at == '#') {
			at = cover(text, cap, at + 1, strcspn(at + 1, ENDS));
			count++;
		}
	}
	return count;
}
