// SPDX-License-Identifier: Apache-2.0
// What the cycle thread found out about an image, told to the thread of the export.
#include "replicator/export_call.h"

#include <assert.h>

struct found_call {
	struct call call;
	uint16_t disk;
	struct image *image;
	int code;
	bool marked;
};

static struct found_call *found_of(struct call *call)
{
	return HOLDER(call, struct found_call, call);
}

// Where there is no loop, none is begun meanwhile.
static void tell(struct export *export, struct found_call *found, void (*run)(struct ring_message *))
{
	assert(found->disk < export->count);
	call_init(&found->call, export, run);
	if (call_do(&found->call, export))
		return;
	await_end(export);
	call_init(&found->call, export, run);
	run(&found->call.message);
	(void)sem_destroy(&found->call.ended);
}

static void run_mark_whole(struct ring_message *message)
{
	struct call *call = call_of(message);
	group_mark_whole(call->group, found_of(call)->disk);
	call_ended(call);
}

void export_mark_whole(struct export *export, uint16_t disk)
{
	struct found_call found = {.disk = disk};
	tell(export, &found, run_mark_whole);
}

static void run_look(struct ring_message *message)
{
	struct call *call = call_of(message);
	image_look_at_rest(found_of(call)->image);
	call_ended(call);
}

void export_look(struct export *export, uint16_t disk)
{
	struct found_call found = {.disk = disk, .image = &export->image[disk]};
	tell(export, &found, run_look);
}

static void run_marked_whole(struct ring_message *message)
{
	struct call *call = call_of(message);
	struct found_call *found = found_of(call);
	found->marked = intent_marked_whole(&call->group->volume[found->disk].intent);
	call_ended(call);
}

bool export_marked_whole(struct export *export, uint16_t disk)
{
	struct found_call found = {.disk = disk};
	tell(export, &found, run_marked_whole);
	return found.marked;
}

static void run_unidentified(struct ring_message *message)
{
	struct call *call = call_of(message);
	const struct found_call *found = found_of(call);
	group_error(call->group, &call->group->volume[found->disk], FAULT_STAT, 0, found->code);
	call_ended(call);
}

void export_unidentified(struct export *export, uint16_t disk, int code)
{
	struct found_call found = {.disk = disk, .code = code};
	tell(export, &found, run_unidentified);
}
