// SPDX-License-Identifier: Apache-2.0
#include "link/web_assets.h"

#include <string.h>

// The assembler reads a file as it is: no tool that makes C of it, and nothing to keep in step. Paths are seen from the root of the tree.
#define EMBED(name, file)                                                                                                            \
	__asm__(".pushsection .rodata\n"                                                                                             \
		".global web_" #name "\n.global web_" #name "_end\n"                                                                 \
		"web_" #name ":\n.incbin \"" file "\"\nweb_" #name "_end:\n.byte 0\n"                                                \
		".popsection\n");                                                                                                    \
	extern const char web_##name[], web_##name##_end[] __attribute__((visibility("hidden")))

EMBED(page, "common/web/index.html");
EMBED(style, "common/web/kagami.css");
EMBED(script, "common/web/kagami.js");
EMBED(icon, "common/web/kagami.svg");

// Where a file ends is a symbol, too: the difference of two is no constant to C.
static const struct {
	const char *path, *type, *bytes, *end;
} files[] = {
	{"/", "text/html; charset=utf-8", web_page, web_page_end},
	{"/kagami.css", "text/css; charset=utf-8", web_style, web_style_end},
	{"/kagami.js", "text/javascript; charset=utf-8", web_script, web_script_end},
	{"/kagami.svg", "image/svg+xml", web_icon, web_icon_end},
};

bool web_asset_find(const char *path, struct web_asset *ret_asset)
{
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (strcmp(files[i].path, path) != 0)
			continue;
		*ret_asset = (struct web_asset){files[i].type, files[i].bytes, (size_t)(files[i].end - files[i].bytes)};
		return true;
	}
	return false;
}
