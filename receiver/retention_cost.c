// SPDX-License-Identifier: Apache-2.0
// What a policy would cost: docs/store.md, "What a policy costs". Reads L1 and L2 tables and asks for the base's holes; writes nothing.
//
// Memory: 16 bytes for each table that the points of one run have of one disk, and about 200 KiB. No file stays open. No lock is held over the disk, and no point:
// what ends a step of retention under this changes a point's `rewrites` or takes it away, and then it is done again from the start.
#include "receiver/replica.h"

#include "format/qcow2_layout.h"
#include "format/qcow2_weigh.h"

#include <errno.h>
#include <string.h>

enum { COST_TRIES = 3, WINDOW_PIECES = QCOW2_TABLE_BLOCKS * PIECES_PER_BLOCK };

struct weighing {
	struct replica *r;
	const struct point_info *points;
	const struct retention_point *plan;
	size_t count;
	struct retention_bytes *after; // of each point
	struct retention_cost *cost;
	int64_t base_likely, base_least; // how much the base grows

	struct qcow2_tables **layer; // of one disk of a run, oldest first
	size_t layers, first;	     // and which point the first one is
	struct qcow2_weight *weights; // of one table, each of these
	struct qcow2_made *made;
	uint16_t *taken; // of the base: pieces that take space
	void *scratch;
};

// --- layers ---

static int layer_open(const struct weighing *w, size_t at, unsigned disk, struct env_file **ret_file, struct err *err)
{
	return replica_open_file(w->r, ENV_READ, ret_file, err, "points/%llu/%s.qcow2", (unsigned long long)w->points[at].number,
				 w->r->prot.disk[disk].name);
}

static int layer_fail(const struct weighing *w, size_t at, unsigned disk, struct err *err)
{
	return err_wrap(err, "%s/points/%llu/%s.qcow2", w->r->name, (unsigned long long)w->points[at].number, w->r->prot.disk[disk].name);
}

static void layers_free(struct weighing *w)
{
	for (size_t i = 0; w->layer && i < w->layers; i++)
		qcow2_tables_free(w->layer[i]);
	free(w->layer);
	w->layer = NULL;
	w->layers = 0;
}

static int layers_load(struct weighing *w, size_t first, size_t count, unsigned disk, struct err *err)
{
	layers_free(w);
	w->layer = calloc(count, sizeof(*w->layer));
	w->first = first;
	if (!w->layer)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++) {
		AUTO_FILE struct env_file *file = NULL;
		int rc = layer_open(w, first + i, disk, &file, err);
		if (rc)
			return rc;
		rc = qcow2_tables_load(file, &w->layer[i], err);
		if (rc)
			return layer_fail(w, first + i, disk, err);
		w->layers++;
	}
	return 0;
}

static int weights_read(struct weighing *w, size_t i, unsigned disk, uint32_t table, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	int rc = layer_open(w, w->first + i, disk, &file, err);
	if (rc)
		return rc;
	rc = qcow2_tables_read(w->layer[i], file, table, w->weights, w->scratch, err);
	return rc ? layer_fail(w, w->first + i, disk, err) : 0;
}

// --- a table of all layers, put together ---

// `size`: of the disk as the result has it. `merge`: streams may go over as they are.
static int table_make(struct weighing *w, unsigned disk, uint32_t table, uint64_t size, bool merge, bool *ret_any, struct err *err)
{
	uint64_t first = (uint64_t)table * QCOW2_TABLE_BLOCKS, blocks = size_blocks(size);
	const struct qcow2_tables *top = w->layer[w->layers - 1];
	memset(w->made, 0, QCOW2_TABLE_BLOCKS * sizeof(*w->made));
	*ret_any = false;
	for (size_t i = w->layers; i-- > 0;) {
		uint64_t own = qcow2_tables_size(w->layer[i]);
		if (!qcow2_tables_has(w->layer[i], table))
			continue;
		int rc = weights_read(w, i, disk, table, err);
		if (rc)
			return rc;
		*ret_any = true;
		bool codec = merge && qcow2_tables_codec(w->layer[i]) == qcow2_tables_codec(top);
		for (unsigned b = 0; b < QCOW2_TABLE_BLOCKS && first + b < min_u64(blocks, size_blocks(own)); b++)
			qcow2_made_add(&w->made[b], &w->weights[b], qcow2_pieces_of(size, first + b),
				       codec && size_of_block(own, first + b) == size_of_block(size, first + b));
	}
	return 0;
}

static uint32_t tables_of(uint64_t size)
{
	return (uint32_t)((size_blocks(size) + QCOW2_TABLE_BLOCKS - 1) / QCOW2_TABLE_BLOCKS);
}

// --- a merge ---

