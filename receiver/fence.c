// SPDX-License-Identifier: Apache-2.0
// The fence of a failover, its being taken back, and its being made final: docs/store.md, "Fence" and "Roll back". What it
// promises: whenever failover/ is there, protection.json is fenced, and nobody can append; a fence that is final stays.
#include "receiver/replica.h"

#include "base/log.h"
#include "receiver/scrub.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { TICK_SAVE_MS = 60000 }; // so much of the time to a rollback may be counted twice after a restart

int replica_disks_left(const struct replica *r, const char *then, struct err *err)
{
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		char path[REPLICA_PATH_SIZE];
		struct env_stat st;
		replica_file(r, path, "failover/%s.qcow2", r->prot.disk[i].name);
		int rc = env_stat(r->root, path, &st);
		if (rc == 0)
			return err_set(err, -EEXIST, "%s: a disk of a failover, and %s is not failed over: see that no virtual machine uses it, move the directory out of the store, and %s",
				       path, r->name, then);
		if (rc != -ENOENT && rc != -ENOTDIR && rc != -ELOOP) // there is none behind what is no directory of ours
			return err_sys(err, rc, "%s", path);
	}
	return 0;
}

static int fence_new(struct replica *r, uint64_t number, struct err *err)
{
	struct protection next = r->prot;
	next.fenced = true;
	next.fenced_point = number;
	next.generation_before = r->prot.generation;
	next.rollback_in_ms = 0;
	int rc = uuid_new(r->root->env, &next.generation);
	return rc ? err_sys(err, rc, "%s: random", r->name) : replica_save(r, &next, err);
}

static int fence(struct replica *r, uint64_t number, bool damaged, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	if (number == 0) // decided here, where no commit can come between
		number = r->prot.fenced ? r->prot.fenced_point : replica_last_point(r);
	if (r->prot.fenced && r->prot.fenced_point == number) // found at start: perhaps from a fence whose sync failed
		return r->prot_certain ? 0 : replica_save(r, &r->prot, err);
	if (r->prot.fenced)
		return err_set(err, -EALREADY, "%s was failed over to point %llu already", r->name,
			       (unsigned long long)r->prot.fenced_point);
	struct point_info *point = NULL;
	int rc = replica_point_asked(r, number, &point, err);
	if (rc == 0 && !damaged)
		rc = point_sound(r, number, err);
	if (rc == 0)
		rc = replica_disks_left(r, "ask again", err); // it would be answered with them
	if (rc == 0)
		rc = fence_new(r, number, err);
	if (rc)
		return rc;
	log_info("replica is fenced: no delta is taken any more protection=%s point=%llu", r->name,
		 (unsigned long long)number);
	struct err why = {0};
	limits_fenced(r);
	if (head_drop(r, &why)) // the fence stands; the files go at the next start
		log_warning("cannot remove the head protection=%s reason=\"%s\"", r->name, why.text);
	return 0;
}

int replica_fence(struct replica *r, uint64_t number, struct err *err)
{
	return fence(r, number, true, err);
}

int replica_fence_sound(struct replica *r, uint64_t number, struct err *err)
{
	return fence(r, number, false, err);
}

// Whether there is a fence, on that point (0: on any).
static int fence_check(const struct replica *r, uint64_t number, struct err *err)
{
	if (!r->prot.fenced)
		return err_set(err, -ENOENT, "%s is not failed over", r->name);
	if (number && number != r->prot.fenced_point)
		return err_set(err, -EALREADY, "%s was failed over to point %llu, not %llu", r->name,
			       (unsigned long long)r->prot.fenced_point, (unsigned long long)number);
	return 0;
}

static int undo_check(const struct replica *r, uint64_t number, struct err *err)
{
	int rc = fence_check(r, number, err);
	if (rc == 0 && protection_fence_final(&r->prot))
		rc = err_set(err, -EPERM, "the failover of %s was committed: it cannot be taken back", r->name);
	return rc;
}

// --- taking it back ---

