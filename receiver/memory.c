// SPDX-License-Identifier: Apache-2.0
// What a replica takes of the memory that heads and tables of digests may have (budget.h): docs/store.md, "Memory". What it promises: a block is refused before what the
// replica has is more than it may have, by more than that block takes; and only the head can be lost by it.
//
// What it has is counted, not estimated: the tables and the writers say how much they are. So it is taken in steps, a step ahead, and given back when they are gone.
#include "receiver/replica.h"

#include "base/log.h"
#include "base/size.h"

#include <errno.h>
#include <stdio.h>

enum { MIB = 1 << 20, MEMORY_STEP = 64 << 10 };

static uint64_t points_of(const struct replica *r)
{
	uint64_t sum = r->memory_opening;
	for (unsigned i = 0; i < r->prot.disk_count; i++)
		sum += table_memory(&r->state[i]);
	return sum;
}

static uint64_t head_of(const struct replica *r)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		const struct head_disk *d = &r->head.disk[i];
		struct qcow2_writer_stats writer = {.memory_bytes = 0};
		if (d->writer)
			qcow2_writer_stats(d->writer, &writer);
		// Twice, for with the commit `state` has as much more, before the head goes.
		sum += 2 * table_memory(&d->digests) + d->changed_room * sizeof(*d->changed) + writer.memory_bytes;
	}
	return sum;
}

static uint64_t memory_of(const struct replica *r, enum budget_kind kind)
{
	return kind == BUDGET_POINTS ? points_of(r) : head_of(r);
}

static uint64_t with_a_step_ahead(uint64_t bytes)
{
	return (bytes / MEMORY_STEP + 2) * MEMORY_STEP;
}

static uint64_t over_keep(const struct replica *r, enum budget_kind kind)
{
	uint64_t has = memory_of(r, kind), keep = has ? with_a_step_ahead(has) : 0;
	return r->memory_taken[kind] > keep ? r->memory_taken[kind] - keep : 0;
}

// What a commit made the point's is no longer the head's: it needs no room that is not there.
static void commit_settle(struct replica *r)
{
	uint64_t has = points_of(r), points = r->memory_taken[BUDGET_POINTS], bytes = has > points ? min_u64(has - points, over_keep(r, BUDGET_HEADS)) : 0;
	if (bytes == 0)
		return;
	budget_commit(r->budget, r->budget_source, bytes);
	r->memory_taken[BUDGET_POINTS] += bytes;
	r->memory_taken[BUDGET_HEADS] -= bytes;
}

void memory_settle(struct replica *r)
{
	if (!r->budget_source)
		return;
	commit_settle(r);
	for (enum budget_kind kind = 0; kind < BUDGET_KINDS; kind++) {
		uint64_t over = over_keep(r, kind);
		if (over)
			budget_give(r->budget, r->budget_source, kind, over);
		r->memory_taken[kind] -= over;
	}
}

static int source_find(struct replica *r, struct err *err)
{
	if (!r->budget_source)
		r->budget_source = budget_source_of(r->budget, r->prot.owner_pin);
	return r->budget_source ? 0 : err_set(err, -ENOMEM, "out of memory");
}

typedef bool taking(struct budget *budget, struct budget_source *source, enum budget_kind kind, uint64_t bytes);

static int reserve(struct replica *r, enum budget_kind kind, uint64_t ahead, taking *take, struct err *err)
{
	uint64_t has = r->budget ? memory_of(r, kind) : 0, next = with_a_step_ahead(has);
	if (!r->budget || has + ahead <= r->memory_taken[kind])
		return 0;
	int rc = source_find(r, err);
	if (rc)
		return rc;
	if (take(r->budget, r->budget_source, kind, next - r->memory_taken[kind])) {
		r->memory_taken[kind] = next;
		return 0;
	}
	r->memory_got[kind] = max_u64(r->memory_got[kind], next);
	char text[ERR_TEXT_MAX];
	memory_text(r, text, sizeof(text));
	return err_set(err, -ENOBUFS, "%s", text);
}

