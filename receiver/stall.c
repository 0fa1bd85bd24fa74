// SPDX-License-Identifier: Apache-2.0
// Retention that cannot go on: why, and when it is tried again. Docs/store.md, "Retention that cannot go on".
//
//	goes on ──step fails──► stalled ──STALL_MIN_S, twice as long each time, at most STALL_MAX_S──► tried again
//	   ▲────step done, or nothing to do─────┘
//
// Folds and merges have this each by themselves: a fold that waits keeps no merge from being done, and no merge that was done ends its wait.
//
// What it promises: a failure is logged once, told by the status for as long as it lasts, and costs nobody else time. A want of space is
// asked after at each round instead, which is cheap, so that retention goes on when space returns.
#include "receiver/replica.h"

#include "base/log.h"
#include "base/size.h"
#include "link/events.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { STALL_MIN_S = 60, STALL_MAX_S = 3600, STALL_MARGIN = 1 << 20 };
#define NS_PER_S UINT64_C(1000000000)

const char *stall_cause_name(enum stall_cause cause)
{
	static const char *const names[] = {[STALL_SPACE] = "no-space", [STALL_IO] = "io-error", [STALL_LACK] = "short-of-memory", [STALL_OTHER] = "failed"};
	return names[cause];
}

bool stall_waits(const struct replica *r, enum stall_of of)
{
	return r->stall[of].failures && env_mono_ns(r->root->env) < r->stall[of].until_ns;
}

bool stall_leaves_out(const struct replica *r, enum stall_of of, int rc)
{
	return rc == -EIO && r->stall[of].failures >= STALL_TRIES;
}

static enum stall_cause cause_of(int code)
{
	switch (code) {
	case 0: return STALL_NOT;
	case -ENOSPC: return STALL_SPACE;
	case -EIO: return STALL_IO;
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE: return STALL_LACK;
	default: return STALL_OTHER;
	}
}

void stall_info(const struct replica *r, struct stall_info *ret_info)
{
	uint64_t now = env_mono_ns(r->root->env);
	const struct stall *stall = &r->stall[r->stall[STALL_OF_FOLDS].why.code ? STALL_OF_FOLDS : STALL_OF_MERGES];
	*ret_info = (struct stall_info){.cause = cause_of(stall->why.code), .failures = stall->failures};
	if (ret_info->cause != STALL_NOT && ret_info->cause != STALL_SPACE)
		ret_info->again_in_ms = stall->until_ns > now ? (stall->until_ns - now) / 1000000 + 1 : 1;
	memcpy(ret_info->reason, stall->why.text, sizeof(ret_info->reason));
}

static void stall_begin(struct replica *r, enum stall_of of, const struct err *why)
{
	struct stall *stall = &r->stall[of];
	bool space = why->code == -ENOSPC;
	uint64_t wait_s = STALL_MIN_S;
	for (unsigned i = 0; i < stall->failures && wait_s < STALL_MAX_S; i++)
		wait_s *= 2;
	if (stall->why.code != why->code) {
		log_warning("retention cannot go on protection=%s: %s", r->name, why->text);
		event_emit(EVENT_WARNING, "space", r->name, NULL, "retention of %s cannot go on: %s", r->name, why->text);
	}
	if (!space) { // which says nothing of a block that could not be read before
		stall->failures++;
		stall->until_ns = env_mono_ns(r->root->env) + min_u64(wait_s, STALL_MAX_S) * NS_PER_S;
		if (stall_leaves_out(r, of, why->code))
			atomic_store(&r->digests_given_up, true);
	}
	stall->why = *why;
}

void stall_over(struct replica *r, enum stall_of of)
{
	if (r->stall[of].why.code)
		log_info("retention goes on protection=%s", r->name);
	r->stall[of] = (struct stall){.failures = 0};
}

void stall_note(struct replica *r, enum stall_of of, int rc, const struct err *why)
{
	LOCK_SCOPE(&r->lock);
	if (r->broken || rc == -ECANCELED) // told by whoever broke it; the receiver ends
		return;
	if (rc < 0)
		stall_begin(r, of, why);
	else
		stall_over(r, of);
}

// --- space ---

