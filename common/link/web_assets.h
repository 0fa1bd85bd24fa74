// SPDX-License-Identifier: Apache-2.0
// The files of common/web, which are a part of the program.
#ifndef KAGAMI_LINK_WEB_ASSETS_H
#define KAGAMI_LINK_WEB_ASSETS_H

#include <stdbool.h>
#include <stddef.h>

struct web_asset {
	const char *type, *bytes;
	size_t len;
};

// False when there is none of that path.
bool web_asset_find(const char *path, struct web_asset *ret_asset);

#endif