// Step 1: failover/ out of the way, for certain. What an earlier try moved is so by then, or the replica would be broken.
static int disks_move(struct replica *r, char trash[REPLICA_PATH_SIZE], struct err *err)
{
	char from[REPLICA_PATH_SIZE], dir[REPLICA_PATH_SIZE], text[UUID_TEXT_SIZE];
	struct uuid fresh;
	struct env_stat st;
	int rc = uuid_new(r->root->env, &fresh);
	if (rc)
		return err_sys(err, rc, "%s: random", r->name);
	uuid_format(&fresh, text);
	replica_file(r, from, "failover");
	replica_file(r, dir, "trash");
	replica_file(r, trash, "trash/failover.%s", text);
	if (env_stat(r->root, from, &st) == -ENOENT) // not made yet, or moved by a try that went no further
		return 0;
	rc = trash_make(r->root, r->name, dir, err);
	if (rc)
		return rc;
	rc = env_rename(r->root, from, trash); // -ENOENT too is a failure: it would be trash/ that is gone
	if (rc)
		return err_sys(err, rc, "%s: move to %s", from, dir);
	rc = env_sync_dir(r->root, dir);
	if (rc == 0)
		rc = env_sync_dir(r->root, r->name);
	struct err why = {0};
	return rc ? (err_sys(&why, rc, "%s: sync", dir), replica_break(r, &why, err)) : 0;
}

// Step 3. Cut to nothing first: a program that had one open, unseen, is to have nothing to boot from.
static void disks_delete(struct replica *r, const char *trash)
{
	char path[REPLICA_PATH_SIZE];
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		AUTO_FILE struct env_file *file = NULL;
		(void)snprintf(path, sizeof(path), "%.200s/%s.qcow2", trash, r->prot.disk[i].name);
		if (env_open(r->root, path, ENV_WRITE, &file) == 0)
			(void)env_truncate(file, 0);
	}
	int rc = env_remove_tree(r->root, trash);
	replica_file(r, path, "failover.new"); // what a try left half done
	if (rc == 0)
		rc = env_remove_tree(r->root, path);
	if (rc) // the next start removes it
		log_warning("cannot remove the disks of a failover that was taken back protection=%s errno=%d", r->name,
			    -rc);
}

// A replica that only cannot be read is written to by no other, and what a rollback writes does not rest on what could not be read. After a write that failed nobody knows
// what is on disk.
static int barred(const struct replica *r, struct err *err)
{
	return r->broken && !r->by_reading ? replica_ready(r, err) : 0;
}

int replica_unfence_ready(struct replica *r, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	return barred(r, err);
}

int replica_unfence_check(struct replica *r, uint64_t number, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = barred(r, err);
	return rc ? rc : undo_check(r, number, err);
}

// The source goes on from the newest point: so its name is certain first, which no start saw to while it was failed over (point_name.c).
static int newest_certain(struct replica *r, struct err *err)
{
	uint64_t unsure = 0;
	char points[REPLICA_PATH_SIZE];
	struct err why = {0};
	int rc = point_unsure(r, &unsure, err);
	if (rc || !unsure)
		return rc == -EBADMSG || rc == -ENOENT ? 0 : rc; // it is broken, and no source goes on
	replica_file(r, points, "points");
	rc = point_name_anew(r, unsure, &why);
	if (rc)
		return no_space(rc) ? replica_break_passing(r, &why, err) : replica_break(r, &why, err);
	rc = env_sync_dir(r->root, points);
	if (rc) {
		(void)err_sys(&why, rc, "%s: sync", points);
		return replica_break(r, &why, err);
	}
	head_saved_forget(r, unsure);
	return 0;
}

int replica_unfence(struct replica *r, uint64_t number, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	char trash[REPLICA_PATH_SIZE];
	int rc = barred(r, err);
	if (rc == 0)
		rc = undo_check(r, number, err);
	if (rc == 0)
		rc = newest_certain(r, err);
	if (rc == 0)
		rc = disks_move(r, trash, err);
	if (rc)
		return rc;
	struct protection next = r->prot;
	next.fenced = false;
	next.fenced_point = 0;
	next.generation = r->prot.generation_before;
	memset(&next.generation_before, 0, sizeof(next.generation_before));
	next.rollback_in_ms = 0;
	struct err why = {0};
	if (head_drop(r, &why)) // perhaps it could not be dropped at the fence: no session may take it for its own
		return replica_break(r, &why, err);
	rc = replica_save(r, &next, err); // step 2
	if (rc)
		return rc;
	log_info("the fence was taken back: the source may go on protection=%s last=%llu", r->name,
		 (unsigned long long)replica_last_point(r));
	disks_delete(r, trash);
	return 0;
}