// At most so many bytes are taken before any are freed: a merge writes what its points hold, a fold what the base has holes for.
static int step_needs(struct replica *r, const struct retain_step *step, uint64_t *ret_bytes, struct err *err)
{
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	uint64_t blocks = 0, sizes = 0, sum = 0;
	if (!point)
		return err_set(err, -ENOMEM, "out of memory");
	if (!step->merge) {
		int rc = replica_read_point(r, step->number[0], point, err);
		for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++)
			blocks += point->disk[i].digests;
		if (rc)
			return rc;
	}
	LOCK_SCOPE(&r->lock);
	for (size_t i = 0; step->merge && i < step->count; i++) {
		const struct point_info *of = replica_point(r, step->number[i]);
		sum += of ? of->stored_bytes : 0;
	}
	for (unsigned i = 0; i < r->prot.disk_count; i++)
		sizes += r->prot.disk[i].size;
	*ret_bytes = step->merge ? sum : min_u64(blocks * BLOCK_SIZE, sizes > r->base_bytes ? sizes - r->base_bytes : 0);
	return 0;
}

// What a fold writes to where the base has nothing, by the digests of both: zeros free space, and what is there is written over.
struct need {
	struct table base;
	uint64_t blocks;
};

static int base_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	struct need *need = context;
	if (digest_is_zero(digest) || digest_is_unknown(digest) || (table_reserve(&need->base, index, 1) == 0 && table_set(&need->base, index, digest) == 0))
		return 0;
	return err_set(err, -ENOMEM, "out of memory for digests");
}

static int need_count(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	struct need *need = context;
	(void)err;
	need->blocks += !digest_is_zero(digest) && !table_get(&need->base, index);
	return 0;
}

static int disk_needs(struct replica *r, const struct point_file *point, unsigned disk, uint64_t *blocks, struct err *err)
{
	uint64_t size = point->disk[disk].size;
	struct need need = {.blocks = 0};
	table_init(&need.base, size_blocks(size));
	int rc = digests_of_base(r, disk, size, base_take, &need, err);
	if (rc == 0)
		rc = digests_of_point(r, point, disk, need_count, &need, err);
	table_done(&need.base);
	*blocks += need.blocks;
	return rc;
}

static int fold_needs(struct replica *r, const struct retain_step *step, uint64_t *ret_bytes, struct err *err)
{
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	uint64_t blocks = 0;
	int rc = point ? replica_read_point(r, step->number[0], point, err) : err_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; rc == 0 && i < r->prot.disk_count; i++)
		rc = disk_needs(r, point, i, &blocks, err);
	if (rc)
		return rc;
	LOCK_SCOPE(&r->lock);
	r->stall[STALL_OF_FOLDS].fold_point = step->number[0]; // its digests and the base's stay as they are until it is folded
	r->stall[STALL_OF_FOLDS].fold_bytes = *ret_bytes = blocks * BLOCK_SIZE;
	return 0;
}

static bool fold_known(struct replica *r, const struct retain_step *step, uint64_t *ret_bytes)
{
	LOCK_SCOPE(&r->lock);
	*ret_bytes = r->stall[STALL_OF_FOLDS].fold_bytes;
	return r->stall[STALL_OF_FOLDS].fold_point == step->number[0];
}

static uint64_t margin_of(const struct replica *r) // its tables, and a failover meanwhile
{
	return STALL_MARGIN * (uint64_t)r->prot.disk_count;
}

uint64_t stall_room(const struct replica *r)
{
	uint64_t free_bytes = 0;
	if (env_space(r->root, &free_bytes))
		return UINT64_MAX;
	return free_bytes > margin_of(r) ? free_bytes - margin_of(r) : 0;
}

int stall_space(struct replica *r, const struct retain_step *step, struct err *err)
{
	uint64_t needed = 0, free_bytes = 0;
	if (env_space(r->root, &free_bytes)) // a file system that does not say
		return 0;
	int rc = step_needs(r, step, &needed, err);
	if (rc || needed == 0)
		return rc;
	uint64_t margin = margin_of(r);
	if (free_bytes >= needed + margin)
		return 0;
	if (!step->merge) { // that was a bound: now exactly, as a store that is full must be able to fold
		rc = fold_known(r, step, &needed) ? 0 : fold_needs(r, step, &needed, err);
		if (rc || needed == 0 || free_bytes >= needed + margin)
			return rc;
	}
	needed += margin;
	return err_set(err, -ENOSPC,
		       "retention needs %llu KiB free in the store %s to %s points, and finds %llu KiB: free space there; it goes on by itself",
		       (unsigned long long)needed >> 10, r->store_path, step->merge ? "merge" : "fold", (unsigned long long)free_bytes >> 10);
}
