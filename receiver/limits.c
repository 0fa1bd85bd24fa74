// SPDX-License-Identifier: Apache-2.0
// What a protection may take of the disk, and what the store keeps free: docs/store.md, "Quota and reserve". What it promises: a head is
// stopped before the quota or the reserve is touched, and only the head; what was committed stays.
//
// Looked at when a head begins, for each LIMITS_STEP that it grows by, and when it is sealed: a look costs one statvfs and a
// sum over the points.
//
// That there is room again is said of what was short: bytes, where a limit of ours refused the head. Where the file system did, nobody knows what it was (bytes,
// inodes, a quota of its user), and only what it takes tells.
#include "receiver/replica.h"

#include "base/log.h"
#include "link/events.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MIB = 1 << 20, LIMITS_STEP = MIB };

uint64_t replica_used_bytes(const struct replica *r)
{
	uint64_t sum = r->base_bytes + r->base_kept + head_bytes(r);
	for (size_t i = 0; i < r->point_count; i++)
		sum += r->points[i].stored_bytes + r->points[i].damaged_bytes;
	return sum;
}

int replica_base_look(const struct replica *r, unsigned disk, uint64_t *sum, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	struct env_stat st;
	uint64_t size = r->prot.disk[disk].size;
	replica_file(r, path, "base/%s.raw", r->prot.disk[disk].name);
	int rc = env_stat(r->root, path, &st);
	if (rc && !mend_passes(rc))
		return err_set(err, rc, "%s: %s; all points stand on it: put that file back, or move the directory %s/%s away, and the source sends everything anew", path,
			       strerror(-rc), r->store_path, r->name);
	if (rc)
		return err_sys(err, rc, "%s", path);
	if (st.is_dir || st.size < size) // longer after a growth that was cut off: nothing refers to that
		return err_set(err, -EBADMSG, "%s: has %llu bytes, the disk has %llu", path, (unsigned long long)st.size, (unsigned long long)size);
	*sum += st.allocated;
	return 0;
}

int replica_base_count(struct replica *r, struct err *err)
{
	uint64_t sum = 0;
	int rc = 0;
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++)
		rc = replica_base_look(r, i, &sum, err);
	if (rc == 0)
		r->base_bytes = sum;
	return rc;
}

int replica_base_there(struct replica *r, struct err *err)
{
	struct err why = {0};
	return replica_base_count(r, &why) ? replica_break_passing(r, &why, err) : 0;
}

// Whether `more` bytes are over a limit. A file system that does not say what is free is not asked to keep a reserve.
static enum limited over(const struct replica *r, uint64_t more)
{
	uint64_t free_bytes = UINT64_MAX, used = replica_used_bytes(r), quota = r->prot.quota_bytes;
	if (quota && (used > quota || more > quota - used))
		return LIMITED_QUOTA;
	if (!r->reserve_bytes || env_space(r->root, &free_bytes))
		return LIMITED_NOT;
	uint64_t reserve = atomic_load(r->reserve_bytes);
	return reserve && (free_bytes < reserve || free_bytes - reserve < more) ? LIMITED_SPACE : LIMITED_NOT;
}

void limits_begin(struct replica *r, enum limited why, const char *what)
{
	if (r->limited == LIMITED_NOT) {
		log_warning("no new point: %s protection=%s used_bytes=%llu quota_bytes=%llu", what, r->name, (unsigned long long)replica_used_bytes(r),
			    (unsigned long long)r->prot.quota_bytes);
		event_emit(EVENT_WARNING, "space", r->name, NULL, "no new point of %s is taken: %s", r->name, what);
	}
	r->limited = why;
}

// The head is refused. How far it got is remembered: so much has to be there before the next one is begun, or a large one
// would fill the disk again and again and take it from the others. Half as much each time, for it may need less by then.
static int refuse(struct replica *r, enum limited why, struct err *err)
{
	struct err left = {0};
	uint64_t got = head_bytes(r);
	r->limits_got = max_u64(r->limits_got, got);
	got = got ? got : r->limits_wanted / 2;
	limits_begin(r, why, why == LIMITED_QUOTA ? "its quota is reached" : "the reserve of the store is reached");
	r->limits_past = 0;
	int kept = head_retreat(r, true, &left);
	if (kept < 0)
		return replica_break(r, &left, err);
	r->limits_wanted = kept ? 0 : got; // what is kept need not be taken again
	r->limits_next = 0;
	limits_text(r, why, left.text, sizeof(left.text));
	return err_set(err, why == LIMITED_QUOTA ? -EDQUOT : -ENOSPC, "%s", left.text);
}

