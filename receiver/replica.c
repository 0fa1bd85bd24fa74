// SPDX-License-Identifier: Apache-2.0
// A replica's life, what it tells about itself, and holds. What it promises: a hold that was answered stands; a broken
// replica writes nothing more.
#include "receiver/replica.h"

#include "base/log.h"
#include "link/events.h"
#include "receiver/copies.h"
#include "receiver/scrub.h"
#include "receiver/json_file.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct replica *replica_new(struct env_root *root, const char *store_path, const char *name)
{
	struct replica *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->root = root;
	r->store_path = store_path;
	r->retain_all = true;
	(void)snprintf(r->name, sizeof(r->name), "%s", name);
	(void)pthread_mutex_init(&r->recovery_lock, NULL);
	(void)pthread_mutex_init(&r->retain_lock, NULL);
	(void)pthread_mutex_init(&r->lock, NULL);
	return r;
}

void replica_free(struct replica *r)
{
	if (!r)
		return;
	head_close(r);
	for (unsigned i = 0; i < DISKS_MAX; i++)
		table_done(&r->state[i]);
	codec_free(r->unpacker);
	free(r->block);
	free(r->pieces);
	free(r->points);
	free(r->merged);
	free(r->held);
	(void)pthread_mutex_destroy(&r->lock);
	(void)pthread_mutex_destroy(&r->retain_lock);
	(void)pthread_mutex_destroy(&r->recovery_lock);
	free(r);
}

pthread_mutex_t *replica_recovery_lock(struct replica *r)
{
	return &r->recovery_lock;
}

static void file_name(const struct replica *r, char path[REPLICA_PATH_SIZE], const char *fmt, va_list args)
{
	int front = snprintf(path, REPLICA_PATH_SIZE, "%s/", r->name);
	int rest = vsnprintf(path + front, (size_t)(REPLICA_PATH_SIZE - front), fmt, args);
	assert(rest >= 0 && front + rest < REPLICA_PATH_SIZE); // names have at most 63 bytes
}

void replica_file(const struct replica *r, char path[REPLICA_PATH_SIZE], const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	file_name(r, path, fmt, args);
	va_end(args);
}

int replica_open_file(const struct replica *r, enum env_open how, struct env_file **ret_file, struct err *err,
		      const char *fmt, ...)
{
	char path[REPLICA_PATH_SIZE];
	va_list args;
	va_start(args, fmt);
	file_name(r, path, fmt, args);
	va_end(args);
	int rc = env_open(r->root, path, how, ret_file);
	return rc ? err_sys(err, rc, "%s", path) : 0;
}

int replica_break(struct replica *r, const struct err *why, struct err *err)
{
	if (!r->broken || r->by_reading) { // the worse of the two stands
		r->broken = true;
		r->passing = r->by_reading = false;
		r->why = *why;
		log_error("replica is broken, its points stay readable protection=%s reason=\"%s\"", r->name, why->text);
		event_emit(EVENT_CRITICAL, "state", r->name, NULL, "the replica %s is broken, its points stay readable: %s", r->name, why->text);
	}
	return err_set(err, -EIO, "replica %s is broken (%s); start the receiver again to find out what is on disk", r->name,
		       r->why.text);
}

int replica_ready(const struct replica *r, struct err *err)
{
	struct err why;
	int rc = replica_broken(r, &why);
	if (rc)
		return err_set(err, rc, "%.340s%s", why.text, r->passing || r->gone ? "" : "; " WIRE_SEE_LOG);
	if (r->prot.fenced)
		return err_set(err, -ESTALE, "%s was failed over to point %llu: this side is no longer the source", r->name,
			       (unsigned long long)r->prot.fenced_point);
	return 0;
}

int replica_save(struct replica *r, const struct protection *next, struct err *err)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	char path[REPLICA_PATH_SIZE];
	struct err why = {0};
	bool changed = false;
	int rc = protection_encode(next, &text, &len);
	if (rc)
		return err_sys(err, rc, "%s: protection.json", r->name);
	replica_file(r, path, "protection.json");
	rc = copies_replace(r->root, r->name, path, text, len, &changed);
	if (rc && changed) { // it counts without a copy, which the keeper makes
		copies_look(r);
		rc = 0;
	}
	if (no_space(rc)) {
		copies_look(r);
		return err_sys(err, -ENOSPC, "the target's store %s is full: free space there; %s", r->store_path, path);
	}
	if (rc) { // which of the two is on disk is not known
		err_sys(&why, rc, "%s: replace", path);
		return replica_break(r, &why, err);
	}
	for (unsigned i = 0; i < r->prot.disk_count; i++) // not the names: a fold reads them without the lock, and they never change
		r->prot.disk[i].size = next->disk[i].size;
	r->prot.generation = next->generation;
	r->prot.fenced = next->fenced;
	r->prot.fenced_point = next->fenced_point;
	r->prot.generation_before = next->generation_before;
	r->prot.rollback_in_ms = next->rollback_in_ms;
	r->prot.rpo_ms = next->rpo_ms;
	r->prot.points_keep = next->points_keep;
	r->prot.quota_bytes = next->quota_bytes;
	r->prot.retention_set = next->retention_set;
	r->prot.retention = next->retention;
	r->prot.doubt = next->doubt;
	r->prot.unprotected_wall_ns = next->unprotected_wall_ns;
	r->prot_certain = true;
	return 0;
}

