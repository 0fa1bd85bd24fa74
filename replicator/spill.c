// SPDX-License-Identifier: Apache-2.0
// The file behind the bounded memory of preserved pieces.
#include "replicator/spill.h"

#include "replicator/group.h"
#include "replicator/holder.h"

#include <assert.h>
#include <stdlib.h>

enum { SPILL_RESERVE = 64 << 20 };

void spill_init(struct spill *spill, struct aio_backend *backend, uint64_t bytes_max)
{
	*spill = (struct spill){.backend = backend, .bytes_max = bytes_max};
	spill->short_of_end = &spill->short_of;
}

uint64_t spill_bytes_most(uint64_t most, uint64_t size, uint64_t free, uint64_t taken, unsigned files)
{
	uint64_t reserve = min_u64(SPILL_RESERVE, size / 8);
	if (!size) // it does not tell
		return most;
	return min_u64(most, taken + (free > reserve ? (free - reserve) / (files ? files : 1) : 0));
}

enum spill_room spill_room(struct spill *spill, uint64_t len)
{
	if (!spill->backend)
		return SPILL_FULL;
	if (!spill->runs && !spill->transit && !spill->punching)
		spill->used = 0; // nobody reads or writes a place that was given out before
	if (spill->used + len > spill->bytes_max || spill->runs == SPILL_RUNS_MAX)
		return SPILL_FULL;
	return spill->transit < SPILL_TRANSIT_MAX ? SPILL_ROOM : SPILL_WAIT;
}

void spill_wait(struct spill *spill, struct volume_request *request)
{
	request->next = NULL;
	*spill->short_of_end = request;
	spill->short_of_end = &request->next;
}

struct volume_request *spill_take_waiters(struct spill *spill)
{
	struct volume_request *list = spill->short_of;
	spill->short_of = NULL;
	spill->short_of_end = &spill->short_of;
	return list;
}

void spill_wake(struct group *group)
{
	struct spill *spill = &group->spill;
	struct volume_request **end = spill->short_of_end, *list = spill_take_waiters(spill);
	while (list && (spill->transit < SPILL_TRANSIT_MAX || group->set != SET_POINT)) {
		struct volume_request *next = list->next; // going on, it may wait here again
		list->next = NULL;
		volume_continue(list);
		list = next;
	}
	if (!list)
		return;
	*end = spill->short_of; // the rest comes before those
	if (!spill->short_of)
		spill->short_of_end = end;
	spill->short_of = list;
}

void spill_place(struct spill *spill, struct preserve_run *run)
{
	uint64_t len = preserve_run_bytes(run);
	run->spilled = true;
	run->place = spill->used;
	spill->used += len;
	spill->runs++;
	spill->transit++;
	run->volume->spilled += len;
}

void spill_buffer_free(struct spill *spill, struct preserve_run *run)
{
	assert(spill->transit > 0);
	spill->transit--;
	spill->ended++;
	free(run->data);
	run->data = NULL;
}

void spill_leave(struct spill *spill)
{
	assert(spill->runs > 0);
	spill->runs--;
}

static void on_written(struct aio *aio, int res)
{
	struct preserve_run *run = HOLDER(aio, struct preserve_run, aio);
	struct group *group = run->volume->group;
	if (res < 0 && run->block && !run->block->dropped)
		group_give_up(group, LOSS_SPILL, res); // S1; nobody wants this run from here on, either
	run->state = PRESERVE_SPILLED;
	if (run->block) {
		spill_buffer_free(&group->spill, run);
		group_run_safe(group, run);
	} else {
		preserve_release(&group->preserve, run);
	}
	spill_wake(group);
}

void spill_write(struct group *group, struct preserve_run *run)
{
	run->state = PRESERVE_SPILLING;
	run->aio = (struct aio){.kind = AIO_WRITE,
				.background = true,
				.off = run->place,
				.len = preserve_run_bytes(run),
				.data = run->data,
				.done = on_written};
	group->spill.backend->submit(group->spill.backend, &run->aio);
}

static void on_punched(struct aio *aio, int res)
{
	(void)res; // a file system that cannot keeps the space until the export is closed
	struct spill *spill = HOLDER(aio, struct spill, punch);
	spill->punching = false;
	if (!spill->runs && !spill->transit)
		spill->used = 0;
}

void spill_trim(struct spill *spill)
{
	if (!spill->backend || !spill->used || spill->punching || spill->runs || spill->transit)
		return;
	spill->punching = true;
	spill->punch = (struct aio){.kind = AIO_PUNCH, .background = true, .len = spill->used, .done = on_punched};
	spill->backend->submit(spill->backend, &spill->punch);
}
