// SPDX-License-Identifier: Apache-2.0
// Events in memory, and the thread that writes them. The emitter's part is a copy under a lock; what the disk takes, and how long, is the writer's
// matter: when it falls behind by more than EVENTS_MAX events, the oldest are never written, and the log says how many.
#include "link/events.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "link/events_file.h"
#include "link/json.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_BYTES = 64 << 10, EVENTS_UNREAD_IDS = 1 << 20 }; // no file has so many

const char *const event_classes[] = {
	"daemon", "state", "rpo-missed", "rpo-kept", "sync", "point", "damage", "space", "source-dark", "failover", "clock", "tracking", "settings", "alerts",
};
const unsigned event_class_count = sizeof(event_classes) / sizeof(event_classes[0]);
enum { CLASSES = sizeof(event_classes) / sizeof(event_classes[0]) };

struct events {
	struct env *env;
	struct events_file file; // the writer's own
	pthread_t writer;
	pthread_mutex_t lock;
	pthread_cond_t changed; // by the monotonic clock
	struct event *ring;	// event `id` at id % EVENTS_MAX
	uint64_t oldest, next;	// ids; equal: none
	uint64_t before;	// the newest of an earlier run
	uint64_t written;	// by the writer, or given up
	uint64_t emitted[CLASSES];
	bool awake, stop;
};

static _Atomic(struct events *) process_events;

const char *event_severity_name(enum event_severity severity)
{
	static const char *const names[] = {"info", "warning", "critical"};
	return names[severity];
}

static int class_index(const char *name)
{
	for (unsigned i = 0; i < CLASSES; i++)
		if (strcmp(event_classes[i], name) == 0)
			return (int)i;
	return -1;
}

bool event_class_ok(const char *name)
{
	return class_index(name) >= 0;
}

void event_done(struct event *event)
{
	free(event->text);
	free(event->json);
	event->text = event->json = NULL;
}

// --- the ring ---

// Takes over the event, whose id is the next one or, from a file, any higher one.
static void ring_put(struct events *e, struct event *event)
{
	if (e->next != event->id) { // a hole in the files: what is before it is not shown any more
		for (; e->oldest < e->next; e->oldest++)
			event_done(&e->ring[e->oldest % EVENTS_MAX]);
		e->oldest = event->id;
	}
	if (event->id - e->oldest == EVENTS_MAX)
		event_done(&e->ring[e->oldest++ % EVENTS_MAX]);
	e->ring[event->id % EVENTS_MAX] = *event;
	e->next = event->id + 1;
}

// So many numbers are nobody's.
static void ring_skip(struct events *e, uint64_t count)
{
	for (; e->oldest < e->next; e->oldest++)
		event_done(&e->ring[e->oldest % EVENTS_MAX]);
	e->oldest = e->next += count;
}

static void from_file(void *context, struct event *event)
{
	ring_put(context, event);
}

static void plain_text(char *text)
{
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
}

static void emit(struct events *e, enum event_severity severity, const char *class, const char *protection, json_t *data, const char *text)
{
	struct event event = {.wall_ns = env_wall_ns(e->env), .severity = severity, .text = strdup(text)};
	int index = class_index(class);
	assert(index >= 0);
	if (!data)
		data = json_object();
	(void)snprintf(event.class, sizeof(event.class), "%s", class);
	(void)snprintf(event.protection, sizeof(event.protection), "%s", protection ? protection : "");
	if (event.wall_ns < 0)
		event.wall_ns = 0;
	if (event.text)
		plain_text(event.text);
	LOCK_SCOPE(&e->lock);
	event.id = e->next;
	event.json = event.text && data ? event_encode(&event, data) : NULL;
	json_decref(data);
	if (!event.json) { // out of memory: the log had it
		event_done(&event);
		return;
	}
	ring_put(e, &event);
	e->emitted[index]++;
	(void)pthread_cond_broadcast(&e->changed);
}

void events_emit(struct events *e, enum event_severity severity, const char *class, const char *protection, json_t *data, const char *fmt, ...)
{
	char text[EVENT_TEXT_SIZE];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	emit(e, severity, class, protection, data, text);
}

void event_emit(enum event_severity severity, const char *class, const char *protection, json_t *data, const char *fmt, ...)
{
	struct events *e = events_default();
	char text[EVENT_TEXT_SIZE];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (e)
		emit(e, severity, class, protection, data, text);
	else
		json_decref(data);
}

void events_set_default(struct events *e)
{
	atomic_store(&process_events, e);
}

struct events *events_default(void)
{
	return atomic_load(&process_events);
}

// --- reading ---

static bool fits(const struct event *event, const struct event_filter *filter)
{
	return (!filter->protection || strcmp(event->protection, filter->protection) == 0) && (!filter->class || strcmp(event->class, filter->class) == 0) &&
	       (!filter->wanted || filter->wanted(filter->context, event));
}

// The first event from `id` on that fits; `next` when there is none.
static uint64_t find(const struct events *e, uint64_t id, const struct event_filter *filter)
{
	if (id < e->oldest)
		id = e->oldest;
	while (id < e->next && !fits(&e->ring[id % EVENTS_MAX], filter))
		id++;
	return id;
}