uint64_t replica_last_point(const struct replica *r)
{
	return r->point_count ? r->points[r->point_count - 1].number : 0;
}

uint64_t replica_waits_for(const struct replica *r)
{
	bool few = r->limited == LIMITED_NOT && retain_surplus(r) < RETENTION_LATE_POINTS; // where space is short, each counts
	return r->prot.fenced || few ? 0 : retain_held(r);
}

struct digest_disk replica_disk(const struct replica *r, unsigned disk)
{
	return (struct digest_disk){.kind = r->prot.digest.kind, .number = (uint16_t)disk, .size = r->prot.disk[disk].size,
				    .given_up = atomic_load(&r->digests_given_up)};
}

size_t replica_point_from(const struct replica *r, uint64_t number)
{
	size_t low = 0, high = r->point_count; // numbers rise, with gaps where retention took some
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (r->points[mid].number < number)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct point_info *replica_point(struct replica *r, uint64_t number)
{
	size_t at = replica_point_from(r, number);
	return at < r->point_count && r->points[at].number == number ? &r->points[at] : NULL;
}

static int point_load(const struct replica *r, uint64_t number, const char *path, struct point_file *ret_point, struct err *err)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int rc = env_read_file(r->root, path, JSON_FILE_MAX, &text, &len);
	if (rc) {
		(void)err_sys(err, rc, "%s", path);
		return rc;
	}
	rc = point_decode(text, len, &r->prot, ret_point, err);
	if (rc) {
		(void)err_wrap(err, "%s", path);
		return rc;
	}
	if (ret_point->info.number != number)
		return err_set(err, -EBADMSG, "%s: number: it is another point's", path);
	return 0;
}

int replica_read_point(const struct replica *r, uint64_t number, struct point_file *ret_point, struct err *err)
{
	char path[REPLICA_PATH_SIZE], copy[REPLICA_PATH_SIZE];
	struct err first = {0}, why;
	replica_file(r, path, "points/%llu/point.json", (unsigned long long)number);
	int rc = point_load(r, number, path, ret_point, &first);
	if (rc == 0)
		return 0;
	why = first;
	if (copies_stand_in(r->root, path, rc)) {
		replica_file(r, copy, "points/%llu/point.json" COPY_SUFFIX, (unsigned long long)number);
		if (point_load(r, number, copy, ret_point, NULL) == 0) {
			copies_look(r);
			return 0;
		}
		if (rc != -EIO && rc != -ENOENT) // those may pass: a disk that is away, a point that retention took
			rc = err_set(&why, rc, "%.200s; nor is its copy whole: the points below it can be used; then move the directory %s/%s away, and the source sends "
				       "everything anew", first.text, r->store_path, r->name);
	}
	if (err)
		*err = why;
	return rc;
}

void replica_info(struct replica *r, struct replica_info *ret_info)
{
	LOCK_SCOPE(&r->lock);
	const struct point_info *last = r->point_count ? &r->points[r->point_count - 1] : NULL;
	struct replica_info info = {
		.protection = r->prot.id,
		.generation = r->prot.generation,
		.fenced = r->prot.fenced,
		.fenced_point = r->prot.fenced_point,
		.fence_final = protection_fence_final(&r->prot),
		.rollback_in_ms = replica_rollback_in_ms(r),
		.broken = r->broken,
		.rollback_barred = r->broken && !r->by_reading,
		.mend_in_ms = mend_in_ms(r),
		.rpo_ms = r->prot.rpo_ms,
		.points_keep = r->prot.points_keep,
		.retention_set = r->prot.retention_set,
		.retention = protection_retention(&r->prot),
		.disk_count = r->prot.disk_count,
		.last_point = last ? last->number : 0,
		.point_count = r->point_count,
		.last_cut_wall_ns = last ? last->cut_wall_ns : 0,
		.head = r->head.uuid,
		.head_bytes = head_bytes(r),
		.head_blocks = head_blocks(r),
		.session_open = r->session_open || r->opening,
		.reopen = r->reopen,
		.adopting = r->adopting,
		.used_bytes = replica_used_bytes(r),
		.quota_bytes = r->prot.quota_bytes,
		.limited = r->limited,
		.pins_lost = r->pins_lost,
		.retention_waits_for = replica_waits_for(r),
		.held_unknown = held_unknown(r),
		.surplus = retain_surplus(r),
		.cannot_merge = r->cannot_merge,
		.doubted_disks = r->prot.doubt.disks,
		.unprotected_wall_ns = r->prot.unprotected_wall_ns,
	};
	for (unsigned i = 0; r->adopting && i < r->prot.disk_count; i++) {
		info.adopting_bytes += r->prot.disk[i].size;
		info.adopted_bytes += i < r->adopt_disk ? r->prot.disk[i].size : i == r->adopt_disk ? r->adopt_block * BLOCK_SIZE : 0;
	}
	if (last)
		info.last_cut = last->cut;
	memcpy(info.name, r->name, sizeof(info.name));
	memcpy(info.owner_pin, r->prot.owner_pin, sizeof(info.owner_pin));
	broken_reason(r, info.broken_reason);
	limits_text(r, r->limited, info.limited_reason, sizeof(info.limited_reason));
	stall_info(r, &info.stall);
	memcpy(info.disk, r->prot.disk, sizeof(info.disk));
	*ret_info = info;
}

