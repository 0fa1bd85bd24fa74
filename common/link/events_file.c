// SPDX-License-Identifier: Apache-2.0
#include "link/events_file.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// --- lines ---

char *event_encode(const struct event *event, json_t *data)
{
	json_t *protection = event->protection[0] ? json_string(event->protection) : json_null();
	json_t *json = json_pack("{s:I, s:o, s:I, s:s, s:s, s:o, s:o, s:O}", "id", (json_int_t)event->id, "when", json_when(event->wall_ns), "when_ns",
				 (json_int_t)event->wall_ns, "class", event->class, "severity", event_severity_name(event->severity), "protection", protection,
				 "text", json_text(event->text), "data", data);
	char *line = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	return line;
}

static int severity_read(const char *name, enum event_severity *ret_severity)
{
	for (unsigned i = 0; i < EVENT_SEVERITIES; i++)
		if (strcmp(name, event_severity_name((enum event_severity)i)) == 0) {
			*ret_severity = (enum event_severity)i;
			return 0;
		}
	return -EBADMSG;
}

static int members_read(json_t *json, struct event *event, const char **ret_text)
{
	const char *class = NULL, *severity = NULL, *protection = NULL;
	json_int_t id = 0, wall_ns = 0;
	json_t *data = NULL;
	if (json_unpack(json, "{s:I, s:I, s:s, s:s, s?:s, s:s, s:o}", "id", &id, "when_ns", &wall_ns, "class", &class, "severity", &severity, "protection",
			&protection, "text", ret_text, "data", &data))
		return -EBADMSG;
	if (id < 1 || wall_ns < 0 || !event_class_ok(class) || severity_read(severity, &event->severity) || (protection && !name_ok(protection)) ||
	    strlen(*ret_text) >= EVENT_TEXT_SIZE || !json_is_object(data))
		return -EBADMSG;
	event->id = (uint64_t)id;
	event->wall_ns = wall_ns;
	(void)snprintf(event->class, sizeof(event->class), "%s", class);
	(void)snprintf(event->protection, sizeof(event->protection), "%s", protection ? protection : "");
	return 0;
}

int event_decode(const char *line, size_t len, struct event *ret_event)
{
	struct event event = {.id = 0};
	const char *text = NULL;
	json_t *json = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json)
		return -EBADMSG;
	json_t *protection = json_object_get(json, "protection");
	if (json_is_null(protection)) // a member that may be absent, as jansson has it
		(void)json_object_del(json, "protection");
	int rc = members_read(json, &event, &text);
	if (rc == 0) {
		event.text = strdup(text);
		event.json = event.text ? event_encode(&event, json_object_get(json, "data")) : NULL;
		rc = event.json ? 0 : -ENOMEM;
	}
	json_decref(json);
	if (rc)
		event_done(&event);
	else
		*ret_event = event;
	return rc;
}

size_t events_scan(const char *data, size_t len, uint64_t *last_id, events_each *each, void *context)
{
	size_t whole = 0;
	for (const char *end; whole < len && (end = memchr(data + whole, '\n', len - whole)); whole = (size_t)(end - data) + 1) {
		struct event event;
		if (event_decode(data + whole, (size_t)(end - data) - whole, &event))
			continue;
		if (event.id <= *last_id) {
			event_done(&event);
			continue;
		}
		*last_id = event.id;
		each(context, &event);
	}
	return whole;
}

// --- files ---

static int file_read(struct events_file *f, const char *name, uint64_t *last_id, events_each *each, void *context, size_t *ret_whole)
{
	AUTO_FREE char *data = NULL;
	size_t len = 0;
	int rc = env_read_file(f->root, name, 2 * EVENTS_FILE_MAX, &data, &len);
	*ret_whole = rc ? 0 : events_scan(data, len, last_id, each, context);
	return rc == -ENOENT ? 0 : rc;
}

// One that could only not be read is no worse for that: it is kept beside, until another one is.
static void file_aside(struct events_file *f, const char *name, const char *aside, int why)
{
	int rc = env_rename(f->root, name, aside);
	log_warning("a file of events cannot be read, and is kept aside file=%s as=%s reason=\"%s\"", name, rc ? "(not moved)" : aside, strerror(-why));
	f->unread = true;
}

void events_file_open(struct events_file *f, struct env *env, struct env_root *root, events_each *each, void *context)
{
	uint64_t last_id = 0, size = 0;
	size_t whole = 0;
	*f = (struct events_file){.env = env, .root = root};
	int rc = file_read(f, EVENTS_FILE_OLD, &last_id, each, context, &whole);
	if (rc)
		file_aside(f, EVENTS_FILE_OLD, EVENTS_FILE_OLD EVENTS_UNREAD, rc);
	rc = file_read(f, EVENTS_FILE, &last_id, each, context, &whole);
	if (rc)
		file_aside(f, EVENTS_FILE, EVENTS_FILE EVENTS_UNREAD, rc);
	if (rc || env_open(root, EVENTS_FILE, ENV_WRITE, &f->file))
		return;
	f->size = whole;
	f->kept = whole > 0;
	f->synced_ns = env_mono_ns(env);
	if (env_size(f->file, &size) || (size != whole && env_truncate(f->file, whole)))
		events_file_close(f); // the first write begins another one
}

// What was the newer file is the older one; a file that is to be written begins. One whose first sync failed does not take the older one's place.
static int file_begin(struct events_file *f)
{
	events_file_close(f);
	int rc = f->worthless ? env_unlink(f->root, EVENTS_FILE) : env_rename(f->root, EVENTS_FILE, EVENTS_FILE_OLD);
	if (rc == 0 || rc == -ENOENT)
		f->kept = f->worthless = false;
	if (rc == 0 || rc == -ENOENT)
		rc = env_open(f->root, EVENTS_FILE, ENV_CREATE, &f->file);
	f->size = 0;
	f->synced_ns = env_mono_ns(f->env);
	return rc;
}

int events_file_write(struct events_file *f, const char *lines, size_t len)
{
	int rc = f->file && f->size + len <= EVENTS_FILE_MAX ? 0 : file_begin(f);
	if (rc == 0)
		rc = env_pwrite(f->file, lines, len, f->size);
	if (rc) {
		if (f->file && env_truncate(f->file, f->size)) // what came of it does not count
			events_file_close(f);
		return rc;
	}
	f->size += len;
	f->unsynced = true;
	return 0;
}

int events_file_sync(struct events_file *f, bool now)
{
	uint64_t mono_ns = env_mono_ns(f->env);
	if (!f->file || !f->unsynced || (!now && mono_ns - f->synced_ns < EVENTS_SYNC_SECONDS * UINT64_C(1000000000)))
		return 0;
	int rc = env_sync(f->file);
	if (rc == 0)
		rc = env_sync_dir(f->root, ".");
	f->synced_ns = mono_ns;
	f->unsynced = false;
	f->worthless = rc && !f->kept;
	f->kept = f->kept || rc == 0;
	if (rc)
		events_file_close(f);
	return rc;
}

void events_file_close(struct events_file *f)
{
	env_close(f->file);
	f->file = NULL;
}
