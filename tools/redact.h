// SPDX-License-Identifier: Apache-2.0
// What may be a secret in a text that goes to others. Pure.
#ifndef KAGAMI_TOOLS_REDACT_H
#define KAGAMI_TOOLS_REDACT_H

#include <stddef.h>

// Within `text`, of each URL keeps the scheme, the host and the path: what stands before an '@' of its authority, and its query and fragment,
// become "***". The text never grows past `cap`, its room with the NUL. Returns how many places were covered.
size_t redact_urls(char *text, size_t cap);

#endif