// Points [first, last] become the last one.
static int merge_weigh(struct weighing *w, size_t first, size_t last, struct err *err)
{
	struct retention_bytes *sum = &w->after[last];
	*sum = (struct retention_bytes){.least = 0};
	for (unsigned disk = 0; disk < w->r->prot.disk_count; disk++) {
		struct qcow2_weigher weigher;
		int rc = layers_load(w, first, last - first + 1, disk, err);
		if (rc)
			return rc;
		uint64_t size = qcow2_tables_size(w->layer[w->layers - 1]);
		qcow2_weigh_begin(&weigher, size);
		for (uint32_t table = 0; table < tables_of(size); table++) {
			bool any;
			rc = table_make(w, disk, table, size, true, &any, err);
			if (rc)
				return rc;
			if (any)
				qcow2_weigh_table(&weigher, table, w->made);
		}
		struct qcow2_span span = qcow2_weigh_end(&weigher);
		sum->least += span.least;
		sum->likely += span.likely;
		sum->most += span.most;
		w->cost->copied_blocks += weigher.streams;
		w->cost->packed_again_blocks += weigher.again;
	}
	return 0;
}

// --- the folds ---

// The pieces of the base that take space, of the blocks of one table.
static int taken_find(struct weighing *w, struct env_file *base, uint32_t table, struct err *err)
{
	uint64_t begin = (uint64_t)table * WINDOW_PIECES * PIECE_SIZE, end = begin + (uint64_t)WINDOW_PIECES * PIECE_SIZE;
	uint64_t from = begin, to = begin;
	memset(w->taken, 0, QCOW2_TABLE_BLOCKS * sizeof(*w->taken));
	for (uint64_t at = begin; at < end; at = to) {
		int rc = env_data_told(base, at, &from, &to);
		if (rc)
			return err_sys(err, rc, "look for holes of a base of %s", w->r->name);
		if (from == to || from >= end)
			return 0;
		for (uint64_t piece = (from - begin) / PIECE_SIZE; piece * PIECE_SIZE < min_u64(to, end) - begin; piece++)
			w->taken[piece / PIECES_PER_BLOCK] |= (uint16_t)(1u << piece % PIECES_PER_BLOCK);
	}
	return 0;
}

// What is stored is written, and zeros are punched; whether what is stored is zeros no table tells.
static void block_fold(struct weighing *w, const struct qcow2_made *made, uint16_t taken)
{
	int again = __builtin_popcount(made->have & taken), zeros = __builtin_popcount(made->have & (uint16_t)~made->data & taken);
	int fresh = __builtin_popcount(made->data & (uint16_t)~taken);
	w->base_likely += (fresh - zeros) * PIECE_SIZE;
	w->base_least -= again * PIECE_SIZE;
}

static int disk_fold(struct weighing *w, size_t count, unsigned disk, struct err *err)
{
	AUTO_FILE struct env_file *base = NULL;
	int rc = replica_open_file(w->r, ENV_READ, &base, err, "base/%s.raw", w->r->prot.disk[disk].name);
	if (rc == 0)
		rc = layers_load(w, 0, count, disk, err);
	uint64_t size = rc ? 0 : qcow2_tables_size(w->layer[w->layers - 1]); // the largest: disks do not shrink
	for (uint32_t table = 0; rc == 0 && table < tables_of(size); table++) {
		bool any;
		rc = table_make(w, disk, table, size, false, &any, err);
		if (rc || !any)
			continue;
		rc = taken_find(w, base, table, err);
		for (unsigned b = 0; rc == 0 && b < QCOW2_TABLE_BLOCKS; b++)
			block_fold(w, &w->made[b], w->taken[b]);
	}
	return rc;
}

// --- all of it ---

static uint64_t grown(uint64_t bytes, int64_t by)
{
	return by < 0 && (uint64_t)-by > bytes ? 0 : bytes + (uint64_t)by;
}

static int folds_weigh(struct weighing *w, size_t count, struct err *err)
{
	struct replica *r = w->r;
	int rc = 0;
	for (unsigned disk = 0; rc == 0 && count && disk < r->prot.disk_count; disk++)
		rc = disk_fold(w, count, disk, err);
	if (rc)
		return rc;
	LOCK_SCOPE(&r->lock);
	struct retention_bytes *base = &w->cost->base;
	rc = replica_base_count(r, err);
	base->least = grown(r->base_bytes, w->base_least);
	base->likely = base->most = grown(r->base_bytes, w->base_likely);
	return rc;
}

// The leading points that go are folded; each other run that goes is merged into the point above it.
static int runs_weigh(struct weighing *w, bool fenced, bool cannot_merge, struct err *err)
{
	size_t at = 0;
	while (!fenced && at + 1 < w->count && w->plan[at].why == 0)
		at++;
	int rc = folds_weigh(w, at, err);
	while (rc == 0 && at < w->count) {
		size_t last = at;
		while (!fenced && !cannot_merge && w->plan[last].why == 0 && last + 1 < w->count)
			last++;
		uint64_t stored = w->points[last].stored_bytes + w->points[last].damaged_bytes;
		w->after[last] = (struct retention_bytes){stored, stored, stored};
		if (last > at)
			rc = merge_weigh(w, at, last, err);
		at = last + 1;
	}
	return rc;
}