int memory_reserve(struct replica *r, enum budget_kind kind, struct err *err)
{
	return reserve(r, kind, kind == BUDGET_HEADS ? MEMORY_STEP : 0, budget_take, err); // a table asks once it has grown, a head before
}

int memory_restore(struct replica *r, struct err *err)
{
	return reserve(r, BUDGET_HEADS, 0, budget_take_again, err);
}

static uint64_t memory_needed(const struct replica *r)
{
	return max_u64(r->memory_got[BUDGET_POINTS], r->memory_taken[BUDGET_POINTS]) + max_u64(r->memory_got[BUDGET_HEADS], r->memory_taken[BUDGET_HEADS]);
}

void memory_text(const struct replica *r, char *text, size_t cap)
{
	(void)snprintf(text, cap,
		       "the receiver's memory for blocks that come and for digests is used up: %s needs more than %llu MiB of it, its source has %llu MiB, and all have %llu of %llu MiB; "
		       "of what is left, blocks that come leave half to other sources; start the receiver with more (--memory), or protect less there; it goes on by itself when there is room",
		       r->name, (unsigned long long)memory_needed(r) / MIB, (unsigned long long)(r->budget_source ? budget_has(r->budget, r->budget_source) : 0) / MIB,
		       (unsigned long long)budget_has(r->budget, NULL) / MIB, (unsigned long long)r->budget->bytes / MIB);
}

bool memory_room(const struct replica *r)
{
	uint64_t more[BUDGET_KINDS];
	for (enum budget_kind kind = 0; kind < BUDGET_KINDS; kind++)
		more[kind] = r->memory_got[kind] > r->memory_taken[kind] ? r->memory_got[kind] - r->memory_taken[kind] : 0;
	return !r->budget_source || (budget_room(r->budget, r->budget_source, BUDGET_POINTS, more[BUDGET_POINTS]) &&
				     budget_room(r->budget, r->budget_source, BUDGET_HEADS, max_u64(more[BUDGET_HEADS], MEMORY_STEP)));
}

// The larger part of what its source has in heads goes on when there is room; a smaller one makes some, so that of several that come at once not all wait for each other.
static bool head_stays(const struct replica *r)
{
	return 2 * r->memory_taken[BUDGET_HEADS] >= budget_has_heads(r->budget, r->budget_source);
}

void memory_limits(struct replica *r, const char *what)
{
	if (r->limits_past == 0)
		limits_begin(r, LIMITED_MEMORY, what);
}

int memory_refuse(struct replica *r, struct err *err)
{
	struct err left = {0};
	uint64_t had = r->memory_taken[BUDGET_HEADS];
	memory_text(r, left.text, sizeof(left.text));
	memory_limits(r, left.text);
	if (head_empty(r)) {
		r->memory_wanted /= 2;
	} else if (!head_stays(r)) {
		log_warning("head was dropped, the source starts over from the last point protection=%s reason=\"%s\"", r->name, left.text);
		if (head_drop(r, &left))
			return replica_break(r, &left, err);
		r->memory_wanted = had - r->memory_taken[BUDGET_HEADS]; // else it would fill up again what the others are to have
	}
	return err_set(err, -EDQUOT, "%s", left.text);
}

int memory_check(struct replica *r, struct err *err)
{
	struct err why = {0};
	if (!r->budget)
		return 0;
	if (r->memory_wanted && r->budget_source && head_empty(r) && !budget_room(r->budget, r->budget_source, BUDGET_HEADS, r->memory_wanted))
		return memory_refuse(r, err);
	int rc = memory_reserve(r, BUDGET_POINTS, &why);
	if (rc == 0)
		rc = memory_reserve(r, BUDGET_HEADS, &why);
	return rc == -ENOBUFS ? memory_refuse(r, err) : rc ? err_set(err, rc, "%s", why.text) : 0;
}