bool replica_pulse(struct replica *r, struct replica_pulse *ret_pulse)
{
	if (pthread_mutex_trylock(&r->lock))
		return false;
	const struct point_info *last = r->point_count ? &r->points[r->point_count - 1] : NULL;
	*ret_pulse = (struct replica_pulse){
		.fenced = r->prot.fenced,
		.broken = r->broken,
		.limited = r->limited != LIMITED_NOT,
		.unprotected = r->prot.unprotected_wall_ns != 0,
		.last_point = last ? last->number : 0,
		.rpo_ms = r->prot.rpo_ms,
		.last_cut_wall_ns = last ? last->cut_wall_ns : 0,
	};
	(void)pthread_mutex_unlock(&r->lock);
	return true;
}

int replica_set_rpo(struct replica *r, uint64_t rpo_ms, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	uint64_t now_ns = env_mono_ns(r->root->env);
	rpo_ms = rpo_ms < INT64_MAX ? rpo_ms : INT64_MAX;
	if (r->broken || r->prot.rpo_ms == rpo_ms)
		return r->broken ? replica_ready(r, err) : 0;
	if (r->rpo_saved_ns && now_ns - r->rpo_saved_ns < RPO_SAVE_SECONDS * UINT64_C(1000000000))
		return 1;
	struct protection next = r->prot;
	next.rpo_ms = rpo_ms;
	r->rpo_saved_ns = now_ns;
	return replica_save(r, &next, err);
}

int replica_points(struct replica *r, struct point_info **ret_points, size_t *ret_count)
{
	LOCK_SCOPE(&r->lock);
	struct point_info *copy = calloc(r->point_count ? r->point_count : 1, sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	if (r->point_count)
		memcpy(copy, r->points, r->point_count * sizeof(*copy));
	*ret_points = copy;
	*ret_count = r->point_count;
	return 0;
}

int replica_point_path(struct replica *r, uint64_t number, const char *disk, char *path, size_t cap)
{
	LOCK_SCOPE(&r->lock);
	if (!replica_point(r, number) || (disk && protection_disk(&r->prot, disk) < 0))
		return -ENOENT;
	int len = snprintf(path, cap, "%s/%s/points/%llu%s%s%s", r->store_path, r->name, (unsigned long long)number,
			   disk ? "/" : "", disk ? disk : "", disk ? ".qcow2" : "");
	return len >= 0 && (size_t)len < cap ? 0 : -ENAMETOOLONG;
}

int replica_point_sizes(struct replica *r, uint64_t number, uint64_t ret_size[DISKS_MAX], struct err *err)
{
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	if (!point)
		return err_set(err, -ENOMEM, "out of memory");
	int rc = replica_read_point(r, number, point, err);
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++)
		ret_size[i] = point->disk[i].size;
	return rc;
}

static int hold(struct replica *r, uint64_t number, bool damaged, uint64_t *ret_number, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	struct point_info *point = NULL;
	int rc = replica_point_asked(r, number, &point, err);
	if (rc == 0 && !damaged)
		rc = point_sound(r, point->number, err);
	if (rc)
		return rc;
	point->holds++;
	*ret_number = point->number;
	return 0;
}

int replica_hold(struct replica *r, uint64_t number, uint64_t *ret_number, struct err *err)
{
	return hold(r, number, true, ret_number, err);
}

// An overlay that nobody stands on may be replaced by an empty one (overlays.c): whoever asks before it holds the point is told what was true then.
int replica_hold_sound(struct replica *r, uint64_t number, uint64_t *ret_number, struct err *err)
{
	return hold(r, number, false, ret_number, err);
}

uint64_t replica_rewrites(struct replica *r, uint64_t number)
{
	LOCK_SCOPE(&r->lock);
	const struct point_info *point = replica_point(r, number);
	return point ? point->rewrites : 0;
}

void replica_release(struct replica *r, uint64_t number)
{
	LOCK_SCOPE(&r->lock);
	struct point_info *point = replica_point(r, number);
	r->retain_all = true;
	if (!point) { // a hold keeps its point, except from the operator's removal of all
		(void)held_release(r, number);
		return;
	}
	assert(point->holds > 0);
	point->holds--;
}