static void sums(struct weighing *w)
{
	struct retention_bytes *after = &w->cost->after;
	uint64_t beside, now = 0; // what no point has a part in
	{
		LOCK_SCOPE(&w->r->lock);
		beside = head_bytes(w->r) + w->r->base_kept;
		now = w->r->base_bytes + beside;
	}
	*after = w->cost->base;
	after->least += beside;
	after->likely += beside;
	after->most += beside;
	for (size_t i = 0; i < w->count; i++) {
		now += w->points[i].stored_bytes + w->points[i].damaged_bytes;
		after->least += w->after[i].least;
		after->likely += w->after[i].likely;
		after->most += w->after[i].most;
	}
	w->cost->used_bytes = now;
}

// --- while retention runs ---

// Whether every point is read from the files that it was read from. A point that came since is no part of the plan.
static bool unchanged(struct replica *r, const struct point_info *points, size_t count)
{
	LOCK_SCOPE(&r->lock);
	for (size_t i = 0; i < count; i++) {
		const struct point_info *now = replica_point(r, points[i].number);
		if (!now || now->rewrites != points[i].rewrites)
			return false;
	}
	return true;
}

static int weigh_points(struct weighing *w, struct err *err)
{
	struct replica *r = w->r;
	bool fenced, cannot_merge;
	{
		LOCK_SCOPE(&r->lock);
		fenced = r->prot.fenced;
		cannot_merge = r->cannot_merge;
	}
	w->weights = malloc(QCOW2_TABLE_BLOCKS * sizeof(*w->weights));
	w->made = malloc(QCOW2_TABLE_BLOCKS * sizeof(*w->made));
	w->taken = malloc(QCOW2_TABLE_BLOCKS * sizeof(*w->taken));
	w->scratch = malloc(QCOW2_CLUSTER_SIZE);
	bool room = w->weights && w->made && w->taken && w->scratch;
	int rc = room ? runs_weigh(w, fenced, cannot_merge, err) : err_set(err, -ENOMEM, "out of memory");
	layers_free(w);
	free(w->weights);
	free(w->made);
	free(w->taken);
	free(w->scratch);
	if (rc == 0)
		sums(w);
	return rc;
}

// 1 when a step of retention ended meanwhile: nothing of it counts.
static int weigh_once(struct replica *r, const struct point_info *points, const struct retention_point *plan, size_t count,
		      struct retention_bytes *after, struct retention_cost *cost, struct err *err)
{
	struct weighing w = {.r = r, .points = points, .plan = plan, .count = count, .after = after, .cost = cost};
	*cost = (struct retention_cost){.used_bytes = 0};
	int rc = weigh_points(&w, err);
	return unchanged(r, points, count) ? rc : 1;
}

static int plan_weigh(struct replica *r, const struct retention *policy, struct point_info **ret_points, struct retention_point **ret_plan,
		      struct retention_bytes **ret_after, size_t *ret_count, struct retention_cost *ret_cost, struct err *err)
{
	struct point_info *points = NULL;
	struct retention_point *plan = NULL;
	struct retention_bytes *after = NULL;
	size_t count = 0;
	struct err why = {.code = 0};
	int rc = replica_plan_retention(r, policy, &points, &plan, &count, &why);
	if (rc == 0 && !(after = calloc(count ? count : 1, sizeof(*after))))
		rc = err_set(&why, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = weigh_once(r, points, plan, count, after, ret_cost, &why);
	if (rc) {
		free(points);
		free(plan);
		free(after);
		return rc < 0 ? err_set(err, rc, "%s", why.text) : 1;
	}
	*ret_points = points;
	*ret_plan = plan;
	*ret_after = after;
	*ret_count = count;
	return 0;
}

int replica_weigh_retention(struct replica *r, const struct retention *policy, struct point_info **ret_points, struct retention_point **ret_plan,
			    struct retention_bytes **ret_after, size_t *ret_count, struct retention_cost *ret_cost, struct err *err)
{
	uint64_t held = 0;
	int rc = 1;
	for (unsigned i = 0; rc == 1 && i < COST_TRIES; i++)
		rc = plan_weigh(r, policy, ret_points, ret_plan, ret_after, ret_count, ret_cost, err);
	if (rc != 1)
		return rc;
	rc = replica_hold(r, 0, &held, err); // now nothing ends; the step under way is done again later
	if (rc)
		return rc;
	rc = plan_weigh(r, policy, ret_points, ret_plan, ret_after, ret_count, ret_cost, err);
	replica_release(r, held);
	return rc == 1 ? err_set(err, -EAGAIN, "retention is at work on %s: ask again", r->name) : rc;
}