void limits_full(struct replica *r, uint64_t got, bool seal, const struct err *why)
{
	char what[ERR_TEXT_MAX];
	(void)snprintf(what, sizeof(what), "the file system of the store takes no more (%.300s)", why->text);
	limits_begin(r, LIMITED_SPACE, what);
	r->limits_got = max_u64(r->limits_got, got);
	r->limits_past = seal ? UINT64_MAX : max_u64(r->limits_past, r->limits_got + LIMITS_STEP);
}

void limits_text(const struct replica *r, enum limited why, char *text, size_t cap)
{
	char next[80] = "";
	uint64_t held = replica_waits_for(r);
	const char *but = r->limits_past ? ": its file system takes no more (it may be bytes, inodes or a quota of its user that are short)" : ", but for its reserve";
	if (r->limits_got >= MIB && r->limits_got > head_bytes(r)) // what is kept of it counts as taken
		(void)snprintf(next, sizeof(next), ", and its next point needs more than %llu MiB", (unsigned long long)(r->limits_got / MIB));
	if (why == LIMITED_QUOTA)
		(void)snprintf(text, cap,
			       "quota reached: %s may take %llu MiB at the target, has %llu MiB%s; raise it there "
			       "(kagami limit %s --quota SIZE), or "
			       "keep fewer points",
			       r->name, (unsigned long long)r->prot.quota_bytes / MIB,
			       (unsigned long long)replica_used_bytes(r) / MIB, next, r->name);
	else if (why == LIMITED_SPACE && held)
		(void)snprintf(text, cap,
			       "the target's store %s is full%s: what %s keeps too much there waits for its point %llu, which a mount or a test holds "
			       "(`kagami mounts` and `kagami test list` show them there); it goes on by itself",
			       r->store_path, but, r->name, (unsigned long long)held);
	else if (why == LIMITED_SPACE)
		(void)snprintf(text, cap,
			       "the target's store %s is full%s: free space there, or forget a "
			       "replica that is not needed; it "
			       "goes on by itself",
			       r->store_path, but);
	else if (why == LIMITED_MEMORY)
		memory_text(r, text, cap);
	else
		text[0] = 0;
}

int limits_check(struct replica *r, bool seal, struct err *err)
{
	uint64_t head = head_bytes(r);
	int rc = seal ? 0 : memory_check(r, err);
	if (rc)
		return rc;
	if (!seal && head < r->limits_next)
		return 0;
	uint64_t more = (seal ? 0 : LIMITS_STEP) + (head ? 0 : r->limits_wanted);
	enum limited why = over(r, more);
	if (why != LIMITED_NOT)
		return refuse(r, why, err);
	r->limits_next = head + LIMITS_STEP;
	return 0;
}

static void limits_end(struct replica *r)
{
	if (r->limited != LIMITED_NOT) {
		log_info("there is room again protection=%s", r->name);
		event_emit(EVENT_INFO, "space", r->name, NULL, "there is room again for points of %s", r->name);
	}
	r->limited = LIMITED_NOT;
	r->limits_past = 0;
}

void limits_committed(struct replica *r)
{
	limits_end(r);
	r->limits_wanted = r->limits_got = r->memory_wanted = r->memory_got[BUDGET_POINTS] = r->memory_got[BUDGET_HEADS] = 0;
}

void limits_saved(struct replica *r)
{
	if (r->limits_past && head_bytes(r) >= r->limits_past)
		limits_end(r);
}

void limits_look(struct replica *r)
{
	if (r->limited == LIMITED_NOT || r->limits_past)
		return;
	if (r->limited == LIMITED_MEMORY ? memory_room(r) : over(r, LIMITS_STEP + max_u64(r->limits_got, r->limits_wanted)) == LIMITED_NOT)
		limits_end(r);
}

void limits_fenced(struct replica *r)
{
	r->limited = LIMITED_NOT;
	r->limits_wanted = r->limits_got = r->limits_past = r->memory_wanted = r->memory_got[BUDGET_POINTS] = r->memory_got[BUDGET_HEADS] = 0;
}

int replica_set_quota(struct replica *r, uint64_t quota_bytes, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	if (r->broken)
		return replica_ready(r, err);
	struct protection next = r->prot;
	next.quota_bytes = quota_bytes;
	int rc = replica_save(r, &next, err);
	if (rc == 0)
		r->limits_next = r->limits_wanted = 0; // what was learned of the old one
	return rc;
}