static int commit_check(struct replica *r, uint64_t number, uint64_t *ret_point, uint64_t *ret_rollback_in_ms, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = barred(r, err); // it may not even be known whether there is a fence
	*ret_point = r->prot.fenced_point;
	*ret_rollback_in_ms = replica_rollback_in_ms(r);
	return rc ? rc : fence_check(r, number, err);
}

// Of disks that cannot be opened a rollback is what is left, and a commit would be the end of that.
static int commit_opens(struct replica *r, uint64_t number, struct err *err)
{
	char hurry[REPLICA_PATH_SIZE + 128] = "";
	struct err why = {.code = 0};
	uint64_t point = 0, rollback_in_ms = 0;
	int rc = commit_check(r, number, &point, &rollback_in_ms, err);
	if (rc)
		return rc;
	rc = replica_point_opens(r, point, &why);
	if (rc && rollback_in_ms)
		(void)snprintf(hurry, sizeof(hurry), ", and in %llu s it is taken back by itself, so copy what is in %.100s/%s/failover",
			       (unsigned long long)rollback_in_ms / 1000, r->store_path, r->name);
	return rc ? err_set(err, rc, "the failover of %s cannot be made final%s: %s", r->name, hurry, why.text) : 0;
}

int replica_fence_commit(struct replica *r, uint64_t number, struct err *err)
{
	int rc = commit_opens(r, number, err);
	LOCK_SCOPE(&r->lock);
	if (rc == 0)
		rc = fence_check(r, number, err);
	if (rc)
		return rc;
	if (protection_fence_final(&r->prot)) // found at start: perhaps from a commit whose sync failed
		return r->prot_certain ? 0 : replica_save(r, &r->prot, err);
	struct protection next = r->prot;
	memset(&next.generation_before, 0, sizeof(next.generation_before));
	next.rollback_in_ms = 0;
	rc = replica_save(r, &next, err);
	if (rc == 0)
		log_info("the failover is final protection=%s point=%llu", r->name,
			 (unsigned long long)r->prot.fenced_point);
	return rc;
}

// --- the time until it is taken back by itself ---

uint64_t replica_rollback_in_ms(const struct replica *r)
{
	uint64_t in_ms = r->prot.rollback_in_ms, passed_ms = r->rollback_passed_ms;
	return in_ms == 0 ? 0 : in_ms > passed_ms ? in_ms - passed_ms : 1; // 0 would say that there is no such time
}

static int timer_save(struct replica *r, uint64_t rollback_in_ms, struct err *err)
{
	struct protection next = r->prot;
	next.rollback_in_ms = rollback_in_ms;
	int rc = replica_save(r, &next, err);
	if (rc == 0)
		r->rollback_passed_ms = 0;
	return rc;
}

int replica_fence_timer(struct replica *r, uint64_t rollback_in_ms, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = barred(r, err);
	if (rc == 0)
		rc = undo_check(r, 0, err);
	return rc ? rc : timer_save(r, rollback_in_ms, err);
}

int replica_fence_tick(struct replica *r, uint64_t passed_ms, bool in_use, int64_t written_ns, bool *ret_due, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	*ret_due = false;
	if (!r->prot.fenced || r->prot.rollback_in_ms == 0)
		return 0;
	int rc = barred(r, err);
	if (rc)
		return rc;
	r->rollback_passed_ms += passed_ms;
	if (written_ns && written_ns != r->rollback_written_ns) { // by a program that is gone already
		r->rollback_written_ns = written_ns;
		in_use = true;
	}
	if (in_use) { // not due, then, and durable: a host that starts again has so much time to start its guests
		uint64_t spare_ms =
			r->prot.rollback_in_ms > ROLLBACK_GRACE_MS ? r->prot.rollback_in_ms - ROLLBACK_GRACE_MS : 0;
		r->rollback_passed_ms = min_u64(r->rollback_passed_ms, spare_ms);
		if (r->prot.rollback_in_ms < ROLLBACK_GRACE_MS)
			return timer_save(r, ROLLBACK_GRACE_MS, err);
	}
	*ret_due = r->rollback_passed_ms >= r->prot.rollback_in_ms;
	if (!*ret_due && r->rollback_passed_ms >= TICK_SAVE_MS)
		return timer_save(r, replica_rollback_in_ms(r), err);
	return 0;
}
