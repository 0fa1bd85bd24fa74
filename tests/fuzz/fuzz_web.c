// SPDX-License-Identifier: Apache-2.0
// The headers by which the page's listener tells who may look, from anybody.
#include "link/web_guard.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN "0123456789abcdef0123456789abcdef"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	assert(text);
	memcpy(text, data, size);
	text[size] = 0;
	if (web_cookie_is(text, "kagami", TOKEN) || web_bearer_is(text, TOKEN))
		assert(strstr(text, TOKEN)); // nothing else lets anybody in
	if (web_host_is_loopback(text))
		assert(strncmp(text, "127.", 4) == 0 || text[0] == '[' || strncasecmp(text, "localhost", 9) == 0);
	free(text);
	return 0;
}
