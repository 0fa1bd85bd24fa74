// SPDX-License-Identifier: Apache-2.0
// Pins: points that the operator keeps. Format of pins.json: docs/store.md. What it promises: a pin that was answered holds through every
// crash until it is taken back, and one that cannot be read is not forgotten in silence: the file has a copy, and where both are lost every point
// that was there then is kept, until the operator has said which. Where both are whole and differ, which no crash leaves and an older file that was put back does,
// a point is pinned that either names.
#include "receiver/replica.h"

#include "base/log.h"
#include "link/events.h"
#include "receiver/copies.h"
#include "receiver/json_file.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define FORMAT "kagami-pins"
enum { VERSION = 1, VERSION_LOST = 2 }; // of a file with `lost`, which whoever does not know it must not pass over

struct pin_entry {
	uint64_t number;
	int64_t pinned_wall_ns;
	char text[POINT_PIN_SIZE];
};

// --- the file ---

static json_t *pin_encode(const struct point_info *point)
{
	json_t *object = json_object();
	if (json_object_set_new(object, "point", json_new_u64(point->number)) ||
	    json_object_set_new(object, "pinned_ns", json_integer(point->pinned_wall_ns)) ||
	    json_object_set_new(object, "text", json_string(point->pin_text))) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static int pins_encode(const struct replica *r, char **ret_text, size_t *ret_len)
{
	AUTO_JSON json_t *object = json_object();
	json_t *pins = json_array();
	if (json_object_set_new(object, "pins", pins))
		return -ENOMEM;
	for (size_t i = 0; i < r->point_count; i++)
		if (r->points[i].pinned && json_array_append_new(pins, pin_encode(&r->points[i])))
			return -ENOMEM;
	if (r->pins_lost && json_object_set_new(object, "lost", json_new_u64(r->pins_lost)))
		return -ENOMEM;
	return json_file_encode(object, FORMAT, r->pins_lost ? VERSION_LOST : VERSION, ret_text, ret_len);
}

static int pin_decode(const json_t *object, struct pin_entry *pin, struct err *err)
{
	int rc = json_get_u64(object, "point", 1, INT64_MAX, &pin->number, err);
	if (rc == 0)
		rc = json_get_ns(object, "pinned_ns", &pin->pinned_wall_ns, err);
	return rc ? rc : json_get_text(object, "text", pin->text, sizeof(pin->text), err);
}

static void pin_take(struct replica *r, const struct pin_entry *pin)
{
	struct point_info *point = replica_point(r, pin->number);
	if (!point)
		return;
	point->pinned = true;
	point->pinned_wall_ns = pin->pinned_wall_ns;
	memcpy(point->pin_text, pin->text, sizeof(point->pin_text));
}

static int pins_decode(struct replica *r, const char *text, size_t len, struct err *err)
{
	AUTO_JSON json_t *object = NULL;
	const json_t *pins;
	int rc = json_file_decode(text, len, FORMAT, VERSION_LOST, &object, err);
	if (rc == 0)
		rc = json_get_array(object, "pins", 0, POINT_PINS_MAX, &pins, err);
	if (rc == 0 && json_object_get(object, "lost"))
		rc = json_get_u64(object, "lost", 1, INT64_MAX, &r->pins_lost, err);
	for (size_t i = 0; rc == 0 && i < json_array_size(pins); i++) {
		struct pin_entry pin;
		rc = pin_decode(json_array_get(pins, i), &pin, err);
		if (rc == 0)
			pin_take(r, &pin);
	}
	return rc;
}

static int pins_read(struct replica *r, const char *path, struct err *err)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int rc = env_read_file(r->root, path, JSON_FILE_MAX, &text, &len);
	if (rc)
		return err_sys(err, rc, "%s", path);
	rc = pins_decode(r, text, len, err);
	return rc ? err_wrap(err, "%s", path) : 0;
}

