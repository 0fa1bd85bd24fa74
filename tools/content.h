// SPDX-License-Identifier: Apache-2.0
// Content that the receiver streams (docs/control.md, "Streams"), brought to where it belongs, with progress on the terminal.
#ifndef KAGAMI_TOOLS_CONTENT_H
#define KAGAMI_TOOLS_CONTENT_H

#include "tools/cli.h"
#include "tools/progress.h"

struct content_sink {
	int (*begin)(void *context, const json_t *what, struct err *err);
	int (*data)(void *context, uint64_t offset, const void *data, uint32_t len, struct err *err);
	int (*end)(void *context, struct err *err); // all of it has come, and is proven to be all
	void *context;
	const char *after; // what to say behind an error: "nothing was left behind"
};

struct content {
	json_t *what;	   // BEGIN; content_done() frees it
	uint64_t received; // bytes of data
	uint64_t unproven; // blocks of them that are not what was committed
	uint64_t lasted_ms;
};

// Gets `path` from the receiver. CLI_DONE after `end` returned 0; otherwise why has been printed. Ends early when out_stopped is set.
int content_receive(const struct cli *cli, const char *path, const struct content_sink *sink, struct content *ret_content);
void content_done(struct content *content);

#endif
