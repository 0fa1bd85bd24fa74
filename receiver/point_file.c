// SPDX-License-Identifier: Apache-2.0
#include "receiver/point_file.h"

#include "receiver/json_file.h"

#include <errno.h>
#include <string.h>

#define FORMAT "kagami-point"
enum { VERSION = 1 };

static json_t *disk_encode(const struct point_disk *disk, const struct wire_disk *of)
{
	json_t *object = json_object();
	if (json_object_set_new(object, "name", json_string(of->name)) ||
	    json_object_set_new(object, "size", json_new_u64(disk->size)) ||
	    json_object_set_new(object, "stored_bytes", json_new_u64(disk->stored_bytes)) ||
	    json_object_set_new(object, "digests", json_new_u64(disk->digests)) ||
	    json_object_set_new(object, "root", json_new_hex(disk->root, DIGEST_ROOT_SIZE))) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static json_t *disks_encode(const struct point_file *point, const struct protection *protection)
{
	json_t *disks = json_array();
	for (unsigned i = 0; i < protection->disk_count; i++)
		if (json_array_append_new(disks, disk_encode(&point->disk[i], &protection->disk[i]))) {
			json_decref(disks);
			return NULL;
		}
	return disks;
}

int point_encode(const struct point_file *point, const struct protection *protection, char **ret_text, size_t *ret_len)
{
	const struct point_info *p = &point->info;
	AUTO_JSON json_t *object = json_object();
	if (json_object_set_new(object, "number", json_new_u64(p->number)) ||
	    json_object_set_new(object, "predecessor", json_new_u64(point->predecessor)) ||
	    json_object_set_new(object, "cut_uuid", json_new_uuid(&p->cut)) ||
	    json_object_set_new(object, "cut_ns", json_integer(p->cut_wall_ns)) ||
	    json_object_set_new(object, "cut", json_new_time(p->cut_wall_ns)) ||
	    json_object_set_new(object, "commit_ns", json_integer(p->commit_wall_ns)) ||
	    json_object_set_new(object, "commit", json_new_time(p->commit_wall_ns)) ||
	    json_object_set_new(object, "consistency", json_string(point_consistency_name(p->consistency))) ||
	    json_object_set_new(object, "dirty_bytes", json_new_u64(p->dirty_bytes)) ||
	    json_object_set_new(object, "blocks_sent", json_new_u64(point->blocks_sent)) ||
	    json_object_set_new(object, "wire_bytes", json_new_u64(p->wire_bytes)) ||
	    json_object_set_new(object, "disks", disks_encode(point, protection)))
		return -ENOMEM;
	return json_file_encode(object, FORMAT, VERSION, ret_text, ret_len);
}

static int disk_decode(const json_t *object, const struct wire_disk *of, struct point_disk *disk, struct err *err)
{
	char name[NAME_SIZE];
	int rc = json_get_name(object, "name", name, err);
	if (rc == 0)
		rc = json_get_u64(object, "size", 1, DISK_SIZE_MAX, &disk->size, err);
	if (rc == 0 && (strcmp(name, of->name) != 0 || !size_disk_ok(disk->size)))
		rc = err_set(err, -EBADMSG, "disks: not those of the protection");
	if (rc == 0)
		rc = json_get_u64(object, "stored_bytes", 0, INT64_MAX / DISKS_MAX, &disk->stored_bytes, err);
	if (rc == 0)
		rc = json_get_u64(object, "digests", 0, size_blocks(disk->size), &disk->digests, err);
	return rc ? rc : json_get_hex(object, "root", disk->root, DIGEST_ROOT_SIZE, err);
}

static int disks_decode(const json_t *object, const struct protection *protection, struct point_file *point,
			struct err *err)
{
	const json_t *disks;
	int rc = json_get_array(object, "disks", protection->disk_count, protection->disk_count, &disks, err);
	for (unsigned i = 0; rc == 0 && i < protection->disk_count; i++) {
		rc = disk_decode(json_array_get(disks, i), &protection->disk[i], &point->disk[i], err);
		point->info.stored_bytes += point->disk[i].stored_bytes;
	}
	return rc;
}

static int consistency_decode(const json_t *object, enum point_consistency *ret_consistency, struct err *err)
{
	char text[32];
	int rc = json_get_text(object, "consistency", text, sizeof(text), err);
	if (rc)
		return rc;
	for (unsigned i = POINT_CRASH; i <= POINT_QUIESCED; i++)
		if (strcmp(text, point_consistency_name(i)) == 0) {
			*ret_consistency = (enum point_consistency)i;
			return 0;
		}
	return err_set(err, -EBADMSG, "consistency: unknown");
}

static int counts_decode(const json_t *object, struct point_file *point, struct err *err)
{
	int rc = json_get_u64(object, "dirty_bytes", 0, INT64_MAX, &point->info.dirty_bytes, err);
	if (rc == 0)
		rc = json_get_u64(object, "blocks_sent", 0, INT64_MAX, &point->blocks_sent, err);
	return rc ? rc : json_get_u64(object, "wire_bytes", 0, INT64_MAX, &point->info.wire_bytes, err);
}

int point_decode(const char *text, size_t len, const struct protection *protection, struct point_file *ret_point,
		 struct err *err)
{
	AUTO_JSON json_t *object = NULL;
	struct point_file p = {.predecessor = 0};
	int rc = json_file_decode(text, len, FORMAT, VERSION, &object, err);
	if (rc == 0)
		rc = json_get_u64(object, "number", 1, INT64_MAX, &p.info.number, err);
	if (rc == 0)
		rc = json_get_u64(object, "predecessor", 0, p.info.number - 1, &p.predecessor, err);
	if (rc == 0)
		rc = json_get_uuid(object, "cut_uuid", &p.info.cut, err);
	if (rc == 0)
		rc = json_get_ns(object, "cut_ns", &p.info.cut_wall_ns, err);
	if (rc == 0)
		rc = json_get_ns(object, "commit_ns", &p.info.commit_wall_ns, err);
	if (rc == 0)
		rc = consistency_decode(object, &p.info.consistency, err);
	if (rc == 0)
		rc = counts_decode(object, &p, err);
	if (rc == 0)
		rc = disks_decode(object, protection, &p, err);
	if (rc)
		return rc;
	*ret_point = p;
	return 0;
}