// Waits, with the lock held, until there is an event that fits; returns its id, or `next`.
static uint64_t find_wait(struct events *e, const struct event_filter *filter, unsigned wait_ms)
{
	struct timespec until = clock_mono_after(wait_ms * UINT64_C(1000000));
	// A number above the newest is of files that were lost since: everything is told.
	uint64_t id = filter->since >= e->next ? (filter->since == e->next - 1 ? e->next : e->oldest) : filter->since + 1;
	for (;;) {
		id = find(e, id, filter);
		if (id < e->next || e->awake || wait_ms == 0 || pthread_cond_timedwait(&e->changed, &e->lock, &until))
			return id;
	}
}

static int event_copy(const struct event *from, struct event *to)
{
	*to = *from;
	to->text = strdup(from->text);
	to->json = strdup(from->json);
	if (to->text && to->json)
		return 1;
	event_done(to);
	return 0;
}

int events_next(struct events *e, const struct event_filter *filter, unsigned wait_ms, struct event *ret_event)
{
	LOCK_SCOPE(&e->lock);
	uint64_t id = find_wait(e, filter, wait_ms);
	return id < e->next ? event_copy(&e->ring[id % EVENTS_MAX], ret_event) : 0;
}

uint64_t events_lost(struct events *e, uint64_t since)
{
	LOCK_SCOPE(&e->lock);
	return since < e->next && e->oldest > since + 1 ? e->oldest - since - 1 : 0;
}

uint64_t events_newest(struct events *e)
{
	LOCK_SCOPE(&e->lock);
	return e->next - 1;
}

uint64_t events_before(struct events *e)
{
	return e->before;
}

uint64_t events_count(struct events *e, const char *class)
{
	LOCK_SCOPE(&e->lock);
	int index = class_index(class);
	return index >= 0 ? e->emitted[index] : 0;
}

// The newest `last` that fit begin here.
static uint64_t find_last(const struct events *e, uint64_t from, const struct event_filter *filter, unsigned last)
{
	uint64_t begin = e->next, id = begin;
	for (unsigned found = 0; id > from && id > e->oldest && found < last; id--)
		if (fits(&e->ring[(id - 1) % EVENTS_MAX], filter)) {
			begin = id - 1;
			found++;
		}
	return begin;
}

// Copies of the events of an answer, so that they are made JSON without the lock.
struct answer {
	char *json[EVENTS_ANSWER_MAX];
	size_t count;
	uint64_t next;
};

static void answer_take(struct events *e, const struct event_filter *filter, unsigned last, unsigned wait_ms, struct answer *answer)
{
	LOCK_SCOPE(&e->lock);
	uint64_t id = find_wait(e, filter, wait_ms);
	answer->next = e->next - 1;
	if (last && id < e->next)
		id = find_last(e, id, filter, last);
	for (; id < e->next; id = find(e, id + 1, filter)) {
		if (answer->count == EVENTS_ANSWER_MAX) {
			answer->next = id - 1;
			return;
		}
		answer->json[answer->count++] = strdup(e->ring[id % EVENTS_MAX].json);
	}
}

json_t *events_json(struct events *e, const struct event_filter *filter, unsigned last, unsigned wait_ms)
{
	AUTO_FREE struct answer *answer = calloc(1, sizeof(*answer));
	json_t *list = answer ? json_array() : NULL;
	bool whole = list != NULL;
	if (answer)
		answer_take(e, filter, last, wait_ms, answer);
	for (size_t i = 0; answer && i < answer->count; i++) {
		json_t *json = answer->json[i] ? json_loads(answer->json[i], 0, NULL) : NULL;
		free(answer->json[i]);
		(void)json_object_del(json, "when_ns"); // is of the file
		whole = whole && json_array_append_new(list, json) == 0;
	}
	if (!whole) {
		json_decref(list);
		return NULL;
	}
	return json_pack("{s:o, s:o}", "events", list, "next", json_count(answer->next));
}

static int query_number(const struct control_request *request, const char *name, uint64_t most, uint64_t *number, struct err *err)
{
	const char *text = request->query(request, name);
	char *end = NULL;
	if (!text)
		return 0;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno)
		return err_set(err, -EINVAL, "%s=%.40s: give a number", name, text);
	*number = value < most ? value : most;
	return 0;
}

static unsigned class_unknown(json_t **ret_body)
{
	char all[320];
	size_t at = (size_t)snprintf(all, sizeof(all), "class: there is none of this name: one of ");
	for (unsigned i = 0; i < CLASSES && at < sizeof(all); i++)
		at += (size_t)snprintf(all + at, sizeof(all) - at, "%s%s", i ? ", " : "", event_classes[i]);
	return control_fail(ret_body, -EINVAL, all);
}

