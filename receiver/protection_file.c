// SPDX-License-Identifier: Apache-2.0
#include "receiver/protection_file.h"

#include "receiver/json_file.h"

#include <errno.h>
#include <string.h>

#define FORMAT "kagami-protection"
enum { VERSION = 1 };

static json_t *disk_encode(const struct wire_disk *disk)
{
	json_t *object = json_object();
	if (json_object_set_new(object, "name", json_string(disk->name)) ||
	    json_object_set_new(object, "size", json_new_u64(disk->size))) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static json_t *disks_encode(const struct protection *p)
{
	json_t *disks = json_array();
	for (unsigned i = 0; i < p->disk_count; i++)
		if (json_array_append_new(disks, disk_encode(&p->disk[i]))) {
			json_decref(disks);
			return NULL;
		}
	return disks;
}

// What lets a fence be taken back: there while it may be, and so not in files of before there was such a thing.
static int undo_encode(json_t *object, const struct protection *p)
{
	if (!p->fenced || protection_fence_final(p))
		return 0;
	if (json_object_set_new(object, "generation_before", json_new_uuid(&p->generation_before)))
		return -ENOMEM;
	return p->rollback_in_ms ? json_object_set_new(object, "rollback_in_ms", json_new_u64(p->rollback_in_ms)) : 0;
}

static json_t *retention_encode(const struct retention *policy)
{
	char keep[RETENTION_TEXT_SIZE];
	retention_format(policy, keep);
	json_t *object = json_object();
	if (json_object_set_new(object, "points", json_new_u64(policy->points)) ||
	    json_object_set_new(object, "floor_hours", json_new_u64(policy->floor_hours)) ||
	    json_object_set_new(object, "keep", json_string(keep))) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static int doubt_encode(json_t *object, const struct protection *p)
{
	if (!p->doubt.disks)
		return 0;
	json_t *doubt = json_object(), *names = json_array();
	int rc = json_object_set_new(doubt, "disks", names) || json_object_set_new(doubt, "id", json_new_uuid(&p->doubt.doubt));
	for (unsigned i = 0; rc == 0 && i < p->disk_count; i++)
		if (p->doubt.disks >> i & 1)
			rc = json_array_append_new(names, json_string(p->disk[i].name));
	if (rc == 0)
		return json_object_set_new(object, "doubt", doubt);
	json_decref(doubt);
	return -ENOMEM;
}

int protection_encode(const struct protection *p, char **ret_text, size_t *ret_len)
{
	AUTO_JSON json_t *object = json_object();
	if (json_object_set_new(object, "name", json_string(p->name)) ||
	    json_object_set_new(object, "protection", json_new_uuid(&p->id)) ||
	    json_object_set_new(object, "generation", json_new_uuid(&p->generation)) ||
	    json_object_set_new(object, "owner", json_new_hex(p->owner_pin, OWNER_PIN_SIZE)) ||
	    json_object_set_new(object, "fenced", json_boolean(p->fenced)) ||
	    json_object_set_new(object, "fenced_point", json_new_u64(p->fenced_point)) || undo_encode(object, p) ||
	    (p->quota_bytes && json_object_set_new(object, "quota_bytes", json_new_u64(p->quota_bytes))) ||
	    json_object_set_new(object, "rpo_ms", json_new_u64(p->rpo_ms)) ||
	    json_object_set_new(object, "points_keep", json_new_u64(p->points_keep)) ||
	    json_object_set_new(object, "digest_kind", json_new_u64(p->digest.kind)) ||
	    json_object_set_new(object, "digest_secret", json_new_hex(p->digest.secret, DIGEST_SECRET_SIZE)) ||
	    json_object_set_new(object, "disks", disks_encode(p)))
		return -ENOMEM;
	if (doubt_encode(object, p) || (p->unprotected_wall_ns && json_object_set_new(object, "unprotected_ns", json_integer(p->unprotected_wall_ns))))
		return -ENOMEM;
	if (p->retention_set && json_object_set_new(object, "retention", retention_encode(&p->retention)))
		return -ENOMEM;
	return json_file_encode(object, FORMAT, VERSION, ret_text, ret_len);
}

int protection_disk(const struct protection *p, const char *name)
{
	for (unsigned i = 0; i < p->disk_count; i++)
		if (strcmp(p->disk[i].name, name) == 0)
			return (int)i;
	return -ENOENT;
}

static int disks_decode(const json_t *object, struct protection *p, struct err *err)
{
	const json_t *disks;
	int rc = json_get_array(object, "disks", 1, DISKS_MAX, &disks, err);
	for (size_t i = 0; rc == 0 && i < json_array_size(disks); i++) {
		const json_t *disk = json_array_get(disks, i);
		struct wire_disk *to = &p->disk[i];
		rc = json_get_name(disk, "name", to->name, err);
		if (rc == 0)
			rc = json_get_u64(disk, "size", 1, DISK_SIZE_MAX, &to->size, err);
		if (rc == 0 && (!size_disk_ok(to->size) || protection_disk(p, to->name) >= 0))
			rc = err_set(err, -EBADMSG, "disks: a size that no disk has, or a name twice");
		p->disk_count = (uint16_t)(i + 1);
	}
	return rc;
}

// Absent while nothing is in doubt. After the disks.
static int doubt_decode(const json_t *object, struct protection *p, struct err *err)
{
	const json_t *doubt = json_object_get(object, "doubt"), *names;
	if (!doubt)
		return 0;
	int rc = json_get_uuid(doubt, "id", &p->doubt.doubt, err);
	if (rc == 0)
		rc = json_get_array(doubt, "disks", 1, p->disk_count, &names, err);
	for (size_t i = 0; rc == 0 && i < json_array_size(names); i++) {
		const char *name = json_string_value(json_array_get(names, i));
		int disk = name ? protection_disk(p, name) : -ENOENT;
		if (disk < 0 || p->doubt.disks >> disk & 1)
			rc = err_set(err, -EBADMSG, "disks: not one of this protection, or named twice");
		else
			p->doubt.disks |= UINT64_C(1) << disk;
	}
	if (rc == 0 && uuid_is_zero(&p->doubt.doubt))
		rc = err_set(err, -EBADMSG, "id: null");
	return rc ? err_wrap(err, "doubt") : 0;
}

// Absent but after a goodbye.
static int goodbye_decode(const json_t *object, struct protection *p, struct err *err)
{
	if (!json_object_get(object, "unprotected_ns"))
		return 0;
	int rc = json_get_ns(object, "unprotected_ns", &p->unprotected_wall_ns, err);
	return rc == 0 && p->unprotected_wall_ns < 1 ? err_set(err, -EBADMSG, "unprotected_ns: out of its limits") : rc;
}

static int undo_decode(const json_t *object, struct protection *p, struct err *err)
{
	int rc = 0;
	if (json_object_get(object, "generation_before"))
		rc = json_get_uuid(object, "generation_before", &p->generation_before, err);
	if (rc == 0 && json_object_get(object, "rollback_in_ms"))
		rc = json_get_u64(object, "rollback_in_ms", 1, INT64_MAX, &p->rollback_in_ms, err);
	if (rc)
		return rc;
	bool undo = !uuid_is_zero(&p->generation_before);
	if (undo && (!p->fenced || uuid_equal(&p->generation_before, &p->generation)))
		return err_set(err, -EBADMSG, "generation_before: does not go with fenced and generation");
	if (p->rollback_in_ms && !undo)
		return err_set(err, -EBADMSG, "rollback_in_ms: without generation_before");
	return 0;
}

// What may write, and until when.
static int rights_decode(const json_t *object, struct protection *p, struct err *err)
{
	int rc = json_get_hex(object, "owner", p->owner_pin, OWNER_PIN_SIZE, err);
	if (rc == 0)
		rc = json_get_bool(object, "fenced", &p->fenced, err);
	if (rc == 0)
		rc = json_get_u64(object, "fenced_point", 0, INT64_MAX, &p->fenced_point, err);
	if (rc == 0 && p->fenced != (p->fenced_point != 0))
		rc = err_set(err, -EBADMSG, "fenced_point: does not go with fenced");
	return rc ? rc : undo_decode(object, p, err);
}

struct retention protection_retention(const struct protection *p)
{
	if (p->retention_set)
		return p->retention;
	return (struct retention){.points = p->points_keep, .floor_hours = RETENTION_FLOOR_HOURS};
}

// Absent until an operator sets it.
static int retention_decode(const json_t *object, struct protection *p, struct err *err)
{
	const json_t *policy = json_object_get(object, "retention");
	char keep[RETENTION_TEXT_SIZE];
	uint64_t points = 0, floor_hours = 0;
	if (!policy)
		return 0;
	int rc = json_get_u64(policy, "points", 1, RETENTION_KEEP_MAX, &points, err);
	if (rc == 0)
		rc = json_get_u64(policy, "floor_hours", 0, RETENTION_KEEP_MAX, &floor_hours, err);
	if (rc == 0)
		rc = json_get_text(policy, "keep", keep, sizeof(keep), err);
	p->retention = (struct retention){.points = (uint32_t)points, .floor_hours = (uint32_t)floor_hours};
	if (rc == 0 && (retention_read(keep, &p->retention, err) || retention_check(&p->retention, err)))
		rc = err_set(err, -EBADMSG, "retention: not a policy that this receiver would have written");
	p->retention_set = rc == 0;
	return rc ? err_wrap(err, "retention") : 0;
}

static int digest_key_decode(const json_t *object, struct digest_key *key, struct err *err)
{
	uint64_t kind = 0;
	int rc = json_get_u64(object, "digest_kind", DIGEST_XXH3, DIGEST_BLAKE2B, &kind, err);
	key->kind = (enum digest_kind)kind;
	return rc ? rc : json_get_hex(object, "digest_secret", key->secret, DIGEST_SECRET_SIZE, err);
}

int protection_decode(const char *text, size_t len, struct protection *ret_protection, struct err *err)
{
	AUTO_JSON json_t *object = NULL;
	struct protection p = {.disk_count = 0};
	uint64_t keep = 0;
	int rc = json_file_decode(text, len, FORMAT, VERSION, &object, err);
	if (rc == 0)
		rc = json_get_name(object, "name", p.name, err);
	if (rc == 0)
		rc = json_get_uuid(object, "protection", &p.id, err);
	if (rc == 0)
		rc = json_get_uuid(object, "generation", &p.generation, err);
	if (rc == 0)
		rc = rights_decode(object, &p, err);
	if (rc == 0)
		rc = json_get_u64(object, "rpo_ms", 0, INT64_MAX, &p.rpo_ms, err);
	if (rc == 0 && json_object_get(object, "quota_bytes"))
		rc = json_get_u64(object, "quota_bytes", 1, INT64_MAX, &p.quota_bytes, err);
	if (rc == 0)
		rc = json_get_u64(object, "points_keep", 1, STORE_POINTS_MAX, &keep, err);
	if (rc == 0)
		rc = retention_decode(object, &p, err);
	if (rc == 0)
		rc = digest_key_decode(object, &p.digest, err);
	if (rc == 0)
		rc = disks_decode(object, &p, err);
	if (rc == 0)
		rc = doubt_decode(object, &p, err);
	if (rc == 0)
		rc = goodbye_decode(object, &p, err);
	if (rc)
		return rc;
	p.points_keep = (uint32_t)keep;
	*ret_protection = p;
	return 0;
}
