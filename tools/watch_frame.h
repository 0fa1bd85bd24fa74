// SPDX-License-Identifier: Apache-2.0
// What `kagami watch` shows: the lines of one screen, made from what the daemons answered. Pure.
//
//	 kagami  host                            3 of 4 well        12:00:03
//	 NAME      STATE         AGE OF RPO                 DIRTY    LAST CYCLE       NEXT CUT
//	 vm1       idle          ████▌·····  3.1s of 15s    64 KiB   80ms 39 KiB      in 9s
//	 vm2       syncing       ██████████  22s of 15s    1.2 GiB   …
//	           █████████▌··········  45% 1.2 GiB of 3 GiB, 210 MiB/s, 8s left
//	           ! why it is not well
//	 EVENTS
//	 12:00:01  rpo-missed   vm2   …
#ifndef KAGAMI_TOOLS_WATCH_FRAME_H
#define KAGAMI_TOOLS_WATCH_FRAME_H

#include <jansson.h>
#include <stdbool.h>

enum { WATCH_EVENTS = 64 }; // of the newest are kept

struct watch_view {
	const char *host;
	const json_t *source, *target; // answers to GET /v1/protections; NULL: it does not answer
	const char *source_error, *target_error; // why not; "" where there is no such daemon here
	const json_t *events;		// an array, oldest first; NULL: none are known
	const char *now;		// RFC 3339
	const char *only;		// the name of the one that is watched; NULL: all
	bool by_name;			// else those that are not well come first
	unsigned scroll;		// items that are above the first one shown
	bool blocks, colour;
};

// Fills `lines` with at most `rows` lines of at most `columns` cells (each malloc'ed; the caller frees), and returns how many. In
// *ret_items the number of protections, and in *ret_scroll what of view->scroll was possible.
unsigned watch_frame(const struct watch_view *view, unsigned columns, unsigned rows, char **lines, unsigned *ret_items, unsigned *ret_scroll);

#endif