unsigned events_get(void *context, const struct control_request *request, json_t **ret_body)
{
	struct err err = {.code = 0};
	struct event_filter filter = {.since = 0};
	struct events *e = events_default();
	uint64_t last = 0, wait_ms = 0;
	(void)context;
	if (control_read(request->body, NULL, 0, &err) || query_number(request, "since", UINT64_MAX - 1, &filter.since, &err) ||
	    query_number(request, "newest", EVENTS_ANSWER_MAX, &last, &err) || query_number(request, "wait_ms", EVENTS_WAIT_MS_MAX, &wait_ms, &err))
		return control_fail(ret_body, err.code, err.text);
	filter.protection = request->query(request, "protection");
	filter.class = request->query(request, "class");
	if (filter.class && !event_class_ok(filter.class))
		return class_unknown(ret_body);
	if (!e)
		return control_fail(ret_body, -ENOENT, "there are no events here");
	*ret_body = events_json(e, &filter, (unsigned)last, (unsigned)wait_ms);
	return *ret_body ? 200 : control_fail(ret_body, -ENOMEM, "out of memory");
}

// --- writing ---

struct batch {
	char *lines;
	size_t len;
	uint64_t first, upto; // ids that are in it, up to but not
	bool critical;
};

// Copies what is not written yet, up to a bound; with the lock held.
static void batch_take(struct events *e, struct batch *b)
{
	uint64_t lost = e->written + 1 < e->oldest ? e->oldest - e->written - 1 : 0;
	if (lost)
		log_error("events were not written: the state directory is too slow count=%llu", (unsigned long long)lost);
	*b = (struct batch){.first = e->written + 1 + lost};
	b->upto = b->first;
	while (b->upto < e->next) {
		const struct event *event = &e->ring[b->upto % EVENTS_MAX];
		size_t len = strlen(event->json);
		char *more = b->len && b->len + len > BATCH_BYTES ? NULL : realloc(b->lines, b->len + len + 1);
		if (!more)
			break;
		b->lines = more;
		memcpy(more + b->len, event->json, len);
		more[b->len + len] = '\n';
		b->len += len + 1;
		b->critical |= event->severity == EVENT_CRITICAL;
		b->upto++;
	}
	e->written = b->upto - 1;
}

static void batch_write(struct events *e, struct batch *b, bool *failing)
{
	int rc = b->len ? events_file_write(&e->file, b->lines, b->len) : 0;
	if (rc == 0)
		rc = events_file_sync(&e->file, b->critical);
	if (rc && !*failing)
		log_error("events cannot be written, and are in memory only: %s", strerrordesc_np(-rc));
	else if (rc == 0 && b->len && *failing)
		log_info("events are written again");
	*failing = rc != 0 || (*failing && !b->len); // where there was nothing to be written, nobody knows
	free(b->lines);
}

static void *writer_thread(void *context)
{
	struct events *e = context;
	bool failing = false, more = true;
	while (more) {
		struct batch batch;
		{
			LOCK_SCOPE(&e->lock);
			while (e->written + 1 >= e->next && !e->stop) {
				struct timespec until = clock_mono_after(EVENTS_SYNC_SECONDS * UINT64_C(1000000000));
				if (pthread_cond_timedwait(&e->changed, &e->lock, &until))
					break; // what is not synced yet may be
			}
			batch_take(e, &batch);
			more = !e->stop || e->written + 1 < e->next;
		}
		batch_write(e, &batch, &failing);
	}
	(void)events_file_sync(&e->file, true);
	return NULL;
}

// --- life ---

static void events_free(struct events *e)
{
	events_file_close(&e->file);
	for (; e->oldest < e->next; e->oldest++)
		event_done(&e->ring[e->oldest % EVENTS_MAX]);
	(void)pthread_cond_destroy(&e->changed);
	(void)pthread_mutex_destroy(&e->lock);
	free(e->ring);
	free(e);
}

int events_open(struct env *env, struct env_root *root, struct events **ret_events, struct err *err)
{
	struct events *e = calloc(1, sizeof(*e));
	if (!e)
		return err_sys(err, -ENOMEM, "open the events");
	e->env = env;
	e->oldest = e->next = 1;
	(void)pthread_mutex_init(&e->lock, NULL);
	thread_condition_init(&e->changed);
	e->ring = calloc(EVENTS_MAX, sizeof(*e->ring));
	int rc = e->ring ? 0 : -ENOMEM;
	if (rc == 0) {
		events_file_open(&e->file, env, root, from_file, e);
		if (e->file.unread) // numbers rise: above any that it may have
			ring_skip(e, EVENTS_UNREAD_IDS);
		e->written = e->before = e->next - 1;
		rc = -pthread_create(&e->writer, NULL, writer_thread, e);
	}
	if (rc) {
		events_free(e);
		return err_sys(err, rc, "open the events");
	}
	*ret_events = e;
	return 0;
}

void events_wake(struct events *e)
{
	if (!e)
		return;
	LOCK_SCOPE(&e->lock);
	e->awake = true;
	(void)pthread_cond_broadcast(&e->changed);
}

void events_close(struct events *e)
{
	if (!e)
		return;
	{
		LOCK_SCOPE(&e->lock);
		e->awake = e->stop = true;
		(void)pthread_cond_broadcast(&e->changed);
	}
	(void)pthread_join(e->writer, NULL);
	events_free(e);
}
