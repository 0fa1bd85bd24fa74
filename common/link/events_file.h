// SPDX-License-Identifier: Apache-2.0
// The files of events: JSON, one object a line. events.jsonl is appended to; at EVENTS_FILE_MAX it becomes events.1.jsonl.
#ifndef KAGAMI_LINK_EVENTS_FILE_H
#define KAGAMI_LINK_EVENTS_FILE_H

#include "link/events.h"

enum { EVENTS_FILE_MAX = 1 << 20, EVENTS_SYNC_SECONDS = 5 };
#define EVENTS_FILE "events.jsonl"
#define EVENTS_UNREAD ".unread" // behind the name of one that was moved aside
#define EVENTS_FILE_OLD "events.1.jsonl"

// Reads one line of a file, without its end. -EBADMSG when it is no event. event_done() frees it.
int event_decode(const char *line, size_t len, struct event *ret_event);
// The line, without its end; `data` is borrowed. NULL when out of memory.
char *event_encode(const struct event *event, json_t *data);

// Calls `each` for each event of a file, in order; it takes over what hangs on the event. What is no event, or has no higher number than the one before
// it, is left out. Returns how many bytes of whole lines there are: what is behind them is a torn line.
typedef void events_each(void *context, struct event *event);
size_t events_scan(const char *data, size_t len, uint64_t *last_id, events_each *each, void *context);

struct events_file {
	struct env *env;
	struct env_root *root;
	struct env_file *file; // NULL: opened by the next write
	uint64_t size;
	uint64_t synced_ns;
	bool unsynced;
	bool kept;	// something of the present file is durable
	bool worthless; // nothing is, and its sync failed
	bool unread; // a file could not be read: its numbers are not known
};
// Both files, older first; a torn line at the end of the newer one is cut off. Files that are not there are none; one that cannot be read is renamed
// (EVENTS_UNREAD), and `unread` is set: nothing that was not read is ever cut off.
void events_file_open(struct events_file *file, struct env *env, struct env_root *root, events_each *each, void *context);
// Appends whole lines, each with its end. After an error nothing of them counts, and the next write begins another file.
int events_file_write(struct events_file *file, const char *lines, size_t len);
int events_file_sync(struct events_file *file, bool now); // now, or when EVENTS_SYNC_SECONDS are over
void events_file_close(struct events_file *file);

#endif
