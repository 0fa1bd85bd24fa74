// SPDX-License-Identifier: Apache-2.0
#include "receiver/scrub_file.h"

#include "base/size.h"
#include "receiver/json_file.h"

#include <errno.h>

#define FORMAT "kagami-scrub"
enum { VERSION = 1 };

// --- passes ---

static json_t *pass_encode(const struct scrub_pass *pass, const struct protection *protection)
{
	return json_pack("{s:o, s:o, s:b, s:I, s:s, s:o, s:o, s:o}", "point", json_new_u64(pass->point), "rate", json_new_u64(pass->rate),
			 "asked", (int)pass->asked, "began_ns", (json_int_t)pass->began_ns, "disk", protection->disk[pass->disk].name, "block",
			 json_new_u64(pass->block), "proven", json_new_u64(pass->proven), "mismatches", json_new_u64(pass->mismatches));
}

static int disk_decode(const json_t *object, const struct protection *protection, uint16_t *ret_disk, struct err *err)
{
	char name[NAME_SIZE];
	int rc = json_get_name(object, "disk", name, err);
	int disk = rc ? 0 : protection_disk(protection, name);
	if (disk < 0)
		return err_set(err, -EBADMSG, "disk: the protection has no %s", name);
	*ret_disk = (uint16_t)disk;
	return rc;
}

static int pass_decode(const json_t *object, const struct protection *protection, struct scrub_pass *pass, struct err *err)
{
	int rc = json_get_u64(object, "point", 0, INT64_MAX, &pass->point, err);
	if (rc == 0)
		rc = json_get_u64(object, "rate", 1, INT64_MAX, &pass->rate, err);
	pass->asked = json_is_true(json_object_get(object, "asked")); // not there before there were windows
	if (rc == 0)
		rc = json_get_ns(object, "began_ns", &pass->began_ns, err);
	if (rc == 0)
		rc = disk_decode(object, protection, &pass->disk, err);
	if (rc == 0)
		rc = json_get_u64(object, "block", 0, size_blocks(DISK_SIZE_MAX), &pass->block, err);
	if (rc == 0)
		rc = json_get_u64(object, "proven", 0, INT64_MAX, &pass->proven, err);
	return rc ? rc : json_get_u64(object, "mismatches", 0, INT64_MAX, &pass->mismatches, err);
}

// --- damage ---

static json_t *damage_encode(const struct damage_set *set, const struct protection *protection)
{
	json_t *array = json_array();
	for (unsigned i = 0; i < set->count; i++) {
		const struct damage *run = &set->run[i];
		json_t *to = run->to == DAMAGE_OPEN ? json_null() : json_new_u64(run->to);
		json_t *one = json_pack("{s:s, s:o, s:o, s:o, s:o}", "disk", protection->disk[run->disk].name, "block", json_new_u64(run->first),
					"count", json_new_u64(run->count), "from", json_new_u64(run->from), "to", to);
		if (json_array_append_new(array, one)) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static int run_decode(const json_t *object, const struct protection *protection, struct damage *run, struct err *err)
{
	const uint64_t most = size_blocks(DISK_SIZE_MAX);
	int rc = disk_decode(object, protection, &run->disk, err);
	if (rc == 0)
		rc = json_get_u64(object, "block", 0, most - 1, &run->first, err);
	if (rc == 0)
		rc = json_get_u64(object, "count", 1, most - run->first, &run->count, err);
	if (rc == 0)
		rc = json_get_u64(object, "from", 1, INT64_MAX, &run->from, err);
	run->to = DAMAGE_OPEN;
	if (rc == 0 && !json_is_null(json_object_get(object, "to")))
		rc = json_get_u64(object, "to", run->from, INT64_MAX, &run->to, err);
	return rc;
}

static int damage_decode(const json_t *object, const struct protection *protection, struct damage_set *set, struct err *err)
{
	const json_t *array;
	int rc = json_get_array(object, "damage", 0, DAMAGE_MAX, &array, err);
	for (size_t i = 0; rc == 0 && i < json_array_size(array); i++) {
		struct damage run = {.disk = 0};
		rc = run_decode(json_array_get(array, i), protection, &run, err);
		if (rc == 0)
			damage_add(set, &run);
	}
	return rc ? err_wrap(err, "damage") : 0;
}

// --- the file ---

int scrub_encode(const struct scrub_state *state, const struct protection *protection, char **ret_text, size_t *ret_len)
{
	AUTO_JSON json_t *object = json_object();
	if (json_object_set_new(object, "pass", state->open ? pass_encode(&state->pass, protection) : json_null()) ||
	    json_object_set_new(object, "last", state->ended ? pass_encode(&state->last, protection) : json_null()) ||
	    json_object_set_new(object, "ended_ns", json_integer(state->ended_ns)) ||
	    json_object_set_new(object, "suspect", json_boolean(state->suspect)) ||
	    json_object_set_new(object, "damage", damage_encode(&state->damage, protection)))
		return -ENOMEM;
	return json_file_encode(object, FORMAT, VERSION, ret_text, ret_len);
}

// A pass, or null.
static int pass_get(const json_t *object, const char *name, const struct protection *protection, bool *ret_there, struct scrub_pass *pass,
		    struct err *err)
{
	const json_t *value = json_object_get(object, name);
	*ret_there = json_is_object(value);
	if (!*ret_there && !json_is_null(value))
		return err_set(err, -EBADMSG, "%s: missing", name);
	return *ret_there && pass_decode(value, protection, pass, err) ? err_wrap(err, "%s", name) : 0;
}

int scrub_decode(const char *text, size_t len, const struct protection *protection, struct scrub_state *ret_state, struct err *err)
{
	AUTO_JSON json_t *object = NULL;
	struct scrub_state s = {.open = false};
	int rc = json_file_decode(text, len, FORMAT, VERSION, &object, err);
	if (rc == 0)
		rc = pass_get(object, "pass", protection, &s.open, &s.pass, err);
	if (rc == 0)
		rc = pass_get(object, "last", protection, &s.ended, &s.last, err);
	if (rc == 0)
		rc = json_get_ns(object, "ended_ns", &s.ended_ns, err);
	if (rc == 0)
		rc = json_get_bool(object, "suspect", &s.suspect, err);
	if (rc == 0)
		rc = damage_decode(object, protection, &s.damage, err);
	if (rc == 0)
		*ret_state = s;
	return rc;
}
