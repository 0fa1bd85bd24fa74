// SPDX-License-Identifier: Apache-2.0
// The export as a source, of what was told as holes (audit.h): which is next, its reading by the cycle thread, and what came of it.
#include "replicator/export_call.h"

#include <errno.h>
#include <string.h>

int export_carry(struct export *export, uint16_t disk, uint64_t region, uint64_t count)
{
	return audit_carry(&export->group.volume[disk], region, count) ? 0 : -ENOMEM;
}

void export_disbelieve(struct export *export, uint16_t disk)
{
	export->group.volume[disk].backend->hole = NULL;
}

struct next_call {
	struct call call;
	unsigned most;
	struct source_run run;
	bool any;
};

static void run_next(struct ring_message *message)
{
	struct call *call = call_of(message);
	struct next_call *n = HOLDER(call, struct next_call, call);
	n->any = group_audit_next(call->group, n->most, &n->run);
	call_ended(call);
}

bool export_audit_next(struct source *source, unsigned most, struct source_run *ret_run)
{
	struct export *export = export_of(source);
	struct next_call n = {.most = most};
	uint64_t unproven = 0;
	for (uint16_t d = 0; d < export->count; d++)
		unproven += atomic_load_explicit(&export->disk[d].unproven_bytes, memory_order_relaxed);
	if (!unproven) // nothing to wake the loop for
		return false;
	call_init(&n.call, export, run_next);
	(void)call_do(&n.call, export);
	*ret_run = n.run;
	return n.any;
}

int export_audit_read(struct source *source, uint16_t disk, uint64_t first, unsigned count, void *data)
{
	struct export *export = export_of(source);
	uint64_t off = first * BLOCK_SIZE, room = (uint64_t)count * BLOCK_SIZE, len = min_u64(room, source->disk_size[disk] - off);
	memset((unsigned char *)data + len, 0, room - len);
	return image_read_apart(&export->image[disk], off, len, data);
}

struct audited_call {
	struct call call;
	const struct source_run *run;
	const unsigned char *unequal;
	struct source_audited audited;
};

static void run_audited(struct ring_message *message)
{
	struct call *call = call_of(message);
	struct audited_call *a = HOLDER(call, struct audited_call, call);
	group_audited(call->group, a->run, a->unequal, &a->audited);
	call_ended(call);
}

void export_audited(struct source *source, const struct source_run *run, const unsigned char *unequal, struct source_audited *ret_audited)
{
	struct export *export = export_of(source);
	struct audited_call a = {.run = run, .unequal = unequal};
	call_init(&a.call, export, run_audited);
	(void)call_do(&a.call, export); // without a loop they stay unproven
	*ret_audited = a.audited;
}

struct unproven_call {
	struct call call;
	uint16_t disk;
	uint64_t region, count, bytes;
	unsigned char *units;
};

static void unproven(struct group *group, struct unproven_call *u)
{
	const struct volume *volume = &group->volume[u->disk];
	u->bytes = audit_map_bytes(&volume->audit, volume->size);
	for (uint64_t i = 0; i < u->count; i++)
		u->units[i] = volume->audit.units && u->region + i < volume->audit.regions ? volume->audit.units[u->region + i] : 0;
}

static void run_unproven(struct ring_message *message)
{
	struct call *call = call_of(message);
	unproven(call->group, HOLDER(call, struct unproven_call, call));
	call_ended(call);
}

uint64_t export_unproven(struct source *source, uint16_t disk, uint64_t region, unsigned char *units, uint64_t count)
{
	struct export *export = export_of(source);
	if (!count && atomic_load(&export->looping)) // as the loop last said: not woken for it
		return atomic_load_explicit(&export->disk[disk].unproven_bytes, memory_order_relaxed);
	struct unproven_call u = {.disk = disk, .region = region, .count = count, .units = units};
	call_init(&u.call, export, run_unproven);
	if (!call_do(&u.call, export)) {
		await_end(export);
		unproven(&export->group, &u);
	}
	return u.bytes;
}
