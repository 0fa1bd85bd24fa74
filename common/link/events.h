// SPDX-License-Identifier: Apache-2.0
// What an operator may want to be told: numbered events, in memory and in two bounded files. Classes and places: docs/rpo.md, "Events".
//
//	events_open()          the newest of an earlier run are there again; a thread writes from now on
//	events_set_default()   event_emit() and events_get() mean this one
//	events_wake()          whoever waits returns, and none waits any more: before the control server is stopped
//	events_close()         what is left is written
//
// Emitting takes a lock for as long as a copy takes, and never waits for a disk: it may be called under any lock of a daemon.
#ifndef KAGAMI_LINK_EVENTS_H
#define KAGAMI_LINK_EVENTS_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"
#include "link/control.h"

enum {
	EVENTS_MAX = 10000,	    // in memory; older ones are forgotten
	EVENTS_ANSWER_MAX = 1000,   // in one answer
	EVENTS_WAIT_MS_MAX = 30000, // of one request
	EVENT_CLASS_SIZE = 20,
	EVENT_TEXT_SIZE = 512,
};

enum event_severity { EVENT_INFO, EVENT_WARNING, EVENT_CRITICAL, EVENT_SEVERITIES };
const char *event_severity_name(enum event_severity severity);

// The classes, all of them: docs/rpo.md says when each comes.
extern const char *const event_classes[];
extern const unsigned event_class_count;
bool event_class_ok(const char *name);

struct event {
	uint64_t id; // from 1, rising by 1
	int64_t wall_ns;
	enum event_severity severity;
	char class[EVENT_CLASS_SIZE];
	char protection[NAME_SIZE]; // "" for none
	char *text;		    // one line without control characters
	char *json;		    // all of it, as GET /v1/events and the file have it, on one line
};
void event_done(struct event *event); // frees what hangs on it

struct event_filter {
	uint64_t since;		// events with a higher number
	const char *protection; // NULL: any
	const char *class;	// NULL: any
	bool (*wanted)(void *context, const struct event *event); // NULL: any
	void *context;
};

struct events;
// Files events.jsonl and events.1.jsonl below `root`, which stays the caller's. A line that is torn or damaged is left out.
int events_open(struct env *env, struct env_root *root, struct events **ret_events, struct err *err);
void events_wake(struct events *events); // takes NULL
void events_close(struct events *events); // takes NULL

// `data`: a JSON object, which is taken over, or NULL.
void events_emit(struct events *events, enum event_severity severity, const char *class, const char *protection, json_t *data, const char *fmt, ...)
	__attribute__((format(printf, 6, 7)));
// A copy of the oldest event that fits, waited for at most so long. 1, or 0: there is none. After events_wake() it does not wait.
int events_next(struct events *events, const struct event_filter *filter, unsigned wait_ms, struct event *ret_event);
uint64_t events_lost(struct events *events, uint64_t since); // how many after number `since` are forgotten by now
uint64_t events_newest(struct events *events); // its number; 0 without one
uint64_t events_before(struct events *events); // the newest of an earlier run; 0 without one
uint64_t events_count(struct events *events, const char *class); // emitted since this process began
// {"events": [...], "next": id}: the oldest that fit, or with `last` the newest so many, oldest first. NULL when out of memory.
json_t *events_json(struct events *events, const struct event_filter *filter, unsigned last, unsigned wait_ms);

// Of the process, as log.h is; nothing happens, and there are none, while there is no default.
void events_set_default(struct events *events);
struct events *events_default(void);
void event_emit(enum event_severity severity, const char *class, const char *protection, json_t *data, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
control_handler events_get; // GET /v1/events?since=&wait_ms=&protection=&class=&newest=; any context

#endif