// Whether there ever were pins, of a replica that has neither the file nor its copy: what was found damaged is kept.
static bool were_there(const struct replica *r)
{
	char path[REPLICA_PATH_SIZE];
	struct env_stat st;
	replica_file(r, path, "pins.json.damaged");
	return env_stat(r->root, path, &st) != -ENOENT;
}

// Neither of the two says anything. What the disk does not give back may come back, and is given up after some looks.
static int pins_lose(struct replica *r, int file, int copy, struct err *err)
{
	if (file == -ENOENT && copy == -ENOENT && !were_there(r))
		return 0;
	if ((file == -EIO || copy == -EIO) && r->unread_looks <= STALL_TRIES)
		return err_set(err, -EIO, "%s/pins.json: it cannot be read, nor can its copy", r->name);
	r->pins_lost = replica_last_point(r);
	log_error("pins are lost, every point that is there is kept protection=%s last=%llu", r->name, (unsigned long long)r->pins_lost);
	return 0;
}

// The file was read. A copy that is there says the same, unless somebody put one of the two back.
static void copy_join(struct replica *r, const char *path, const char *copy_path)
{
	struct copies_state state;
	copies_state(r->root, path, &state);
	if (state.copy || state.alike || pins_read(r, copy_path, NULL))
		return;
	r->pins_apart = true;
	log_warning("pins.json and its copy differ, and what either says is pinned is kept protection=%s", r->name);
}

int pins_load(struct replica *r, struct err *err)
{
	char path[REPLICA_PATH_SIZE], copy_path[REPLICA_PATH_SIZE];
	struct err why = {0};
	replica_file(r, path, "pins.json");
	replica_file(r, copy_path, "pins.json" COPY_SUFFIX);
	r->pins_lost = 0;
	r->pins_apart = false;
	int rc = pins_read(r, path, &why);
	if (rc == 0) {
		copy_join(r, path, copy_path);
		return 0;
	}
	if (!copies_stand_in(r->root, path, rc))
		return err_set(err, rc, "%s", why.text);
	int copy = pins_read(r, copy_path, &why);
	if (copy == 0)
		return 0;
	if (!copies_stand_in(r->root, copy_path, copy))
		return err_set(err, copy, "%s", why.text);
	return pins_lose(r, rc, copy, err);
}

bool pins_keep(const struct replica *r, const struct point_info *point)
{
	return point->pinned || point->number <= r->pins_lost;
}

bool pins_known(const struct replica *r)
{
	for (size_t i = 0; i < r->point_count; i++)
		if (pins_keep(r, &r->points[i]))
			return true;
	return false;
}

int pins_rejoin(struct replica *r, bool *ret_wrote)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	char path[REPLICA_PATH_SIZE];
	replica_file(r, path, "pins.json");
	*ret_wrote = false;
	int rc = pins_encode(r, &text, &len);
	if (rc == 0)
		rc = copies_rejoin(r->root, r->name, path, text, len);
	if (rc)
		return rc;
	*ret_wrote = true;
	r->pins_apart = false;
	event_emit(EVENT_WARNING, "damage", r->name, NULL,
		   "%s and its copy differed: an older one was put back; every point that either names is pinned (kagami points %s lists them), unpin those that are not to stay", path, r->name);
	return 0;
}

int pins_write(struct replica *r, bool *ret_changed)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	char path[REPLICA_PATH_SIZE];
	struct copies_state state;
	if (r->pins_apart)
		return pins_rejoin(r, ret_changed);
	replica_file(r, path, "pins.json");
	*ret_changed = false;
	int rc = pins_encode(r, &text, &len);
	if (rc)
		return rc;
	copies_state(r->root, path, &state);
	if (state.file && state.copy)
		rc = copies_aside(r->root, path);
	return rc ? rc : copies_replace(r->root, r->name, path, text, len, ret_changed);
}

static int pins_save(struct replica *r, struct err *err)
{
	struct err why = {0};
	bool changed = false;
	int rc = pins_write(r, &changed);
	if (rc)
		copies_look(r); // where it is changed it counts without a copy, which the keeper makes
	if (rc == 0 || changed)
		return 0;
	if (no_space(rc))
		return err_sys(err, -ENOSPC, "the store %s is full: free space there; %s/pins.json", r->store_path, r->name);
	err_sys(&why, rc, "%s/pins.json: replace", r->name); // which of the two is on disk is not known
	return replica_break(r, &why, err);
}

// --- what the operator asks ---

static int point_find(struct replica *r, uint64_t number, struct point_info **ret_point, struct err *err)
{
	if (r->broken)
		return replica_ready(r, err);
	return replica_point_asked(r, number, ret_point, err);
}

static size_t pins_count(const struct replica *r)
{
	size_t count = 0;
	for (size_t i = 0; i < r->point_count; i++)
		count += r->points[i].pinned;
	return count;
}

// Makes the pin of a point durable as `pin` says, or leaves it as it was.
static int pin_change(struct replica *r, struct point_info *point, bool pinned, const struct pin_entry *pin, struct err *err)
{
	const struct point_info was = *point;
	point->pinned = pinned;
	r->retain_all = true;
	point->pinned_wall_ns = pin->pinned_wall_ns;
	memcpy(point->pin_text, pin->text, sizeof(point->pin_text));
	int rc = pins_save(r, err);
	if (rc)
		*point = was;
	return rc;
}

int replica_pin(struct replica *r, uint64_t number, const char *text, struct err *err)
{
	bool was;
	char old[POINT_PIN_SIZE];
	return replica_pin_again(r, number, text, &was, old, err);
}

int replica_pin_again(struct replica *r, uint64_t number, const char *text, bool *ret_was, char ret_old[POINT_PIN_SIZE], struct err *err)
{
	LOCK_SCOPE(&r->lock);
	struct point_info *point = NULL;
	struct pin_entry pin = {.pinned_wall_ns = env_wall_ns(r->root->env)};
	int rc = point_find(r, number, &point, err);
	if (rc)
		return rc;
	assert(point);
	if (strlen(text) >= POINT_PIN_SIZE)
		return err_set(err, -EINVAL, "the text of a pin has at most %d bytes", POINT_PIN_SIZE - 1);
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < ' ')
			return err_set(err, -EINVAL, "the text of a pin is one line without control characters");
	if (!point->pinned && pins_count(r) >= POINT_PINS_MAX)
		return err_set(err, -EBUSY, "%s has %d pins, the most there may be: 'kagami unpin' one first", r->name, POINT_PINS_MAX);
	memcpy(pin.text, text, strlen(text));
	*ret_was = point->pinned;
	memcpy(ret_old, point->pin_text, POINT_PIN_SIZE);
	return pin_change(r, point, true, &pin, err);
}

// Also of a point that is not pinned: the file is written again, because an earlier sync of it may have failed.
int replica_unpin(struct replica *r, uint64_t number, struct err *err)
{
	bool was;
	return replica_unpin_again(r, number, &was, err);
}

int replica_unpin_again(struct replica *r, uint64_t number, bool *ret_was, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	struct point_info *point = NULL;
	const struct pin_entry none = {.number = 0};
	int rc = point_find(r, number, &point, err);
	assert(rc || point);
	if (rc == 0 && !point->pinned && pins_keep(r, point))
		return err_set(err, -EBUSY, "point %llu of %s is kept because the pins were lost: pin what is to stay, and let go of the others with 'kagami unpin %s --lost'",
			       (unsigned long long)number, r->name, r->name);
	if (rc)
		return rc;
	*ret_was = point->pinned;
	return pin_change(r, point, false, &none, err);
}

int replica_unpin_lost(struct replica *r, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	const uint64_t was = r->pins_lost;
	if (r->broken)
		return replica_ready(r, err);
	if (was == 0)
		return err_set(err, -ENOENT, "no pins of %s were lost; 'kagami points %s' shows those that there are", r->name, r->name);
	r->pins_lost = 0;
	r->retain_all = true;
	int rc = pins_save(r, err);
	if (rc)
		r->pins_lost = was;
	return rc;
}
